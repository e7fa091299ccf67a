//! Who answers for an IPv4 address on a link: ARP probes (RFC 5227), which change no neighbour's memory because they come
//! from no address.
//!
//! Needs CAP_NET_RAW. Sends one broadcast frame per address and listens for a moment; refuses to announce anything.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

use super::error::{Error, Result};
use crate::net::Mac;

/// linux/if_ether.h
const ETH_P_ARP: u16 = 0x0806;
/// RFC 826: Ethernet, IPv4, lengths of their addresses.
const KINDS: [u8; 6] = [0, 1, 8, 0, 6, 4];
const REQUEST: [u8; 2] = [0, 1];
const REPLY: [u8; 2] = [0, 2];
/// An Ethernet header and the packet.
const FRAME: usize = 14 + 28;

/// Everybody who answered for one of the addresses within `patience`, each once. `own` is the link's MAC.
pub fn probe(
    index: u32,
    own: Mac,
    addresses: &[Ipv4Addr],
    patience: Duration,
) -> Result<BTreeSet<(Ipv4Addr, Mac)>> {
    let failed = |errno: rustix::io::Errno| Error::new(format!("arping on if{index}"), errno.into());
    let protocol = NonZeroU32::new(u32::from(ETH_P_ARP.to_be())).map(Protocol::from_raw);
    let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, protocol);
    let socket = socket.map_err(failed)?;
    for address in addresses {
        sendto(&socket, &question(own, *address), SendFlags::empty(), &link(index)).map_err(failed)?;
    }
    listen(&socket, own, addresses, Instant::now() + patience).map_err(failed)
}

/// A `struct sockaddr_ll` (linux/if_packet.h), for which there is no safe type: protocol and index stand where an IPv6
/// address has its port and its flow, and packet_snd (net/packet/af_packet.c) reads nothing else of it, the family included.
/// A kernel that minds answers EINVAL.
fn link(index: u32) -> SocketAddrV6 {
    SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, ETH_P_ARP, u32::from_be(index), 0)
}

fn question(own: Mac, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(own.0);
    frame.extend(ETH_P_ARP.to_be_bytes());
    frame.extend(KINDS);
    frame.extend(REQUEST);
    frame.extend(own.0);
    // From no address, to a MAC that is asked for.
    frame.extend([0; 4 + 6]);
    frame.extend(address.octets());
    frame
}

fn listen(
    socket: &OwnedFd,
    own: Mac,
    addresses: &[Ipv4Addr],
    until: Instant,
) -> rustix::io::Result<BTreeSet<(Ipv4Addr, Mac)>> {
    let mut found = BTreeSet::new();
    let mut frame = [0; 128];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(found);
        }
        // Zero would wait for ever.
        set_socket_timeout(socket, Timeout::Recv, Some(left.max(Duration::from_millis(1))))?;
        match recv(socket, &mut frame[..], RecvFlags::empty()) {
            Ok((length, _)) => {
                found.extend(
                    answer(frame.get(..length).unwrap_or_default(), own)
                        .filter(|(ip, _)| addresses.contains(ip)),
                );
            }
            Err(rustix::io::Errno::AGAIN) => return Ok(found),
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Who answers us, and for which address.
fn answer(frame: &[u8], own: Mac) -> Option<(Ipv4Addr, Mac)> {
    let packet = frame.get(14..FRAME)?;
    let to = frame.get(..6)?;
    if to != own.0 || packet.get(..6)? != KINDS || packet.get(6..8)? != REPLY {
        return None;
    }
    let mac = Mac(packet.get(8..14)?.try_into().ok()?);
    let octets: [u8; 4] = packet.get(14..18)?.try_into().ok()?;
    Some((octets.into(), mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_question_comes_from_no_address() {
        let frame = question(OWN, [10, 7, 0, 2].into());
        assert_eq!(frame.len(), FRAME);
        assert_eq!(frame[14 + 14..14 + 18], [0; 4]);
        assert_eq!(frame[FRAME - 4..], [10, 7, 0, 2]);
        assert_eq!(answer(&frame, OWN), None);
    }

    #[test]
    fn only_answers_to_us_count() {
        let mut frame = question(OTHER, [0, 0, 0, 0].into());
        frame[..6].copy_from_slice(&OWN.0);
        frame[20..22].copy_from_slice(&REPLY);
        frame[28..32].copy_from_slice(&[10, 7, 0, 2]);
        assert_eq!(answer(&frame, OWN), Some(([10, 7, 0, 2].into(), OTHER)));
        assert_eq!(answer(&frame, OTHER), None);
        assert_eq!(answer(&frame[..30], OWN), None);
    }
}
