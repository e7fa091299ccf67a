use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::log::entry::Failure;

fn stamp(uptime: i64, severity: Level) -> Stamp {
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    Stamp { time: time(1_790_000_000, 7_999_999), uptime: time(uptime, 250_000_000), severity }
}

fn add() -> Entry {
    Entry {
        plugin: "bridge",
        verb: "ADD".into(),
        network: "smartnet".into(),
        container: "0a1b2c3d4e5f60718293".into(),
        interface: "eth0".into(),
        pod: "default/web-0".into(),
        addresses: vec!["172.38.0.2/16".into()],
        ..Entry::default()
    }
}

fn measured() -> Measured {
    let us = Duration::from_micros;
    Measured {
        total: us(2310),
        stages: vec![("lease", us(410)), ("apply", us(1002))],
        steps: vec![("node: ip link set br0 up".into(), us(31))],
        warnings: vec!["say \"so\"".into()],
    }
}

#[test]
fn a_line_has_this_shape() {
    assert_eq!(
        render(&add(), &measured(), &stamp(12, Level::Warn)),
        "{\"time\":1790000000.007,\"uptime\":12.250,\"level\":\"warn\",\"plugin\":\"bridge\",\"verb\":\"ADD\",\
         \"network\":\"smartnet\",\"container\":\"0a1b2c3d4e5f60718293\",\"interface\":\"eth0\",\
         \"pod\":\"default/web-0\",\"addresses\":[\"172.38.0.2/16\"],\"result\":\"ok\",\
         \"warnings\":[\"say \\\"so\\\"\"],\"ms\":2.310,\"steps\":[[\"lease\",0.410],[\"apply\",1.002]],\
         \"trace\":[[\"node: ip link set br0 up\",0.031]]}\n"
    );
    let failure = Failure { code: Some(11), msg: "no".into(), details: "wait".into() };
    let failed = Entry {
        failure: Some(failure),
        ..Entry { plugin: "portmap", verb: "DEL".into(), ..Entry::default() }
    };
    let bare = render(&failed, &Measured::default(), &stamp(12, Level::Error));
    assert_eq!(
        bare,
        "{\"time\":1790000000.007,\"uptime\":12.250,\"level\":\"error\",\"plugin\":\"portmap\",\"verb\":\"DEL\",\
         \"result\":\"failed\",\"code\":11,\"msg\":\"no\",\"details\":\"wait\",\"ms\":0.000}\n"
    );
}

#[test]
fn what_is_too_long_is_cut_and_counted() {
    let long = "\u{1}".repeat(LONGEST + 1);
    let failure = Failure { code: Some(u32::MAX), msg: long.clone(), details: long.clone() };
    let entry = Entry {
        verb: long.clone(),
        network: long.clone(),
        container: long.clone(),
        interface: long.clone(),
        pod: long.clone(),
        addresses: vec![long.clone(); 100],
        changes: vec![long.clone(); 100],
        failure: Some(failure),
        ..add()
    };
    let laps = vec![("stage", Duration::MAX); 64];
    let measured = Measured {
        total: Duration::MAX,
        stages: laps,
        steps: vec![("step ".repeat(40), Duration::from_micros(1)); 500],
        warnings: vec![long; 32],
    };
    let line = render(&entry, &measured, &stamp(i64::MAX, Level::Error));
    assert!(line.len() <= LONGEST, "{}", line.len());
    let read: Value = serde_json::from_str(&line).unwrap();
    assert!(read["msg"].as_str().unwrap().ends_with('…'));
    let last = read["trace"].as_array().unwrap().last().unwrap().as_str().unwrap().to_owned();
    assert!(last.starts_with("… and ") && last.ends_with(" more"), "{last}");
    assert!(sentence(&entry, &measured).len() <= SENTENCE);
}

proptest! {
    #[test]
    fn every_line_is_one_valid_object_of_bounded_length(
        text in "(?s).{0,3000}",
        warnings in proptest::collection::vec("(?s).{0,300}", 0..40),
    ) {
        let failure = Failure { code: None, msg: text.clone(), details: text.clone() };
        let entry = Entry { network: text.clone(), changes: warnings.clone(), failure: Some(failure), ..add() };
        let steps = warnings.iter().map(|words| (words.clone(), Duration::ZERO)).collect();
        let measured = Measured { steps, warnings, ..Measured::default() };
        let line = render(&entry, &measured, &stamp(1, Level::Error));
        prop_assert!(line.len() <= LONGEST);
        prop_assert_eq!(line.matches('\n').count(), 1);
        let read: Value = serde_json::from_str(&line).unwrap();
        prop_assert_eq!(&read["verb"], "ADD");
        if text.len() < 300 && !text.is_empty() {
            prop_assert_eq!(&read["msg"], &json!(text));
        }
        let sentence = sentence(&entry, &measured);
        prop_assert!(sentence.len() <= SENTENCE && !sentence.contains(char::is_control));
    }
}

#[test]
fn the_same_words_are_known_for_ten_minutes() {
    let failing = |msg: &str| Entry {
        plugin: "bridge",
        verb: "STATUS".into(),
        failure: Some(Failure { msg: msg.into(), ..Failure::default() }),
        ..Entry::default()
    };
    let line = |msg: &str, uptime| render(&failing(msg), &measured(), &stamp(uptime, Level::Error));
    let other =
        Measured { total: Duration::from_secs(1), warnings: measured().warnings, ..Measured::default() };
    let later = |uptime| render(&failing("full"), &other, &stamp(uptime, Level::Error));
    let tail = format!("{}{}", line("full", 100), line("empty", 100));
    assert!(is_known(&tail, &later(101)) && is_known(&tail, &later(699)));
    assert!(!is_known(&tail, &later(700)), "it lasts, and that is news");
    assert!(!is_known(&tail, &later(99)), "of another boot");
    assert!(!is_known(&tail, &line("broken", 101)));
    assert!(!is_known(&line("full", 100)[60..], &later(101)), "a line without its beginning is no line");
    let forged = line("\",\"ms\":", 100);
    assert!(
        !is_known(&forged, &line("\",\"ms\":1", 101)),
        "a message is not mistaken for the end of the words"
    );
}

#[test]
fn a_person_reads_a_sentence() {
    assert_eq!(
        sentence(&add(), &measured()),
        "bridge ADD smartnet default/web-0 eth0 172.38.0.2/16: ok in 2.310 ms"
    );
    let failure = Failure { code: Some(999), msg: "no\nroom".into(), details: "make some".into() };
    let failed = Entry { pod: String::new(), failure: Some(failure), addresses: Vec::new(), ..add() };
    assert_eq!(
        sentence(&failed, &measured()),
        "bridge ADD smartnet 0a1b2c3d4e5f eth0 failed with code 999: no room; make some"
    );
    let done = Entry::of_command("reconcile", vec!["a".into(), "b".into()], &[]).unwrap();
    assert_eq!(sentence(&done, &measured()), "reconcile: ok in 2.310 ms; did: a; b");
}
