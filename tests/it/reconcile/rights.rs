//! Who may run it, and how far it gets with fewer rights; options and exit codes.

use serde_json::{Value, json};

use super::{BRIDGE, House, Pod, assert_idle, command, network, reconcile, steps};
use crate::flow::Flow;
use crate::lab::{self, Netns, Node, Place, ask_udp, serve_udp};
use crate::sandbox::{run, sandboxed};

/// As a container has it that may administer the network and nothing else.
fn with_net_admin_alone() -> (i32, Value) {
    let line = format!(
        "setpriv --bounding-set -sys_admin --inh-caps -sys_admin {} reconcile --json",
        lab::binary().display()
    );
    let out = Node.command(&line).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let report = serde_json::from_str(&text);
    (out.status.code().unwrap(), report.unwrap_or_else(|e| panic!("{e}: {text} {:?}", out.stderr)))
}

#[test]
fn without_the_right_to_enter_pods_the_node_is_repaired() {
    sandboxed(|| {
        let house = House::new();
        house.flows.iter().for_each(Flow::pause);
        let port = house.web.port();
        run(
            "sh",
            &[
                "-ec",
                &format!(
                    "nft flush ruleset; ip link del {BRIDGE}; sysctl -qw net.ipv4.ip_forward=0; ip addr add 169.254.3.3/16 dev {port}"
                ),
            ],
        );
        let (status, report) = with_net_admin_alone();
        assert_eq!((status, &report["failures"]), (0, &json!([])), "{report}");
        let notes = report["notes"].as_array().unwrap();
        assert_eq!(notes.len(), 2, "one per pod: {report}");
        assert!(
            notes
                .iter()
                .all(|note| note["text"] == "the pod's side was not looked at: operation not permitted"),
            "{report}"
        );
        house.flows.iter().for_each(Flow::resume);
        house.assert_flows("after a repair from the node's side");
        assert_idle();
        let (status, report) = with_net_admin_alone();
        assert_eq!((status, &report["changes"]), (0, &json!([])), "{report}");

        // What can only be done inside is said, and left.
        run("ip", &["link", "del", port]);
        run("ip", &["link", "del", BRIDGE]);
        let (status, report) = with_net_admin_alone();
        assert_eq!(status, 1, "{report}");
        assert_eq!(Node.addresses(BRIDGE), ["10.8.0.1/24", "fd08::1/64"], "{report}");
        assert!(report["failures"].to_string().contains("may enter the pod's network namespace"), "{report}");
        reconcile();
        house.assert_flows("after a repair with all rights");
    });
}

/// While a DEL runs a pod is half there: nothing of that is trouble, and afterwards there is nothing to say.
#[test]
fn what_a_del_is_removing_is_no_trouble() {
    sandboxed(|| {
        let house = House::new();
        let port = house.web.port();
        let locks = lab::files("/run/smarter-cni/locks");
        assert!(!locks.is_empty(), "every record has a lock");
        // As a DEL holds them, between the links and the record.
        let held: Vec<_> = locks
            .iter()
            .map(|name| {
                let line = format!("flock /run/smarter-cni/locks/{name} sleep 60");
                Node.command(&line).spawn().unwrap()
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_secs(1));
        run("ip", &["link", "del", port]);
        let (status, report) = with_net_admin_alone();
        assert_eq!((status, &report["failures"]), (0, &json!([])), "{report}");
        for mut child in held {
            Node.run(&format!("pkill -P {}", child.id()));
            child.wait().unwrap();
        }
        // Nobody removes it: now it is.
        let (status, report) = with_net_admin_alone();
        assert_eq!(status, 1, "{report}");
        assert!(report["failures"].to_string().contains("may enter the pod's network namespace"), "{report}");
        reconcile();
        house.assert_flows("after a repair with all rights");
    });
}

#[test]
fn only_root_may_run_it() {
    sandboxed(|| {
        let binary = lab::binary();
        let out = Node.command(&format!("unshare --user {} reconcile", binary.display())).output().unwrap();
        assert_eq!(out.status.code(), Some(2));
        let words = String::from_utf8(out.stderr).unwrap();
        assert!(words.contains("only root can look into pods"), "{words}");
        assert!(out.stdout.is_empty());
    });
}

#[test]
fn a_node_without_pods_has_nothing_to_do() {
    sandboxed(|| {
        let out = command("reconcile");
        assert_eq!((out.status, out.stdout.as_str()), (0, "reconcile: 0 attachments, nothing to do\n"));
        assert!(!std::path::Path::new("/run/smarter-cni").exists(), "and makes nothing");
        assert_eq!(Node.run("nft list ruleset"), "");
        let out = command("reconcile --nonsense");
        assert_eq!(out.status, 2, "{out}");
        assert!(command("reconcile --help").stdout.contains("--dry-run"));
        assert!(command("--help").stdout.contains("  reconcile "));
    });
}

#[test]
fn one_network_can_be_repaired_alone() {
    sandboxed(|| {
        let first = Pod::new("first", &[]);
        let other = network(&json!({"name": "other", "bridge": "other0", "ipam": {
            "type": "host-local", "dataDir": "/run/cni/networks", "subnet": "10.9.0.0/24"}}));
        let second = Pod::on("second", &other, &[]);
        run("nft", &["flush", "ruleset"]);
        let planned = command("reconcile --dry-run --network other");
        assert_eq!(planned.status, 0, "{planned}");
        assert!(planned.stdout.ends_with("to make; nothing was changed\n"), "{planned}");
        assert!(!planned.stdout.contains("house"), "{planned}");
        assert_eq!(Node.run("nft list ruleset"), "", "a dry run makes nothing");
        let out = command("reconcile --network other");
        assert_eq!(out.status, 0, "{out}");
        assert!(out.stdout.starts_with("other: shop/second (eth0)\n  node: nft add rule bridge"), "{out}");
        assert!(out.stdout.ends_with("made\n"), "{out}");
        second.check();
        let rules = Node.run("nft list ruleset");
        assert!(rules.contains("comment \"other\"") && !rules.contains("comment \"house\""), "{rules}");
        reconcile();
        first.check();
        assert_idle();
    });
}

/// A flow whose first packet found no rule goes on without one for as long as it is used.
#[test]
fn flows_that_began_without_rules_are_led_again() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::new("pod", &[("udp", 8053, 53)]);
        // Somebody else keeps the kernel following connections, as Docker does.
        run(
            "sh",
            &[
                "-ec",
                "nft add table ip other; nft add chain ip other track '{ type filter hook forward priority 5; }'; \
                            nft add rule ip other track ct state established counter; \
                            nft add chain ip other in '{ type filter hook input priority 5; }'; \
                            nft add rule ip other in ct state established counter",
            ],
        );
        serve_udp(&world, (lab::WORLD, 7001), "world");
        run("nft", &["delete", "table", "ip", "smarter-cni"]);
        let any: std::net::SocketAddr = ([0; 4], 0).into();
        let ask = |place: &Netns, to: std::net::SocketAddr| {
            let socket = place.inside(|| std::net::UdpSocket::bind(any)).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_millis(500))).unwrap();
            socket.connect(to).unwrap();
            socket
        };
        let answers = |socket: &std::net::UdpSocket| {
            let _ = socket.send(b"?");
            socket.recv(&mut [0; 64]).is_ok()
        };
        let out = ask(&pod.netns, (lab::WORLD, 7001).into());
        let within = ask(&world, (lab::NODE, 8053).into());
        assert!(!answers(&out) && !answers(&within), "there are no rules");
        let made = steps(&reconcile()).join("\n");
        assert!(
            made.contains("conntrack -D -s 10.8.0.0/24, of the flows that should be masqueraded"),
            "{made}"
        );
        serve_udp(&pod.netns, pod.at(53), "pod");
        lab::eventually("both sockets are answered", std::time::Duration::from_secs(10), || {
            answers(&out) && answers(&within)
        });
        assert_eq!(ask_udp(&pod.netns, (lab::WORLD, 7001)).unwrap().seen_as, lab::NODE);
    });
}
