//! What the kernel announces by itself: links, addresses, the switch of forwarding, and what nf_tables' rules became.
//!
//! Owns the subscriptions and the reading. What this kernel does not announce, or not to us, is simply not heard, and
//! asked for again with every [`Events::subscribe`]: nf_tables may be loaded later. Refuses to know what an event means.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};

use netlink_sys::{Socket, protocols};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::address;
use super::attribute::{attributes, string, u8_at, u32_at};
use super::link::{self, IFLA_BRPORT_ISOLATED, IFLA_BRPORT_MODE, Link, RTM_DELLINK, RTM_NEWLINK};
use super::netlink::{Answer, Messages};
use super::nft;

/// `RTNLGRP_LINK`, `_IPV4_IFADDR`, `_IPV6_IFADDR`, `_IPV4_NETCONF`, `_IPV6_NETCONF`, linux/rtnetlink.h.
const ROUTE_GROUPS: &[u32] = &[1, 5, 9, 24, 25];
/// `NFNLGRP_NFTABLES`, linux/netfilter/nfnetlink.h.
const NETFILTER_GROUPS: &[u32] = &[7];
/// More than the longest announcement that was seen (nf_tables puts 16 KiB of them into one).
const BUFFER: usize = 32 * 1024;
/// Announcements that are read in one go, so that who changes something all the time cannot keep us here.
const AT_ONCE: usize = 256;

const RTM_NEWNETCONF: u16 = 80;
/// linux/netconf.h
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
const NETCONFA_IFINDEX_ALL: u32 = u32::MAX;
/// `struct netconfmsg` is one byte.
const NETCONF_HEADER: usize = 4;
const AF_BRIDGE: u8 = 7;
const IFLA_PROTINFO: u16 = 12;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A new link, or one of which anything has changed.
    Link(Box<Link>),
    LinkGone {
        index: u32,
    },
    /// The flags of a bridge's port.
    Port {
        index: u32,
        hairpin: Option<bool>,
        isolated: Option<bool>,
    },
    /// The link is no port any more.
    PortGone {
        index: u32,
    },
    Address {
        index: u32,
        address: IpAddr,
    },
    AddressGone {
        index: u32,
        address: IpAddr,
    },
    /// For all links of the node, in one of the two families.
    Forwarding {
        on: bool,
    },
    Rules(RuleChange<'a>),
    /// What was announced about rules since the last one of these was one transaction. `program` is whose, as `ps` has
    /// it; kernels before 4.16 do not say.
    Committed {
        program: Option<String>,
    },
    /// Something was announced and could not be kept for us, or not be read.
    Missed,
}

/// A change of nf_tables' rules that can be a loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleChange<'a> {
    pub what: Change,
    words: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A table, chain, rule or set.
    Deleted,
    ElementsDeleted,
    /// A new chain for forwarded packets, or a new policy of one.
    ForwardChain,
}

impl<'a> RuleChange<'a> {
    pub fn new(what: Change, words: &'a [u8]) -> Self {
        Self { what, words }
    }

    /// Whether the name of a table, or the comment of a rule, has this text in it.
    pub fn mentions(&self, text: &str) -> bool {
        self.words.windows(text.len()).any(|words| words == text.as_bytes())
    }
}

/// Subscriptions, in the network namespace in which they were made.
#[derive(Debug)]
pub struct Events {
    route: Feed,
    netfilter: Feed,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Feed {
    protocol: isize,
    socket: Option<Socket>,
    /// Those that are refused so far.
    missing: Vec<u32>,
    parse: fn(u16, &[u8]) -> Option<Event<'_>>,
}

impl Events {
    /// Hears nothing before [`Self::subscribe`].
    pub fn new() -> Self {
        let feed = |protocol, groups: &[u32], parse| Feed {
            protocol,
            socket: None,
            missing: groups.to_vec(),
            parse,
        };
        Self {
            route: feed(protocols::NETLINK_ROUTE, ROUTE_GROUPS, parse_route),
            netfilter: feed(protocols::NETLINK_NETFILTER, NETFILTER_GROUPS, parse_rules),
            buffer: Vec::with_capacity(BUFFER),
        }
    }

    /// Asks for everything that is not announced to us yet.
    pub fn subscribe(&mut self) {
        for feed in [&mut self.route, &mut self.netfilter] {
            if let Err(error) = feed.subscribe() {
                tracing::info!("not everything that happens is announced: {error}");
            }
        }
    }

    /// To wait for.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.route, &self.netfilter].into_iter().filter_map(|feed| feed.socket.as_ref().map(AsFd::as_fd))
    }

    /// Everything that was announced meanwhile; does not wait for more.
    pub fn read(&mut self, mut each: impl FnMut(Event<'_>)) {
        for feed in [&self.route, &self.netfilter] {
            feed.read(&mut self.buffer, &mut each);
        }
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}

impl Feed {
    fn subscribe(&mut self) -> io::Result<()> {
        if self.socket.is_none() {
            let mut socket = Socket::new(self.protocol)?;
            socket.set_non_blocking(true)?;
            socket.bind_auto()?;
            self.socket = Some(socket);
        }
        let mut refused = Ok(());
        if let Some(socket) = &self.socket {
            self.missing.retain(|group| match socket.add_membership(*group) {
                Ok(()) => false,
                Err(error) => {
                    refused = Err(error);
                    true
                }
            });
        }
        refused
    }

    fn read(&self, buffer: &mut Vec<u8>, each: &mut impl FnMut(Event<'_>)) {
        let Some(socket) = &self.socket else { return };
        // With MSG_TRUNC the length is that of the whole, also where the buffer was too small for it.
        let flags = RecvFlags::TRUNC.bits().cast_signed();
        for _ in 0..AT_ONCE {
            buffer.clear();
            match socket.recv(buffer, flags) {
                Ok(length) if length > buffer.len() => each(Event::Missed),
                Ok(_) => Messages(buffer)
                    .filter_map(|message| (self.parse)(message.kind, message.payload))
                    .for_each(&mut *each),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    each(Event::Missed);
                }
                Err(_) => return,
            }
        }
    }
}

/// For fuzz targets: what is made of a datagram of either kind.
#[cfg(fuzzing)]
pub fn replay(datagram: &[u8]) {
    for message in Messages(datagram) {
        let _ = parse_route(message.kind, message.payload);
        if let Some(Event::Rules(change)) = parse_rules(message.kind, message.payload) {
            let _ = change.mentions("smarter-cni");
        }
    }
}

fn parse_route(kind: u16, payload: &[u8]) -> Option<Event<'_>> {
    match kind {
        RTM_NEWLINK if u8_at(payload, 0)? == AF_BRIDGE => {
            let info = link::attribute_of(payload.get(link::HEADER..)?, IFLA_PROTINFO)?;
            Some(Event::Port {
                index: u32_at(payload, 4)?,
                hairpin: link::flag(info, IFLA_BRPORT_MODE),
                isolated: link::flag(info, IFLA_BRPORT_ISOLATED),
            })
        }
        RTM_NEWLINK => link::parse(Answer { kind, payload }).map(|link| Event::Link(Box::new(link))),
        RTM_DELLINK => {
            let index = u32_at(payload, 4)?;
            let port = u8_at(payload, 0)? == AF_BRIDGE;
            Some(if port { Event::PortGone { index } } else { Event::LinkGone { index } })
        }
        RTM_NEWNETCONF => parse_netconf(payload),
        _ => parse_address(kind, payload),
    }
}

fn parse_address(kind: u16, payload: &[u8]) -> Option<Event<'_>> {
    let found = address::parse(Answer { kind: address::RTM_NEWADDR, payload })?;
    let (index, address) = (found.index, found.address.ip());
    match kind {
        address::RTM_NEWADDR => Some(Event::Address { index, address }),
        address::RTM_DELADDR => Some(Event::AddressGone { index, address }),
        _ => None,
    }
}

fn parse_netconf(payload: &[u8]) -> Option<Event<'_>> {
    let (mut all, mut forwarding) = (false, None);
    for (kind, value) in attributes(payload.get(NETCONF_HEADER..)?) {
        match kind {
            NETCONFA_IFINDEX => all = u32_at(value, 0) == Some(NETCONFA_IFINDEX_ALL),
            NETCONFA_FORWARDING => forwarding = u32_at(value, 0),
            _ => {}
        }
    }
    Some(Event::Forwarding { on: forwarding.filter(|_| all)? != 0 })
}

fn parse_rules(kind: u16, payload: &[u8]) -> Option<Event<'_>> {
    const NFTA_GEN_PROC_NAME: u16 = 3;
    let body = payload.get(nft::GENERIC_HEADER..)?;
    if kind == nft::NEWGEN {
        let program = link::attribute_of(body, NFTA_GEN_PROC_NAME).map(string);
        return Some(Event::Committed { program });
    }
    nft::loss(kind, body).map(|what| Event::Rules(RuleChange { what, words: body }))
}

#[cfg(test)]
mod tests;
