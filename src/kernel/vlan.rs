//! Which VLANs a bridge port carries.
//!
//! Only means something on a bridge that filters by VLAN, and only where the kernel was built with
//! CONFIG_BRIDGE_VLAN_FILTERING. Refuses to program the bridge device itself.

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    AfSpecBridge, BridgeFlag, BridgeVlanInfo, BridgeVlanInfoFlags, LinkAttribute, LinkExtentMask, LinkMessage,
};

use super::attribute::{attributes, u16_at, u32_at};
use super::error::{Error, Result};
use super::link::{HEADER, IFLA_AF_SPEC, RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK, RTM_SETLINK};
use super::netlink::{Answer, Socket, encoded};

/// linux/if_bridge.h
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_VLAN_INFO_PVID: u16 = 1 << 1;
const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 1 << 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortVlan {
    /// 1 to 4094.
    pub id: u16,
    /// Untagged frames that come in belong to it; a port has at most one.
    pub pvid: bool,
    /// Its frames leave without a tag.
    pub untagged: bool,
}

/// `bridge vlan show dev <port>`, by id. Empty where the kernel does not filter by VLAN.
pub fn of_port(socket: &mut Socket, index: u32) -> Result<Vec<PortVlan>> {
    let mut question = LinkMessage::default();
    question.header.interface_family = AddressFamily::Bridge;
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
    let operation = || format!("bridge vlan show dev if{index}");
    // The kernel lists all ports or nothing.
    let parts = socket.dump(RTM_GETLINK, &encoded(&question), operation, |answer| parse(answer, index))?;
    Ok(parts.into_iter().flatten().collect())
}

/// `bridge vlan add dev <port> vid <id> [pvid] [untagged] master`. Again with other flags: the flags change.
pub fn add(socket: &mut Socket, index: u32, name: &str, vlan: PortVlan) -> Result<()> {
    let mut flags = BridgeVlanInfoFlags::empty();
    flags.set(BridgeVlanInfoFlags::Pvid, vlan.pvid);
    flags.set(BridgeVlanInfoFlags::Untagged, vlan.untagged);
    let operation = || {
        let pvid = if vlan.pvid { " pvid" } else { "" };
        let untagged = if vlan.untagged { " untagged" } else { "" };
        format!("bridge vlan add dev {name} vid {}{pvid}{untagged} master", vlan.id)
    };
    socket.change(RTM_SETLINK, 0, &encoded(&body(index, vlan.id, flags)), operation).map_err(explain)
}

/// `bridge vlan del dev <port> vid <id> master`; it is not there: `is_missing`.
pub fn remove(socket: &mut Socket, index: u32, name: &str, id: u16) -> Result<()> {
    let message = body(index, id, BridgeVlanInfoFlags::empty());
    let operation = || format!("bridge vlan del dev {name} vid {id} master");
    socket.change(RTM_DELLINK, 0, &encoded(&message), operation).map_err(explain)
}

/// `master` asks the port's bridge, as opposed to a switch chip that the port itself might be.
fn body(index: u32, vid: u16, flags: BridgeVlanInfoFlags) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.interface_family = AddressFamily::Bridge;
    message.header.index = index;
    message.attributes.push(LinkAttribute::AfSpecBridge(vec![
        AfSpecBridge::Flags(BridgeFlag::Controller),
        AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid }),
    ]));
    message
}

fn explain(error: Error) -> Error {
    if error.is_unsupported() {
        return error.with_hint(
            "the link is not a port of a bridge, or this kernel lacks CONFIG_BRIDGE_VLAN_FILTERING",
        );
    }
    error
}

fn parse(answer: Answer<'_>, index: u32) -> Option<Vec<PortVlan>> {
    let bytes = answer.payload;
    if answer.kind != RTM_NEWLINK || u32_at(bytes, 4)? != index {
        return None;
    }
    let vlans = attributes(bytes.get(HEADER..)?)
        .filter(|(kind, _)| *kind == IFLA_AF_SPEC)
        .flat_map(|(_, nested)| attributes(nested))
        .filter(|(kind, _)| *kind == IFLA_BRIDGE_VLAN_INFO)
        .filter_map(|(_, info)| {
            let (flags, id) = (u16_at(info, 0)?, u16_at(info, 2)?);
            Some(PortVlan {
                id,
                pvid: flags & BRIDGE_VLAN_INFO_PVID != 0,
                untagged: flags & BRIDGE_VLAN_INFO_UNTAGGED != 0,
            })
        });
    Some(vlans.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vlan_is_encoded_as_the_headers_say() {
        let flags = BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged;
        let bytes = encoded(&body(4, 100, flags));
        let mut expected = vec![7, 0, 0, 0];
        expected.extend(4u32.to_ne_bytes());
        expected.extend([0; 8]);
        expected.extend([20, 0, 26, 0]); // IFLA_AF_SPEC
        expected.extend([6, 0, 0, 0, 1, 0, 0, 0]); // IFLA_BRIDGE_FLAGS: BRIDGE_FLAGS_MASTER
        expected.extend([8, 0, 2, 0, 6, 0, 100, 0]); // IFLA_BRIDGE_VLAN_INFO: PVID | UNTAGGED, vid
        assert_eq!(bytes, expected);
    }

    #[test]
    fn vlans_of_other_ports_are_not_ours() {
        let bytes = encoded(&body(4, 100, BridgeVlanInfoFlags::Untagged));
        let read = |index| parse(Answer { kind: RTM_NEWLINK, payload: &bytes }, index);
        assert_eq!(read(4), Some(vec![PortVlan { id: 100, pvid: false, untagged: true }]));
        assert_eq!(read(5), None);
    }
}
