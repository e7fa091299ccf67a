//! What is there and no attachment wants, decided without touching anything.
//!
//! What pods leave (elements of maps and sets) goes as soon as no record speaks of it. What belongs to a network (masquerade
//! rule, guard, clamp, accepts in chains of others) stays as long as its bridge does, because the next pod needs it: it goes
//! when neither the bridge nor any attachment is left.
//!
//! Pure.

pub mod apply;
pub mod observe;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::firewall::ChainName;
use super::hostports::{Entry, Mapping, Owner, family_words};
use super::mark::OWNER;
use super::rules::masquerade_comment;
use crate::net::{DNS_PORT, Family, IfName};
use crate::state::record::Unread;

/// What all attachments together want, unfinished ones included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Host ends.
    pub ports: BTreeSet<IfName>,
    /// Interfaces of the node that pods' packets come through.
    pub inside: BTreeSet<IfName>,
    /// Networks by name, with the subnets that are masqueraded for them.
    pub masquerade: BTreeSet<(String, IpNetwork)>,
    /// Addresses of pods, whose host ports are known.
    pub addresses: BTreeSet<IpAddr>,
    /// Links whose pods' questions to other name servers come to the node's.
    pub intercepted: BTreeSet<IfName>,
    /// Containers with host ports.
    pub containers: BTreeSet<String>,
    /// Records that cannot be read: they want something, of their container.
    pub unread: Vec<Unread>,
}

/// What the kernel has. `observe` fills it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// All links of the node.
    pub links: BTreeSet<IfName>,
    /// Gateways on bridges that carry our mark.
    pub gateways: Vec<IpNetwork>,
    /// Ports whose frames are checked.
    pub checked: BTreeSet<IfName>,
    pub masquerade: Vec<MasqueradeRule>,
    /// Interfaces in sets of ours: which set, in which family.
    pub members: Vec<Member>,
    /// Links whose pods' questions come to the node's name server, whomever they ask.
    pub intercepted: Vec<(Family, IfName)>,
    /// Accepts of ours in chains of others.
    pub accepts: Vec<(ChainName, IfName)>,
    /// Elements of host ports, with their comments.
    pub entries: Vec<(Entry, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasqueradeRule {
    pub family: Family,
    pub handle: u64,
    /// The rule's comment.
    pub network: String,
    /// `None` for a rule in our chain that is none of ours.
    pub subnet: Option<IpNetwork>,
    /// As `nft` lists it.
    pub text: String,
}

/// An interface in a set of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    pub family: Family,
    pub set: MemberSet,
    pub interface: IfName,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberSet {
    Clamped,
    PodLinks,
}

impl MemberSet {
    pub const ALL: [Self; 2] = [Self::Clamped, Self::PodLinks];

    pub fn name(self) -> &'static str {
        match self {
            Self::Clamped => "clamped",
            Self::PodLinks => "pod_links",
        }
    }
}

/// Something of ours that goes. Displays as the command a person would type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    SpoofCheck(IfName),
    Masquerade(MasqueradeRule),
    Member(Member),
    Accepts(ChainName, IfName),
    Intercept(Family, IfName),
    Entry(Entry),
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SpoofCheck(port) => {
                write!(
                    f,
                    "node: nft delete element bridge {OWNER} spoof_ports {{ {port} }} and its spoof_allowed"
                )
            }
            Self::Masquerade(rule) => write!(
                f,
                "node: nft delete rule {} {OWNER} egress handle {} ({} comment \"{}\")",
                family_words(rule.family),
                rule.handle,
                rule.text,
                rule.network
            ),
            Self::Member(Member { family, set, interface }) => write!(
                f,
                "node: nft delete element {} {OWNER} {} {{ \"{interface}\" }}",
                family_words(*family),
                set.name()
            ),
            Self::Accepts(chain, interface) => {
                write!(f, "node: nft delete the rules of {chain} with the comment \"{OWNER} {interface}\"")
            }
            Self::Intercept(family, link) => write!(
                f,
                "node: nft delete element {} {OWNER} dns_intercept {{ \"{link}\" . udp . {DNS_PORT}, \"{link}\" . tcp . {DNS_PORT} \
                 }}, and its network of dns_inside",
                family_words(*family)
            ),
            Self::Entry(entry) => {
                let family = family_words(entry.family());
                write!(f, "node: nft delete element {family} {OWNER} {} {{ {entry} }}", entry.set())
            }
        }
    }
}

/// Everything that goes; empty when all that is there is wanted.
pub fn plan(wanted: &Wanted, present: &Present) -> Vec<Removal> {
    // A link that is there may have lost its record, and its pod lives.
    let is_idle = |interface: &IfName| {
        !wanted.inside.contains(interface)
            && !wanted.ports.contains(interface)
            && !present.links.contains(interface)
    };
    let checked = present.checked.iter().filter(|port| is_idle(port)).cloned().map(Removal::SpoofCheck);
    let mut removals: Vec<_> = checked.collect();
    let members = present.members.iter().filter(|member| is_idle(&member.interface));
    removals.extend(members.cloned().map(Removal::Member));
    let accepts = present.accepts.iter().filter(|(_, interface)| is_idle(interface)).cloned();
    removals.extend(accepts.map(|(chain, interface)| Removal::Accepts(chain, interface)));
    // Somebody's pods were told of others; of which network a record is that cannot be read, nobody knows.
    let idle = |(_, link): &&(Family, IfName)| wanted.unread.is_empty() && !wanted.intercepted.contains(link);
    let intercepted = present.intercepted.iter().filter(idle).cloned();
    removals.extend(intercepted.map(|(family, link)| Removal::Intercept(family, link)));
    let rules = present.masquerade.iter().filter(|rule| !is_masqueraded(rule, wanted, present));
    removals.extend(rules.cloned().map(Removal::Masquerade));
    removals.extend(plan_entries(wanted, present));
    removals
}

fn is_masqueraded(rule: &MasqueradeRule, wanted: &Wanted, present: &Present) -> bool {
    // Of which network a record is that cannot be read, nobody knows.
    if !wanted.unread.is_empty() {
        return true;
    }
    // What somebody else put into our chain was put there on purpose.
    let Some(subnet) = rule.subnet else { return true };
    let by_network =
        |(network, its): &(String, IpNetwork)| *its == subnet && masquerade_comment(network) == rule.network;
    wanted.masquerade.iter().any(by_network)
        || present.gateways.iter().any(|gateway| subnet.contains(gateway.ip()))
}

fn plan_entries(wanted: &Wanted, present: &Present) -> Vec<Removal> {
    let living: BTreeSet<String> = wanted.containers.iter().map(|name| Owner::short_name(name)).collect();
    let may_live =
        |name: &str| wanted.unread.iter().any(|unread| unread.is_of(name) || Owner::is_shortened(name));
    let is_orphan = |comment: &str| {
        let name = Owner::named(comment);
        !comment.is_empty() && !living.contains(name) && !may_live(name)
    };
    let mut leaving: Vec<Entry> = Vec::new();
    let mut staying: Vec<&Mapping> = Vec::new();
    for (entry, comment) in &present.entries {
        match entry {
            Entry::PortAt(..) => {}
            _ if is_orphan(comment) => leaving.push(entry.clone()),
            Entry::Port(mapping) if mapping.host_ip.is_some() => staying.push(mapping),
            _ => {}
        }
    }
    let is_used = |family: Family, protocol, port| {
        let uses = |mapping: &&Mapping| {
            (mapping.family(), mapping.protocol, mapping.host_port) == (family, protocol, port)
        };
        staying.iter().any(uses)
    };
    let idle = present.entries.iter().filter_map(|(entry, _)| match entry {
        Entry::PortAt(family, protocol, port) if !is_used(*family, *protocol, *port) => Some(entry.clone()),
        _ => None,
    });
    leaving.extend(idle);
    leaving.into_iter().map(Removal::Entry).collect()
}

#[cfg(test)]
mod tests;
