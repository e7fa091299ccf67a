//! Which addresses this node's networks take already, and through which link: what a new range must keep clear of.
//!
//! Reads only, in the namespace of the process.

use ipnetwork::IpNetwork;

use super::mark::OWNER;
use super::session::Session;
use crate::kernel::{self, address, link, route};
use crate::net::{Family, network_of};

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
    /// The interface carries our mark.
    pub ours: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Address,
    /// In the table of that number.
    Route(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub name: String,
    /// We made or adopted it.
    pub marked: bool,
}

/// Addresses first, then the unicast routes of every table but default routes.
pub fn survey() -> kernel::Result<Ground> {
    let mut session = Session::open(None)?;
    let socket = &mut session.node.route;
    let links = link::all(socket)?;
    let marked = |link: &link::Link| link.alias.as_deref().is_some_and(|alias| alias.starts_with(OWNER));
    let taken = |network, index: Option<u32>, by| {
        let link = links.iter().find(|link| Some(link.index) == index);
        let interface = link.map(|link| link.name.clone()).unwrap_or_default();
        Taken { network, interface, by, ours: link.is_some_and(marked) }
    };
    let addresses = address::all(socket)?;
    let mut found: Vec<Taken> = addresses
        .iter()
        .map(|address| taken(network_of(address.address), Some(address.index), By::Address))
        .collect();
    for family in Family::BOTH {
        let routes = route::list(socket, family)?;
        let routes = routes.iter().filter(|route| route.dst.prefix() > 0);
        found.extend(routes.map(|route| taken(route.dst, route.index, By::Route(route.table))));
    }
    let bridges = links.iter().filter(|link| link.kind.as_deref() == Some("bridge"));
    let bridges = bridges.map(|link| Bridge { name: link.name.clone(), marked: marked(link) }).collect();
    Ok(Ground { taken: found, bridges })
}
