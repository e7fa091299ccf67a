//! Want: what one attachment promises, as values. Pure; knows neither CNI's JSON nor how the kernel is told.
//!
//! ADD makes them of the configuration, once; the attachment record keeps them as they are, and CHECK, reconcile, the doctor
//! and status read them from there. So every field is written to disk. One that comes later has a `#[serde(default)]` that
//! says what records without it want.
//!
//! Pure.

pub mod conditions;
pub mod limits;
pub mod ports;

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

pub use self::limits::Limits;
pub use self::ports::{HostPorts, Mapping, Owner, Protocol};
use crate::net::{
    AttachmentId, Family, IfName, IfNameError, Mac, Route, VlanId, is_of_a_link, network_of, stable_hash,
};

/// The name of our nftables tables, and the first word of every mark of ours.
pub const OWNER: &str = "smarter-cni";

/// One pod's place on the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Attachment {
    pub id: AttachmentId,
    /// `namespace/name` of the pod, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_name: Option<String>,
    pub bridge: Bridge,
    pub port: Port,
    pub pod: Pod,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// Families in which the node must forward between the bridge and its uplinks.
    pub forwarding: Vec<Family>,
    /// Subnets whose packets to anywhere else leave with the uplink's address.
    pub masquerade: Vec<IpNetwork>,
    /// Frames of the pod carry its own MAC as source, or are dropped.
    pub spoof_check: bool,
    pub firewall: Firewall,
}

/// What the node's packet filters do where it forwards for this network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Firewall {
    /// Accept this network's packets where a chain of somebody else drops what is forwarded.
    pub accept: bool,
    /// Where forwarding was off before us, keep strangers' packets unforwarded.
    pub guard: bool,
    /// Keep TCP segments to what the route carries.
    pub clamp_mss: bool,
}

impl Attachment {
    /// The node's address that the pod knows as its gateway for what is beyond the subnet of that address of its own.
    pub fn gateway_of(&self, address: IpNetwork) -> Option<IpAddr> {
        let gateways = || self.gateway.iter().flat_map(|gateway| &gateway.addresses);
        let near = gateways().find(|gateway| network_of(**gateway) == network_of(address));
        let of_family = || gateways().find(|gateway| gateway.is_ipv4() == address.is_ipv4());
        near.or_else(of_family).map(IpNetwork::ip)
    }

    /// Whether frames of the one reach the other: on one bridge, in one VLAN, and not isolated from each other.
    pub fn may_reach(&self, other: &Self) -> bool {
        // A port without VLANs of its own is in the bridge's default one.
        let untagged = |port: &Port| port.vlans.as_ref().and_then(|vlans| vlans.native).map_or(1, VlanId::id);
        self.bridge.name == other.bridge.name
            && untagged(&self.port) == untagged(&other.port)
            && self.port.name != other.port.name
            && !(self.port.isolated && other.port.isolated)
    }

    /// Whether any IPv6 address is wanted; without one nothing of IPv6 is touched in the pod.
    pub fn has_ipv6(&self) -> bool {
        self.pod.addresses.iter().any(IpNetwork::is_ipv6)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Bridge {
    pub name: IfName,
    /// Only for a bridge that is created; one that exists keeps its own.
    pub mac: Mac,
    /// Only for a bridge that is created: other pods live with the MTU of one that exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Only for a bridge that is created.
    pub vlan_filtering: bool,
    pub promiscuous: bool,
}

impl Bridge {
    /// A fixed MAC, so that it neither changes with the ports nor vanishes with the last one, and so that neighbours may keep
    /// it for ever. Locally administered, unicast.
    pub fn derived_mac(name: &IfName) -> Mac {
        let mut mac = [0x02; 6];
        mac[1..].copy_from_slice(&stable_hash(&[OWNER, name.as_str()]).to_be_bytes()[..5]);
        Mac(mac)
    }
}

/// Where pods send what is not for their own subnet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Gateway {
    /// Addresses with the prefix of the pods' subnet.
    pub addresses: Vec<IpNetwork>,
    /// Remove addresses of the same family that others put there.
    pub force: bool,
    /// The addresses sit on a veth in this VLAN instead of on the bridge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<VlanGateway>,
    /// Where the node's name server is asked, beside the gateways: the same on every node and in every network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Ipv4Addr>,
    /// What pods ask of other name servers is asked of the node's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub intercept: bool,
}

impl Gateway {
    /// Every address of the node in the network.
    pub fn all_addresses(&self) -> impl Iterator<Item = IpNetwork> + '_ {
        self.addresses.iter().copied().chain(self.dns.map(|dns| IpNetwork::from(IpAddr::V4(dns))))
    }

    /// The gateways at which other name servers' questions are answered: those that a name server can bind.
    pub fn intercepting(&self) -> impl Iterator<Item = IpNetwork> + '_ {
        self.addresses.iter().copied().filter(move |at| self.intercept && !is_of_a_link(at.ip()))
    }

    /// The link that has them.
    pub fn link<'a>(&'a self, bridge: &'a Bridge) -> &'a IfName {
        self.vlan.as_ref().map_or(&bridge.name, |vlan| &vlan.name)
    }
}

/// A veth pair inside the node: `<bridge>.<vlan>` holds the gateway address, its peer is a port in that VLAN.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct VlanGateway {
    pub name: IfName,
    pub port: IfName,
    pub vlan: VlanId,
}

impl VlanGateway {
    /// Fails where the bridge's name leaves no room for the VLAN behind it.
    pub fn of(bridge: &IfName, vlan: VlanId) -> Result<Self, IfNameError> {
        let name: IfName = format!("{bridge}.{vlan}").parse()?;
        let port = format!("veth{:08x}", stable_hash(&["vlan gateway", name.as_str()]) & 0xffff_ffff);
        Ok(Self { port: port.parse()?, name, vlan })
    }
}

/// The host end of the pod's veth pair.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Port {
    pub name: IfName,
    /// Only for a pair that is made anew; the kernel chooses one for a new pod's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    pub hairpin: bool,
    pub isolated: bool,
    /// `None`: leave what the bridge gives a new port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans: Option<Vlans>,
}

/// VLAN membership of a port, linux/if_bridge.h `bridge_vlan_info`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Vlans {
    /// Untagged frames of the pod belong to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub native: Option<VlanId>,
    /// Ascending, without duplicates.
    pub tagged: Vec<VlanId>,
    /// Keep what the bridge gave the port by itself (normally VLAN 1).
    pub keep_default: bool,
}

impl Vlans {
    /// A trunk without access VLAN takes VLAN 1 for untagged frames.
    pub fn of(access: Option<VlanId>, tagged: Vec<VlanId>, keep_default: bool) -> Option<Self> {
        if access.is_none() && tagged.is_empty() {
            return None;
        }
        Some(Self { native: access.or(VlanId::new(1)), tagged, keep_default })
    }
}

/// The container end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Pod {
    pub name: IfName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// `false` leaves the interface down for whoever asked for it.
    pub up: bool,
    pub addresses: Vec<IpNetwork>,
    pub routes: Vec<Route>,
    /// Detect duplicate IPv6 addresses, and wait for the verdict.
    pub detect_duplicates: bool,
}

/// The families of which there is an address.
pub fn families(addresses: &[IpNetwork]) -> Vec<Family> {
    let has = |family: &Family| addresses.iter().any(|address| Family::of(address.ip()) == *family);
    Family::BOTH.into_iter().filter(has).collect()
}

/// The networks of addresses, each once.
pub fn subnets(addresses: &[IpNetwork]) -> Vec<IpNetwork> {
    let mut subnets = Vec::new();
    for address in addresses {
        let subnet = network_of(*address);
        if !subnets.contains(&subnet) {
            subnets.push(subnet);
        }
    }
    subnets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_mac_is_fixed_unicast_and_locally_administered() {
        let mac = Bridge::derived_mac(&"cni0".parse().unwrap());
        assert_eq!(mac, Bridge::derived_mac(&"cni0".parse().unwrap()));
        assert_ne!(mac, Bridge::derived_mac(&"cni1".parse().unwrap()));
        assert_eq!(mac.0[0] & 0b11, 0b10);
    }
}
