//! The part of a record that says what was promised: values of [`crate::spec`], as the plan takes them.
//!
//! Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Record;
use crate::spec::{Attachment, HostPorts, Mapping};

/// What one plugin promised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Want {
    /// A place on the bridge.
    Attachment(Box<Attachment>),
    HostPorts(HostPorts),
    /// Ports of which nothing tells from where they may be used: they go with the pod, and are not opened again.
    Mappings {
        mappings: Vec<Mapping>,
        pods: Vec<IpNetwork>,
    },
    /// Addresses alone, where only they were asked for.
    Addresses(Vec<IpNetwork>),
}

/// Where the addresses come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leases {
    /// `ipam.type` of the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipam: Option<String>,
    /// `ipam.dataDir` where the leases are, if they are in host-local's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<String>,
    /// One per range set, where our own address management leased.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
}

/// One set of ranges from which a pod gets one address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// `10.1.2.1-10.1.2.254`, several joined by `,`.
    pub ranges: String,
    /// Addresses that can be leased; as many as the number holds where there are more.
    pub size: u64,
}

impl Record {
    /// The place on the bridge that was promised.
    pub fn attachment(&self) -> Option<&Attachment> {
        match &self.want {
            Some(Want::Attachment(attachment)) => Some(attachment),
            _ => None,
        }
    }

    /// The host ports that were promised, as far as they can be opened again.
    pub fn host_ports(&self) -> Option<&HostPorts> {
        match &self.want {
            Some(Want::HostPorts(ports)) => Some(ports),
            _ => None,
        }
    }

    /// All ports of the node that were to lead to the pod.
    pub fn mappings(&self) -> &[Mapping] {
        match &self.want {
            Some(Want::HostPorts(ports)) => &ports.mappings,
            Some(Want::Mappings { mappings, .. }) => mappings,
            _ => &[],
        }
    }

    /// The pod's addresses, with the prefix of their subnet where that is known.
    pub fn addresses(&self) -> &[IpNetwork] {
        match &self.want {
            Some(Want::Attachment(attachment)) => &attachment.pod.addresses,
            Some(Want::HostPorts(ports)) => &ports.pods,
            Some(Want::Mappings { pods, .. }) => pods,
            Some(Want::Addresses(addresses)) => addresses,
            None => &[],
        }
    }

    /// The same without prefix.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses().iter().map(IpNetwork::ip)
    }

    /// The node's addresses that the pods of the network know as their gateway.
    pub fn gateways(&self) -> &[IpNetwork] {
        self.attachment().and_then(|want| want.gateway.as_ref()).map_or(&[], |gateway| &gateway.addresses)
    }

    /// Whether what was promised is promised to the attachment whose record it is: a file can say anything.
    pub(super) fn is_consistent(&self) -> bool {
        match &self.want {
            Some(Want::Attachment(attachment)) => attachment.id == self.id,
            Some(Want::HostPorts(ports)) => ports.owner.container == self.id.container,
            _ => true,
        }
    }
}
