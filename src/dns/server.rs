//! Answers: whoever may ask gets one, from the zone at once, from elsewhere when it comes.
//!
//! Owns what happens to a message between its arrival and its answer. Names of this node's pods wait for nothing: what is
//! asked elsewhere is a task of its own, and there are only so many. Refuses to know where names come from.

mod batch;
pub(crate) mod counters;
mod news;
mod sources;
mod stream;

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::forward::{Forwarder, Group};
use super::message::{self, Query, STREAM, Told};
use super::name::shown;
use super::settings::Settings;
use super::zone::{Look, Zone};
use batch::Batch;
use counters::Counters;
use news::News;
use sources::Sources;

pub(crate) use sources::is_of_this_node;
pub(crate) use stream::accept;

/// A question has a name of 255 bytes at most, and an OPT record whose longest options are padding.
const LONGEST_QUESTION: usize = 4096;
/// Questions that wait for somebody else, with their clients. Those above get the failure at once, and names of the zone
/// are answered all the same.
const MOST_WAITING: usize = 1024;

#[derive(Debug)]
pub(crate) struct Server {
    settings: Settings,
    zone: RefCell<Rc<Zone>>,
    sources: RefCell<Sources>,
    forwarder: Rc<Forwarder>,
    pub(crate) counters: Counters,
    pub(crate) news: News,
    turn: Cell<usize>,
    serial: Cell<u32>,
    waiting: Rc<watch::Sender<usize>>,
    /// Of whichever socket is read, one for each family; no other task runs while it is used.
    batches: RefCell<[Batch; 2]>,
    /// Room of answers that were sent.
    rooms: RefCell<Vec<Vec<u8>>>,
}

/// Answers whose room is used again: those of a batch.
const ROOMS: usize = batch::MOST;
/// After a socket failed.
const PAUSE: Duration = Duration::from_millis(10);

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Datagram,
    Stream,
}

/// What becomes of a message.
enum Fate {
    Silence,
    Answer(Vec<u8>),
    /// It is asked elsewhere; the answer has this many bytes at most.
    Forward {
        to_cluster: bool,
        limit: usize,
    },
}

impl Server {
    pub(crate) fn new(settings: Settings, zone: Zone, forwarder: Rc<Forwarder>) -> Rc<Self> {
        Rc::new(Self {
            settings,
            zone: RefCell::new(Rc::new(zone)),
            sources: RefCell::default(),
            forwarder,
            counters: Counters::default(),
            news: News::default(),
            turn: Cell::new(0),
            serial: Cell::new(1),
            waiting: Rc::new(watch::Sender::new(0)),
            batches: RefCell::new([Batch::new(), Batch::new()]),
            rooms: RefCell::default(),
        })
    }

    /// From now on these are the names, and whoever has an address in one of the ranges may ask.
    pub(crate) fn set_zone(&self, zone: Zone, ranges: Vec<ipnetwork::IpNetwork>) {
        self.zone.replace(Rc::new(zone));
        self.sources.borrow_mut().set_ranges(ranges);
        self.serial.set(self.serial.get().wrapping_add(1));
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(crate) fn forwarder(&self) -> &Rc<Forwarder> {
        &self.forwarder
    }

    pub(crate) fn names(&self) -> usize {
        self.zone.borrow().count()
    }

    /// Returns when nobody waits for an answer any more.
    pub(crate) async fn idle(&self) {
        let mut waiting = self.waiting.subscribe();
        let _ = waiting.wait_for(|waiting| *waiting == 0).await;
    }

    fn may_ask(&self, source: SocketAddr) -> bool {
        let may = source.port() != 0 && self.sources.borrow_mut().may_ask(source.ip());
        if !may {
            self.counters.dropped.add();
        }
        may
    }

    /// `room` is used again where it can be.
    fn fate(&self, packet: &[u8], source: IpAddr, transport: Transport, room: &mut Vec<u8>) -> Fate {
        self.counters.queries.add();
        let query = match Query::parse(packet) {
            Ok(query) => query,
            Err(fault) => {
                self.counters.refused.add();
                return message::bare(packet, fault).map_or(Fate::Silence, Fate::Answer);
            }
        };
        if let Some(why) = query.refused() {
            self.counters.refused.add();
            return message::refusal(&query, why).map_or(Fate::Silence, Fate::Answer);
        }
        let limit = if transport == Transport::Datagram { query.datagram() } else { STREAM };
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let zone = self.zone.borrow().clone();
        let to_cluster = match zone.look(query.name(), query.kind(), source, turn) {
            Look::Local(answer) => {
                self.counters.local.add();
                self.log(&query, source, if answer.exists { "local" } else { "no such name" });
                let told =
                    Told { authority: zone.authority(), serial: self.serial.get(), ttl: self.settings.ttl };
                return Fate::Answer(message::local(&query, &answer, &told, limit, std::mem::take(room)));
            }
            Look::ClusterUpstream => true,
            Look::Forward => false,
        };
        self.log(&query, source, if to_cluster { "cluster" } else { "forwarded" });
        if *self.waiting.borrow() >= MOST_WAITING {
            self.counters.overload.add();
            return message::failure(&query).map_or(Fate::Silence, Fate::Answer);
        }
        self.counters.forwarded.add();
        Fate::Forward { to_cluster, limit }
    }

    /// The whole answer of somebody else.
    async fn forwarded(&self, _waiting: Waiting, packet: &[u8], source: IpAddr, to_cluster: bool) -> Vec<u8> {
        if to_cluster {
            return self.forwarder.answer_from(Group::Cluster, packet, source).await;
        }
        self.forwarder.answer(packet, source).await
    }

    /// One line for each question, where that is wanted.
    fn log(&self, query: &Query<'_>, source: IpAddr, what: &str) {
        if self.settings.logging {
            let (name, kind) = (shown(query.name()), query.kind());
            let _ = writeln!(std::io::stderr(), "question {source} {name} {kind}: {what}");
        }
    }

    /// Answers what a program of this node asks through another door, as if it came over TCP.
    pub(crate) async fn ask(&self, packet: &[u8]) -> Option<Vec<u8>> {
        let source = IpAddr::from([127, 0, 0, 1]);
        self.news.read().await;
        match self.fate(packet, source, Transport::Stream, &mut Vec::new()) {
            Fate::Silence => None,
            Fate::Answer(answer) => Some(answer),
            Fate::Forward { to_cluster, .. } => {
                Some(self.forwarded(Waiting::new(self), packet, source, to_cluster).await)
            }
        }
    }
}

/// Somebody who waits, from its making to its end. Counts before its task begins: who hands over must not leave in between.
struct Waiting(Rc<watch::Sender<usize>>);

impl Waiting {
    fn new(server: &Server) -> Self {
        server.waiting.send_modify(|count| *count += 1);
        Self(server.waiting.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Answers every datagram of a socket, from the address at which it came. Ends with the task.
pub(crate) async fn receive(server: Rc<Server>, socket: Rc<UdpSocket>) {
    let family = usize::from(socket.local_addr().is_ok_and(|at| at.is_ipv6()));
    while socket.readable().await.is_ok() {
        match answer_what_is_there(&server, &socket, family) {
            Ok(true) => {}
            // Who asks all the time cannot keep the others from being heard.
            Ok(false) => tokio::task::yield_now().await,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            // What an earlier answer met on its way; what stays must not keep us busy.
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// One batch; whether there is nothing behind it.
fn answer_what_is_there(server: &Rc<Server>, socket: &Rc<UdpSocket>, family: usize) -> std::io::Result<bool> {
    let batch = &mut server.batches.borrow_mut()[family];
    let is_all = batch.receive(socket)?;
    if !server.news.are_unread() {
        answer(server, socket, batch.datagrams());
        return Ok(is_all);
    }
    // In a task that counts as waiting: who hands its sockets over ends ours, and these questions nobody else has.
    let came: Vec<_> = batch.datagrams().map(|(packet, source)| (packet.to_vec(), source)).collect();
    let waiting = Waiting::new(server);
    let (server, socket) = (server.clone(), socket.clone());
    tokio::task::spawn_local(async move {
        server.news.read().await;
        answer(&server, &socket, came.iter().map(|(packet, source)| (packet.as_slice(), *source)));
        drop(waiting);
    });
    Ok(is_all)
}

fn answer<'d>(
    server: &Rc<Server>,
    socket: &Rc<UdpSocket>,
    datagrams: impl Iterator<Item = (&'d [u8], SocketAddr)>,
) {
    let rooms = &mut *server.rooms.borrow_mut();
    let mut answers = Vec::new();
    for (packet, source) in datagrams {
        let mut room = rooms.pop().unwrap_or_default();
        let answer = datagram(server, socket, packet, source, &mut room);
        answers.extend(answer.map(|answer| (answer, source)));
    }
    batch::send(socket, &answers);
    rooms.extend(answers.into_iter().map(|(answer, _)| answer));
    rooms.truncate(ROOMS);
}

/// The answer that is there at once; another one is sent when it comes.
fn datagram(
    server: &Rc<Server>,
    socket: &Rc<UdpSocket>,
    packet: &[u8],
    source: SocketAddr,
    room: &mut Vec<u8>,
) -> Option<Vec<u8>> {
    if !server.may_ask(source) {
        return None;
    }
    match server.fate(packet, source.ip(), Transport::Datagram, room) {
        Fate::Silence => None,
        Fate::Answer(answer) => Some(answer),
        Fate::Forward { to_cluster, limit } => {
            // What is kept is there at once, and needs no task.
            let group = if to_cluster { Group::Cluster } else { Group::Uplink };
            if let Some(mut answer) = server.forwarder.at_once(group, packet) {
                message::cut(&mut answer, limit);
                return Some(answer);
            }
            let waiting = Waiting::new(server);
            let (server, socket, packet) = (server.clone(), socket.clone(), packet.to_vec());
            tokio::task::spawn_local(async move {
                let mut answer = server.forwarded(waiting, &packet, source.ip(), to_cluster).await;
                message::cut(&mut answer, limit);
                // A client whose answer is lost asks again.
                let _ = socket.send_to(&answer, source).await;
            });
            None
        }
    }
}
