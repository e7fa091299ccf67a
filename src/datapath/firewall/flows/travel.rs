//! What becomes of a flow on its hooks, one base chain after the other, and which pods fare alike.
//!
//! Pure.

use std::collections::BTreeSet;
use std::rc::Rc;

use ipnetwork::IpNetwork;

use super::{Ends, Flow, Heading, Layer, Point, Stage, stages};
use crate::datapath::firewall::way::{Chains, Condition, Fate, Packet, Spot, follow};
use crate::net::{Family, IfName, overlap};

/// Whose a base chain is, for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// `inet firewalld`
    Nft(String),
    /// A table of the old x_tables.
    Legacy(Family, String),
}

/// A chain on a hook, made by somebody else.
#[derive(Clone, Debug)]
pub struct Base {
    pub layer: Layer,
    pub point: Point,
    /// `None` sees both.
    pub family: Option<Family>,
    /// Of hooks of single devices.
    pub devices: Vec<String>,
    pub priority: i32,
    /// It translates addresses; what its rules do not decide is left as it is.
    pub translates: bool,
    pub policy_drops: bool,
    pub owner: Owner,
    pub chain: String,
    pub chains: Rc<Chains>,
}

impl Base {
    fn is_on(&self, stage: &Stage) -> bool {
        let packet = &stage.packet;
        let device = || packet.iif.as_ref().or(packet.oif.as_ref()).map(IfName::as_str);
        self.layer == stage.layer
            && self.point == stage.point
            && self.family.is_none_or(|own| own == packet.family)
            && stage.priorities.contains(&self.priority)
            && (self.layer != Layer::Device || self.devices.iter().any(|own| Some(own.as_str()) == device()))
    }
}

/// Where a flow ends before its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub flow: Flow,
    pub heading: Heading,
    /// Which of the base chains.
    pub base: usize,
    /// What the packets are there.
    pub packet: Packet,
    /// `None` is the policy.
    pub rule: Option<Spot>,
    /// A part of the packets is accepted in that chain, by a rule that names a pod, its network or its interface.
    pub partly: bool,
}

/// What was found about one pod's flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Travel {
    pub blocked: Vec<Blocked>,
    /// The same, where nobody can tell whether it is so.
    pub doubts: Vec<Blocked>,
    /// The mark with which packets are routed, where it could be told: by flow, on the way there.
    pub marks: Vec<(Flow, Option<u32>)>,
}

/// All flows of a pod, in both directions.
pub fn travel(bases: &[Base], ends: &Ends) -> Travel {
    let mut found = Travel::default();
    let family = Family::of(ends.pod.address);
    for flow in Flow::ALL {
        for protocol in flow.protocols(family) {
            for heading in [Heading::Original, Heading::Reply] {
                let stages = stages(flow, heading, *protocol, ends);
                let mark = found.one(bases, &stages, (flow, heading), ends);
                if heading == Heading::Original {
                    found.marks.push((flow, mark));
                }
            }
        }
    }
    // A pod's TCP is routed as its UDP, but for rules that mark one of them.
    found.marks.dedup();
    found
}

impl Travel {
    /// Ends where the first chain drops. Returns the mark with which the kernel looks for a route.
    fn one(
        &mut self,
        bases: &[Base],
        stages: &[Stage],
        (flow, heading): (Flow, Heading),
        ends: &Ends,
    ) -> Option<u32> {
        let (mut mark, mut routed) = (Some(0), Some(0));
        for stage in stages {
            let mut here: Vec<usize> = (0..bases.len()).filter(|at| bases[*at].is_on(stage)).collect();
            here.sort_by_key(|at| bases[*at].priority);
            for at in here {
                let base = &bases[at];
                let packet = Packet { mark, ..stage.packet.clone() };
                // All chains were read: nothing can be missing.
                let Ok(outcome) = follow(&base.chains, &base.chain, base.policy_drops, &packet, false) else {
                    continue;
                };
                let named = |spot: &Spot| names_pods(base, spot, ends);
                let partly = outcome.exceptions.iter().any(named)
                    // Neighbour discovery is let through by its kinds of messages.
                    // Which packets it takes is known but for a part; who accepts that part may mean these.
                    || matches!(flow, Flow::Resolution | Flow::PodToNames) && !outcome.exceptions.is_empty();
                let blocked =
                    |rule| Blocked { flow, heading, base: at, packet: packet.clone(), rule, partly };
                match outcome.fate {
                    Fate::Accepted => {
                        let doubts = outcome.doubts.into_iter().filter(|_| !base.translates).take(1);
                        add(&mut self.doubts, doubts.map(|spot| blocked(Some(spot))));
                    }
                    Fate::DroppedByPolicy(_) => {
                        add(&mut self.blocked, std::iter::once(blocked(None)));
                        return routed;
                    }
                    Fate::Dropped(trail) => {
                        add(&mut self.blocked, std::iter::once(blocked(trail.into_iter().next_back())));
                        return routed;
                    }
                }
                mark = outcome.mark;
            }
            if stage.layer == Layer::Network && matches!(stage.point, Point::Prerouting | Point::Output) {
                routed = mark;
            }
        }
        routed
    }
}

/// One for each chain, rule and direction: what TCP meets UDP meets too.
fn add(list: &mut Vec<Blocked>, more: impl Iterator<Item = Blocked>) {
    for blocked in more {
        let same = |other: &Blocked| {
            (other.flow, other.heading, other.base) == (blocked.flow, blocked.heading, blocked.base)
                && other.rule == blocked.rule
                // Names need both protocols: one that is let in makes up for the other no more than for nothing.
                && (blocked.flow != Flow::PodToNames || other.partly == blocked.partly)
        };
        if !list.iter().any(same) {
            list.push(blocked);
        }
    }
}

/// Whether the rule is about pods: it names one, their network or their interface.
fn names_pods(base: &Base, spot: &Spot, ends: &Ends) -> bool {
    let rule = base.chains.get(&spot.chain).ok().and_then(|rules| rules.get(spot.index));
    rule.is_some_and(|rule| {
        rule.conditions.iter().any(|condition| match condition {
            Condition::Address { network, negated: false, .. } => {
                network.prefix() > 0 && network.contains(ends.pod.address)
            }
            Condition::Interface { name, prefix: false, negated: false, .. } => {
                [&ends.bridge, &ends.gateway, &ends.pod.port].into_iter().any(|own| own.as_str() == name)
            }
            _ => false,
        })
    })
}

/// Groups of pods that no rule tells apart, by their place in the list. `pods` are of one family.
pub fn alike(bases: &[Base], pods: &[Ends]) -> Vec<Vec<usize>> {
    let Some(first) = pods.first() else { return Vec::new() };
    let around = pods.iter().fold(IpNetwork::from(first.pod.address), |around, ends| {
        let mut around = around;
        while !around.contains(ends.pod.address) {
            let wider = IpNetwork::new(around.ip(), around.prefix() - 1);
            around = wider.unwrap_or(around);
        }
        around
    });
    let (mut networks, mut names) = (BTreeSet::new(), BTreeSet::new());
    let mut seen: Vec<*const Chains> = Vec::new();
    for base in bases {
        if seen.contains(&Rc::as_ptr(&base.chains)) {
            continue;
        }
        seen.push(Rc::as_ptr(&base.chains));
        for condition in base.chains.rules.values().flatten().flat_map(|rule| &rule.conditions) {
            match condition {
                // One that has all of them tells nobody apart.
                Condition::Address { network, .. }
                    if network.prefix() > around.prefix() && overlap(*network, around) =>
                {
                    networks.insert(*network);
                }
                Condition::Interface { name, prefix, .. } if !name.is_empty() => {
                    names.insert((name.as_str(), *prefix));
                }
                _ => {}
            }
        }
    }
    let sets: BTreeSet<_> = bases.iter().flat_map(|base| base.chains.members.keys()).collect();
    let signature = |ends: &Ends| {
        let port = ends.pod.port.as_str();
        let is_named =
            |(name, prefix): &(&str, bool)| if *prefix { port.starts_with(name) } else { port == *name };
        let sets_with_it = |base: &Base| {
            let of = |key: &&&(String, IfName)| {
                key.1 == ends.pod.port && base.chains.members.get(**key) == Some(&true)
            };
            sets.iter().filter(of).map(|key| key.0.clone()).collect::<Vec<_>>()
        };
        let devices = bases.iter().map(|base| base.devices.iter().any(|device| device == port));
        (
            ends.bridge.clone(),
            networks.iter().map(|network| network.contains(ends.pod.address)).collect::<Vec<_>>(),
            names.iter().map(is_named).collect::<Vec<_>>(),
            (!sets.is_empty()).then(|| bases.iter().map(sets_with_it).collect::<Vec<_>>()),
            devices.collect::<Vec<_>>(),
        )
    };
    let mut groups: Vec<(_, Vec<usize>)> = Vec::new();
    for (at, ends) in pods.iter().enumerate() {
        let signature = signature(ends);
        match groups.iter_mut().find(|(known, _)| *known == signature) {
            Some((_, members)) => members.push(at),
            None => groups.push((signature, vec![at])),
        }
    }
    groups.into_iter().map(|(_, members)| members).collect()
}
