//! Whoever becomes a router by starting a pod does not become everybody's router.

use serde_json::json;

use super::{check, forwarding, get, network, pod, reaches, serve, stranger};
use crate::lab::{self, Netns, Node, Place, WORLD};
use crate::sandbox::{run, sandboxed};

#[test]
fn uplinks_do_not_reach_each_other_through_a_node_that_has_pods() {
    sandboxed(|| {
        forwarding(false);
        let world = lab::world();
        let stranger = stranger(&world);
        serve(&world, WORLD);
        let config = network(&json!({}));
        let first = pod("first", &config);
        assert_eq!(get("net/ipv4/ip_forward"), "1");
        assert!(reaches(&first, WORLD));
        assert!(!reaches(&stranger, WORLD));
        assert!(run("nft", &["list", "table", "ip", "smarter-cni"]).contains(
            "\tchain forward_guard {
\t\ttype filter hook forward priority filter; policy accept;
\t\tiifname . oifname @uplink_pairs drop
\t}
"
        ));
        assert!(!run("nft", &["list", "ruleset"]).contains("table ip6"), "there is no IPv6 in this network");

        // Also when somebody flushed everything: we remember that it was us.
        run("nft", &["flush", "ruleset"]);
        assert!(reaches(&stranger, WORLD), "the guard would not be needed");
        let second = pod("second", &config);
        assert!(!reaches(&stranger, WORLD));
        assert!(reaches(&second, WORLD));
    });
}

#[test]
fn a_second_network_passes_the_guard_of_the_first() {
    sandboxed(|| {
        forwarding(false);
        let world = lab::world();
        serve(&world, WORLD);
        let _first = pod("first", &network(&json!({})));
        let other = json!({
            "name": "other", "bridge": "other0", "forwardOthers": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.78.0.0/24"}]]}
        });
        let second = pod("second", &network(&other));
        assert!(reaches(&second, WORLD));
    });
}

#[test]
fn a_node_that_was_a_router_stays_one() {
    sandboxed(|| {
        forwarding(true);
        let world = lab::world();
        let stranger = stranger(&world);
        serve(&world, WORLD);
        let pod = pod("pod", &network(&json!({})));
        assert!(reaches(&pod, WORLD));
        assert!(reaches(&stranger, WORLD));
        assert_eq!(lab::files("/run/smarter-cni").iter().filter(|name| *name == "host.json").count(), 0);
    });
}

#[test]
fn a_node_may_become_a_router_on_purpose() {
    sandboxed(|| {
        forwarding(false);
        let world = lab::world();
        let stranger = stranger(&world);
        serve(&world, WORLD);
        let _pod = pod("pod", &network(&json!({"forwardOthers": true})));
        assert!(reaches(&stranger, WORLD));
    });
}

/// br_netfilter shows the packet filter frames that pass from port to port; those are no packets that the node forwards.
#[test]
fn frames_within_a_bridge_of_somebody_else_are_none_of_our_business() {
    sandboxed(|| {
        forwarding(false);
        let seen = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
        if seen.exists() {
            std::fs::write(seen, "1").unwrap();
        }
        let _pod = pod("pod", &network(&json!({})));
        Node.run("ip link add virbr0 up type bridge");
        let (left, right) = (Netns::new("left"), Netns::new("right"));
        for (place, name, host) in [(&left, "left", 1), (&right, "right", 2)] {
            Node.run(&format!("ip link add p{name} master virbr0 up type veth peer name eth0 netns {name}"));
            place.run(&format!("ip addr add 203.0.113.{host}/24 dev eth0"));
            place.run("ip link set eth0 up");
        }
        let right_address = "203.0.113.2".parse().unwrap();
        serve(&right, right_address);
        lab::eventually("the bridge forwards", std::time::Duration::from_secs(20), || {
            reaches(&left, right_address)
        });
    });
}

#[test]
fn check_misses_the_guard() {
    sandboxed(|| {
        forwarding(false);
        let config = network(&json!({}));
        let netns = Netns::new("pod");
        let result = super::add(&netns, "pod", &config);
        assert_eq!(check(&netns, "pod", &config, &result).status, 0);
        run("nft", &["delete", "chain", "ip", "smarter-cni", "forward_guard"]);
        let lost = check(&netns, "pod", &config, &result);
        assert!(lost.status == 0 && lost.stderr.contains("forward_guard"), "{lost}");
    });
}

/// A container behind a bridge of its own, as Docker's, or behind a pair of its own, as of the Go plugin `ptp`.
fn container(name: &str, bridged: bool, net: u8) -> Netns {
    let container = Netns::new(name);
    let gateway = format!("172.30.{net}.1");
    if bridged {
        Node.run(&format!("ip link add {name}br up type bridge"));
        Node.run(&format!("ip addr add {gateway}/24 dev {name}br"));
        Node.run(&format!("ip link add {name}0 up master {name}br type veth peer name eth0 netns {name}"));
    } else {
        Node.run(&format!("ip link add {name}0 up type veth peer name eth0 netns {name}"));
        Node.run(&format!("ip addr add {gateway}/24 dev {name}0"));
    }
    container.run(&format!("ip addr add 172.30.{net}.2/24 dev eth0"));
    container.run("ip link set eth0 up");
    container.run(&format!("ip route add default via {gateway}"));
    container
}

fn gets_out(container: &Netns) -> bool {
    let out = || reaches(container, WORLD);
    (0..100).any(|_| {
        out() || {
            std::thread::sleep(std::time::Duration::from_millis(50));
            false
        }
    })
}

fn guard() -> String {
    run("nft", &["list", "ruleset"])
}

#[test]
fn networks_of_others_pass_whether_they_came_before_or_after() {
    sandboxed(|| {
        forwarding(false);
        let world = lab::world();
        world.run(&format!("ip route add 172.30.0.0/16 via {}", lab::NODE));
        let stranger = stranger(&world);
        serve(&world, WORLD);
        let (bridged, pair) = (container("c1", true, 1), container("c2", false, 2));
        let _pod = pod("pod", &network(&json!({})));
        let (later, later_pair) = (container("c3", true, 3), container("c4", false, 4));
        for container in [&bridged, &pair, &later, &later_pair] {
            assert!(gets_out(container), "{}: {}", container.name(), guard());
        }
        // And what is sent to them from outside, as a host port of somebody else's network would be.
        let address = "172.30.3.2".parse().unwrap();
        serve(&later, address);
        assert!(reaches(&world, address));
        assert!(!reaches(&stranger, WORLD));
    });
}

/// A tunnel with a default route, as VPNs have.
#[test]
fn a_vpn_passes() {
    sandboxed(|| {
        forwarding(false);
        let world = lab::world();
        let lan = stranger(&world);
        let _pod = pod("pod", &network(&json!({})));
        let tunnel = |local: &str, remote: &str| {
            format!("ip link add vpn0 up type vxlan id 7 local {local} remote {remote} dstport 4789")
        };
        world.run(&tunnel("192.0.2.2", "192.0.2.1"));
        world.run("ip addr add 172.31.0.2/30 dev vpn0");
        Node.run(&tunnel("192.0.2.1", "192.0.2.2"));
        Node.run("ip addr add 172.31.0.1/30 dev vpn0");
        Node.run("ip route add default via 172.31.0.2 dev vpn0 table 7");
        world.run("ip route replace 198.51.100.0/24 via 172.31.0.1 dev vpn0");
        let address = "172.31.0.2".parse().unwrap();
        serve(&world, address);
        let _second = pod("second", &network(&json!({})));
        assert!(reaches(&lan, address), "{}", guard());
        assert!(!guard().contains("\"vpn0\""), "{}", guard());
    });
}

#[test]
fn uplinks_that_come_and_go_are_followed() {
    sandboxed(|| {
        forwarding(false);
        let world = lab::world();
        serve(&world, WORLD);
        let config = network(&json!({}));
        let _first = pod("first", &config);
        let stranger = stranger(&world);
        assert!(reaches(&stranger, WORLD), "nobody told of the second uplink yet");
        let _second = pod("second", &config);
        assert!(!reaches(&stranger, WORLD));
        assert!(
            guard().contains("\"up1\" . \"up0\"") && guard().contains("\"up0\" . \"up1\""),
            "{}",
            guard()
        );
        // It is somebody's local network now.
        Node.run("ip route del default via 198.51.100.2");
        let _third = pod("third", &config);
        assert!(reaches(&stranger, WORLD), "{}", guard());
    });
}

#[test]
fn the_guard_goes_with_the_last_pod_and_forwarding_with_it() {
    sandboxed(|| {
        forwarding(false);
        let world = lab::world();
        let stranger = stranger(&world);
        serve(&world, WORLD);
        let config = network(&json!({}));
        let (first, second) = (pod("first", &config), pod("second", &config));
        super::plugin(&first, "first", &config).command("DEL").succeed();
        assert!(guard().contains("forward_guard"));
        assert!(reaches(&second, WORLD) && !reaches(&stranger, WORLD));
        super::plugin(&second, "second", &config).command("DEL").succeed();
        assert!(!guard().contains("forward_guard") && !guard().contains("uplink_pairs"), "{}", guard());
        assert_eq!(get("net/ipv4/ip_forward"), "0");
        assert!(!reaches(&stranger, WORLD));
        // And both come back with the next one.
        let third = pod("third", &config);
        assert!(reaches(&third, WORLD) && !reaches(&stranger, WORLD));
        super::plugin(&third, "third", &config).command("DEL").succeed();
        assert_eq!(get("net/ipv4/ip_forward"), "0");
    });
}

#[test]
fn forwarding_stays_with_networks_that_may_need_it() {
    sandboxed(|| {
        forwarding(false);
        let world = lab::world();
        world.run(&format!("ip route add 172.30.0.0/16 via {}", lab::NODE));
        serve(&world, WORLD);
        let config = network(&json!({}));
        let first = pod("first", &config);
        let container = container("c1", true, 1);
        super::plugin(&first, "first", &config).command("DEL").succeed();
        assert!(!guard().contains("forward_guard"));
        assert!(gets_out(&container));
    });
}

/// The guard of version 0.1.0: its rule goes, and with it the set that it asked.
#[test]
fn the_former_guard_is_replaced() {
    sandboxed(|| {
        forwarding(false);
        let world = lab::world();
        serve(&world, WORLD);
        let config = network(&json!({}));
        let _first = pod("first", &config);
        let script = "flush chain ip smarter-cni forward_guard
            add set ip smarter-cni bridges { type ifname; elements = { \"smartnet0\" }; }
            add rule ip smarter-cni forward_guard meta iifkind \"bridge\" meta oifkind \"bridge\" return
            add rule ip smarter-cni forward_guard iifname != @bridges oifname != @bridges drop";
        std::fs::write("/run/former.nft", script).unwrap();
        run("nft", &["-f", "/run/former.nft"]);
        let container = container("c1", true, 1);
        world.run(&format!("ip route add 172.30.0.0/16 via {}", lab::NODE));
        assert!(!reaches(&container, WORLD));
        let _second = pod("second", &config);
        assert!(gets_out(&container), "{}", guard());
        assert!(!guard().contains("@bridges") && !guard().contains("set bridges"), "{}", guard());
    });
}
