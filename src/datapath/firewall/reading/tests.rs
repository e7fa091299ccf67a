//! Instructions of the kernel, and the conditions that they are read as.

use super::*;
use crate::datapath::firewall::ChainName;
use crate::datapath::firewall::accepts::accepts;
use crate::datapath::firewall::passage::recognized;
use crate::kernel::nft::{CtState, Expr, Field, NamePattern, Op, Rule as Words, Side, Way};
use crate::net::IfName;

fn rule(family: TableFamily, words: &[Expr]) -> Rule {
    let instructions = crate::kernel::nft::compiled(family, words);
    read(family, &RuleInfo { handle: 7, comment: None, instructions })
}

#[test]
fn conditions_are_read_off_the_kernels_instructions() {
    let name = |text: &str| text.parse::<IfName>().unwrap();
    let network: IpNetwork = "10.0.0.0/8".parse().unwrap();
    let out = Expr::Interface(Way::Out, Op::Ne, NamePattern::Prefix(name("wg")));
    let states = Expr::State(vec![CtState::New, CtState::Related]);
    let words =
        vec![Expr::from(network), out, states, Expr::Dnatted, Expr::Counter, Expr::Jump("wall".to_owned())];
    let read = rule(TableFamily::Inet, &words);
    let expected = vec![
        Condition::Family { family: Family::V4, negated: false },
        Condition::Address { end: End::Source, network, negated: false },
        Condition::Interface {
            direction: Direction::Out,
            name: "wg".to_owned(),
            prefix: true,
            negated: true,
        },
        Condition::Track { bits: track::NEW | track::RELATED, negated: false },
        Condition::Track { bits: track::DNAT, negated: false },
    ];
    assert_eq!((read.conditions, read.verdict), (expected, Verdict::Jump("wall".to_owned())));
    let port = rule(TableFamily::Ip, &[Expr::Port(Side::Destination, Op::Eq, 25), Expr::Drop]);
    assert_eq!(port.conditions, [Condition::Narrow]);
    let mark = rule(TableFamily::Ip, &[Expr::Mark { mask: 1, op: Op::Ne, value: 1 }, Expr::Drop]);
    assert_eq!(mark.conditions, [Condition::Mark { mask: 1, value: 1, negated: true }]);
}

fn braces(words: &[Expr], of: &[(&[u8], &[u8])]) -> Rule {
    let mut instructions = crate::kernel::nft::compiled(TableFamily::Ip, words);
    let listed =
        |(first, last): &(&[u8], &[u8])| Listed { first: first.to_vec(), last: last.to_vec(), verdict: None };
    for instruction in &mut instructions {
        if let Instruction::Lookup { among, .. } = instruction {
            *among = Some(of.iter().map(listed).collect());
        }
    }
    read(TableFamily::Ip, &RuleInfo { handle: 7, comment: None, instructions })
}

#[test]
fn what_stands_between_braces_is_read() {
    let set = || "__set0".to_owned();
    let source = Field::Address(Family::V4, Side::Source);
    let words = [Expr::Lookup { fields: vec![source], op: Op::Ne, set: set() }, Expr::Drop];
    let ranges: [(&[u8], &[u8]); 3] = [
        (&[10, 0, 0, 1], &[10, 0, 0, 1]),
        (&[10, 1, 0, 0], &[10, 1, 255, 255]),
        (&[1, 0, 0, 1], &[1, 0, 0, 3]),
    ];
    let address = |network: &str| Condition::Address {
        end: End::Source,
        network: network.parse().unwrap(),
        negated: false,
    };
    let of = vec![address("10.0.0.1/32"), address("10.1.0.0/16"), Condition::Narrow];
    assert_eq!(braces(&words, &ranges).conditions, [Condition::AnyOf { of, negated: true }]);
}

#[test]
fn our_own_accepts_are_known_again_in_either_dialect() {
    let interface: IfName = "smartnet0".parse().unwrap();
    for (family, table, of) in
        [(Some(Family::V4), "filter", TableFamily::Ip), (None, "firewalld", TableFamily::Inet)]
    {
        let base = ChainName { family, table: table.to_owned(), chain: "FORWARD".to_owned() };
        for (number, Words { expressions, .. }) in accepts(&base, &interface).into_iter().enumerate() {
            let read = recognized(rule(of, &expressions), Some("smarter-cni smartnet0"));
            assert_eq!(read.maker, Maker::Ours(interface.clone(), number), "{read:?}");
        }
    }
}
