//! Who uses which addresses in the namespace in which the process is. Reads only.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, Ipv4Network};

use super::{How, Use};
use crate::datapath::hostports::listeners::{self, Connection};
use crate::datapath::mark::OWNER;
use crate::datapath::session::Session;
use crate::kernel::address::{self, Address};
use crate::kernel::link::{self, Link};
use crate::kernel::neighbour::{self, Neighbour};
use crate::kernel::route::{self, RouteEntry};
use crate::kernel::{self, RouteSocket};
use crate::net::Family;

/// All that could be in the way of an address for which there is no other use than such ones, and of the one that is meant.
pub fn survey(meant: Ipv4Addr) -> kernel::Result<Vec<Use>> {
    let mut session = Session::open(None)?;
    look(&mut session.node.route, |ip| ip.is_link_local() || ip == meant)
}

/// What could be in the way of that address.
pub fn around(session: &mut Session, meant: Ipv4Addr) -> kernel::Result<Vec<Use>> {
    look(&mut session.node.route, |ip| ip == meant)
}

fn look(socket: &mut RouteSocket, is_meant: impl Fn(Ipv4Addr) -> bool) -> kernel::Result<Vec<Use>> {
    let links = link::all(socket)?;
    let addresses = address::all(socket)?;
    let routes = route::list(socket, Family::V4)?;
    let neighbours = neighbour::all(socket)?;
    let connections = listeners::connections(|ip| matches!(ip, IpAddr::V4(ip) if is_meant(ip)));
    Ok(of(&links, &addresses, &routes, &neighbours, &connections))
}

/// Addresses first, then routes, neighbours and connections.
pub fn of(
    links: &[Link],
    addresses: &[Address],
    routes: &[RouteEntry],
    neighbours: &[Neighbour],
    connections: &[Connection],
) -> Vec<Use> {
    let through = |network, index: Option<u32>, how| {
        let link = links.iter().find(|link| Some(link.index) == index);
        let interface = link.map(|link| link.name.clone()).unwrap_or_default();
        Use { network, interface, how, ours: link.is_some_and(|link| is_ours(link, links)) }
    };
    let mut found = Vec::new();
    for own in addresses {
        found.extend(host(own.address.ip()).map(|it| through(it, Some(own.index), How::Address)));
    }
    for route in routes {
        if let IpNetwork::V4(network) = route.dst {
            found.push(through(network, route.index, How::Route { table: route.table }));
        }
    }
    for other in neighbours.iter().filter(|other| other.exists) {
        found.extend(host(other.ip).map(|it| through(it, Some(other.index), How::Neighbour)));
    }
    for open in connections {
        // Both ends are here: who is asked is a process of this node, and was reached through us.
        let ours = connections.iter().any(|end| (end.local, end.peer) == (open.peer, open.local));
        let how = How::Connection { port: open.peer.port() };
        found.extend(host(open.peer.ip()).map(|it| Use { ours, ..through(it, None, how) }));
    }
    found
}

fn host(ip: IpAddr) -> Option<Ipv4Network> {
    match ip {
        IpAddr::V4(ip) => Some(ip.into()),
        IpAddr::V6(_) => None,
    }
}

/// Marked, or the gateway in a VLAN of a bridge that is: it has no mark, but its name.
fn is_ours(link: &Link, links: &[Link]) -> bool {
    let marked = |link: &Link| link.alias.as_deref().is_some_and(|alias| alias.starts_with(OWNER));
    let bridge = || {
        let (bridge, vlan) = link.name.rsplit_once('.').filter(|_| link.kind.as_deref() == Some("veth"))?;
        vlan.parse::<u16>().ok()?;
        links.iter().find(|link| link.name == bridge)
    };
    marked(link) || bridge().is_some_and(marked)
}
