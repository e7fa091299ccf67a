//! What fuzz targets reach of this room: messages, names, the zone.

use std::net::IpAddr;
use std::time::Duration;

use super::cache::Cache;
use super::forward::reply::{Asked, judge};
use super::message::{self, DATAGRAM, Query, Told};
use super::name::{Label, Name};
use super::upstreams::resolv_conf;
use super::zone::{Contents, Look, Pod, Zone};

/// A client's message. Whatever is answered is a message of the same number, and fits.
pub fn question(bytes: &[u8]) {
    let zone = zone();
    let query = match Query::parse(bytes) {
        Ok(query) => query,
        Err(fault) => return message::bare(bytes, fault).iter().for_each(|answer| is_answer(answer, bytes)),
    };
    if let Some(why) = query.refused() {
        return message::refusal(&query, why).iter().for_each(|answer| is_answer(answer, bytes));
    }
    let limit = query.datagram();
    assert!((512..=DATAGRAM).contains(&limit));
    let told = Told { authority: zone.authority(), serial: 1, ttl: 5 };
    for turn in 0..2 {
        if let Look::Local(answer) = zone.look(query.name(), query.kind(), [10, 77, 0, 7].into(), turn) {
            let answer = message::local(&query, &answer, &told, limit, Vec::new());
            assert!(answer.len() <= limit && answer.get(..2) == bytes.get(..2), "{answer:?}");
            let answer = domain::base::Message::from_octets(answer).expect("our own answer");
            assert!(answer.iter().all(|record| record.is_ok()), "{answer:?}");
        }
    }
}

fn is_answer(answer: &[u8], question: &[u8]) {
    assert!(answer.len() >= 12 && answer.get(..2) == question.get(..2), "{answer:?}");
}

/// An answer of somebody else, on its way to a client with little room.
pub fn answer(bytes: &[u8]) {
    for limit in [512, DATAGRAM] {
        let mut cut = bytes.to_vec();
        message::cut(&mut cut, limit);
        assert!(cut.len() <= limit, "{} bytes", cut.len());
    }
}

/// What an upstream says to a question of ours, and what a predecessor hands over. What is taken is taken again when it is
/// handed over once more.
pub fn upstream(bytes: &[u8]) {
    let question = bytes.get(12..).and_then(|rest| {
        let name = rest.iter().position(|byte| *byte == 0)?;
        rest.get(..name + 5)
    });
    if let Some(question) = question {
        let id = u16::from_be_bytes([bytes[0], bytes[1]]);
        for (edns, dnssec) in [(false, false), (true, false), (true, true)] {
            let _ = judge(bytes, &Asked { id, question, edns, dnssec });
        }
    }
    let now = Duration::from_hours(1000);
    let mut first = Cache::new(1 << 20, Duration::from_hours(72));
    first.import(bytes, now);
    let exported = first.export(now);
    let mut second = Cache::new(1 << 20, Duration::from_hours(72));
    second.import(&exported, now);
    assert_eq!(second.export(now), exported);
    let _ = resolv_conf(&String::from_utf8_lossy(bytes));
}

fn zone() -> Zone {
    let label = |text: &str| Label::parse(text).expect("a label");
    let pod = |at: u8| Pod {
        namespace: Some(label("a")),
        hosts: vec![label("b"), label("c")],
        subdomain: Some(label("d")),
        addresses: vec![
            IpAddr::from([10, 77, 0, at]),
            IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, u16::from(at)]),
        ],
    };
    Zone::build(&Contents {
        domain: Name::parse("cluster.local").expect("a name"),
        server: [169, 254, 0, 2].into(),
        gateways: Vec::new(),
        pods: (1..60).map(pod).collect(),
        host_pods: Vec::new(),
        hosts: Vec::new(),
        ranges: vec!["10.77.0.0/24".parse().expect("a range"), "fd77::/64".parse().expect("a range")],
        forwards_single_labels: false,
        has_cluster_upstream: false,
    })
}
