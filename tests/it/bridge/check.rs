//! CHECK: passes while everything of the attachment is as ADD left it, and names what is not.

use std::fs;

use serde_json::json;

use super::{Attached, LEASES, Network, assert_nothing_remains, refused};
use crate::lab::{Netns, Node, Place};
use crate::sandbox::sandboxed;

/// One thing that somebody else does to a node, and what CHECK says then.
struct Drift {
    /// `{port}` is the host end's name.
    command: &'static str,
    in_pod: bool,
    says: &'static str,
    /// All pods of the node lost it: CHECK says it and succeeds, unless it is strict, and the next pod's ADD puts it right.
    shared: bool,
}

const fn shared(command: &'static str, says: &'static str) -> Drift {
    Drift { command, in_pod: false, says, shared: true }
}

const fn on_node(command: &'static str, says: &'static str) -> Drift {
    Drift { command, in_pod: false, says, shared: false }
}

const fn in_pod(command: &'static str, says: &'static str) -> Drift {
    Drift { command, in_pod: true, says, shared: false }
}

const DRIFTS: &[Drift] = &[
    shared("ip addr del 10.1.2.1/24 dev br0", "ip addr add 10.1.2.1/24 dev br0"),
    shared("ip addr del fd00:1::1/64 dev br0", "ip addr add fd00:1::1/64 dev br0"),
    shared("sysctl -qw net.ipv4.ip_forward=0", "sysctl -w net.ipv4.ip_forward=1"),
    shared("sysctl -qw net.ipv6.conf.all.forwarding=0", "sysctl -w net.ipv6.conf.all.forwarding=1"),
    shared("sysctl -qw net.ipv6.conf.br0.accept_ra=1", "sysctl -w net.ipv6.conf.br0.accept_ra=0"),
    shared("ip link set br0 down", "ip link set br0 up"),
    shared("nft delete table ip smarter-cni", "ip saddr 10.1.2.0/24"),
    shared("nft flush chain ip6 smarter-cni egress", "ip6 saddr fd00:1::/64"),
    on_node("nft flush ruleset", "nft add rule ip smarter-cni egress"),
    on_node("nft delete table bridge smarter-cni", "spoof_ports"),
    on_node("nft delete element bridge smarter-cni spoof_ports { {port} }", "spoof_ports"),
    on_node("bridge link set dev {port} hairpin off", "hairpin on"),
    on_node("bridge link set dev {port} isolated on", "isolated off"),
    on_node("ip link set {port} mtu 1300", "mtu 1400"),
    on_node("ip link set {port} nomaster", "CNI veth created for bridge br0 was not found"),
    on_node("ip link set {port} down", "ip link set {port} up"),
    on_node("ip link set {port} address 02:00:00:00:00:99", "Interface {port} Mac doesn't match"),
    on_node("ip link set br0 promisc on", "Promisc Mode false doesn't match current state: true"),
    on_node("ip link set br0 address 02:00:00:00:00:99", "Bridge interface br0 Mac doesn't match"),
    on_node("ip link del br0", "Interface name br0 not found"),
    in_pod("ip link set eth0 address 02:00:00:00:00:98", "doesn't match container Mac: 02:00:00:00:00:98"),
    in_pod("ip addr del 10.1.2.2/24 dev eth0", "Failed to match addr 10.1.2.2/24 on interface eth0"),
    in_pod("ip addr del fd00:1::2/64 dev eth0", "Failed to match addr fd00:1::2/64 on interface eth0"),
    in_pod("ip route del 10.1.2.0/24", "Failed to find Gateway 10.1.2.1 for interface eth0"),
    in_pod("ip route del 10.7.0.0/16", "Expected Route {Dst:{IP:10.7.0.0 Mask:ffff0000}"),
    in_pod("ip route del default", "Expected Route {Dst:{IP:0.0.0.0 Mask:00000000} GW:10.1.2.1"),
    in_pod("ip -6 route del default", "Expected Route {Dst:{IP::: Mask:00000000000000000000000000000000}"),
    in_pod("ip link del eth0", "Interface name eth0 not found"),
];

fn network() -> Network {
    let network =
        Network::dual(&json!({"ipMasq": true, "hairpinMode": true, "macspoofchk": true, "mtu": 1400}));
    network.ipam(&json!({"routes": [{"dst": "10.7.0.0/16"}], "rangeStart": "10.1.2.2"}))
}

#[test]
fn every_drift_of_a_node_or_pod_is_found_and_named() {
    sandboxed(|| {
        for Drift { command, in_pod, says, shared } in DRIFTS {
            let (pod, next) = (Netns::new("pod"), Netns::new("next"));
            // From the first address on again.
            let _ = fs::remove_dir_all(LEASES);
            let attached = network().add(&pod);
            attached.check();
            let words = |text: &str| text.replace("{port}", attached.port());
            if *in_pod {
                pod.run(&words(command))
            } else {
                Node.run(&words(command))
            };
            let out = attached.call("CHECK").run();
            if *shared {
                assert!(out.status == 0 && out.stderr.contains(says), "after `{command}`: {out}");
                let strict = network().with(&json!({"strictCheck": true, "prevResult": attached.result}));
                let out = strict.call("CHECK", &pod).run();
                assert!(out.status == 1 && out.stdout.contains(says), "strictly, after `{command}`: {out}");
            } else {
                assert!(out.status == 1 && out.stdout.contains(&words(says)), "after `{command}`: {out}");
            }
            if *shared {
                let another = network().add(&next);
                let again = attached.call("CHECK").run();
                let silent = !again.stderr.contains("missing");
                assert!(again.status == 0 && silent, "`{command}` is not put right by the next pod: {again}");
                another.del();
            }
            attached.del();
            assert_nothing_remains();
            let _ = Node.command("ip link del br0").output();
        }
    });
}

/// A runtime asks for every pod when it comes back, and gives up those that fail: damage of the node must not cost all of them.
#[test]
fn damage_of_the_whole_node_is_no_pods_fault() {
    sandboxed(|| {
        let pods = ["a", "b", "c"].map(Netns::new);
        let attached = pods.each_ref().map(|pod| Network::dual(&json!({"ipMasq": true})).add(pod));
        Node.run("nft flush ruleset");
        Node.run("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
        Node.run("ip addr flush dev br0");
        for attached in &attached {
            let out = attached.call("CHECK").succeed();
            assert!(out.stderr.contains("sysctl -w net.ipv4.ip_forward=1"), "nobody was told: {out}");
        }
        Node.run(&format!("{} reconcile", crate::lab::binary().display()));
        for attached in &attached {
            assert_eq!(attached.call("CHECK").succeed().stderr, "");
        }
    });
}

/// The configuration is the next pod's; the record says what this one was promised.
#[test]
fn a_configuration_that_changed_is_no_drift() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = network().add(&pod);
        let now = network().with(&json!({"hairpinMode": false, "mtu": 1300, "portIsolation": true}));
        let now = now.with(&json!({"bridge": "br9", "promiscMode": true, "prevResult": attached.result}));
        let said = now.call("CHECK", &pod).env("SMARTER_CNI_LOG", "info").succeed().stderr;
        for change in [
            "bridge is br9 now, and was br0 when the pod came: takes effect with the next ADD",
            "hairpinMode is false now, and was true",
            "mtu is 1300 now, and was ",
            "portIsolation is true now, and was false",
            "promiscMode is true now, and was false",
        ] {
            assert!(said.contains(change), "{change}: {said}");
        }
        assert_eq!(attached.call("CHECK").env("SMARTER_CNI_LOG", "info").succeed().stderr, "");
        // Who leases is somebody else now, and cannot answer for the addresses.
        let now = network().with(&json!({"ipam": {"type": "nobody"}, "prevResult": attached.result}));
        let said = now.call("CHECK", &pod).env("SMARTER_CNI_LOG", "info").succeed().stderr;
        assert!(said.contains("ipam.type is nobody now, and was host-local"), "{said}");
    });
}

#[test]
fn a_lost_lease_is_missed() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = network().add(&pod);
        fs::remove_file(format!("{LEASES}/net/10.1.2.2")).expect("the lease");
        attached.check();
        fs::remove_file(format!("{LEASES}/net/fd00:1::2")).expect("the lease");
        attached.check_fails("Failed to find address added by container");
    });
}

#[test]
fn check_needs_the_previous_result_and_the_same_namespace() {
    sandboxed(|| {
        let (pod, other) = (Netns::new("pod"), Netns::new("other"));
        let attached: Attached = network().add(&pod);
        refused(&network().call("CHECK", &pod), "Required prevResult missing");
        let elsewhere = attached.call("CHECK").netns(&other);
        refused(&elsewhere, "doesn't match configured netns: /run/netns/other");
        let gone = attached.call("CHECK").env("CNI_NETNS", "/run/netns/gone");
        refused(&gone, "failed to open netns \"/run/netns/gone\"");
    });
}

/// Plugins behind ours in the chain may do that, so it is no drift.
#[test]
fn a_default_route_that_was_moved_to_another_gateway_is_fine() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = network().add(&pod);
        pod.run("ip route replace default via 10.1.2.77");
        attached.check();
    });
}

/// Some of them give the pod another interface, and routes through it. A repair must not bring the old way back.
#[test]
fn routes_that_were_moved_to_another_interface_are_fine() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = network().add(&pod);
        pod.run("ip link add second0 type veth peer name elsewhere0");
        pod.run("ip addr add 10.9.9.2/24 dev second0");
        pod.run("ip link set elsewhere0 up");
        pod.run("ip link set second0 up");
        for route in ["default via 10.9.9.1 dev second0", "10.7.0.0/16 dev second0"] {
            pod.run(&format!("ip route replace {route}"));
        }
        let routes = || pod.run("ip -4 route");
        let moved = routes();
        assert!(!moved.contains("default via 10.1.2.1"), "{moved}");
        attached.check();
        Node.run(&format!("{} reconcile", crate::lab::binary().display()));
        assert_eq!(routes(), moved);
        attached.check();
        pod.run("ip route del 10.7.0.0/16");
        attached.check_fails("Expected Route {Dst:{IP:10.7.0.0 Mask:ffff0000}");
    });
}
