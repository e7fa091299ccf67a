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
use super::netlink::{Answer, RouteSocket, encoded};

/// linux/if_bridge.h
const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
const BRIDGE_VLAN_INFO_PVID: u16 = 1 << 1;
const BRIDGE_VLAN_INFO_UNTAGGED: u16 = 1 << 2;
const BRIDGE_VLAN_INFO_RANGE_BEGIN: u16 = 1 << 3;
const BRIDGE_VLAN_INFO_RANGE_END: u16 = 1 << 4;

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
pub fn of_port(socket: &mut RouteSocket, index: u32) -> Result<Vec<PortVlan>> {
    let mut question = LinkMessage::default();
    question.header.interface_family = AddressFamily::Bridge;
    // In ranges: one by one, the VLANs of a trunk do not fit into a message, and the kernel ends the list with an error.
    question.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::BrvlanCompressed]));
    let operation = || format!("bridge vlan show dev if{index}");
    // The kernel lists all ports or nothing.
    let parts = socket.dump(RTM_GETLINK, &encoded(&question), operation, |answer| parse(answer, index))?;
    Ok(parts.into_iter().flatten().collect())
}

/// `bridge vlan add dev <port> vid <id> [pvid] [untagged] master`. Again with other flags: the flags change.
pub fn add(socket: &mut RouteSocket, index: u32, name: &str, vlan: PortVlan) -> Result<()> {
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
pub fn remove(socket: &mut RouteSocket, index: u32, name: &str, id: u16) -> Result<()> {
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
    let entries = attributes(bytes.get(HEADER..)?)
        .filter(|(kind, _)| *kind == IFLA_AF_SPEC)
        .flat_map(|(_, nested)| attributes(nested))
        .filter(|(kind, _)| *kind == IFLA_BRIDGE_VLAN_INFO)
        .filter_map(|(_, info)| Some((u16_at(info, 0)?, u16_at(info, 2)?)));
    Some(without_ranges(entries))
}

/// The VLANs that flags and numbers mean: all between an entry that begins a range and the next, which ends it.
fn without_ranges(entries: impl Iterator<Item = (u16, u16)>) -> Vec<PortVlan> {
    let mut vlans = Vec::new();
    let mut begun = None;
    for (flags, id) in entries {
        if flags & BRIDGE_VLAN_INFO_RANGE_BEGIN != 0 {
            begun = Some(id);
            continue;
        }
        let first = begun.take().filter(|_| flags & BRIDGE_VLAN_INFO_RANGE_END != 0).unwrap_or(id);
        // Where numbers are absurd, no more than there are.
        vlans.extend((first..=id).take(4096).map(|id| PortVlan {
            id,
            pvid: flags & BRIDGE_VLAN_INFO_PVID != 0,
            untagged: flags & BRIDGE_VLAN_INFO_UNTAGGED != 0,
        }));
    }
    vlans
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

    #[test]
    fn a_range_is_all_between_its_ends() {
        let ids = |entries: &[(u16, u16)]| {
            without_ranges(entries.iter().copied()).iter().map(|vlan| vlan.id).collect::<Vec<_>>()
        };
        let (begin, end, plain) = (BRIDGE_VLAN_INFO_RANGE_BEGIN, BRIDGE_VLAN_INFO_RANGE_END, 0);
        assert_eq!(ids(&[(plain, 1), (begin, 5), (end, 8), (plain, 10)]), [1, 5, 6, 7, 8, 10]);
        let all = without_ranges([(6, 1), (begin, 2), (end, 4094)].into_iter());
        assert_eq!(all.len(), 4094);
        assert_eq!(all[0], PortVlan { id: 1, pvid: true, untagged: true });
        assert_eq!(all[4093], PortVlan { id: 4094, pvid: false, untagged: false });
        let untagged = begin | BRIDGE_VLAN_INFO_UNTAGGED;
        let pair = without_ranges([(untagged, 7), (end | BRIDGE_VLAN_INFO_UNTAGGED, 8)].into_iter());
        assert!(pair.len() == 2 && pair.iter().all(|vlan| vlan.untagged));
        // What no kernel says.
        assert_eq!(ids(&[(end, 9)]), [9]);
        assert!(ids(&[(begin, 9)]).is_empty());
        assert!(ids(&[(begin, 9), (end, 5)]).is_empty());
        assert_eq!(ids(&[(begin, 0), (end, u16::MAX)]).len(), 4096);
    }
}
