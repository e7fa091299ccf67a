//! Which addresses this node's networks take already, and whether a range of pods can be had beside them. Pure: `observe`
//! fills it in.
//!
//! The one place that says what is in a range's way: the installer refuses it, `auto` avoids it, the doctor names it.
//!
//! Pure.

mod observe;

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

pub use self::observe::{of, survey};
use crate::net::overlap;

/// What a node has before pods come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ground {
    pub taken: Vec<Taken>,
    pub bridges: Vec<Bridge>,
}

/// A network that somebody uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub network: IpNetwork,
    /// The interface; empty for a route through none.
    pub interface: String,
    pub by: By,
    /// The interface is the end of a tunnel: nobody behind it is a neighbour of the node.
    pub tunnel: bool,
    /// The interface carries our mark.
    pub ours: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// The node's own, in that network.
    Address(IpAddr),
    Route {
        table: u32,
        /// Through a router, and not to neighbours.
        via: bool,
    },
    /// A route leads through the router with this address.
    Router,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub name: String,
    /// We made or adopted it.
    pub marked: bool,
}

/// What a network of the node means for a range of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// The node would lose the network or a part of it, or pods would be out of its reach.
    Collision,
    /// The range is a part of what lies beyond a way out: pods hide those hosts, and everything else goes on.
    Hidden,
}

/// The table that `ip route` shows.
const MAIN: u32 = 254;
/// Widest routes that lead to one network somebody could mean. Beyond are ways out in pieces: the halves of a VPN
/// (0.0.0.0/1, 2000::/3), what a split tunnel leaves (172.32.0.0/11), everything private of a company (10.0.0.0/8). To
/// neighbours on a link even less specific routes are one network.
const WIDEST_NETWORK: [u8; 2] = [16, 32];
const WIDEST_LINK: [u8; 2] = [9, 17];
/// Blocks of private addresses are no networks either, however narrow (RFC 1918, RFC 6598).
const BLOCKS: [&str; 2] = ["192.168.0.0/16", "100.64.0.0/10"];

impl Ground {
    /// All that collide with a range. `own` says whose networks do not count: those of the range's own interfaces.
    pub fn collisions(&self, range: IpNetwork, own: impl Fn(&Taken) -> bool) -> impl Iterator<Item = &Taken> {
        self.overlapping(range, own, Overlap::Collision)
    }

    /// All of which a range hides a part.
    pub fn hidden(&self, range: IpNetwork, own: impl Fn(&Taken) -> bool) -> impl Iterator<Item = &Taken> {
        self.overlapping(range, own, Overlap::Hidden)
    }

    fn overlapping(
        &self,
        range: IpNetwork,
        own: impl Fn(&Taken) -> bool,
        wanted: Overlap,
    ) -> impl Iterator<Item = &Taken> {
        self.taken.iter().filter(move |taken| !own(taken) && taken.overlap(range) == Some(wanted))
    }
}

impl Taken {
    /// `None`: they have nothing to do with each other.
    pub fn overlap(&self, range: IpNetwork) -> Option<Overlap> {
        if !overlap(self.network, range) {
            return None;
        }
        let via = match self.by {
            By::Router => return Some(Overlap::Collision),
            By::Address(own) if !self.tunnel || range.contains(own) => return Some(Overlap::Collision),
            By::Address(_) => true,
            By::Route { via, .. } => via || self.tunnel,
        };
        // A route that is as narrow as the range or narrower takes its packets.
        let is_around = self.network.prefix() < range.prefix();
        Some(if is_around && self.is_way_out(via) { Overlap::Hidden } else { Overlap::Collision })
    }

    fn is_way_out(&self, via: bool) -> bool {
        let family = usize::from(self.network.is_ipv6());
        let widest = if via { WIDEST_NETWORK[family] } else { WIDEST_LINK[family] };
        let is_block =
            || BLOCKS.iter().any(|block| block.parse().is_ok_and(|block: IpNetwork| block == self.network));
        self.network.prefix() < widest || via && is_block()
    }
}

/// What it is and through which interface, for people.
impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, interface, .. } = self;
        match self.by {
            By::Address(_) => write!(f, "the network {network} of interface {interface}"),
            By::Router => write!(f, "the router {} behind interface {interface}", network.ip()),
            By::Route { table, .. } => {
                write!(f, "the route to {network}")?;
                if !interface.is_empty() {
                    write!(f, " through interface {interface}")?;
                }
                if table == MAIN { Ok(()) } else { write!(f, " (table {table})") }
            }
        }
    }
}

#[cfg(test)]
#[path = "ground/tests.rs"]
mod tests;
