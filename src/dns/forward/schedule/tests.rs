use super::*;

const MS: fn(u64) -> Duration = Duration::from_millis;

fn up(last: u8) -> Upstream {
    format!("192.0.2.{last}").parse().unwrap()
}

fn order(lasts: &[u8], at_once: usize) -> Order {
    let choice = |last: &u8| Choice { upstream: up(*last), edns: true };
    Order { servers: lasts.iter().map(choice).collect(), at_once }
}

fn schedule(lasts: &[u8]) -> Schedule {
    Schedule::new(order(lasts, 1), Wishes::default(), MS(0), MS(0))
}

fn ask(last: u8, edns: bool, again: bool) -> Step {
    Step::Ask { upstream: up(last), edns, again }
}

fn reason(schedule: Schedule) -> (u8, Option<Reason>) {
    let answer = schedule.verdict();
    (answer.rcode, answer.reason)
}

#[test]
fn silence_passes_the_question_on() {
    let mut it = schedule(&[1, 2]);
    assert_eq!(it.next(MS(0)), ask(1, true, false));
    assert_eq!(it.next(MS(0)), Step::Wait(MS(800)));
    assert_eq!(it.overdue(MS(799)), []);
    assert_eq!(it.overdue(MS(800)), [up(1)]);
    assert_eq!(it.overdue(MS(801)), [], "said once");
    assert_eq!(it.next(MS(800)), ask(2, true, false));
    assert_eq!(it.next(MS(1600)), ask(1, false, true), "EDNS may be what is lost");
    for at in [2400, 3200, 4000] {
        assert!(matches!(it.next(MS(at)), Step::Ask { .. }), "{at}");
    }
    it.overdue(MS(4700));
    assert_eq!(it.next(MS(4700)), Step::Wait(MS(4000) + TURN), "enough was asked");
    it.overdue(MS(4900));
    assert_eq!(it.next(MS(4900)), Step::Wait(LIFE), "an answer may still come");
    assert_eq!(it.next(LIFE), Step::Over);
    assert_eq!(reason(it), (SERVFAIL, Some(Reason::NO_REACHABLE)));
}

#[test]
fn a_server_that_is_alone_is_asked_again() {
    let mut it = schedule(&[1]);
    assert_eq!(it.next(MS(0)), ask(1, true, false));
    assert_eq!(it.next(MS(799)), Step::Wait(MS(800)));
    assert_eq!(it.next(MS(800)), ask(1, false, true));
    assert_eq!(it.next(MS(1600)), ask(1, false, true));
    it.overdue(MS(2400));
    assert_eq!(it.next(MS(2400)), Step::Wait(LIFE));
    let mut signed =
        Schedule::new(order(&[1], 1), Wishes { dnssec: true, ..Wishes::default() }, MS(0), MS(0));
    signed.next(MS(0));
    assert_eq!(signed.next(MS(800)), ask(1, true, true), "without EDNS there are no signatures");
}

#[test]
fn refusals_pass_the_question_on_at_once() {
    for failure in
        [Failure::Refused(None), Failure::Wrong, Failure::NoRoute, Failure::Local, Failure::Cut(None)]
    {
        let mut it = schedule(&[1, 2]);
        it.next(MS(0));
        it.failed(&up(1), failure.clone(), MS(5));
        assert_eq!(it.next(MS(5)), ask(2, true, false), "{failure:?}");
        it.failed(&up(2), failure.clone(), MS(9));
        assert_eq!(it.next(MS(9)), Step::Over, "{failure:?}");
        let said = if failure == Failure::NoRoute { Reason::NETWORK } else { Reason::NO_REACHABLE };
        assert_eq!(reason(it), (SERVFAIL, Some(said)), "{failure:?}");
    }
    assert_eq!(schedule(&[]).next(MS(0)), Step::Over);
    assert_eq!(reason(schedule(&[])), (SERVFAIL, Some(Reason::NO_REACHABLE)));
}

#[test]
fn what_an_upstream_says_about_its_failure_is_passed_on() {
    let mut it = schedule(&[1, 2]);
    it.next(MS(0));
    it.failed(&up(1), Failure::Refused(Some(Reason(6))), MS(5));
    it.next(MS(5));
    it.failed(&up(2), Failure::Refused(None), MS(6));
    assert_eq!(reason(it), (SERVFAIL, Some(Reason(6))));
    let mut it = schedule(&[1]);
    it.next(MS(0));
    let partial = Answer { truncated: true, rcode: 0, ..Answer::failure(0, Reason(0)) };
    it.failed(&up(1), Failure::Cut(Some(partial.clone())), MS(5));
    assert_eq!(it.next(MS(5)), Step::Over);
    assert_eq!(it.verdict(), partial);
}

#[test]
fn who_does_not_listen_is_given_time() {
    let mut it = schedule(&[1]);
    it.next(MS(0));
    it.failed(&up(1), Failure::Closed, MS(1));
    assert_eq!(it.next(MS(1)), Step::Wait(MS(800)));
    assert_eq!(it.next(MS(800)), ask(1, false, true));
    let mut it = schedule(&[1, 2]);
    it.next(MS(0));
    it.failed(&up(1), Failure::Closed, MS(1));
    assert_eq!(it.next(MS(1)), ask(2, true, false));
    it.failed(&up(2), Failure::Closed, MS(2));
    assert_eq!(it.next(MS(2)), Step::Wait(MS(801)));
}

#[test]
fn servers_from_before_edns_are_asked_without_it_at_once() {
    let mut it = schedule(&[1, 2]);
    it.next(MS(0));
    it.failed(&up(1), Failure::OnlyPlain, MS(5));
    assert_eq!(it.next(MS(5)), ask(1, false, false));
    it.failed(&up(1), Failure::OnlyPlain, MS(6));
    assert_eq!(it.next(MS(6)), ask(2, true, false), "it says so of a message without");
}

#[test]
fn a_way_that_was_there_a_moment_ago_is_waited_for() {
    let mut it = Schedule::new(order(&[1], 1), Wishes::default(), MS(0), MS(1500));
    it.next(MS(0));
    it.failed(&up(1), Failure::NoRoute, MS(0));
    assert_eq!(it.next(MS(0)), Step::Wait(MS(1500)));
    it.changed(order(&[1], 1), MS(300));
    assert_eq!(it.next(MS(300)), ask(1, false, true));
    it.failed(&up(1), Failure::NoRoute, MS(300));
    assert_eq!(it.next(MS(1500)), Step::Over);
    let mut none = Schedule::new(order(&[], 0), Wishes::default(), MS(0), MS(1500));
    assert_eq!(none.next(MS(0)), Step::Wait(MS(1500)));
    none.changed(order(&[1], 1), MS(300));
    assert_eq!(none.next(MS(300)), ask(1, true, false));
}

#[test]
fn another_uplink_is_asked_at_once() {
    let mut it = schedule(&[1]);
    it.next(MS(0));
    it.changed(order(&[2], 1), MS(100));
    assert_eq!(it.next(MS(100)), ask(2, true, false));
    assert_eq!(it.next(MS(100)), Step::Wait(MS(900)));
    it.changed(order(&[2], 1), MS(200));
    assert_eq!(it.next(MS(200)), Step::Wait(MS(900)), "nobody new");
    it.changed(order(&[2, 3], 2), MS(300));
    assert_eq!(it.next(MS(300)), ask(3, true, false));
}

#[test]
fn who_may_be_back_is_asked_beside_the_first() {
    let mut it = Schedule::new(order(&[1, 2, 3], 2), Wishes::default(), MS(0), MS(0));
    assert_eq!(it.next(MS(0)), ask(1, true, false));
    assert_eq!(it.next(MS(0)), ask(2, true, false));
    assert_eq!(it.next(MS(0)), Step::Wait(MS(800)));
    it.failed(&up(2), Failure::NoRoute, MS(1));
    assert_eq!(it.overdue(MS(800)), [up(1)]);
    assert_eq!(it.next(MS(800)), ask(3, true, false));
}
