//! Notices that something of ours may have been damaged, without asking: the kernel announces what changes.
//!
//! Knows what is ours by its marks, keeps up by what it hears, and learns all of it anew before each repair. Says only that
//! a look is worth it; what is missing is for a reconcile to find out, and what the kernel does not announce (legacy
//! iptables, the inside of pods) for whoever looks once in a while.

mod judge;

use std::os::fd::BorrowedFd;

use self::judge::Judge;
pub use self::judge::Suspicion;
use crate::kernel::events::Events;
use crate::kernel::{RouteSocket, link};

#[derive(Debug)]
pub struct Alarm {
    events: Events,
    judge: Judge,
}

impl Alarm {
    /// Hears nothing before [`Self::learn`]. `is_ours` knows the programs, as `ps` names them, that remove elements of our
    /// sets in the ordinary course of things.
    pub fn new(is_ours: fn(&str) -> bool) -> Self {
        Self { events: Events::new(), judge: Judge::new(is_ours) }
    }

    /// Forgets every suspicion, because a look follows, and learns what is there. What happens from now on is heard.
    pub fn learn(&mut self) {
        self.events.subscribe();
        self.events.read(|_| {});
        match RouteSocket::open().and_then(|mut socket| link::all(&mut socket)) {
            Ok(links) => self.judge.learn(links),
            Err(error) => tracing::info!("what is ours cannot be told: {error}"),
        }
        self.judge.suspicion();
    }

    /// To wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.events.fds()
    }

    /// Reads what was announced; whether any of it may be damage.
    pub fn hear(&mut self) -> bool {
        let mut heard = false;
        let Self { events, judge } = self;
        events.read(|event| heard |= judge.hear(event));
        heard
    }

    /// What was suspected since it was last asked.
    pub fn suspicion(&mut self) -> Suspicion {
        self.judge.suspicion()
    }
}
