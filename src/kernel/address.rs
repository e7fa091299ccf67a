//! IP addresses of links: list, add, remove.
//!
//! Refuses to wait for duplicate address detection: it says which addresses are tentative, callers decide.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rustix::io::Errno;

use super::attribute::{attributes, ip_address, u8_at, u32_at};
use super::error::{Error, Result};
use super::netlink::{Answer, NLM_F_CREATE, NLM_F_EXCL, RouteSocket, encoded};
use crate::net::Family;

pub(super) const RTM_NEWADDR: u16 = 20;
pub(super) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;

/// `struct ifaddrmsg` and its attributes, linux/if_addr.h.
const HEADER: usize = 8;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const IFA_F_DADFAILED: u32 = 0x08;
const IFA_F_TENTATIVE: u32 = 0x40;

pub(super) const NO_IPV6: &str =
    "this kernel lacks CONFIG_IPV6 (module ipv6), or was started with ipv6.disable=1";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link that has it.
    pub index: u32,
    /// With its host part.
    pub address: IpNetwork,
    /// IPv6: not yet usable, duplicate address detection is running.
    pub tentative: bool,
    /// IPv6: somebody else has it.
    pub dad_failed: bool,
    /// 0 global, 253 link, 254 host (rtnetlink(7)).
    pub scope: u8,
}

/// The addresses of one link, IPv4 first, each family in the kernel's order. A link that is gone has none.
pub fn of_link(socket: &mut RouteSocket, index: u32) -> Result<Vec<Address>> {
    let found = dump(socket, index);
    match found {
        // A kernel that checks strictly looks the link up before it lists anything.
        Err(error) if error.is_missing() => Ok(Vec::new()),
        other => other,
    }
}

/// The addresses of all links of the namespace.
pub fn all(socket: &mut RouteSocket) -> Result<Vec<Address>> {
    dump(socket, 0)
}

/// The addresses of one family. A kernel without it has none.
pub fn of_family(socket: &mut RouteSocket, family: Family) -> Result<Vec<Address>> {
    let mut question = AddressMessage::default();
    question.header.family = match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    };
    let mut found = socket.dump(RTM_GETADDR, &encoded(&question), || "ip addr".to_owned(), parse)?;
    // Asked for a family it does not have, the kernel answers with all others (rtnl_dump_all).
    found.retain(|address| Family::of(address.address.ip()) == family);
    Ok(found)
}

/// One question for both families: a kernel without IPv6 then has nothing to refuse.
fn dump(socket: &mut RouteSocket, index: u32) -> Result<Vec<Address>> {
    let mut question = AddressMessage::default();
    question.header.index = index;
    let operation = || if index == 0 { "ip addr".to_owned() } else { format!("ip addr show dev if{index}") };
    let mut found = socket.dump(RTM_GETADDR, &encoded(&question), operation, parse)?;
    // Kernels before 4.20 do not check strictly: they list all links whatever they are asked.
    found.retain(|address| index == 0 || address.index == index);
    Ok(found)
}

/// `ip addr add <address> brd + dev <link>`; it exists already: `is_exists`.
///
/// No label, lifetime forever, global scope. The IPv4 broadcast address is set where the prefix leaves room for one.
pub fn add(socket: &mut RouteSocket, index: u32, name: &str, address: IpNetwork) -> Result<()> {
    add_message(socket, body(index, address), name, address)
}

/// The same with `scope link`: never taken as the source of what leaves by another link.
pub fn add_to_link(socket: &mut RouteSocket, index: u32, name: &str, address: IpNetwork) -> Result<()> {
    let mut message = body(index, address);
    message.header.scope = AddressScope::Link;
    add_message(socket, message, name, address)
}

fn add_message(
    socket: &mut RouteSocket,
    mut message: AddressMessage,
    name: &str,
    address: IpNetwork,
) -> Result<()> {
    if let IpNetwork::V4(v4) = address
        && v4.prefix() < 31
    {
        message.attributes.push(AddressAttribute::Broadcast(v4.broadcast()));
    }
    socket
        .change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &encoded(&message), || {
            format!("ip addr add {address} dev {name}")
        })
        .map_err(|error| explain(error, name, address.ip()))
}

/// `ip addr del <address> dev <link>`; it is not there: `is_missing`.
pub fn remove(socket: &mut RouteSocket, index: u32, name: &str, address: IpNetwork) -> Result<()> {
    let operation = || format!("ip addr del {address} dev {name}");
    socket.change(RTM_DELADDR, 0, &encoded(&body(index, address)), operation)
}

fn body(index: u32, address: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = address.prefix();
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(address.ip()));
    message.attributes.push(AddressAttribute::Address(address.ip()));
    message
}

fn explain(error: Error, name: &str, ip: IpAddr) -> Error {
    if ip.is_ipv4() {
        return error;
    }
    if error.is_unsupported() {
        return error
            .with_hint("this kernel lacks CONFIG_IPV6 (module ipv6), or was started with ipv6.disable=1");
    }
    // inet6_addr_add, net/ipv6/addrconf.c
    if error.errno() == Some(Errno::ACCESS) {
        return error.with_hint(format!("IPv6 is switched off on {name}: disable_ipv6 is 1"));
    }
    error
}

pub(super) fn parse(answer: Answer<'_>) -> Option<Address> {
    let bytes = answer.payload;
    if answer.kind != RTM_NEWADDR {
        return None;
    }
    let (prefix, scope, index) = (u8_at(bytes, 1)?, u8_at(bytes, 3)?, u32_at(bytes, 4)?);
    let mut flags = u32::from(u8_at(bytes, 2)?);
    let (mut local, mut peer) = (None, None);
    for (kind, value) in attributes(bytes.get(HEADER..)?) {
        match kind {
            IFA_LOCAL => local = ip_address(value),
            IFA_ADDRESS => peer = ip_address(value),
            // The header has room for the first eight flags only.
            IFA_FLAGS => flags = u32_at(value, 0).unwrap_or(flags),
            _ => {}
        }
    }
    Some(Address {
        index,
        // IPv6 sends the local address only when there is a peer.
        address: IpNetwork::new(local.or(peer)?, prefix).ok()?,
        tentative: flags & IFA_F_TENTATIVE != 0,
        dad_failed: flags & IFA_F_DADFAILED != 0,
        scope,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &[u8]) -> Option<Address> {
        parse(Answer { kind: RTM_NEWADDR, payload })
    }

    #[test]
    fn the_local_address_wins_over_the_peer() {
        let bytes = [2, 32, 0, 0, 3, 0, 0, 0, 8, 0, 1, 0, 10, 0, 0, 2, 8, 0, 2, 0, 10, 0, 0, 1];
        let address = answer(&bytes).unwrap();
        assert_eq!(address.address, "10.0.0.1/32".parse().unwrap());
        assert_eq!(address.index, u32::from_ne_bytes([3, 0, 0, 0]));
        assert!(!address.tentative);
    }

    #[test]
    fn flags_beyond_the_eighth_come_as_an_attribute() {
        let mut message = body(4, "fd00::1/64".parse().unwrap());
        message.attributes.push(AddressAttribute::Flags(
            netlink_packet_route::address::AddressFlags::from_bits_retain(0x448),
        ));
        let address = answer(&encoded(&message)).unwrap();
        assert!(address.tentative && address.dad_failed);
        assert_eq!(address.address, "fd00::1/64".parse().unwrap());
    }

    #[test]
    fn other_families_and_cut_messages_are_skipped() {
        // AF_MCTP addresses have one byte.
        assert_eq!(answer(&[45, 0, 0, 0, 3, 0, 0, 0, 5, 0, 2, 0, 9, 0, 0, 0]), None);
        assert_eq!(answer(&[2, 24, 0]), None);
        assert_eq!(answer(&[]), None);
    }
}
