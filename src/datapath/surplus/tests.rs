//! What goes and what stays, as text.

use super::*;
use crate::datapath::hostports::Protocol;

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn names(texts: &[&str]) -> BTreeSet<IfName> {
    texts.iter().map(|text| name(text)).collect()
}

fn text(wanted: &Wanted, present: &Present) -> Vec<String> {
    plan(wanted, present).iter().map(ToString::to_string).collect()
}

fn rule(network: &str, subnet: &str) -> MasqueradeRule {
    let subnet = Some(subnet.parse().unwrap());
    MasqueradeRule { family: Family::V4, handle: 7, network: network.into(), subnet, text: "…".into() }
}

#[test]
fn nothing_goes_from_a_node_where_all_is_wanted() {
    let wanted = Wanted {
        addresses: BTreeSet::new(),
        ports: names(&["veth1"]),
        inside: names(&["br0"]),
        masquerade: [("net".to_owned(), "10.1.2.0/24".parse().unwrap())].into(),
        containers: ["c1".to_owned()].into(),
        intercepted: names(&["br0"]),
        unread: Vec::new(),
    };
    let member = |set| Member { family: Family::V4, set, interface: name("br0") };
    let present = Present {
        checked: names(&["veth1"]),
        masquerade: vec![rule("net", "10.1.2.0/24")],
        members: MemberSet::ALL.map(member).to_vec(),
        intercepted: vec![(Family::V4, name("br0"))],
        ..Present::default()
    };
    // The bridge itself is gone: it comes back.
    assert_eq!(text(&wanted, &present), Vec::<String>::new());
    assert_eq!(text(&Wanted::default(), &present).len(), 5, "without attachments all of it is idle");
}

#[test]
fn what_belongs_to_a_network_stays_with_its_bridge() {
    let filter = ChainName { family: Some(Family::V4), table: "filter".into(), chain: "FORWARD".into() };
    let mut present = Present {
        links: names(&["br0", "lo"]),
        gateways: vec!["10.1.2.1/24".parse().unwrap()],
        masquerade: vec![rule("net", "10.1.2.0/24")],
        members: vec![Member { family: Family::V4, set: MemberSet::Clamped, interface: name("br0") }],
        accepts: vec![(filter, name("br0"))],
        ..Present::default()
    };
    assert_eq!(text(&Wanted::default(), &present), Vec::<String>::new());
    (present.links, present.gateways) = (names(&["lo"]), vec![]);
    assert_eq!(
        text(&Wanted::default(), &present),
        [
            "node: nft delete element ip smarter-cni clamped { \"br0\" }",
            "node: nft delete the rules of ip filter FORWARD with the comment \"smarter-cni br0\"",
            "node: nft delete rule ip smarter-cni egress handle 7 (… comment \"net\")",
        ]
    );
}

#[test]
fn the_rule_of_another_network_does_not_keep_this_ones() {
    let wanted = Wanted {
        masquerade: [("other".to_owned(), "10.1.2.0/24".parse().unwrap())].into(),
        ..Wanted::default()
    };
    let present = Present { masquerade: vec![rule("net", "10.1.2.0/24")], ..Present::default() };
    assert_eq!(plan(&wanted, &present).len(), 1);
    let long = "n".repeat(200);
    let wanted =
        Wanted { masquerade: [(long.clone(), "10.1.2.0/24".parse().unwrap())].into(), ..Wanted::default() };
    let shortened = rule(&masquerade_comment(&long), "10.1.2.0/24");
    let present = Present { masquerade: vec![shortened], ..Present::default() };
    assert_eq!(plan(&wanted, &present), vec![], "its name is too long for a comment");
}

#[test]
fn a_rule_that_somebody_put_into_our_chain_stays() {
    let foreign = MasqueradeRule { subnet: None, ..rule("", "0.0.0.0/0") };
    let present = Present { masquerade: vec![foreign], ..Present::default() };
    assert_eq!(plan(&Wanted::default(), &present), vec![]);
}

#[test]
fn elements_of_containers_without_record_go() {
    let mapping = |host_ip: Option<&str>, host_port| Mapping {
        protocol: Protocol::Tcp,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port,
        pod: "10.1.2.5".parse().unwrap(),
        pod_port: 80,
    };
    let at = |port| (Entry::PortAt(Family::V4, Protocol::Tcp, port), String::new());
    let present = Present {
        entries: vec![
            (Entry::Port(mapping(None, 8080)), "shop/web c1".into()),
            (Entry::Port(mapping(None, 8081)), "shop/old c2".into()),
            (Entry::Port(mapping(Some("192.0.2.1"), 53)), "shop/web c1".into()),
            (Entry::Port(mapping(Some("192.0.2.1"), 54)), "c2".into()),
            at(53),
            at(54),
            (Entry::Hairpin("10.1.2.6".parse().unwrap()), "c2".into()),
            (Entry::LocalClients("10.1.2.7".parse().unwrap()), String::new()),
            (Entry::Limited("limit_1".into(), mapping(None, 8081)), "shop/old c2".into()),
        ],
        ..Present::default()
    };
    let wanted = Wanted { containers: ["c1".to_owned()].into(), ..Wanted::default() };
    assert_eq!(
        text(&wanted, &present),
        [
            "node: nft delete element ip smarter-cni hostports { tcp . 8081 : 10.1.2.5 . 80 }",
            "node: nft delete element ip smarter-cni hostports_at { 192.0.2.1 . tcp . 54 : 10.1.2.5 . 80 }",
            "node: nft delete element ip smarter-cni hairpin { 10.1.2.6 . 10.1.2.6 }",
            "node: nft delete element ip smarter-cni limit_1 { tcp . 8081 }",
            "node: nft delete element ip smarter-cni hostports_at_ports { tcp . 54 }",
        ]
    );
}
