//! The attributes of a netlink message, walked in place.
//!
//! Answers are read by hand because a dump must survive what it does not know: a newer kernel's attributes, an older
//! kernel's shorter ones. Whoever walks takes what it needs and never fails on the rest. Refuses to know any message.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// NLA_F_NESTED and NLA_F_NET_BYTEORDER are flags in the type, linux/netlink.h.
const TYPE_MASK: u16 = 0x3fff;
const HEADER: usize = 4;

/// The type and value of each attribute. A broken length ends the walk.
pub(super) fn attributes(bytes: &[u8]) -> Attributes<'_> {
    Attributes(bytes)
}

#[derive(Clone, Debug)]
pub(super) struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & TYPE_MASK;
        let value = self.0.get(HEADER..length)?;
        // The last one may lack its padding.
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

pub(super) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// A text, with or without the NUL that ends it. Names may be any bytes; what is not UTF-8 is shown as `�`.
pub(super) fn string(value: &[u8]) -> String {
    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// Four bytes are IPv4, sixteen IPv6.
pub(super) fn ip_address(value: &[u8]) -> Option<IpAddr> {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return Some(Ipv4Addr::from(octets).into());
    }
    <[u8; 16]>::try_from(value).ok().map(|octets| Ipv6Addr::from(octets).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_ends_at_the_first_broken_length() {
        let whole = [5, 0, 1, 0x80, 7, 0, 0, 0, 8, 0, 2, 0, 1, 2, 3, 4];
        let all: Vec<_> = attributes(&whole).collect();
        assert_eq!(all, [(1, &[7][..]), (2, &[1, 2, 3, 4][..])]);

        assert_eq!(attributes(&whole[..15]).count(), 1, "cut short");
        assert_eq!(attributes(&[3, 0, 1, 0]).count(), 0, "shorter than its own header");
        assert_eq!(attributes(&[0; 8]).count(), 0, "no endless walk over zeros");
        assert_eq!(attributes(&[5, 0, 9, 0, 1]).collect::<Vec<_>>(), [(9, &[1][..])], "padding left out");
    }

    #[test]
    fn values_of_another_size_are_absent() {
        assert_eq!(u32_at(&[1, 2], 0), None);
        assert_eq!(ip_address(&[10, 0, 0, 1]), Some([10, 0, 0, 1].into()));
        assert_eq!(ip_address(&[10, 0, 0]), None);
        assert_eq!(string(b"eth0\0"), "eth0");
        assert_eq!(string(b"alias"), "alias");
    }
}
