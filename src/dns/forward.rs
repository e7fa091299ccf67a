//! Answers for names that are not this node's: from the cache, or from the name servers of its uplinks.
//!
//! Owns who may wait for whom and for how long, and what is said when nobody answers: what was true before (RFC 8767), or
//! SERVFAIL with a reason (RFC 8914), in any case in time. Loops cannot grow: what comes back to us is the question that is on
//! its way already. Refuses to know our own zone, and which files name servers ([`crate::dns::upstreams`]).

pub(crate) mod answer;
mod counters;
mod exchange;
mod lookup;
pub(crate) mod question;
pub(crate) mod reply;
#[cfg(test)]
pub(crate) mod sample;
mod schedule;
mod servers;
mod state;

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Semaphore;

use self::answer::{Age, Answer, REFUSED, Reason, SERVFAIL};
pub(crate) use self::counters::Counters;
use self::counters::Tally;
use self::lookup::{Lookup, Lookups};
pub(crate) use self::question::Group;
use self::question::{Client, Key};
use self::servers::Servers;
use super::cache::{Cache, Found};
use super::upstreams::{FILES, Upstream};
use crate::state::boot::boottime;

/// Questions of one client that wait at the same time.
const MOST_OF_ONE: usize = 64;

/// Where the servers of the uplinks come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The first of these files with a server that can be asked.
    Files(Vec<PathBuf>),
    Named(Vec<Upstream>),
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) upstreams: Source,
    /// The name server of the cluster; empty where there is none.
    pub(crate) cluster: Vec<Upstream>,
    /// Bytes.
    pub(crate) cache: usize,
    /// How long what has expired may be said while no upstream answers; zero: not at all.
    pub(crate) stale: Duration,
    /// How long a client waits, RFC 8767, section 5 ("client response timer").
    pub(crate) patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            upstreams: Source::Files(FILES.iter().map(PathBuf::from).collect()),
            cluster: Vec::new(),
            cache: 4 << 20,
            stale: Duration::from_hours(72),
            patience: Duration::from_millis(1800),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Forwarder {
    settings: Settings,
    cache: RefCell<Cache>,
    lookups: Lookups,
    uplink: RefCell<Servers>,
    cluster: RefCell<Servers>,
    /// What each of the files has named when it was read last.
    found: RefCell<Vec<Vec<Upstream>>>,
    /// Addresses on which this process answers.
    own: RefCell<Vec<IpAddr>>,
    /// How many questions of each client wait.
    clients: RefCell<HashMap<IpAddr, usize>>,
    streams: Semaphore,
    tally: Tally,
}

impl Forwarder {
    /// Reads who the upstreams are; starts nothing.
    pub(crate) fn new(settings: Settings) -> Rc<Self> {
        let forwarder = Rc::new(Self {
            cache: RefCell::new(Cache::new(settings.cache, settings.stale)),
            settings,
            lookups: Lookups::default(),
            uplink: RefCell::default(),
            cluster: RefCell::default(),
            found: RefCell::default(),
            own: RefCell::default(),
            clients: RefCell::default(),
            streams: Semaphore::new(exchange::MOST_STREAMS),
            tally: Tally::default(),
        });
        forwarder.reload();
        forwarder
    }

    /// The whole answer to a client's question, from the uplinks' name servers.
    pub(crate) async fn answer(self: &Rc<Self>, query: &[u8], source: IpAddr) -> Vec<u8> {
        self.answer_from(Group::Uplink, query, source).await
    }

    /// The same, from the given servers.
    pub(crate) async fn answer_from(self: &Rc<Self>, group: Group, query: &[u8], source: IpAddr) -> Vec<u8> {
        self.tally.queries.more();
        let Open { client, key, stale, now } = match self.look(group, query) {
            Known::Answer(answer) => return answer,
            Known::Not(open) => open,
        };
        match self.ask(group, &key, source, stale.is_some(), now).await {
            Ok(answer) => answer.message(&client, Age::Seconds(0)),
            Err(failure) => {
                if let Some(stale) = stale {
                    return self.expired(&stale, &client);
                }
                self.tally.failed.more();
                failure.message(&client, Age::Seconds(0))
            }
        }
    }

    /// The same where it needs nobody else: what is kept, and what is not asked.
    pub(crate) fn at_once(&self, group: Group, query: &[u8]) -> Option<Vec<u8>> {
        let Known::Answer(answer) = self.look(group, query) else { return None };
        self.tally.queries.more();
        Some(answer)
    }

    fn look<'q>(&self, group: Group, query: &'q [u8]) -> Known<'q> {
        let Some(client) = Client::read(query) else { return Known::Answer(form_error(query)) };
        let key = Key::new(group, client.wishes, client.question);
        let now = boottime();
        let found = self.cache.borrow_mut().look(&key, now);
        let stale = match found {
            Found::Fresh(answer, age) => {
                self.tally.hits.more();
                return Known::Answer(answer.message(&client, Age::Seconds(age)));
            }
            Found::Nothing if !client.recursion => {
                let refused = Answer::failure(REFUSED, Reason::NOT_AUTHORITATIVE);
                return Known::Answer(refused.message(&client, Age::Seconds(0)));
            }
            Found::Stale { answer, due } if !due || !client.recursion => {
                return Known::Answer(self.expired(&answer, &client));
            }
            Found::Stale { answer, .. } => Some(answer),
            Found::Nothing => None,
        };
        Known::Not(Open { client, key, stale, now })
    }

    fn expired(&self, answer: &Answer, client: &Client<'_>) -> Vec<u8> {
        self.tally.stale.more();
        answer.message(client, Age::Stale)
    }

    /// Waits for the upstreams, as far as there is room and patience. `stale`: there is something else to say.
    async fn ask(
        self: &Rc<Self>,
        group: Group,
        key: &Key,
        source: IpAddr,
        stale: bool,
        now: Duration,
    ) -> lookup::Outcome {
        let dropped = || {
            self.tally.dropped.more();
            Err(Rc::new(Answer::failure(SERVFAIL, Reason::NOT_READY)))
        };
        let Some(_seat) = Seat::take(self, source) else { return dropped() };
        let running = self.lookups.running(key);
        let lookup = match running {
            Some(lookup) if lookup.is_crowded() => return dropped(),
            Some(lookup) => {
                self.tally.joined.more();
                lookup
            }
            None if self.lookups.has_room() => {
                self.cache.borrow_mut().tried(key, now);
                Lookup::begin(self, group, key, now)
            }
            None => return dropped(),
        };
        // Whoever has something to say does not wait for servers of which none works, nor longer than the first.
        let hopeless = stale && self.servers(group).borrow().is_hopeless();
        let left =
            self.settings.patience.saturating_sub(if stale { lookup.age(now) } else { Duration::ZERO });
        let patience = if hopeless { Duration::ZERO } else { left };
        let late = || Err(Rc::new(Answer::failure(SERVFAIL, Reason::NO_REACHABLE)));
        lookup.wait(patience).await.unwrap_or_else(late)
    }

    pub(crate) fn export_cache(&self) -> Vec<u8> {
        self.cache.borrow().export(boottime())
    }

    /// Takes over what another process exported. What is not as an upstream could have sent it is left out.
    pub(crate) fn import_cache(&self, bytes: &[u8]) {
        self.cache.borrow_mut().import(bytes, boottime());
    }
}

/// What is known of a question before anybody is asked.
enum Known<'q> {
    Answer(Vec<u8>),
    Not(Open<'q>),
}

/// A question for somebody else.
struct Open<'q> {
    client: Client<'q>,
    key: Key,
    /// What can be said if nobody answers.
    stale: Option<Rc<Answer>>,
    now: Duration,
}

/// A client's place among those that wait.
struct Seat<'a>(&'a Forwarder, IpAddr);

impl<'a> Seat<'a> {
    fn take(forwarder: &'a Forwarder, source: IpAddr) -> Option<Self> {
        let mut clients = forwarder.clients.borrow_mut();
        let taken = clients.entry(source).or_default();
        if *taken >= MOST_OF_ONE {
            return None;
        }
        *taken += 1;
        Some(Self(forwarder, source))
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut clients = self.0.clients.borrow_mut();
        match clients.get_mut(&self.1) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => {
                clients.remove(&self.1);
            }
        }
    }
}

/// For what is no question: the number that it came with, and nothing else of it.
fn form_error(query: &[u8]) -> Vec<u8> {
    const FORMERR: u8 = 1;
    let mut message = query.first_chunk::<2>().copied().unwrap_or_default().to_vec();
    message.extend([0x80, 0x80 | FORMERR, 0, 0, 0, 0, 0, 0, 0, 0]);
    message
}

#[cfg(test)]
mod tests;
