use std::fs;

use serde_json::json;

use super::faults;
use crate::doctor::node::{Kind, Lab, sh};
use crate::lab::{self, Place};

/// A rule that only who sends a packet notices.
fn drop_frames(rule: &str) {
    sh(&format!(
        "nft 'table bridge quiet {{ chain in {{ type filter hook prerouting priority 0; {rule}; }}; }}'"
    ));
}

faults! {
    a_pod_is_gone_without_a_word [measured: false]: [
        ("pod-namespace", "pod default/web-1"), ("hostport-stale", "port 8081/tcp"),
        ("lease-dead", "lease /run/cni/networks/smartnet/10.7.0.3"),
    ] => 0, |lab: &Lab| {
        let port = lab.port(1);
        sh("ip netns del web-1");
        lab::taken_down(port);
        // In the first seconds after its ADD an attachment is left alone.
        lab::grow_old();
    };
    /// Lost memory is not death, and comes back from what the kernel carries.
    all_that_was_remembered_is_gone: [
        ("pod-record", "pod default/web-0"), ("pod-record", "pod default/web-1"), ("pod-record", "pod default/web-2"),
    ] => 0, |_| sh("rm -r /run/smarter-cni");
    a_record_does_not_say_what_was_promised: [("pod-repair", "pod default/web-1")] => 0, |_| {
        sh("for file in /run/smarter-cni/attachments/*.bridge.json; do
              if grep -q '\"container\":\"web-1\"' $file; then sed -i 's/\"want\":{\"attachment\":{.*}},\"leases\"/\"want\":null,\"leases\"/' $file; fi
            done");
    };
    a_pods_port_is_gone: [("pod-port", "pod default/web-0")] => 1, |lab: &Lab| sh(&format!("ip link del {}", lab.port(0)));
    a_pods_port_is_off_the_bridge: [("pod-port-detached", "pod default/web-1")] => 1, |lab: &Lab| {
        sh(&format!("ip link set {} nomaster", lab.port(1)));
    };
    a_pods_port_is_on_another_bridge: [("pod-port-detached", "pod default/web-1")] => 1, |lab: &Lab| {
        sh(&format!("ip link add br1 type bridge; ip link set {} master br1", lab.port(1)));
    };
    a_pods_port_is_down: [("pod-port-down", "pod default/web-2")] => 1, |lab: &Lab| {
        sh(&format!("ip link set {} down", lab.port(2)));
    };
    a_pods_interface_has_another_name: [("pod-interface", "pod default/web-0")] => 1, |lab: &Lab| {
        let pod = &lab.pods[0].netns;
        pod.run("ip link set eth0 down");
        pod.run("ip link set eth0 name net1");
        pod.run("ip link set net1 up");
    };
    a_pods_interface_is_down: [("pod-interface-down", "pod default/web-0")] => 1, |lab: &Lab| {
        lab.pods[0].netns.run("ip link set eth0 down");
    };
    a_pods_loopback_is_down: [("pod-loopback", "pod default/web-1")] => 1, |lab: &Lab| {
        lab.pods[1].netns.run("ip link set lo down");
    };
    a_pod_has_lost_its_address: [("pod-address", "pod default/web-2")] => 1, |lab: &Lab| {
        lab.pods[2].netns.run("ip addr flush dev eth0");
    };
    a_pod_has_another_address: [("pod-address", "pod default/web-2")] => 1, |lab: &Lab| {
        lab.pods[2].netns.run("ip addr flush dev eth0");
        lab.pods[2].netns.run("ip addr add 10.7.0.99/24 dev eth0");
    };
    a_pod_has_no_default_route: [("pod-route", "pod default/web-0")] => 1, |lab: &Lab| {
        lab.pods[0].netns.run("ip route del default");
    };
    a_pods_default_route_goes_elsewhere: [("pod-route", "pod default/web-0")] => 1, |lab: &Lab| {
        lab.pods[0].netns.run("ip route replace default via 10.7.0.200 dev eth0");
    };
    /// The kernel makes the route of an address once, and takes no gateway without it.
    a_pods_routes_were_flushed [kind: super::dual()]: [("pod-route", "pod default/web-0")] => 1, |lab: &Lab| {
        lab.pods[0].netns.run("ip route flush table main");
        lab.pods[0].netns.run("ip -6 route flush dev eth0 proto kernel");
        lab.pods[0].netns.run("ip -6 route flush table main");
    };
    a_pods_port_has_another_name: [("pod-port", "pod default/web-1")] => 1, |lab: &Lab| {
        sh(&format!("ip link set {0} down; ip link set {0} name lan7; ip link set lan7 up", lab.port(1)));
    };
    a_pod_has_lost_another_route [kind: Kind { keys: json!({"ipam": {
        "type": "smarter-ipam", "dataDir": "/run/cni/networks", "ranges": [[{"subnet": "10.7.0.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "198.51.100.0/24"}],
    }}), ..Kind::default() }]: [("pod-route", "pod default/web-0")] => 1, |lab: &Lab| {
        lab.pods[0].netns.run("ip route del 198.51.100.0/24");
    };
    /// Whoever told the pod so: it is the pod that is wrong, and the bridge keeps its MAC.
    a_pod_knows_its_gateway_under_another_mac: [("pod-neighbour", "pod default/web-1")] => 1, |lab: &Lab| {
        lab.pods[1].netns.run("ip neigh replace 10.7.0.1 lladdr 02:00:00:00:00:66 dev eth0 nud permanent");
    };
    a_pod_does_not_reach_its_gateway [options: "--probe"]: [
        ("packet-drop", "chain bridge quiet in"), ("pod-flows", "pod default/web-1"), ("pod-gateway", "pod default/web-1"),
    ] => 1, |lab: &Lab| {
        drop_frames(&format!("iifname {} drop", lab.port(1)));
    };
    a_pods_large_packets_are_lost [options: "--probe"]: [
        ("pod-flows", "pod default/web-2"), ("pod-gateway", "pod default/web-2"),
    ] => 1, |lab: &Lab| {
        drop_frames(&format!("iifname {} meta length > 1400 drop", lab.port(2)));
    };
    pods_of_ipv6_do_not_reach_their_gateway [options: "--probe", kind: super::dual(), pods: 1]: [
        ("packet-drop", "chain bridge quiet in"), ("pod-flows", "pod default/web-0"), ("pod-gateway", "pod default/web-0"),
    ] => 1, |_| drop_frames("ether type ip6 drop");
    a_pod_has_another_mtu: [("pod-mtu", "pod default/web-1")] => 0, |lab: &Lab| {
        lab.pods[1].netns.run("ip link set eth0 mtu 1280");
    };
}

/// A plugin behind ours may lead the pod out by an interface of its own.
#[test]
fn a_default_route_through_another_interface_is_somebodys_wish() {
    crate::sandbox::sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        let pod = &lab.pods[0].netns;
        pod.run("ip link add net1 type veth peer name net2");
        pod.run("ip link set net2 up");
        pod.run("ip link set net1 up");
        pod.run("ip route replace default dev net1");
        let found = crate::doctor::diagnose("--strict");
        assert_eq!(found.status, 0, "{}", found.words());
    });
}

/// An ADD that is under way is nobody's fault; one that was killed long ago is.
#[test]
fn an_attachment_that_was_left_half_way_is_named_once_it_is_old() {
    crate::sandbox::sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        let name = lab::files("/run/smarter-cni/attachments")
            .into_iter()
            .find(|name| name.ends_with(".bridge.json"));
        let path = format!("/run/smarter-cni/attachments/{}", name.unwrap());
        let mut record: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        record["complete"] = false.into();
        fs::write(&path, record.to_string()).unwrap();
        let young = crate::doctor::diagnose("--only pods");
        assert!(young.problems().is_empty(), "{}", young.words());
        record["created_boottime"] = 0.into();
        fs::write(&path, record.to_string()).unwrap();
        let old = crate::doctor::diagnose("--only pods");
        assert_eq!(old.problems(), [("pod-unfinished".to_owned(), "pod default/web-0".to_owned())].into());
        drop(lab);
    });
}
