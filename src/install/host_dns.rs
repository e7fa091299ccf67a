//! How programs of the node, and not only pods, come to the name server: which resolver they ask, the file by which that one
//! can be told, and what a person has to type where there is no such file.
//!
//! Knows a resolver by the configuration that stands. Refuses what would change somebody else's file: `/etc/resolv.conf` and
//! the configuration of resolvers are the node's, ours are files of our own beside it.
//!
//! Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use crate::host::resolver::{DNSMASQ_DIRECTORY, RESOLV_CONF, Seen};
use crate::net::IfName;

/// What the name server's own setting is when nobody says otherwise.
pub(super) const DOMAIN: &str = "cluster.local";

/// The domain of the pods' names. Made of letters, digits and hyphens, so that it is one word in whatever file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Domain(String);

impl Domain {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            let edges = [label.bytes().next(), label.bytes().last()];
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !edges.contains(&Some(b'-'))
        };
        // No domain of the world ends in a number, and an address does.
        let is_address =
            text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        (text.len() <= 253 && text.split('.').all(is_label) && !is_address).then_some(Self(text))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a resolver is to be told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route<'a> {
    pub(super) domain: &'a Domain,
    pub(super) address: Ipv4Addr,
    pub(super) bridge: &'a IfName,
}

/// A resolver that reads files of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reader {
    Resolved,
    Dnsmasq,
    NetworkManager,
}

/// Stands in the first line of every file that is ours.
const MARK: &str = "# Written by smarter-cni ";

impl Reader {
    pub(super) const ALL: [Self; 3] = [Self::Resolved, Self::Dnsmasq, Self::NetworkManager];

    /// On the disk, because resolvers read their files when they start: one in /run would be missing at each start of the
    /// node, until somebody writes it and tells the resolver to read it.
    pub(super) fn path(self) -> &'static Path {
        Path::new(match self {
            Self::Resolved => "/etc/systemd/dns-delegate.d/smarter-cni.dns-delegate",
            Self::Dnsmasq => "/etc/dnsmasq.d/smarter-cni.conf",
            Self::NetworkManager => "/etc/NetworkManager/dnsmasq.d/smarter-cni.conf",
        })
    }

    /// The directory is read also when it came after the resolver. Those of others are said in their configuration, and one
    /// that is missing belongs to nobody any more.
    pub(super) fn finds_new_directories(self) -> bool {
        self == Self::Resolved
    }

    /// What makes it read its files again. A dnsmasq reads them at its start alone (dnsmasq(8), NOTES).
    pub(super) fn reload(self) -> &'static str {
        match self {
            Self::Resolved => "systemctl reload systemd-resolved",
            Self::Dnsmasq => "systemctl restart dnsmasq",
            Self::NetworkManager => "nmcli general reload dns-full",
        }
    }

    pub(super) fn file(self, Route { domain, address, bridge }: Route) -> String {
        let head = format!("{MARK}install --host-dns, and taken away by smarter-cni uninstall.\n");
        // The second for a dnsmasq that otherwise drops answers with private addresses (stop-dns-rebind).
        let server = format!("server=/{domain}/{address}\nrebind-domain-ok=/{domain}/\n");
        match self {
            // With the ~ it routes, and without it would also be a search domain: of every program, and of the pods to whom a
            // kubelet gives the node's list.
            Self::Resolved => format!("{head}[Delegate]\nDNS={address}\nDomains=~{domain}\n"),
            // With bind-dynamic it would take port 53 of that address for itself, or not start.
            Self::Dnsmasq => format!("{head}{server}except-interface={bridge}\n"),
            Self::NetworkManager => format!("{head}{server}"),
        }
    }
}

/// What stands under the name of a file of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Absent,
    /// What a power cut leaves.
    Empty,
    Ours(Vec<u8>),
    /// In words behind "it is".
    Foreign(&'static str),
}

impl Standing {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        match bytes {
            bytes if bytes.is_empty() => Self::Empty,
            bytes if bytes.starts_with(MARK.as_bytes()) => Self::Ours(bytes),
            _ => Self::Foreign("somebody else's"),
        }
    }
}

/// Whom the programs of the node ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Resolver {
    Reads(Reader),
    /// One that has no files about single domains.
    OlderResolved,
    /// A dnsmasq that listens on all addresses: told to read a file, it would start again and not get port 53, which the name
    /// server has at one of them ("failed to create listening socket for port 53", 2.90). The node would be without either.
    DnsmasqOfAllAddresses,
    /// A server of the node that we do not know, or whose configuration reads no files of others.
    Local(IpAddr),
    /// The servers in that file, each program by itself.
    Plain(Vec<IpAddr>),
    /// There is no such file, or not where we look.
    Unseen,
}

pub(super) fn resolver(seen: &Seen) -> Resolver {
    let servers = servers(&seen.resolv_conf);
    // 127.0.0.53 and 127.0.0.54 are its stubs; both of its files are links that a package or an administrator made.
    let stub = |server: &IpAddr| matches!(server, IpAddr::V4(address) if [53, 54].map(|last| Ipv4Addr::new(127, 0, 0, last)).contains(address));
    let is_resolved = ["/run/systemd/resolve", "/usr/lib/systemd/resolv.conf"]
        .iter()
        .any(|path| seen.leads_to.starts_with(path));
    if is_resolved || servers.iter().any(stub) {
        return if seen.takes_delegates {
            Resolver::Reads(Reader::Resolved)
        } else {
            Resolver::OlderResolved
        };
    }
    let Some(first) = servers.first() else {
        let is_there = !seen.resolv_conf.is_empty() || seen.leads_to != Path::new(RESOLV_CONF);
        return if is_there { Resolver::Plain(servers) } else { Resolver::Unseen };
    };
    match first {
        first if !first.is_loopback() => Resolver::Plain(servers),
        _ if runs_dnsmasq(&seen.network_manager) && seen.has_network_manager_directory => {
            Resolver::Reads(Reader::NetworkManager)
        }
        _ if !reads_directory(seen) || !seen.has_dnsmasq_directory => Resolver::Local(*first),
        _ if binds_addresses(seen) => Resolver::Reads(Reader::Dnsmasq),
        _ => Resolver::DnsmasqOfAllAddresses,
    }
}

/// In the order of resolv.conf(5).
fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let (keyword, address) = line.trim().split_once(char::is_whitespace)?;
        let address = address.split_whitespace().next()?.split('%').next()?;
        (keyword == "nameserver").then(|| address.parse().ok())?
    };
    text.lines().filter_map(server).collect()
}

/// `[main] dns=dnsmasq`, where what is said later counts (NetworkManager.conf(5)).
fn runs_dnsmasq(texts: &[String]) -> bool {
    let mut runs = false;
    for text in texts {
        let mut is_main = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with('[') {
                is_main = line == "[main]";
            } else if let Some((key, value)) = line.split_once('=').filter(|_| is_main)
                && key.trim() == "dns"
            {
                runs = value.trim() == "dnsmasq";
            }
        }
    }
    runs
}

/// `conf-dir=/etc/dnsmasq.d` in its configuration, or, as Debian has it, the same among the options of its unit.
fn reads_directory(seen: &Seen) -> bool {
    let value = |text: &str, key: &str| {
        let values = text.lines().filter_map(|line| {
            let (name, value) = line.trim().split_once('=')?;
            let value = value.split('#').next().unwrap_or_default().trim().trim_matches(['"', '\'']);
            (name.trim() == key).then(|| value.to_owned())
        });
        values.collect::<Vec<_>>()
    };
    let mut said: Vec<_> = seen.dnsmasq.iter().flat_map(|text| value(text, "conf-dir")).collect();
    said.extend(value(&seen.dnsmasq_options, "CONFIG_DIR"));
    said.iter().any(|said| takes_our_file(said))
}

/// Not the one address that stands for all of them.
fn binds_addresses(seen: &Seen) -> bool {
    let without_comment = |line: &str| line.split('#').next().unwrap_or_default().trim().to_owned();
    let in_file = |line: &str| ["bind-interfaces", "bind-dynamic"].contains(&without_comment(line).as_str());
    let in_options = |line: &str| {
        let line = without_comment(line);
        let mut words = line.split([' ', '\t', '=', '"', '\'']);
        words.any(|word| ["--bind-interfaces", "--bind-dynamic", "-z"].contains(&word))
    };
    seen.dnsmasq.iter().any(|text| text.lines().any(in_file)) || seen.dnsmasq_options.lines().any(in_options)
}

/// A directory, and behind commas the ends of names that are left out, or, with a star, the only ones that count (dnsmasq(8)).
fn takes_our_file(conf_dir: &str) -> bool {
    let mut words = conf_dir.split(',').map(str::trim).filter(|word| !word.is_empty());
    let is_it = words.next().is_some_and(|directory| Path::new(directory) == Path::new(DNSMASQ_DIRECTORY));
    let name = Reader::Dnsmasq.path().to_string_lossy();
    let (wanted, left_out): (Vec<_>, Vec<_>) = words.partition(|word| word.starts_with('*'));
    is_it
        && !left_out.iter().any(|end| name.ends_with(end))
        && (wanted.is_empty() || wanted.iter().any(|end| name.ends_with(end.trim_start_matches('*'))))
}

/// What nobody does for a person; `None` where there is nothing to do.
pub(super) fn advice(
    resolver: &Resolver,
    seen: &Seen,
    Route { domain, address, bridge }: Route,
) -> Option<String> {
    match resolver {
        Resolver::Reads(Reader::Resolved)
            if seen.leads_to == Path::new("/run/systemd/resolve/resolv.conf") =>
        {
            Some(format!(
                "{RESOLV_CONF} leads past systemd-resolved, to the servers of the uplinks: programs that read it find no pods"
            ))
        }
        Resolver::Reads(_) => None,
        Resolver::OlderResolved => Some(format!(
            "systemd-resolved takes files about single domains from systemd 258 on, and this one is older; until the next \
             start of the node it is told by: resolvectl dns {bridge} {address} && resolvectl domain {bridge} '~{domain}'"
        )),
        Resolver::DnsmasqOfAllAddresses => Some(format!(
            "dnsmasq listens on all addresses of this node, also on {address}, and only one of both can: write \
             bind-dynamic and except-interface={bridge}, a line each, into /etc/dnsmasq.d/bind.conf, type systemctl restart \
             dnsmasq, and install again"
        )),
        Resolver::Local(server) => Some(format!(
            "programs of the node ask {server}, which reads no file that we could write: have it ask {address} for \
             {domain}; in dnsmasq's configuration that is the line: server=/{domain}/{address}"
        )),
        Resolver::Plain(servers) if servers.first() == Some(&IpAddr::V4(address)) => None,
        Resolver::Plain(_) => Some(format!(
            "programs of the node read {RESOLV_CONF}, which is never changed: put this line in front of its other name \
             servers: nameserver {address}"
        )),
        Resolver::Unseen => Some(format!(
            "there is no {RESOLV_CONF} to say whom programs of the node ask for {domain}: in a container mount the host's \
             / at --root, else have its resolver ask {address}"
        )),
    }
}

#[cfg(test)]
#[path = "host_dns_tests.rs"]
mod tests;
