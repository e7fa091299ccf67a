//! The node's name server: where pods ask it, and whether somebody answers there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::datapath::claim;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::spec::{Gateway, VlanGateway};
use crate::text::typed;

use Severity::Broken;

const WHERE: &[Need] = &[Need::Network, Need::Attachments, Need::Configuration];

pub(super) const CHECKS: &[Check] =
    &[G::Bridge.check("dns-taken", "nobody else uses the name server's address", Broken, WHERE, taken)];

/// Where pods ask, with the links that have the address: as they were promised, and as the next ones will be.
fn servers(evidence: &Evidence) -> Result<BTreeMap<Ipv4Addr, BTreeSet<String>>, Pass> {
    let mut servers: BTreeMap<Ipv4Addr, BTreeSet<String>> = BTreeMap::new();
    for want in evidence.records()?.live().filter_map(|pod| pod.record.attachment()) {
        if let Some(gateway @ Gateway { dns: Some(dns), .. }) = &want.gateway {
            servers.entry(*dns).or_default().insert(gateway.link(&want.bridge).to_string());
        }
    }
    for network in evidence.configuration()?.networks().filter(|network| network.is_ours()) {
        let Some(config) = &network.attaches else { continue };
        if let Some(dns) = config.node_dns.filter(|_| config.is_gateway) {
            let vlan = config.vlan.and_then(|vlan| VlanGateway::of(&config.bridge, vlan).ok());
            let link = vlan.map_or_else(|| config.bridge.to_string(), |vlan| vlan.name.to_string());
            servers.entry(dns).or_default().insert(link);
        }
    }
    if servers.is_empty() {
        return Err(Pass::skipped("no network has an address for the node's name server (nodeDns)"));
    }
    Ok(servers)
}

/// What the installer refuses, where it came later.
fn taken(evidence: &Evidence) -> Verdict {
    let servers = servers(evidence)?;
    let node = evidence.node()?;
    let network = &node.network;
    let uses = claim::of(
        &network.links,
        &network.addresses,
        &network.routes,
        &network.neighbours,
        &node.connections,
    );
    let mut findings = Vec::new();
    for (address, links) in servers {
        // Of several networks each knows the others as ours, by their marks.
        let Some(link) = links.first() else { continue };
        let Some(taken) = claim::taken(address, link, &uses) else { continue };
        let has = |own: &&str| {
            network.link(own).is_some_and(|own| network.addresses_of(own).iter().any(|at| at.ip() == address))
        };
        let found = match links.iter().map(String::as_str).find(has) {
            Some(own) => format!("{taken}; {own} has it as well, so that nobody on this node reaches them"),
            None => format!(
                "{taken}; no pod's bridge gets it, and who asks for names there gets no answer from here"
            ),
        };
        let fix = another(evidence, claim::free(link, &uses))?;
        findings.push(Finding::problem(format!("address {address}"), found, fix));
    }
    Ok(findings)
}

/// The installation as it was, with another address.
fn another(evidence: &Evidence, free: Option<Ipv4Addr>) -> Result<String, Pass> {
    let known = &evidence.configuration()?.installed.settings;
    let mut words = vec![super::INSTALL.to_owned()];
    for (key, text) in known.iter().filter(|(key, _)| !["dns", "take_over"].contains(&key.as_str())) {
        words.push(format!("--{} {}", key.replace('_', "-"), typed(text)));
    }
    let address = free.map_or_else(|| "off".to_owned(), |free| free.to_string());
    Ok(format!(
        "{} --dns {address}\nand the same as dns-address of the name server and as --cluster-dns of the kubelet, then \
         restart the pods; with --dns off pods ask their gateway",
        words.join(" ")
    ))
}
