//! The way of a packet through the chains of a table: rules as far as they can be decided beforehand, and a walk along
//! them through jumps and gotos. Pure; whose rules they are, and in which program's words, is for others to know.
//!
//! A packet here stands for many: some of what it will be is known (an interface, the pods' subnets, the state of its
//! connection), the rest is open. So a rule may take all such packets, none, or some of them. The walk follows the packet
//! that no rule for some takes, and remembers those rules.
//!
//! Pure.

mod packet;
mod walk;

use std::borrow::Cow;
use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

pub use packet::{Answer, Packet};
pub use walk::{Fate, Outcome, follow};

use crate::net::{Family, IfName};

/// NFT_JUMP_STACK_SIZE, linux/netfilter/nf_tables.h: the kernel refuses deeper rule sets.
const DEEPEST: usize = 16;

/// What connection tracking says of a packet: the bits of `ct state`, and of `ctstate DNAT` above them
/// (linux/netfilter/xt_conntrack.h).
pub mod track {
    pub const ESTABLISHED: u32 = 1 << 1;
    pub const RELATED: u32 = 1 << 2;
    pub const NEW: u32 = 1 << 3;
    /// Nobody has looked at the packet yet, as in `raw` and on devices; and what belongs to no connection.
    pub const INVALID: u32 = 1;
    pub const DNAT: u32 = 1 << 7;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    In,
    Out,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Source,
    Destination,
}

/// What a rule asks of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    Interface {
        direction: Direction,
        name: String,
        /// The name is a beginning.
        prefix: bool,
        negated: bool,
    },
    /// The interface is in that set.
    Member {
        direction: Direction,
        set: String,
        negated: bool,
    },
    Address {
        end: End,
        network: IpNetwork,
        negated: bool,
    },
    /// Any of the bits of [`track`].
    Track {
        bits: u32,
        negated: bool,
    },
    Family {
        family: Family,
        negated: bool,
    },
    /// The interface with that index: the name is known to whoever knows the links.
    Index {
        direction: Direction,
        index: u32,
        negated: bool,
    },
    /// What the frame carries: 0x0806 is ARP.
    EtherType {
        number: u16,
        negated: bool,
    },
    /// TCP, UDP…: what the network layer carries.
    Protocol {
        number: u8,
        negated: bool,
    },
    /// `mark & mask == value`
    Mark {
        mask: u32,
        value: u32,
        negated: bool,
    },
    /// The destination is an address of the node.
    LocalDestination {
        negated: bool,
    },
    /// One port or some that follow each other, of whatever protocol. Whether a packet has it is known of those to a known
    /// service alone.
    Port {
        end: End,
        first: u16,
        last: u16,
        negated: bool,
    },
    /// One of these is true.
    AnyOf {
        of: Vec<Condition>,
        negated: bool,
    },
    /// Singles out some packets: several ports, an address in a set, a limit.
    Narrow,
    /// Cannot be decided beforehand, and may be true of every packet: the owner of a socket, everything but one port.
    Obscure,
}

/// What happens to a packet that a rule takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    /// In silence or with an answer.
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// The next rule.
    Continue,
    /// The next rule, with another mark: `mark & !mask ^ value`.
    Mark {
        mask: u32,
        value: u32,
    },
    /// What stands beside the first of these that is true, and else the next rule.
    Map(Vec<(Condition, Verdict)>),
    /// A named map of verdicts, a queue, a target that is not known.
    Undecided,
}

/// Whose rule it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Maker {
    Other,
    /// Our accept of that number for the interface.
    Ours(IfName, usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub handle: u64,
    pub maker: Maker,
    pub conditions: Vec<Condition>,
    pub verdict: Verdict,
}

/// As much of a table as was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chains {
    pub rules: BTreeMap<String, Vec<Rule>>,
    /// All chains of the table are in `rules`.
    pub whole: bool,
    /// How often the kernel sees a chain used: its own rules, and whatever jumps to it.
    pub uses: BTreeMap<String, usize>,
    /// Sets of interface names, and whether an interface of ours is in them.
    pub members: BTreeMap<(String, IfName), bool>,
}

/// What must be read before the question can be answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    Chain(String),
    WholeTable,
}

impl Condition {
    fn is_general(&self) -> bool {
        match self {
            Self::Family { .. } => true,
            Self::Track { bits, negated } => (bits & track::NEW != 0) != *negated,
            Self::Address { network, .. } => network.prefix() == 0,
            Self::Interface { name, prefix, .. } => *prefix && name.is_empty(),
            Self::AnyOf { of, negated: false } => of.iter().any(Self::is_general),
            _ => false,
        }
    }
}

impl Rule {
    /// Whether it is an accept of ours for that interface.
    fn is_for(&self, interface: Option<&IfName>) -> bool {
        matches!(&self.maker, Maker::Ours(of, _) if Some(of) == interface)
    }

    /// Whether it is about forwarded packets as such: it names no interface and no address, and takes new connections.
    pub fn is_general(&self) -> bool {
        self.conditions.iter().all(Condition::is_general)
    }

    /// One rule for each verdict that it has.
    pub fn parts(&self) -> Cow<'_, [Rule]> {
        let Verdict::Map(entries) = &self.verdict else { return Cow::Borrowed(std::slice::from_ref(self)) };
        let part = |(condition, verdict): &(Condition, Verdict)| Self {
            handle: self.handle,
            maker: self.maker.clone(),
            conditions: self.conditions.iter().chain([condition]).cloned().collect(),
            verdict: verdict.clone(),
        };
        Cow::Owned(entries.iter().map(part).collect())
    }
}

/// A rule by its place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spot {
    pub chain: String,
    pub index: usize,
}

impl Chains {
    pub fn get(&self, chain: &str) -> Result<&[Rule], Missing> {
        match self.rules.get(chain) {
            Some(rules) => Ok(rules),
            // A chain that nobody could name is empty.
            None if self.whole => Ok(&[]),
            None => Err(Missing::Chain(chain.to_owned())),
        }
    }

    /// Whether any of the packets could be refused by the rule, or behind its jump. Of a chain that was not read it is
    /// taken for granted.
    pub fn may_refuse(&self, rule: &Rule, packet: &Packet, depth: usize) -> bool {
        rule.parts().iter().any(|part| self.part_may_refuse(part, packet, depth))
    }

    fn part_may_refuse(&self, rule: &Rule, packet: &Packet, depth: usize) -> bool {
        if packet.answer(rule, self) == Answer::None {
            return false;
        }
        match &rule.verdict {
            Verdict::Drop | Verdict::Undecided => true,
            Verdict::Jump(to) | Verdict::Goto(to) => {
                depth >= DEEPEST
                    || self.get(to).map_or(true, |rules| {
                        rules.iter().any(|rule| self.may_refuse(rule, packet, depth + 1))
                    })
            }
            Verdict::Accept
            | Verdict::Return
            | Verdict::Continue
            | Verdict::Mark { .. }
            | Verdict::Map(_) => false,
        }
    }

    /// Whether the packets reach the chain by that one jump only. Whoever else leads there must be known.
    pub fn is_reached_only_by(&self, chain: &str, jump: &Spot, packet: &Packet) -> Result<bool, Missing> {
        let own = self.get(chain)?.len();
        let used = self.uses.get(chain);
        if used == Some(&(own + 1)) {
            return Ok(true);
        }
        if !self.whole {
            return Err(Missing::WholeTable);
        }
        let mut jumps = 0;
        for (name, rules) in &self.rules {
            let parts = |(index, rule): (usize, &Rule)| (index, rule.parts().into_owned());
            let parts = rules.iter().enumerate().map(parts);
            for (index, rule) in
                parts.flat_map(|(index, parts)| parts.into_iter().map(move |part| (index, part)))
            {
                let leads = matches!(&rule.verdict, Verdict::Jump(to) | Verdict::Goto(to) if to == chain);
                let here = jump.chain == *name && jump.index == index;
                jumps += usize::from(leads);
                if leads && !here && packet.answer(&rule, self) != Answer::None {
                    return Ok(false);
                }
            }
        }
        // Named maps of verdicts jump too, and no rule says where.
        Ok(used.is_none_or(|used| *used == own + jumps))
    }
}
