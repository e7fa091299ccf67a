//! Which name servers this node may ask: what `resolv.conf` says, less what would lead back to us.
//!
//! Owns the names of the files, how a line of them is read, and what can never be an upstream. Refuses to read a file:
//! that is [`watch`]'s.
//!
//! Pure.

pub(crate) mod watch;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::net::{DNS_PORT, IfName, is_of_a_link};

/// Where the uplink's name servers stand, the best source first. `/etc/resolv.conf` is last because on many nodes it has
/// no more than the address of a local stub.
pub(crate) const FILES: &[&str] = &[
    // systemd-resolved: the servers of all links, without its own stub.
    "/run/systemd/resolve/resolv.conf",
    // NetworkManager: what it has learned; the second is written whoever owns /etc/resolv.conf, and has the address of its
    // own dnsmasq where it runs one.
    "/run/NetworkManager/no-stub-resolv.conf",
    "/run/NetworkManager/resolv.conf",
    // resolvconf, and what it leaves to a dnsmasq of the node.
    "/run/dnsmasq/resolv.conf",
    "/run/resolvconf/resolv.conf",
    "/etc/resolv.conf",
];

/// A C library takes three (`MAXNS`); a file with more than this is no resolver configuration.
const MOST: usize = 16;

/// A name server to ask.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Upstream {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    /// The link of an address that is valid on one link only.
    pub(crate) scope: Option<Scope>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Scope {
    Name(IfName),
    Index(u32),
}

impl Upstream {
    /// Whether a question to it would end in this process, or never leave the node.
    fn leads_back(&self, own: &[IpAddr]) -> bool {
        let address = self.address.to_canonical();
        // The kernel takes the unspecified address for the node itself (connect(2) on Linux), as every C library does.
        address.is_loopback() || address.is_unspecified() || own.contains(&address)
    }

    fn can_be_asked(&self) -> bool {
        let broadcast = matches!(self.address, IpAddr::V4(address) if address.is_broadcast());
        // Without a link nobody knows where fe80::1 is: connect(2) says EINVAL.
        !self.address.is_multicast() && !broadcast && (self.scope.is_some() || !is_of_a_link(self.address))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Index(index) => index.fmt(f),
        }
    }
}

/// As it is typed: `192.0.2.1`, `192.0.2.1:5353`, `fe80::1%eth0`, `[fe80::1%eth0]:5353`.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = self.port != DNS_PORT && self.address.is_ipv6();
        write!(f, "{}{}", if brackets { "[" } else { "" }, self.address)?;
        if let Some(scope) = &self.scope {
            write!(f, "%{scope}")?;
        }
        f.write_str(if brackets { "]" } else { "" })?;
        if self.port == DNS_PORT { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// Why a text names no server, in words that follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoAddress,
    Port,
    Scope,
    NeedsScope,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAddress => "is not an address, such as 192.0.2.1, 192.0.2.1:5353 or fe80::1%eth0",
            Self::Port => "has a port that is not a number from 1 to 65535",
            Self::Scope => "names no interface behind %",
            Self::NeedsScope => "is valid on one link only: name it, as in fe80::1%eth0",
        })
    }
}

impl std::error::Error for Refusal {}

impl FromStr for Upstream {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(Refusal::NoAddress)?;
                (
                    host,
                    if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(Refusal::Port)?) },
                )
            }
            // More than one colon is an address of IPv6.
            None => match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            },
        };
        let port = match port {
            None => DNS_PORT,
            Some(port) if port.starts_with('+') => return Err(Refusal::Port),
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or(Refusal::Port)?,
        };
        let upstream = Self { port, ..address(host)? };
        if is_of_a_link(upstream.address) && upstream.scope.is_none() {
            return Err(Refusal::NeedsScope);
        }
        Ok(upstream)
    }
}

fn address(host: &str) -> Result<Upstream, Refusal> {
    let (address, scope) = match host.split_once('%') {
        None => (host, None),
        Some((address, scope)) => (address, Some(scope)),
    };
    let address: IpAddr = address.parse().map_err(|_| Refusal::NoAddress)?;
    let scope = match scope {
        None => None,
        Some(_) if address.is_ipv4() => return Err(Refusal::Scope),
        Some(scope) => Some(match scope.parse() {
            Ok(0) => return Err(Refusal::Scope),
            Ok(index) if scope.bytes().all(|byte| byte.is_ascii_digit()) => Scope::Index(index),
            _ => Scope::Name(scope.parse().map_err(|_| Refusal::Scope)?),
        }),
    };
    Ok(Upstream { address, port: DNS_PORT, scope })
}

/// The servers of a text in the format of resolv.conf(5), in its order. What cannot be read is passed over, as every C
/// library does.
pub(crate) fn resolv_conf(text: &str) -> Vec<Upstream> {
    let mut found: Vec<Upstream> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // No port can be said there; `address` takes none.
        let Some(upstream) = words.next().and_then(|word| address(word).ok()) else { continue };
        if !found.contains(&upstream) {
            found.push(upstream);
        }
        if found.len() == MOST {
            break;
        }
    }
    found
}

/// What is left of the servers of one source. `own` are the addresses on which we answer ourselves.
pub(crate) fn usable(found: &[Upstream], own: &[IpAddr]) -> Vec<Upstream> {
    let usable = |upstream: &&Upstream| upstream.can_be_asked() && !upstream.leads_back(own);
    found.iter().filter(usable).cloned().collect()
}

/// What an administrator has named: also a server of this node, on another port or address than ours.
pub(crate) fn named(found: &[Upstream], own: &[IpAddr]) -> Vec<Upstream> {
    let ours =
        |upstream: &Upstream| upstream.port == DNS_PORT && own.contains(&upstream.address.to_canonical());
    found.iter().filter(|upstream| upstream.can_be_asked() && !ours(upstream)).cloned().collect()
}

/// The first source with a server that can be asked: which of them, and its servers.
pub(crate) fn choose(sources: &[Vec<Upstream>], own: &[IpAddr]) -> Option<(usize, Vec<Upstream>)> {
    sources.iter().map(|found| usable(found, own)).enumerate().find(|(_, servers)| !servers.is_empty())
}

#[cfg(test)]
mod tests;
