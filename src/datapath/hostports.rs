//! Want: which ports of the node lead to which ports of a pod, as a value. Pure.
//!
//! What is decided about it is in [`plan`], what it looks like in nf_tables in [`tables`], what of that a
//! kernel lacks in [`missing`], the way to and from the kernel in [`observe`] and [`apply`]. Nothing here
//! grows with the number of pods but the elements of two maps.

pub mod apply;
pub mod flows;
pub mod limits;
pub mod listeners;
pub mod missing;
pub mod observe;
pub mod plan;
#[cfg(test)]
mod plan_tests;
pub mod tables;

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

pub use self::limits::Limits;
use crate::net::{Family, stable_hash};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// In any case: runtimes write `TCP` and `tcp`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// IANA.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.number() == number)
    }

    /// A flow of such a protocol goes on after the port changed hands, because nothing ends it: TCP resets itself.
    pub fn keeps_flows(self) -> bool {
        self != Self::Tcp
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One port of the node that leads to one port of a pod, in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mapping {
    pub protocol: Protocol,
    /// Only on this address of the node; `None` is all of the pod address's family.
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub pod: IpAddr,
    pub pod_port: u16,
}

impl Mapping {
    pub fn family(&self) -> Family {
        Family::of(self.pod)
    }

    /// Whether both claim the same port of the same address.
    pub fn same_port(&self, other: &Self) -> bool {
        (self.protocol, self.host_ip, self.host_port, self.family())
            == (other.protocol, other.host_ip, other.host_port, other.family())
    }

    /// `8080/tcp`, `192.0.2.1:8080/tcp`.
    pub fn port_words(&self) -> String {
        match self.host_ip {
            Some(IpAddr::V4(ip)) => format!("{ip}:{}/{}", self.host_port, self.protocol),
            Some(IpAddr::V6(ip)) => format!("[{ip}]:{}/{}", self.host_port, self.protocol),
            None => format!("{}/{}", self.host_port, self.protocol),
        }
    }
}

/// Whose an element is; its comment in the kernel: `shop/web 0a1b…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub container: String,
    /// `namespace/name`.
    pub pod: Option<String>,
}

/// A comment has 127 bytes; container IDs of the usual runtimes have 64.
const COMMENT: usize = 127;
const CONTAINER: usize = 64;

impl Owner {
    /// The container stands last and whole; the pod's name gives way.
    pub fn comment(&self) -> String {
        let container = short(&self.container);
        let Some(pod) = &self.pod else { return container };
        let room = COMMENT - container.len() - 1;
        let mut name = String::new();
        for letter in pod.chars() {
            if name.len() + letter.len_utf8() > room {
                break;
            }
            name.push(if letter == '"' || letter.is_control() { '_' } else { letter });
        }
        format!("{name} {container}")
    }

    /// Whether a comment names this container, whatever it calls the pod.
    pub fn is_named_by(container: &str, comment: &str) -> bool {
        Self::named(comment) == short(container)
    }

    /// The container that a comment names, as [`Self::short_name`] has it.
    pub fn named(comment: &str) -> &str {
        comment.rsplit(' ').next().unwrap_or_default()
    }

    /// Whether a container's name in a comment does not tell the whole of it.
    pub fn is_shortened(name: &str) -> bool {
        name.contains('~')
    }

    /// A container as comments name it.
    pub fn short_name(container: &str) -> String {
        short(container)
    }

    /// For people: the pod where the comment names one, else the container.
    pub fn words(comment: &str) -> String {
        match comment.rsplit_once(' ') {
            Some((pod, _)) => format!("pod {pod}"),
            None if comment.is_empty() => "something without a name".to_owned(),
            None => format!("container {comment}"),
        }
    }
}

fn short(container: &str) -> String {
    if container.len() <= CONTAINER {
        return container.to_owned();
    }
    let kept = container.floor_char_boundary(CONTAINER - 17);
    format!("{}~{:016x}", &container[..kept], stable_hash(&[container]))
}

/// All that one attachment promises of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPorts {
    pub owner: Owner,
    pub mappings: Vec<Mapping>,
    /// The pod's addresses with the prefix of its subnet, at most one per family.
    pub pods: Vec<IpNetwork>,
    /// Clients whose answers would not come back otherwise get the node's address: the node by 127.0.0.1, pods of the same
    /// subnet, the pod itself.
    pub snat: bool,
    /// Every client does.
    pub masq_all: bool,
    pub limits: Limits,
}

impl HostPorts {
    /// Families with at least one mapping.
    pub fn families(&self) -> Vec<Family> {
        let has = |family: &Family| self.mappings.iter().any(|mapping| mapping.family() == *family);
        Family::BOTH.into_iter().filter(has).collect()
    }
}

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

/// The nft family of ours.
pub fn family_words(family: Family) -> &'static str {
    if family == Family::V4 { "ip" } else { "ip6" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_names_the_container_whole() {
        let owner = Owner { container: "c1".into(), pod: Some("shop/web".into()) };
        assert_eq!(owner.comment(), "shop/web c1");
        assert!(Owner::is_named_by("c1", "shop/web c1") && Owner::is_named_by("c1", "c1"));
        assert!(!Owner::is_named_by("c", "shop/web c1") && !Owner::is_named_by("c10", "c1"));
        assert_eq!(Owner::words("shop/web c1"), "pod shop/web");
        assert_eq!(Owner::words("c1"), "container c1");

        let long = Owner { container: "0".repeat(64), pod: Some(format!("shop/{}", "é".repeat(100))) };
        assert!(long.comment().len() <= COMMENT);
        assert!(Owner::is_named_by(&long.container, &long.comment()));
        let (a, b) = (format!("{}a", "x".repeat(100)), format!("{}b", "x".repeat(100)));
        let owner = Owner { container: a.clone(), pod: None };
        assert!(Owner::is_named_by(&a, &owner.comment()) && !Owner::is_named_by(&b, &owner.comment()));
        // A damaged record may say anything.
        for letters in 0..4 {
            let container = format!("{}{}", "x".repeat(letters), "é€".repeat(40));
            let owner = Owner { container: container.clone(), pod: None };
            assert!(owner.comment().len() <= CONTAINER && Owner::is_named_by(&container, &owner.comment()));
        }
    }

    #[test]
    fn protocols_are_read_in_any_case() {
        assert_eq!(Protocol::from_name("SCTP"), Some(Protocol::Sctp));
        assert_eq!(Protocol::from_name("Udp"), Some(Protocol::Udp));
        assert_eq!(Protocol::from_name("icmp"), None);
    }
}
