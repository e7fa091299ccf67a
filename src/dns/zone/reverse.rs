//! Names below in-addr.arpa and ip6.arpa, read as the network they stand for.
//!
//! Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::super::name::{labels, suffixes};

/// The network of all addresses whose names are this one or below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    network: IpNetwork,
    /// Bits that one label stands for.
    step: u8,
    /// Labels in front of those that are a number.
    strange: usize,
    /// Where each label of the name begins, from the one next to the suffix.
    starts: Vec<usize>,
}

/// `None` for a name elsewhere.
pub(super) fn parse(wire: &[u8]) -> Option<Asked> {
    let all: Vec<&[u8]> = labels(wire).collect();
    let mut starts: Vec<usize> = suffixes(wire).collect();
    let (rest, v4) = match all.as_slice() {
        [rest @ .., b"in-addr", b"arpa"] => (rest, true),
        [rest @ .., b"ip6", b"arpa"] => (rest, false),
        _ => return None,
    };
    starts.truncate(rest.len());
    starts.reverse();
    let (step, most) = if v4 { (8, 4) } else { (4, 32) };
    let numbers: Vec<u8> = rest
        .iter()
        .rev()
        .take(most)
        .map_while(|label| if v4 { octet(label) } else { nibble(label) })
        .collect();
    let mut bits: u128 = 0;
    for number in &numbers {
        bits = (bits << step) | u128::from(*number);
    }
    let prefix = u8::try_from(numbers.len()).ok()? * step;
    let network = if v4 {
        let address = u32::try_from(bits).ok()?.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
        IpNetwork::new(IpAddr::V4(Ipv4Addr::from(address)), prefix)
    } else {
        let address = bits.checked_shl(u32::from(128 - prefix)).unwrap_or(0);
        IpNetwork::new(IpAddr::V6(Ipv6Addr::from(address)), prefix)
    };
    Some(Asked { network: network.ok()?, step, strange: rest.len() - numbers.len(), starts })
}

/// As the standard writes it: `07` is another label than `7`, and nobody's.
fn octet(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit @ (b'0'..=b'9' | b'a'..=b'f')] => char::from(*digit).to_digit(16)?.try_into().ok(),
        _ => None,
    }
}

impl Asked {
    pub(super) fn is_within(&self, range: IpNetwork) -> bool {
        range.is_ipv4() == self.network.is_ipv4()
            && range.prefix() <= self.network.prefix()
            && range.contains(self.network.ip())
    }

    /// The one address, if the name is that of one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        let whole = if self.network.is_ipv4() { 32 } else { 128 };
        (self.strange == 0 && self.network.prefix() == whole).then(|| self.network.ip())
    }

    pub(super) fn covers(&self, address: IpAddr) -> bool {
        self.network.contains(address)
    }

    /// Nothing but numbers stands in front of the suffix.
    pub(super) fn is_whole(&self) -> bool {
        self.strange == 0
    }

    /// Where the zone of the range begins in the name: names are cut at labels, so that a range of other size is several.
    pub(super) fn apex(&self, range: IpNetwork) -> usize {
        let labels = usize::from(range.prefix().div_ceil(self.step));
        labels.checked_sub(1).and_then(|last| self.starts.get(last)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::name::Name;
    use super::*;

    fn asked(name: &str) -> Asked {
        parse(Name::parse(name).unwrap().as_wire()).unwrap()
    }

    #[test]
    fn names_are_networks() {
        for (name, network) in [
            ("7.0.77.10.in-addr.arpa", "10.77.0.7/32"),
            ("77.10.in-addr.arpa", "10.77.0.0/16"),
            ("in-addr.arpa", "0.0.0.0/0"),
            ("x.7.0.77.10.in-addr.arpa", "10.77.0.7/32"),
            ("07.0.77.10.in-addr.arpa", "10.77.0.0/24"),
            ("256.77.10.in-addr.arpa", "10.77.0.0/16"),
            ("0.0.d.f.ip6.arpa", "fd00::/16"),
            ("xx.d.f.ip6.arpa", "fd00::/8"),
        ] {
            assert_eq!(asked(name).network, network.parse().unwrap(), "{name}");
        }
        assert_eq!(asked("7.0.77.10.in-addr.arpa").address(), Some([10, 77, 0, 7].into()));
        assert_eq!(asked("1.7.0.77.10.in-addr.arpa").address(), None);
        assert_eq!(asked("0.77.10.in-addr.arpa").address(), None);
        assert_eq!(parse(Name::parse("arpa").unwrap().as_wire()), None);
    }

    #[test]
    fn zones_begin_where_a_label_does() {
        let apex = |name: &str, range: &str| {
            let wire = Name::parse(name).unwrap();
            let at = asked(name).apex(range.parse().unwrap());
            super::super::super::name::shown(&wire.as_wire()[at..])
        };
        assert_eq!(apex("7.3.77.10.in-addr.arpa", "10.77.0.0/16"), "77.10.in-addr.arpa.");
        assert_eq!(apex("7.3.77.10.in-addr.arpa", "10.77.2.0/23"), "3.77.10.in-addr.arpa.");
        assert_eq!(apex("a.7.3.77.10.in-addr.arpa", "10.77.3.0/26"), "7.3.77.10.in-addr.arpa.");
        assert!(asked("3.77.10.in-addr.arpa").is_within("10.77.2.0/23".parse().unwrap()));
        assert!(!asked("77.10.in-addr.arpa").is_within("10.77.2.0/23".parse().unwrap()));
        assert_eq!(apex("0.0.d.f.ip6.arpa", "fd00::/14"), "0.0.d.f.ip6.arpa.");
    }
}
