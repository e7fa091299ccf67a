//! Addresses that two have.
//!
//! Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::RESTART;
use super::pods::within;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::Attachment;
use crate::net::{IfName, Mac};
use crate::text::typed;

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
    G::Addresses.check("mac-duplicate", "no two on a bridge have one MAC", Broken, PODS, mac_duplicate),
    G::Addresses.check(
        "neighbour-wrong",
        "node and pods know each other's MACs",
        Broken,
        PODS,
        neighbour_wrong,
    ),
];

/// Who carries each address: the node's own interfaces, and every pod that we can look into.
fn duplicate(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let mut holders: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    let mut ours: Vec<IpAddr> = Vec::new();
    for pod in evidence.attachments()?.live() {
        ours.extend(pod.addresses().map(|address| address.ip()));
        ours.extend(pod.record.gateways().iter().map(IpNetwork::ip));
        for address in pod.pod().into_iter().flat_map(|network| &network.addresses).filter(|a| a.scope == 0) {
            let words = pod.words();
            let holders = holders.entry(address.address.ip()).or_default();
            if !holders.contains(&words) {
                holders.push(words);
            }
        }
    }
    for address in node.network.addresses.iter().filter(|address| address.scope == 0) {
        // What the node has twice is a matter of its networks (range-overlap).
        if let Some(holders) = holders.get_mut(&address.address.ip()) {
            holders.push(format!("the node's {}", node.network.name_of(address.index)));
        }
    }
    let twice = holders.into_iter().filter(|(address, holders)| holders.len() > 1 && ours.contains(address));
    let findings = twice.map(|(address, holders)| {
        let fix = match by_hand(evidence, address) {
            Some(command) => format!("{command}\nwhat is set by hand must be outside the pods' range"),
            None => "restart the pod that came later; an address that was set by hand must be outside the pods' range"
                .to_owned(),
        };
        Finding::problem(
            format!("address {address}"),
            format!("{} have it: each gets packets that are for the other", holders.join(" and ")),
            fix,
        )
    });
    Ok(findings.collect())
}

/// What takes it away from a pod that was not promised it.
fn by_hand(evidence: &Evidence, address: IpAddr) -> Option<String> {
    evidence.records().ok()?.live().find_map(|pod| {
        let inside = pod.pod()?;
        let own = inside.addresses.iter().find(|own| own.address.ip() == address)?;
        let promised = pod.addresses().any(|promised| promised.ip() == address);
        let dev = inside.name_of(own.index);
        (!promised).then(|| within(pod, &format!("ip addr del {} dev {}", own.address, typed(dev))))
    })
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

/// The MAC of a pod's interface, where it could be looked at.
fn mac_of(pod: &Attachment) -> Option<Mac> {
    pod.pod()?.link(pod.record.id.if_name.as_str())?.mac
}

/// The bridge learns one port for each MAC. Whose it is stands in the record; the other one is wrong.
fn mac_duplicate(evidence: &Evidence) -> Verdict {
    let node = &evidence.node()?.network;
    let attachments = evidence.attachments()?;
    let mut holders: BTreeMap<(&IfName, Mac), Vec<&Attachment>> = BTreeMap::new();
    for pod in attachments.live() {
        if let (Some(bridge), Some(mac)) = (pod.bridge(), mac_of(pod)) {
            holders.entry((bridge, mac)).or_default().push(pod);
        }
    }
    let mut findings = Vec::new();
    for ((bridge, mac), pods) in holders {
        let has_bridge = node.link(bridge.as_str()).is_some_and(|link| link.mac == Some(mac));
        if pods.len() + usize::from(has_bridge) < 2 {
            continue;
        }
        let mut names: Vec<_> = pods.iter().map(|pod| pod.words()).collect();
        names.extend(has_bridge.then(|| format!("bridge {bridge}")));
        let changed = pods
            .iter()
            .find_map(|pod| Some((pod, pod.record.attachment()?.pod.mac.filter(|own| *own != mac)?)));
        let fix = match changed {
            Some((pod, own)) => {
                within(pod, &format!("ip link set {} address {own}", typed(&pod.record.id.if_name)))
            }
            None => RESTART.to_owned(),
        };
        findings.push(Finding::problem(
            format!("MAC {mac}"),
            format!("{} have it on {bridge}: each gets frames that are for the other", names.join(" and ")),
            format!("{fix}\nand keep whoever sets MACs in pods from taking another one's"),
        ));
    }
    Ok(findings)
}

/// Entries that somebody set and that contradict what the pods' interfaces have. What was learned from a liar is told by who
/// answers, and the kernel verifies it by itself.
fn neighbour_wrong(evidence: &Evidence) -> Verdict {
    let node = &evidence.node()?.network;
    let attachments = evidence.attachments()?;
    let mut macs: BTreeMap<(IfName, IpAddr), Mac> = BTreeMap::new();
    for pod in attachments.live() {
        if let (Some(bridge), Some(mac)) = (pod.bridge(), mac_of(pod)) {
            macs.extend(pod.addresses().map(|address| ((bridge.clone(), address.ip()), mac)));
        }
    }
    let mut findings = Vec::new();
    for pod in attachments.live() {
        let Some(bridge) = pod.bridge() else { continue };
        let right = |address: IpAddr| macs.get(&(bridge.clone(), address)).copied();
        let gateway = pod.gateway_link().and_then(|name| node.link(name.as_str()));
        for own in pod.addresses().map(|address| address.ip()) {
            let entry = gateway.and_then(|link| {
                node.neighbours.iter().find(|entry| entry.index == link.index && entry.ip == own)
            });
            let entry = entry.filter(|entry| entry.permanent);
            let wrong =
                entry.and_then(|entry| entry.mac).filter(|mac| right(own).is_some_and(|right| right != *mac));
            if let (Some(wrong), Some(link)) = (wrong, gateway) {
                findings.push(Finding::problem(
                    pod.words(),
                    format!(
                        "the node knows its address {own} under {wrong}, and its interface has another MAC"
                    ),
                    format!("ip neigh del {own} dev {}\nsomebody set it by hand", typed(&link.name)),
                ));
            }
        }
        let Some((inside, link)) =
            pod.pod().and_then(|inside| Some((inside, inside.link(pod.record.id.if_name.as_str())?)))
        else {
            continue;
        };
        let set = inside.neighbours.iter().filter(|entry| entry.index == link.index && entry.permanent);
        let wrong = set.into_iter().find_map(|entry| {
            let (has, should) = (entry.mac?, right(entry.ip)?);
            (has != should).then_some((entry.ip, has, should))
        });
        if let Some((other, has, should)) = wrong {
            findings.push(Finding::problem(
                pod.words(),
                format!("it knows {other}, another pod, under {has}; that pod has {should}"),
                format!(
                    "{}\nsomebody set it by hand",
                    within(pod, &format!("ip neigh del {other} dev {}", typed(&link.name)))
                ),
            ));
        }
    }
    Ok(findings)
}
