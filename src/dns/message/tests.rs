use domain::base::{MessageBuilder, Name as WireName};
use proptest::prelude::*;

use super::super::name::{Label, Name};
use super::super::zone::{Contents, Look, Pod, Zone};
use super::*;

/// A question, with what `edit` does to the OPT record if it has one.
fn question(name: &str, kind: Rtype, edns: Option<(u16, u8, bool)>) -> Vec<u8> {
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_id(0x1234);
    builder.header_mut().set_rd(true);
    let mut questions = builder.question();
    questions.push((name.parse::<WireName<Vec<u8>>>().unwrap(), kind)).unwrap();
    let mut additional = questions.additional();
    if let Some((size, version, dnssec_ok)) = edns {
        additional
            .opt(|opt| {
                opt.set_udp_payload_size(size);
                opt.set_version(version);
                opt.set_dnssec_ok(dnssec_ok);
                Ok(())
            })
            .unwrap();
    }
    additional.finish()
}

fn zone(pods: usize) -> Zone {
    let pod = |at: usize| Pod {
        namespace: Label::parse("ns1"),
        hosts: vec![Label::parse("many").unwrap()],
        subdomain: None,
        addresses: vec![IpAddr::from([
            10,
            77,
            u8::try_from(at >> 8).unwrap(),
            u8::try_from(at & 255).unwrap(),
        ])],
    };
    Zone::build(&Contents {
        domain: Name::parse("cluster.local").unwrap(),
        server: [169, 254, 0, 2].into(),
        gateways: Vec::new(),
        host_pods: Vec::new(),
        pods: (1..=pods).map(pod).collect(),
        hosts: Vec::new(),
        ranges: vec!["10.77.0.0/16".parse().unwrap()],
        forwards_single_labels: false,
        has_cluster_upstream: false,
    })
}

use std::net::IpAddr;

/// What a server does with a message; `None` is silence, an empty answer that it is for somebody else.
fn answered(zone: &Zone, packet: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
    let query = match Query::parse(packet) {
        Ok(query) => query,
        Err(fault) => return bare(packet, fault),
    };
    if let Some(why) = query.refused() {
        return refusal(&query, why);
    }
    let limit = if over_tcp { STREAM } else { query.datagram() };
    let told = Told { authority: zone.authority(), serial: 7, ttl: 5 };
    Some(match zone.look(query.name(), query.kind(), [10, 77, 0, 1].into(), 0) {
        Look::Local(answer) => local(&query, &answer, &told, limit, vec![1, 2, 3]),
        _ => Vec::new(),
    })
}

fn read(answer: &[u8]) -> &Message<[u8]> {
    Message::from_slice(answer).unwrap()
}

fn count(answer: &[u8]) -> [u16; 4] {
    let counts = read(answer).header_counts();
    [counts.qdcount(), counts.ancount(), counts.nscount(), counts.arcount()]
}

#[test]
fn the_question_comes_back_as_it_was() {
    let zone = zone(1);
    let packet = question("MaNy.Ns1.sVc.ClusteR.LocaL", Rtype::A, None);
    let answer = answered(&zone, &packet, false).unwrap();
    assert_eq!(answer[12..packet.len()], packet[12..]);
    let header = read(&answer).header();
    assert!(
        header.qr() && header.aa() && header.rd() && header.ra() && !header.tc() && header.id() == 0x1234
    );
    assert_eq!((header.rcode(), count(&answer)), (Rcode::NOERROR, [1, 1, 0, 0]));
    let record = read(&answer).answer().unwrap().next().unwrap().unwrap();
    assert_eq!((record.ttl().as_secs(), record.class()), (5, Class::IN));
    // A pointer to the question, type, class, TTL, length, address.
    assert_eq!(answer.len(), packet.len() + 16);
}

#[test]
fn news_that_there_is_nothing_has_its_zone_and_its_time() {
    let zone = zone(1);
    for (name, kind, rcode) in [
        ("nosuch.ns1.svc.cluster.local", Rtype::A, Rcode::NXDOMAIN),
        ("many.ns1.svc.cluster.local", Rtype::AAAA, Rcode::NOERROR),
        ("nosuch", Rtype::A, Rcode::NXDOMAIN),
    ] {
        let answer = answered(&zone, &question(name, kind, None), false).unwrap();
        assert_eq!((read(&answer).header().rcode(), count(&answer)), (rcode, [1, 0, 1, 0]), "{name}");
        let soa = read(&answer).authority().unwrap().next().unwrap().unwrap();
        let owner = if name == "nosuch" { "" } else { "cluster.local" };
        assert_eq!(
            (soa.rtype(), soa.ttl().as_secs(), soa.owner().to_string().as_str()),
            (Rtype::SOA, 5, owner)
        );
        let soa = soa.to_record::<domain::rdata::Soa<ParsedName<_>>>().unwrap().unwrap();
        assert!(soa.data().minimum().as_secs() <= 5);
    }
}

#[test]
fn whole_records_are_left_out_and_the_client_is_told() {
    let zone = zone(100);
    let plain = answered(&zone, &question("many", Rtype::A, None), false).unwrap();
    assert!(plain.len() <= 512 && read(&plain).header().tc());
    assert!(count(&plain)[1] >= 28, "{:?}", count(&plain));
    assert!(read(&plain).answer().unwrap().all(|record| record.is_ok()));
    for (size, most) in [(512, 512), (1232, 1232), (4096, 1232), (100, 512)] {
        let answer = answered(&zone, &question("many", Rtype::A, Some((size, 0, false))), false).unwrap();
        assert!(answer.len() <= most && read(&answer).header().tc(), "{size}: {}", answer.len());
        assert_eq!(count(&answer)[3], 1, "{size}: the OPT record stays");
    }
    let whole = answered(&zone, &question("many", Rtype::A, None), true).unwrap();
    assert_eq!((count(&whole), read(&whole).header().tc()), ([1, 100, 0, 0], false));
}

#[test]
fn edns_is_answered_as_the_standard_says() {
    let zone = zone(1);
    let opt = |answer: &[u8]| {
        let record = read(answer).additional().unwrap().next().unwrap().unwrap();
        (record.class().to_int(), record.ttl().as_secs())
    };
    let answer = answered(&zone, &question("many", Rtype::A, Some((4096, 0, true))), false).unwrap();
    assert_eq!((count(&answer), opt(&answer)), ([1, 1, 0, 1], (1232, 0x8000)));
    // BADVERS is 16: its upper bits are in the OPT record, and nothing is answered.
    let answer = answered(&zone, &question("many", Rtype::A, Some((4096, 1, false))), false).unwrap();
    assert_eq!((count(&answer), opt(&answer)), ([1, 0, 0, 1], (1232, 1 << 24)));
    assert_eq!(read(&answer).header().rcode().to_int(), 0);
    // Unknown options and flags say nothing to us.
    let mut strange = question("many", Rtype::A, Some((1232, 0, false)));
    let end = strange.len();
    strange[end - 1] = 6;
    strange[end - 4] |= 0x40;
    strange.extend([0, 100, 0, 2, 1, 2]);
    let answer = answered(&zone, &strange, false).unwrap();
    assert_eq!((count(&answer), opt(&answer)), ([1, 1, 0, 1], (1232, 0)));
    // Two of them, or one of a name, are an error.
    let mut two = question("many", Rtype::A, Some((1232, 0, false)));
    two.extend_from_within(two.len() - 11..);
    two[11] = 2;
    assert_eq!(read(&answered(&zone, &two, false).unwrap()).header().rcode(), Rcode::FORMERR);
}

#[test]
fn what_is_no_question_for_us_is_refused_or_met_with_silence() {
    let zone = zone(1);
    let rcode = |packet: &[u8]| answered(&zone, packet, false).map(|answer| read(&answer).header().rcode());
    let good = question("many", Rtype::A, None);
    let edit = |at: usize, to: u8| {
        let mut packet = good.clone();
        packet[at] = to;
        packet
    };
    assert_eq!(rcode(&edit(2, 0x80)), None, "an answer");
    assert_eq!(rcode(&good[..11]), None, "11 bytes");
    assert_eq!(rcode(&edit(2, 0x78)), Some(Rcode::NOTIMP), "opcode 15");
    assert_eq!(rcode(&edit(2, 0x20)), Some(Rcode::NOTIMP), "NOTIFY");
    assert_eq!(rcode(&edit(5, 0)), Some(Rcode::FORMERR), "no question");
    assert_eq!(rcode(&edit(5, 2)), Some(Rcode::FORMERR), "two questions");
    assert_eq!(rcode(&good[..good.len() - 1]), Some(Rcode::FORMERR), "cut");
    assert_eq!(rcode(&edit(12, 0xc0)), Some(Rcode::FORMERR), "a pointer");
    assert_eq!(rcode(&edit(good.len() - 1, 3)), Some(Rcode::REFUSED), "class CH");
    for kind in [Rtype::AXFR, Rtype::IXFR] {
        assert_eq!(rcode(&question("cluster.local", kind, None)), Some(Rcode::REFUSED), "{kind}");
    }
    // Z and AD are not ours to keep; CD is.
    let answer = answered(&zone, &edit(3, 0x70), false).unwrap();
    assert_eq!(answer[3], 0x90);
}

#[test]
fn answers_of_others_are_cut_at_a_record() {
    let zone = zone(100);
    let packet = question("many", Rtype::A, Some((4096, 0, true)));
    let whole = answered(&zone, &packet, true).unwrap();
    for limit in [512, 600, 1232, whole.len() - 1] {
        let mut answer = whole.clone();
        cut(&mut answer, limit);
        assert!(answer.len() <= limit && answer.len() + 16 > limit, "{limit}: {}", answer.len());
        let [questions, answers, authority, additional] = count(&answer);
        assert_eq!((questions, authority, additional), (1, 0, 1));
        assert!(read(&answer).header().tc());
        assert_eq!(read(&answer).answer().unwrap().flatten().count(), usize::from(answers));
        assert!(read(&answer).opt().unwrap().dnssec_ok());
    }
    let mut same = whole.clone();
    cut(&mut same, whole.len());
    assert_eq!(same, whole);
}

proptest! {
    #[test]
    fn nothing_that_comes_is_too_much(packet in prop::collection::vec(any::<u8>(), 0..300), limit in 0_usize..1300) {
        let zone = zone(1);
        if let Some(answer) = answered(&zone, &packet, false) {
            prop_assert!(answer.is_empty() || (answer.len() >= 12 && answer[2] & 0x80 != 0));
        }
        let mut answer = packet.clone();
        cut(&mut answer, limit);
        prop_assert!(answer.len() <= packet.len().max(limit));
    }

    #[test]
    fn a_spoiled_question_is_answered_like_one(at in 0_usize..60, byte: u8, edns: bool) {
        let zone = zone(3);
        let mut packet = question("many.ns1.svc.cluster.local", Rtype::A, edns.then_some((1232, 0, false)));
        if let Some(place) = packet.get_mut(at) {
            *place = byte;
        }
        if let Some(answer) = answered(&zone, &packet, false).filter(|answer| !answer.is_empty()) {
            prop_assert!(answer.len() <= 512 || edns);
            prop_assert_eq!(&answer[..2], &packet[..2]);
            for section in [read(&answer).answer(), read(&answer).authority()] {
                prop_assert!(section.unwrap().all(|record| record.is_ok()));
            }
        }
    }
}
