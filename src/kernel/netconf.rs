//! The switches of `/proc/sys/net/ipv4/conf` and its IPv6 twin that netlink has too.
//!
//! All namespaces share the names below `/proc/sys`, so that each look there walks past an entry of every pod that has been
//! looked at (`proc_sys_compare`, fs/proc/proc_sysctl.c): with 120 pods three looks were 6 % of an ADD's processor time. Netlink
//! asks one namespace, which needs no entering, and works where `/proc/sys` is mounted read-only. What it does not have is in
//! `sysctl`. Refuses to remember what a switch was.

use netlink_packet_core::DefaultNla;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::attribute::{attributes, u32_at};
use super::error::Result;
use super::link::{IFLA_AF_SPEC, RTM_SETLINK};
use super::netlink::{Answer, RouteSocket, encoded};
use crate::net::Family;

const RTM_NEWNETCONF: u16 = 80;
const RTM_GETNETCONF: u16 = 82;
/// `struct netconfmsg`, a family and its padding, and its attributes, linux/netconf.h.
const HEADER: usize = 4;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
/// `conf/all`.
const NETCONFA_IFINDEX_ALL: i32 = -1;
/// linux/if_link.h: below the attribute of a family, which is its number.
const IFLA_INET_CONF: u16 = 1;
/// linux/ip.h
const IPV4_DEVCONF_ARP_NOTIFY: u16 = 22;

/// Whether `net.ipv4.ip_forward`, or IPv6's `conf.all.forwarding`, is on. A node without IPv6 forwards none.
pub fn forwards(socket: &mut RouteSocket, family: Family) -> Result<bool> {
    let operation = || format!("ip {} netconf show dev all", if family == Family::V4 { "-4" } else { "-6" });
    match socket.get_answered(RTM_GETNETCONF, &question(family), operation, parse) {
        Ok(on) => Ok(on.unwrap_or(false)),
        Err(error) if error.is_unsupported() => Ok(false),
        Err(error) => Err(error),
    }
}

fn question(family: Family) -> Vec<u8> {
    let mut bytes = vec![af(family), 0, 0, 0];
    bytes.extend(attribute(NETCONFA_IFINDEX, &NETCONFA_IFINDEX_ALL.to_ne_bytes()));
    bytes
}

fn parse(answer: Answer<'_>) -> Option<bool> {
    if answer.kind != RTM_NEWNETCONF {
        return None;
    }
    let (_, value) =
        attributes(answer.payload.get(HEADER..)?).find(|(kind, _)| *kind == NETCONFA_FORWARDING)?;
    // Any other number than 0 is on (`IN_DEV_FORWARD`, linux/inetdevice.h).
    u32_at(value, 0).map(|value| value != 0)
}

/// `sysctl -w net.ipv4.conf.<name>.arp_notify=1` in the namespace of the socket. Kernels know it since 2.6.38.
pub fn notify_arp(socket: &mut RouteSocket, index: u32, name: &str) -> Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let switch = attribute(IPV4_DEVCONF_ARP_NOTIFY, &1u32.to_ne_bytes());
    let family = attribute(u16::from(af(Family::V4)), &attribute(IFLA_INET_CONF, &switch));
    message.attributes.push(LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC, family)));
    socket
        .change(RTM_SETLINK, 0, &encoded(&message), || format!("sysctl -w net.ipv4.conf.{name}.arp_notify=1"))
}

/// linux/socket.h
fn af(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// Of a value that needs no padding: all here are whole words.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_about_all_interfaces() {
        let attribute = [8u16.to_ne_bytes(), 1u16.to_ne_bytes()].concat();
        assert_eq!(question(Family::V4), [&[2, 0, 0, 0][..], &attribute, &[255; 4]].concat());
        assert_eq!(question(Family::V6)[0], 10);
    }

    #[test]
    fn anything_but_nothing_is_on() {
        let answer = |kind, value: u32| {
            let mut bytes = vec![2, 0, 0, 0];
            bytes.extend(attribute(NETCONFA_IFINDEX, &[255; 4]));
            bytes.extend(attribute(NETCONFA_FORWARDING, &value.to_ne_bytes()));
            parse(Answer { kind, payload: &bytes })
        };
        assert_eq!((answer(RTM_NEWNETCONF, 0), answer(RTM_NEWNETCONF, 1)), (Some(false), Some(true)));
        assert_eq!(answer(RTM_NEWNETCONF, 2), Some(true));
        assert_eq!(answer(81, 1), None);
        assert_eq!(parse(Answer { kind: RTM_NEWNETCONF, payload: &[2] }), None);
    }
}
