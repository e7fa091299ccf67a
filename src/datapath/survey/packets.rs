//! Packets that are sent and answered: who has an address of a pod, whether pods reach their gateway, and tokens that go
//! from one namespace to another and back.
//!
//! The only part of a survey that anybody but the kernel notices. All questions are asked before the first answer is
//! waited for, so that a hundred pods that are cut off take no longer than one.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::Link;
use crate::kernel::token::{Heard, LONGEST, Listener, Sender};
use crate::kernel::{self, Netns, arp, ping::Ping};
use crate::net::Mac;

/// A veth answers within microseconds; a board under load takes longer.
const ARP_PATIENCE: Duration = Duration::from_millis(150);
const PING_PATIENCE: Duration = Duration::from_millis(700);
const PAUSE: Duration = Duration::from_millis(2);
/// The numbers of the two questions.
const SMALL: u8 = 1;
const WHOLE: u8 = 2;

/// Who answers on a link for each of the addresses.
pub fn answers_on(link: &Link, addresses: &[Ipv4Addr]) -> kernel::Result<BTreeSet<(Ipv4Addr, Mac)>> {
    match link.mac {
        Some(own) => arp::probe(link.index, own, addresses, ARP_PATIENCE),
        None => Ok(BTreeSet::new()),
    }
}

/// How far a pod gets with its gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Also packets that fill the MTU.
    Whole,
    /// Small packets only.
    Small,
    Nothing,
    /// It could not even ask.
    Refused(String),
}

/// One question: from a namespace to an address, with packets up to that size.
#[derive(Debug)]
pub struct Question<'a> {
    pub netns: &'a Netns,
    pub gateway: IpAddr,
    pub mtu: u32,
}

/// The answers in the order of the questions.
pub fn reach(questions: &[Question<'_>]) -> Vec<Reach> {
    let asked: Vec<_> = questions.iter().map(ask).collect();
    let mut heard: BTreeMap<usize, BTreeSet<u8>> = BTreeMap::new();
    let until = Instant::now() + PING_PATIENCE;
    loop {
        let mut open = false;
        for (at, ping) in asked.iter().enumerate() {
            let Ok(ping) = ping else { continue };
            let heard = heard.entry(at).or_default();
            heard.extend(ping.answers());
            open |= heard.len() < 2;
        }
        if !open || Instant::now() >= until {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let verdict = |(at, ping): (usize, Result<Ping, String>)| {
        let heard = heard.get(&at).cloned().unwrap_or_default();
        match ping {
            Err(why) => Reach::Refused(why),
            Ok(_) if heard.contains(&WHOLE) => Reach::Whole,
            Ok(_) if heard.contains(&SMALL) => Reach::Small,
            Ok(_) => Reach::Nothing,
        }
    };
    asked.into_iter().enumerate().map(verdict).collect()
}

fn ask(question: &Question<'_>) -> Result<Ping, String> {
    let words = |error: kernel::Error| error.to_string();
    let ping = question.netns.visit(|| Ping::open(question.gateway)).map_err(words)?.map_err(words)?;
    ping.ask(SMALL, 0).map_err(words)?;
    // What the pod itself refuses as too long does not arrive either.
    let _ = ping.ask(WHOLE, usize::try_from(question.mtu).unwrap_or(usize::MAX));
    Ok(ping)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    Tcp,
    Udp,
}

/// A token that somebody sends to an address in another namespace, and that comes back from there.
#[derive(Debug)]
pub struct Exchange<'a> {
    pub from: &'a Netns,
    pub to: &'a Netns,
    pub address: IpAddr,
    /// Bytes of the largest packet, which UDP fills.
    pub mtu: u32,
    pub carrier: Carrier,
}

/// As many at once as a process may have open files for: each takes three.
const AT_ONCE: usize = 200;

/// What became of each, in their order.
pub fn exchange(exchanges: &[Exchange<'_>]) -> Vec<Reach> {
    exchanges.chunks(AT_ONCE).flat_map(exchange_some).collect()
}

fn exchange_some(exchanges: &[Exchange<'_>]) -> Vec<Reach> {
    let mut open: Vec<_> = exchanges.iter().map(begin).collect();
    let mut heard = vec![Heard::default(); open.len()];
    let mut bytes = vec![0; LONGEST];
    let until = Instant::now() + PING_PATIENCE;
    loop {
        let mut missing = false;
        for (begun, heard) in open.iter_mut().zip(&mut heard) {
            let Ok((listener, Some(sender))) = begun else { continue };
            if heard.small && heard.whole {
                continue;
            }
            listener.echo(&mut bytes);
            let more = sender.heard(&mut bytes);
            *heard = Heard { small: heard.small | more.small, whole: heard.whole | more.whole };
            missing |= !(heard.small && heard.whole);
        }
        if !missing || Instant::now() >= until {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    let verdict = |(begun, heard): (Result<_, String>, Heard)| match begun {
        Err(why) => Reach::Refused(why),
        Ok(_) if heard.whole => Reach::Whole,
        Ok(_) if heard.small => Reach::Small,
        Ok(_) => Reach::Nothing,
    };
    open.into_iter().zip(heard).map(verdict).collect()
}

/// Whoever is not even allowed to send is heard of no more than somebody whose packets are lost.
fn begin(exchange: &Exchange<'_>) -> Result<(Listener, Option<Sender>), String> {
    let words = |error: kernel::Error| error.to_string();
    let listen = || match exchange.carrier {
        Carrier::Tcp => Listener::tcp(exchange.address),
        Carrier::Udp => Listener::udp(exchange.address),
    };
    let listener = exchange.to.visit(listen).map_err(words)?.map_err(words)?;
    let to = listener.address().map_err(|error| error.to_string())?;
    let size = usize::try_from(exchange.mtu).unwrap_or(usize::MAX);
    let send = || match exchange.carrier {
        Carrier::Tcp => Sender::tcp(to, token()),
        Carrier::Udp => Sender::udp(to, token(), size),
    };
    let sender = exchange.from.visit(send).map_err(words)?;
    Ok((listener, sender.ok()))
}

/// Tells an answer from whatever else comes.
fn token() -> [u8; 16] {
    let half = || RandomState::new().build_hasher().finish().to_ne_bytes();
    let mut token = [0; 16];
    token[..8].copy_from_slice(&half());
    token[8..].copy_from_slice(&half());
    token
}
