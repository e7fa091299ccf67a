//! The node's side of the network: links, addresses, routes, and the switches of the kernel that belong to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::attachments::Promise;
use crate::datapath::hostports::listeners::{self, Connection, Listener};
use crate::datapath::names::lead;
use crate::datapath::survey::{self, Link, Network};
use crate::net::{Family, IfName};
use crate::spec::Mapping;

/// Asked for wherever the node is looked at.
const SWITCHES: [&str; 10] = [
    "kernel/osrelease",
    "kernel/modules_disabled",
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv4/conf/all/rp_filter",
    "net/bridge/bridge-nf-call-iptables",
    "net/bridge/bridge-nf-call-ip6tables",
    "net/netfilter/nf_conntrack_count",
    "net/netfilter/nf_conntrack_max",
    "net/ipv4/neigh/default/gc_thresh3",
];
/// Asked for of every bridge and every uplink.
const PER_LINK: [&str; 5] = [
    "net/ipv4/conf/*/forwarding",
    "net/ipv4/conf/*/rp_filter",
    "net/ipv4/conf/*/route_localnet",
    "net/ipv6/conf/*/disable_ipv6",
    "net/ipv6/conf/*/accept_ra",
];

#[derive(Clone, Debug, Default)]
pub struct Node {
    pub network: Network,
    /// By path below `/proc/sys`; what the kernel does not have is not in it.
    pub switches: BTreeMap<String, String>,
    /// Old x_tables that are loaded here, as `iptables-legacy -S` lists them.
    pub legacy_listings: Vec<LegacyListing>,
    /// Processes of the node that listen, each with its command and number where it could be found.
    pub listeners: Vec<(Listener, Option<(u32, String)>)>,
    /// Open ones with an address of which each link has its own, or with one where pods ask the name server.
    pub connections: Vec<Connection>,
    /// Ports to which questions for the name server are led, by its address.
    pub led: BTreeMap<Ipv4Addr, u16>,
}

/// A table of the old x_tables.
#[derive(Clone, Debug)]
pub struct LegacyListing {
    pub family: Family,
    pub table: String,
    pub listing: Result<String, String>,
}

impl Node {
    pub fn observe(promises: &BTreeMap<IfName, Promise>, ports: &[Mapping]) -> Result<Self, String> {
        let failed = |error: survey::Error| error.to_string();
        let network = Network::of_node().map_err(failed)?;
        let mut node = Self {
            legacy_listings: legacy_listings(&legacy()),
            listeners: listening(ports),
            connections: connections(promises),
            led: led(promises),
            network,
            ..Self::default()
        };
        node.read_switches(promises).map_err(failed)?;
        Ok(node)
    }

    fn read_switches(&mut self, promises: &BTreeMap<IfName, Promise>) -> Result<(), survey::Error> {
        let mut keys: Vec<String> = SWITCHES.map(str::to_owned).to_vec();
        let mut links: BTreeSet<String> = promises.keys().map(ToString::to_string).collect();
        links.extend(promises.values().flat_map(|promise| promise.gateways.keys().map(ToString::to_string)));
        links.extend(self.uplinks().into_iter().map(|link| link.name.clone()));
        for link in links {
            keys.extend(PER_LINK.map(|key| key.replace('*', &link)));
        }
        for key in keys {
            if let Some(value) = survey::switch(&key)? {
                self.switches.insert(key, value);
            }
        }
        Ok(())
    }

    pub fn switch(&self, key: &str) -> Option<&str> {
        self.switches.get(key).map(String::as_str)
    }

    pub fn number(&self, key: &str) -> Option<u64> {
        self.switch(key)?.parse().ok()
    }

    pub fn has_ipv6(&self) -> bool {
        self.switches.contains_key("net/ipv6/conf/all/forwarding")
    }

    /// Links with a default route, each once.
    pub fn uplinks(&self) -> Vec<&Link> {
        let mut found: Vec<&Link> = Vec::new();
        for family in Family::BOTH {
            for route in self.network.default_routes(family) {
                let link = route.index.and_then(|index| self.network.by_index(index));
                found.extend(link.filter(|link| !found.iter().any(|known| known.index == link.index)));
            }
        }
        found
    }
}

/// Of processes of the node, those that one of the ports takes clients from.
fn listening(ports: &[Mapping]) -> Vec<(Listener, Option<(u32, String)>)> {
    let found = listeners::read_only(ports);
    let inodes: BTreeSet<u64> = found.iter().map(|listener| listener.inode).collect();
    let owners = if inodes.is_empty() { BTreeMap::new() } else { listeners::owners(&inodes) };
    let owner = |listener: &Listener| owners.get(&listener.inode).cloned();
    found.into_iter().map(|listener| (listener, owner(&listener))).collect()
}

fn connections(promises: &BTreeMap<IfName, Promise>) -> Vec<Connection> {
    let servers: BTreeSet<IpAddr> =
        promises.values().flat_map(|promise| &promise.name_servers).map(IpNetwork::ip).collect();
    let is_link_local = |ip| matches!(ip, IpAddr::V4(ip) if ip.is_link_local());
    listeners::connections(|ip| is_link_local(ip) || servers.contains(&ip))
}

/// A kernel that cannot be asked leads nowhere.
fn led(promises: &BTreeMap<IfName, Promise>) -> BTreeMap<Ipv4Addr, u16> {
    if promises.values().all(|promise| promise.name_servers.is_empty()) {
        return BTreeMap::new();
    }
    lead::led_here().unwrap_or_default()
}

/// The namespace of the calling thread; `/proc/net` would be the main thread's.
fn legacy() -> Vec<(Family, String)> {
    let mut found = Vec::new();
    for (family, file) in [(Family::V4, "ip_tables_names"), (Family::V6, "ip6_tables_names")] {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        found.extend(text.lines().map(|table| (family, table.to_owned())));
    }
    found
}

fn legacy_listings(loaded: &[(Family, String)]) -> Vec<LegacyListing> {
    let listed = loaded.iter().map(|(family, table)| LegacyListing {
        family: *family,
        table: table.clone(),
        listing: survey::legacy_listing(*family, table).map_err(|error| error.to_string()),
    });
    listed.collect()
}
