//! Plans as text: what is missing, who is refused, what goes.

use super::plan::{
    Ends, Found, Have, Holder, PodLink, Remains, TableHave, Turn, is_stale, plan, plan_removal,
};
use super::{Entry, HostPorts, Limits, Mapping, Owner, Protocol};
use crate::net::Family;

fn mapping(protocol: Protocol, host_ip: Option<&str>, host_port: u16, pod: &str) -> Mapping {
    let host_ip = host_ip.map(|ip| ip.parse().unwrap());
    Mapping { protocol, host_ip, host_port, pod: pod.parse().unwrap(), pod_port: 80 }
}

fn web() -> HostPorts {
    HostPorts {
        owner: Owner { container: "c1".into(), pod: Some("shop/web".into()) },
        mappings: vec![mapping(Protocol::Tcp, None, 8080, "10.1.2.5")],
        pods: vec!["10.1.2.5/24".parse().unwrap()],
        snat: true,
        masq_all: false,
        limits: Limits::default(),
    }
}

/// A node that has had mappings before, and none like the wanted ones.
fn used(elements: Vec<Found>) -> Have {
    let table =
        TableHave { family: Family::V4, base: true, siblings: true, limits: true, pod_link: true, elements };
    let link = PodLink { name: "cni0".parse().unwrap(), route_localnet: true };
    Have { tables: vec![table], pod_link: Some(link) }
}

fn found(entry: Entry, comment: &str, holder: Holder) -> Found {
    Found { entry, comment: comment.to_owned(), holder }
}

fn text(want: &HostPorts, have: &Have) -> String {
    match plan(want, have) {
        Ok(steps) => steps.iter().map(|step| format!("{step}\n").replace("node: nft ", "")).collect(),
        Err(conflict) => conflict.to_string(),
    }
}

/// What the wanted mappings find after they were made.
fn made(want: &HostPorts) -> Vec<Found> {
    let entries = super::plan::entries(want, Family::V4).into_iter();
    entries.map(|(entry, comment)| found(entry, &comment, Holder::Ours)).collect()
}

#[test]
fn the_first_mapping_of_a_node_brings_the_tables() {
    let have = Have {
        tables: vec![TableHave {
            family: Family::V4,
            base: false,
            siblings: false,
            limits: true,
            pod_link: false,
            elements: vec![],
        }],
        pod_link: Some(PodLink { name: "cni0".parse().unwrap(), route_localnet: false }),
    };
    assert_eq!(
        text(&web(), &have),
        "-f - (table ip smarter-cni: chains and maps of host ports)\n\
         add rule ip smarter-cni postrouting ct status dnat ip saddr 10.1.2.0/24 ip daddr 10.1.2.0/24 ip daddr \
         @local_clients masquerade\n\
         add element ip smarter-cni pod_links { cni0 }\n\
         node: sysctl -w net.ipv4.conf.cni0.route_localnet=1\n\
         add element ip smarter-cni hostports { tcp . 8080 : 10.1.2.5 . 80 }\n\
         add element ip smarter-cni local_clients { 10.1.2.5 }\n\
         add element ip smarter-cni hairpin { 10.1.2.5 . 10.1.2.5 }\n"
    );
}

#[test]
fn what_is_there_needs_nothing() {
    assert_eq!(text(&web(), &used(made(&web()))), "");
    let at = HostPorts {
        mappings: vec![mapping(Protocol::Tcp, Some("192.0.2.1"), 8080, "10.1.2.5")],
        masq_all: true,
        ..web()
    };
    assert_eq!(text(&at, &used(made(&at))), "");
}

#[test]
fn without_snat_no_client_is_masqueraded_and_127_0_0_1_stays_at_home() {
    let mut have = used(vec![]);
    have.pod_link.as_mut().unwrap().route_localnet = false;
    assert_eq!(
        text(&HostPorts { snat: false, masq_all: true, ..web() }, &have),
        "add element ip smarter-cni hostports { tcp . 8080 : 10.1.2.5 . 80 }\n"
    );
}

#[test]
fn udp_and_sctp_flows_are_forgotten_when_the_port_changes_hands() {
    let want = HostPorts {
        mappings: vec![
            mapping(Protocol::Udp, None, 53, "10.1.2.5"),
            mapping(Protocol::Sctp, Some("192.0.2.1"), 53, "10.1.2.5"),
            mapping(Protocol::Tcp, None, 53, "10.1.2.5"),
        ],
        snat: false,
        ..web()
    };
    assert_eq!(
        text(&want, &used(vec![])),
        "add element ip smarter-cni hostports { udp . 53 : 10.1.2.5 . 80 }\n\
         add element ip smarter-cni hostports_at { 192.0.2.1 . sctp . 53 : 10.1.2.5 . 80 }\n\
         add element ip smarter-cni hostports_at_ports { sctp . 53 }\n\
         add element ip smarter-cni hostports { tcp . 53 : 10.1.2.5 . 80 }\n\
         node: conntrack -D -f ipv4 -p udp --orig-port-dst 53\n\
         node: conntrack -D -f ipv4 -p sctp --orig-port-dst 53 --orig-dst 192.0.2.1\n"
    );
    assert_eq!(
        plan_removal(&Remains {
            elements: vec![Entry::Port(want.mappings[2])],
            mappings: vec![want.mappings[0], want.mappings[2]],
        })
        .iter()
        .fold(String::new(), |text, step| text + &format!("{step}\n")),
        "node: nft delete element ip smarter-cni hostports { tcp . 53 : 10.1.2.5 . 80 }\n\
         node: conntrack -D -f ipv4 -p udp --orig-port-dst 53\n"
    );
}

#[test]
fn a_port_of_another_pod_is_refused_where_addresses_and_protocols_meet() {
    let (any, one, other) = (None, Some("192.0.2.1"), Some("192.0.2.9"));
    for (wanted, theirs, protocol, refused) in [
        (any, any, Protocol::Tcp, true),
        (any, one, Protocol::Tcp, true),
        (one, any, Protocol::Tcp, true),
        (one, one, Protocol::Tcp, true),
        (one, other, Protocol::Tcp, false),
        (any, any, Protocol::Udp, false),
        (any, one, Protocol::Udp, false),
    ] {
        let want = HostPorts { mappings: vec![mapping(Protocol::Tcp, wanted, 8080, "10.1.2.5")], ..web() };
        let theirs = mapping(protocol, theirs, 8080, "10.1.2.9");
        let have = used(vec![found(Entry::Port(theirs), "shop/old c9", Holder::Alive)]);
        assert_eq!(plan(&want, &have).is_err(), refused, "{wanted:?} {theirs:?}");
    }
    let theirs = mapping(Protocol::Tcp, None, 8080, "10.1.2.9");
    assert_eq!(
        text(&web(), &used(vec![found(Entry::Port(theirs), "shop/old c9", Holder::Alive)])),
        "hostPort 8080/tcp already used by pod shop/old"
    );
}

#[test]
fn what_the_dead_left_is_replaced() {
    let dead = mapping(Protocol::Tcp, None, 8080, "10.1.2.9");
    let at = mapping(Protocol::Tcp, Some("192.0.2.1"), 8080, "10.1.2.8");
    let have = used(vec![
        found(Entry::Port(dead), "shop/old c9", Holder::Dead),
        found(Entry::Port(at), "c8", Holder::Dead),
        found(Entry::PortAt(Family::V4, Protocol::Tcp, 8080), "", Holder::Ours),
        found(Entry::Limited("limit_1".into(), dead), "shop/old c9", Holder::Ours),
        found(Entry::LocalClients("10.1.2.5".parse().unwrap()), "shop/before c7", Holder::Ours),
    ]);
    assert_eq!(
        text(&HostPorts { snat: true, ..web() }, &have),
        "delete element ip smarter-cni hostports { tcp . 8080 : 10.1.2.9 . 80 }\n\
         delete element ip smarter-cni hostports_at { 192.0.2.1 . tcp . 8080 : 10.1.2.8 . 80 }\n\
         delete element ip smarter-cni limit_1 { tcp . 8080 }\n\
         delete element ip smarter-cni local_clients { 10.1.2.5 }\n\
         delete element ip smarter-cni hostports_at_ports { tcp . 8080 }\n\
         add element ip smarter-cni hostports { tcp . 8080 : 10.1.2.5 . 80 }\n\
         add element ip smarter-cni local_clients { 10.1.2.5 }\n\
         add element ip smarter-cni hairpin { 10.1.2.5 . 10.1.2.5 }\n"
    );
}

#[test]
fn the_first_network_of_a_container_keeps_the_port() {
    let theirs = mapping(Protocol::Tcp, None, 8080, "10.7.7.7");
    let have = used(vec![found(Entry::Port(theirs), "shop/web c1", Holder::SameContainer)]);
    assert_eq!(
        text(&HostPorts { snat: false, ..web() }, &have),
        "",
        "neither removed nor added a second time"
    );
}

#[test]
fn a_flow_is_stale_when_it_would_stay_with_the_former_holder() {
    let any = mapping(Protocol::Udp, None, 53, "10.1.2.5");
    let at = mapping(Protocol::Udp, Some("192.0.2.1"), 53, "10.1.2.5");
    let local = |ip: std::net::IpAddr| ip.to_string().starts_with("192.0.2.");
    let client = ("198.51.100.9", 40_000);
    let node = ("192.0.2.7", 53);
    let pod = ("10.1.2.5", 80);
    let before = ("10.1.2.9", 80);
    let elsewhere = ("198.51.100.1", 53);
    for (mapping, from, to, answer_from, answer_to, opens, closes) in [
        (any, client, node, node, client, true, false),
        (any, client, node, before, client, true, false),
        (any, client, node, pod, client, false, true),
        // The address was the node's when the flow began.
        (any, client, elsewhere, pod, client, false, true),
        (any, client, elsewhere, elsewhere, client, false, false),
        (any, client, ("192.0.2.7", 54), ("192.0.2.7", 54), client, false, false),
        (any, client, ("10.1.2.5", 53), ("10.1.2.5", 53), client, false, false),
        // Answers that came too late to belong to a flow.
        (any, node, client, client, node, true, false),
        (any, pod, client, client, node, false, true),
        (any, ("10.1.2.9", 7777), client, client, node, false, false),
        (any, elsewhere, client, client, elsewhere, false, false),
        (at, client, ("192.0.2.1", 53), ("192.0.2.1", 53), client, true, false),
        (at, client, node, node, client, false, false),
    ] {
        let end = |(ip, port): (&str, u16)| (ip.parse().unwrap(), port);
        let flow =
            Ends { from: end(from), to: end(to), answer_from: end(answer_from), answer_to: end(answer_to) };
        assert_eq!(is_stale(&mapping, Turn::Opens, &flow, local), opens, "{flow:?}");
        assert_eq!(is_stale(&mapping, Turn::Closes, &flow, local), closes, "{flow:?}");
    }
}
