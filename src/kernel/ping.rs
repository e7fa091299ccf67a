//! Echo requests (RFC 792, RFC 4443): asked in one namespace, waited for together with others.
//!
//! Needs CAP_NET_RAW. Packets go out whole or not at all.

use std::net::{IpAddr, SocketAddr};

use rustix::fd::OwnedFd;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send, socket_with,
};

use super::error::{Error, Result};

/// Headers of the network layer in front of an ICMP message.
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const ICMP_HEADER: usize = 8;
/// Tells our questions from those of others who ask at the same time.
const IDENTITY: [u8; 2] = *b"sc";

/// A conversation with one address.
#[derive(Debug)]
pub struct Ping {
    socket: OwnedFd,
    to: IpAddr,
}

impl Ping {
    /// The socket belongs to the namespace of the calling thread.
    pub fn open(to: IpAddr) -> Result<Self> {
        let open = || -> rustix::io::Result<OwnedFd> {
            let (family, protocol) = match to {
                IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
                IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
            };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(family, SocketType::RAW, flags, Some(protocol))?;
            match to {
                IpAddr::V4(_) => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO)?,
                IpAddr::V6(_) => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::DO)?,
            }
            connect(&socket, &SocketAddr::new(to, 0))?;
            Ok(socket)
        };
        let socket = open().map_err(|errno| Error::new(format!("ping {to}"), errno.into()))?;
        Ok(Self { socket, to })
    }

    /// Sends one question that makes a packet of that size, or the smallest there is.
    pub fn ask(&self, sequence: u8, size: usize) -> Result<()> {
        let message = question(self.to, sequence, size);
        let sent = send(&self.socket, &message, SendFlags::empty());
        sent.map(drop).map_err(|errno| Error::new(format!("ping -s {size} {}", self.to), errno.into()))
    }

    /// The numbers of the questions that were answered since the last look.
    pub fn answers(&self) -> Vec<u8> {
        let mut found = Vec::new();
        let mut packet = vec![0; 64 * 1024];
        while let Ok((length, _)) = recv(&self.socket, &mut packet[..], RecvFlags::empty()) {
            found.extend(answer(self.to, packet.get(..length).unwrap_or_default()));
        }
        found
    }
}

fn question(to: IpAddr, sequence: u8, size: usize) -> Vec<u8> {
    let (kind, header) = if to.is_ipv4() { (8, IPV4_HEADER) } else { (128, IPV6_HEADER) };
    let mut message = vec![kind, 0, 0, 0];
    message.extend(IDENTITY);
    message.extend([0, sequence]);
    message.resize(size.saturating_sub(header).max(ICMP_HEADER), 0);
    if to.is_ipv4() {
        // The kernel writes that of ICMPv6 itself.
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    message
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |byte| u32::from(*byte)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

/// The number of the question that a packet answers. Raw sockets of IPv4 get the header, those of IPv6 do not.
fn answer(from: IpAddr, packet: &[u8]) -> Option<u8> {
    let (kind, message) = match from {
        IpAddr::V4(_) => (0, packet.get(usize::from(packet.first()? & 0x0f) * 4..)?),
        IpAddr::V6(_) => (129, packet),
    };
    let right = *message.first()? == kind && message.get(4..6)? == IDENTITY;
    right.then(|| message.get(7).copied()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_fills_the_packet_and_adds_up() {
        let message = question([10, 7, 0, 1].into(), 2, 1500);
        assert_eq!(message.len(), 1480);
        assert_eq!(checksum(&message), 0, "with its own sum in it");
        assert_eq!(question("fd07::1".parse().unwrap(), 2, 1500).len(), 1460);
        assert_eq!(question([10, 7, 0, 1].into(), 1, 0).len(), ICMP_HEADER);
    }

    #[test]
    fn answers_are_told_from_questions_and_from_those_of_others() {
        let mut packet = vec![0x45; 1];
        packet.resize(IPV4_HEADER, 0);
        packet.extend([0, 0, 0, 0, b's', b'c', 0, 7]);
        let gateway = [10, 7, 0, 1].into();
        assert_eq!(answer(gateway, &packet), Some(7));
        packet[IPV4_HEADER] = 8;
        assert_eq!(answer(gateway, &packet), None);
        assert_eq!(answer(gateway, &[]), None);
        assert_eq!(answer("fd07::1".parse().unwrap(), &[129, 0, 0, 0, b's', b'c', 0, 3]), Some(3));
    }
}
