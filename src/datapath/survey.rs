//! What a node or a pod looks like to the kernel, as values: for whoever explains, not for whoever repairs.
//!
//! Everything at once and once, in a handful of dumps, so that many questions cost what one costs. Reads only; what is
//! wrong with it is for others to say.

pub mod packets;
pub mod ruleset;
pub mod trial;

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;

use super::firewall::legacy as filter;
use super::firewall::uplinks::Candidate;
use super::mark::OWNER;
use crate::kernel::{self, Netns, RouteSocket, address, legacy, link, neighbour, route, rule, sysctl};
use crate::net::{Family, IfName};

pub use crate::kernel::Error;
pub use crate::kernel::address::Address;
pub use crate::kernel::link::{Link, OperState};
pub use crate::kernel::neighbour::Neighbour;
pub use crate::kernel::netns::OpenError;
pub use crate::kernel::route::{MAIN, Question, Refusal, RouteEntry, Way};
pub use crate::kernel::rule::{Action, PolicyRule};

/// Links, addresses, routes and neighbours of one network namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    pub links: Vec<Link>,
    pub addresses: Vec<Address>,
    /// Unicast routes of all tables.
    pub routes: Vec<RouteEntry>,
    /// Policy rules, each family in the kernel's order.
    pub rules: Vec<PolicyRule>,
    pub neighbours: Vec<Neighbour>,
}

impl Network {
    pub fn of_node() -> kernel::Result<Self> {
        Self::read(&mut RouteSocket::open()?)
    }

    pub fn of_pod(netns: &Netns) -> kernel::Result<Self> {
        Self::read(&mut netns.visit(RouteSocket::open)??)
    }

    fn read(socket: &mut RouteSocket) -> kernel::Result<Self> {
        let mut network = Self {
            links: link::all(socket)?,
            addresses: address::all(socket)?,
            neighbours: neighbour::all(socket)?,
            ..Self::default()
        };
        for family in Family::BOTH {
            network.routes.extend(route::list(socket, family)?);
            network.rules.extend(rule::list(socket, family)?);
        }
        Ok(network)
    }

    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    pub fn by_index(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// The name of a link, for people.
    pub fn name_of(&self, index: u32) -> String {
        self.by_index(index).map_or_else(|| format!("if{index}"), |link| link.name.clone())
    }

    pub fn addresses_of(&self, link: &Link) -> Vec<IpNetwork> {
        let index = link.index;
        let own = self.addresses.iter().filter(|address| address.index == index);
        own.map(|address| address.address).collect()
    }

    /// The links by which the node reaches everything else, as the guard keeps them apart. `inside` lead to pods.
    pub fn uplinks(&self, family: Family, inside: &[IfName]) -> BTreeSet<IfName> {
        let of_family = |network: &IpNetwork| Family::of(network.ip()) == family;
        let candidates = self.links.iter().filter_map(|link| {
            let name = link.name.parse::<IfName>().ok()?;
            let marked = link.alias.as_deref().is_some_and(|alias| alias.starts_with(OWNER));
            let addresses = self.addresses.iter().filter(|address| address.index == link.index);
            let default = |route: &RouteEntry| route.dst.prefix() == 0 && route.index == Some(link.index);
            Some(Candidate {
                ours: marked || inside.contains(&name),
                kinds: self.kinds(link),
                has_default_route: self.routes.iter().any(|route| of_family(&route.dst) && default(route)),
                has_address: addresses.into_iter().any(|own| own.scope == 0 && of_family(&own.address)),
                name,
            })
        });
        candidates.filter(Candidate::is_uplink).map(|candidate| candidate.name).collect()
    }

    fn kinds(&self, link: &Link) -> Vec<Option<String>> {
        let mut kinds = vec![link.kind.clone()];
        let mut below = Some(link);
        while let Some(vlan) = below.filter(|link| link.kind.as_deref() == Some("vlan") && kinds.len() < 8) {
            below = vlan.peer.and_then(|index| self.by_index(index));
            kinds.extend(below.map(|link| link.kind.clone()));
        }
        kinds
    }

    /// The routes to everywhere of the main table, the preferred one first.
    pub fn default_routes(&self, family: Family) -> Vec<&RouteEntry> {
        let all =
            self.routes.iter().filter(|route| route.table == MAIN && route.dst == family.default_route());
        let mut routes: Vec<_> = all.filter(|route| route.index.is_some()).collect();
        routes.sort_by_key(|route| route.priority.unwrap_or(0));
        routes
    }
}

/// What the kernel would do with each packet, rules and all tables considered; in a pod's namespace, or in that of whoever
/// asks.
pub fn look_up(netns: Option<&Netns>, questions: &[Question]) -> kernel::Result<Vec<Way>> {
    if questions.is_empty() {
        return Ok(Vec::new());
    }
    let mut socket = match netns {
        Some(netns) => netns.visit(RouteSocket::open)??,
        None => RouteSocket::open()?,
    };
    questions.iter().map(|question| route::look_up(&mut socket, question)).collect()
}

/// What `iptables-legacy -S` prints of a table, which must be loaded: being asked for one the program loads it.
pub fn legacy_listing(family: Family, table: &str) -> kernel::Result<String> {
    legacy::run(filter::program(family), &["-t".to_owned(), table.to_owned(), "-S".to_owned()])
}

/// A switch of the kernel by its path below `/proc/sys`, such as `net/ipv4/ip_forward`; `None` where it has none.
pub fn switch(key: &str) -> kernel::Result<Option<String>> {
    sysctl::read(key)
}
