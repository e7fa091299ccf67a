//! Single ports that a rule asks for, beside all that [`super::read`] says of it: for whoever follows packets of which the port
//! is known.
//!
//! Pure, over what the kernel says.

use super::{EQUAL, UNEQUAL, read};
use crate::datapath::firewall::way::{Condition, End, Rule};
use crate::kernel::nft::{Instruction, RuleInfo, TableFamily};

/// linux/netfilter/nf_tables.h: NFT_PAYLOAD_TRANSPORT_HEADER.
const TRANSPORT_HEADER: u32 = 2;

/// The rule, with its ports for what would single out some packets.
pub(in crate::datapath::firewall) fn read_with_ports(family: TableFamily, rule: &RuleInfo) -> Rule {
    let mut rest = RuleInfo { instructions: Vec::new(), ..rule.clone() };
    let mut ports = Vec::new();
    let mut instructions = rule.instructions.iter().peekable();
    while let Some(instruction) = instructions.next() {
        let compared = port_of(instruction).and_then(|end| {
            let next = instructions.peek()?;
            compared(end, next).or_else(|| listed(end, next))
        });
        if compared.is_some() {
            instructions.next();
        }
        match compared.or_else(|| matched(instruction)) {
            Some(port) => ports.push(port),
            None => rest.instructions.push(instruction.clone()),
        }
    }
    let mut read = read(family, &rest);
    read.conditions.extend(ports);
    read
}

fn port_of(instruction: &Instruction) -> Option<End> {
    match instruction {
        Instruction::Payload { base: TRANSPORT_HEADER, offset: 0, length: 2, .. } => Some(End::Source),
        Instruction::Payload { base: TRANSPORT_HEADER, offset: 2, length: 2, .. } => Some(End::Destination),
        _ => None,
    }
}

fn compared(end: End, instruction: &Instruction) -> Option<Condition> {
    let Instruction::Compare { op, data, .. } = instruction else { return None };
    let port = u16::from_be_bytes(data.as_slice().try_into().ok()?);
    let negated = match op.0 {
        EQUAL => false,
        UNEQUAL => true,
        _ => return None,
    };
    Some(Condition::Port { end, first: port, last: port, negated })
}

/// Ports between braces.
fn listed(end: End, instruction: &Instruction) -> Option<Condition> {
    let Instruction::Lookup { result: None, among: Some(among), inverted, .. } = instruction else {
        return None;
    };
    let port = |bytes: &[u8]| Some(u16::from_be_bytes(bytes.try_into().ok()?));
    let each = among.iter().map(|listed| {
        Some(Condition::Port { end, first: port(&listed.first)?, last: port(&listed.last)?, negated: false })
    });
    Some(Condition::AnyOf { of: each.collect::<Option<_>>()?, negated: *inverted })
}

/// `struct xt_udp` and `struct xt_tcp`, linux/netfilter/xt_tcpudp.h: two source ports and two destination ports, then what
/// TCP has besides, then what is turned round.
fn matched(instruction: &Instruction) -> Option<Condition> {
    const ALL: (u16, u16) = (0, u16::MAX);
    let Instruction::XtMatch { name, info, .. } = instruction else { return None };
    let half = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
    let (source, destination) = ((half(0)?, half(2)?), (half(4)?, half(6)?));
    let rest = match name.as_str() {
        "udp" => info.get(8..9)?,
        // An option, and flags with their mask.
        "tcp" => info.get(8..12)?,
        _ => return None,
    };
    let (end, (first, last)) = match (source, destination) {
        (ALL, ports) => (End::Destination, ports),
        (ports, ALL) => (End::Source, ports),
        _ => return None,
    };
    rest.iter().all(|byte| *byte == 0).then_some(Condition::Port { end, first, last, negated: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::firewall::way::Verdict;
    use crate::kernel::nft::{Expr, Op, Side, compiled};

    #[test]
    fn a_port_is_known_in_nft_and_in_iptables() {
        let rule = |instructions| RuleInfo { handle: 1, comment: None, instructions };
        let expected = |negated| Condition::Port { end: End::Destination, first: 53, last: 53, negated };
        for (op, negated) in [(Op::Eq, false), (Op::Ne, true)] {
            let nft = compiled(TableFamily::Inet, &[Expr::Port(Side::Destination, op, 53), Expr::Drop]);
            let read = read_with_ports(TableFamily::Inet, &rule(nft));
            assert_eq!((read.conditions, read.verdict), (vec![expected(negated)], Verdict::Drop));
        }
        let ports = [0, u16::MAX, 53, 53].map(u16::to_ne_bytes).concat();
        let of = |name: &str, rest: &[u8]| {
            let info = [ports.as_slice(), rest].concat();
            let xt = Instruction::XtMatch { name: name.to_owned(), revision: 0, info };
            read_with_ports(TableFamily::Ip, &rule(vec![xt])).conditions
        };
        assert_eq!(of("udp", &[0, 0]), [expected(false)]);
        assert_eq!(of("tcp", &[0, 0, 0, 0]), [expected(false)]);
        assert_eq!(of("tcp", &[0, 2, 2, 0]), [Condition::Narrow], "only some of the packets");
        assert_eq!(of("udp", &[2, 0]), [Condition::Narrow], "turned round");
    }
}
