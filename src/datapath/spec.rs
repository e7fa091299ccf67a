//! Want: what one attachment promises, as a value. Pure; knows neither CNI's JSON nor how the kernel is told.

use ipnetwork::IpNetwork;

use super::mark::{Identity, VethMark};
use crate::net::{Family, IfName, Mac, Route, VlanId};

/// One pod's place on the bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub identity: Identity,
    /// `namespace/name` of the pod, for people.
    pub pod_name: Option<String>,
    pub bridge: Bridge,
    pub port: Port,
    pub pod: Pod,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Firewall {
    /// Accept this network's packets where a chain of somebody else drops what is forwarded.
    pub accept: bool,
    /// Where forwarding was off before us, keep strangers' packets unforwarded.
    pub guard: bool,
    /// Keep TCP segments to what the route carries.
    pub clamp_mss: bool,
}

impl Attachment {
    pub fn mark(&self) -> VethMark {
        VethMark {
            identity: self.identity.clone(),
            addresses: self.pod.addresses.clone(),
            pod: self.pod_name.clone(),
        }
    }

    /// Whether any IPv6 address is wanted; without one nothing of IPv6 is touched in the pod.
    pub fn has_ipv6(&self) -> bool {
        self.pod.addresses.iter().any(IpNetwork::is_ipv6)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    pub name: IfName,
    /// Only for a bridge that is created; one that exists keeps its own.
    pub mac: Mac,
    /// Only for a bridge that is created: other pods live with the MTU of one that exists.
    pub mtu: Option<u32>,
    /// Only for a bridge that is created.
    pub vlan_filtering: bool,
    pub promiscuous: bool,
}

/// Where pods send what is not for their own subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Addresses with the prefix of the pods' subnet.
    pub addresses: Vec<IpNetwork>,
    /// Remove addresses of the same family that others put there.
    pub force: bool,
    /// The addresses sit on a veth in this VLAN instead of on the bridge.
    pub vlan: Option<VlanGateway>,
}

/// A veth pair inside the node: `<bridge>.<vlan>` holds the gateway address, its peer is a port in that VLAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanGateway {
    pub name: IfName,
    pub port: IfName,
    pub vlan: VlanId,
}

/// The host end of the pod's veth pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    pub name: IfName,
    /// Only for a pair that is made anew; the kernel chooses one for a new pod's.
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    pub hairpin: bool,
    pub isolated: bool,
    /// `None`: leave what the bridge gives a new port.
    pub vlans: Option<Vlans>,
}

/// VLAN membership of a port, linux/if_bridge.h `bridge_vlan_info`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// Untagged frames of the pod belong to it.
    pub native: Option<VlanId>,
    /// Ascending, without duplicates.
    pub tagged: Vec<VlanId>,
    /// Keep what the bridge gave the port by itself (normally VLAN 1).
    pub keep_default: bool,
}

/// The container end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: IfName,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    /// `false` leaves the interface down for whoever asked for it.
    pub up: bool,
    pub addresses: Vec<IpNetwork>,
    pub routes: Vec<Route>,
    /// Detect duplicate IPv6 addresses, and wait for the verdict.
    pub detect_duplicates: bool,
}
