//! The words of a rule: matches, statements and verdicts, each one a phrase of the `nft` language.
//!
//! Refuses to know the kernel's instructions: `bytecode` translates.

use std::fmt;

use ipnetwork::IpNetwork;

use super::data::{DataType, Datum};
use crate::net::{Family, IfName, Mac};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Eq,
    Ne,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Destination,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    In,
    Out,
}

/// `"eth0"`, or `"wwan*"` for every name that begins so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    Exact(IfName),
    /// Without the asterisk.
    Prefix(IfName),
}

/// `ct state`, `enum ip_conntrack_info` as a bit, linux/netfilter/nf_conntrack_common.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtState {
    Invalid,
    Established,
    Related,
    New,
}

impl CtState {
    pub const ALL: [Self; 4] = [Self::Invalid, Self::Established, Self::Related, Self::New];

    pub(super) fn bit(self) -> u32 {
        match self {
            Self::Invalid => 1,
            Self::Established => 2,
            Self::Related => 4,
            Self::New => 8,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Established => "established",
            Self::Related => "related",
            Self::New => "new",
        }
    }
}

/// Something of a packet that can be looked up in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Interface(Way),
    Address(Family, Side),
    Ether(Side),
    /// Whose hardware address is asked for, `arp daddr ip`.
    ArpTarget,
    /// Transport protocol, `meta l4proto`.
    Protocol,
    /// Of TCP, UDP, SCTP…: whatever has ports in the first four bytes.
    Port(Side),
    Mark,
}

impl Field {
    pub fn data_type(self) -> DataType {
        match self {
            Self::Interface(_) => DataType::IfName,
            Self::Address(Family::V4, _) | Self::ArpTarget => DataType::Ipv4Addr,
            Self::Address(Family::V6, _) => DataType::Ipv6Addr,
            Self::Ether(_) => DataType::EtherAddr,
            Self::Protocol => DataType::InetProto,
            Self::Port(_) => DataType::InetService,
            Self::Mark => DataType::Mark,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    Interface(Way, Op, NamePattern),
    /// The family is that of the network; a single address is a network of its full length.
    Address(Side, Op, IpNetwork),
    Ether(Side, Op, Mac),
    Protocol(Op, u8),
    Port(Side, Op, u16),
    Mark {
        mask: u32,
        op: Op,
        value: u32,
    },
    /// `fib daddr type local`: the packet is for this machine.
    LocalDestination,
    /// The first packet of the connection was rewritten by dnat.
    Dnatted,
    /// Any of these.
    State(Vec<CtState>),
    /// `iifname . ether saddr != @set`. The fields must be those of the set's key.
    Lookup {
        fields: Vec<Field>,
        op: Op,
        set: String,
    },
    /// `dnat ip to meta l4proto . th dport map @map`. The map gives an address of that family and a port.
    Dnat {
        family: Family,
        fields: Vec<Field>,
        map: String,
    },
    /// Clears the bits of `mask` and sets those of `value`.
    SetMark {
        mask: u32,
        value: u32,
    },
    /// Lowers the segment size that a TCP SYN announces to what the route's MTU carries.
    ClampMss,
    Counter,
    /// The packet gets no connection: neither an entry nor a translation.
    NoTrack,
    Masquerade,
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// `-m comment` as `iptables-nft` writes it: a match of x_tables that is always true. The `nft` language has no
    /// word for it; needs the module xt_comment.
    XtComment(String),
    /// `-m conntrack --ctstate` as `iptables-nft` writes it. With `State` in one of its chains, iptables 1.8.9 refuses
    /// to list the whole table ("incompatible, use 'nft' tool"). Needs the module xt_conntrack.
    XtState(Vec<CtState>),
    /// `-m conntrack --ctstate DNAT`: [`Self::Dnatted`] as `iptables-nft` writes it. Not together with other states: the
    /// translation that `nft list` shows would forget those.
    XtDnatted,
}

impl Expr {
    /// Everybody in the network, as source.
    pub fn from(network: IpNetwork) -> Self {
        Self::Address(Side::Source, Op::Eq, network)
    }

    pub fn not_to(network: IpNetwork) -> Self {
        Self::Address(Side::Destination, Op::Ne, network)
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Eq { "" } else { "!= " })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interface(Way::In) => "iifname",
            Self::Interface(Way::Out) => "oifname",
            Self::Address(Family::V4, Side::Source) => "ip saddr",
            Self::Address(Family::V4, Side::Destination) => "ip daddr",
            Self::Address(Family::V6, Side::Source) => "ip6 saddr",
            Self::Address(Family::V6, Side::Destination) => "ip6 daddr",
            Self::ArpTarget => "arp daddr ip",
            Self::Ether(Side::Source) => "ether saddr",
            Self::Ether(Side::Destination) => "ether daddr",
            Self::Protocol => "meta l4proto",
            Self::Port(Side::Source) => "th sport",
            Self::Port(Side::Destination) => "th dport",
            Self::Mark => "meta mark",
        })
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(way, op, NamePattern::Exact(name)) => {
                write!(f, "{} {op}\"{name}\"", Field::Interface(*way))
            }
            Self::Interface(way, op, NamePattern::Prefix(name)) => {
                write!(f, "{} {op}\"{name}*\"", Field::Interface(*way))
            }
            Self::Address(side, op, network) => {
                let field = Field::Address(Family::of(network.ip()), *side);
                write!(f, "{field} {op}{}", super::text::network(*network))
            }
            Self::Ether(side, op, mac) => write!(f, "{} {op}{mac}", Field::Ether(*side)),
            Self::Protocol(op, number) => write!(f, "{} {op}{}", Field::Protocol, Datum::Protocol(*number)),
            Self::Port(side, op, port) => write!(f, "{} {op}{port}", Field::Port(*side)),
            Self::Mark { mask: u32::MAX, op, value } => write!(f, "meta mark {op}{value:#010x}"),
            Self::Mark { mask, op, value } => {
                let op = if *op == Op::Eq { "==" } else { "!=" };
                write!(f, "meta mark & {mask:#010x} {op} {value:#010x}")
            }
            Self::LocalDestination => f.write_str("fib daddr type local"),
            Self::Dnatted => f.write_str("ct status dnat"),
            Self::State(states) => {
                write!(f, "ct state {}", names(states))
            }
            Self::Lookup { fields, op, set } => write!(f, "{} {op}@{set}", super::text::dotted(fields)),
            Self::Dnat { family, fields, map } => {
                let family = if *family == Family::V4 { "ip" } else { "ip6" };
                write!(f, "dnat {family} to {} map @{map}", super::text::dotted(fields))
            }
            Self::SetMark { mask: u32::MAX, value } => write!(f, "meta mark set {value:#010x}"),
            Self::SetMark { mask, value: 0 } => write!(f, "meta mark set meta mark & {:#010x}", !mask),
            Self::SetMark { mask, value } => {
                write!(f, "meta mark set meta mark & {:#010x} | {value:#010x}", !mask)
            }
            Self::ClampMss => f.write_str("tcp flags syn tcp option maxseg size set rt mtu"),
            Self::Counter => f.write_str("counter"),
            Self::NoTrack => f.write_str("notrack"),
            Self::Masquerade => f.write_str("masquerade"),
            Self::Accept => f.write_str("accept"),
            Self::Drop => f.write_str("drop"),
            Self::Return => f.write_str("return"),
            Self::Jump(chain) => write!(f, "jump {chain}"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::XtComment(text) => write!(f, "xt match comment \"{text}\""),
            Self::XtState(states) => write!(f, "xt match conntrack {}", names(states)),
            Self::XtDnatted => f.write_str("xt match conntrack dnat"),
        }
    }
}

fn names(states: &[CtState]) -> String {
    states.iter().map(|state| state.name()).collect::<Vec<_>>().join(",")
}
