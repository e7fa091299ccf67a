//! What was promised to pods, and what their namespaces look like.
//!
//! The promises are the attachment records of this boot. An ADD that is under way is left alone: what is younger than the
//! grace time and not complete is none of our business.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;

use crate::datapath::session::Netns;
use crate::datapath::survey::{Network, OpenError};
use crate::host::root::Root;
use crate::net::{Family, IfName, network_of};
use crate::spec::{self, Mapping};
use crate::state::holders::{GRACE, NetnsId};
use crate::state::record;
use crate::state::{BootId, Record, Records, boot};

/// Whose records describe an attachment and whose describe its ports.
const MAIN: &str = "bridge";
const PORTS: &str = "portmap";

#[derive(Clone, Debug, Default)]
pub struct Attachments {
    pub all: Vec<Attachment>,
    /// Ports of the node that lead to pods, whichever plugin attached those.
    pub ported: Vec<Ported>,
    /// Record files of this boot that cannot be read, with the reason.
    pub damaged: Vec<(String, String)>,
    /// A plugin or a repair holds one of the records: what was seen of its pod is half of something.
    pub under_way: bool,
}

/// One complete attachment of ours.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub record: Record,
    pub sandbox: Sandbox,
}

/// The ports of one attachment.
#[derive(Clone, Debug)]
pub struct Ported {
    pub record: Record,
    pub mappings: Vec<Mapping>,
    pub live: bool,
}

/// The pod's network namespace.
#[derive(Clone, Debug)]
pub enum Sandbox {
    Seen(Box<Network>),
    /// Nothing is at the path any more, or another namespace is.
    Gone,
    Unreadable(String),
    /// The runtime gave no path.
    Nowhere,
}

/// What pods on one bridge were promised together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Promise {
    /// Addresses of the node on the bridge, or on the interface of a VLAN.
    pub gateways: BTreeMap<IfName, BTreeSet<IpNetwork>>,
    /// Where the name server of the node is asked, beside them.
    pub name_servers: BTreeSet<IpNetwork>,
    /// Networks of the pods' addresses, each with the address of one of the pods.
    pub subnets: BTreeMap<IpNetwork, IpAddr>,
    pub vlan_filtering: bool,
    pub masqueraded: BTreeSet<(String, IpNetwork)>,
}

impl Promise {
    /// Where pods find the node's name server, gateways included; nowhere in a network without it.
    pub fn asked_at(&self) -> Vec<IpAddr> {
        if self.name_servers.is_empty() {
            return Vec::new();
        }
        let gateways = self.gateways.values().flatten();
        self.name_servers.iter().chain(gateways).map(IpNetwork::ip).collect()
    }
}

/// `pod default/web-0`, or `container 3f1c2a9b07dd`.
pub fn words(record: &Record) -> String {
    let name = record.display_name();
    if name == record.id.container {
        return format!("container {}", name.get(..12).unwrap_or(&name));
    }
    format!("pod {name}")
}

impl Attachment {
    pub fn words(&self) -> String {
        words(&self.record)
    }

    pub fn pod(&self) -> Option<&Network> {
        match &self.sandbox {
            Sandbox::Seen(network) => Some(network),
            _ => None,
        }
    }

    pub fn is_live(&self) -> bool {
        !matches!(self.sandbox, Sandbox::Gone)
    }

    /// Whether it was promised a place on the bridge that is so.
    pub fn wants(&self, is_so: impl Fn(&spec::Attachment) -> bool) -> bool {
        self.record.attachment().is_some_and(is_so)
    }

    /// The bridge that the pod was promised a place on.
    pub fn bridge(&self) -> Option<&IfName> {
        self.record.attachment().map(|want| &want.bridge.name)
    }

    pub fn addresses(&self) -> impl Iterator<Item = IpNetwork> {
        self.record.addresses().iter().copied()
    }

    /// The interface of the node that has the gateway addresses.
    pub fn gateway_link(&self) -> Option<IfName> {
        let want = self.record.attachment()?;
        let gateway = want.gateway.as_ref().filter(|gateway| !gateway.addresses.is_empty())?;
        Some(gateway.vlan.as_ref().map_or_else(|| want.bridge.name.clone(), |vlan| vlan.name.clone()))
    }
}

impl Attachments {
    /// Those whose namespace is not known to be gone.
    pub fn live(&self) -> impl Iterator<Item = &Attachment> {
        self.all.iter().filter(|attachment| attachment.is_live())
    }

    /// By bridge.
    pub fn promises(&self) -> BTreeMap<IfName, Promise> {
        let mut promises: BTreeMap<IfName, Promise> = BTreeMap::new();
        for pod in self.live() {
            let Some(want) = pod.record.attachment() else { continue };
            let promise = promises.entry(want.bridge.name.clone()).or_default();
            promise.vlan_filtering |= want.bridge.vlan_filtering;
            promise.subnets.extend(pod.addresses().map(|address| (network_of(address), address.ip())));
            if let Some(link) = pod.gateway_link() {
                promise.gateways.entry(link).or_default().extend(pod.record.gateways());
            }
            let dns = want.gateway.as_ref().and_then(|gateway| gateway.dns);
            promise.name_servers.extend(dns.map(|dns| IpNetwork::from(IpAddr::V4(dns))));
            let network = &want.id.network;
            promise.masqueraded.extend(want.masquerade.iter().map(|subnet| (network.clone(), *subnet)));
        }
        promises
    }

    /// The ports of the node that lead to pods.
    pub fn ports(&self) -> Vec<Mapping> {
        let live = self.ported.iter().filter(|ported| ported.live);
        live.flat_map(|ported| ported.mappings.iter().copied()).collect()
    }

    /// Families in which the node routes for pods.
    pub fn routed(&self) -> Vec<Family> {
        let gateways = || self.live().flat_map(|attachment| attachment.record.gateways());
        let routed = |family: &Family| gateways().any(|gateway| Family::of(gateway.ip()) == *family);
        Family::BOTH.into_iter().filter(routed).collect()
    }
}

/// Reads records and visits every namespace they name.
pub fn load(root: &Root) -> Result<Attachments, String> {
    let failed = |error: &dyn std::fmt::Display| error.to_string();
    let boot = BootId::current().map_err(|error| failed(&error))?;
    let directory = root.locate(Path::new(record::ROOT)).map_err(|error| failed(&error))?;
    let records = Records::at(&directory, boot);
    let all = records.all().map_err(|error| failed(&error))?;
    let now = boot::boottime();
    let mut found = Attachments {
        damaged: records.damaged().map_err(|error| failed(&error))?,
        under_way: all.iter().any(|record| records.is_locked(&record.id, &record.plugin)),
        ..Attachments::default()
    };
    for record in all.iter().filter(|record| record.plugin == MAIN) {
        if !record.complete && now < record.created() + GRACE {
            continue;
        }
        found.all.push(Attachment { record: record.clone(), sandbox: visit(root, record) });
    }
    for record in all.iter().filter(|record| record.plugin == PORTS && record.complete) {
        let live = !is_gone(root, record);
        found.ported.push(Ported { record: record.clone(), mappings: record.mappings().to_vec(), live });
    }
    Ok(found)
}

/// As the host's path leads to it for us. `None` without a path, and for one that led nowhere at the ADD: proves nothing.
fn here(root: &Root, record: &Record) -> Option<(String, NetnsId)> {
    let path = root.locate(Path::new(record.netns.as_ref()?)).ok()?;
    Some((path.to_string_lossy().into_owned(), record.netns_id?))
}

fn is_gone(root: &Root, record: &Record) -> bool {
    here(root, record).is_some_and(|(path, id)| NetnsId::of(&path) != Some(id))
}

fn visit(root: &Root, record: &Record) -> Sandbox {
    let Some((here, id)) = here(root, record) else { return Sandbox::Nowhere };
    if NetnsId::of(&here) != Some(id) {
        return Sandbox::Gone;
    }
    match Netns::open(&here) {
        Ok(netns) => match Network::of_pod(&netns) {
            Ok(network) => Sandbox::Seen(Box::new(network)),
            Err(error) => Sandbox::Unreadable(error.to_string()),
        },
        Err(OpenError::Gone(_) | OpenError::NotNamespace(_)) => Sandbox::Gone,
        Err(OpenError::Other(error)) => Sandbox::Unreadable(error.to_string()),
    }
}
