//! Where accepts of ours go in chains of somebody else: as late as they still help, never in front of a rule that refuses
//! some packets.
//!
//! What an owner refuses to a part of the packets stays refused: a ban, a policy for some pods, everything but one port.
//! Only what would refuse every new connection that is forwarded, the policy of a chain or a rule that names neither
//! interface nor address, is what we are let through, right in front of it.
//!
//! Pure.

use ipnetwork::IpNetwork;

use super::ChainName;
use super::way::{
    Chains, Condition, Direction, Fate, Maker, Missing, Packet, Rule, Spot, Verdict, follow, track,
};
use crate::datapath::mark::OWNER;
use crate::net::{Family, IfName, network_of};

/// How many accepts an interface needs at most: out, replies, and what was sent there by name.
pub const ACCEPTS: usize = 3;
const HOST_PORTS: usize = 2;

/// A base chain of the forward hook, made by somebody else, with what is reached from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardTable {
    pub base: ChainName,
    pub policy_drops: bool,
    pub chains: Chains,
}

/// Right before that rule, or behind the last one of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub chain: String,
    /// The rule's handle and its place in the chain, counted from 0.
    pub before: Option<(u64, usize)>,
}

/// A rule that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    pub accept: usize,
    pub chain: String,
    pub handle: u64,
    pub index: usize,
}

/// What is to be done to a table so that pods get through and no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub remove: Vec<Removed>,
    /// Accepts by number.
    pub insert: Vec<(usize, Place)>,
}

impl Change {
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.insert.is_empty()
    }
}

/// Why pods' packets do not get through although we are allowed to help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The policy, or a rule for everybody: an accept in front of it is missing.
    LacksAccept,
    /// A rule that singles these packets out: somebody means it.
    Meant,
    /// A chain that others reach too ends so, behind rules that refuse some: no place helps pods alone.
    Shared,
    /// It cannot be said whether the rule refuses all of them.
    Unknown,
}

/// What is in the way of which kind of packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub accept: usize,
    pub obstacle: Obstacle,
    /// `None` is the policy.
    pub rule: Option<Spot>,
}

/// What marks a rule as ours, for that interface.
pub fn comment(interface: &IfName) -> String {
    format!("{OWNER} {interface}")
}

/// The interface whose accept a rule with that comment is.
pub fn commented(comment: &str) -> Option<IfName> {
    comment.strip_prefix(OWNER)?.strip_prefix(' ')?.parse().ok()
}

/// What the accepts of an interface ask: out of it everything; into it replies, and what was sent there by name.
fn conditions(interface: &IfName) -> [Vec<Condition>; ACCEPTS] {
    let through = |direction| Condition::Interface {
        direction,
        name: interface.to_string(),
        prefix: false,
        negated: false,
    };
    let into = |bits| vec![through(Direction::Out), Condition::Track { bits, negated: false }];
    [vec![through(Direction::In)], into(track::ESTABLISHED | track::RELATED), into(track::DNAT)]
}

/// The rule, known as ours by its comment and by what it does: whoever saves and loads a table keeps that, and no more.
pub fn recognized(rule: Rule, comment: Option<&str>) -> Rule {
    let Some(interface) = comment.and_then(commented).filter(|_| rule.verdict == Verdict::Accept) else {
        return rule;
    };
    match conditions(&interface).iter().position(|wanted| *wanted == rule.conditions) {
        Some(accept) => Rule { maker: Maker::Ours(interface, accept), ..rule },
        None => rule,
    }
}

/// What comes from and goes to the pods behind an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    pub interface: IfName,
    /// Packets, and the number of the accept that is for them.
    packets: Vec<(usize, Packet)>,
}

impl Traffic {
    pub fn of(interface: &IfName, families: &[Family], subnets: &[IpNetwork]) -> Self {
        let mut packets = Vec::new();
        for family in families {
            let own = subnets.iter().copied().filter(|subnet| Family::of(subnet.ip()) == *family);
            let own: Vec<_> = own.map(network_of).collect();
            let out = |track| Packet {
                family: *family,
                iif: Some(interface.clone()),
                oif: None,
                source: own.clone(),
                destination: Vec::new(),
                track,
                protocol: None,
                service: None,
                mark: None,
                local: None,
                arp: false,
            };
            let into = |track| Packet {
                iif: None,
                oif: Some(interface.clone()),
                source: Vec::new(),
                destination: own.clone(),
                ..out(track)
            };
            packets.extend([track::NEW, track::ESTABLISHED].map(|track| (0, out(track))));
            packets.extend([track::ESTABLISHED, track::RELATED].map(|track| (1, into(track))));
            packets.push((2, into(track::NEW | track::DNAT)));
        }
        Self { interface: interface.clone(), packets }
    }

    /// Those that a table sees.
    fn seen_by(&self, base: &ChainName) -> impl Iterator<Item = &(usize, Packet)> {
        self.packets.iter().filter(|(_, packet)| base.sees(packet.family))
    }
}

/// Where an accept would help.
enum Target {
    Place(Place),
    /// Nothing drops them.
    NotNeeded,
    Impossible(Obstacle),
}

impl ForwardTable {
    /// What is missing, and what of ours stands where it does harm. Empty when all is well.
    pub fn change(&self, traffic: &Traffic) -> Result<Change, Missing> {
        let mut change = Change::default();
        for accept in 0..ACCEPTS {
            let own = traffic.seen_by(&self.base).filter(|(of, _)| *of == accept);
            let own: Vec<_> = own.map(|(_, packet)| packet).collect();
            self.change_accept(accept, &traffic.interface, &own, &mut change)?;
        }
        Ok(change)
    }

    fn change_accept(
        &self,
        accept: usize,
        interface: &IfName,
        packets: &[&Packet],
        change: &mut Change,
    ) -> Result<(), Missing> {
        let mut places: Vec<Place> = Vec::new();
        for packet in packets {
            if let Target::Place(place) = self.target(packet)?
                && !places.contains(&place)
            {
                places.push(place);
            }
        }
        let mut covered = vec![false; places.len()];
        for (spot, handle) in self.standing(interface, accept) {
            let serves = places.iter().position(|place| self.serves(&spot, place, packets));
            match serves {
                Some(at) if !covered[at] => covered[at] = true,
                // Not needed any more, and nobody is let through by it who would not be without it.
                None if places.is_empty() && !self.refuses_behind(&spot, packets) => {}
                _ => change.remove.push(Removed { accept, chain: spot.chain, handle, index: spot.index }),
            }
        }
        let missing = places.into_iter().zip(covered).filter(|(_, covered)| !covered);
        change.insert.extend(missing.map(|(place, _)| (accept, place)));
        Ok(())
    }

    /// Our accepts of that number, in the chains that were read.
    fn standing(&self, interface: &IfName, accept: usize) -> Vec<(Spot, u64)> {
        let ours = Maker::Ours(interface.clone(), accept);
        let mut found = Vec::new();
        for (chain, rules) in &self.chains.rules {
            for (index, rule) in rules.iter().enumerate() {
                if rule.maker == ours {
                    found.push((Spot { chain: chain.clone(), index }, rule.handle));
                }
            }
        }
        found
    }

    /// Whether a rule of ours stands as good as at the place: nothing between them refuses anything.
    fn serves(&self, spot: &Spot, place: &Place, packets: &[&Packet]) -> bool {
        let end = place.before.map_or(usize::MAX, |(_, index)| index);
        spot.chain == place.chain && spot.index < end && !self.refuses(spot, end, packets)
    }

    fn refuses_behind(&self, spot: &Spot, packets: &[&Packet]) -> bool {
        self.refuses(spot, usize::MAX, packets)
    }

    /// Whether any rule behind the spot and before `end` refuses some of the packets.
    fn refuses(&self, spot: &Spot, end: usize, packets: &[&Packet]) -> bool {
        let rules = self.chains.get(&spot.chain).unwrap_or_default();
        let mut between =
            rules.iter().take(end).skip(spot.index + 1).filter(|rule| rule.maker == Maker::Other);
        between.any(|rule| packets.iter().any(|packet| self.chains.may_refuse(rule, packet, 0)))
    }

    fn target(&self, packet: &Packet) -> Result<Target, Missing> {
        match follow(&self.chains, &self.base.chain, self.policy_drops, packet, true)?.fate {
            Fate::Accepted => Ok(Target::NotNeeded),
            Fate::Dropped(trail) | Fate::DroppedByPolicy(trail) => self.target_on(&trail, packet),
        }
    }

    /// The last place on the trail where an accept is for these packets alone.
    fn target_on(&self, trail: &[Spot], packet: &Packet) -> Result<Target, Missing> {
        for spot in trail {
            // Behind the last rule is the policy, which is for everybody.
            let rule = self.chains.get(&spot.chain)?.get(spot.index);
            if rule.is_some_and(|rule| !rule.is_general()) {
                return Ok(Target::Impossible(Obstacle::Meant));
            }
        }
        let mut own = 0;
        while own + 1 < trail.len()
            && self.chains.is_reached_only_by(&trail[own + 1].chain, &trail[own], packet)?
        {
            own += 1;
        }
        // Behind that place lie chains that others reach too: an accept there would be one for them.
        for spot in &trail[own + 1..] {
            let before = self.chains.get(&spot.chain)?.iter().take(spot.index);
            let mut others = before.filter(|rule| rule.maker == Maker::Other);
            if others.any(|rule| self.chains.may_refuse(rule, packet, 0)) {
                return Ok(Target::Impossible(Obstacle::Shared));
            }
        }
        let spot = &trail[own];
        let rule = self.chains.get(&spot.chain)?.get(spot.index);
        let before = rule.map(|rule| (rule.handle, spot.index));
        Ok(Target::Place(Place { chain: spot.chain.clone(), before }))
    }

    /// The first thing that is in the way, as everything stands. Without `host_ports` nobody misses what somebody refuses
    /// to them.
    pub fn trouble(&self, traffic: &Traffic, host_ports: bool) -> Result<Option<Trouble>, Missing> {
        let mut doubt = None;
        for (accept, packet) in traffic.seen_by(&self.base) {
            let outcome = follow(&self.chains, &self.base.chain, self.policy_drops, packet, false)?;
            let rule = match outcome.fate {
                Fate::Accepted => {
                    let first = outcome.doubts.into_iter().next();
                    let unknown =
                        |rule| Trouble { accept: *accept, obstacle: Obstacle::Unknown, rule: Some(rule) };
                    doubt = doubt.or(first.map(unknown));
                    continue;
                }
                Fate::DroppedByPolicy(_) => None,
                Fate::Dropped(trail) => trail.into_iter().next_back(),
            };
            let obstacle = match self.target(packet)? {
                Target::Impossible(_) if *accept == HOST_PORTS && !host_ports => continue,
                Target::Impossible(obstacle) => obstacle,
                Target::Place(_) | Target::NotNeeded => Obstacle::LacksAccept,
            };
            return Ok(Some(Trouble { accept: *accept, obstacle, rule }));
        }
        Ok(doubt)
    }
}

#[cfg(test)]
mod tests;
