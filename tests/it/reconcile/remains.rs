//! What goes, and what must not.

use std::fs;

use serde_json::{Value, json};

use super::{BRIDGE, House, LEASES, Pod, RECORDS, assert_idle, command, network, plugin, reconcile, steps};
use crate::lab::{self, Netns, Node, Place, eventually};
use crate::sandbox::{run, sandboxed, sandboxed_daemons};

fn leases() -> Vec<String> {
    lab::files(LEASES).into_iter().filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
}

#[test]
fn pods_whose_namespace_is_gone_leave_nothing() {
    sandboxed(|| {
        let stays = Pod::new("stays", &[("tcp", 8080, 80)]);
        let goes = Pod::new("goes", &[("tcp", 8081, 80), ("udp", 8053, 53)]);
        let (port, address) = (goes.port().to_owned(), goes.address(0).to_string());
        let kept = Node.run("nft list table ip smarter-cni");
        drop(goes.netns);
        // In its first seconds an attachment is left alone: its ADD may still run.
        let early = reconcile();
        assert_eq!(steps(&early), Vec::<String>::new());
        lab::taken_down(&port);
        lab::grow_old();
        let planned = steps(&command("reconcile --json --dry-run"));
        let made = steps(&reconcile());
        assert_eq!(planned, made);
        assert_idle();
        assert_eq!(lab::files(RECORDS).len(), 2);
        assert_eq!(leases().len(), 2);
        let rules = Node.run("nft list ruleset");
        assert!(
            !rules.contains(&address) && !rules.contains(&port) && !rules.contains("shop/goes"),
            "{rules}"
        );
        assert_ne!(Node.run("nft list table ip smarter-cni"), kept);
        let text = made.join("\n");
        for words in [
            "hostports { tcp . 8081",
            &format!("release the lease {LEASES}/{address}"),
            "forget the bridge record",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        stays.check();
    });
}

/// What a runtime in a container sees that does not follow the mounts of the host.
#[test]
fn a_path_that_is_no_namespace_is_no_proof_of_death() {
    sandboxed(|| {
        let house = House::new();
        lab::grow_old();
        let script = format!("umount /run/netns/web && exec {} reconcile --json", lab::binary().display());
        let out = run("unshare", &["--mount", "sh", "-c", &script]);
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(report["changes"], json!([]), "{report}");
        let notes = report["notes"].to_string();
        assert!(notes.contains("/run/netns/web is no namespace, as seen from here"), "{notes}");
        house.web.check();
        house.assert_flows("judged from another mount namespace");
    });
}

#[test]
fn a_pod_that_lives_without_its_path_is_left_alone() {
    sandboxed(|| {
        let pod = Pod::new("pod", &[("tcp", 8080, 80)]);
        let mut lives = pod.netns.command("sleep 60").spawn().unwrap();
        run("sh", &["-c", "umount /run/netns/pod && rm /run/netns/pod"]);
        lab::grow_old();
        let out = reconcile();
        assert_eq!(steps(&out), Vec::<String>::new(), "{out}");
        assert!(out.json["notes"].to_string().contains("processes live in its namespace"), "{out}");
        assert!(Node.link(pod.port()).is_some());
        lives.kill().unwrap();
        lives.wait().unwrap();
        eventually("the kernel took the pair away", std::time::Duration::from_secs(10), || {
            reconcile();
            Node.link(pod.port()).is_none() && lab::files(RECORDS).is_empty()
        });
        assert_eq!(leases(), Vec::<String>::new());
    });
}

/// Among processes of its own: whoever cannot look into all namespaces cannot say that nobody is in one.
#[test]
fn a_host_end_without_record_goes_only_with_its_pod() {
    sandboxed_daemons(|| {
        let pod = Pod::new("pod", &[]);
        // A namespace that only an open file keeps: nobody lives there, and the kernel keeps the pair.
        let kept = fs::File::open(pod.netns.path()).unwrap();
        let port = pod.port().to_owned();
        drop(pod.netns);
        fs::remove_dir_all("/run/smarter-cni").unwrap();
        assert!(Node.link(&port).is_some());
        let expected = [
            format!("node: ip link del {port}"),
            format!(
                "node: nft delete element bridge smarter-cni spoof_ports {{ {port} }} and its spoof_allowed"
            ),
        ];
        assert_eq!(steps(&command("reconcile --json --dry-run")), expected);
        assert!(Node.link(&port).is_some(), "a dry run removes nothing");
        assert_eq!(steps(&reconcile()), expected);
        assert!(Node.link(&port).is_none());
        drop(kept);
        assert_idle();
    });
}

/// Everything that is remembered, in an order that does not change.
fn memory() -> Vec<Value> {
    let read = |name: String| {
        let mut record: Value =
            serde_json::from_slice(&fs::read(format!("{RECORDS}/{name}")).unwrap()).unwrap();
        let object = record.as_object_mut().unwrap();
        object.remove("created_boottime");
        // Nothing in the kernel says it, but the place of the lease, which has two names.
        object.remove("leases");
        object["pod"].as_object_mut().unwrap().remove("uid");
        record
    };
    lab::files(RECORDS).into_iter().map(read).collect()
}

#[test]
fn lost_memory_is_not_death() {
    sandboxed(|| {
        let house = House::new();
        lab::grow_old();
        let (rules, remembered) = (Node.run("nft list ruleset"), memory());
        fs::remove_dir_all("/run/smarter-cni").unwrap();
        let planned = command("reconcile --json --dry-run");
        let made = reconcile();
        assert_eq!(steps(&planned), steps(&made), "a dry run says what a run does");
        assert!(
            steps(&made)
                .iter()
                .all(|step| step.contains("record of") && step.contains(" again, from its mark")),
            "{made}"
        );
        assert_eq!(steps(&made).len(), 3, "two pods, one of them with host ports: {made}");
        assert_eq!(Node.run("nft list ruleset"), rules, "nothing is swept");
        assert_eq!(memory(), remembered, "what was promised is known as it was");
        assert_idle();
        house.web.check();
        house.client.check();
        house.assert_flows("after /run/smarter-cni was emptied");
        // And they are repaired as ever.
        let made = house.repair_after("nft flush ruleset; ip link del house0");
        assert!(made.iter().any(|step| step.contains("hostports { tcp . 8080")), "{made:#?}");
    });
}

#[test]
fn a_lost_record_of_host_ports_comes_back_alone() {
    sandboxed(|| {
        let house = House::new();
        let rules = Node.run("nft list ruleset");
        for name in lab::files(RECORDS).into_iter().filter(|name| name.contains(".portmap.")) {
            fs::remove_file(format!("{RECORDS}/{name}")).unwrap();
        }
        let made = steps(&reconcile());
        assert_eq!(made.len(), 1, "{made:#?}");
        assert!(made[0].contains("write the portmap record"), "{made:#?}");
        assert_eq!(Node.run("nft list ruleset"), rules);
        assert_idle();
        house.assert_flows("after the record of its ports was lost");
    });
}

/// Attached by a plugin of somebody else: no link of it has a mark.
#[test]
fn host_ports_of_a_pod_that_nobody_remembers_stay_while_its_address_lives() {
    sandboxed(|| {
        let house = House::new();
        run("sh", &["-ec", "
            ip netns add theirs; ip -n theirs link add eth0 type veth peer name eth1; ip -n theirs addr add 10.9.0.7/24 dev eth0
            nft add element ip smarter-cni hostports '{ tcp . 9090 comment \"shop/theirs deadbeef\" : 10.9.0.7 . 80 }'
            nft add element ip smarter-cni hostports '{ tcp . 9091 comment \"shop/dead cafe\" : 10.9.0.8 . 80 }'
        "]);
        let out = reconcile();
        let made = steps(&out);
        assert!(made.len() == 1 && made[0].contains("tcp . 9091"), "{out}");
        assert!(out.json["notes"].to_string().contains("pod shop/theirs are left alone"), "{out}");
        run("ip", &["netns", "del", "theirs"]);
        let made = steps(&reconcile());
        assert!(made.len() == 1 && made[0].contains("tcp . 9090"), "{made:#?}");
        drop(house);
    });
}

/// A debug container in the host's network, with the host's processes and a `/run` of its own.
#[test]
fn from_a_container_nothing_is_judged_by_its_own_memory() {
    sandboxed_daemons(|| {
        let pod = Pod::new("pod", &[("tcp", 8080, 80)]);
        let rules = Node.run("nft list ruleset");
        let binary = lab::binary().display().to_string();
        let inside = |line: &str| {
            let script = format!("mount --rbind / /mnt && mount -t tmpfs none /run && {line}");
            std::process::Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap()
        };
        let out = inside(&format!("{binary} reconcile"));
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains("--root DIR") && said.contains("nsenter -t 1 -m"), "{said}");
        assert_eq!(Node.run("nft list ruleset"), rules);
        let out = inside(&format!("{binary} status"));
        assert!(String::from_utf8_lossy(&out.stdout).contains("--root DIR"), "{out:?}");
        let out = inside(&format!("{binary} reconcile --root /mnt"));
        assert!(String::from_utf8_lossy(&out.stdout).contains("1 attachment, nothing to do"), "{out:?}");
        let out = inside(&format!("{binary} status --root /mnt"));
        assert!(String::from_utf8_lossy(&out.stdout).contains("shop/pod"), "{out:?}");
        pod.check();
    });
}

#[test]
fn a_network_that_nobody_knows_is_a_slip_of_the_pen() {
    sandboxed(|| {
        let _pod = Pod::new("pod", &[]);
        for word in
            ["reconcile --network typo", "reconcile --dry-run --network typo", "status --network typo"]
        {
            let out = command(word);
            assert_eq!(out.status, 2, "{word}: {out}");
            assert!(
                out.stderr.contains("\"typo\"") && out.stderr.contains("there are house"),
                "{word}: {out}"
            );
        }
        assert_eq!(command("reconcile --network house").status, 0);
        assert_eq!(command("status --network house").status, 0);
    });
}

#[test]
fn a_network_goes_with_its_bridge_and_its_last_pod() {
    sandboxed(|| {
        run("sh", &["-c", "iptables-nft -P FORWARD DROP"]);
        let pod = Pod::new("pod", &[]);
        let other = Pod::on(
            "other",
            &network(&json!({"name": "other", "bridge": "other0", "ipam": {
            "type": "host-local", "dataDir": "/run/cni/networks", "subnet": "10.9.0.0/24"}})),
            &[],
        );
        pod.del();
        assert_idle();
        assert!(Node.run("nft list ruleset").contains("comment \"house\""), "the next pod needs it");
        Node.run(&format!("ip link del {BRIDGE}"));
        let made = steps(&reconcile()).join("\n");
        for words in [
            "delete rule ip smarter-cni egress",
            "clamped { \"house0\" }",
            "the rules of ip filter FORWARD with the comment \"smarter-cni house0\"",
        ] {
            assert!(made.contains(words), "{words}: {made}");
        }
        let rules = Node.run("nft list ruleset");
        assert!(
            !rules.contains("house") && rules.contains("comment \"other\"") && rules.contains("other0"),
            "{rules}"
        );
        assert_idle();
        other.check();
        // And it comes back.
        let again = Pod::new("again", &[("tcp", 8080, 80)]);
        again.check();
        assert_idle();
    });
}

#[test]
fn what_is_not_ours_stays() {
    sandboxed(|| {
        let house = House::new();
        run("sh", &["-ec", "
            ip link add br9 address 02:99:00:00:00:01 type bridge; ip link set br9 up; ip addr add 10.99.0.1/24 dev br9
            ip link add veth99 type veth peer name veth98; ip addr add 169.254.9.9/16 dev veth99
            ip addr add 10.8.0.200/24 dev house0; ip addr add 169.254.1.1/16 dev house0
            nft add table ip mine; nft add chain ip mine forward '{ type filter hook forward priority 10; policy accept; }'
            nft add rule ip mine forward ip daddr 192.0.2.77 drop comment smarter-cnix
            nft add rule ip smarter-cni egress ip saddr 10.77.0.0/16 masquerade
            nft add element ip smarter-cni local_clients '{ 10.8.0.99 }'
            mkdir -p /run/cni/networks/go; printf 'gone\\r\\neth0' > /run/cni/networks/go/10.1.1.1
            printf 'stranger\\r\\neth0' > /run/cni/networks/house/10.8.0.77
        "]);
        let before = [
            Node.run("nft list ruleset"),
            Node.run("ip -o -4 addr show"),
            run("sh", &["-c", "find /run/cni -type f | sort"]),
        ];
        assert_idle();
        let made = house.repair_after("ip addr del fd08::1/64 dev house0");
        assert_eq!(made, ["node: ip addr add fd08::1/64 dev house0"]);
        let after = [
            Node.run("nft list ruleset"),
            Node.run("ip -o -4 addr show"),
            run("sh", &["-c", "find /run/cni -type f | sort"]),
        ];
        assert_eq!(after, before);
    });
}

impl House {
    fn repair_after(&self, script: &str) -> Vec<String> {
        run("sh", &["-ec", script]);
        self.repair(script)
    }
}

/// A name that only an attachment of ours derives may be taken by a link of somebody else.
#[test]
fn a_link_of_somebody_else_at_our_name_is_not_removed() {
    sandboxed(|| {
        let house = House::new();
        let port = house.web.port();
        run("sh", &["-ec", &format!("ip link del {port}; ip link add {port} type veth peer name theirs")]);
        let out = command("reconcile");
        assert_eq!(out.status, 1, "{out}");
        let words = format!("FAILED house: shop/web (eth0): {port} is somebody else's link now");
        assert!(out.stdout.contains(&words), "{out}");
        assert!(Node.link(port).is_some());
        run("ip", &["link", "del", port]);
        reconcile();
        house.web.check();
    });
}

#[test]
fn a_bridge_that_is_something_else_is_named() {
    sandboxed(|| {
        let house = House::new();
        run("sh", &["-ec", "ip link del house0; ip link add house0 type veth peer name theirs"]);
        let out = command("reconcile");
        assert_eq!(out.status, 1, "{out}");
        assert!(out.stdout.contains("house0 exists but is not a bridge; remove that link"), "{out}");
        // Nothing was opened towards where the routing table points now.
        let localnet = fs::read_to_string("/proc/sys/net/ipv4/conf/up0/route_localnet").unwrap();
        assert_eq!(localnet.trim(), "0");
        run("sh", &["-ec", "ip link del house0"]);
        reconcile();
        house.assert_flows("after the name was free again");
    });
}

#[test]
fn an_interrupted_add_is_left_to_its_runtime() {
    sandboxed(|| {
        let netns = Netns::new("pod");
        // Killed where it makes the links.
        let call = plugin("bridge", "ADD", &netns, &network(&json!({})));
        let killed = call
            .under(&[
                "strace",
                "-f",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=sendto",
                "-e",
                "inject=sendto:signal=KILL:when=25",
            ])
            .run();
        assert_eq!(killed.status, -1, "{killed}");
        lab::grow_old();
        let out = reconcile();
        assert_eq!(steps(&out), Vec::<String>::new(), "{out}");
        assert!(out.json["notes"].to_string().contains("its ADD was interrupted"), "{out}");
        drop(netns);
        eventually("the kernel took the pair away", std::time::Duration::from_secs(10), || {
            steps(&reconcile()).iter().any(|step| step.contains("forget the bridge record"))
        });
        assert_eq!(lab::files(RECORDS), Vec::<String>::new());
        assert_eq!(lab::files("/run/smarter-cni/locks"), Vec::<String>::new());
        assert_eq!(leases(), Vec::<String>::new());
    });
}

#[test]
fn without_its_record_a_damaged_one_keeps_everything() {
    sandboxed(|| {
        let pod = Pod::new("pod", &[("tcp", 8080, 80)]);
        for name in lab::files(RECORDS) {
            fs::write(format!("{RECORDS}/{name}"), "{").unwrap();
        }
        let rules = Node.run("nft list ruleset");
        let out = reconcile();
        assert_eq!(steps(&out), Vec::<String>::new(), "{out}");
        assert_eq!(Node.run("nft list ruleset"), rules);
        assert!(Node.link(pod.port()).is_some());
    });
}

#[test]
fn a_damaged_record_does_not_keep_what_others_left() {
    sandboxed(|| {
        let stays = Pod::new("stays", &[("tcp", 8081, 80)]);
        let pod = Pod::new("pod", &[("tcp", 8080, 80)]);
        for name in lab::files(RECORDS) {
            let path = format!("{RECORDS}/{name}");
            if fs::read_to_string(&path).unwrap().contains("\"container\":\"pod\"") {
                fs::remove_file(path).unwrap();
            } else if name.contains(".portmap.") {
                fs::write(path, "{").unwrap();
            }
        }
        Node.run(&format!("ip link del {}", pod.port()));
        let out = reconcile();
        let done = steps(&out).join("\n");
        assert!(done.contains("tcp . 8080") && !done.contains("tcp . 8081"), "{out}");
        assert!(Node.run("nft list ruleset").contains("tcp . 8081"));
        drop(stays);
    });
}
