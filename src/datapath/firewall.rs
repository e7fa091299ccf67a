//! What the node's packet filters must let through, and what they must not: decided here, without touching anything.
//!
//! An `accept` of ours does not override a `drop` in another base chain of the same hook, so where a chain of somebody
//! else drops what is forwarded, narrow accepts go into that chain. Policies are never changed. Packets of strangers stay
//! out where forwarding was off before us.
//!
//! Pure.

pub mod accepts;
pub mod flows;
pub mod guard;
pub mod legacy;
pub mod observe;
pub mod passage;
mod reading;
pub mod rules;
mod settled;
pub mod uplinks;
pub mod way;

use std::collections::BTreeSet;
use std::fmt;

use passage::{ForwardTable, Traffic};
use uplinks::{Pair, pairs};

use super::plan::Have;
use super::step::{FilterStep, Step};
use crate::net::{Family, IfName};
use crate::spec::Attachment;
use crate::text::typed;

/// What the kernel has. `observe` fills it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallHave {
    /// This kernel has no nf_tables: nothing of somebody else drops there, and nothing of ours can stand there.
    pub without_nf_tables: bool,
    /// Chains of somebody else through which forwarded packets pass.
    pub foreign: Vec<ForwardTable>,
    /// The same of the old x_tables.
    pub legacy: Vec<ForwardTable>,
    /// Families in which uplinks are kept apart, and which of them.
    pub guards: Vec<(Family, BTreeSet<Pair>)>,
    /// Uplinks by family; only where they matter.
    pub uplinks: Vec<(Family, BTreeSet<IfName>)>,
    pub clamped: Vec<(Family, IfName)>,
    /// Families in which forwarding is on because we switched it on.
    pub switched_on: Vec<Family>,
    /// Uplinks that take router advertisements only as long as the node does not forward.
    pub listeners: Vec<IfName>,
}

/// A chain of nf_tables by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ChainName {
    /// `None` is `inet`: both.
    pub family: Option<Family>,
    pub table: String,
    pub chain: String,
}

impl ChainName {
    /// Whether `iptables` reads this base chain and what it leads to: then every rule there must be one that it knows.
    pub fn is_iptables(&self) -> bool {
        self.family.is_some()
            && matches!(self.table.as_str(), "filter" | "mangle" | "security")
            && self.chain == "FORWARD"
    }

    /// The program of the family that changes it.
    pub fn iptables(&self, flavour: &str) -> String {
        let program = if self.family == Some(Family::V6) { "ip6tables" } else { "iptables" };
        let table = if self.table == "filter" { String::new() } else { format!(" -t {}", self.table) };
        format!("{program}{flavour}{table}")
    }

    /// `inet firewalld`, as it is typed: whoever made the table could call it as they liked.
    pub fn table_words(&self) -> String {
        format!("{} {}", self.family_word(), typed(&self.table))
    }

    fn family_word(&self) -> &'static str {
        match self.family {
            None => "inet",
            Some(Family::V4) => "ip",
            Some(Family::V6) => "ip6",
        }
    }

    pub fn sees(&self, family: Family) -> bool {
        self.family.is_none_or(|own| own == family)
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.family_word(), self.table, self.chain)
    }
}

/// The interfaces of a network that the node routes for: packets of a bridge's own ports carry the bridge's name, those
/// of a VLAN's gateway that of the gateway.
pub fn inside(want: &Attachment) -> Vec<IfName> {
    let vlan = want.gateway.as_ref().and_then(|gateway| gateway.vlan.as_ref());
    [want.bridge.name.clone()].into_iter().chain(vlan.map(|vlan| vlan.name.clone())).collect()
}

/// What comes and goes through them.
pub fn traffic(want: &Attachment) -> Vec<Traffic> {
    let subnets = want.gateway.as_ref().map(|gateway| gateway.addresses.as_slice()).unwrap_or_default();
    inside(want).iter().map(|interface| Traffic::of(interface, &want.forwarding, subnets)).collect()
}

/// What must stand before forwarding is switched on.
pub fn plan_before_forwarding(want: &Attachment, have: &Have, steps: &mut Vec<Step>) {
    let firewall = &have.firewall;
    for family in want.forwarding.iter().copied() {
        if !needs_guard(want, family, &have.forwarding, firewall) {
            continue;
        }
        let none = BTreeSet::new();
        let of = |(known, _): &&(Family, BTreeSet<_>)| *known == family;
        let standing = firewall.guards.iter().find(of).map(|(_, pairs)| pairs);
        let uplinks = firewall.uplinks.iter().find(|(known, _)| *known == family);
        let wanted = uplinks.map(|(_, uplinks)| pairs(uplinks)).unwrap_or_default();
        let has = standing.unwrap_or(&none);
        let add: BTreeSet<_> = wanted.difference(has).cloned().collect();
        let remove: BTreeSet<_> = has.difference(&wanted).cloned().collect();
        if standing.is_none() || !add.is_empty() || !remove.is_empty() {
            steps.push(Step::Filter(FilterStep::GuardForward {
                family,
                rule: standing.is_none(),
                add,
                remove,
            }));
        }
    }
    let listeners = firewall.listeners.iter().filter(|_| forwards_newly(want, have, Family::V6));
    steps.extend(listeners.map(|link| Step::Filter(FilterStep::KeepAdvertisements { link: link.clone() })));
}

/// Whether uplinks are to be kept apart: where forwarding is on because of us, and where a guard stands already, for
/// whichever network.
pub(super) fn needs_guard(
    want: &Attachment,
    family: Family,
    forwarding: &[Family],
    firewall: &FirewallHave,
) -> bool {
    let ours = !forwarding.contains(&family) || firewall.switched_on.contains(&family);
    let stands = firewall.guards.iter().any(|(known, _)| *known == family);
    !firewall.without_nf_tables && (stands || want.firewall.guard && ours)
}

fn forwards_newly(want: &Attachment, have: &Have, family: Family) -> bool {
    want.forwarding.contains(&family) && !have.forwarding.contains(&family)
}

/// What pods' packets need on their way.
pub fn plan_passage(want: &Attachment, have: &Have, steps: &mut Vec<Step>) {
    let firewall = &have.firewall;
    if want.firewall.clamp_mss && !firewall.without_nf_tables {
        for family in &want.forwarding {
            for interface in inside(want) {
                if !firewall.clamped.contains(&(*family, interface.clone())) {
                    steps.push(Step::Filter(FilterStep::ClampMss { family: *family, interface }));
                }
            }
        }
    }
    if want.firewall.accept {
        plan_accepts(want, firewall, steps);
    }
}

fn plan_accepts(want: &Attachment, firewall: &FirewallHave, steps: &mut Vec<Step>) {
    let traffic = traffic(want);
    let changes = |table: &ForwardTable| {
        let changes =
            traffic.iter().map(|traffic| (traffic.clone(), table.change(traffic).unwrap_or_default()));
        changes.filter(|(_, change)| !change.is_empty()).collect::<Vec<_>>()
    };
    for table in &firewall.foreign {
        let changes = changes(table).into_iter();
        steps.extend(changes.map(|(traffic, change)| {
            Step::Filter(FilterStep::AcceptForward { chain: table.base.clone(), traffic, change })
        }));
    }
    for table in &firewall.legacy {
        let changes = changes(table).into_iter();
        let family = table.base.family.unwrap_or(Family::V4);
        steps.extend(
            changes
                .map(|(traffic, change)| Step::Filter(FilterStep::AcceptLegacy { family, traffic, change })),
        );
    }
}

#[cfg(test)]
mod tests;
