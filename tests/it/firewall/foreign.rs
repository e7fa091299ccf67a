//! Chains of somebody else that drop what is forwarded: pods get through, nobody else does, and everything goes back.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};
use serde_json::json;

use smarter_cni::datapath::firewall::accepts;
use smarter_cni::kernel::NetfilterSocket;

use super::{BRIDGE, add, check, forwarding, network, plugin, pod, reaches, serve, stranger};
use crate::lab::{self, Netns, Node, Place, WORLD};
use crate::sandbox::{run, sandboxed};

const ACCEPTS: &str = "-A FORWARD -i smartnet0 -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT
-A FORWARD -o smartnet0 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT
-A FORWARD -o smartnet0 -m conntrack --ctstate DNAT -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT
";

/// What dockerd leaves in the filter table of a node.
fn docker(program: &str) {
    for arguments in [
        "-P FORWARD DROP",
        "-N DOCKER",
        "-N DOCKER-ISOLATION-STAGE-1",
        "-N DOCKER-ISOLATION-STAGE-2",
        "-N DOCKER-USER",
        "-A FORWARD -j DOCKER-USER",
        "-A FORWARD -j DOCKER-ISOLATION-STAGE-1",
        "-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-A FORWARD -o docker0 -j DOCKER",
        "-A FORWARD -i docker0 ! -o docker0 -j ACCEPT",
        "-A FORWARD -i docker0 -o docker0 -j ACCEPT",
        "-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2",
        "-A DOCKER-ISOLATION-STAGE-1 -j RETURN",
        "-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP",
        "-A DOCKER-ISOLATION-STAGE-2 -j RETURN",
        "-A DOCKER-USER -j RETURN",
    ] {
        Node.run(&format!("{program} {arguments}"));
    }
}

const FIREWALLD: &str = "
add table inet firewalld
add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy accept; }
add rule inet firewalld filter_FORWARD ct state established,related accept
add rule inet firewalld filter_FORWARD ct status dnat accept
add rule inet firewalld filter_FORWARD iifname lo accept
add rule inet firewalld filter_FORWARD ct state invalid drop
add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited
";

fn nft(script: &str) {
    std::fs::write("/run/script.nft", script).unwrap();
    run("nft", &["-f", "/run/script.nft"]);
}

fn withdraw() {
    accepts::withdraw_accepts(&mut NetfilterSocket::open().unwrap()).unwrap();
}

/// Pods talk to the world and get answers; what only passes through the node stays where the owner wants it, and so do
/// connections from outside to a pod's own address.
fn assert_pods_alone_get_through(config: &serde_json::Value) {
    let world = lab::world();
    serve(&world, WORLD);
    forwarding(true);
    let stranger = stranger(&world);
    assert!(!reaches(&stranger, WORLD), "the firewall of this test is open");
    let (first, second) = (pod("first", config), pod("second", config));
    assert!(reaches(&first, WORLD));
    assert!(reaches(&second, WORLD));
    assert!(!reaches(&stranger, WORLD));

    let address = "10.77.0.2".parse().unwrap();
    serve(&first, address);
    world.run(&format!("ip route add 10.77.0.0/24 via {}", lab::NODE));
    assert!(reaches(&second, address));
    assert!(!reaches(&world, address), "strangers open connections to pods");
}

#[test]
fn pods_pass_dockers_chains_and_nobody_else_does() {
    sandboxed(|| {
        docker("iptables-nft");
        let before = (run("iptables-nft", &["-S"]), run("nft", &["-s", "list", "ruleset"]));
        assert_pods_alone_get_through(&network(&json!({})));
        let listed = run("iptables-nft", &["-S"]);
        assert!(
            listed.contains(&format!(
                "-A FORWARD -i docker0 -o docker0 -j ACCEPT\n{ACCEPTS}-A DOCKER-ISOLATION"
            )),
            "{listed}"
        );
        assert_eq!(listed.replace(ACCEPTS, ""), before.0);
        assert!(run("iptables-nft-save", &[]).contains(ACCEPTS));

        withdraw();
        assert_eq!(run("iptables-nft", &["-S"]), before.0);
        let own = run("nft", &["-s", "list", "table", "ip", "smarter-cni"]);
        assert_eq!(run("nft", &["-s", "list", "ruleset"]).replace(&own, ""), before.1);
    });
}

#[test]
fn pods_pass_a_chain_that_rejects_at_its_end() {
    sandboxed(|| {
        nft(FIREWALLD);
        let before = run("nft", &["list", "table", "inet", "firewalld"]);
        assert_pods_alone_get_through(&network(&json!({})));
        let listed = run("nft", &["list", "table", "inet", "firewalld"]);
        assert!(
            listed.contains(
                "ct state invalid drop
\t\tiifname \"smartnet0\" accept comment \"smarter-cni smartnet0\"
\t\treject with icmpx admin-prohibited
"
            ),
            "{listed}"
        );
        withdraw();
        assert_eq!(run("nft", &["list", "table", "inet", "firewalld"]), before);
    });
}

#[test]
fn pods_pass_the_legacy_table_and_nobody_else_does() {
    sandboxed(|| {
        docker("iptables-legacy");
        let before = run("iptables-legacy", &["-S"]);
        assert_pods_alone_get_through(&network(&json!({})));
        let listed = run("iptables-legacy", &["-S"]);
        assert_eq!(listed.matches("smarter-cni smartnet0").count(), 3, "{listed}");
        let rest: Vec<_> = listed.lines().filter(|line| !line.contains("smarter-cni")).collect();
        assert_eq!(rest.join("\n"), before.trim_end());
        assert!(
            listed.contains(&format!("-A FORWARD -i docker0 -o docker0 -j ACCEPT\n{ACCEPTS}")),
            "{listed}"
        );
    });
}

#[test]
fn hostports_and_replies_are_let_in() {
    sandboxed(|| {
        docker("iptables-nft");
        let world = lab::world();
        forwarding(true);
        let pod = pod("pod", &network(&json!({})));
        serve(&pod, "10.77.0.2".parse().unwrap());
        let at = std::net::SocketAddr::new(lab::NODE, 8080);
        assert!(lab::ask_tcp(&world, at).is_err());
        nft("add table ip hostport
add chain ip hostport prerouting { type nat hook prerouting priority -100; }
add rule ip hostport prerouting tcp dport 8080 dnat to 10.77.0.2:7000
");
        assert!(lab::ask_tcp(&world, at).is_ok());
    });
}

#[test]
fn without_the_key_the_firewall_stays_as_it_is() {
    sandboxed(|| {
        docker("iptables-nft");
        let before = run("iptables-nft", &["-S"]);
        let world = lab::world();
        serve(&world, WORLD);
        forwarding(true);
        let pod = pod("pod", &network(&json!({"forwardAccept": false})));
        assert!(!reaches(&pod, WORLD), "the accepts would not be needed");
        assert_eq!(run("iptables-nft", &["-S"]), before);
    });
}

#[test]
fn check_names_what_the_firewall_lost_and_the_next_pod_repairs_it() {
    sandboxed(|| {
        docker("iptables-nft");
        let world = lab::world();
        serve(&world, WORLD);
        let config = network(&json!({}));
        let first = Netns::new("first");
        let result = add(&first, "first", &config);
        assert_eq!(check(&first, "first", &config, &result).status, 0);
        // As a restart of a firewall does.
        Node.run("iptables-nft -F FORWARD");
        let lost = check(&first, "first", &config, &result);
        assert_eq!(lost.status, 0, "all pods lost it: {lost}");
        assert!(lost.stderr.contains("iptables-nft -A FORWARD -i smartnet0"), "{lost}");
        assert!(!reaches(&first, WORLD));
        let _second = pod("second", &config);
        assert!(reaches(&first, WORLD));
        assert_eq!(check(&first, "first", &config, &result).status, 0);
    });
}

#[test]
fn accepts_behind_a_drop_for_all_move_in_front_of_it() {
    sandboxed(|| {
        docker("iptables-nft");
        let world = lab::world();
        serve(&world, WORLD);
        let config = network(&json!({}));
        let first = pod("first", &config);
        Node.run("iptables-nft -I FORWARD 1 -j REJECT");
        assert!(!reaches(&first, WORLD));
        let _second = pod("second", &config);
        assert!(reaches(&first, WORLD));
        assert_eq!(run("iptables-nft", &["-S"]).matches("smarter-cni").count(), 3);
    });
}

#[test]
fn pods_that_come_at_once_double_no_rule() {
    sandboxed(|| {
        docker("iptables-nft");
        docker("iptables-legacy");
        forwarding(false);
        let config = network(&json!({}));
        let pods: Vec<_> = (0..12).map(|n| Netns::new(&format!("pod{n}"))).collect();
        std::thread::scope(|scope| {
            for (n, pod) in pods.iter().enumerate() {
                let config = &config;
                scope.spawn(move || plugin(pod, &format!("pod{n}"), config).command("ADD").succeed());
            }
        });
        for program in ["iptables-nft", "iptables-legacy"] {
            assert_eq!(run(program, &["-S"]).matches("smarter-cni").count(), 3, "{program}");
        }
        let own = run("nft", &["list", "table", "ip", "smarter-cni"]);
        assert_eq!(own.matches("maxseg").count(), 2, "{own}");
        assert_eq!(own.matches(" drop\n").count(), 1, "{own}");
    });
}

#[test]
fn whoever_holds_the_lock_of_iptables_delays_nobody() {
    sandboxed(|| {
        docker("iptables-nft");
        let lock = File::create("/run/xtables.lock").unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        let begun = std::time::Instant::now();
        let _pod = pod("pod", &network(&json!({})));
        assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{:?}", begun.elapsed());
        assert_eq!(run("iptables-nft", &["-S", "FORWARD"]).matches(BRIDGE).count(), 6);
    });
}

#[test]
fn two_hundred_pods_leave_the_rules_of_the_first() {
    sandboxed(|| {
        docker("iptables-nft");
        nft(FIREWALLD);
        let config = network(&json!({}));
        let netns = Netns::new("pod");
        let mut rules = None;
        for _ in 0..200 {
            add(&netns, "pod", &config);
            plugin(&netns, "pod", &config).command("DEL").succeed();
            let now = (run("iptables-nft", &["-S"]), run("nft", &["-s", "list", "ruleset"]));
            assert_eq!(*rules.get_or_insert_with(|| now.clone()), now);
        }
    });
}
