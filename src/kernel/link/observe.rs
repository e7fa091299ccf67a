//! What a link is at this moment: one by name or index, or all of them.
//!
//! Answers are walked attribute by attribute: a link message is the longest and fastest growing one the kernel has.

use std::fmt;

use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};

use super::{
    IFLA_AF_SPEC, IFLA_BRPORT_ISOLATED, IFLA_BRPORT_MODE, IFLA_IFALIAS, RTM_GETLINK, RTM_NEWLINK, message,
};
use crate::kernel::attribute::{attributes, string, u8_at, u32_at};
use crate::kernel::error::Result;
use crate::kernel::netlink::{Answer, RouteSocket, encoded};
use crate::net::Mac;

/// `struct ifinfomsg` and its attributes, linux/if_link.h.
pub(in crate::kernel) const HEADER: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
/// The attribute of a family is its number.
const AF_INET6: u16 = 10;
const IFLA_INET6_CONF: u16 = 2;
/// Its place in that array, linux/ipv6.h.
const DEVCONF_ACCEPT_RA: usize = 3;
const IFLA_PROMISCUITY: u16 = 30;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_STP_STATE: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BRPORT_STATE: u16 = 1;
const IFLA_BRPORT_LEARNING: u16 = 8;
const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
const IFLA_BRPORT_MCAST_FLOOD: u16 = 27;
const IFLA_BRPORT_BCAST_FLOOD: u16 = 30;
const IFLA_BRPORT_LOCKED: u16 = 39;
/// linux/if_bridge.h
const BR_STATE_FORWARDING: u8 = 3;
/// linux/if.h
const IFF_UP: u32 = 1;
const IFF_POINTOPOINT: u32 = 0x10;
const IFF_PROMISC: u32 = 0x100;
const IFNAMSIZ: usize = 16;

/// A link as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `bridge`, `veth`…; hardware has none.
    pub kind: Option<String>,
    /// Only of links with Ethernet addresses.
    pub mac: Option<Mac>,
    /// Bytes.
    pub mtu: u32,
    /// Switched on (IFF_UP), which does not mean that it has a carrier.
    pub up: bool,
    pub state: OperState,
    /// There is one other end, and no neighbours (IFF_POINTOPOINT): tunnels, ppp, modems.
    pub point_to_point: bool,
    /// Takes frames for everybody, on anybody's wish.
    pub promiscuous: bool,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// IFLA_LINK: of a veth the other end, with its index in the other end's namespace.
    pub peer: Option<u32>,
    pub alias: Option<String>,
    /// Of bridges, where the kernel can filter by VLAN.
    pub vlan_filtering: Option<bool>,
    /// Of bridges: the spanning tree protocol is on.
    pub spanning_tree: Option<bool>,
    /// Of bridge ports: frames pass. A port that the spanning tree protocol still holds back does not forward.
    pub forwarding: Option<bool>,
    /// Of bridge ports: frames may leave through the port they came from.
    pub hairpin: Option<bool>,
    /// Of bridge ports: what it does with frames, where the kernel says so.
    pub learning: Option<bool>,
    /// Frames to unknown MACs, broadcasts and multicasts leave through it.
    pub flood: Option<bool>,
    pub broadcast_flood: Option<bool>,
    pub multicast_flood: Option<bool>,
    /// Only MACs that somebody entered may send.
    pub locked: Option<bool>,
    /// Of bridge ports: no frames between isolated ports. `None` before Linux 4.18.
    pub isolated: Option<bool>,
    /// `net.ipv6.conf.<link>.accept_ra`; `None` without IPv6.
    pub accept_ra: Option<u32>,
}

/// RFC 2863 states, IF_OPER_* in linux/if.h. Displays in the kernel's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OperState {
    /// The driver does not say; also of a link that was never up.
    #[default]
    Unknown,
    NotPresent,
    Down,
    LowerLayerDown,
    Testing,
    Dormant,
    Up,
}

impl From<u8> for OperState {
    fn from(state: u8) -> Self {
        match state {
            1 => Self::NotPresent,
            2 => Self::Down,
            3 => Self::LowerLayerDown,
            4 => Self::Testing,
            5 => Self::Dormant,
            6 => Self::Up,
            _ => Self::Unknown,
        }
    }
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::NotPresent => "notpresent",
            Self::Down => "down",
            Self::LowerLayerDown => "lowerlayerdown",
            Self::Testing => "testing",
            Self::Dormant => "dormant",
            Self::Up => "up",
        })
    }
}

/// `ip link show dev <name>`. The kernel also finds a link by an alternative name; its `name` then differs.
pub fn by_name(socket: &mut RouteSocket, name: &str) -> Result<Option<Link>> {
    // No link has such a name, and the kernel calls the question invalid.
    if name.len() >= IFNAMSIZ {
        return Ok(None);
    }
    let question = question(0, Some(name));
    socket.get_answered(RTM_GETLINK, &encoded(&question), || format!("ip link show dev {name}"), parse)
}

/// `ip link show dev if<index>`.
pub fn by_index(socket: &mut RouteSocket, index: u32) -> Result<Option<Link>> {
    // The kernel takes 0 as "not given".
    if index == 0 {
        return Ok(None);
    }
    let question = question(index, None);
    socket.get_answered(RTM_GETLINK, &encoded(&question), || format!("ip link show dev if{index}"), parse)
}

/// All links of the namespace.
pub fn all(socket: &mut RouteSocket) -> Result<Vec<Link>> {
    socket.dump(RTM_GETLINK, &encoded(&question(0, None)), || "ip link show".to_owned(), parse)
}

/// The statistics are most of an answer and nobody here reads them.
fn question(index: u32, name: Option<&str>) -> LinkMessage {
    let mut message = message(index);
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message.attributes.extend(name.map(|name| LinkAttribute::IfName(name.to_owned())));
    message
}

pub(in crate::kernel) fn parse(answer: Answer<'_>) -> Option<Link> {
    let bytes = answer.payload;
    if answer.kind != RTM_NEWLINK {
        return None;
    }
    let flags = u32_at(bytes, 8)?;
    let mut link = Link {
        index: u32_at(bytes, 4)?,
        up: flags & IFF_UP != 0,
        point_to_point: flags & IFF_POINTOPOINT != 0,
        promiscuous: flags & IFF_PROMISC != 0,
        ..Link::default()
    };
    for (kind, value) in attributes(bytes.get(HEADER..)?) {
        match kind {
            IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
            IFLA_IFNAME => link.name = string(value),
            IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or_default(),
            IFLA_LINK => link.peer = u32_at(value, 0),
            IFLA_MASTER => link.master = u32_at(value, 0),
            IFLA_OPERSTATE => link.state = u8_at(value, 0).unwrap_or_default().into(),
            IFLA_LINKINFO => parse_info(&mut link, value),
            IFLA_AF_SPEC => link.accept_ra = accept_ra(value),
            IFLA_IFALIAS => link.alias = Some(string(value)),
            IFLA_PROMISCUITY => link.promiscuous |= u32_at(value, 0).is_some_and(|wishes| wishes != 0),
            _ => {}
        }
    }
    Some(link)
}

/// IFLA_AF_SPEC has the switches of each family as an array of numbers: reading them here saves a walk through /proc/sys, which
/// takes longer the more namespaces have looked there (`proc_sys_compare`, fs/proc/proc_sysctl.c).
fn accept_ra(families: &[u8]) -> Option<u32> {
    let switches = attribute_of(attribute_of(families, AF_INET6)?, IFLA_INET6_CONF)?;
    u32_at(switches, DEVCONF_ACCEPT_RA * 4)
}

/// IFLA_LINKINFO. The kernel puts each kind before its data.
fn parse_info(link: &mut Link, info: &[u8]) {
    let mut port_kind = None;
    for (kind, value) in attributes(info) {
        match kind {
            IFLA_INFO_KIND => link.kind = Some(string(value)),
            IFLA_INFO_DATA if link.kind.as_deref() == Some("bridge") => {
                link.vlan_filtering = flag(value, IFLA_BR_VLAN_FILTERING);
                link.spanning_tree = attribute_of(value, IFLA_BR_STP_STATE)
                    .and_then(|state| u32_at(state, 0))
                    .map(|state| state != 0);
            }
            IFLA_INFO_SLAVE_KIND => port_kind = Some(string(value)),
            IFLA_INFO_SLAVE_DATA if port_kind.as_deref() == Some("bridge") => {
                link.hairpin = flag(value, IFLA_BRPORT_MODE);
                link.isolated = flag(value, IFLA_BRPORT_ISOLATED);
                link.learning = flag(value, IFLA_BRPORT_LEARNING);
                link.flood = flag(value, IFLA_BRPORT_UNICAST_FLOOD);
                link.multicast_flood = flag(value, IFLA_BRPORT_MCAST_FLOOD);
                link.broadcast_flood = flag(value, IFLA_BRPORT_BCAST_FLOOD);
                link.locked = flag(value, IFLA_BRPORT_LOCKED);
                link.forwarding = attribute_of(value, IFLA_BRPORT_STATE)
                    .and_then(|state| u8_at(state, 0))
                    .map(|state| state == BR_STATE_FORWARDING);
            }
            _ => {}
        }
    }
}

pub(in crate::kernel) fn attribute_of(nested: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(nested).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

pub(in crate::kernel) fn flag(nested: &[u8], wanted: u16) -> Option<bool> {
    u8_at(attribute_of(nested, wanted)?, 0).map(|value| value != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn answer(attributes: &[Vec<u8>]) -> Option<Link> {
        let mut bytes = vec![0, 0, 1, 0];
        bytes.extend(7u32.to_ne_bytes());
        bytes.extend((IFF_UP | 0x1002).to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(attributes.concat());
        parse(Answer { kind: RTM_NEWLINK, payload: &bytes })
    }

    #[test]
    fn a_bridge_port_is_read_from_its_attributes() {
        let port = [
            attribute(IFLA_BRPORT_STATE, &[BR_STATE_FORWARDING]),
            attribute(IFLA_BRPORT_MODE, &[1]),
            attribute(IFLA_BRPORT_ISOLATED, &[0]),
        ]
        .concat();
        let info = [
            attribute(IFLA_INFO_KIND, b"veth\0"),
            attribute(IFLA_INFO_SLAVE_KIND, b"bridge\0"),
            attribute(IFLA_INFO_SLAVE_DATA, &port),
        ];
        let switches = attribute(IFLA_INET6_CONF, &[0u32, 64, 1500, 2].map(u32::to_ne_bytes).concat());
        let link = answer(&[
            attribute(IFLA_IFNAME, b"veth1\0"),
            attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]),
            attribute(IFLA_MTU, &1400u32.to_ne_bytes()),
            attribute(IFLA_MASTER, &4u32.to_ne_bytes()),
            attribute(IFLA_LINK, &2u32.to_ne_bytes()),
            attribute(IFLA_OPERSTATE, &[6]),
            attribute(IFLA_PROMISCUITY, &1u32.to_ne_bytes()),
            attribute(IFLA_IFALIAS, b"smarter-cni"),
            attribute(IFLA_LINKINFO | 0x8000, &info.concat()),
            attribute(IFLA_AF_SPEC, &attribute(AF_INET6, &switches)),
        ]);
        let expected = Link {
            index: 7,
            name: "veth1".into(),
            kind: Some("veth".into()),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            mtu: 1400,
            up: true,
            state: OperState::Up,
            point_to_point: false,
            promiscuous: true,
            master: Some(4),
            peer: Some(2),
            alias: Some("smarter-cni".into()),
            vlan_filtering: None,
            spanning_tree: None,
            forwarding: Some(true),
            hairpin: Some(true),
            isolated: Some(false),
            accept_ra: Some(2),
            ..Link::default()
        };
        assert_eq!(link, Some(expected));
    }

    #[test]
    fn a_bridge_says_whether_it_spans_a_tree() {
        let bridge =
            [attribute(IFLA_BR_STP_STATE, &1u32.to_ne_bytes()), attribute(IFLA_BR_VLAN_FILTERING, &[0])];
        let info = [attribute(IFLA_INFO_KIND, b"bridge\0"), attribute(IFLA_INFO_DATA, &bridge.concat())];
        let link = answer(&[attribute(IFLA_LINKINFO, &info.concat())]).unwrap();
        assert_eq!((link.spanning_tree, link.vlan_filtering), (Some(true), Some(false)));
    }

    #[test]
    fn ports_of_other_kinds_have_no_hairpin() {
        let info = [
            attribute(IFLA_INFO_SLAVE_KIND, b"bond\0"),
            attribute(IFLA_INFO_SLAVE_DATA, &attribute(IFLA_BRPORT_MODE, &[1])),
        ];
        let link = answer(&[attribute(IFLA_LINKINFO, &info.concat())]).unwrap();
        assert_eq!((link.hairpin, link.kind), (None, None));
    }

    #[test]
    fn the_unknown_and_the_broken_do_not_hide_a_link() {
        let link = answer(&[
            attribute(999, &[1, 2, 3]),
            attribute(IFLA_IFNAME, b"tunl0\0"),
            // An IPv4 tunnel's hardware address is its local IP address.
            attribute(IFLA_ADDRESS, &[10, 0, 0, 1]),
            attribute(IFLA_OPERSTATE, &[200]),
            vec![255, 255, 4, 0, 1],
        ]);
        let link = link.unwrap();
        assert_eq!((link.name.as_str(), link.mac, link.state), ("tunl0", None, OperState::Unknown));
        assert_eq!(parse(Answer { kind: RTM_NEWLINK, payload: &[0; 12] }), None);
    }
}
