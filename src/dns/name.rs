//! Names of the DNS as the zone keeps them: lower case, in the form of the wire (RFC 1035 section 3.1), so that a question
//! is looked up as it came.
//!
//! Pure.

use std::fmt;
use std::net::IpAddr;

pub(crate) use crate::net::Label;

/// Bytes of a whole name, its root included.
pub(crate) const LONGEST: usize = 255;
/// A whole name, lower case, as it stands in a message.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name(Box<[u8]>);

impl Name {
    /// The name without labels.
    pub(crate) fn root() -> Self {
        Self(Box::new([0]))
    }

    /// Of labels and what stands behind them. `None` when it becomes too long for a name.
    pub(crate) fn below(labels: &[&str], parent: &Self) -> Option<Self> {
        let mut wire = Vec::with_capacity(32 + parent.0.len());
        for label in labels {
            wire.push(u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?);
            wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
        }
        wire.extend_from_slice(&parent.0);
        (wire.len() <= LONGEST).then(|| Self(wire.into()))
    }

    /// `a.b.c`, with or without a dot at its end, of labels that hosts and services have: an underscore may be in them.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let fits = |label: &&str| {
            let bare: String = label.chars().map(|c| if c == '_' { 'x' } else { c }).collect();
            Label::parse(&bare).is_some()
        };
        let labels: Vec<&str> = text.split('.').collect();
        if !labels.iter().all(fits) {
            return None;
        }
        Self::below(&labels, &Self::root())
    }

    /// Under which the pointer of an address stands (RFC 1035 section 3.5, RFC 3596 section 2.5).
    pub(crate) fn reverse(address: IpAddr) -> Self {
        let text = match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                format!("{d}.{c}.{b}.{a}.in-addr.arpa")
            }
            IpAddr::V6(address) => {
                let nibbles = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
                let digits = nibbles.filter_map(|nibble| char::from_digit(nibble.into(), 16));
                digits.flat_map(|digit| [digit, '.']).chain("ip6.arpa".chars()).collect()
            }
        };
        Self::parse(&text).unwrap_or_else(Self::root)
    }

    pub(crate) fn as_wire(&self) -> &[u8] {
        &self.0
    }

    /// The names above it, the nearest first.
    pub(crate) fn parents(&self) -> impl Iterator<Item = Self> {
        suffixes(&self.0).skip(1).filter_map(|at| self.0.get(at..)).map(|wire| Self(wire.into()))
    }

    pub(crate) fn is_below(&self, parent: &Self) -> bool {
        position(&self.0, &parent.0).is_some()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.0))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::borrow::Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// A name of the wire as people write it (RFC 4343 section 2.1): what is no plain character stands in decimal.
pub(crate) fn shown(wire: &[u8]) -> String {
    use fmt::Write as _;
    let mut text = String::with_capacity(wire.len());
    for label in labels(wire) {
        for &byte in label {
            match byte {
                b'.' | b'\\' => text.extend(['\\', char::from(byte)]),
                0x21..=0x7e => text.push(char::from(byte)),
                _ => {
                    let _ = write!(text, "\\{byte:03}");
                }
            }
        }
        text.push('.');
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

/// The labels of a name, the root's left out.
pub(crate) fn labels(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    suffixes(wire).filter_map(|at| {
        let (&length, rest) = wire.get(at..)?.split_first()?;
        (length > 0).then(|| rest.get(..usize::from(length))).flatten()
    })
}

/// Where each of its labels begins; the last one is the root's.
pub(crate) fn suffixes(wire: &[u8]) -> impl Iterator<Item = usize> {
    let next = |at: &usize| {
        let length = usize::from(*wire.get(*at)?);
        (length > 0).then_some(*at + 1 + length)
    };
    let first = (!wire.is_empty()).then_some(0);
    std::iter::successors(first, next).take_while(|at| *at < wire.len())
}

/// Where in a name the other begins, if it is that name or below it.
pub(crate) fn position(wire: &[u8], parent: &[u8]) -> Option<usize> {
    suffixes(wire).find(|at| wire.get(*at..) == Some(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_those_of_hosts() {
        for good in ["a", "WEB-1", "0", &"x".repeat(63)] {
            assert_eq!(Label::parse(good).unwrap().as_str(), good.to_lowercase());
        }
        for bad in ["", "-a", "a-", "a.b", "a_b", "a b", "ä", "*", &"x".repeat(64)] {
            assert_eq!(Label::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn names_are_written_as_on_the_wire_and_read_back() {
        let name = Name::parse("Web.NS1.svc.cluster.local.").unwrap();
        assert_eq!(name.as_wire(), b"\x03web\x03ns1\x03svc\x07cluster\x05local\0");
        assert_eq!(name.to_string(), "web.ns1.svc.cluster.local.");
        assert_eq!(Name::root().to_string(), ".");
        assert_eq!(
            labels(name.as_wire()).collect::<Vec<_>>(),
            [&b"web"[..], b"ns1", b"svc", b"cluster", b"local"]
        );
        assert_eq!(suffixes(name.as_wire()).collect::<Vec<_>>(), [0, 4, 8, 12, 20, 26]);
        let parent = Name::parse("cluster.local").unwrap();
        assert_eq!(position(name.as_wire(), parent.as_wire()), Some(12));
        assert_eq!(position(parent.as_wire(), parent.as_wire()), Some(0));
        // The bytes are the end of the name, but within a label.
        assert_eq!(position(b"\x0axcluster\x05local\0", parent.as_wire()), None);
        for bad in ["", ".", "a..b", "-a.b", &format!("{}.b", "x".repeat(64)), &"abc.".repeat(70)] {
            assert_eq!(Name::parse(bad), None, "{bad:?}");
        }
        assert_eq!(shown(b"\x04a.\\\x07\0"), "a\\.\\\\\\007.");
    }

    #[test]
    fn damaged_names_end_where_they_break() {
        for damaged in [&b""[..], b"\x05ab", b"\x01a", b"\x01a\x3f"] {
            assert!(suffixes(damaged).count() <= 2, "{damaged:?}");
            let _ = shown(damaged);
        }
    }

    #[test]
    fn addresses_have_a_name_for_their_pointer() {
        assert_eq!(Name::reverse([10, 77, 0, 7].into()).to_string(), "7.0.77.10.in-addr.arpa.");
        let v6 = Name::reverse("fd00::a1".parse().unwrap()).to_string();
        assert_eq!(v6, format!("1.a.{}d.f.ip6.arpa.", "0.".repeat(28)));
    }
}
