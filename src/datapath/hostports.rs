//! Ports of the node that lead to pods, in the packet filter.
//!
//! What is wanted is a value of [`crate::spec`]. What is decided about it is in [`plan`], what it looks like in nf_tables in
//! [`tables`], what of that a kernel lacks in [`missing`], the way to and from the kernel in [`observe`] and [`apply`].
//! Nothing here grows with the number of pods but the elements of two maps.
//!
//! Pure.

pub mod apply;
pub mod flows;
pub mod listeners;
pub mod missing;
pub mod observe;
pub mod plan;
#[cfg(test)]
mod plan_tests;
pub mod tables;

use std::fmt;
use std::net::IpAddr;

use crate::net::Family;
pub(crate) use crate::spec::limits::{self, family_words};
pub(crate) use crate::spec::{HostPorts, Limits, Mapping, Owner, Protocol};

/// One element of one of our maps and sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// `hostports`, or `hostports_at` when it has an address of the node.
    Port(Mapping),
    /// `hostports_at_ports`: some address of the node has this port in `hostports_at`.
    PortAt(Family, Protocol, u16),
    /// `local_clients`: the pod's local clients are masqueraded.
    LocalClients(IpAddr),
    /// `hairpin`: a pair of the pod's address with itself.
    Hairpin(IpAddr),
    /// `all_clients`: all of the pod's clients are masqueraded.
    AllClients(IpAddr),
    /// A port under limits of that name, in the set beside `hostports` or `hostports_at`.
    Limited(String, Mapping),
}

impl Entry {
    pub fn family(&self) -> Family {
        match self {
            Self::Port(mapping) | Self::Limited(_, mapping) => mapping.family(),
            Self::PortAt(family, ..) => *family,
            Self::LocalClients(address) | Self::Hairpin(address) | Self::AllClients(address) => {
                Family::of(*address)
            }
        }
    }

    /// The address of the pod that it leads to, where it names one.
    pub fn pod(&self) -> Option<IpAddr> {
        match self {
            Self::Port(mapping) => Some(mapping.pod),
            Self::LocalClients(pod) | Self::Hairpin(pod) | Self::AllClients(pod) => Some(*pod),
            // The set of a limit has no addresses of pods.
            Self::PortAt(..) | Self::Limited(..) => None,
        }
    }

    /// The set it is in.
    pub fn set(&self) -> String {
        match self {
            Self::Port(Mapping { host_ip: None, .. }) => "hostports".to_owned(),
            Self::Port(_) => "hostports_at".to_owned(),
            Self::PortAt(..) => "hostports_at_ports".to_owned(),
            Self::LocalClients(_) => "local_clients".to_owned(),
            Self::Hairpin(_) => "hairpin".to_owned(),
            Self::AllClients(_) => "all_clients".to_owned(),
            Self::Limited(name, Mapping { host_ip: None, .. }) => name.clone(),
            Self::Limited(name, _) => format!("{name}_at"),
        }
    }
}

/// As `nft` lists it.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port(mapping) | Self::Limited(_, mapping) => {
                mapping.host_ip.map_or(Ok(()), |ip| write!(f, "{ip} . "))?;
                write!(f, "{} . {}", mapping.protocol, mapping.host_port)?;
                match self {
                    Self::Port(_) => write!(f, " : {} . {}", mapping.pod, mapping.pod_port),
                    _ => Ok(()),
                }
            }
            Self::PortAt(_, protocol, port) => write!(f, "{protocol} . {port}"),
            Self::LocalClients(address) | Self::AllClients(address) => address.fmt(f),
            Self::Hairpin(address) => write!(f, "{address} . {address}"),
        }
    }
}
