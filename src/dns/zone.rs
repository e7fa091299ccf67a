//! The names of this node's pods: pods in, answers out.
//!
//! Owns which names a pod has, who sees which of them, and what is answered here and never asked elsewhere. Refuses to know
//! messages, sockets and files.
//!
//! A name that pods of several namespaces have without their namespace in it belongs to the asker's own first: the
//! namespace is that of the pod with the source address.
//!
//! Pure.

mod build;
mod reverse;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use domain::base::Rtype;
use ipnetwork::IpNetwork;

use super::name::{self, Label, Name};

/// One pod with an identity. Its addresses are those of one network: a pod in two networks is two of these.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pod {
    /// Absent for containers of runtimes that have none.
    pub(crate) namespace: Option<Label>,
    /// What it is called, the canonical name first.
    pub(crate) hosts: Vec<Label>,
    pub(crate) subdomain: Option<Label>,
    pub(crate) addresses: Vec<IpAddr>,
}

/// A pod of the host's network. It has the node's addresses, and none is its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostPod {
    pub(crate) namespace: Label,
    pub(crate) name: Label,
}

/// A name that the node's owner gave to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) address: IpAddr,
    pub(crate) name: Name,
}

/// What a zone is made of.
#[derive(Clone, Debug)]
pub(crate) struct Contents {
    /// `cluster.local`, unless the cluster has another.
    pub(crate) domain: Name,
    /// Where we are asked.
    pub(crate) server: IpAddr,
    /// The node's addresses towards its pods.
    pub(crate) gateways: Vec<IpAddr>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) host_pods: Vec<HostPod>,
    pub(crate) hosts: Vec<Host>,
    /// Pods' networks: their pointers are ours alone.
    pub(crate) ranges: Vec<IpNetwork>,
    /// Names of one label that no pod has are asked elsewhere.
    pub(crate) forwards_single_labels: bool,
    /// Somebody else knows more names of the domain.
    pub(crate) has_cluster_upstream: bool,
}

/// The labels between a name and the domain that are no host's.
const RESERVED: [&str; 2] = ["svc", "pod"];
/// smarter-dns had its shortest whole names there, whatever the domain was.
const CLUSTER_LOCAL: &str = "cluster.local";

#[derive(Debug)]
pub(crate) struct Zone {
    names: HashMap<Name, Node>,
    pointers: HashMap<IpAddr, Vec<Name>>,
    /// Of the pods with that address, as numbers.
    askers: HashMap<IpAddr, Vec<u32>>,
    /// The domain, and `cluster.local` where that is another.
    apexes: Vec<Name>,
    ranges: Vec<IpNetwork>,
    server: Name,
    mailbox: Name,
    forwards_single_labels: bool,
    has_cluster_upstream: bool,
}

/// What has a name. Nothing, where there are only names below it (RFC 8020).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Node {
    groups: Vec<Group>,
    /// The negative answer names this part of it; whole names of hosts are zones of their own.
    apex: Apex,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Apex {
    /// It is below one of [`Zone::apexes`].
    #[default]
    Domain,
    Itself,
    Root,
}

/// The addresses that a name has in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    namespace: Option<u32>,
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Look<'z> {
    /// This is all there is to say, with authority.
    Local(Answer<'z>),
    /// The domain's, and not one of ours: for the cluster's own server.
    ClusterUpstream,
    Forward,
}

#[derive(Debug, PartialEq)]
pub(crate) struct Answer<'z> {
    /// Whether the name exists; without records it is an answer all the same.
    pub(crate) exists: bool,
    pub(crate) records: Records<'z>,
    /// Where in the name that was asked the zone begins whose SOA stands in a negative answer.
    pub(crate) apex: usize,
}

#[derive(Debug, PartialEq)]
pub(crate) enum Records<'z> {
    None,
    Addresses(Addresses<'z>),
    Pointers(&'z [Name]),
    Soa,
    Ns,
}

/// Addresses of the wanted families, turned by a number so that each replica comes first in its turn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Addresses<'z> {
    groups: &'z [Group],
    v4: bool,
    v6: bool,
    turn: usize,
}

impl<'z> Addresses<'z> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = IpAddr> + 'z {
        let all = self.in_order();
        let count = all.clone().count();
        let first = self.turn.checked_rem(count).unwrap_or(0);
        all.cycle().skip(first).take(count)
    }

    /// Each once, also where pods of two namespaces are said to have it.
    fn in_order(&self) -> impl Iterator<Item = IpAddr> + Clone + 'z {
        let groups = self.groups;
        let [v4, v6] = [self.v4, self.v6].map(|wanted| if wanted { usize::MAX } else { 0 });
        groups.iter().enumerate().flat_map(move |(at, group)| {
            let before = groups.get(..at).unwrap_or_default();
            let fours = group
                .v4
                .iter()
                .take(v4)
                .filter(move |own| !before.iter().any(|other| other.v4.contains(own)));
            let sixes = group
                .v6
                .iter()
                .take(v6)
                .filter(move |own| !before.iter().any(|other| other.v6.contains(own)));
            fours.copied().map(IpAddr::V4).chain(sixes.copied().map(IpAddr::V6))
        })
    }

    fn is_empty(&self) -> bool {
        self.in_order().next().is_none()
    }
}

impl Zone {
    /// Whom we are known by: the name server of all of it, and where its keeper is written to.
    pub(crate) fn authority(&self) -> (&Name, &Name) {
        (&self.server, &self.mailbox)
    }

    /// How many names have addresses.
    pub(crate) fn count(&self) -> usize {
        self.names.values().filter(|node| !node.groups.is_empty()).count()
    }

    /// Every name that leads to an address, those to which its pointer leads first, then the longest.
    pub(crate) fn by_address(&self) -> HashMap<IpAddr, Vec<&Name>> {
        let mut all: HashMap<IpAddr, Vec<&Name>> = HashMap::new();
        for (name, node) in &self.names {
            let groups = &node.groups;
            for address in (Addresses { groups, v4: true, v6: true, turn: 0 }).iter() {
                all.entry(address).or_default().push(name);
            }
        }
        for (address, names) in &mut all {
            let pointers = self.pointers.get(address).map(Vec::as_slice).unwrap_or_default();
            names.sort_by_cached_key(|name| {
                let at = pointers.iter().position(|pointer| pointer == *name).unwrap_or(usize::MAX);
                (at, std::cmp::Reverse(name::labels(name.as_wire()).count()), *name)
            });
        }
        all
    }

    /// `name` in lower case, as on the wire. `turn` chooses who comes first among several.
    pub(crate) fn look(&self, name: &[u8], kind: Rtype, source: IpAddr, turn: usize) -> Look<'_> {
        let apex = self.apexes.iter().find_map(|apex| name::position(name, apex.as_wire()));
        if let Some(node) = self.names.get(name)
            && !(node.groups.is_empty() && self.has_cluster_upstream && apex != Some(0))
        {
            return Look::Local(self.found(node, name, apex, kind, source, turn));
        }
        if let Some(apex) = apex {
            return if self.has_cluster_upstream { Look::ClusterUpstream } else { missing(apex) };
        }
        if let Some(found) = reverse::parse(name).and_then(|asked| self.pointer(&asked, kind)) {
            return Look::Local(found);
        }
        if !self.forwards_single_labels && name::labels(name).count() == 1 && !is_of_delegation(kind) {
            return missing(name.len().saturating_sub(1));
        }
        Look::Forward
    }

    fn found<'z>(
        &'z self,
        node: &'z Node,
        name: &[u8],
        apex: Option<usize>,
        kind: Rtype,
        source: IpAddr,
        turn: usize,
    ) -> Answer<'z> {
        let apex = match node.apex {
            Apex::Domain => apex.unwrap_or(0),
            Apex::Itself => 0,
            Apex::Root => name.len().saturating_sub(1),
        };
        let records = match kind {
            Rtype::SOA if apex == 0 => Records::Soa,
            Rtype::NS if apex == 0 => Records::Ns,
            Rtype::A | Rtype::AAAA | Rtype::ANY => {
                let groups = self.seen_by(source, &node.groups);
                // RFC 8482: any of them is an answer to the question for all.
                let (v4, v6) = (kind != Rtype::AAAA, kind != Rtype::A);
                let addresses = Addresses { groups, v4, v6, turn };
                if addresses.is_empty() { Records::None } else { Records::Addresses(addresses) }
            }
            _ => Records::None,
        };
        Answer { exists: true, records, apex }
    }

    /// Those of the asker's namespace, if it has any.
    fn seen_by<'z>(&self, source: IpAddr, groups: &'z [Group]) -> &'z [Group] {
        let own = self.askers.get(&source).map(Vec::as_slice).unwrap_or_default();
        let is_own = |group: &Group| group.namespace.is_some_and(|namespace| own.contains(&namespace));
        match groups.iter().position(is_own) {
            Some(at) => groups.get(at..=at).unwrap_or_default(),
            None => groups,
        }
    }

    /// What is said of a name below in-addr.arpa or ip6.arpa; `None` when its range is not ours.
    fn pointer(&self, asked: &reverse::Asked, kind: Rtype) -> Option<Answer<'_>> {
        let range = self.ranges.iter().find(|range| asked.is_within(**range));
        let names = asked.address().and_then(|address| self.pointers.get(&address));
        if range.is_none() && names.is_none() {
            return None;
        }
        // The server's own address is in nobody's range: a zone of its own.
        let apex = range.map_or(0, |range| asked.apex(*range));
        let below = || self.pointers.keys().any(|address| asked.covers(*address));
        let exists = apex == 0 || names.is_some() || (asked.is_whole() && below());
        let records = match (kind, names) {
            (Rtype::SOA, _) if apex == 0 => Records::Soa,
            (Rtype::NS, _) if apex == 0 => Records::Ns,
            (Rtype::PTR | Rtype::ANY, Some(names)) => Records::Pointers(names),
            _ => Records::None,
        };
        Some(Answer { exists, records, apex })
    }
}

/// What resolvers that validate ask about a domain of the world, and not about a host: they conclude that nothing is below
/// a name that does not exist (RFC 8020), and `com` is a name of one label, too.
fn is_of_delegation(kind: Rtype) -> bool {
    matches!(kind, Rtype::NS | Rtype::SOA | Rtype::DS | Rtype::DNSKEY)
}

fn missing<'z>(apex: usize) -> Look<'z> {
    Look::Local(Answer { exists: false, records: Records::None, apex })
}

#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;
