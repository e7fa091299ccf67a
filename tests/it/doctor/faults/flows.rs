//! What kills flows of pods outside of anything that is ours. Each row is measured: flows die by it, are named, and live again
//! when the printed words are typed.

use super::{dual, faults};
use crate::doctor::node::{CONFLIST, Kind, Lab, sh};
use crate::lab::{Node, Place};

fn nft(table: &str) {
    sh(&format!("nft '{table}'"));
}

/// What was learned about MACs is forgotten.
fn forget(lab: &Lab) {
    Node.run("ip neigh flush dev smartnet0");
    for pod in &lab.pods {
        pod.netns.run("ip neigh flush dev eth0");
        sh(&format!("ip link set {} type bridge_slave fdb_flush", pod.port));
    }
}

faults! {
    the_old_filter_table_drops [kills: true]: [("forward-drop", "chain FORWARD of iptables-legacy")] => 1, |_| {
        sh("iptables-legacy -P FORWARD DROP");
    };
    one_port_alone_is_accepted [kills: true]: [("forward-drop", "chain inet wall forward")] => 1, |_| {
        nft("table inet wall { chain forward { type filter hook forward priority 0; policy drop;
            ct state established accept; iifname smartnet0 tcp dport 8443 accept; }; }");
    };
    new_connections_are_dropped_behind_a_jump [kills: true]: [("forward-drop", "chain inet wall forward")] => 1, |_| {
        nft("table inet wall { chain late { ct state new drop; };
            chain forward { type filter hook forward priority 0; ct state established accept; jump late; }; }");
    };
    new_connections_are_dropped_between_braces [kills: true]: [("forward-drop", "chain inet wall forward")] => 1, |_| {
        nft("table inet wall { chain forward { type filter hook forward priority 0;
            ct state { established, related } accept; ct state { new, untracked } drop; }; }");
    };
    new_connections_are_dropped_by_a_map [kills: true]: [("forward-drop", "chain inet wall forward")] => 1, |_| {
        nft("table inet wall { chain late { drop; };
            chain forward { type filter hook forward priority 0;
            ct state vmap { established : accept, related : accept, new : jump late }; }; }");
    };
    one_pods_address_is_banned_with_others [kills: true]: [("forward-drop", "chain ip wall forward")] => 1, |_| {
        nft("table ip wall { chain forward { type filter hook forward priority 0;
            ip saddr { 10.7.0.3, 10.9.0.0/16, 10.11.0.1-10.11.0.9 } drop; }; }");
    };
    protocols_are_dropped_between_braces [kills: true]: [("packet-drop", "chain inet wall pre")] => 1, |_| {
        nft("table inet wall { chain pre { type filter hook prerouting priority 0;
            iifname smartnet0 meta l4proto { udp, sctp } drop; }; }");
    };
    protocols_are_dropped_at_a_port [kills: true]: [("packet-drop", "chain bridge wall in")] => 1, |lab: &Lab| {
        nft(&format!(
            "table bridge wall {{ chain in {{ type filter hook prerouting priority 0; iifname {} ip protocol {{ tcp, udp }} drop; }}; }}",
            lab.port(1)
        ));
    };
    one_pods_address_is_banned [kills: true]: [("forward-drop", "chain ip filter FORWARD")] => 1, |_| {
        sh("iptables-nft -A FORWARD -s 10.7.0.3/32 -j DROP");
    };
    one_pods_address_is_banned_in_the_old_table [kills: true]: [("forward-drop", "chain FORWARD of iptables-legacy")] => 1, |_| {
        sh("iptables-legacy -A FORWARD -s 10.7.0.3/32 -j DROP");
    };
    a_protocol_is_dropped [kills: true]: [("packet-drop", "chain inet wall pre")] => 1, |_| {
        nft("table inet wall { chain pre { type filter hook prerouting priority 0; iifname smartnet0 meta l4proto udp drop; }; }");
    };
    raw_drops_what_pods_send [kills: true]: [("packet-drop", "chain ip raw PREROUTING")] => 1, |_| {
        sh("iptables-nft -t raw -A PREROUTING -i smartnet0 -j DROP");
    };
    the_old_raw_table_drops_one_pod [kills: true]: [("packet-drop", "chain PREROUTING of iptables-legacy -t raw")] => 1, |_| {
        sh("iptables-legacy -t raw -A PREROUTING -s 10.7.0.3/32 -j DROP");
    };
    mangle_drops_what_is_for_pods [kills: true]: [("packet-drop", "chain POSTROUTING of iptables-legacy -t mangle")] => 1, |_| {
        sh("iptables-legacy -t mangle -A POSTROUTING -o smartnet0 -j DROP");
    };
    what_leaves_is_dropped_behind_a_goto [kills: true]: [("packet-drop", "chain ip wall post")] => 1, |_| {
        nft("table ip wall { chain end { ip saddr 10.7.0.0/24 drop; };
            chain post { type filter hook postrouting priority 0; oifname up0 goto end; }; }");
    };
    what_is_marked_is_dropped_later [kills: true]: [("packet-drop", "chain ip wall late")] => 1, |_| {
        nft("table ip wall { chain early { type filter hook prerouting priority -150; iifname smartnet0 meta mark set 0x7; };
            chain late { type filter hook prerouting priority 0; meta mark 0x7 drop; }; }");
    };
    the_bridge_family_drops_between_pods [kills: true]: [("packet-drop", "chain bridge filter FORWARD")] => 1, |_| {
        sh("ebtables-nft -A FORWARD -j DROP");
    };
    the_bridge_family_drops_arp [kills: true]: [("packet-drop", "chain bridge wall pre")] => 1, |lab: &Lab| {
        nft("table bridge wall { chain pre { type filter hook prerouting priority 0; ether type arp drop; }; }");
        forget(lab);
    };
    arp_is_dropped_by_the_node [kills: true]: [("packet-drop", "chain arp wall in")] => 1, |lab: &Lab| {
        nft("table arp wall { chain in { type filter hook input priority 0; iifname smartnet0 drop; }; }");
        forget(lab);
    };
    a_pods_port_drops_what_comes_in [kills: true]: [("packet-drop", "chain netdev wall in")] => 1, |lab: &Lab| {
        nft(&format!(
            "table netdev wall {{ chain in {{ type filter hook ingress device {} priority 0; drop; }}; }}",
            lab.port(1)
        ));
    };
    the_uplink_drops_what_comes_in [kills: true]: [("packet-drop", "chain netdev wall in")] => 1, |_| {
        nft("table netdev wall { chain in { type filter hook ingress device up0 priority 0; drop; }; }");
    };
    input_drops_by_default [kills: true]: [
        ("packet-drop", "chain ip filter INPUT"), ("input-drop", "chain ip filter INPUT"),
    ] => 1, |_| sh("iptables-nft -A INPUT -i lo -j ACCEPT; iptables-nft -P INPUT DROP");
    input_lets_only_answers_in [kills: true]: [("input-drop", "chain inet filter input")] => 0, |_| {
        nft("table inet filter { chain input { type filter hook input priority 0; policy drop;
            iif lo accept; ct state established,related accept; tcp dport 22 accept; }; }");
    };
    output_drops_by_default [kills: true]: [("packet-drop", "chain inet filter output")] => 1, |_| {
        nft("table inet filter { chain output { type filter hook output priority 0; policy drop;
            oif lo accept; ct state established,related accept; }; }");
    };
    input_drops_neighbour_discovery [kills: true, kind: dual()]: [
        ("packet-drop", "chain ip6 filter INPUT"), ("input-drop", "chain ip6 filter INPUT"),
    ] => 1, |lab: &Lab| {
        sh("ip6tables-nft -A INPUT -i smartnet0 -j DROP");
        forget(lab);
    };
    our_table_is_dormant [kills: true]: [("table-dormant", "table ip smarter-cni")] => 1, |_| {
        sh("nft add table ip smarter-cni \"{ flags dormant; }\"");
    };
    forwarding_is_off_for_the_uplink [kills: true]: [("forwarding-bridge", "interface up0")] => 1, |_| {
        sh("sysctl -q -w net.ipv4.conf.up0.forwarding=0");
    };
    /// The answer of whoever has it goes to all.
    a_pod_has_the_gateways_address_and_the_node_lost_it [kind: dual(), by_hand: false]: [
        ("address-duplicate", "address fd07::1"), ("bridge-gateway", "bridge smartnet0"),
        ("pod-neighbour", "pod default/web-0"), ("pod-neighbour", "pod default/web-2"),
    ] => 1, |lab: &Lab| {
        lab.pods[1].netns.run("ip addr add fd07::1/64 dev eth0 nodad");
        sh("ip -6 addr del fd07::1/64 dev smartnet0; ip -6 addr add fd07::1/64 dev smartnet0
            until ip -6 addr show dev smartnet0 | grep -q dadfailed; do sleep 0.1; done");
        forget(lab);
    };
    the_default_route_of_one_family_is_gone: [("uplink-missing", "default route of IPv4")] => 0, |_| {
        sh("ip route del default");
    };
    a_rule_by_source_takes_what_the_node_sends [kills: true]: [("policy-rule", "range 10.7.0.0/24")] => 1, |_| {
        sh("ip route add default via 192.0.2.2 table 100; ip rule add from 10.7.0.0/24 lookup 100 priority 99");
    };
    a_rule_by_source_refuses [kills: true]: [
        ("policy-rule", "range 10.7.0.0/24"), ("route-outwards", "range 10.7.0.0/24"),
    ] => 1, |_| sh("ip rule add from 10.7.0.0/24 prohibit priority 99");
    a_rule_by_source_takes_one_pod [kills: true]: [("route-outwards", "pod default/web-1")] => 1, |_| {
        sh("ip rule add from 10.7.0.3 unreachable priority 99");
    };
    a_rule_by_mark_refuses [kills: true]: [("route-outwards", "range 10.7.0.0/24")] => 1, |_| {
        nft("table ip marks { chain pre { type filter hook prerouting priority -150; iifname smartnet0 meta mark set 0x7; }; }");
        sh("ip rule add fwmark 0x7 blackhole priority 99");
    };
    one_pods_address_is_unreachable [kills: true]: [("route-pods", "pod default/web-1")] => 1, |_| {
        sh("ip route add unreachable 10.7.0.3/32");
    };
    one_pods_address_leads_elsewhere [kills: true]: [
        ("range-overlap", "range 10.7.0.0/24"), ("route-pods", "pod default/web-1"),
    ] => 1, |_| sh("ip route add 10.7.0.3/32 via 192.0.2.2");
    a_pod_has_a_better_route [kills: true]: [("pod-route", "pod default/web-0")] => 1, |lab: &Lab| {
        lab.pods[0].netns.run("ip route add 192.0.2.0/24 via 10.7.0.3 dev eth0");
    };
    a_pod_refuses_its_way_out [by_hand: false]: [("pod-route", "pod default/web-0")] => 1, |lab: &Lab| {
        lab.pods[0].netns.run("ip rule add from all lookup 100 priority 99");
        lab.pods[0].netns.run("ip route add unreachable default table 100");
    };
    two_pods_have_one_mac [pods: 2]: [("mac-duplicate", "MAC 02:00:00:00:00:77")] => 1, |lab: &Lab| {
        for pod in &lab.pods {
            pod.netns.run("ip link set eth0 address 02:00:00:00:00:77");
        }
        forget(lab);
    };
    a_pod_has_the_gateways_address [kills: false]: [("address-duplicate", "address 10.7.0.1")] => 1, |lab: &Lab| {
        lab.pods[1].netns.run("ip addr add 10.7.0.1/24 dev eth0");
    };
    the_node_knows_a_pod_under_another_mac [kills: true]: [("neighbour-wrong", "pod default/web-1")] => 1, |_| {
        sh("ip neigh replace 10.7.0.3 lladdr 02:00:00:00:00:66 dev smartnet0 nud permanent");
    };
    a_pod_knows_another_under_another_mac [kills: true]: [("neighbour-wrong", "pod default/web-0")] => 1, |lab: &Lab| {
        lab.pods[0].netns.run("ip neigh replace 10.7.0.3 lladdr 02:00:00:00:00:66 dev eth0 nud permanent");
    };
    a_port_neither_learns_nor_floods [kills: true]: [("port-flags", "pod default/web-1")] => 1, |lab: &Lab| {
        sh(&format!("bridge link set dev {} learning off flood off", lab.port(1)));
        forget(lab);
    };
    nobody_finds_a_pod: [("port-flags", "pod default/web-1")] => 1, |lab: &Lab| {
        sh(&format!("ip link set {} type bridge_slave bcast_flood off", lab.port(1)));
        forget(lab);
    };
    the_bridge_carries_less_than_its_pods: [("bridge-mtu", "bridge smartnet0")] => 0, |_| sh("ip link set smartnet0 mtu 1280");
    a_list_is_called_a_single_plugin: [("conflist-invalid", "file /etc/cni/net.d/0-smarter.conf")] => 1, |_| {
        sh(&format!("mv {CONFLIST} /etc/cni/net.d/0-smarter.conf"));
    };
    /// A rule that takes some packets may be meant; that it takes all there are only packets tell.
    something_unknown_takes_a_pods_packets [options: "--probe", by_hand: false]: [
        ("pod-flows", "pod default/web-1"),
    ] => 1, |lab: &Lab| {
        nft(&format!(
            "table bridge quiet {{ set some {{ type inet_proto; elements = {{ tcp, udp }}; }};
                chain in {{ type filter hook prerouting priority 0; iifname {} ip protocol @some drop; }}; }}",
            lab.port(1)
        ));
    };
}

/// What a network without a gateway on the node has is followed as far as it goes.
#[test]
fn pods_of_a_network_without_a_gateway_are_followed_too() {
    crate::sandbox::sandboxed(|| {
        let keys = serde_json::json!({"isDefaultGateway": false, "ipMasq": false});
        let lab = Lab::new(&Kind { keys, ..Kind::default() }, 2);
        let found = crate::doctor::diagnose("--strict --probe");
        assert_eq!(found.status, 0, "{}", found.words());
        drop(lab);
    });
}
