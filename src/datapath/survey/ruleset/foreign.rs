//! What rules of somebody else say about our business: ports that they send elsewhere, addresses that they name.
//!
//! Pure, over what the kernel says.

use std::net::IpAddr;

use crate::datapath::firewall::accepts;
use crate::datapath::firewall::way::Condition;
use crate::datapath::hostports::Protocol;
use crate::kernel::nft::{Instruction, PlacedRule, RuleInfo, Table, TableFamily};
use crate::net::Family;
use crate::text::typed;

/// Somebody else's rule that sends a port of the node elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignPort {
    /// `None`: whatever has ports.
    pub protocol: Option<Protocol>,
    pub port: u16,
    /// `None` in `inet`.
    pub family: Option<Family>,
    /// `ip nat DOCKER`, as it is typed.
    pub place: String,
    /// What else the rule asks.
    pub conditions: Vec<Condition>,
}

/// A rule of somebody else that names addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRule {
    /// `ip nat CNI-0a1b`, as it is typed.
    pub place: String,
    pub addresses: Vec<IpAddr>,
}

/// Whoever made table and chain could call them as they liked.
fn place(placed: &PlacedRule) -> String {
    let Table { family, name } = &placed.table;
    format!("{family} {} {}", typed(name), typed(&placed.chain))
}

/// A rule of the Go plugins that names addresses of pods: in a table of theirs, in a chain `CNI-…`, or on the way to one.
pub(super) fn go_rule(placed: &PlacedRule) -> Option<AddressRule> {
    let theirs = matches!(placed.table.name.as_str(), "cni_plugins_masquerade" | "cni_hostport")
        || placed.chain.starts_with("CNI-")
        || jumps_to_go(&placed.rule);
    let addresses = addresses(&placed.rule);
    (theirs && !addresses.is_empty()).then(|| AddressRule { place: place(placed), addresses })
}

fn jumps_to_go(rule: &RuleInfo) -> bool {
    rule.instructions.iter().any(|instruction| match instruction {
        Instruction::Verdict { chain: Some(chain), .. } => chain.starts_with("CNI-"),
        _ => false,
    })
}

/// A rule with one destination port and an end that rewrites the destination.
pub(super) fn port(placed: &PlacedRule) -> Option<ForeignPort> {
    let instructions = &placed.rule.instructions;
    let rewrites = instructions.iter().any(|instruction| match instruction {
        Instruction::Dnat { .. } => true,
        Instruction::Other { name, data } => match name.as_str() {
            // A translation of sources that looks at one destination port is nobody's habit.
            "redir" | "nat" => true,
            "target" => [&b"DNAT\0"[..], b"REDIRECT\0"].iter().any(|word| contains(data, word)),
            _ => false,
        },
        _ => false,
    });
    if !rewrites {
        return None;
    }
    let mut protocol = None;
    let mut port = None;
    let mut loaded = None;
    for instruction in instructions {
        match instruction {
            Instruction::Payload { base: 2, offset: 2, length: 2, .. } => loaded = Some(What::Port),
            // `ip protocol`, `ip6 nexthdr` and NFT_META_L4PROTO.
            Instruction::Payload { base: 1, offset: 9 | 6, length: 1, .. }
            | Instruction::Meta { key: 16, .. } => loaded = Some(What::Protocol),
            Instruction::Compare { op, data, .. } if op.0 == 0 => match (loaded.take(), data.as_slice()) {
                (Some(What::Port), [high, low]) => port = Some(u16::from_be_bytes([*high, *low])),
                (Some(What::Protocol), [number]) => protocol = Some(*number),
                _ => {}
            },
            // `struct xt_tcp` and `struct xt_udp`, linux/netfilter/xt_tcpudp.h: two source ports, two destination ports.
            Instruction::XtMatch { name, info, .. } if matches!(name.as_str(), "tcp" | "udp") => {
                let at = |at: usize| Some(u16::from_ne_bytes([*info.get(at)?, *info.get(at + 1)?]));
                port = at(4).filter(|first| at(6) == Some(*first)).or(port);
                protocol = Protocol::from_name(name).map(Protocol::number);
            }
            _ => loaded = None,
        }
    }
    Some(ForeignPort {
        protocol: match protocol {
            None => None,
            Some(number) => Some(Protocol::ALL.into_iter().find(|known| known.number() == number)?),
        },
        port: port?,
        family: match placed.table.family {
            TableFamily::Ip => Some(Family::V4),
            TableFamily::Ip6 => Some(Family::V6),
            TableFamily::Inet | TableFamily::Bridge | TableFamily::Arp | TableFamily::Netdev => None,
        },
        place: place(placed),
        conditions: others(placed),
    })
}

/// Beside protocol and port.
fn others(placed: &PlacedRule) -> Vec<Condition> {
    let seen = accepts::seen(placed.table.family, &placed.rule).conditions.into_iter();
    let mut others: Vec<_> = seen
        .filter(|condition| !matches!(condition, Condition::Narrow | Condition::Protocol { .. }))
        .collect();
    // One port is compared; what is looked up is something else.
    let looks_up =
        |instruction: &Instruction| matches!(instruction, Instruction::Lookup { result: None, .. });
    if placed.rule.instructions.iter().any(looks_up) {
        others.push(Condition::Narrow);
    }
    others
}

enum What {
    Port,
    Protocol,
}

fn contains(data: &[u8], word: &[u8]) -> bool {
    data.windows(word.len()).any(|window| window == word)
}

/// Single addresses that a rule compares with.
fn addresses(rule: &RuleInfo) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut loaded = false;
    for instruction in &rule.instructions {
        match instruction {
            Instruction::Payload { base: 1, offset: 12 | 16, length: 4, .. }
            | Instruction::Payload { base: 1, offset: 8 | 24, length: 16, .. } => loaded = true,
            Instruction::Bitwise { mask, .. } if loaded => loaded = mask.iter().all(|byte| *byte == 0xff),
            Instruction::Compare { data, .. } if loaded => {
                found.extend(<[u8; 4]>::try_from(data.as_slice()).ok().map(IpAddr::from));
                found.extend(<[u8; 16]>::try_from(data.as_slice()).ok().map(IpAddr::from));
                loaded = false;
            }
            _ => loaded = false,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::nft::{self, Instruction as I, Table};

    fn placed(instructions: Vec<I>) -> PlacedRule {
        let rule = RuleInfo { handle: 7, comment: None, instructions };
        PlacedRule { table: Table::new(TableFamily::Ip, "nat"), chain: "DOCKER".to_owned(), rule }
    }

    fn load(base: u32, offset: u32, length: u32) -> I {
        I::Payload { base, offset, length, register: 1 }
    }

    fn is(data: &[u8]) -> I {
        I::Compare { register: 1, op: nft::Comparison(0), data: data.to_vec() }
    }

    fn other(name: &str, data: &[u8]) -> I {
        I::Other { name: name.to_owned(), data: data.to_vec() }
    }

    #[test]
    fn ports_that_others_send_elsewhere_are_read_in_nft_and_in_iptables() {
        let nft =
            placed(vec![load(1, 9, 1), is(&[6]), load(2, 2, 2), is(&[0x1f, 0x90]), other("redir", &[])]);
        let expected = ForeignPort {
            protocol: Some(Protocol::Tcp),
            port: 8080,
            family: Some(Family::V4),
            place: "ip nat DOCKER".to_owned(),
            conditions: Vec::new(),
        };
        assert_eq!(port(&nft), Some(expected.clone()));
        let mut info = vec![0; 12];
        info[4..6].copy_from_slice(&8080u16.to_ne_bytes());
        info[6..8].copy_from_slice(&8080u16.to_ne_bytes());
        let xt = I::XtMatch { name: "tcp".to_owned(), revision: 0, info };
        assert_eq!(port(&placed(vec![xt.clone(), other("target", b"DNAT\0")])), Some(expected));
        assert_eq!(port(&placed(vec![xt, other("target", b"MASQUERADE\0")])), None);
        let source = placed(vec![load(1, 12, 4), is(&[10, 0, 0, 5]), other("nat", &[])]);
        assert_eq!(port(&source), None, "no port");
        assert_eq!(addresses(&source.rule), ["10.0.0.5".parse::<IpAddr>().unwrap()]);
    }
}
