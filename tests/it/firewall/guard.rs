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
\t\tmeta iifkind \"bridge\" meta oifkind \"bridge\" return
\t\tiifname != @bridges oifname != @bridges drop
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
        if seen.exists() {
            run("nft", &["flush", "chain", "ip", "smarter-cni", "forward_guard"]);
            run(
                "nft",
                &["add rule ip smarter-cni forward_guard iifname != @bridges oifname != @bridges drop"],
            );
            assert!(!reaches(&left, right_address), "the exception would not be needed");
        }
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
