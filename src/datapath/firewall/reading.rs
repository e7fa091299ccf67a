//! Rules of nf_tables as a walk needs them: the kernel's instructions read back as conditions and a verdict. Asks nobody.
//!
//! Whatever is not understood makes a rule that cannot be decided, never one that is taken for something else.
//!
//! Pure, over what the kernel says.

mod ports;
mod xt;

pub(super) use ports::read_with_ports;

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::way::{Condition, Direction, End, Maker, Rule, Verdict, track};
use crate::kernel::nft::number::{
    CT_STATE, CT_STATUS, ETHERTYPE_IPV4, ETHERTYPE_IPV6, FIB_ADDRTYPE, FIB_DADDR, IPS_DST_NAT, LINK_HEADER,
    META_IIFNAME, META_L4PROTO, META_MARK, META_NFPROTO, META_OIFNAME, META_PROTOCOL, NETWORK_HEADER,
    NFPROTO_IPV4, RTN_LOCAL, VERDICT_ACCEPT, VERDICT_DROP, VERDICT_GOTO, VERDICT_JUMP, VERDICT_REGISTER,
    VERDICT_RETURN,
};
use crate::kernel::nft::{Instruction, Listed, RuleInfo, TableFamily};
use crate::net::Family;

/// NFT_CMP_EQ and NFT_CMP_NEQ.
const EQUAL: u32 = 0;
const UNEQUAL: u32 = 1;
/// NFT_META_IIF and NFT_META_OIF.
const META_IIF: u32 = 4;
const META_OIF: u32 = 5;
/// The comment of a rule, also where iptables keeps it in a match.
pub(super) fn comment(rule: &RuleInfo) -> Option<String> {
    let of_match = |instruction: &Instruction| match instruction {
        Instruction::XtMatch { name, info, .. } if name == "comment" => {
            let text = info.split(|byte| *byte == 0).next().unwrap_or_default();
            Some(String::from_utf8_lossy(text).into_owned())
        }
        _ => None,
    };
    let own = rule.comment.as_ref().map(|comment| comment.as_str().to_owned());
    own.or_else(|| rule.instructions.iter().find_map(of_match))
}

/// The rule, which nobody has looked at the maker of yet.
pub(super) fn read(family: TableFamily, rule: &RuleInfo) -> Rule {
    let mut reader = Reader { family: known_family(family), loaded: Vec::new(), conditions: Vec::new() };
    let mut verdict = Verdict::Continue;
    for instruction in &rule.instructions {
        if let Some(end) = reader.instruction(instruction) {
            verdict = end;
        }
    }
    // One that cannot be decided says all there is to say of its kind.
    let mut conditions: Vec<Condition> = Vec::with_capacity(reader.conditions.len());
    for condition in reader.conditions {
        if !conditions.contains(&condition) {
            conditions.push(condition);
        }
    }
    Rule { handle: rule.handle, maker: Maker::Other, conditions, verdict }
}

fn known_family(family: TableFamily) -> Option<Family> {
    match family {
        TableFamily::Ip => Some(Family::V4),
        TableFamily::Ip6 => Some(Family::V6),
        // What ARP asks for is an address of IPv4.
        TableFamily::Inet | TableFamily::Bridge | TableFamily::Netdev | TableFamily::Arp => None,
    }
}

/// What a register holds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Loaded {
    Interface(Direction),
    Network {
        offset: u32,
        length: u32,
    },
    State,
    Status,
    Layer,
    Index(Direction),
    EtherType,
    Protocol,
    Mark,
    DestinationType,
    /// Of which kind the way back or there is; picks those that have none.
    Way,
    Value(Vec<u8>),
    /// What a rule picks single values of: ports, MACs.
    Detail,
    Unknown,
}

/// `value & mask ^ xor`
type Bits = (Vec<u8>, Vec<u8>);

struct Reader {
    /// Once it is known.
    family: Option<Family>,
    /// Everybody uses what was loaded in the order of loading, so registers need no following.
    loaded: Vec<(Loaded, Option<Bits>)>,
    conditions: Vec<Condition>,
}

impl Reader {
    fn instruction(&mut self, instruction: &Instruction) -> Option<Verdict> {
        match instruction {
            Instruction::Meta { key, .. } => self.load(match *key {
                META_IIFNAME => Loaded::Interface(Direction::In),
                META_OIFNAME => Loaded::Interface(Direction::Out),
                META_IIF => Loaded::Index(Direction::In),
                META_OIF => Loaded::Index(Direction::Out),
                META_NFPROTO => Loaded::Layer,
                META_PROTOCOL => Loaded::EtherType,
                META_L4PROTO => Loaded::Protocol,
                META_MARK => Loaded::Mark,
                _ => Loaded::Unknown,
            }),
            // The type of a frame, where nobody has asked the kernel for it.
            Instruction::Payload { base: LINK_HEADER, offset: 12, length: 2, .. } => {
                self.load(Loaded::EtherType);
            }
            // `ip protocol` and `ip6 nexthdr`.
            Instruction::Payload { base: NETWORK_HEADER, offset: 9 | 6, length: 1, .. } => {
                self.load(Loaded::Protocol);
            }
            Instruction::Payload { base: NETWORK_HEADER, offset, length, .. } => {
                self.load(Loaded::Network { offset: *offset, length: *length });
            }
            // Ports and MACs, and whatever else one reads there.
            Instruction::Payload { .. } => self.load(Loaded::Detail),
            Instruction::Conntrack { key: CT_STATE, .. } => self.load(Loaded::State),
            Instruction::Conntrack { key: CT_STATUS, .. } => self.load(Loaded::Status),
            Instruction::Fib { flags: FIB_DADDR, result: FIB_ADDRTYPE, .. } => {
                self.load(Loaded::DestinationType);
            }
            Instruction::Fib { .. } => self.load(Loaded::Way),
            Instruction::Immediate { data, .. } => self.load(Loaded::Value(data.clone())),
            Instruction::Conntrack { .. } => self.load(Loaded::Unknown),
            Instruction::Counter
            | Instruction::NoTrack
            | Instruction::RouteMss { .. }
            | Instruction::ToNetworkOrder { .. } => {}
            Instruction::SetMeta { key: META_MARK, .. } => return self.set_mark(),
            Instruction::SetMeta { .. } | Instruction::WriteMss { .. } => self.loaded.clear(),
            Instruction::Bitwise { mask, xor, .. } => {
                if let Some((_, operation)) = self.loaded.last_mut() {
                    *operation = Some((mask.clone(), xor.clone()));
                }
            }
            Instruction::Compare { op, data, .. } => self.compare(op.0, data),
            Instruction::Masquerade | Instruction::Dnat { .. } => return Some(Verdict::Undecided),
            Instruction::Lookup { result: Some(VERDICT_REGISTER), among, .. } => {
                return Some(self.map(among.as_deref()));
            }
            Instruction::Lookup { result: Some(_), .. } => {
                self.loaded.clear();
                self.load(Loaded::Unknown);
            }
            Instruction::Lookup { set, inverted, among, .. } => {
                self.look_up(set, *inverted, among.as_deref());
            }
            Instruction::Verdict { code, chain } => return Some(verdict(*code, chain.as_deref())),
            Instruction::XtMatch { name, revision, info } => {
                self.conditions.extend(xt::condition(name, *revision, info));
            }
            Instruction::Other { name, data } => return self.other(name, data),
        }
        None
    }

    /// A mark that nobody can tell beforehand is one that is not changed: most restore what a connection has, and a new one
    /// has none.
    fn set_mark(&mut self) -> Option<Verdict> {
        let number = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
        match std::mem::take(&mut self.loaded).into_iter().next_back()? {
            (Loaded::Value(value), None) => Some(Verdict::Mark { mask: u32::MAX, value: number(&value)? }),
            (Loaded::Mark, Some((mask, xor))) => {
                Some(Verdict::Mark { mask: !number(&mask)?, value: number(&xor)? })
            }
            _ => None,
        }
    }

    fn load(&mut self, what: Loaded) {
        self.loaded.push((what, None));
    }

    fn other(&mut self, name: &str, data: &[u8]) -> Option<Verdict> {
        match name {
            "log" | "notrack" | "dup" | "flow_offload" => {}
            "reject" => return Some(Verdict::Drop),
            "target" => return xt::target(data),
            "limit" | "quota" | "connlimit" | "dynset" | "objref" | "range" | "last" => {
                self.loaded.clear();
                self.conditions.push(Condition::Narrow);
            }
            "queue" | "nat" | "redir" | "masq" | "tproxy" | "synproxy" | "fwd" => {
                return Some(Verdict::Undecided);
            }
            "match" => self.conditions.push(Condition::Obscure),
            _ => self.load(Loaded::Unknown),
        }
        None
    }

    fn compare(&mut self, op: u32, data: &[u8]) {
        let loaded = std::mem::take(&mut self.loaded);
        let Some((what, operation)) = loaded.into_iter().next_back() else {
            self.conditions.push(Condition::Obscure);
            return;
        };
        if !matches!(op, EQUAL | UNEQUAL) {
            // A range of something: an upper and a lower end.
            self.conditions.push(Condition::Narrow);
            return;
        }
        let negated = op == UNEQUAL;
        let condition = self.compared(&what, operation.as_ref(), data, negated);
        if !negated {
            self.learn_family(&condition);
        }
        self.conditions.push(condition);
    }

    /// What follows is about packets of a family alone.
    fn learn_family(&mut self, condition: &Condition) {
        match condition {
            Condition::Family { family, .. } => self.family = Some(*family),
            Condition::EtherType { number: ETHERTYPE_IPV4, .. } => self.family = Some(Family::V4),
            Condition::EtherType { number: ETHERTYPE_IPV6, .. } => self.family = Some(Family::V6),
            _ => {}
        }
    }

    /// That what was loaded is this value.
    fn compared(&self, what: &Loaded, operation: Option<&Bits>, data: &[u8], negated: bool) -> Condition {
        let vague = if negated { Condition::Obscure } else { Condition::Narrow };
        let condition = match what {
            Loaded::Interface(direction) if operation.is_none() => interface(*direction, data, negated),
            Loaded::Network { offset, length } => {
                self.address((*offset, *length), operation.map(|(mask, _)| mask), data, negated)
            }
            Loaded::State => tracked(u32::MAX, operation, data, negated),
            Loaded::Status => {
                tracked(IPS_DST_NAT, operation, data, negated).map(|condition| match condition {
                    Condition::Track { negated, .. } => Condition::Track { bits: track::DNAT, negated },
                    other => other,
                })
            }
            Loaded::Layer => {
                let family = if data == [NFPROTO_IPV4] { Family::V4 } else { Family::V6 };
                Some(Condition::Family { family, negated })
            }
            Loaded::Index(direction) if operation.is_none() => {
                let index = <[u8; 4]>::try_from(data).ok().map(u32::from_ne_bytes);
                Some(index.map_or(Condition::Obscure, |index| Condition::Index {
                    direction: *direction,
                    index,
                    negated,
                }))
            }
            Loaded::EtherType if operation.is_none() => data
                .try_into()
                .ok()
                .map(u16::from_be_bytes)
                .map(|number| Condition::EtherType { number, negated }),
            Loaded::Protocol if operation.is_none() => {
                data.first().map(|number| Condition::Protocol { number: *number, negated })
            }
            Loaded::Mark => marked(operation, data, negated),
            Loaded::DestinationType if data == RTN_LOCAL.to_ne_bytes() => {
                Some(Condition::LocalDestination { negated })
            }
            Loaded::Detail | Loaded::Way | Loaded::Protocol => Some(vague.clone()),
            Loaded::Interface(_)
            | Loaded::Index(_)
            | Loaded::EtherType
            | Loaded::DestinationType
            | Loaded::Value(_)
            | Loaded::Unknown => Some(Condition::Obscure),
        };
        condition.unwrap_or(vague)
    }

    fn address(
        &self,
        (offset, length): (u32, u32),
        mask: Option<&Vec<u8>>,
        data: &[u8],
        negated: bool,
    ) -> Option<Condition> {
        let (end, size) = match (self.family?, offset, length) {
            (Family::V4, 12, ..=4) => (End::Source, 4),
            (Family::V4, 16, ..=4) => (End::Destination, 4),
            (Family::V6, 8, ..=16) => (End::Source, 16),
            (Family::V6, 24, ..=16) => (End::Destination, 16),
            _ => return None,
        };
        // `nft` loads no more bytes than the prefix has.
        let mut bytes = data.to_vec();
        bytes.resize(size, 0);
        let address = match size {
            4 => IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?),
            _ => IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?),
        };
        let prefix = match mask {
            None => 8 * length,
            Some(mask) => {
                let ones: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
                let leading = mask.iter().take_while(|byte| **byte == 0xff).count();
                let next = mask.get(leading).map_or(0, |byte| byte.leading_ones());
                let leading = 8 * u32::try_from(leading).ok()? + next;
                (ones == leading).then_some(ones)?
            }
        };
        let network = IpNetwork::new(address, u8::try_from(prefix).ok()?).ok()?;
        Some(Condition::Address { end, network, negated })
    }

    fn look_up(&mut self, set: &str, inverted: bool, among: Option<&[Listed]>) {
        let loaded = std::mem::take(&mut self.loaded);
        let condition = match (loaded.as_slice(), among) {
            ([(Loaded::Interface(direction), None)], _) => {
                Condition::Member { direction: *direction, set: set.to_owned(), negated: inverted }
            }
            ([(what, operation)], Some(among)) => {
                let of = among.iter().map(|listed| self.listed(what, operation.as_ref(), listed));
                Condition::AnyOf { of: of.collect(), negated: inverted }
            }
            _ if inverted => Condition::Obscure,
            _ => Condition::Narrow,
        };
        self.conditions.push(condition);
    }

    /// A map of verdicts.
    fn map(&mut self, among: Option<&[Listed]>) -> Verdict {
        let loaded = std::mem::take(&mut self.loaded);
        let (Some(among), [(what, operation)]) = (among, loaded.as_slice()) else {
            return Verdict::Undecided;
        };
        let entry = |listed: &Listed| {
            let to = listed.verdict.as_ref();
            let verdict = to.map_or(Verdict::Undecided, |(code, chain)| verdict(*code, chain.as_deref()));
            (self.listed(what, operation.as_ref(), listed), verdict)
        };
        Verdict::Map(among.iter().map(entry).collect())
    }

    /// That what was loaded is this value, or one of this range.
    fn listed(&self, what: &Loaded, operation: Option<&Bits>, listed: &Listed) -> Condition {
        let Listed { first, last, .. } = listed;
        if first == last {
            return self.compared(what, operation, first, false);
        }
        // Where the range is a prefix, it is what two addresses have in common.
        let common: Vec<u8> = first.iter().zip(last).map(|(first, last)| !(first ^ last)).collect();
        let is_prefix = first.iter().zip(last).zip(&common).all(|((f, l), c)| f & !c == 0 && l | c == 0xff);
        match what {
            Loaded::Network { .. } if operation.is_none() && is_prefix => {
                self.compared(what, Some(&(common, vec![0; first.len()])), first, false)
            }
            _ => Condition::Narrow,
        }
    }
}

/// A name with its zero is whole; without one it is the beginning of many.
fn interface(direction: Direction, data: &[u8], negated: bool) -> Option<Condition> {
    let name = data.split(|byte| *byte == 0).next()?;
    let prefix = name.len() == data.len() && data.len() < 16;
    let name = String::from_utf8(name.to_vec()).ok()?;
    Some(Condition::Interface { direction, name, prefix, negated })
}

/// `mark & mask == value`, where nothing is flipped.
fn marked(operation: Option<&Bits>, data: &[u8], negated: bool) -> Option<Condition> {
    let number = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
    let mask = match operation {
        None => u32::MAX,
        Some((mask, xor)) if xor.iter().all(|byte| *byte == 0) => number(mask)?,
        Some(_) => return Some(Condition::Obscure),
    };
    Some(Condition::Mark { mask, value: number(data)?, negated })
}

/// `& bits != 0` is any of the bits, `& bits == 0` none of them, `== bits` that one alone. `of` are the bits that are
/// understood.
fn tracked(of: u32, operation: Option<&Bits>, data: &[u8], unequal: bool) -> Option<Condition> {
    let number = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
    let value = number(data)?;
    let (bits, negated) = match operation {
        Some((mask, xor)) if value == 0 && xor.iter().all(|byte| *byte == 0) => (number(mask)?, !unequal),
        Some((mask, xor))
            if number(mask)? == value && xor.iter().all(|byte| *byte == 0) && value.is_power_of_two() =>
        {
            (value, unequal)
        }
        None if value.is_power_of_two() => (value, unequal),
        _ => return Some(Condition::Obscure),
    };
    if bits & !of != 0 { Some(Condition::Obscure) } else { Some(Condition::Track { bits, negated }) }
}

fn verdict(code: u32, chain: Option<&str>) -> Verdict {
    let to = || chain.unwrap_or_default().to_owned();
    match code {
        VERDICT_ACCEPT => Verdict::Accept,
        VERDICT_DROP => Verdict::Drop,
        VERDICT_RETURN => Verdict::Return,
        VERDICT_JUMP => Verdict::Jump(to()),
        VERDICT_GOTO => Verdict::Goto(to()),
        _ => Verdict::Undecided,
    }
}

#[cfg(test)]
mod tests;
