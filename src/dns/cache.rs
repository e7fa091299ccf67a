//! Answers that were given already, in wire form, within a bound of bytes.
//!
//! Pure: whoever asks brings the time along. Owns what is fresh, what is stale and may still be said (RFC 8767), how long a
//! failure is remembered (RFC 2308, section 7), and what has to go when there is no room. What goes is what was not asked for
//! since the last time that room was needed (CLOCK): no list to be kept in order at every hit. Refuses to know messages.
//!
//! Pure.

pub(crate) mod transfer;

use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

use super::forward::answer::Answer;
use super::forward::question::Key;

/// Seconds that a failure is repeated: as long as a client's burst of retries.
const FAILED: Duration = Duration::from_secs(1);
/// Until an upstream is asked again for what has expired, RFC 8767, section 5 ("failure recheck timer").
const RECHECK: Duration = Duration::from_secs(5);
/// Beside key and records: both maps' places, the allocator's own words.
const OVERHEAD: usize = 240;
/// One answer may not drive out all others.
const LARGEST_PART: usize = 16;

#[derive(Debug)]
pub(crate) struct Cache {
    entries: HashMap<Rc<Key>, Entry>,
    /// Each key once, the next to be looked at for eviction first.
    hand: VecDeque<Rc<Key>>,
    bytes: usize,
    most: usize,
    /// How long what has expired may still be said; zero: not at all.
    stale: Duration,
    /// Grows when the ways to the upstreams change: what failed before says nothing about now.
    epoch: u32,
}

#[derive(Debug)]
struct Entry {
    answer: Rc<Answer>,
    stored: Duration,
    expires: Duration,
    kind: Kind,
    /// Asked for since the hand came by.
    used: bool,
    /// When, and of which epoch, an upstream was asked for it in vain.
    tried: Option<(Duration, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Answer,
    /// Of an epoch.
    Failure(u32),
    /// Must not be said again.
    Spent,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// With its age in seconds.
    Fresh(Rc<Answer>, u32),
    /// Expired; `due` when an upstream may be asked for it again.
    Stale {
        answer: Rc<Answer>,
        due: bool,
    },
    Nothing,
}

impl Cache {
    pub(crate) fn new(most: usize, stale: Duration) -> Self {
        Self { entries: HashMap::new(), hand: VecDeque::new(), bytes: 0, most, stale, epoch: 0 }
    }

    pub(crate) fn look(&mut self, key: &Key, now: Duration) -> Found {
        let (epoch, stale) = (self.epoch, self.stale);
        let Some(entry) = self.entries.get_mut(key) else { return Found::Nothing };
        let fresh = now < entry.expires;
        let found = match entry.kind {
            Kind::Spent => Found::Nothing,
            Kind::Failure(of) if !fresh || of != epoch => Found::Nothing,
            _ if fresh => {
                let age = now.saturating_sub(entry.stored).as_secs();
                Found::Fresh(entry.answer.clone(), u32::try_from(age).unwrap_or(u32::MAX))
            }
            _ if now.saturating_sub(entry.expires) >= stale => Found::Nothing,
            _ => {
                let waits = |(at, of): (Duration, u32)| of == epoch && now.saturating_sub(at) < RECHECK;
                Found::Stale { answer: entry.answer.clone(), due: !entry.tried.is_some_and(waits) }
            }
        };
        entry.used |= found != Found::Nothing;
        found
    }

    /// An upstream is asked for it now.
    pub(crate) fn tried(&mut self, key: &Key, now: Duration) {
        let epoch = self.epoch;
        if let Some(entry) = self.entries.get_mut(key) {
            entry.tried = Some((now, epoch));
        }
    }

    /// Keeps an answer as long as it says; what was known before is over.
    pub(crate) fn keep(&mut self, key: &Key, answer: Rc<Answer>, now: Duration) {
        self.keep_of(key, answer, now, Duration::ZERO);
    }

    fn keep_of(&mut self, key: &Key, answer: Rc<Answer>, now: Duration, age: Duration) {
        let stored = now.saturating_sub(age);
        match answer.lifetime {
            Some(lifetime) => {
                let expires = stored + Duration::from_secs(lifetime.into());
                self.put(key, answer, Kind::Answer, stored, expires);
            }
            None => {
                if let Some(entry) = self.entries.get_mut(key) {
                    entry.kind = Kind::Spent;
                }
            }
        }
    }

    /// Remembers for a moment that nobody could say it, unless there is something to be said.
    pub(crate) fn fail(&mut self, key: &Key, failure: Rc<Answer>, now: Duration) {
        if matches!(self.look(key, now), Found::Nothing) {
            self.put(key, failure, Kind::Failure(self.epoch), now, now + FAILED);
        }
    }

    /// The ways to the upstreams have changed: what failed may be tried at once.
    pub(crate) fn forget_failures(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn put(&mut self, key: &Key, answer: Rc<Answer>, kind: Kind, stored: Duration, expires: Duration) {
        let size = size(key, &answer);
        if size > self.most / LARGEST_PART {
            // What it replaces is over all the same.
            if let Some(entry) = self.entries.get_mut(key) {
                entry.kind = Kind::Spent;
            }
            return;
        }
        let entry = Entry { answer, stored, expires, kind, used: false, tried: None };
        self.bytes += size;
        if let Some(place) = self.entries.get_mut(key) {
            let before = std::mem::replace(place, entry);
            self.bytes -= self::size(key, &before.answer);
        } else {
            let key = Rc::new(key.clone());
            self.hand.push_back(key.clone());
            self.entries.insert(key, entry);
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.bytes > self.most
            && let Some(key) = self.hand.pop_front()
        {
            match self.entries.get_mut(&key) {
                Some(entry) if entry.used && entry.kind == Kind::Answer => {
                    entry.used = false;
                    self.hand.push_back(key);
                }
                Some(entry) => {
                    self.bytes -= size(&key, &entry.answer);
                    self.entries.remove(&key);
                }
                None => {}
            }
        }
    }
}

fn size(key: &Key, answer: &Answer) -> usize {
    OVERHEAD + key.0.len() + answer.body.len() + answer.ttls.len() * 2
}

#[cfg(test)]
mod tests;
