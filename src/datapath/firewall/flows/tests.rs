//! Rule sets as `iptables -S` prints them, and which flows of a pod end in them.

use std::rc::Rc;

use super::*;
use crate::datapath::firewall::legacy;

fn ends(last: u8) -> Ends {
    let pod =
        |last: u8| Pod { address: [10, 7, 0, last].into(), port: format!("veth{last}").parse().unwrap() };
    Ends {
        pod: pod(last),
        sibling: Some(pod(last + 1)),
        bridge: "smartnet0".parse().unwrap(),
        gateway: "smartnet0".parse().unwrap(),
        gateway_address: Some([10, 7, 0, 1].into()),
        name_server: None,
        led_to: None,
        uplink: Some("up0".parse().unwrap()),
        bridged: true,
        host_ports: true,
    }
}

fn base(point: Point, priority: i32, chain: &str, listing: &str) -> Base {
    let (chains, dropping) = legacy::parse_table(listing);
    Base {
        layer: Layer::Network,
        point,
        family: Some(Family::V4),
        devices: Vec::new(),
        priority,
        translates: false,
        policy_drops: dropping.contains(chain),
        owner: Owner::Legacy(Family::V4, "filter".to_owned()),
        chain: chain.to_owned(),
        chains: Rc::new(chains),
    }
}

fn blocked(bases: &[Base], last: u8) -> Vec<(Flow, Heading)> {
    let mut found: Vec<_> =
        travel(bases, &ends(last)).blocked.iter().map(|blocked| (blocked.flow, blocked.heading)).collect();
    found.sort_unstable();
    found.dedup();
    found
}

use Flow::{NodeToPod, PodToNode, PodToPod, PodToUplink, UplinkToPod};
use Heading::{Original, Reply};

#[test]
fn without_rules_everything_gets_through() {
    assert!(blocked(&[], 2).is_empty());
    let listing =
        "-P INPUT ACCEPT\n-A INPUT -s 203.0.113.9/32 -j DROP\n-A INPUT -p tcp -m tcp --dport 25 -j DROP\n";
    assert!(blocked(&[base(Point::Input, 0, "INPUT", listing)], 2).is_empty());
}

#[test]
fn an_input_that_drops_by_default_loses_questions_and_answers() {
    let input = |listing| base(Point::Input, 0, "INPUT", listing);
    let all = input("-P INPUT DROP\n-A INPUT -i lo -j ACCEPT\n");
    assert_eq!(blocked(&[all], 2), [(PodToNode, Original), (NodeToPod, Reply)]);
    let answers = "-P INPUT DROP\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    let found = travel(&[input(answers)], &ends(2)).blocked;
    assert_eq!(found.iter().map(|b| (b.flow, b.partly)).collect::<Vec<_>>(), [(PodToNode, false)]);
    // Who lets pods in by name for some ports has decided.
    let named = format!("{answers}-A INPUT -s 10.7.0.0/24 -p tcp -m tcp --dport 6443 -j ACCEPT\n");
    assert!(
        travel(&[input(&named)], &ends(2))
            .blocked
            .iter()
            .all(|blocked| blocked.partly || blocked.flow == PodToNode)
    );
}

#[test]
fn an_output_that_drops_by_default_loses_probes() {
    let listing = "-P OUTPUT DROP\n-A OUTPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    assert_eq!(blocked(&[base(Point::Output, 0, "OUTPUT", listing)], 2), [(NodeToPod, Original)]);
}

#[test]
fn what_is_marked_early_is_dropped_late_and_routed_by_its_mark() {
    let early = "-P PREROUTING ACCEPT\n-A PREROUTING -i smartnet0 -j MARK --set-xmark 0x7/0xffffffff\n";
    let late = "-P FORWARD ACCEPT\n-A FORWARD -o up0 -m mark --mark 0x7 -j DROP\n";
    let bases =
        [base(Point::Prerouting, -150, "PREROUTING", early), base(Point::Forward, 0, "FORWARD", late)];
    assert_eq!(blocked(&bases, 2), [(PodToUplink, Original), (UplinkToPod, Reply)]);
    let marks = travel(&bases, &ends(2)).marks;
    assert!(marks.contains(&(PodToUplink, Some(7))) && marks.contains(&(UplinkToPod, Some(0))), "{marks:?}");
}

#[test]
fn in_front_of_connection_tracking_nothing_has_a_state() {
    let raw = "-P PREROUTING ACCEPT\n-A PREROUTING -i up0 -m conntrack --ctstate INVALID -j DROP\n";
    let found = blocked(&[base(Point::Prerouting, -300, "PREROUTING", raw)], 2);
    assert_eq!(found, [(PodToUplink, Reply), (UplinkToPod, Original)]);
    assert!(blocked(&[base(Point::Prerouting, -150, "PREROUTING", raw)], 2).is_empty());
}

#[test]
fn pods_that_a_rule_names_are_told_apart() {
    let listing =
        "-P FORWARD ACCEPT\n-A FORWARD -s 10.7.0.3/32 -j DROP\n-A FORWARD -s 198.51.100.0/24 -j DROP\n";
    let bases = [base(Point::Forward, 0, "FORWARD", listing)];
    let pods: Vec<_> = (2..7).map(ends).collect();
    assert_eq!(alike(&bases, &pods), [vec![0, 2, 3, 4], vec![1]]);
    assert_eq!(blocked(&bases, 3), [(PodToPod, Original), (PodToUplink, Original), (UplinkToPod, Reply)]);
    // What another pod is refused does not concern this one.
    assert!(blocked(&bases, 4).is_empty());
}

#[test]
fn what_only_packets_know_is_a_doubt() {
    let listing = "-P FORWARD ACCEPT\n-A FORWARD -m bpf --bytecode 1 -j DROP\n";
    let found = travel(&[base(Point::Forward, 0, "FORWARD", listing)], &ends(2));
    assert!(found.blocked.is_empty() && !found.doubts.is_empty());
}

#[test]
fn names_are_lost_where_their_port_is_dropped_or_nothing_accepts_it() {
    let asking = || Ends { name_server: Some([169, 254, 0, 2].into()), ..ends(2) };
    let lost = |listing: &str| {
        let bases = [base(Point::Input, 0, "INPUT", listing)];
        let blocked = travel(&bases, &asking()).blocked;
        let names = blocked.iter().filter(|blocked| blocked.flow == Flow::PodToNames && !blocked.partly);
        names.map(|blocked| blocked.heading).collect::<Vec<_>>()
    };
    let accept = |rule: &str| format!("-A INPUT -i smartnet0 {rule} -j ACCEPT\n");
    assert_eq!(lost("-P INPUT ACCEPT\n-A INPUT -i smartnet0 -p udp -m udp --dport 53 -j DROP\n"), [Original]);
    assert_eq!(lost("-P INPUT ACCEPT\n-A INPUT -p udp -m udp --dport 1:1023 -j REJECT\n"), [Original]);
    assert_eq!(lost("-P INPUT ACCEPT\n-A INPUT -p udp -m udp --dport 5353 -j DROP\n"), []);
    let closed = "-P INPUT DROP\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n";
    let api = accept("-p tcp -m tcp --dport 6443");
    assert_eq!(lost(&format!("{closed}{api}")), [Original]);
    let new = accept("-m conntrack --ctstate NEW");
    assert_eq!(lost(&format!("{closed}{new}")), [Original], "they are of no connection");
    let both = ["udp", "tcp"].map(|kind| accept(&format!("-p {kind} -m {kind} --dport 53"))).concat();
    assert_eq!(lost(&format!("{closed}{both}")), []);
    let tcp = accept("-p tcp -m multiport --dports 53,443");
    assert_eq!(lost(&format!("{closed}{tcp}")), [Original], "over UDP");
    let several = accept("-p udp -m multiport --dports 53,67") + &accept("-p tcp -m multiport --dports 53");
    assert_eq!(lost(&format!("{closed}{several}")), [], "who names several may mean these");
    assert_eq!(lost(&format!("{closed}{}", accept(""))), []);
}
