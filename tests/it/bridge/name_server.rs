//! The address at which pods ask the node's name server: who reaches it, who does not, and who answers there.

use std::net::IpAddr;

use serde_json::json;

use super::{Network, ping};
use crate::lab::{self, NODE, Netns, Node, Place, ask_tcp, ask_udp};
use crate::portmap::{Pod, ports};
use crate::sandbox::sandboxed;

const DNS: &str = "169.254.0.2";
const GATEWAY: &str = "10.7.0.1";

fn dns() -> IpAddr {
    DNS.parse().expect("an address")
}

fn gateway() -> IpAddr {
    GATEWAY.parse().expect("an address")
}

fn network() -> Network {
    Network::gateway(&json!({"nodeDns": DNS, "isDefaultGateway": true}))
}

fn rules() -> String {
    Node.run("nft list ruleset")
}

/// Of the bridge, whatever their scope.
fn addresses() -> Vec<String> {
    let shown = Node.ip("-4 addr show dev br0");
    let all = shown[0]["addr_info"].as_array().expect("addresses").iter();
    let mut found: Vec<_> =
        all.map(|at| format!("{}/{}", at["local"].as_str().expect("an address"), at["prefixlen"])).collect();
    // The kernel lists those of narrower scope first.
    found.sort();
    found
}

/// Elements and rules, without what other networks have to do with it.
fn of_names(ruleset: &str) -> Vec<String> {
    ruleset.lines().filter(|line| line.contains("dns_")).map(str::to_owned).collect()
}

#[test]
fn the_address_comes_with_the_gateway_and_is_good_for_its_link_alone() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = network().add(&pod);
        attached.check();
        assert_eq!(addresses(), ["10.1.2.1/24", "169.254.0.2/32"]);
        let shown = Node.ip("-4 addr show dev br0")[0]["addr_info"].clone();
        let scope = |at: &str| {
            let all = shown.as_array().expect("addresses");
            all.iter().find(|address| address["local"] == at).expect(at)["scope"].clone()
        };
        assert_eq!((scope("10.1.2.1"), scope(DNS)), (json!("global"), json!("link")));
        assert!(ping(&pod, DNS));
        // The second pod changes nothing.
        let before = rules();
        let second = Netns::new("second");
        network().add(&second).check();
        assert_eq!(of_names(&rules()), of_names(&before));
        assert!(ping(&second, DNS));
    });
}

#[test]
fn without_the_key_there_is_nothing_of_it() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        Network::gateway(&json!({})).add(&pod).check();
        assert_eq!(addresses(), ["10.1.2.1/24"]);
        assert_eq!(of_names(&rules()), Vec::<String>::new());
    });
}

#[test]
fn force_address_leaves_it_alone() {
    sandboxed(|| {
        let (one, two) = (Netns::new("one"), Netns::new("two"));
        let network = Network::gateway(&json!({"nodeDns": DNS, "forceAddress": true}));
        network.add(&one).check();
        network.add(&two).check();
        assert_eq!(addresses(), ["10.1.2.1/24", "169.254.0.2/32"]);
    });
}

#[test]
fn what_is_lost_comes_back_with_the_next_pod() {
    sandboxed(|| {
        let one = Netns::new("one");
        let attached = network().add(&one);
        let before = of_names(&rules());
        assert!(!before.is_empty());
        Node.run("ip addr del 169.254.0.2/32 dev br0");
        Node.run("nft flush ruleset");
        // It is the node's trouble and not this pod's.
        attached.check();
        network().add(&Netns::new("two")).check();
        assert_eq!(addresses(), ["10.1.2.1/24", "169.254.0.2/32"]);
        assert_eq!(of_names(&rules()), before);
    });
}

/// On the network of the tests of host ports, whose bridge has the address, too.
fn pod(id: &str) -> Pod {
    Pod::with_keys(id, &json!({"nodeDns": DNS}))
}

/// By TCP and by UDP: whose token comes back.
fn ask(from: &impl Place, at: IpAddr) -> [String; 2] {
    [ask_tcp(from, (at, 53)), ask_udp(from, (at, 53))]
        .map(|said| said.unwrap_or_else(|error| panic!("{at}: {error}")).token)
}

#[test]
fn a_pod_with_port_53_of_the_node_gets_what_is_sent_elsewhere() {
    sandboxed(|| {
        let world = lab::world();
        let (pihole, client) = (pod("pihole"), pod("client"));
        pihole.portmap("ADD", ports(&[("tcp", 53, 53), ("udp", 53, 53)])).succeed();
        lab::serve_tcp(&pihole.netns, pihole.at(false, 53), "pihole");
        lab::serve_udp(&pihole.netns, pihole.at(false, 53), "pihole");
        for at in [dns(), gateway()] {
            lab::serve_tcp(&Node, (at, 53), "node");
            lab::serve_udp(&Node, (at, 53), "node");
        }
        for at in [dns(), gateway()] {
            assert_eq!(ask(&client.netns, at), ["node", "node"], "from a pod to {at}");
            assert_eq!(ask(&Node, at), ["node", "node"], "from the node to {at}");
        }
        assert_eq!(ask(&world, NODE), ["pihole", "pihole"]);
        assert_eq!(ask(&Node, NODE), ["pihole", "pihole"]);
        let flows = Node.run("conntrack -L");
        assert!(flows.contains("dport=53 "), "those to the pod are tracked: {flows}");
        let asked = |at: &str| {
            flows.lines().any(|flow| flow.contains(&format!("dst={at} ")) && flow.contains("dport=53 "))
        };
        assert!(!asked(DNS) && !asked(GATEWAY), "{flows}");
    });
}

#[test]
fn neighbours_beyond_an_uplink_neither_learn_of_it_nor_reach_it() {
    sandboxed(|| {
        let world = lab::world();
        let client = pod("client");
        lab::serve_udp(&Node, (dns(), 53), "node");
        assert_eq!(ask_udp(&client.netns, (dns(), 53)).unwrap().token, "node");
        // A neighbour of 169.254/16, who asks by ARP.
        world.run("ip addr add 169.254.7.7/16 dev world0");
        assert!(!ping(&world, DNS));
        let neighbour = world.run(&format!("ip neigh show {DNS}"));
        assert!(!neighbour.contains("lladdr"), "{neighbour}");
        // Somebody who sends it here all the same.
        world.run("ip addr del 169.254.7.7/16 dev world0");
        world.run(&format!("ip route add {DNS}/32 via {NODE}"));
        ask_udp(&world, (dns(), 53)).expect_err("nobody answers");
        assert!(ping(&world, NODE.to_string()), "the way itself is there");
        assert_eq!(ask_udp(&client.netns, (dns(), 53)).unwrap().token, "node");
    });
}
