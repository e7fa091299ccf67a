//! The networks of the namespace in which the process is. Reads only.

use ipnetwork::IpNetwork;

use super::{Bridge, By, Ground, Taken};
use crate::datapath::mark::OWNER;
use crate::datapath::session::Session;
use crate::kernel::link::{self, Link};
use crate::kernel::route::{self, RouteEntry};
use crate::kernel::{
    self,
    address::{self, Address},
};
use crate::net::{Family, network_of};

/// Kinds of links that lead to no neighbours, beside those that say so themselves (IFF_POINTOPOINT: tun, ppp, WireGuard,
/// modems). Interfaces of IPsec and tunnels without a fixed other end do not.
const TUNNELS: [&str; 9] = ["wireguard", "ipip", "gre", "sit", "ip6tnl", "ip6gre", "vti", "vti6", "xfrm"];

/// What the node's networks are now.
pub fn survey() -> kernel::Result<Ground> {
    let mut session = Session::open(None)?;
    let socket = &mut session.node.route;
    let links = link::all(socket)?;
    let addresses = address::all(socket)?;
    let mut routes = Vec::new();
    for family in Family::BOTH {
        routes.extend(route::list(socket, family)?);
    }
    Ok(of(&links, &addresses, &routes))
}

/// Addresses first, then the unicast routes of every table but default routes, then all routers.
pub fn of(links: &[Link], addresses: &[Address], routes: &[RouteEntry]) -> Ground {
    let marked = |link: &Link| link.alias.as_deref().is_some_and(|alias| alias.starts_with(OWNER));
    let taken = |network, index: Option<u32>, by| {
        let link = links.iter().find(|link| Some(link.index) == index);
        Taken {
            network,
            interface: link.map(|link| link.name.clone()).unwrap_or_default(),
            by,
            tunnel: link.is_some_and(is_tunnel),
            ours: link.is_some_and(marked),
        }
    };
    let mut found: Vec<Taken> = addresses
        .iter()
        .map(|own| taken(network_of(own.address), Some(own.index), By::Address(own.address.ip())))
        .collect();
    found.extend(routes.iter().filter(|route| route.dst.prefix() > 0).map(|route| {
        taken(route.dst, route.index, By::Route { table: route.table, via: route.gw.is_some() })
    }));
    for route in routes {
        let hop = route.gw.map(|hop| taken(IpNetwork::from(hop), route.index, By::Router));
        found.extend(hop.filter(|hop| !found.contains(hop)));
    }
    let bridges = links.iter().filter(|link| link.kind.as_deref() == Some("bridge"));
    let bridges = bridges.map(|link| Bridge { name: link.name.clone(), marked: marked(link) }).collect();
    Ground { taken: found, bridges }
}

fn is_tunnel(link: &Link) -> bool {
    link.point_to_point || link.kind.as_deref().is_some_and(|kind| TUNNELS.contains(&kind))
}
