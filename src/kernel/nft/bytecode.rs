//! What the kernel executes: the instructions of linux/netfilter/nf_tables.h, and the phrases of `expression` translated
//! into them the way `nft` does, so that `nft list` reads them back as the same words.
//!
//! Pure. Instructions of the kernel and our own compare equal when the rules are the same.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::TableFamily;
use super::expression::{CtState, Expr, Field, NamePattern, Op, Side, Way};
use super::number::{
    CT_STATE, CT_STATUS, ETHERTYPE_IPV4, ETHERTYPE_IPV6, FIB_ADDRTYPE, FIB_DADDR, IPS_DST_NAT, LINK_HEADER,
    META_IIFNAME, META_L4PROTO, META_MARK, META_NFPROTO, META_OIFNAME, META_PROTOCOL, NETWORK_HEADER,
    NFPROTO_IPV4, NFPROTO_IPV6, REGISTER, RTN_LOCAL, TCP, TCP_SYN, TRANSPORT_HEADER, VERDICT_ACCEPT,
    VERDICT_DROP, VERDICT_GOTO, VERDICT_JUMP, VERDICT_RETURN,
};
use super::xt;
use crate::net::Family;

/// NFT_CMP_EQ and NFT_CMP_NEQ, and the others for rules that are not ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Comparison(pub u32);

impl From<Op> for Comparison {
    fn from(op: Op) -> Self {
        Self(u32::from(op != Op::Eq))
    }
}

/// A value, or the values from the first to the last, between the braces of a rule, and where a map of verdicts leads
/// from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub first: Vec<u8>,
    pub last: Vec<u8>,
    /// As [`Instruction::Verdict`] has it.
    pub verdict: Option<(u32, Option<String>)>,
}

/// Registers are numbered as the kernel reports them: 1 to 4 of 16 bytes, others from 8 on of 4 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    Meta {
        key: u32,
        register: u32,
    },
    SetMeta {
        key: u32,
        register: u32,
    },
    Payload {
        base: u32,
        offset: u32,
        length: u32,
        register: u32,
    },
    Bitwise {
        register: u32,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Compare {
        register: u32,
        op: Comparison,
        data: Vec<u8>,
    },
    Immediate {
        register: u32,
        data: Vec<u8>,
    },
    Verdict {
        code: u32,
        chain: Option<String>,
    },
    Lookup {
        set: String,
        register: u32,
        result: Option<u32>,
        inverted: bool,
        /// Of a set between braces, once it was read.
        among: Option<Vec<Listed>>,
    },
    Fib {
        flags: u32,
        result: u32,
        register: u32,
    },
    Conntrack {
        key: u32,
        register: u32,
    },
    Masquerade,
    /// NFT_NAT_DNAT to the address and port in these registers; the family is NFPROTO_*.
    Dnat {
        family: u32,
        address: u32,
        port: u32,
    },
    Counter,
    /// The packet gets no connection.
    NoTrack,
    /// NFT_RT_TCPMSS.
    RouteMss {
        register: u32,
    },
    /// Two bytes from host to network order.
    ToNetworkOrder {
        register: u32,
    },
    /// The segment size of the TCP option of that name.
    WriteMss {
        register: u32,
    },
    /// A match of x_tables.
    XtMatch {
        name: String,
        revision: u32,
        info: Vec<u8>,
    },
    /// What this program never writes: its name, and its attributes as the kernel gave them.
    Other {
        name: String,
        data: Vec<u8>,
    },
}

/// The instructions of a rule in a table of that family.
pub(crate) fn compile(family: TableFamily, expressions: &[Expr]) -> Vec<Instruction> {
    expressions.iter().flat_map(|expression| translate(family, expression)).collect()
}

fn translate(family: TableFamily, expression: &Expr) -> Vec<Instruction> {
    let compare = |op: Op, data: Vec<u8>| Instruction::Compare { register: REGISTER, op: op.into(), data };
    let verdict = |code, chain: Option<&String>| vec![Instruction::Verdict { code, chain: chain.cloned() }];
    match expression {
        Expr::Interface(way, op, pattern) => {
            let bytes = match pattern {
                // With its zero and without padding, as iptables-nft writes it; `nft` reads it like its own.
                NamePattern::Exact(name) => [name.as_str().as_bytes(), &[0]].concat(),
                NamePattern::Prefix(name) => name.as_str().as_bytes().to_vec(),
            };
            vec![load(Field::Interface(*way), REGISTER), compare(*op, bytes)]
        }
        Expr::Address(side, op, network) => address(family, *side, *op, *network),
        Expr::Ether(side, op, mac) => vec![load(Field::Ether(*side), REGISTER), compare(*op, mac.0.to_vec())],
        Expr::Protocol(op, number) => vec![load(Field::Protocol, REGISTER), compare(*op, vec![*number])],
        Expr::Port(side, op, port) => {
            vec![load(Field::Port(*side), REGISTER), compare(*op, port.to_be_bytes().to_vec())]
        }
        Expr::Mark { mask, op, value } => {
            let mut code = vec![load(Field::Mark, REGISTER)];
            if *mask != u32::MAX {
                code.push(mask_xor(mask.to_ne_bytes(), [0; 4]));
            }
            code.push(compare(*op, value.to_ne_bytes().to_vec()));
            code
        }
        Expr::LocalDestination => vec![
            Instruction::Fib { flags: FIB_DADDR, result: FIB_ADDRTYPE, register: REGISTER },
            compare(Op::Eq, RTN_LOCAL.to_ne_bytes().to_vec()),
        ],
        Expr::Dnatted => any_bit(CT_STATUS, IPS_DST_NAT),
        Expr::State(states) => any_bit(CT_STATE, bits(states)),
        Expr::Lookup { fields, op, set } => {
            let mut code = load_all(family, fields);
            let inverted = *op == Op::Ne;
            code.push(Instruction::Lookup {
                set: set.clone(),
                register: REGISTER,
                result: None,
                inverted,
                among: None,
            });
            code
        }
        Expr::Dnat { family: to, fields, map } => {
            let mut code = load_all(family, fields);
            let (nfproto, port) = match to {
                Family::V4 => (NFPROTO_IPV4, register_at(4)),
                Family::V6 => (NFPROTO_IPV6, register_at(16)),
            };
            let result = Some(REGISTER);
            code.push(Instruction::Lookup {
                set: map.clone(),
                register: REGISTER,
                result,
                inverted: false,
                among: None,
            });
            code.push(Instruction::Dnat { family: nfproto.into(), address: REGISTER, port });
            code
        }
        Expr::SetMark { mask: u32::MAX, value } => vec![
            Instruction::Immediate { register: REGISTER, data: value.to_ne_bytes().to_vec() },
            Instruction::SetMeta { key: META_MARK, register: REGISTER },
        ],
        Expr::SetMark { mask, value } => vec![
            load(Field::Mark, REGISTER),
            mask_xor((!(mask | value)).to_ne_bytes(), value.to_ne_bytes()),
            Instruction::SetMeta { key: META_MARK, register: REGISTER },
        ],
        Expr::ClampMss => clamp_mss(),
        Expr::Counter => vec![Instruction::Counter],
        Expr::NoTrack => vec![Instruction::NoTrack],
        Expr::Masquerade => vec![Instruction::Masquerade],
        Expr::Accept => verdict(VERDICT_ACCEPT, None),
        Expr::Drop => verdict(VERDICT_DROP, None),
        Expr::Return => verdict(VERDICT_RETURN, None),
        Expr::Jump(chain) => verdict(VERDICT_JUMP, Some(chain)),
        Expr::Goto(chain) => verdict(VERDICT_GOTO, Some(chain)),
        Expr::XtComment(text) => vec![xt::comment(text)],
        Expr::XtState(states) => vec![xt::state(bits(states))],
        Expr::XtDnatted => vec![xt::state(xt::STATE_DNAT)],
    }
}

fn load(field: Field, register: u32) -> Instruction {
    let payload = |base, offset, length| Instruction::Payload { base, offset, length, register };
    match field {
        Field::Interface(Way::In) => Instruction::Meta { key: META_IIFNAME, register },
        Field::Interface(Way::Out) => Instruction::Meta { key: META_OIFNAME, register },
        Field::Protocol => Instruction::Meta { key: META_L4PROTO, register },
        Field::Mark => Instruction::Meta { key: META_MARK, register },
        Field::Address(Family::V4, Side::Source) => payload(NETWORK_HEADER, 12, 4),
        Field::Address(Family::V4, Side::Destination) => payload(NETWORK_HEADER, 16, 4),
        Field::Address(Family::V6, Side::Source) => payload(NETWORK_HEADER, 8, 16),
        Field::Address(Family::V6, Side::Destination) => payload(NETWORK_HEADER, 24, 16),
        // RFC 826 with Ethernet and IPv4: the address that is asked for comes last.
        Field::ArpTarget => payload(NETWORK_HEADER, 24, 4),
        Field::Ether(Side::Source) => payload(LINK_HEADER, 6, 6),
        Field::Ether(Side::Destination) => payload(LINK_HEADER, 0, 6),
        Field::Port(Side::Source) => payload(TRANSPORT_HEADER, 0, 2),
        Field::Port(Side::Destination) => payload(TRANSPORT_HEADER, 2, 2),
    }
}

/// The register that starts so many bytes behind the first one, as nft_dump_register (nf_tables_api.c) numbers it.
fn register_at(offset: usize) -> u32 {
    let word = u32::try_from(offset / 4).unwrap_or(u32::MAX);
    if word.is_multiple_of(4) { REGISTER + word / 4 } else { 8 + word }
}

/// Loads a concatenation: each field starts at a whole 4-byte register.
fn load_all(family: TableFamily, fields: &[Field]) -> Vec<Instruction> {
    let mut code = Vec::new();
    if let Some(Field::Address(of, _)) = fields.iter().find(|f| matches!(f, Field::Address(..))) {
        code.extend(network_layer(family, *of));
    }
    let mut offset = 0;
    for field in fields {
        code.push(load(*field, register_at(offset)));
        offset += field.data_type().size().next_multiple_of(4);
    }
    code
}

/// Tables that see more than one network layer must ask which one a packet has before they look into its header.
fn network_layer(family: TableFamily, of: Family) -> Vec<Instruction> {
    let (key, data) = match (family, of) {
        (TableFamily::Ip | TableFamily::Ip6 | TableFamily::Arp, _) => return Vec::new(),
        (TableFamily::Inet, Family::V4) => (META_NFPROTO, vec![NFPROTO_IPV4]),
        (TableFamily::Inet, Family::V6) => (META_NFPROTO, vec![NFPROTO_IPV6]),
        (TableFamily::Bridge | TableFamily::Netdev, Family::V4) => {
            (META_PROTOCOL, ETHERTYPE_IPV4.to_be_bytes().to_vec())
        }
        (TableFamily::Bridge | TableFamily::Netdev, Family::V6) => {
            (META_PROTOCOL, ETHERTYPE_IPV6.to_be_bytes().to_vec())
        }
    };
    vec![
        Instruction::Meta { key, register: REGISTER },
        Instruction::Compare { register: REGISTER, op: Op::Eq.into(), data },
    ]
}

/// A prefix of whole bytes is compared as such; any other is masked first.
fn address(family: TableFamily, side: Side, op: Op, network: IpNetwork) -> Vec<Instruction> {
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let of = Family::of(network.ip());
    let mut code = network_layer(family, of);
    let mut data = bytes(network.network());
    let mut field = load(Field::Address(of, side), REGISTER);
    let whole_bytes = usize::from(network.prefix() / 8);
    let aligned = network.prefix().is_multiple_of(8) && whole_bytes > 0;
    if aligned {
        data.truncate(whole_bytes);
        if let Instruction::Payload { length, .. } = &mut field {
            *length = u32::from(network.prefix() / 8);
        }
    }
    code.push(field);
    if !aligned {
        let xor = vec![0; data.len()];
        code.push(Instruction::Bitwise { register: REGISTER, mask: bytes(network.mask()), xor });
    }
    code.push(Instruction::Compare { register: REGISTER, op: op.into(), data });
    code
}

fn mask_xor(mask: [u8; 4], xor: [u8; 4]) -> Instruction {
    Instruction::Bitwise { register: REGISTER, mask: mask.to_vec(), xor: xor.to_vec() }
}

fn bits(states: &[CtState]) -> u32 {
    states.iter().fold(0, |bits, state| bits | state.bit())
}

fn any_bit(key: u32, bits: u32) -> Vec<Instruction> {
    vec![
        Instruction::Conntrack { key, register: REGISTER },
        mask_xor(bits.to_ne_bytes(), [0; 4]),
        Instruction::Compare { register: REGISTER, op: Op::Ne.into(), data: vec![0; 4] },
    ]
}

/// The flags are in byte 13 of the TCP header (RFC 9293).
fn clamp_mss() -> Vec<Instruction> {
    let compare = |op: Op, data| Instruction::Compare { register: REGISTER, op: op.into(), data };
    vec![
        load(Field::Protocol, REGISTER),
        compare(Op::Eq, vec![TCP]),
        Instruction::Payload { base: TRANSPORT_HEADER, offset: 13, length: 1, register: REGISTER },
        Instruction::Bitwise { register: REGISTER, mask: vec![TCP_SYN], xor: vec![0] },
        compare(Op::Ne, vec![0]),
        Instruction::RouteMss { register: REGISTER },
        Instruction::ToNetworkOrder { register: REGISTER },
        Instruction::WriteMss { register: REGISTER },
    ]
}
