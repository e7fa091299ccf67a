//! Who must not get through: the guard of 127.0.0.0/8, and limits on interfaces.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use super::{Pod, fails_with, ports, with};
use crate::lab::{self, NODE, Netns, Node, Place, ask_tcp};
use crate::sandbox::sandboxed;

/// A second uplink, as a modem would be.
fn modem() -> Netns {
    let modem = Netns::new("modem");
    Node.run("ip link add wwan0 type veth peer name eth0 netns modem");
    Node.run("ip addr add 198.51.100.1/24 dev wwan0");
    Node.run("ip link set wwan0 up");
    modem.run("ip addr add 198.51.100.2/24 dev eth0");
    modem.run("ip link set eth0 up");
    modem.run("ip route add default via 198.51.100.1");
    modem
}

const AT_MODEM: SocketAddr = SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1)), 8080);

#[test]
fn a_service_on_127_0_0_1_stays_out_of_reach() {
    sandboxed(|| {
        let world = lab::world();
        lab::serve_tcp(&Node, ([127, 0, 0, 1], 9000), "secret");
        lab::serve_udp(&Node, ([127, 0, 0, 1], 9000), "secret");
        let pod = Pod::mapped("web", ports(&[("tcp", 8080, 80)]));
        lab::serve_tcp(&pod.netns, pod.at(false, 80), "web");
        // The way for 127.0.0.1 is open, for the node itself.
        let value = std::fs::read_to_string("/proc/sys/net/ipv4/conf/port0/route_localnet").unwrap();
        assert_eq!(value.trim(), "1");
        assert_eq!(ask_tcp(&Node, ([127, 0, 0, 1], 8080)).unwrap().token, "web");
        assert_eq!(ask_tcp(&Node, ([127, 0, 0, 1], 9000)).unwrap().token, "secret");
        // A pod that may edit its routes sends 127.0.0.1 to the gateway.
        for (place, gateway, link) in [(&pod.netns, "10.7.0.1", "eth0"), (&world, "192.0.2.1", "world0")] {
            place.run("sysctl -q -w net.ipv4.conf.all.route_localnet=1");
            place.run("ip addr flush dev lo");
            place.run("ip route flush table local dev lo");
            place.run(&format!("ip route add 127.0.0.1 via {gateway} dev {link}"));
            let port = |port: u16| SocketAddr::new([127, 0, 0, 1].into(), port);
            assert!(ask_tcp(place, port(9000)).is_err());
            assert!(lab::ask_udp(place, port(9000)).is_err());
            assert!(ask_tcp(place, port(8080)).is_err(), "not by a mapped port either");
        }
        // The same pod with the guard taken away: the test sees the hole.
        Node.run("nft flush chain ip smarter-cni guard");
        assert_eq!(ask_tcp(&pod.netns, ([127, 0, 0, 1], 9000)).unwrap().token, "secret");
    });
}

#[test]
fn a_port_answers_only_where_it_may() {
    sandboxed(|| {
        let world = lab::world();
        let modem = modem();
        let other = Pod::attached("other");
        let allow = json!({"hostPortInterfaces": ["up*"]});
        let deny = json!({"denyHostPortInterfaces": ["wwan*"]});
        for (key, list) in [allow, deny].iter().map(|c| c.as_object().unwrap().iter().next().unwrap()) {
            let mapping = with(ports(&[("tcp", 8080, 80)]), key, list.clone());
            let pod = Pod::mapped("web", mapping.clone());
            lab::serve_tcp(&pod.netns, pod.at(false, 80), "web");
            let open = Pod::mapped("open", ports(&[("tcp", 8081, 80)]));
            lab::serve_tcp(&open.netns, open.at(false, 80), "open");
            assert_eq!(ask_tcp(&world, (NODE, 8080)).unwrap().token, "web", "{key}");
            assert!(ask_tcp(&modem, AT_MODEM).is_err(), "{key}");
            let open_port = SocketAddr::new(AT_MODEM.ip(), 8081);
            assert_eq!(ask_tcp(&modem, open_port).unwrap().token, "open", "others' ports have other limits");
            for place in [&other.netns, &pod.netns] {
                assert_eq!(ask_tcp(place, (NODE, 8080)).unwrap().token, "web", "{key}");
            }
            assert_eq!(ask_tcp(&Node, ([127, 0, 0, 1], 8080)).unwrap().token, "web");
            assert_eq!(ask_tcp(&Node, (NODE, 8080)).unwrap().token, "web");
            pod.portmap("CHECK", mapping).succeed();
            pod.gone(json!({}));
            open.gone(json!({}));
            assert_eq!(super::elements(), "");
        }
    });
}

#[test]
fn conditions_hold_for_everybody() {
    sandboxed(|| {
        let world = lab::world();
        let modem = modem();
        for conditions in [
            json!(["-s", "192.0.2.0/24"]),
            json!(["ip saddr 192.0.2.0/24"]),
            json!(["-s", "203.0.113.0/24,192.0.2.0/24"]),
            json!(["ip saddr { 203.0.113.0/24, 192.0.2.0/24 }"]),
            json!(["!", "-s", "198.51.100.0/24,127.0.0.0/8"]),
        ] {
            let mapping = with(ports(&[("tcp", 8080, 80)]), "conditionsV4", conditions);
            let pod = Pod::mapped("web", mapping.clone());
            lab::serve_tcp(&pod.netns, pod.at(false, 80), "web");
            assert_eq!(ask_tcp(&world, (NODE, 8080)).unwrap().token, "web");
            assert!(ask_tcp(&modem, AT_MODEM).is_err());
            assert_eq!(ask_tcp(&Node, (NODE, 8080)).unwrap().token, "web", "from 192.0.2.1");
            assert!(ask_tcp(&Node, ([127, 0, 0, 1], 8080)).is_err());
            pod.portmap("CHECK", mapping).succeed();
            pod.gone(json!({}));
            assert_eq!(super::elements(), "");
        }
        let pod = Pod::attached("refused");
        let mapping = with(ports(&[("tcp", 8080, 80)]), "conditionsV4", json!(["-m", "owner"]));
        fails_with(
            &pod.portmap("ADD", mapping).run(),
            "failed to parse config: conditionsV4: iptables' \"-m\"",
        );
        let mapping = with(ports(&[("tcp", 8080, 80)]), "externalSetMarkChain", json!("KUBE-MARK-MASQ"));
        fails_with(&pod.portmap("ADD", mapping).run(), "cannot be served by nftables");
        for (key, value) in
            [("conditionsV4", json!(["-m", "owner"])), ("externalSetMarkChain", json!("KUBE-MARK-MASQ"))]
        {
            for verb in ["ADD", "CHECK", "DEL"] {
                pod.portmap(verb, json!({key: value})).succeed();
            }
        }
    });
}
