//! One question on its way to the upstreams, and everybody who waits for the answer.
//!
//! Owns the table of what is on its way: the same question is asked once, and there is a bound to how many are. Owns the
//! course of one of them. Refuses to decide whom to ask ([`super::schedule`]) and what an answer is ([`super::reply`]).

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinHandle, spawn_local};
use tokio::time::timeout;

use super::Forwarder;
use super::answer::Answer;
use super::exchange::Query;
use super::question::{Group, Key};
use super::schedule::{Failure, Schedule, Step};
use crate::dns::upstreams::Upstream;
use crate::state::boot::boottime;

/// Questions on their way. Each has a socket or two.
const MOST: usize = 256;
/// Who wait for the same answer.
const MOST_WAITERS: usize = 64;
/// Sockets of one question: the attempt that has its turn, and the one before.
const ATTEMPTS: usize = 2;

/// What was found: an answer, or what is said instead.
pub(super) type Outcome = Result<Rc<Answer>, Rc<Answer>>;

#[derive(Debug, Default)]
pub(super) struct Lookups(RefCell<HashMap<Key, Rc<Lookup>>>);

#[derive(Debug)]
pub(super) struct Lookup {
    begun: Duration,
    events: mpsc::UnboundedSender<Event>,
    outcome: RefCell<Option<Outcome>>,
    done: Notify,
    waiters: Cell<usize>,
    /// Set as soon as it runs.
    task: RefCell<Option<AbortHandle>>,
}

#[derive(Debug)]
enum Event {
    Ended {
        upstream: Upstream,
        edns: bool,
        again: bool,
        result: Result<Answer, Failure>,
    },
    /// Other servers, or other ways to them.
    Changed,
}

impl Lookups {
    pub(super) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// The one that is on its way already, and has room for another who waits.
    pub(super) fn running(&self, key: &Key) -> Option<Rc<Lookup>> {
        self.0.borrow().get(key).cloned()
    }

    /// Room for one more: where there is none, what nobody waits for any more makes it, the oldest first.
    pub(super) fn has_room(&self) -> bool {
        let mut table = self.0.borrow_mut();
        if table.len() < MOST {
            return true;
        }
        let idle = table.iter().filter(|(_, lookup)| lookup.waiters.get() == 0);
        let Some(oldest) = idle.min_by_key(|(_, lookup)| lookup.begun).map(|(key, _)| key.clone()) else {
            return false;
        };
        if let Some(lookup) = table.remove(&oldest)
            && let Some(task) = lookup.task.take()
        {
            task.abort();
        }
        true
    }

    pub(super) fn changed(&self) {
        for lookup in self.0.borrow().values() {
            // One that has just ended does not listen.
            let _ = lookup.events.send(Event::Changed);
        }
    }
}

impl Lookup {
    /// Begins to ask. There must be room.
    pub(super) fn begin(forwarder: &Rc<Forwarder>, group: Group, key: &Key, now: Duration) -> Rc<Self> {
        let (events, inbox) = mpsc::unbounded_channel();
        let lookup = Rc::new(Self {
            begun: now,
            events,
            outcome: RefCell::default(),
            done: Notify::new(),
            waiters: Cell::new(0),
            task: RefCell::default(),
        });
        forwarder.lookups.0.borrow_mut().insert(key.clone(), lookup.clone());
        let course = Course { forwarder: forwarder.clone(), lookup: lookup.clone(), group, key: key.clone() };
        let task = spawn_local(course.run(inbox));
        lookup.task.replace(Some(task.abort_handle()));
        lookup
    }

    /// For how long it is on its way.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.begun)
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.waiters.get() >= MOST_WAITERS
    }

    /// `None` when the patience is over.
    pub(super) async fn wait(&self, patience: Duration) -> Option<Outcome> {
        let _waiter = Waiter::count(&self.waiters);
        let done = self.done.notified();
        if self.outcome.borrow().is_none() {
            let _ = timeout(patience, done).await;
        }
        self.outcome.borrow().clone()
    }
}

/// Somebody who waits, also when they go away before the answer comes.
pub(super) struct Waiter<'a>(&'a Cell<usize>);

impl<'a> Waiter<'a> {
    fn count(waiters: &'a Cell<usize>) -> Self {
        waiters.set(waiters.get() + 1);
        Self(waiters)
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Ends with whoever holds it.
struct Attempt(JoinHandle<()>);

impl Drop for Attempt {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Course {
    forwarder: Rc<Forwarder>,
    lookup: Rc<Lookup>,
    group: Group,
    key: Key,
}

impl Course {
    async fn run(self, mut inbox: mpsc::UnboundedReceiver<Event>) {
        let mut schedule = self.forwarder.schedule(self.group, self.key.wishes(), self.lookup.begun);
        let mut attempts = Vec::new();
        let outcome = loop {
            let now = boottime();
            self.forwarder.are_late(self.group, &schedule.overdue(now), now);
            match schedule.next(now) {
                Step::Over => break Err(Rc::new(schedule.verdict())),
                Step::Ask { upstream, edns, again } => {
                    if attempts.len() == ATTEMPTS {
                        attempts.remove(0);
                    }
                    attempts.push(self.attempt(upstream, edns, again));
                }
                Step::Wait(until) => {
                    let event = timeout(until.saturating_sub(now), inbox.recv()).await;
                    if let Ok(Some(event)) = event
                        && let Some(answer) = self.hear(event, &mut schedule)
                    {
                        break Ok(Rc::new(answer));
                    }
                }
            }
        };
        self.end(outcome);
    }

    fn attempt(&self, upstream: Upstream, edns: bool, again: bool) -> Attempt {
        let forwarder = self.forwarder.clone();
        forwarder.asks(self.group, &upstream);
        let events = self.lookup.events.clone();
        let query = Query { upstream, question: self.key.question().into(), wishes: self.key.wishes(), edns };
        Attempt(spawn_local(async move {
            let result = query.ask(&forwarder.streams).await;
            // Where nobody listens any more it does not matter.
            let _ = events.send(Event::Ended { upstream: query.upstream, edns, again, result });
        }))
    }

    fn hear(&self, event: Event, schedule: &mut Schedule) -> Option<Answer> {
        let now = boottime();
        match event {
            Event::Ended { upstream, edns, again, result: Ok(answer) } => {
                self.forwarder.has_answered(self.group, &upstream, edns, again, now);
                return Some(answer);
            }
            Event::Ended { upstream, result: Err(failure), .. } => {
                self.forwarder.has_failed(self.group, &upstream, &failure, now);
                schedule.failed(&upstream, failure, now);
            }
            Event::Changed => schedule.changed(self.forwarder.order(self.group, now), now),
        }
        None
    }

    fn end(&self, outcome: Outcome) {
        let now = boottime();
        {
            let mut cache = self.forwarder.cache.borrow_mut();
            match &outcome {
                Ok(answer) => cache.keep(&self.key, answer.clone(), now),
                Err(failure) => cache.fail(&self.key, failure.clone(), now),
            }
        }
        self.lookup.outcome.replace(Some(outcome));
        self.forwarder.lookups.0.borrow_mut().remove(&self.key);
        self.lookup.done.notify_waiters();
    }
}
