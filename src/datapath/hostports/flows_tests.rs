use super::*;

const OWN: [&str; 3] = ["127.0.0.1", "192.0.2.1", "2001:db8::1"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mapping(host_ip: Option<&str>, host_port: u16) -> Mapping {
    let (pod, host_ip) = (ip("10.7.0.2"), host_ip.map(ip));
    Mapping { protocol: Protocol::Udp, host_ip, host_port, pod, pod_port: 53 }
}

fn places(changed: &[(Mapping, Turn)]) -> Vec<Question> {
    let groups = Stale(changed.to_vec()).groups();
    let ports = &groups[&(Family::V4, 17)];
    by_place(&Question::all(Family::V4, Some(17)), ports, &OWN.map(ip), true)
}

#[test]
fn as_many_questions_for_a_thousand_ports_as_for_one() {
    let many: Vec<_> = (1000..2000).map(|port| (mapping(None, port), Turn::Opens)).collect();
    assert_eq!(places(&many), places(&many[..1]));
    // To and from both addresses of the family, and whatever the node asks itself.
    assert_eq!(places(&many).len(), 5);
    let many: Vec<_> = (1000..2000).map(|port| (mapping(None, port), Turn::Closes)).collect();
    assert_eq!(places(&many).len(), 2);
}

#[test]
fn what_is_left_to_others_is_what_was_to_be_done() {
    let changed = [
        (mapping(None, 8053), Turn::Opens),
        (Mapping { protocol: Protocol::Sctp, ..mapping(Some("192.0.2.7"), 8054) }, Turn::Closes),
    ];
    let left = Stale(changed.to_vec()).into_owed();
    assert_eq!(Stale::from_owed(&left).0, changed);
    let of_later = [Port { protocol: 99, ..left[0].clone() }];
    assert!(Stale::from_owed(&of_later).is_empty());
}

#[test]
fn a_port_on_one_address_asks_for_that_address() {
    let questions = places(&[(mapping(Some("192.0.2.7"), 53), Turn::Opens)]);
    assert_eq!(questions.len(), 2);
    assert!(
        questions
            .iter()
            .all(|question| [question.original.dst, question.original.src].contains(&Some(ip("192.0.2.7"))))
    );
}

#[test]
fn a_flow_leaves_when_any_of_the_ports_leaves_it() {
    let changed = [(mapping(None, 8053), Turn::Opens), (mapping(Some("192.0.2.7"), 8054), Turn::Opens)];
    let groups = Stale(changed.to_vec()).groups();
    let ports = &groups[&(Family::V4, 17)];
    let client = (ip("198.51.100.9"), 4000);
    let to = |address: &str, port: u16| {
        let to = (ip(address), port);
        leaves(ports, &Ends { from: client, to, answer_from: to, answer_to: client }, &OWN.map(ip))
    };
    assert!(to("192.0.2.1", 8053) && to("127.0.0.9", 8053) && to("192.0.2.7", 8054));
    assert!(!to("192.0.2.1", 8054) && !to("192.0.2.1", 8055) && !to("192.0.2.9", 8053));
}
