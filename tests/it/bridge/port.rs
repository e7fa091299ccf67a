//! The pod's port on the bridge: what it lets through, and to whom.

use serde_json::json;

use super::{Network, assert_nothing_remains, flags, ping, refused};
use crate::lab::{Netns, Node, Place, ask_udp, serve_udp};
use crate::sandbox::sandboxed;

#[test]
fn hairpin_mode_sends_a_frame_back_where_it_came_from() {
    sandboxed(|| {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        let off = Network::gateway(&json!({})).add(&a);
        let on = Network::gateway(&json!({"hairpinMode": true})).add(&b);
        off.check();
        on.check();
        assert_eq!((off.port_flag("hairpin"), on.port_flag("hairpin")), (false.into(), true.into()));

        // Two addresses behind one port: only a frame that turns round at the bridge gets from one to the other.
        for (pod, works) in [(&off, false), (&on, true)] {
            pod.pod.run("ip link add link eth0 name peer0 address 02:00:00:00:77:01 type macvlan mode vepa");
            let inner = Netns::new("inner");
            pod.pod.run("ip link set peer0 netns inner");
            inner.run("ip addr add 10.1.2.200/24 dev peer0");
            inner.run("ip link set peer0 up");
            assert_eq!(ping(&inner, pod.address(0)), works, "hairpin {works}");
        }
    });
}

#[test]
fn promiscuous_mode_is_the_bridges_and_excludes_hairpin_mode() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let both = Network::gateway(&json!({"promiscMode": true, "hairpinMode": true}));
        refused(&both.call("ADD", &pod), "cannot set hairpin mode and promiscuous mode at the same time");
        assert!(Node.link("br0").is_none(), "refused before anything was made");

        let attached = Network::gateway(&json!({"promiscMode": true})).add(&pod);
        attached.check();
        assert!(flags(&Node.link("br0").expect("br0")).contains(&"PROMISC"));
        Node.run("ip link set br0 promisc off");
        attached.check_fails("configured Promisc Mode true doesn't match current state: false");
    });
}

#[test]
fn isolated_pods_reach_the_gateway_but_not_each_other() {
    sandboxed(|| {
        let (a, b, open) = (Netns::new("a"), Netns::new("b"), Netns::new("open"));
        let isolated = Network::gateway(&json!({"portIsolation": true}));
        let (first, second) = (isolated.add(&a), isolated.add(&b));
        let ordinary = Network::gateway(&json!({})).add(&open);
        [&first, &second, &ordinary].into_iter().for_each(super::Attached::check);
        assert_eq!(
            [&first, &second, &ordinary].map(|pod| pod.port_flag("isolated")),
            [true, true, false].map(serde_json::Value::from)
        );
        assert!(!ping(&a, second.address(0)) && !ping(&b, first.address(0)), "isolated pods talk");
        assert!(ping(&a, "10.1.2.1") && ping(&b, "10.1.2.1"), "no way to the gateway");
        assert!(ping(&a, ordinary.address(0)), "only isolated ports are kept apart");
    });
}

#[test]
fn frames_with_a_foreign_source_do_not_leave_a_pod_under_macspoofchk() {
    sandboxed(|| {
        let (checked, free) = (Netns::new("checked"), Netns::new("free"));
        let attached = Network::gateway(&json!({"macspoofchk": true})).add(&checked);
        let other = Network::gateway(&json!({})).add(&free);
        attached.check();
        other.check();
        let server = serve_udp(&Node, (std::net::Ipv4Addr::new(10, 1, 2, 1), 7000), "node");
        let arrives = |from: &Netns| ask_udp(from, server).is_ok();
        assert!(arrives(&checked) && arrives(&free));

        for pod in [&checked, &free] {
            pod.run("ip link set eth0 address 02:00:00:00:66:06");
            assert_eq!(arrives(pod), pod.name() == "free", "with another MAC, from {}", pod.name());
            Node.run("ip neigh flush dev br0");
        }
        attached.check_fails("Mac");
        checked.run(&format!("ip link set eth0 address {}", attached.mac()));
        assert!(arrives(&checked), "with its own MAC again");

        let rules = || Node.run("nft list table bridge smarter-cni");
        assert!(rules().contains(attached.port()));
        attached.del();
        assert!(!rules().contains("\"veth"), "elements are left: {}", rules());
        other.del();
        assert_nothing_remains();
    });
}

#[test]
fn a_macspoofchk_rule_that_was_flushed_is_missed_and_comes_back_with_the_next_pod() {
    sandboxed(|| {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        let network = Network::gateway(&json!({"macspoofchk": true}));
        let first = network.add(&a);
        Node.run("nft flush ruleset");
        first.check_fails(&format!("spoof_ports {{ {} }}", first.port()));
        let second = network.add(&b);
        second.check();
        b.run("ip link set eth0 address 02:00:00:00:66:06");
        assert!(!ping(&b, "10.1.2.1"));
        first.del();
        second.del();
        assert_nothing_remains();
    });
}
