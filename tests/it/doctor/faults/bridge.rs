use serde_json::json;

use super::faults;
use crate::doctor::node::{Kind, Lab, sh};
use crate::lab::Place;

fn isolated() -> Kind {
    Kind { keys: json!({"portIsolation": true}), ..Kind::default() }
}

fn with_name_server() -> Kind {
    Kind { keys: json!({"nodeDns": "169.254.0.2"}), ..Kind::default() }
}

/// As if the pod had been promised that, which this kernel may not be able to do.
fn promise(pod: &str, part: &str, key: &str, value: &serde_json::Value) {
    let files = crate::lab::files("/run/smarter-cni/attachments");
    for name in files.iter().filter(|name| name.ends_with(".bridge.json")) {
        let path = format!("/run/smarter-cni/attachments/{name}");
        let mut record: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        if record["id"]["container"] == pod {
            record["want"]["attachment"][part][key] = value.clone();
            std::fs::write(&path, record.to_string()).unwrap();
        }
    }
}

/// Only named: the kernel of the usual test machine could not put it into a VLAN.
#[test]
fn a_port_is_not_in_its_vlan() {
    crate::sandbox::sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 2);
        promise("web-0", "port", "vlans", &json!({"native": 1, "tagged": [7], "keep_default": false}));
        let found = crate::doctor::diagnose("--only port-vlan");
        assert_eq!(
            found.problems(),
            [("port-vlan".to_owned(), "pod default/web-0".to_owned())].into(),
            "{}",
            found.words()
        );
        drop(lab);
    });
}

/// Whoever asked in between has learned the wrong one.
const LEARNED: &[(&str, &str)] = &[
    ("pod-neighbour", "pod default/web-0"),
    ("pod-neighbour", "pod default/web-1"),
    ("pod-neighbour", "pod default/web-2"),
];

faults! {
    the_bridge_is_gone: [("bridge-missing", "bridge smartnet0")] => 1, |_| sh("ip link del smartnet0");
    the_bridge_is_something_else: [("bridge-kind", "bridge smartnet0")] => 1, |_| {
        sh("ip link del smartnet0; ip link add smartnet0 type veth peer name other0; ip link set smartnet0 up");
    };
    something_else_has_the_bridges_name [pods: 0]: [("bridge-kind", "bridge smartnet0")] => 1, |_| {
        sh("ip link add smartnet0 type veth peer name other0");
    };
    the_bridge_is_down: [("bridge-down", "bridge smartnet0")] => 1, |_| sh("ip link set smartnet0 down");
    no_port_of_the_bridge_forwards: [("bridge-carrier", "bridge smartnet0")] => 1, |lab: &Lab| {
        for pod in &lab.pods {
            sh(&format!("bridge link set dev {} state 0", pod.port));
        }
        // The kernel takes up to a second to say so.
        sh("until ip link show smartnet0 | grep -q NO-CARRIER; do sleep 0.1; done");
    };
    the_bridge_has_lost_its_address: [("bridge-gateway", "bridge smartnet0")] => 1, |_| sh("ip addr flush dev smartnet0");
    the_bridge_has_another_address: [
        ("bridge-gateway", "bridge smartnet0"), ("bridge-foreign-address", "bridge smartnet0"),
    ] => 1, |_| sh("ip addr flush dev smartnet0; ip addr add 10.7.0.254/24 dev smartnet0");
    a_dhcp_client_gave_the_bridge_an_address: [("bridge-foreign-address", "bridge smartnet0")] => 0, |_| {
        sh("ip addr add 169.254.3.4/16 dev smartnet0");
    };
    the_bridge_has_another_mac [behind: LEARNED]: [("bridge-mac", "bridge smartnet0")] => 1, |lab: &Lab| {
        for pod in &lab.pods {
            pod.netns.run("ping -c 1 -W 2 10.7.0.1");
        }
        sh("ip link set smartnet0 address 02:00:00:00:00:99");
    };
    /// Nobody has to have asked for it.
    an_idle_bridge_has_another_mac [behind: LEARNED]: [("bridge-mac", "bridge smartnet0")] => 1, |_| {
        sh("ip link set smartnet0 address 02:00:00:00:00:99");
    };
    the_bridge_takes_router_advertisements: [("bridge-advertisements", "bridge smartnet0")] => 1, |_| {
        sh("sysctl -qw net.ipv6.conf.smartnet0.accept_ra=1");
    };
    the_bridge_lost_its_mark: [("mark-missing", "bridge smartnet0")] => 0, |_| sh("ip link set smartnet0 alias ''");
    a_port_lost_its_mark: [("mark-missing", "pod default/web-1")] => 0, |lab: &Lab| {
        sh(&format!("ip link set {} alias ''", lab.port(1)));
    };
    the_name_server_has_lost_its_address [kind: with_name_server()]: [("dns-address", "bridge smartnet0")] => 1, |_| {
        sh("ip addr del 169.254.0.2/32 dev smartnet0");
    };
    neighbours_are_told_of_the_name_server [kind: with_name_server()]: [("dns-guard", "table arp smarter-cni")] => 0, |_| {
        sh("nft delete table arp smarter-cni");
    };
    questions_are_tracked_again [kind: with_name_server()]: [("table-incomplete", "table ip smarter-cni")] => 1, |_| {
        sh("nft flush chain ip smarter-cni dns_prerouting");
    };
    questions_to_others_go_astray [kind: Kind {
        keys: json!({"nodeDns": "169.254.0.2", "nodeDnsIntercept": true}), ..Kind::default()
    }]: [("dns-intercept", "bridge smartnet0")] => 1, |_| {
        sh("nft flush chain ip smarter-cni dns_intercept_prerouting");
    };
    the_bridge_is_not_promiscuous [kind: Kind { keys: json!({"promiscMode": true, "hairpinMode": false}), ..Kind::default() }]: [
        ("bridge-promiscuous", "bridge smartnet0"),
    ] => 0, |_| sh("ip link set smartnet0 promisc off");
    the_bridge_spans_a_tree: [("bridge-stp", "bridge smartnet0")] => 0, |_| {
        sh("ip link set smartnet0 type bridge stp_state 1");
    };
    the_uplink_carries_less: [("bridge-mtu", "bridge smartnet0")] => 0, |_| sh("ip link set up0 mtu 1400");
    the_uplink_is_a_port: [("bridge-uplink", "bridge smartnet0")] => 1, |_| sh("ip link set up0 master smartnet0");
    a_stranger_is_a_port: [("bridge-foreign-port", "bridge smartnet0")] => 0, |_| {
        sh("ip link add tap0 type veth peer name tap1; ip link set tap0 up; ip link set tap0 master smartnet0");
    };
    /// A name that a shell would take for something else.
    a_stranger_with_a_strange_name_is_a_port: [("bridge-foreign-port", "bridge smartnet0")] => 0, |_| {
        sh("ip link add 'id>hack;x' type veth peer name tap1; ip link set 'id>hack;x' up master smartnet0");
    };
    a_port_does_not_send_back: [("port-hairpin", "pod default/web-1")] => 0, |lab: &Lab| {
        sh(&format!("bridge link set dev {} hairpin off", lab.port(1)));
    };
    a_port_sends_back_what_was_not_promised [kind: Kind { keys: json!({"hairpinMode": false}), ..Kind::default() }]: [
        ("port-hairpin", "pod default/web-1"),
    ] => 0, |lab: &Lab| sh(&format!("bridge link set dev {} hairpin on", lab.port(1)));
    a_port_is_isolated_unasked: [("port-isolation", "pod default/web-0")] => 1, |lab: &Lab| {
        sh(&format!("bridge link set dev {} isolated on", lab.port(0)));
    };
    /// Of the pods' own range: no reason for another one.
    a_port_has_an_address: [("port-foreign", "pod default/web-2")] => 0, |lab: &Lab| {
        sh(&format!("ip addr add 10.7.0.200/32 dev {}", lab.port(2)));
    };
    a_route_leads_through_a_port: [("port-foreign", "pod default/web-2")] => 0, |lab: &Lab| {
        sh(&format!("ip route add 192.0.2.128/25 dev {}", lab.port(2)));
    };
    a_port_is_not_isolated [kind: isolated()]: [("port-isolation", "pod default/web-2")] => 1, |lab: &Lab| {
        sh(&format!("bridge link set dev {} isolated off", lab.port(2)));
    };
    a_bridge_does_not_filter_vlans [by_hand: false]: [("bridge-vlan", "bridge smartnet0"), ("kernel-vlan", "module bridge")] => 1, |_| {
        // The kernel of the usual test machine lacks it; where it has it, only the bridge is to blame.
        promise("web-0", "bridge", "vlan_filtering", &true.into());
    };
}
