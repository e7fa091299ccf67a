//! One fault each, under flows that go on.

use super::{BRIDGE, House, LEASES};
use crate::lab::{Node, Place};
use crate::sandbox::{run, sandboxed};

/// Injects a fault under flows that are silent meanwhile, repairs it, and wants every flow to go on: the connection itself,
/// not a new one. Flows through host ports must be silent because a packet that finds no rule is answered by the node,
/// which ends a TCP connection.
fn survives(fault: &str, inject: impl Fn(&House)) -> Vec<String> {
    let house = House::new();
    house.flows.iter().for_each(crate::flow::Flow::pause);
    inject(&house);
    let made = house.repair(fault);
    house.flows.iter().for_each(crate::flow::Flow::resume);
    house.assert_flows(fault);
    made
}

/// As [`survives`], under flows that go on talking into the fault.
fn survives_talking(fault: &str, inject: impl Fn(&House)) -> Vec<String> {
    let house = House::new();
    inject(&house);
    let made = house.repair(fault);
    house.assert_flows(fault);
    made
}

fn sh(script: &str) {
    run("sh", &["-ec", script]);
}

#[test]
fn a_flushed_rule_set() {
    sandboxed(|| {
        let made = survives("nft flush ruleset", |_| sh("nft flush ruleset"));
        let has = |words: &str| made.iter().filter(|step| step.contains(words)).count();
        assert_eq!(has("masquerade comment"), 2, "one per family, however many pods: {made:#?}");
        assert_eq!(has("element bridge smarter-cni spoof_allowed"), 2, "one per pod: {made:#?}");
    });
}

#[test]
fn a_flushed_table_that_keeps_its_chains() {
    sandboxed(|| {
        survives("nft flush table", |_| {
            sh("for family in ip ip6 bridge; do nft flush table $family smarter-cni; done");
        });
    });
}

#[test]
fn elements_that_somebody_deleted() {
    sandboxed(|| {
        survives("nft flush set", |_| {
            sh(
                "nft flush map ip smarter-cni hostports; for set in local_clients hairpin pod_links clamped; do nft flush set ip smarter-cni $set; done",
            );
            sh("for set in spoof_ports spoof_allowed; do nft flush set bridge smarter-cni $set; done");
        });
    });
}

#[test]
fn a_deleted_bridge() {
    sandboxed(|| {
        let made = survives_talking("ip link del", |_| sh(&format!("ip link del {BRIDGE}")));
        let made: Vec<_> = made.iter().filter(|step| step.starts_with("node: ip link add")).collect();
        assert_eq!(made.len(), 1, "{made:?}");
    });
}

#[test]
fn a_bridge_without_addresses() {
    sandboxed(|| {
        survives_talking("ip addr flush", |_| sh(&format!("ip addr flush dev {BRIDGE} scope global")));
    });
}

#[test]
fn a_bridge_that_is_down() {
    sandboxed(|| {
        survives_talking("ip link set down", |_| sh(&format!("ip link set {BRIDGE} down")));
    });
}

#[test]
fn a_host_end_that_a_network_manager_took_over() {
    sandboxed(|| {
        let made = survives_talking("nomaster", |house| {
            let port = house.web.port();
            sh(&format!(
                "ip link set {port} nomaster; ip addr add 169.254.7.8/16 dev {port}; ip -6 addr add fd99::1/64 dev {port}; \
                 ip route add default dev {port} metric 203"
            ));
        });
        let text = made.join("\n");
        for word in
            ["ip addr del 169.254.7.8/16", "ip addr del fd99::1/64", "ip route del default", "master house0"]
        {
            assert!(text.contains(word), "{word} is missing: {text}");
        }
    });
}

#[test]
fn a_host_end_that_lost_its_flags() {
    sandboxed(|| {
        survives_talking("flags", |house| {
            let port = house.web.port();
            sh(&format!("bridge link set dev {port} hairpin off; bridge link set dev {port} isolated on"));
        });
    });
}

#[test]
fn a_host_end_that_is_down() {
    sandboxed(|| {
        survives_talking("veth down", |house| sh(&format!("ip link set {} down", house.web.port())));
    });
}

/// Connections belong to addresses: with the same ones, behind the same MACs, they go on.
#[test]
fn a_pair_that_was_deleted() {
    sandboxed(|| {
        survives_talking("ip link del veth", |house| sh(&format!("ip link del {}", house.web.port())));
    });
}

#[test]
fn forwarding_that_was_switched_off() {
    sandboxed(|| {
        survives_talking("sysctl", |_| {
            sh("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0");
        });
    });
}

#[test]
fn accepts_in_a_chain_that_drops() {
    sandboxed(|| {
        let made = survives_talking("iptables -F", |_| {
            sh("iptables-nft -P FORWARD DROP; iptables-nft -F FORWARD");
        });
        assert!(made.iter().any(|step| step.contains("iptables-nft -A FORWARD -i house0")), "{made:#?}");
        assert!(
            Node.run("iptables-nft -S FORWARD").starts_with("-P FORWARD DROP"),
            "policies are never changed"
        );
    });
}

#[test]
fn a_pod_that_lost_its_addresses() {
    sandboxed(|| {
        survives_talking("pod address", |house| {
            house.web.netns.run("ip addr flush dev eth0 scope global");
        });
    });
}

#[test]
fn a_pod_that_lost_its_routes() {
    sandboxed(|| {
        survives_talking("pod route", |house| {
            house.client.netns.run("ip route del default");
            house.client.netns.run("ip -6 route del default");
        });
    });
}

#[test]
fn a_pod_whose_interface_is_down() {
    sandboxed(|| {
        survives_talking("pod down", |house| {
            house.client.netns.run("ip link set eth0 down");
        });
    });
}

#[test]
fn leases_that_were_deleted() {
    sandboxed(|| {
        let made = survives_talking("rm leases", |_| sh(&format!("rm -rf {LEASES}")));
        assert_eq!(made.len(), 4, "two pods, two families: {made:#?}");
        // Nobody gets an address of theirs.
        let other = super::Pod::new("other", &[]);
        assert_eq!(other.address(0), "10.8.0.4".parse::<std::net::IpAddr>().unwrap());
    });
}

#[test]
fn everything_at_once() {
    sandboxed(|| {
        survives("everything", |house| {
            sh(&format!(
                "nft flush ruleset; ip link del {BRIDGE}; rm -rf {LEASES}; sysctl -qw net.ipv4.ip_forward=0 \
                 net.ipv6.conf.all.forwarding=0; ip link del {}",
                house.web.port()
            ));
            house.client.netns.run("ip addr flush dev eth0 scope global");
        });
    });
}
