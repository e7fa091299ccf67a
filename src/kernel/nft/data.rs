//! What sets are keyed by and what rules compare with: addresses, ports, names. Bytes in the kernel's order, text as
//! `nft` writes it.
//!
//! Refuses to know registers and messages.

use std::fmt;
use std::net::IpAddr;

use crate::net::{IfName, Mac};

/// The types of one field of a key or value. The kernel keeps them as opaque numbers for `nft` to read (its datatype.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataType {
    Ipv4Addr,
    Ipv6Addr,
    EtherAddr,
    InetProto,
    InetService,
    IfName,
    Mark,
}

impl DataType {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ipv4Addr => "ipv4_addr",
            Self::Ipv6Addr => "ipv6_addr",
            Self::EtherAddr => "ether_addr",
            Self::InetProto => "inet_proto",
            Self::InetService => "inet_service",
            Self::IfName => "ifname",
            Self::Mark => "mark",
        }
    }

    /// `enum datatypes` of nftables.
    pub(super) fn id(self) -> u32 {
        match self {
            Self::Ipv4Addr => 7,
            Self::Ipv6Addr => 8,
            Self::EtherAddr => 9,
            Self::InetProto => 12,
            Self::InetService => 13,
            Self::Mark => 19,
            Self::IfName => 41,
        }
    }

    /// Bytes without padding.
    pub(super) fn size(self) -> usize {
        match self {
            Self::InetProto => 1,
            Self::InetService => 2,
            Self::Ipv4Addr | Self::Mark => 4,
            Self::EtherAddr => 6,
            Self::Ipv6Addr | Self::IfName => 16,
        }
    }

    pub(super) fn is_host_order(self) -> bool {
        matches!(self, Self::IfName | Self::Mark)
    }
}

/// A field behind another starts at a whole 32-bit register.
pub(super) fn padded(types: &[DataType]) -> usize {
    match types {
        [only] => only.size(),
        several => several.iter().map(|t| t.size().next_multiple_of(4)).sum(),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Datum {
    Address(IpAddr),
    Ether(Mac),
    /// IANA protocol number.
    Protocol(u8),
    Port(u16),
    IfName(IfName),
    Mark(u32),
}

impl Datum {
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Address(IpAddr::V4(_)) => DataType::Ipv4Addr,
            Self::Address(IpAddr::V6(_)) => DataType::Ipv6Addr,
            Self::Ether(_) => DataType::EtherAddr,
            Self::Protocol(_) => DataType::InetProto,
            Self::Port(_) => DataType::InetService,
            Self::IfName(_) => DataType::IfName,
            Self::Mark(_) => DataType::Mark,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Address(IpAddr::V4(address)) => address.octets().to_vec(),
            Self::Address(IpAddr::V6(address)) => address.octets().to_vec(),
            Self::Ether(mac) => mac.0.to_vec(),
            Self::Protocol(number) => vec![*number],
            Self::Port(port) => port.to_be_bytes().to_vec(),
            Self::IfName(name) => {
                let mut bytes = name.as_str().as_bytes().to_vec();
                bytes.resize(DataType::IfName.size(), 0);
                bytes
            }
            Self::Mark(mark) => mark.to_ne_bytes().to_vec(),
        }
    }

    /// The value in front of this one in the order of its bytes; none in front of zero.
    pub(super) fn before(&self) -> Option<Self> {
        let mut bytes = self.bytes();
        for byte in bytes.iter_mut().rev() {
            *byte = byte.wrapping_sub(1);
            if *byte != 0xff {
                return Self::parse(self.data_type(), &bytes);
            }
        }
        None
    }

    /// The bytes of the value behind this one; none behind the last.
    pub(super) fn behind(&self) -> Option<Vec<u8>> {
        let mut bytes = self.bytes();
        for byte in bytes.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                return Some(bytes);
            }
        }
        None
    }

    fn parse(data_type: DataType, bytes: &[u8]) -> Option<Self> {
        Some(match data_type {
            DataType::Ipv4Addr => Self::Address(IpAddr::from(*bytes.first_chunk::<4>()?)),
            DataType::Ipv6Addr => Self::Address(IpAddr::from(*bytes.first_chunk::<16>()?)),
            DataType::EtherAddr => Self::Ether(Mac(*bytes.first_chunk()?)),
            DataType::InetProto => Self::Protocol(*bytes.first()?),
            DataType::InetService => Self::Port(u16::from_be_bytes(*bytes.first_chunk()?)),
            DataType::IfName => {
                let name = bytes.split(|byte| *byte == 0).next()?;
                Self::IfName(std::str::from_utf8(name).ok()?.parse().ok()?)
            }
            DataType::Mark => Self::Mark(u32::from_ne_bytes(*bytes.first_chunk()?)),
        })
    }
}

/// A key or value of one or more fields, as it stands in registers.
pub(super) fn concatenate(fields: &[Datum]) -> Vec<u8> {
    if let [only] = fields {
        return only.bytes();
    }
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend(field.bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

pub(super) fn split(types: &[DataType], mut bytes: &[u8]) -> Option<Vec<Datum>> {
    let mut fields = Vec::with_capacity(types.len());
    for data_type in types {
        fields.push(Datum::parse(*data_type, bytes)?);
        bytes = bytes.get(data_type.size().next_multiple_of(4)..).unwrap_or_default();
    }
    Some(fields)
}

impl fmt::Display for Datum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Ether(mac) => mac.fmt(f),
            Self::Protocol(number) => match protocol_name(*number) {
                Some(name) => f.write_str(name),
                None => number.fmt(f),
            },
            Self::Port(port) => port.fmt(f),
            Self::IfName(name) => write!(f, "\"{name}\""),
            Self::Mark(mark) => write!(f, "{mark:#010x}"),
        }
    }
}

pub(super) fn protocol_name(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "ipv6-icmp",
        132 => "sctp",
        _ => return None,
    })
}

/// A remark that `nft list` shows. At most 127 bytes (`nft` reads 128 with the zero at the end), without quotes and
/// control characters, which its own parser could not read back.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Comment(String);

impl Comment {
    pub fn new(text: &str) -> Self {
        let mut comment = String::new();
        for letter in text.chars() {
            if comment.len() + letter.len_utf8() > 127 {
                break;
            }
            comment.push(if letter == '"' || letter.is_control() { '_' } else { letter });
        }
        Self(comment)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Comment {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Display for Comment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "comment \"{}\"", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_behind_others_start_at_whole_registers() {
        let key =
            [Datum::Protocol(6), Datum::Port(8080), Datum::IfName("lo".parse().unwrap()), Datum::Mark(1)];
        let types: Vec<_> = key.iter().map(Datum::data_type).collect();
        let bytes = concatenate(&key);
        assert_eq!(bytes[..8], [6, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(bytes.len(), padded(&types));
        assert_eq!(split(&types, &bytes).unwrap(), key);
        assert_eq!(concatenate(&key[1..2]), [0x1f, 0x90]);
        assert_eq!(split(&types, &bytes[..20]), None);
    }

    #[test]
    fn neighbours_carry_over_bytes_and_end_at_the_edges() {
        let address = |text: &str| Datum::Address(text.parse().unwrap());
        assert_eq!(address("10.255.255.255").behind().unwrap(), [11, 0, 0, 0]);
        assert_eq!(address("255.255.255.255").behind(), None);
        assert_eq!(address("11.0.0.0").before(), Some(address("10.255.255.255")));
        assert_eq!(address("0.0.0.0").before(), None);
    }

    #[test]
    fn comments_are_what_nft_can_read_back() {
        assert_eq!(Comment::new("say \"hi\"\n").to_string(), "comment \"say _hi__\"");
        let long = Comment::new(&"é".repeat(100));
        assert_eq!(long.as_str().len(), 126);
    }
}
