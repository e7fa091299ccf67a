//! Addresses that two have.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::net::Mac;

use Severity::Broken;

const PODS: &[Need] = &[Need::Network, Need::Attachments];

pub(super) const CHECKS: &[Check] = &[
    G::Addresses.check("address-duplicate", "no two pods have one address", Broken, PODS, duplicate),
    G::Addresses.check(
        "address-claimed",
        "nobody else answers for addresses of pods and gateways",
        Broken,
        &[Need::Attachments, Need::Packets],
        claimed,
    ),
];

/// Who carries each address: the node's own interfaces, and every pod that we can look into.
fn duplicate(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let mut holders: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    let mut ours: Vec<IpAddr> = Vec::new();
    for pod in evidence.attachments()?.live() {
        ours.extend(pod.addresses().map(|address| address.ip()));
        for address in pod.pod().into_iter().flat_map(|network| &network.addresses).filter(|a| a.scope == 0) {
            let words = pod.words();
            let holders = holders.entry(address.address.ip()).or_default();
            if !holders.contains(&words) {
                holders.push(words);
            }
        }
    }
    for address in node.network.addresses.iter().filter(|address| address.scope == 0) {
        holders
            .entry(address.address.ip())
            .or_default()
            .push(format!("the node's {}", node.network.name_of(address.index)));
    }
    let twice = holders.into_iter().filter(|(address, holders)| holders.len() > 1 && ours.contains(address));
    let findings = twice.map(|(address, holders)| {
        Finding::problem(
            format!("address {address}"),
            format!("{} have it: each gets packets that are for the other", holders.join(" and ")),
            "restart the pod that came later; an address that was set by hand must be outside the pods' range",
        )
    });
    Ok(findings.collect())
}

/// Whoever answers for a gateway's address is not the node; whoever answers for a pod's must have the pod's MAC.
fn claimed(evidence: &Evidence) -> Verdict {
    let attachments = evidence.attachments()?;
    let packets = evidence.packets()?;
    if packets.answers.is_empty() {
        return Err(Pass::skipped("there is no bridge on which to ask"));
    }
    let mut owners: BTreeMap<IpAddr, Vec<Mac>> = BTreeMap::new();
    for pod in attachments.live() {
        let Some(inside) = pod.pod() else { continue };
        for address in &inside.addresses {
            let mac = inside.by_index(address.index).and_then(|link| link.mac);
            owners.entry(address.address.ip()).or_default().extend(mac);
        }
    }
    let mut findings = Vec::new();
    for (link, answers) in &packets.answers {
        for (address, mac) in answers {
            let address = IpAddr::V4(*address);
            if !owners.get(&address).is_some_and(|macs| macs.contains(mac)) {
                findings.push(Finding::problem(
                    format!("address {address}"),
                    format!(
                        "{mac} answers for it on {link}, and is neither the node nor the pod that has the \
                         address"
                    ),
                    format!(
                        "find it (bridge fdb show br {link} | grep {mac}) and give it an address outside the \
                         pods' range"
                    ),
                ));
            }
        }
    }
    Ok(findings)
}
