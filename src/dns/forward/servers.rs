//! How the upstreams have done lately, and in which order they are asked.
//!
//! One that fails goes behind the others for a while that doubles. Then somebody's question is put to it beside the one
//! that goes to a server which works: whether it is back is found out at no client's expense. Refuses to know what a failure
//! of one question is: a server that says no is alive.
//!
//! Pure.

use std::time::Duration;

use serde::Serialize;

use crate::dns::upstreams::Upstream;

/// How long a server stays behind the others after its first failure, and at most.
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_mins(1);
/// So many questions in a row were answered without EDNS only: a box on the way drops the others.
const ONLY_PLAIN: u8 = 3;

#[derive(Debug, Default)]
pub(crate) struct Servers {
    list: Vec<Server>,
    answered: Option<Duration>,
}

#[derive(Clone, Debug)]
struct Server {
    upstream: Upstream,
    /// Times that it was found not to work, in a row: many questions that fail together are one.
    failures: u32,
    failed: Duration,
    /// Questions in a row that were only answered without EDNS.
    only_plain: u8,
    counters: Counters,
}

/// What was counted since the server was first named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counters {
    pub(crate) asked: u64,
    pub(crate) answered: u64,
    /// No answer in time, or none possible.
    pub(crate) failures: u64,
    /// Said that it does not answer.
    pub(crate) refused: u64,
    /// Answered what was not asked, or what cannot be read.
    pub(crate) wrong: u64,
}

/// Servers in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) servers: Vec<Choice>,
    /// Of these, how many are asked at once.
    pub(crate) at_once: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) upstream: Upstream,
    pub(crate) edns: bool,
}

impl Servers {
    /// Those that stay keep what is known about them. Says whether anything is different.
    pub(crate) fn replace(&mut self, upstreams: &[Upstream]) -> bool {
        if self.list.iter().map(|server| &server.upstream).eq(upstreams) {
            return false;
        }
        let known = std::mem::take(&mut self.list);
        let server = |upstream: &Upstream| {
            let known = known.iter().find(|server| server.upstream == *upstream).cloned();
            known.unwrap_or_else(|| Server {
                upstream: upstream.clone(),
                failures: 0,
                failed: Duration::ZERO,
                only_plain: 0,
                counters: Counters::default(),
            })
        };
        self.list = upstreams.iter().map(server).collect();
        true
    }

    pub(crate) fn upstreams(&self) -> impl Iterator<Item = &Upstream> {
        self.list.iter().map(|server| &server.upstream)
    }

    pub(crate) fn counters(&self) -> impl Iterator<Item = (&Upstream, Counters)> {
        self.list.iter().map(|server| (&server.upstream, server.counters))
    }

    /// The order for one question. A server that was away and may be back is among those asked at once, and only there.
    pub(crate) fn order(&mut self, now: Duration) -> Order {
        let works = self.list.iter().filter(|server| server.failures == 0).map(Server::choice);
        let mut servers: Vec<_> = works.collect();
        let mut at_once = servers.len().min(1);
        let mut failing: Vec<_> = self.list.iter_mut().filter(|server| server.failures > 0).collect();
        failing.sort_by_key(|server| server.failed);
        if let Some(first) = failing.first_mut()
            && at_once > 0
            && now.saturating_sub(first.failed) >= first.pause()
        {
            servers.insert(1, first.choice());
            at_once = 2;
            // One question is enough to find out, and until it is answered the server has failed again.
            first.failed = now;
            first.failures = first.failures.saturating_add(1);
            failing.remove(0);
        }
        servers.extend(failing.iter().map(|server| server.choice()));
        Order { at_once: at_once.max(servers.len().min(1)), servers }
    }

    /// None is left of which an answer can be expected.
    pub(crate) fn is_hopeless(&self) -> bool {
        self.list.iter().all(|server| server.failures > 0)
    }

    /// Whether an upstream has answered within that time.
    pub(crate) fn answered_within(&self, time: Duration, now: Duration) -> bool {
        self.answered.is_some_and(|at| now.saturating_sub(at) < time)
    }

    pub(crate) fn asked(&mut self, upstream: &Upstream) {
        self.change(upstream, |server| server.counters.asked += 1);
    }

    /// It has said something about the question.
    pub(crate) fn answered(&mut self, upstream: &Upstream, edns: bool, again: bool, now: Duration) {
        self.answered = Some(now);
        self.change(upstream, |server| {
            server.failures = 0;
            server.counters.answered += 1;
            match (edns, again) {
                (true, _) => server.only_plain = 0,
                // The same question with EDNS was lost, which may be chance.
                (false, true) => server.only_plain = server.only_plain.saturating_add(1),
                (false, false) => {}
            }
        });
    }

    /// It says that it does not know EDNS.
    pub(crate) fn is_plain(&mut self, upstream: &Upstream) {
        self.change(upstream, |server| server.only_plain = ONLY_PLAIN);
    }

    pub(crate) fn refused(&mut self, upstream: &Upstream) {
        self.change(upstream, |server| {
            server.failures = 0;
            server.counters.refused += 1;
        });
    }

    pub(crate) fn failed(&mut self, upstream: &Upstream, now: Duration) {
        self.change(upstream, |server| {
            server.failures = server.failures.max(1);
            server.failed = now;
            server.counters.failures += 1;
        });
    }

    pub(crate) fn lied(&mut self, upstream: &Upstream, now: Duration) {
        self.failed(upstream, now);
        self.change(upstream, |server| server.counters.wrong += 1);
    }

    /// The ways to them have changed: what was, says nothing about what is.
    pub(crate) fn forgive(&mut self) {
        for server in &mut self.list {
            server.failures = 0;
            server.only_plain = 0;
        }
    }

    fn change(&mut self, upstream: &Upstream, change: impl FnOnce(&mut Server)) {
        // It may have gone meanwhile.
        if let Some(server) = self.list.iter_mut().find(|server| server.upstream == *upstream) {
            change(server);
        }
    }
}

impl Server {
    fn choice(&self) -> Choice {
        Choice { upstream: self.upstream.clone(), edns: self.only_plain < ONLY_PLAIN }
    }

    fn pause(&self) -> Duration {
        SHORTEST.saturating_mul(1 << self.failures.saturating_sub(1).min(8)).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: fn(u64) -> Duration = Duration::from_secs;

    fn up(last: u8) -> Upstream {
        format!("192.0.2.{last}").parse().unwrap()
    }

    fn servers(count: u8) -> Servers {
        let mut servers = Servers::default();
        assert!(servers.replace(&(1..=count).map(up).collect::<Vec<_>>()));
        servers
    }

    fn order(servers: &mut Servers, now: u64) -> (Vec<String>, usize) {
        let order = servers.order(T(now));
        let last = |choice: &Choice| choice.upstream.to_string().replace("192.0.2.", "");
        (order.servers.iter().map(last).collect(), order.at_once)
    }

    fn is(servers: &mut Servers, now: u64, names: &[&str], at_once: usize) {
        assert_eq!(order(servers, now), (names.iter().map(ToString::to_string).collect(), at_once));
    }

    #[test]
    fn those_that_failed_go_last() {
        let mut some = servers(3);
        is(&mut some, 0, &["1", "2", "3"], 1);
        some.failed(&up(1), T(10));
        is(&mut some, 11, &["2", "3", "1"], 1);
        some.failed(&up(2), T(11));
        is(&mut some, 12, &["3", "1", "2"], 1);
        some.failed(&up(3), T(12));
        assert!(some.is_hopeless());
        // All are equal then: the one that has had the longest rest comes first.
        is(&mut some, 13, &["1", "2", "3"], 1);
        is(&mut some, 100, &["1", "2", "3"], 1);
        some.answered(&up(2), true, false, T(14));
        assert!(
            !some.is_hopeless() && some.answered_within(T(2), T(15)) && !some.answered_within(T(2), T(16))
        );
        is(&mut some, 14, &["2", "1", "3"], 1);
    }

    #[test]
    fn one_that_may_be_back_is_asked_beside_one_that_works() {
        let mut some = servers(2);
        some.failed(&up(1), T(10));
        is(&mut some, 14, &["2", "1"], 1);
        is(&mut some, 15, &["2", "1"], 2);
        // Once: the next question does not try again.
        is(&mut some, 16, &["2", "1"], 1);
        some.failed(&up(1), T(16));
        is(&mut some, 25, &["2", "1"], 1);
        is(&mut some, 26, &["2", "1"], 2);
        // Many questions that fail at the same time are one failure.
        for _ in 0..40 {
            some.failed(&up(1), T(30));
        }
        is(&mut some, 49, &["2", "1"], 1);
        is(&mut some, 50, &["2", "1"], 2);
        for at in [90, 150, 210] {
            is(&mut some, at - 1, &["2", "1"], 1);
            is(&mut some, at, &["2", "1"], 2);
        }
        some.answered(&up(1), true, false, T(211));
        is(&mut some, 212, &["1", "2"], 1);
    }

    #[test]
    fn what_is_known_of_those_that_stay_is_kept() {
        let mut some = servers(2);
        some.failed(&up(1), T(1));
        assert!(!some.replace(&[up(1), up(2)]));
        assert!(some.replace(&[up(3), up(1)]));
        is(&mut some, 2, &["3", "1"], 1);
        some.failed(&up(2), T(2));
        some.forgive();
        is(&mut some, 3, &["3", "1"], 1);
        assert!(some.replace(&[up(1)]));
        assert_eq!(some.counters().map(|(_, counters)| counters.failures).collect::<Vec<_>>(), [1]);
        assert!(some.replace(&[]) && some.is_hopeless());
        is(&mut some, 4, &[], 0);
    }

    #[test]
    fn edns_is_left_out_where_it_does_not_pass() {
        let edns = |servers: &mut Servers| servers.order(T(0)).servers[0].edns;
        let mut some = servers(1);
        for _ in 0..2 {
            some.answered(&up(1), false, true, T(0));
        }
        some.answered(&up(1), true, false, T(0));
        for _ in 0..2 {
            some.answered(&up(1), false, true, T(0));
        }
        assert!(edns(&mut some), "lost twice in a row");
        some.answered(&up(1), false, true, T(0));
        assert!(!edns(&mut some));
        some.forgive();
        assert!(edns(&mut some), "another way");
        some.is_plain(&up(1));
        assert!(!edns(&mut some));
    }
}
