//! A packet of which a part is known, and which of the packets that it stands for a rule takes.
//!
//! Pure.

use ipnetwork::IpNetwork;

use super::{Chains, Condition, Direction, End, Rule};
use crate::net::{Family, IfName, overlap};

/// What is known of the packets that are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub family: Family,
    /// `None` is any.
    pub iif: Option<IfName>,
    pub oif: Option<IfName>,
    /// Empty is any.
    pub source: Vec<IpNetwork>,
    pub destination: Vec<IpNetwork>,
    /// One state, with [`track::DNAT`] where the first packet was sent elsewhere.
    pub track: u32,
    /// `None` is any, here and below.
    pub protocol: Option<u8>,
    /// Of a service: at which end it is, and its port.
    pub service: Option<(End, u16)>,
    pub mark: Option<u32>,
    /// Whether the destination is an address of the node.
    pub local: Option<bool>,
    /// A question or an answer of ARP, of which the addresses are not looked at.
    pub arp: bool,
}

/// Which of the packets a rule takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Answer {
    All,
    Some,
    /// Some, or all: it cannot be decided.
    Perhaps,
    None,
}

impl Answer {
    fn from(matches: bool, negated: bool) -> Self {
        if matches == negated { Self::None } else { Self::All }
    }

    /// Of two conditions of which one is enough.
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::All, _) | (_, Self::All) => Self::All,
            (Self::Perhaps, _) | (_, Self::Perhaps) => Self::Perhaps,
            (Self::Some, _) | (_, Self::Some) => Self::Some,
            (Self::None, Self::None) => Self::None,
        }
    }

    fn turned(self, negated: bool) -> Self {
        match (self, negated) {
            (answer, false) => answer,
            (Self::All, true) => Self::None,
            (Self::None, true) => Self::All,
            (Self::Some | Self::Perhaps, true) => Self::part(true),
        }
    }

    /// Of a condition that is true of a part of the packets.
    fn part(negated: bool) -> Self {
        if negated { Self::Perhaps } else { Self::Some }
    }
}

/// linux/if_ether.h
const ETH_P_IP: u16 = 0x0800;
const ETH_P_ARP: u16 = 0x0806;
const ETH_P_IPV6: u16 = 0x86dd;

impl Packet {
    fn ether_type(&self) -> u16 {
        match self.family {
            _ if self.arp => ETH_P_ARP,
            Family::V4 => ETH_P_IP,
            Family::V6 => ETH_P_IPV6,
        }
    }

    /// The interface of ours that they come from or go to.
    pub fn interface(&self) -> Option<&IfName> {
        self.iif.as_ref().or(self.oif.as_ref())
    }

    pub fn answer(&self, rule: &Rule, chains: &Chains) -> Answer {
        let answers = rule.conditions.iter().map(|condition| self.condition(condition, chains));
        answers.max().unwrap_or(Answer::All)
    }

    fn condition(&self, condition: &Condition, chains: &Chains) -> Answer {
        let link = |direction: &Direction| {
            if *direction == Direction::In { self.iif.as_ref() } else { self.oif.as_ref() }
        };
        match condition {
            Condition::Interface { name, prefix: true, negated, .. } if name.is_empty() => {
                Answer::from(true, *negated)
            }
            Condition::Interface { direction, name, prefix, negated } => match link(direction) {
                Some(link) => {
                    let link = link.as_str();
                    let matches = if *prefix { link.starts_with(name.as_str()) } else { link == name };
                    Answer::from(matches, *negated)
                }
                None => Answer::part(*negated),
            },
            Condition::Member { direction, set, negated } => {
                match link(direction).and_then(|link| chains.members.get(&(set.clone(), link.clone()))) {
                    Some(is_member) => Answer::from(*is_member, *negated),
                    None => Answer::part(*negated),
                }
            }
            Condition::Address { end, network, negated } => {
                let of = if *end == End::Source { &self.source } else { &self.destination };
                self.address(of, *network, *negated)
            }
            Condition::Track { bits, negated } => Answer::from(self.track & bits != 0, *negated),
            Condition::Family { family, negated } => {
                Answer::from(!self.arp && self.family == *family, *negated)
            }
            Condition::EtherType { number, negated } => Answer::from(self.ether_type() == *number, *negated),
            Condition::Protocol { number, negated } => match self.protocol {
                Some(_) if self.arp => Answer::from(false, *negated),
                Some(own) => Answer::from(own == *number, *negated),
                None => Answer::part(*negated),
            },
            Condition::Port { end, first, last, negated } => match self.service {
                Some((of, port)) if of == *end => Answer::from((*first..=*last).contains(&port), *negated),
                _ => Answer::part(*negated),
            },
            Condition::Mark { mask, value, negated } => match self.mark {
                Some(mark) => Answer::from(mark & mask == *value, *negated),
                None => Answer::Perhaps,
            },
            Condition::LocalDestination { negated } => match self.local {
                Some(local) => Answer::from(local, *negated),
                None => Answer::Perhaps,
            },
            Condition::AnyOf { of, negated } => {
                let answers = of.iter().map(|condition| self.condition(condition, chains));
                answers.fold(Answer::None, Answer::or).turned(*negated)
            }
            Condition::Narrow => Answer::Some,
            Condition::Index { .. } | Condition::Obscure => Answer::Perhaps,
        }
    }

    fn address(&self, of: &[IpNetwork], network: IpNetwork, negated: bool) -> Answer {
        if self.arp || Family::of(network.ip()) != self.family {
            return Answer::None;
        }
        let within = |own: &IpNetwork| network.prefix() <= own.prefix() && network.contains(own.network());
        if network.prefix() == 0 || !of.is_empty() && of.iter().all(within) {
            return Answer::from(true, negated);
        }
        if !of.is_empty() && !of.iter().any(|own| overlap(*own, network)) {
            return Answer::from(false, negated);
        }
        Answer::part(negated)
    }
}
