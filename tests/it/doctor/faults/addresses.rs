use super::faults;
use crate::doctor::node::{Kind, Lab, sh};
use crate::lab::Place;

fn arms() -> Kind {
    Kind { subnet: Some("172.38.0.0/16"), ..Kind::default() }
}

/// Somebody on the bridge whom nobody knows.
fn stranger(address: &str) {
    sh(&format!(
        "ip netns add stranger
         ip link add tap0 type veth peer name eth0 netns stranger
         ip link set tap0 up; ip link set tap0 master smartnet0
         ip -n stranger addr add {address} dev eth0; ip -n stranger link set eth0 up"
    ));
}

faults! {
    the_lan_has_the_pods_range: [("range-overlap", "range 10.7.0.0/24")] => 1, |_| sh("ip addr add 10.9.9.9/8 dev up0");
    a_route_covers_the_pods_range: [("range-overlap", "range 10.7.0.0/24")] => 1, |_| {
        sh("ip route add 10.7.0.0/16 via 192.0.2.2");
    };
    another_bridge_has_the_pods_range: [("range-overlap", "range 10.7.0.0/24")] => 1, |_| {
        sh("ip link add br-other type bridge; ip addr add 10.7.0.1/16 dev br-other; ip link set br-other up");
    };
    the_range_clashes_before_the_first_pod [pods: 0]: [("range-overlap", "range 10.7.0.0/24")] => 1, |_| {
        sh("ip addr add 10.7.0.5/24 dev up0");
    };
    the_route_to_the_pods_is_gone: [("route-pods", "range 10.7.0.0/24")] => 1, |_| {
        sh("ip route del 10.7.0.0/24 dev smartnet0");
    };
    a_narrower_route_takes_the_pods: [
        ("range-overlap", "range 10.7.0.0/24"), ("route-pods", "range 10.7.0.0/24"),
    ] => 1, |_| sh("ip route add 10.7.0.0/25 via 192.0.2.2");
    a_narrower_route_drops_what_is_for_the_pods: [("route-pods", "range 10.7.0.0/24")] => 1, |_| {
        sh("ip route add blackhole 10.7.0.0/25");
    };
    /// As WireGuard does it: whatever has no mark.
    a_rule_for_unmarked_packets_takes_the_pods: [("policy-rule", "range 10.7.0.0/24")] => 1, |_| {
        sh("ip route add default via 192.0.2.2 table 100; ip rule add not fwmark 0xca6c lookup 100 priority 99");
    };
    a_policy_rule_takes_the_pods: [("policy-rule", "range 10.7.0.0/24")] => 1, |_| {
        sh("ip route add default via 192.0.2.2 table 100; ip rule add to 10.7.0.0/24 lookup 100 priority 99");
    };
    two_pods_have_one_address [contested: &[" 10.7.0.2", "web-0 to", "host port"]]: [("address-duplicate", "address 10.7.0.2")] => 1, |lab: &Lab| {
        let first = lab.pods.iter().position(|pod| pod.address == "10.7.0.2").unwrap();
        lab.pods[(first + 1) % 3].netns.run("ip addr add 10.7.0.2/24 dev eth0");
    };
    a_stranger_answers_for_the_gateway [contested: &["to node", "node to", "outside"]]: [
        ("address-claimed", "address 10.7.0.1"), ("bridge-foreign-port", "bridge smartnet0"),
    ] => 1, |_| stranger("10.7.0.1/24");
    a_stranger_answers_for_a_pod [contested: &[" 10.7.0.3", "web-1 to"]]: [
        ("address-claimed", "address 10.7.0.3"), ("bridge-foreign-port", "bridge smartnet0"),
    ] => 1, |_| stranger("10.7.0.3/24");
    the_node_has_a_pods_address: [("address-duplicate", "address 10.7.0.3")] => 1, |_| {
        sh("ip addr add 10.7.0.3/32 dev lo");
    };
}

/// Not a fault that comes later: the network that Arm's clusters have from the beginning.
#[test]
fn the_range_is_somebody_elses() {
    crate::sandbox::sandboxed(|| {
        let lab = Lab::new(&arms(), 1);
        let found = crate::doctor::diagnose("");
        let expected = ("range-public".to_owned(), "range 172.38.0.0/16".to_owned());
        assert_eq!(found.problems(), [expected].into(), "{}", found.words());
        assert_eq!(found.status, 0);
        drop(lab);
    });
}
