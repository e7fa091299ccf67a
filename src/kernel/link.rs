//! Links: make bridges and veth pairs, change them, delete them. `observe.rs` reads what is there.
//!
//! Refuses to decide anything: each function is one netlink message, and says which `ip` command it stands for.

use std::fmt;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::DefaultNla;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
    LinkProtoInfoBridge,
};

use super::error::{Error, Result};
use super::netlink::{NLM_F_CREATE, NLM_F_EXCL, RouteSocket, encoded};
use crate::net::{IfName, Mac};

mod observe;

pub(super) use observe::{HEADER, attribute_of, flag, parse};
pub use observe::{Link, OperState, all, by_index, by_name};

pub(super) const RTM_NEWLINK: u16 = 16;
pub(super) const RTM_DELLINK: u16 = 17;
pub(super) const RTM_GETLINK: u16 = 18;
pub(super) const RTM_SETLINK: u16 = 19;

/// linux/if_link.h
const IFLA_IFALIAS: u16 = 20;
pub(super) const IFLA_AF_SPEC: u16 = 26;
pub(super) const IFLA_BRPORT_MODE: u16 = 4;
pub(super) const IFLA_BRPORT_ISOLATED: u16 = 33;

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
pub fn add_bridge(socket: &mut RouteSocket, bridge: &NewBridge<'_>) -> Result<()> {
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
pub(super) const UNKNOWN_KIND: &str = "Unknown device type";

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
/// The peer gets its index first. Old kernels ignore a master at birth: look, and use [`change`]. An alias is ignored at
/// birth by all of them, so there is none here. This end has no transmit queue (`txqueuelen 0`), as the reference
/// plugins leave it on the host's end.
pub fn add_veth(socket: &mut RouteSocket, veth: &NewVeth<'_>) -> Result<()> {
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
    /// Kernels before 6.2 rename only what is down.
    pub name: Option<IfName>,
}

/// `ip link set dev <name> …`, everything in one message. The kernel goes through it in an order of its own (MAC and MTU
/// first; master and flags changed places several times) and stops at the first refusal: what came before stays.
pub fn change(socket: &mut RouteSocket, index: u32, name: &str, change: &Change) -> Result<()> {
    let mut message = message(index);
    for (flag, wish) in [(LinkFlags::Up, change.up), (LinkFlags::Promisc, change.promiscuous)] {
        message.header.change_mask.set(flag, wish.is_some());
        message.header.flags.set(flag, wish == Some(true));
    }
    let attributes = &mut message.attributes;
    attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    attributes.extend(change.master.map(LinkAttribute::Controller));
    attributes.extend(change.name.as_ref().map(|name| LinkAttribute::IfName(name.to_string())));
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
        if let Some(name) = &self.name {
            write!(f, " name {name}")?;
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
    socket: &mut RouteSocket,
    index: u32,
    name: &str,
    hairpin: Option<bool>,
    isolated: Option<bool>,
) -> Result<()> {
    let operation = || {
        let hairpin = hairpin.map(|on| format!(" hairpin {}", on_off(on))).unwrap_or_default();
        let isolated = isolated.map(|on| format!(" isolated {}", on_off(on))).unwrap_or_default();
        format!("bridge link set dev {name}{hairpin}{isolated}")
    };
    let message = port_message(index, hairpin, isolated);
    socket.change(RTM_SETLINK, 0, &encoded(&message), operation).map_err(|error: Error| {
        if error.is_unsupported() {
            error.with_hint(format!("{name} is not a port of a bridge"))
        } else {
            error
        }
    })
}

fn port_message(index: u32, hairpin: Option<bool>, isolated: Option<bool>) -> LinkMessage {
    let mut message = message(index);
    message.header.interface_family = AddressFamily::Bridge;
    let wishes = [(IFLA_BRPORT_MODE, hairpin), (IFLA_BRPORT_ISOLATED, isolated)];
    let port = wishes.into_iter().filter_map(|(kind, wish)| {
        wish.map(|on| LinkProtoInfoBridge::Other(DefaultNla::new(kind, vec![u8::from(on)])))
    });
    message.attributes.push(LinkAttribute::ProtoInfoBridge(port.collect()));
    message
}

/// `ip link del dev <name>`; it is not there: `is_missing`. With one end of a veth goes the other.
pub fn delete(socket: &mut RouteSocket, index: u32, name: &str) -> Result<()> {
    socket.change(RTM_DELLINK, 0, &encoded(&message(index)), || format!("ip link del dev {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_like_the_arguments_of_ip() {
        assert_eq!(Change::default().to_string(), "");
        let change = Change {
            up: Some(true),
            master: Some(4),
            mtu: Some(1400),
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            promiscuous: Some(false),
            alias: Some("a pod".into()),
            name: None,
        };
        assert_eq!(
            change.to_string(),
            r#" address 02:00:00:00:00:01 mtu 1400 alias "a pod" master if4 up promisc off"#
        );
        assert_eq!(Change { master: Some(0), ..Change::default() }.to_string(), " nomaster");
    }

    #[test]
    fn port_options_travel_in_one_nested_attribute() {
        let mut bytes = vec![7, 0, 0, 0];
        bytes.extend(4u32.to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend(20u16.to_ne_bytes());
        // Without NLA_F_NESTED br_setlink takes the value for a port state.
        bytes.extend((0x000c_u16 | 0x8000).to_ne_bytes());
        bytes.extend([5, 0, 4, 0, 1, 0, 0, 0, 5, 0, 33, 0, 0, 0, 0, 0]);
        assert_eq!(encoded(&port_message(4, Some(true), Some(false))), bytes);
    }
}
