//! The bridge as a link, and its addresses: which name, MTU, MAC and gateways, and what forwards.

use serde_json::json;

use super::{Network, assert_nothing_remains, flags, ping, refused, remains, sysctl};
use crate::lab::{Netns, Node, Place};
use crate::sandbox::sandboxed;

#[test]
fn the_bridge_is_called_cni0_unless_the_configuration_says_otherwise() {
    sandboxed(|| {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        Network::layer2(&json!({"bridge": null})).add(&a).check();
        Network::layer2(&json!({"bridge": "edge0", "name": "other"})).add(&b).check();
        for name in ["cni0", "edge0"] {
            let bridge = Node.link(name).expect(name);
            assert_eq!(bridge["linkinfo"]["info_kind"], "bridge");
            assert!(flags(&bridge).contains(&"UP"), "{name} is down");
        }
    });
}

#[test]
fn without_isgateway_the_node_has_no_address_and_does_not_forward() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let before = sysctl(&Node, "net/ipv4/ip_forward");
        assert_eq!(before, "0", "the sandbox begins without forwarding");
        let attached = Network::gateway(&json!({"isGateway": false})).add(&pod);
        attached.check();
        assert_eq!(pod.addresses("eth0"), ["10.1.2.2/24"]);
        assert_eq!(Node.addresses("br0"), Vec::<String>::new());
        assert_eq!(sysctl(&Node, "net/ipv4/ip_forward"), "0");
    });
}

#[test]
fn a_gateway_has_the_first_address_forwards_its_family_and_adds_no_route() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = Network::gateway(&json!({})).add(&pod);
        attached.check();
        assert_eq!(Node.addresses("br0"), ["10.1.2.1/24"]);
        let broadcast = Node.ip("-4 addr show dev br0")[0]["addr_info"][0]["broadcast"].clone();
        assert_eq!(broadcast, "10.1.2.255");
        assert_eq!(sysctl(&Node, "net/ipv4/ip_forward"), "1");
        assert_eq!(sysctl(&Node, "net/ipv6/conf/all/forwarding"), "0", "of the other family");
        assert_eq!(attached.result["ips"][0]["gateway"], "10.1.2.1");
        assert!(ping(&pod, "10.1.2.1"));
        assert_eq!(pod.ip("route show default"), json!([]));
    });
}

#[test]
fn a_default_gateway_is_the_next_hop_of_everything_else_in_both_families() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = Network::dual(&json!({})).add(&pod);
        attached.check();
        assert_eq!(Node.addresses("br0"), ["10.1.2.1/24", "fd00:1::1/64"]);
        assert_eq!(pod.addresses("eth0"), ["10.1.2.2/24", "fd00:1::2/64"]);
        assert_eq!(pod.ip("-4 route show default")[0]["gateway"], "10.1.2.1");
        assert_eq!(pod.ip("-6 route show default")[0]["gateway"], "fd00:1::1");
        for forwarding in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            assert_eq!(sysctl(&Node, forwarding), "1", "{forwarding}");
        }
        assert_eq!(
            attached.result["routes"],
            json!([{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}, {"dst": "::/0", "gw": "fd00:1::1"}])
        );
    });
}

#[test]
fn an_address_of_somebody_else_stays_unless_forceaddress_says_otherwise() {
    sandboxed(|| {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        Node.run("ip link add br0 type bridge");
        Node.run("ip addr add 10.9.0.1/24 dev br0");
        Network::gateway(&json!({})).add(&a).check();
        assert_eq!(Node.addresses("br0"), ["10.1.2.1/24", "10.9.0.1/24"]);
        Network::gateway(&json!({"forceAddress": true})).add(&b).check();
        assert_eq!(Node.addresses("br0"), ["10.1.2.1/24"]);
        assert!(ping(&a, "10.1.2.1") && ping(&b, "10.1.2.1"));
    });
}

#[test]
fn two_ranges_of_a_family_have_two_gateways_and_both_answer() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let ranges = json!([
            [{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.3.0/24"}],
            [{"subnet": "fd00:1::/64"}], [{"subnet": "fd00:2::/64"}]
        ]);
        for force in [false, true] {
            let network = Network::dual(&json!({"forceAddress": force})).ipam(&json!({"ranges": ranges}));
            let attached = network.add(&pod);
            attached.check();
            assert_eq!(
                Node.addresses("br0"),
                ["10.1.2.1/24", "10.1.3.1/24", "fd00:1::1/64", "fd00:2::1/64"],
                "forceAddress {force}"
            );
            assert_eq!(pod.addresses("eth0").len(), 4);
            for gateway in ["10.1.2.1", "10.1.3.1"] {
                assert!(ping(&pod, gateway), "{gateway} does not answer");
            }
            attached.del();
            assert_nothing_remains();
        }
    });
}

#[test]
fn the_mtu_is_that_of_both_ends_and_of_a_bridge_that_is_created() {
    sandboxed(|| {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        let attached = Network::layer2(&json!({"mtu": 1400})).add(&a);
        attached.check();
        let mtu = |name: &str| Node.link(name).expect(name)["mtu"].clone();
        assert_eq!(
            (mtu("br0"), mtu(attached.port()), attached.eth0()["mtu"].clone()),
            (1400.into(), 1400.into(), 1400.into())
        );

        Node.run("ip link add mine0 type bridge");
        Node.run("ip link set mine0 mtu 1600");
        let attached = Network::layer2(&json!({"bridge": "mine0", "mtu": 1300, "name": "other"})).add(&b);
        attached.check();
        assert_eq!(mtu("mine0"), 1600, "a bridge that was there keeps its MTU");
        assert_eq!((mtu(attached.port()), attached.eth0()["mtu"].clone()), (1300.into(), 1300.into()));
    });
}

#[test]
fn a_bridge_of_ours_keeps_its_mac_whatever_ports_come_and_go() {
    sandboxed(|| {
        let network = Network::gateway(&json!({}));
        let mac = || Node.link("br0").expect("br0")["address"].as_str().expect("a MAC").to_owned();
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        let first = network.add(&a);
        let at_first = mac();
        assert_eq!(first.result["interfaces"][0]["mac"], at_first.as_str());
        // The lowest MAC there is: an unpinned bridge would take it over.
        let low = network.clone().with(&json!({"runtimeConfig": {"mac": "02:00:00:00:00:01"}})).add(&b);
        Node.run(&format!("ip link set {} address 02:00:00:00:00:02", low.port()));
        assert_eq!(mac(), at_first);
        low.del();
        first.del();
        assert_eq!(mac(), at_first, "without ports");
        let again = network.add(&a);
        assert_eq!(mac(), at_first);
        again.check();
    });
}

#[test]
fn a_bridge_takes_no_router_advertisements() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        Node.run("ip link add br0 type bridge");
        assert_ne!(sysctl(&Node, "net/ipv6/conf/br0/accept_ra"), "0");
        Network::gateway(&json!({})).add(&pod);
        assert_eq!(sysctl(&Node, "net/ipv6/conf/br0/accept_ra"), "0");
    });
}

#[test]
fn a_link_of_another_kind_is_not_taken_for_a_bridge() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        Node.run("ip link add br0 type veth peer name up0");
        let add = Network::gateway(&json!({})).call("ADD", &pod);
        refused(&add, "failed to create bridge \"br0\": \"br0\" already exists but is not a bridge");
        assert_eq!(remains(), ["link br0"]);
        assert!(pod.link("eth0").is_none());
        let empty = Network::gateway(&json!({"bridge": ""})).call("ADD", &pod);
        refused(&empty, "LinkAttrs.Name cannot be empty");
    });
}
