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
    pub host_ports: Vec<HostPort>,
    /// `ipam.type` of the configuration.
    pub ipam: Option<String>,
    /// `ipam.dataDir` where the leases are, if they are in host-local's format.
    pub data_dir: Option<String>,
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
    pub vlan: Option<u16>,
    pub trunk: Vec<u16>,
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
