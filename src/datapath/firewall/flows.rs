//! The flows that pods live by, and where in the kernel rules are asked about them: each hook that a packet passes, with
//! what is known of the packet there. Pure; whose rules stand on the hooks, and what they do, is `travel`'s.
//!
//! Both directions count: a flow whose answers are dropped is as dead as one that never begins. What a pod does inside of
//! its own namespace is not followed.
//!
//! Pure.

mod path;
mod travel;

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

pub use path::stages;
pub use travel::{Base, Blocked, Owner, Travel, alike, travel};

use super::way::Packet;
use crate::net::{Family, IfName};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// Who on the link has an address: ARP, or neighbour discovery.
    Resolution,
    PodToNode,
    NodeToPod,
    PodToPod,
    PodToUplink,
    /// By a host port.
    UplinkToPod,
    /// To the node's name server, at the address that every node has. They belong to no connection.
    PodToNames,
}

/// As conntrack calls the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Heading {
    Original,
    Reply,
}

impl Flow {
    pub const ALL: [Self; 7] = [
        Self::Resolution,
        Self::PodToNode,
        Self::NodeToPod,
        Self::PodToPod,
        Self::PodToUplink,
        Self::UplinkToPod,
        Self::PodToNames,
    ];

    /// What is lost, for a sentence about somebody who drops it.
    pub fn lost(self, heading: Heading) -> &'static str {
        match (self, heading) {
            (Self::Resolution, Heading::Original) => {
                "what pods ask to find their gateway (ARP, neighbour discovery)"
            }
            (Self::Resolution, Heading::Reply) => {
                "what the node answers to pods that look for it (ARP, neighbour discovery)"
            }
            (Self::PodToNode, Heading::Original) => {
                "what pods send to the node itself (its name server, the API server)"
            }
            (Self::PodToNode, Heading::Reply) => "what the node answers to its pods",
            (Self::NodeToPod, Heading::Original) => "what the node sends to its pods (kubelet's probes)",
            (Self::NodeToPod, Heading::Reply) => "what pods answer to the node (kubelet's probes)",
            (Self::PodToPod, _) => "what pods send to each other",
            (Self::PodToUplink, Heading::Original) => "what pods send out of the node",
            (Self::PodToUplink, Heading::Reply) => "answers from outside to pods",
            (Self::UplinkToPod, Heading::Original) => "what is sent to host ports",
            (Self::UplinkToPod, Heading::Reply) => "what pods answer at host ports",
            (Self::PodToNames, Heading::Original) => "what pods ask the node's name server (port 53)",
            (Self::PodToNames, Heading::Reply) => {
                "what the node's name server answers, which belongs to no connection (ct state untracked)"
            }
        }
    }

    /// What the connections of the flow carry.
    pub fn protocols(self, family: Family) -> &'static [Option<u8>] {
        match self {
            Self::Resolution if family == Family::V4 => &[None],
            Self::Resolution => &[Some(ICMPV6)],
            _ => &[Some(TCP), Some(UDP)],
        }
    }
}

/// Where hooks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    Device,
    Bridge,
    Arp,
    Network,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Egress,
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ingress => "ingress",
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::Egress => "egress",
        })
    }
}

/// A pod and its port on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub address: IpAddr,
    pub port: IfName,
}

/// What is known of the node around a pod, in the family of its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ends {
    pub pod: Pod,
    /// Another pod on the same bridge, where the two may talk.
    pub sibling: Option<Pod>,
    pub bridge: IfName,
    /// The bridge, or the interface of the VLAN on it.
    pub gateway: IfName,
    pub gateway_address: Option<IpAddr>,
    /// Where the pod asks the node's name server.
    pub name_server: Option<IpAddr>,
    /// The port to which such questions are led, where port 53 is somebody else's: they have connections then.
    pub led_to: Option<u16>,
    pub uplink: Option<IfName>,
    /// Chains of IP are asked about what the bridge forwards, too (br_netfilter).
    pub bridged: bool,
    pub host_ports: bool,
}

/// One hook that packets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub layer: Layer,
    pub point: Point,
    /// Chains of that priority see the packets like this.
    pub priorities: RangeInclusive<i32>,
    pub packet: Packet,
}

#[cfg(test)]
mod tests;
