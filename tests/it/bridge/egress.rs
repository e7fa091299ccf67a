//! What the outside sees of a pod: masquerading, and what it leaves alone.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::Duration;

use serde_json::json;

use super::{Network, refused, settle};
use crate::lab::{
    NODE, NODE_V6, Netns, Node, Place, WORLD, WORLD_V6, ask_tcp, ask_udp, serve_tcp, serve_udp, world,
};
use crate::sandbox::sandboxed;

#[test]
fn nft_reads_back_what_it_lists_of_our_rules() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = Network::dual(&json!({"ipMasq": true, "macspoofchk": true})).add(&pod);
        let saved = Node.run("nft list ruleset");
        fs::write("/run/saved", &saved).expect("write");
        Node.run("nft flush ruleset");
        Node.run("nft -f /run/saved");
        assert_eq!(Node.run("nft list ruleset"), saved);
        attached.check();
    });
}

#[test]
fn a_masqueraded_pod_is_seen_with_the_uplinks_address_in_both_families() {
    sandboxed(|| {
        let (world, pod) = (world(), Netns::new("pod"));
        let attached = Network::dual(&json!({"ipMasq": true})).add(&pod);
        attached.check();
        settle();
        for (server, node) in [(WORLD, NODE), (WORLD_V6, NODE_V6)] {
            let tcp = serve_tcp(&world, (server, 7000), "world");
            assert_eq!(ask_tcp(&pod, tcp).expect("an answer over TCP").seen_as, node);
            let udp = serve_udp(&world, (server, 7000), "world");
            assert_eq!(ask_udp(&pod, udp).expect("an answer over UDP").seen_as, node);
        }
        // The rule is the network's, not the pod's: it stays and does not grow.
        attached.del();
        let rules = Node.run("nft list ruleset");
        assert_eq!(rules.matches("comment \"net\"").count(), 2, "{rules}");
    });
}

#[test]
fn without_ipmasq_a_pod_is_seen_with_its_own_address() {
    sandboxed(|| {
        let (world, pod) = (world(), Netns::new("pod"));
        let attached = Network::dual(&json!({})).add(&pod);
        settle();
        world.run(&format!("ip route add 10.1.2.0/24 via {NODE}"));
        world.run(&format!("ip -6 route add fd00:1::/64 via {NODE_V6}"));
        for (at, server) in [WORLD, WORLD_V6].into_iter().enumerate() {
            let server = serve_udp(&world, (server, 7000), "world");
            assert_eq!(ask_udp(&pod, server).expect("an answer").seen_as, attached.address(at));
        }
    });
}

#[test]
fn packets_within_the_subnet_keep_their_address_even_when_the_node_routes_them() {
    sandboxed(|| {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        let network = Network::gateway(&json!({"ipMasq": true}));
        let (client, server) = (network.add(&a), network.add(&b));
        // Past the bridge, through the node's routing, where the masquerade rule is.
        a.run(&format!("ip route add {}/32 via 10.1.2.1", server.address(0)));
        let at = serve_udp(&b, (server.address(0), 7000), "b");
        assert_eq!(ask_udp(&a, at).expect("an answer").seen_as, client.address(0));
    });
}

/// A packet of the node itself with its address in the subnet passes the same rule, and can be sent to a group without a
/// multicast router.
#[test]
fn packets_to_groups_keep_their_address() {
    sandboxed(|| {
        let (world, pod) = (world(), Netns::new("pod"));
        Network::dual(&json!({"ipMasq": true})).add(&pod);
        settle();
        let index = |place: &dyn Fn(&str) -> serde_json::Value, link: &str| {
            u32::try_from(place(link)[0]["ifindex"].as_u64().expect("an index")).expect("32 bits")
        };
        let up0 = index(&|link| Node.ip(&format!("link show dev {link}")), "up0");
        let world0 = index(&|link| world.ip(&format!("link show dev {link}")), "world0");
        let (group, group_v6) = (Ipv4Addr::new(239, 7, 7, 7), Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 7, 7));
        let gateways: [IpAddr; 2] = ["10.1.2.1".parse().unwrap(), "fd00:1::1".parse().unwrap()];
        let groups =
            [SocketAddr::from((group, 7000)), SocketAddr::V6(SocketAddrV6::new(group_v6, 7000, 0, up0))];
        for ((gateway, group_at), unicast) in gateways.into_iter().zip(groups).zip([WORLD, WORLD_V6]) {
            let listener = world.inside(|| {
                let any: IpAddr = if group_at.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
                let listener = UdpSocket::bind((any, 7000)).expect("bind");
                match any {
                    IpAddr::V4(_) => listener.join_multicast_v4(&group, &Ipv4Addr::new(192, 0, 2, 2)),
                    IpAddr::V6(_) => listener.join_multicast_v6(&group_v6, world0),
                }
                .expect("join the group");
                listener.set_read_timeout(Some(Duration::from_secs(2))).expect("a time limit");
                listener
            });
            let sender = UdpSocket::bind((gateway, 0)).expect("the gateway's address");
            if let IpAddr::V4(node) = NODE
                && group_at.is_ipv4()
            {
                rustix::net::sockopt::set_ip_multicast_if(&sender, &node).expect("out of the uplink");
            }
            let seen = |to: SocketAddr| {
                sender.send_to(b"?", to).expect("send");
                listener.recv_from(&mut [0; 8]).unwrap_or_else(|e| panic!("to {group_at}: {e}")).1.ip()
            };
            assert_eq!(seen(group_at), gateway);
            let other = UdpSocket::bind((gateway, 0)).expect("the gateway's address");
            other.send_to(b"?", (unicast, 7000)).expect("send");
            let from =
                listener.recv_from(&mut [0; 8]).unwrap_or_else(|e| panic!("to {group_at}: {e}")).1.ip();
            assert_ne!(from, gateway, "the rule is there and would have caught it");
        }
    });
}

#[test]
fn both_backends_masquerade_and_a_misspelled_one_is_refused() {
    sandboxed(|| {
        let (world, server) = (world(), (WORLD, 7000));
        let server = serve_udp(&world, server, "world");
        for backend in ["iptables", "nftables"] {
            let pod = Netns::new(backend);
            let network = Network::gateway(
                &json!({"ipMasq": true, "isDefaultGateway": true, "ipMasqBackend": backend}),
            );
            let attached = network.add(&pod);
            attached.check();
            assert_eq!(ask_udp(&pod, server).expect("an answer").seen_as, NODE, "{backend}");
            attached.del();
        }
        let pod = Netns::new("pod");
        let wrong = Network::gateway(&json!({"ipMasq": true, "ipMasqBackend": "pf"}));
        refused(&wrong.call("ADD", &pod), "unknown ipmasq backend \"pf\"");
        assert!(pod.link("eth0").is_none());
    });
}
