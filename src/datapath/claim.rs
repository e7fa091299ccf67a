//! Whether this node can spare the address of its name server, which is the same on every node. `observe` fills it in.
//!
//! Some machines boot from a disk at such an address (169.254.0.2 in Oracle's cloud, iSCSI), some instruments have one, and
//! taking it away ends them. The one place that says who uses it: the installer refuses it, an ADD and a repair go without
//! it, the doctor names it.
//!
//! Pure.

mod observe;

use std::fmt;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

pub use self::observe::{around, of, survey};

/// Something on the node that has to do with addresses of that network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    pub network: Ipv4Network,
    /// Empty for what has none.
    pub interface: String,
    pub how: How,
    /// Of an interface that carries our mark, or between processes of the node.
    pub ours: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// An interface of the node has it.
    Address,
    Route {
        table: u32,
    },
    /// Somebody on a link has answered for it, or was written down.
    Neighbour,
    /// A process of the node, or the kernel, has a connection of TCP open to that port of it.
    Connection {
        port: u16,
    },
}

/// Who uses an address; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub address: Ipv4Addr,
    by: Vec<Use>,
}

/// The table that `ip route` shows.
const MAIN: u32 = 254;
/// A route to all of 169.254.0.0/16, which managers and clouds make, is nobody's in particular; nor is a wider one.
const WIDEST_ROUTE: u8 = 16;
/// More than that nobody reads.
const MOST: usize = 3;

/// Whether somebody else uses it. `own` is the interface that is to have it.
pub fn taken(address: Ipv4Addr, own: &str, uses: &[Use]) -> Option<Taken> {
    let mut by: Vec<Use> = Vec::new();
    for other in uses.iter().filter(|other| other.is_about(address) && !other.ours) {
        let is_own = other.interface == own && !matches!(other.how, How::Connection { .. });
        if !is_own && !by.contains(other) {
            by.push(other.clone());
        }
    }
    (!by.is_empty()).then_some(Taken { address, by })
}

/// Whether another network of ours has it: then it is kept to their links.
pub fn is_shared(address: Ipv4Addr, own: &str, uses: &[Use]) -> bool {
    let has = |other: &Use| other.how == How::Address && other.ours && other.interface != own;
    uses.iter().any(|other| has(other) && other.is_about(address))
}

/// An address that nobody here uses, of which no other program is known to take it by itself.
pub fn free(own: &str, uses: &[Use]) -> Option<Ipv4Addr> {
    let mut candidates = (53..=99).map(|subnet| Ipv4Addr::new(169, 254, subnet, 53));
    candidates.find(|address| taken(*address, own, uses).is_none())
}

impl Use {
    fn is_about(&self, address: Ipv4Addr) -> bool {
        let is_meant = !matches!(self.how, How::Route { .. }) || self.network.prefix() > WIDEST_ROUTE;
        is_meant && self.network.contains(address)
    }
}

impl fmt::Display for Use {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { network, interface, how, .. } = self;
        match how {
            How::Address => write!(f, "interface {interface} has it"),
            How::Neighbour => write!(f, "a neighbour behind interface {interface} has it"),
            How::Connection { port } => write!(f, "a connection to its port {port} is open"),
            How::Route { table } => {
                write!(f, "there is a route to {network}")?;
                if !interface.is_empty() {
                    write!(f, " through interface {interface}")?;
                }
                if *table == MAIN { Ok(()) } else { write!(f, " (table {table})") }
            }
        }
    }
}

/// A sentence without its end.
impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is used by somebody else: ", self.address)?;
        for (at, other) in self.by.iter().take(MOST).enumerate() {
            write!(f, "{}{other}", if at == 0 { "" } else { ", " })?;
        }
        let more = self.by.len().saturating_sub(MOST);
        if more > 0 { write!(f, ", and {more} more") } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "claim/tests.rs"]
mod tests;
