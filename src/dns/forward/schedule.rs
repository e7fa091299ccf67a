//! Whom to ask next about one question, and when to give up.
//!
//! Pure: a machine of values that is told what happened and says what to do. A server has [`TURN`] to itself; then the next
//! one is asked, and the answer of the first still counts. Definite refusals pass the question on at once. Refuses to know
//! how a question travels.
//!
//! Pure.

use std::time::Duration;

use super::answer::{Answer, Reason, SERVFAIL};
use super::question::Wishes;
use super::servers::{Choice, Order};
use crate::dns::upstreams::Upstream;

/// Until the next server is asked as well.
pub(crate) const TURN: Duration = Duration::from_millis(800);
/// How long an answer is of use: the C library's own patience with a server (`RES_TIMEOUT`). Clients were told long before.
pub(crate) const LIFE: Duration = Duration::from_secs(5);
/// How often one server is asked the same, and all together.
const TRIES: u8 = 3;
const MOST: u8 = 6;

/// Why one attempt brought no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The kernel knows no way there.
    NoRoute,
    /// Nobody listens there.
    Closed,
    /// It does not answer this.
    Refused(Option<Reason>),
    /// It answered something else.
    Wrong,
    /// It does not know EDNS.
    OnlyPlain,
    /// There is more than fits, and it does not speak TCP with us.
    Cut(Option<Answer>),
    /// We have no socket left, or the like.
    Local,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Ask {
        upstream: Upstream,
        edns: bool,
        /// It was asked the same before.
        again: bool,
    },
    /// Until something happens, or that time comes.
    Wait(Duration),
    Over,
}

#[derive(Debug)]
pub(crate) struct Schedule {
    candidates: Vec<Candidate>,
    dnssec: bool,
    /// How many are still to be asked without waiting for a turn.
    at_once: usize,
    /// When the next one has its turn.
    turn: Duration,
    end: Duration,
    /// Until then a way may appear where there is none.
    hold: Duration,
    asked: u8,
    outstanding: Vec<Attempt>,
    /// What an upstream said about its failure.
    reason: Option<Reason>,
    cut: Option<Answer>,
    /// Something else than a missing way was met.
    reached: bool,
}

#[derive(Debug)]
struct Candidate {
    choice: Choice,
    tries: u8,
    out: Option<Out>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Out {
    NoRoute,
    Definite,
}

#[derive(Debug)]
struct Attempt {
    upstream: Upstream,
    since: Duration,
    /// It was said to be late.
    overdue: bool,
}

impl Schedule {
    /// `hold`: how long to wait for a way where there is none now.
    pub(crate) fn new(order: Order, wishes: Wishes, now: Duration, hold: Duration) -> Self {
        let mut schedule = Self {
            candidates: Vec::new(),
            dnssec: wishes.dnssec,
            at_once: 0,
            turn: now,
            end: now + LIFE,
            hold: now + hold,
            asked: 0,
            outstanding: Vec::new(),
            reason: None,
            cut: None,
            reached: false,
        };
        schedule.arrange(order);
        schedule
    }

    fn arrange(&mut self, order: Order) {
        let known = std::mem::take(&mut self.candidates);
        let candidate = |choice: Choice| {
            let same = known.iter().find(|known| known.choice.upstream == choice.upstream);
            let tries = same.map_or(0, |known| known.tries);
            let out = same.and_then(|known| known.out).filter(|out| *out == Out::Definite);
            Candidate { choice, tries, out }
        };
        self.candidates = order.servers.into_iter().map(candidate).collect();
        self.at_once = order.at_once;
    }

    /// Other servers, or other ways to them.
    pub(crate) fn changed(&mut self, order: Order, now: Duration) {
        self.arrange(order);
        if self.candidates.iter().any(|candidate| candidate.tries == 0 && candidate.out.is_none()) {
            self.turn = now;
        } else {
            self.at_once = 0;
        }
    }

    pub(crate) fn next(&mut self, now: Duration) -> Step {
        if now >= self.end {
            return Step::Over;
        }
        if let Some(at) = self.candidate() {
            if now < self.turn && self.at_once == 0 {
                return Step::Wait(self.turn.min(self.end));
            }
            return self.ask(at, now);
        }
        if !self.outstanding.is_empty() {
            return Step::Wait(self.overdue_at().unwrap_or(self.end));
        }
        let no_way = self.candidates.iter().all(|candidate| candidate.out == Some(Out::NoRoute));
        if no_way && now < self.hold {
            return Step::Wait(self.hold.min(self.end));
        }
        Step::Over
    }

    /// The first of those that were asked the least.
    fn candidate(&self) -> Option<usize> {
        if self.asked >= MOST {
            return None;
        }
        let open = self.candidates.iter().enumerate();
        let open = open.filter(|(_, candidate)| candidate.out.is_none() && candidate.tries < TRIES);
        open.min_by_key(|(_, candidate)| candidate.tries).map(|(at, _)| at)
    }

    fn ask(&mut self, at: usize, now: Duration) -> Step {
        let Some(candidate) = self.candidates.get_mut(at) else { return Step::Over };
        let again = candidate.tries > 0;
        // A box on the way may drop what has EDNS; signatures cannot be had without.
        let edns = candidate.choice.edns && (self.dnssec || !again);
        let upstream = candidate.choice.upstream.clone();
        candidate.tries += 1;
        self.asked += 1;
        self.at_once = self.at_once.saturating_sub(1);
        self.turn = now + TURN;
        self.outstanding.push(Attempt { upstream: upstream.clone(), since: now, overdue: false });
        Step::Ask { upstream, edns, again }
    }

    /// Servers that have had their turn and said nothing; each attempt once.
    pub(crate) fn overdue(&mut self, now: Duration) -> Vec<Upstream> {
        let late = |attempt: &&mut Attempt| !attempt.overdue && now >= attempt.since + TURN;
        let mut overdue = Vec::new();
        for attempt in self.outstanding.iter_mut().filter(late) {
            attempt.overdue = true;
            overdue.push(attempt.upstream.clone());
        }
        self.reached |= !overdue.is_empty();
        overdue
    }

    fn overdue_at(&self) -> Option<Duration> {
        let waiting = self.outstanding.iter().filter(|attempt| !attempt.overdue);
        waiting.map(|attempt| attempt.since + TURN).min()
    }

    /// An attempt has ended without an answer.
    pub(crate) fn failed(&mut self, upstream: &Upstream, failure: Failure, now: Duration) {
        let attempt = self.outstanding.iter().position(|attempt| attempt.upstream == *upstream);
        attempt.map(|at| self.outstanding.remove(at));
        self.reached |= failure != Failure::NoRoute;
        let candidate = self.candidates.iter_mut().find(|candidate| candidate.choice.upstream == *upstream);
        let out = match failure {
            Failure::NoRoute => Some(Out::NoRoute),
            // It may be starting: again at its next turn.
            Failure::Closed => None,
            Failure::OnlyPlain => {
                if let Some(candidate) = candidate {
                    let known = !std::mem::replace(&mut candidate.choice.edns, false);
                    candidate.out = known.then_some(Out::Definite);
                    candidate.tries = candidate.tries.saturating_sub(u8::from(!known));
                }
                self.turn = now;
                return;
            }
            Failure::Refused(reason) => {
                self.reason = self.reason.or(reason);
                Some(Out::Definite)
            }
            Failure::Cut(answer) => {
                self.cut = self.cut.take().or(answer);
                Some(Out::Definite)
            }
            Failure::Wrong | Failure::Local => Some(Out::Definite),
        };
        let closed = out.is_none();
        let tries = candidate.map(|candidate| {
            candidate.out = candidate.out.or(out);
            candidate.tries
        });
        // Another one is asked at once; the same one has to be given time.
        let other = |candidate: &Candidate| candidate.out.is_none() && Some(candidate.tries) < tries;
        if !closed || self.candidates.iter().any(other) {
            self.turn = now;
        }
    }

    /// What is said in the end: all that there is, or why there is nothing.
    pub(crate) fn verdict(self) -> Answer {
        if let Some(answer) = self.cut {
            return answer;
        }
        let silence =
            if self.reached || self.candidates.is_empty() { Reason::NO_REACHABLE } else { Reason::NETWORK };
        let reason = self.reason.unwrap_or(silence);
        Answer::failure(SERVFAIL, reason)
    }
}

#[cfg(test)]
mod tests;
