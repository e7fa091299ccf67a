use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::forward::answer::{Age, NXDOMAIN, Reason, SERVFAIL};
use super::super::forward::question::{Client, Group, Wishes};
use super::super::forward::reply::{Asked, Verdict, judge};
use super::super::forward::sample::{self, ASKED, Message, question, record, soa};
use super::*;

const T: fn(u64) -> Duration = Duration::from_secs;
const DAYS: Duration = Duration::from_hours(72);

fn key(name: &str) -> Key {
    Key::new(Group::Uplink, Wishes::default(), &question(name, sample::A))
}

/// As an upstream sends it, with a text of so many bytes beside the address.
fn answer(name: &str, ttl: u32, padding: usize) -> Rc<Answer> {
    let text: Vec<u8> = std::iter::once(u8::try_from(padding).unwrap()).chain(vec![b'x'; padding]).collect();
    let reply = Message {
        answer: vec![record(ASKED, sample::A, ttl, &[192, 0, 2, 1]), record(ASKED, sample::TXT, ttl, &text)],
        ..Message::reply(0, question(name, sample::A), 0)
    };
    judged(&reply)
}

fn judged(reply: &Message) -> Rc<Answer> {
    let asked = Asked { id: reply.id, question: &reply.question, edns: true, dnssec: false };
    match judge(&reply.wire(), &asked) {
        Verdict::Answer(answer) => Rc::new(answer),
        other => panic!("{other:?}"),
    }
}

fn failure() -> Rc<Answer> {
    Rc::new(Answer::failure(SERVFAIL, Reason::NO_REACHABLE))
}

fn cache() -> Cache {
    Cache::new(1 << 20, DAYS)
}

#[test]
fn an_answer_ages_and_expires() {
    let mut cache = cache();
    let (key, kept) = (key("web.example"), answer("web.example", 60, 0));
    assert_eq!(cache.look(&key, T(100)), Found::Nothing);
    cache.keep(&key, kept.clone(), T(100));
    assert_eq!(cache.look(&key, T(100)), Found::Fresh(kept.clone(), 0));
    assert_eq!(cache.look(&key, T(159)), Found::Fresh(kept.clone(), 59));
    assert_eq!(cache.look(&key, T(160)), Found::Stale { answer: kept.clone(), due: true });
    let last = T(159) + DAYS;
    assert_eq!(cache.look(&key, last), Found::Stale { answer: kept, due: true });
    assert_eq!(cache.look(&key, T(160) + DAYS), Found::Nothing);
}

#[test]
fn what_has_expired_is_asked_for_every_five_seconds() {
    let mut cache = cache();
    let (key, kept) = (key("web.example"), answer("web.example", 60, 0));
    cache.keep(&key, kept.clone(), T(0));
    let due = |cache: &mut Cache, now| match cache.look(&key, T(now)) {
        Found::Stale { due, .. } => due,
        other => panic!("{other:?}"),
    };
    assert!(due(&mut cache, 60));
    cache.tried(&key, T(60));
    cache.fail(&key, failure(), T(62));
    assert!(!due(&mut cache, 64));
    assert!(due(&mut cache, 65));
    cache.tried(&key, T(65));
    assert!(!due(&mut cache, 66));
    cache.forget_failures();
    assert!(due(&mut cache, 66), "another uplink is worth a try");
    let next = answer("web.example", 30, 0);
    cache.keep(&key, next.clone(), T(70));
    assert_eq!(cache.look(&key, T(71)), Found::Fresh(next, 1));
}

#[test]
fn a_failure_is_remembered_for_a_second() {
    let mut cache = cache();
    let key = key("web.example");
    cache.fail(&key, failure(), T(10));
    assert_eq!(cache.look(&key, T(10)), Found::Fresh(failure(), 0));
    assert_eq!(cache.look(&key, T(11)), Found::Nothing);
    cache.fail(&key, failure(), T(20));
    cache.forget_failures();
    assert_eq!(cache.look(&key, T(20)), Found::Nothing, "another uplink may know it");
    let kept = answer("web.example", 60, 0);
    cache.keep(&key, kept.clone(), T(20));
    cache.fail(&key, failure(), T(21));
    assert_eq!(cache.look(&key, T(21)), Found::Fresh(kept, 1));
}

#[test]
fn what_must_not_be_kept_ends_what_was() {
    let mut cache = cache();
    let key = key("web.example");
    cache.keep(&key, answer("web.example", 60, 0), T(0));
    cache.keep(&key, answer("web.example", 0, 0), T(70));
    assert_eq!(cache.look(&key, T(70)), Found::Nothing);
    assert_eq!((cache.len(), cache.hand.len()), (1, 1));
    cache.keep(&key, answer("web.example", 60, 0), T(80));
    assert_eq!((cache.len(), cache.hand.len()), (1, 1));
}

#[test]
fn without_stale_answers_the_end_is_the_end() {
    let mut cache = Cache::new(1 << 20, Duration::ZERO);
    cache.keep(&key("a"), answer("a", 60, 0), T(0));
    assert_eq!(cache.look(&key("a"), T(60)), Found::Nothing);
}

#[test]
fn what_is_asked_for_stays_when_there_is_no_room() {
    let one = size(&key("n000.example"), &answer("n000.example", 600, 100));
    let mut cache = Cache::new(one * 20, DAYS);
    let name = |n: u32| format!("n{n:03}.example");
    for n in 0..200 {
        cache.keep(&key(&name(n)), answer(&name(n), 600, 100), T(0));
        assert!(cache.bytes() <= one * 20 && cache.len() <= 20);
        if n > 0 {
            assert_ne!(cache.look(&key(&name(1)), T(1)), Found::Nothing, "{n}");
        }
    }
    assert_eq!((cache.len(), cache.hand.len(), cache.bytes()), (20, 20, one * 20));
    assert_eq!(cache.look(&key(&name(5)), T(1)), Found::Nothing);
    // Failures have no second chance.
    for n in 0..200 {
        cache.fail(&key(&format!("f{n:03}.example")), failure(), T(1));
        cache.look(&key(&format!("f{n:03}.example")), T(1));
        assert_ne!(cache.look(&key(&name(1)), T(1)), Found::Nothing, "{n}");
    }
}

#[test]
fn one_answer_does_not_drive_out_the_others() {
    let mut cache = Cache::new(4096, DAYS);
    cache.keep(&key("a"), answer("a", 60, 0), T(0));
    let before = cache.bytes();
    cache.keep(&key("b"), answer("b", 60, 200), T(0));
    assert_eq!((cache.look(&key("b"), T(1)), cache.bytes(), before), (Found::Nothing, 0, 0));
    let mut cache = Cache::new(16 * 512, DAYS);
    cache.keep(&key("a"), answer("a", 60, 0), T(0));
    cache.keep(&key("a"), answer("a", 60, 250), T(1));
    assert_eq!(cache.look(&key("a"), T(1)), Found::Nothing, "it is not what it was");
}

#[test]
fn a_client_reads_what_an_upstream_said() {
    let kept = answer("web.example", 60, 0);
    let asked = question("wEb.Example", sample::A);
    let client = |dnssec, edns| Client {
        id: 0x1234,
        recursion: true,
        question: &asked,
        wishes: Wishes { dnssec, ..Wishes::default() },
        edns,
    };
    let text = record(ASKED, sample::TXT, 50, &[0]);
    let mut want = Message {
        answer: vec![record(ASKED, sample::A, 50, &[192, 0, 2, 1]), text.clone()],
        ..Message::reply(0x1234, asked.clone(), 0)
    };
    assert_eq!(kept.message(&client(false, false), Age::Seconds(10)), want.wire());
    want.additional = vec![sample::opt(true, None)];
    assert_eq!(kept.message(&client(true, true), Age::Seconds(10)), want.wire());
    want.answer = vec![record(ASKED, sample::A, 30, &[192, 0, 2, 1]), record(ASKED, sample::TXT, 30, &[0])];
    want.additional = vec![sample::opt(false, Some(3))];
    assert_eq!(kept.message(&client(false, true), Age::Stale), want.wire());
}

#[test]
fn a_cache_is_handed_over() {
    let mut old = cache();
    old.keep(&key("web.example"), answer("web.example", 60, 0), T(1000));
    old.keep(&key("old.example"), answer("old.example", 30, 10), T(1000));
    let absent = Message {
        authority: vec![soa("example", 60, 60)],
        ..Message::reply(0, question("no.example", 1), NXDOMAIN)
    };
    old.keep(&key("no.example"), judged(&absent), T(1010));
    old.fail(&key("failed.example"), failure(), T(1039));
    old.keep(&key("spent.example"), answer("spent.example", 60, 0), T(0));
    old.keep(&key("spent.example"), answer("spent.example", 0, 0), T(0));
    let bytes = old.export(T(1040));

    let mut new = cache();
    // A moment later, by a clock of its own.
    new.import(&bytes, T(9040));
    assert_eq!(new.look(&key("web.example"), T(9040)), Found::Fresh(answer("web.example", 60, 0), 40));
    assert_eq!(new.look(&key("no.example"), T(9069)), Found::Fresh(judged(&absent), 59));
    let stale = Found::Stale { answer: answer("old.example", 30, 10), due: true };
    assert_eq!(new.look(&key("old.example"), T(9040)), stale);
    assert_eq!(new.len(), 3);
    assert_eq!(new.export(T(9040)), bytes);

    // What the new one has asked for itself is newer.
    let newer = answer("web.example", 77, 1);
    let mut ahead = cache();
    ahead.keep(&key("web.example"), newer.clone(), T(9040));
    ahead.import(&bytes, T(9040));
    assert_eq!(ahead.look(&key("web.example"), T(9041)), Found::Fresh(newer, 1));
    // A node that has just booted knows nothing that is older than itself.
    let mut young = cache();
    young.import(&bytes, T(20));
    assert_eq!(young.len(), 0);
}

#[test]
fn nothing_is_taken_over_that_no_upstream_could_have_said() {
    let mut old = cache();
    old.keep(&key("web.example"), answer("web.example", 60, 0), T(1000));
    let bytes = old.export(T(1000));
    let taken = |bytes: &[u8]| {
        let mut new = cache();
        new.import(bytes, T(1000));
        new.len()
    };
    assert_eq!(taken(&bytes), 1);
    assert_eq!(taken(b""), 0);
    for length in 0..bytes.len() {
        assert_eq!(taken(&bytes[..length]), 0, "{length}");
    }
    // Behind the form stand bits, age, and the length of the question.
    let question = b"smarter-cni dns cache 1\n".len() + 6;
    for length in 0..=u8::MAX {
        let mut other = bytes.clone();
        other[question] = length;
        assert_eq!(taken(&other), usize::from(bytes[question] == length), "{length}");
    }
    let mut other = bytes.clone();
    other[0] ^= 1;
    assert_eq!(taken(&other), 0, "another form");
}

/// What the cache should say, kept without any bound and looked through one by one.
#[derive(Default)]
struct Reference(BTreeMap<String, (Rc<Answer>, u64, bool)>);

impl Reference {
    fn look(&self, name: &str, now: u64) -> Option<(Rc<Answer>, bool)> {
        let (answer, stored, failed) = self.0.get(name)?;
        let age = now - stored;
        let life = if *failed { 1 } else { u64::from(answer.lifetime?) };
        if *failed && age >= life {
            return None;
        }
        (age < life + DAYS.as_secs()).then(|| (answer.clone(), age < life))
    }
}

proptest! {
    #[test]
    fn it_says_what_was_said_or_nothing(
        steps in proptest::collection::vec((0_u8..3, 0_u32..12, 0_u32..4, 0_u64..200_000, 0_usize..250), 1..60),
        most in 4_000_usize..40_000,
    ) {
        let mut cache = Cache::new(most, DAYS);
        let mut reference = Reference::default();
        let mut now = 0;
        for (step, n, ttl, pause, padding) in steps {
            now += if pause > 100 { pause } else { 0 };
            let name = format!("n{n}.example");
            let ttl = [0, 1, 60, 86_400][ttl as usize];
            match step {
                0 => {
                    let answer = answer(&name, ttl, padding);
                    cache.keep(&key(&name), answer.clone(), T(now));
                    reference.0.insert(name.clone(), (answer, now, false));
                }
                1 => {
                    let known = !matches!(cache.look(&key(&name), T(now)), Found::Nothing);
                    cache.fail(&key(&name), failure(), T(now));
                    if !known {
                        reference.0.insert(name.clone(), (failure(), now, true));
                    }
                }
                _ => {}
            }
            prop_assert!(cache.bytes() <= most);
            let sum: usize = cache.entries.iter().map(|(key, entry)| size(key, &entry.answer)).sum();
            prop_assert_eq!(cache.bytes(), sum);
            prop_assert_eq!(cache.hand.len(), cache.entries.len());
            for n in 0..12 {
                let name = format!("n{n}.example");
                let want = reference.look(&name, now);
                match cache.look(&key(&name), T(now)) {
                    Found::Nothing => {}
                    Found::Fresh(answer, _) => prop_assert_eq!(Some((answer, true)), want),
                    Found::Stale { answer, .. } => prop_assert_eq!(Some((answer, false)), want),
                }
            }
        }
    }

    #[test]
    fn no_predecessor_is_too_strange(at in 0_usize..400, value in any::<u8>(), tail in proptest::collection::vec(any::<u8>(), 0..60)) {
        let mut old = cache();
        old.keep(&key("web.example"), answer("web.example", 60, 0), T(1000));
        old.keep(&key("www.example"), answer("www.example", 60, 0), T(1000));
        let mut bytes = old.export(T(1000));
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.extend(tail);
        let mut new = cache();
        new.import(&bytes, T(2_000_000));
        prop_assert!(new.len() <= 3);
    }
}
