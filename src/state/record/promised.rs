//! The part of a record that says what was promised. Every field may be missing, so that programs older and newer than
//! the one that wrote it can read it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::net::{IfName, Mac, Route};

/// What the ADD told, or is going to tell, the runtime, and what it put into the kernel for that.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Promised {
    #[serde(with = "super::as_text::option")]
    pub bridge: Option<IfName>,
    /// By which pods know their gateway: a bridge that is made anew gets it again.
    #[serde(with = "super::as_text::option")]
    pub bridge_mac: Option<Mac>,
    #[serde(with = "super::as_text::option")]
    pub host_if: Option<IfName>,
    #[serde(with = "super::as_text::option")]
    pub host_mac: Option<Mac>,
    #[serde(with = "super::as_text::option")]
    pub pod_mac: Option<Mac>,
    /// Of the pod's interface.
    pub addresses: Vec<PromisedAddress>,
    /// Of the bridge.
    #[serde(with = "super::as_text::list")]
    pub gateways: Vec<IpNetwork>,
    #[serde(with = "super::as_text::routes")]
    pub routes: Vec<Route>,
    /// Bytes.
    pub mtu: Option<u32>,
    pub flags: Flags,
    /// Absent in records of versions that had no such switches: nobody knows then what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub firewall: Option<Firewall>,
    pub host_ports: Vec<HostPort>,
    /// Absent without host ports, and in records of versions that did not write it: nobody knows then from where the ports
    /// may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port_rules: Option<PortRules>,
    /// `ipam.type` of the configuration.
    pub ipam: Option<String>,
    /// `ipam.dataDir` where the leases are, if they are in host-local's format.
    pub data_dir: Option<String>,
    /// What the addresses were taken from, one per range set, where our own address management did it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromisedAddress {
    #[serde(with = "super::as_text")]
    pub address: IpNetwork,
    #[serde(default)]
    pub gateway: Option<IpAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the bridge's configuration of its own")]
pub struct Flags {
    pub hairpin: bool,
    pub isolated: bool,
    pub promisc: bool,
    pub vlan_filtering: bool,
    pub preserve_default_vlan: bool,
    pub ip_masq: bool,
    pub mac_spoof_check: bool,
    pub is_gateway: bool,
    pub container_interface_disabled: bool,
    pub force_address: bool,
    pub detect_duplicates: bool,
    pub vlan: Option<u16>,
    pub trunk: Vec<u16>,
}

/// What the node's packet filters were to do for the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Firewall {
    pub accept: bool,
    pub guard: bool,
    pub clamp_mss: bool,
}

/// One set of ranges from which a pod gets one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// `10.1.2.1-10.1.2.254`, several joined by `,`.
    pub ranges: String,
    /// Addresses that can be leased; as many as the number holds where there are more.
    pub size: u64,
}

/// From where host ports may be used, and whom pods see as their client. Words, as they are shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PortRules {
    pub snat: bool,
    pub masq_all: bool,
    /// Interfaces, or the beginnings of their names with a `*`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions_v4: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions_v6: Vec<String>,
    /// The interface of the node that led to the pod.
    #[serde(with = "super::as_text::option", skip_serializing_if = "Option::is_none")]
    pub pod_link: Option<IfName>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// `tcp`, `udp`, `sctp`.
    pub protocol: String,
    pub host_port: u16,
    pub container_port: u16,
    #[serde(default)]
    pub host_ip: Option<IpAddr>,
}
