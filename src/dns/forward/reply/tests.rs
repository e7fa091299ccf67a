use proptest::prelude::*;

use super::super::answer::Age;
use super::super::question::Client;
use super::super::sample::{self, ASKED, Message as Sample, name, opt, question, record, soa};
use super::*;

const ADDRESS: &[u8] = &[192, 0, 2, 1];

fn web() -> Vec<u8> {
    question("web.example", sample::A)
}

fn plain(question: &[u8]) -> Asked<'_> {
    Asked { id: 7, question, edns: true, dnssec: false }
}

fn reply(answer: Vec<Vec<u8>>) -> Sample {
    Sample { answer, additional: vec![opt(false, None)], ..Sample::reply(7, web(), 0) }
}

fn judged(sample: &Sample) -> Verdict {
    judge(&sample.wire(), &plain(&web()))
}

fn answer(sample: &Sample) -> Answer {
    match judged(sample) {
        Verdict::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn address(ttl: u32) -> Vec<u8> {
    record(ASKED, sample::A, ttl, ADDRESS)
}

#[test]
fn an_answer_is_kept_for_the_shortest_of_its_times() {
    let got = answer(&reply(vec![address(300), address(60), address(0xffff_ffff)]));
    assert_eq!((got.answers, got.lifetime), (3, None), "the highest bit makes it zero");
    let got = answer(&reply(vec![address(300), address(60)]));
    assert_eq!((got.answers, got.authorities, got.lifetime, got.rcode), (2, 0, Some(60), 0));
    assert_eq!(&*got.body, [address(300), address(60)].concat());
    assert_eq!(&*got.ttls, [6, 22]);
    assert_eq!(answer(&reply(vec![address(u32::MAX / 2)])).lifetime, Some(86_400));
    assert_eq!(answer(&reply(vec![address(0)])).lifetime, None);
}

#[test]
fn what_does_not_answer_our_question_is_passed_over() {
    let good = reply(vec![address(60)]);
    assert!(matches!(judged(&good), Verdict::Answer(_)));
    let other = |change: fn(&mut Sample)| {
        let mut sample = good.clone();
        change(&mut sample);
        judged(&sample)
    };
    assert_eq!(other(|sample| sample.id = 8), Verdict::Foreign);
    assert_eq!(other(|sample| sample.flags[0] = 0x01), Verdict::Foreign);
    assert_eq!(other(|sample| sample.flags[0] = 0xa1), Verdict::Foreign);
    assert_eq!(other(|sample| sample.question = question("wob.example", sample::A)), Verdict::Foreign);
    assert_eq!(other(|sample| sample.question = question("web.example", sample::AAAA)), Verdict::Foreign);
    assert_eq!(other(|sample| sample.question = Vec::new()), Verdict::Foreign);
    assert!(matches!(
        other(|sample| sample.question = question("WEB.Example", sample::A)),
        Verdict::Answer(_)
    ));
    // Type 65 is not type 97, though letters are.
    let https = Sample { question: question("web.example", 97), ..good.clone() };
    assert_eq!(judge(&https.wire(), &plain(&question("web.example", 65))), Verdict::Foreign);
    let mut two = good.wire();
    two[5] = 2;
    assert_eq!(judge(&two, &plain(&web())), Verdict::Foreign);
}

#[test]
fn what_answers_more_than_was_asked_is_not_taken() {
    let wrong = Verdict::Wrong("answers what was not asked");
    let bank = record(&name("bank.example"), sample::A, 60, ADDRESS);
    assert_eq!(judged(&reply(vec![address(60), bank.clone()])), wrong);
    assert_eq!(judged(&reply(vec![bank.clone()])), wrong);
    let alias = record(ASKED, sample::CNAME, 60, &name("cdn.example"));
    assert_eq!(judged(&reply(vec![alias.clone(), bank.clone()])), wrong);
    let dname = record(&name("other"), sample::DNAME, 60, &name("example"));
    assert_eq!(judged(&reply(vec![dname, address(60)])), wrong);
    // Elsewhere it is left out.
    let beside = Sample {
        authority: vec![record(&name("bank.example"), sample::NS, 60, &name("ns.thief"))],
        additional: vec![bank, opt(false, None)],
        ..reply(vec![address(60)])
    };
    assert_eq!(answer(&beside), answer(&reply(vec![address(60)])));
}

#[test]
fn aliases_are_followed_in_any_order() {
    let first = record(ASKED, sample::CNAME, 300, &name("a.cdn"));
    let second = record(&name("A.cdn"), sample::CNAME, 200, &name("b.cdn"));
    let last = record(&name("b.CDN"), sample::A, 100, ADDRESS);
    for records in [[&first, &second, &last], [&last, &second, &first], [&second, &last, &first]] {
        assert_eq!(answer(&reply(records.map(Clone::clone).to_vec())).lifetime, Some(100));
    }
    let above = record(&name("example"), sample::DNAME, 50, &name("cdn"));
    let made = record(ASKED, sample::CNAME, 50, &name("web.cdn"));
    let last = record(&name("web.cdn"), sample::A, 100, ADDRESS);
    assert_eq!(answer(&reply(vec![above, made, last])).lifetime, Some(50));
    // A circle ends.
    let circle = record(&name("a.cdn"), sample::CNAME, 60, ASKED);
    assert_eq!(answer(&reply(vec![first, circle])).lifetime, None);
}

#[test]
fn absence_is_believed_for_five_minutes_at_most() {
    let absent = |rcode, authority| Sample { authority, ..Sample::reply(7, web(), rcode) };
    let (nodata, nxdomain) = (0, NXDOMAIN);
    for rcode in [nodata, nxdomain] {
        for (ttl, minimum, lifetime) in
            [(3600, 60, Some(60)), (30, 60, Some(30)), (86_400, 86_400, Some(300)), (60, 0, None)]
        {
            let got = answer(&absent(rcode, vec![soa("example", ttl, minimum)]));
            assert_eq!((got.lifetime, got.rcode, got.authorities), (lifetime, rcode, 1), "{ttl} {minimum}");
        }
        assert_eq!(answer(&absent(rcode, vec![])).lifetime, None, "without SOA");
        // A zone that has nothing to say about the name.
        let got = answer(&absent(rcode, vec![soa("elsewhere", 60, 60)]));
        assert_eq!((got.lifetime, got.authorities), (None, 0));
        assert_eq!(answer(&absent(rcode, vec![soa("", 60, 60)])).lifetime, Some(60), "the root's");
    }
    // The absence of what the name is an alias for.
    let alias = record(ASKED, sample::CNAME, 20, &name("web.cdn"));
    let got = |zone| Sample { answer: vec![alias.clone()], ..absent(nxdomain, vec![soa(zone, 60, 60)]) };
    assert_eq!(answer(&got("cdn")).lifetime, Some(20));
    assert_eq!(answer(&got("example")).lifetime, None);
}

#[test]
fn signatures_stay_where_they_were_asked_for() {
    let question = web();
    let signature = |owner: &[u8]| record(owner, sample::RRSIG, 60, &[0; 40]);
    let denial = record(&name("a.example"), sample::NSEC, 50, &name("z.example"));
    let sample = Sample {
        answer: vec![address(60), signature(ASKED)],
        authority: vec![denial.clone(), signature(&name("a.example"))],
        additional: vec![opt(true, None)],
        flags: [0x81, 0xa0],
        ..Sample::reply(7, question.clone(), 0)
    };
    let asked = Asked { dnssec: true, ..plain(&question) };
    let Verdict::Answer(got) = judge(&sample.wire(), &asked) else { panic!("no answer") };
    assert_eq!((got.answers, got.authorities, got.lifetime, got.authentic), (2, 2, Some(50), true));
    let Verdict::Answer(got) = judge(&sample.wire(), &plain(&question)) else { panic!("no answer") };
    assert_eq!((got.answers, got.authorities, got.lifetime), (2, 0, Some(60)));
}

#[test]
fn refusals_are_told_apart() {
    let of = |rcode| Sample::reply(7, web(), rcode);
    assert_eq!(judged(&of(2)), Verdict::Refused(2, None));
    assert_eq!(judged(&of(5)), Verdict::Refused(5, None));
    let said = Sample { additional: vec![opt(false, Some(6))], ..of(2) };
    assert_eq!(judged(&said), Verdict::Refused(2, Some(Reason(6))));
    // A server from before EDNS.
    assert_eq!(judged(&of(1)), Verdict::OnlyPlain);
    assert_eq!(judged(&of(4)), Verdict::OnlyPlain);
    assert_eq!(judged(&Sample { question: Vec::new(), ..of(1) }), Verdict::OnlyPlain);
    assert_eq!(judge(&of(1).wire(), &Asked { edns: false, ..plain(&web()) }), Verdict::Refused(1, None));
    // BADVERS is 16: the upper bits of it stand in OPT.
    let mut version = opt(false, None);
    version[5] = 1;
    assert_eq!(judged(&Sample { additional: vec![version], ..of(0) }), Verdict::OnlyPlain);
    // A server that only knows who might know.
    let referral =
        Sample { authority: vec![record(&name("example"), sample::NS, 60, &name("ns.example"))], ..of(0) };
    assert_eq!(judged(&referral), Verdict::Refused(0, None));
}

#[test]
fn what_was_cut_is_known_as_such() {
    let mut sample = reply(vec![address(60)]);
    sample.flags[0] |= 0x02;
    let Verdict::Truncated(Some(got)) = judged(&sample) else { panic!("not truncated") };
    assert_eq!((got.answers, got.lifetime, got.truncated), (1, None, true));
    let mut cut = sample.wire();
    cut.truncate(cut.len() - 20);
    assert_eq!(judge(&cut, &plain(&web())), Verdict::Truncated(None));
    cut[2] &= !0x02;
    assert_eq!(judge(&cut, &plain(&web())), Verdict::Wrong("cannot be read"));
}

#[test]
fn data_that_no_client_could_read_is_not_passed_on() {
    for (kind, data) in [
        (sample::A, vec![192, 0, 2]),
        (sample::A, vec![192, 0, 2, 1, 1]),
        (sample::AAAA, vec![0; 4]),
        (sample::CNAME, vec![0xc0, 0xff]),
        (sample::NS, vec![5, b'a']),
        (sample::SOA, name("a")),
        (15, vec![0]),
        (33, vec![0; 6]),
        (12, vec![0x80, 1]),
    ] {
        let verdict = judged(&reply(vec![record(ASKED, kind, 60, &data)]));
        assert_eq!(verdict, Verdict::Wrong("cannot be read"), "{kind}");
    }
    let mut class = address(60);
    class[5] = 3;
    assert_eq!(judged(&reply(vec![class])), Verdict::Wrong("cannot be read"));
}

proptest! {
    #[test]
    fn nothing_that_comes_is_too_strange(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
        right in any::<bool>(),
        counts in proptest::array::uniform6(0_u8..4),
    ) {
        let question = web();
        if right && bytes.len() > 40 {
            bytes[..4].copy_from_slice(&[0, 7, 0x81, 0x80]);
            bytes[4..12].copy_from_slice(&[0, 1, 0, counts[0], 0, counts[1], 0, counts[2]]);
            bytes[12..12 + question.len()].copy_from_slice(&question);
        }
        let _ = judge(&bytes, &plain(&question));
    }

    /// One byte of a real message differs: what is still taken can be said again, and is judged the same.
    #[test]
    fn what_is_taken_is_taken_again(at in 0_usize..200, value in any::<u8>(), dnssec in any::<bool>()) {
        let question = web();
        let sample = Sample {
            authority: vec![record(&name("a.example"), sample::NSEC, 50, &name("z.example"))],
            ..reply(vec![
                record(ASKED, sample::CNAME, 300, &name("a.cdn")),
                record(&name("a.cdn"), sample::A, 100, ADDRESS),
            ])
        };
        let mut wire = sample.wire();
        let at = at % wire.len();
        wire[at] = value;
        let asked = Asked { dnssec, ..plain(&question) };
        if let Verdict::Answer(answer) = judge(&wire, &asked) {
            let wishes = crate::dns::forward::question::Wishes { dnssec, ..Default::default() };
            let client = Client { id: 7, recursion: true, question: &question, wishes, edns: false };
            let again = answer.message(&client, Age::Seconds(0));
            let Verdict::Answer(second) = judge(&again, &Asked { edns: false, ..asked }) else {
                panic!("{again:?}");
            };
            prop_assert_eq!((second.answers, second.authorities, second.lifetime), (answer.answers, answer.authorities, answer.lifetime));
            prop_assert_eq!(second.ttls, answer.ttls);
        }
    }
}
