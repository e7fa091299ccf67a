//! Links: bridges, veth pairs, and what can be changed about them.
//!
//! Refuses to decide anything: each function is one netlink message, and says which `ip` command it stands for.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::DefaultNla;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo,
    LinkMessage, LinkProtoInfoBridge,
};

use super::attribute::{attributes, string, u8_at, u32_at};
use super::error::{Error, Result};
use super::netlink::{Answer, NLM_F_CREATE, NLM_F_EXCL, Socket, encoded};
use crate::net::{IfName, Mac};

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_SETLINK: u16 = 19;

/// `struct ifinfomsg` and its attributes, linux/if_link.h.
pub(super) const HEADER: usize = 16;
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_AF_SPEC: u16 = 26;
const IFLA_PROMISCUITY: u16 = 30;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
/// linux/if.h
const IFF_UP: u32 = 1;
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
    /// Takes frames for everybody, on anybody's wish.
    pub promiscuous: bool,
    /// The bridge it is a port of.
    pub master: Option<u32>,
    /// IFLA_LINK: of a veth the other end, with its index in the other end's namespace.
    pub peer: Option<u32>,
    pub alias: Option<String>,
    /// Of bridges, where the kernel can filter by VLAN.
    pub vlan_filtering: Option<bool>,
    /// Of bridge ports: frames may leave through the port they came from.
    pub hairpin: Option<bool>,
    /// Of bridge ports: no frames between isolated ports. `None` before Linux 4.18.
    pub isolated: Option<bool>,
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
pub fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    // No link has such a name, and the kernel calls the question invalid.
    if name.len() >= IFNAMSIZ {
        return Ok(None);
    }
    let question = question(0, Some(name));
    socket.get(RTM_GETLINK, &encoded(&question), || format!("ip link show dev {name}"), parse)
}

/// `ip link show dev if<index>`.
pub fn by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>> {
    // The kernel takes 0 as "not given".
    if index == 0 {
        return Ok(None);
    }
    let question = question(index, None);
    socket.get(RTM_GETLINK, &encoded(&question), || format!("ip link show dev if{index}"), parse)
}

/// All links of the namespace.
pub fn all(socket: &mut Socket) -> Result<Vec<Link>> {
    socket.dump(RTM_GETLINK, &encoded(&question(0, None)), || "ip link show".to_owned(), parse)
}

/// The statistics are most of an answer and nobody here reads them.
fn question(index: u32, name: Option<&str>) -> LinkMessage {
    let mut message = message(index);
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message.attributes.extend(name.map(|name| LinkAttribute::IfName(name.to_owned())));
    message
}

fn message(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

#[derive(Clone, Copy, Debug)]
pub struct NewBridge<'a> {
    pub name: &'a IfName,
    /// Given at birth it stays; otherwise a bridge takes the lowest MAC of its ports, and changes it with them.
    pub mac: Option<Mac>,
    /// Bytes, to begin with: the bridge follows its smallest port until [`change`] sets one (net/bridge/br_device.c).
    pub mtu: Option<u32>,
    pub vlan_filtering: bool,
}

/// `ip link add <name> [address <mac>] [mtu <mtu>] type bridge [vlan_filtering 1]`; it exists: `is_exists`. Down.
pub fn add_bridge(socket: &mut Socket, bridge: &NewBridge<'_>) -> Result<()> {
    let mut message = end(bridge.name, bridge.mac, bridge.mtu);
    let mut info = vec![LinkInfo::Kind(InfoKind::Bridge)];
    if bridge.vlan_filtering {
        info.push(LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::VlanFiltering(true)])));
    }
    message.attributes.push(LinkAttribute::LinkInfo(info));
    let operation = || {
        let filtering = if bridge.vlan_filtering { " vlan_filtering 1" } else { "" };
        format!("ip link add {} type bridge{filtering}", Described(bridge.name, bridge.mac, bridge.mtu))
    };
    socket.change(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &encoded(&message), operation).map_err(|error| {
        if !error.is_unsupported() {
            error
        } else if bridge.vlan_filtering && error.words() != Some(UNKNOWN_KIND) {
            error.with_hint(
                "this kernel lacks CONFIG_BRIDGE_VLAN_FILTERING, or CONFIG_BRIDGE (module bridge) altogether",
            )
        } else {
            error.with_hint("this kernel lacks CONFIG_BRIDGE (module bridge)")
        }
    })
}

/// What newer kernels say about a kind for which they find no module (net/core/rtnetlink.c).
const UNKNOWN_KIND: &str = "Unknown device type";

/// A veth pair; this end is in the socket's namespace.
#[derive(Clone, Copy, Debug)]
pub struct NewVeth<'a> {
    pub name: &'a IfName,
    pub mtu: Option<u32>,
    pub mac: Option<Mac>,
    pub up: bool,
    /// Index of the bridge to join.
    pub master: Option<u32>,
    pub peer: Peer<'a>,
}

/// The other end, down.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    pub name: &'a IfName,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    /// `None`: next to the first end.
    pub netns: Option<BorrowedFd<'a>>,
}

/// `ip link add <name> … type veth peer name <peer> … netns …`, in one message; one of the names exists: `is_exists`.
///
/// The peer gets its index first. Old kernels (4.9 is one) ignore a master at birth: look, and use [`change`]. An alias
/// is ignored at birth by all of them, so there is none here. This end has no transmit queue (`txqueuelen 0`), as the reference plugins leave it on the host's end.
pub fn add_veth(socket: &mut Socket, veth: &NewVeth<'_>) -> Result<()> {
    let mut message = end(veth.name, veth.mac, veth.mtu);
    message.attributes.push(LinkAttribute::TxQueueLen(0));
    message.attributes.extend(veth.master.map(LinkAttribute::Controller));
    if veth.up {
        message.header.flags |= LinkFlags::Up;
        message.header.change_mask |= LinkFlags::Up;
    }
    let mut peer = end(veth.peer.name, veth.peer.mac, veth.peer.mtu);
    peer.attributes.extend(veth.peer.netns.map(|fd| LinkAttribute::NetNsFd(fd.as_raw_fd())));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let operation = || {
        let this = Described(veth.name, veth.mac, veth.mtu);
        let other = Described(veth.peer.name, veth.peer.mac, veth.peer.mtu);
        format!("ip link add {this} type veth peer name {other}")
    };
    socket.change(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &encoded(&message), operation).map_err(|error| {
        if error.is_unsupported() {
            return error.with_hint("this kernel lacks CONFIG_VETH (module veth)");
        }
        error
    })
}

fn end(name: &IfName, mac: Option<Mac>, mtu: Option<u32>) -> LinkMessage {
    let mut message = message(0);
    message.attributes.push(LinkAttribute::IfName(name.to_string()));
    message.attributes.extend(mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message
}

/// A new link in the words of `ip link add`.
struct Described<'a>(&'a IfName, Option<Mac>, Option<u32>);

impl fmt::Display for Described<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)?;
        if let Some(mac) = self.1 {
            write!(f, " address {mac}")?;
        }
        if let Some(mtu) = self.2 {
            write!(f, " mtu {mtu}")?;
        }
        Ok(())
    }
}

/// What to change about a link; `None` leaves it as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    pub up: Option<bool>,
    /// Index of the bridge to join, 0 to leave it.
    pub master: Option<u32>,
    /// Bytes.
    pub mtu: Option<u32>,
    pub mac: Option<Mac>,
    pub promiscuous: Option<bool>,
    /// At most 255 bytes; empty takes it away.
    pub alias: Option<String>,
}

/// `ip link set dev <name> …`, everything in one message. The kernel goes through it in an order of its own (MAC and MTU
/// first; master and flags changed places several times) and stops at the first refusal: what came before stays.
pub fn change(socket: &mut Socket, index: u32, name: &str, change: &Change) -> Result<()> {
    let mut message = message(index);
    for (flag, wish) in [(LinkFlags::Up, change.up), (LinkFlags::Promisc, change.promiscuous)] {
        message.header.change_mask.set(flag, wish.is_some());
        message.header.flags.set(flag, wish == Some(true));
    }
    let attributes = &mut message.attributes;
    attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    attributes.extend(change.master.map(LinkAttribute::Controller));
    // Without the NUL that would make 255 bytes too long.
    attributes.extend(
        change
            .alias
            .as_ref()
            .map(|alias| LinkAttribute::Other(DefaultNla::new(IFLA_IFALIAS, alias.clone().into_bytes()))),
    );
    socket.change(RTM_SETLINK, 0, &encoded(&message), || format!("ip link set dev {name}{change}"))
}

/// As the arguments of `ip link set dev <name>`, each with a space in front.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(mac) = self.mac {
            write!(f, " address {mac}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(alias) = &self.alias {
            write!(f, " alias {alias:?}")?;
        }
        match self.master {
            Some(0) => f.write_str(" nomaster")?,
            Some(master) => write!(f, " master if{master}")?,
            None => {}
        }
        if let Some(up) = self.up {
            f.write_str(if up { " up" } else { " down" })?;
        }
        match self.promiscuous {
            Some(on) => write!(f, " promisc {}", on_off(on)),
            None => Ok(()),
        }
    }
}

fn on_off(on: bool) -> &'static str {
    if on { "on" } else { "off" }
}

/// `bridge link set dev <name> hairpin … isolated …`. Kernels before 4.18 ignore `isolated`; [`Link::isolated`] tells.
pub fn set_port(
    socket: &mut Socket,
    index: u32,
    name: &str,
    hairpin: Option<bool>,
    isolated: Option<bool>,
) -> Result<()> {
    let mut message = message(index);
    message.header.interface_family = AddressFamily::Bridge;
    let wishes = [(IFLA_BRPORT_MODE, hairpin), (IFLA_BRPORT_ISOLATED, isolated)];
    let port = wishes.into_iter().filter_map(|(kind, wish)| {
        wish.map(|on| LinkProtoInfoBridge::Other(DefaultNla::new(kind, vec![u8::from(on)])))
    });
    message.attributes.push(LinkAttribute::ProtoInfoBridge(port.collect()));
    let operation = || {
        let hairpin = hairpin.map(|on| format!(" hairpin {}", on_off(on))).unwrap_or_default();
        let isolated = isolated.map(|on| format!(" isolated {}", on_off(on))).unwrap_or_default();
        format!("bridge link set dev {name}{hairpin}{isolated}")
    };
    socket.change(RTM_SETLINK, 0, &encoded(&message), operation).map_err(|error: Error| {
        if error.is_unsupported() {
            error.with_hint(format!("{name} is not a port of a bridge"))
        } else {
            error
        }
    })
}

/// `ip link del dev <name>`; it is not there: `is_missing`. With one end of a veth goes the other.
pub fn delete(socket: &mut Socket, index: u32, name: &str) -> Result<()> {
    socket.change(RTM_DELLINK, 0, &encoded(&message(index)), || format!("ip link del dev {name}"))
}

fn parse(answer: Answer<'_>) -> Option<Link> {
    let bytes = answer.payload;
    if answer.kind != RTM_NEWLINK {
        return None;
    }
    let flags = u32_at(bytes, 8)?;
    let mut link = Link {
        index: u32_at(bytes, 4)?,
        up: flags & IFF_UP != 0,
        promiscuous: flags & IFF_PROMISC != 0,
        ..Link::default()
    };
    for (kind, value) in attributes(bytes.get(HEADER..)?) {
        match kind {
            IFLA_ADDRESS => link.mac = value.try_into().ok().map(Mac),
            IFLA_IFNAME => link.name = string(value),
            IFLA_MTU => link.mtu = u32_at(value, 0)?,
            IFLA_LINK => link.peer = u32_at(value, 0),
            IFLA_MASTER => link.master = u32_at(value, 0),
            IFLA_OPERSTATE => link.state = u8_at(value, 0)?.into(),
            IFLA_LINKINFO => parse_info(&mut link, value),
            IFLA_IFALIAS => link.alias = Some(string(value)),
            IFLA_PROMISCUITY => link.promiscuous |= u32_at(value, 0)? != 0,
            _ => {}
        }
    }
    Some(link)
}

/// IFLA_LINKINFO. The kernel puts each kind before its data.
fn parse_info(link: &mut Link, info: &[u8]) {
    let mut port_kind = None;
    for (kind, value) in attributes(info) {
        match kind {
            IFLA_INFO_KIND => link.kind = Some(string(value)),
            IFLA_INFO_DATA if link.kind.as_deref() == Some("bridge") => {
                link.vlan_filtering = flag(value, IFLA_BR_VLAN_FILTERING);
            }
            IFLA_INFO_SLAVE_KIND => port_kind = Some(string(value)),
            IFLA_INFO_SLAVE_DATA if port_kind.as_deref() == Some("bridge") => {
                link.hairpin = flag(value, IFLA_BRPORT_MODE);
                link.isolated = flag(value, IFLA_BRPORT_ISOLATED);
            }
            _ => {}
        }
    }
}

fn flag(nested: &[u8], wanted: u16) -> Option<bool> {
    let (_, value) = attributes(nested).find(|(kind, _)| *kind == wanted)?;
    u8_at(value, 0).map(|value| value != 0)
}
