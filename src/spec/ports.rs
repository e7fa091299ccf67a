//! Which ports of the node lead to which ports of a pod, and for whom.
//!
//! Pure.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::Limits;
use crate::net::{Family, stable_hash};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Mapping {
    pub protocol: Protocol,
    /// Only on this address of the node; `None` is all of the pod address's family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Owner {
    pub container: String,
    /// `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
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
    #[serde(default)]
    pub limits: Limits,
}

impl HostPorts {
    /// Families with at least one mapping.
    pub fn families(&self) -> Vec<Family> {
        let has = |family: &Family| self.mappings.iter().any(|mapping| mapping.family() == *family);
        Family::BOTH.into_iter().filter(has).collect()
    }
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
