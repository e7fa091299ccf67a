//! Which way would a packet take? The kernel's own answer, rules and all tables considered.

use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use rustix::io::Errno;

use super::{HEADER, RTA_OIF, RTM_GETROUTE, address_family};
use crate::kernel::attribute::{attributes, u32_at};
use crate::kernel::error::Result;
use crate::kernel::netlink::{Socket, encoded};
use crate::net::Family;

/// `ip route get <address>`: the index of the link a packet leaves through; `None` when there is no way.
pub fn link_towards(socket: &mut Socket, address: IpAddr) -> Result<Option<u32>> {
    let mut question = RouteMessage::default();
    question.header.address_family = address_family(Family::of(address));
    question.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    question.attributes.push(RouteAttribute::Destination(address.into()));
    let answer = socket.get_answered(
        RTM_GETROUTE,
        &encoded(&question),
        || format!("ip route get {address}"),
        |answer| {
            let link = attributes(answer.payload.get(HEADER..)?).find(|(kind, _)| *kind == RTA_OIF);
            link.and_then(|(_, index)| u32_at(index, 0))
        },
    );
    match answer {
        // No route, or one that says `unreachable`, `prohibit` or `blackhole`.
        Err(error)
            if matches!(
                error.errno(),
                Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ACCESS | Errno::INVAL)
            ) =>
        {
            Ok(None)
        }
        other => other,
    }
}
