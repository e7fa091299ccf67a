//! What the node's packet filters must let through, and what they must not: decided here, without touching anything.
//!
//! An `accept` of ours does not override a `drop` in another base chain of the same hook, so where a chain of somebody
//! else drops what is forwarded, narrow accepts go into that chain. Policies are never changed. Packets of strangers stay
//! out where forwarding was off before us.

pub mod legacy;
pub mod observe;
pub mod rules;

use std::fmt;

use super::plan::Have;
use super::spec::Attachment;
use super::step::Step;
use crate::net::{Family, IfName};

/// What the kernel has. `observe` fills it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallHave {
    /// This kernel has no nf_tables: nothing of somebody else drops there, and nothing of ours can stand there.
    pub without_nf_tables: bool,
    /// Chains of somebody else through which forwarded packets pass, for one interface of ours each.
    pub foreign: Vec<ForwardChain>,
    /// Families and interfaces that the old x_tables drop for, without our accepts.
    pub legacy: Vec<(Family, IfName)>,
    /// Families in which strangers' packets are not forwarded.
    pub guards: Vec<Family>,
    /// Families and interfaces whose packets the guard lets through.
    pub guarded: Vec<(Family, IfName)>,
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
    /// Whether `iptables` reads this chain: then every rule in it must be one that it knows.
    pub fn is_iptables(&self) -> bool {
        self.family.is_some() && self.table == "filter" && self.chain == "FORWARD"
    }

    pub fn sees(&self, family: Family) -> bool {
        self.family.is_none_or(|own| own == family)
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = match self.family {
            None => "inet",
            Some(Family::V4) => "ip",
            Some(Family::V6) => "ip6",
        };
        write!(f, "{family} {} {}", self.table, self.chain)
    }
}

/// A base chain of the forward hook, seen from one interface of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardChain {
    pub name: ChainName,
    pub interface: IfName,
    pub policy_drops: bool,
    /// In their order.
    pub rules: Vec<ForwardRule>,
}

/// As much of a rule as decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardRule {
    /// One of the accepts that the interface needs, by its place among them.
    Ours(usize),
    /// Takes every packet.
    AcceptAll,
    DropAll,
    Other,
}

/// How many accepts an interface needs in a chain: out, replies, and what was sent there by name.
pub const ACCEPTS: usize = 3;

impl ForwardChain {
    /// Whether a packet that no other rule takes is lost here: by the first rule without any match, else by the policy.
    pub fn drops(&self) -> bool {
        let all =
            self.rules.iter().find(|rule| matches!(rule, ForwardRule::AcceptAll | ForwardRule::DropAll));
        all.map_or(self.policy_drops, |rule| *rule == ForwardRule::DropAll)
    }

    /// Whether all of our accepts stand where packets still reach them.
    pub fn accepts(&self) -> bool {
        let reached: Vec<_> = self.rules.iter().take_while(|rule| **rule != ForwardRule::DropAll).collect();
        (0..ACCEPTS).all(|at| reached.contains(&&ForwardRule::Ours(at)))
    }
}

/// The interfaces of a network that the node routes for: packets of a bridge's own ports carry the bridge's name, those
/// of a VLAN's gateway that of the gateway.
pub fn inside(want: &Attachment) -> Vec<IfName> {
    let vlan = want.gateway.as_ref().and_then(|gateway| gateway.vlan.as_ref());
    [want.bridge.name.clone()].into_iter().chain(vlan.map(|vlan| vlan.name.clone())).collect()
}

/// What must stand before forwarding is switched on.
pub fn plan_before_forwarding(want: &Attachment, have: &Have, steps: &mut Vec<Step>) {
    let firewall = &have.firewall;
    for family in want.forwarding.iter().copied().filter(|_| !firewall.without_nf_tables) {
        let ours = !have.forwarding.contains(&family) || firewall.switched_on.contains(&family);
        // A guard that stands already, for whichever network, would drop this one's packets too.
        if !(firewall.guards.contains(&family) || want.firewall.guard && ours) {
            continue;
        }
        for interface in inside(want) {
            if !firewall.guarded.contains(&(family, interface.clone())) {
                steps.push(Step::GuardForward { family, interface });
            }
        }
    }
    let listeners = firewall.listeners.iter().filter(|_| forwards_newly(want, have, Family::V6));
    steps.extend(listeners.map(|link| Step::KeepAdvertisements { link: link.clone() }));
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
                    steps.push(Step::ClampMss { family: *family, interface });
                }
            }
        }
    }
    if want.firewall.accept {
        for chain in firewall.foreign.iter().filter(|chain| chain.drops() && !chain.accepts()) {
            let (chain, interface) = (chain.name.clone(), chain.interface.clone());
            steps.push(Step::AcceptForward { chain, interface });
        }
        for (family, interface) in &firewall.legacy {
            steps.push(Step::AcceptLegacy { family: *family, interface: interface.clone() });
        }
    }
}

#[cfg(test)]
mod tests;
