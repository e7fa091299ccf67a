//! Who is on a bridge: ports of pods, with what they were promised, and strangers.
//!
//! Pure.

use super::PLAN;
use super::bridge::{bridges, is_link_local, object, ports};
use crate::datapath::mark::OWNER;
use crate::datapath::survey::Link;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::net::IfName;
use crate::text::typed;

use Severity::{Broken, Warning};

const BRIDGES: &[Need] = &[Need::Network, Need::Attachments];

pub(super) const CHECKS: &[Check] = &[
    G::Bridge.check("bridge-uplink", "no uplink is a port of the bridge", Broken, BRIDGES, enslaved_uplink),
    G::Bridge.check("bridge-foreign-port", "the bridge has our ports only", Warning, BRIDGES, foreign_port),
    G::Bridge.check(
        "bridge-vlan",
        "the bridge filters VLANs where pods need it",
        Broken,
        BRIDGES,
        vlan_filtering,
    ),
    G::Bridge.planned(
        "port-hairpin",
        "ports send back where that was promised, and only there",
        Warning,
        PLAN,
    ),
    G::Bridge.planned(
        "port-isolation",
        "ports are isolated where that was promised, and only there",
        Broken,
        PLAN,
    ),
    G::Bridge.check("port-flags", "ports learn and flood as bridges do", Broken, BRIDGES, flags),
    G::Bridge.planned("port-vlan", "ports are in the VLANs that were promised", Broken, PLAN),
    G::Bridge.planned("port-foreign", "nobody gave a pod's port addresses or routes", Warning, PLAN),
];

/// Ports that are not host ends of ours, and whether each leads out of the node.
fn strangers<'a>(
    evidence: &'a Evidence,
    name: &IfName,
    bridge: &Link,
) -> Result<Vec<(&'a Link, bool)>, Pass> {
    let node = evidence.node()?;
    let attachments = evidence.records()?;
    let ours = |port: &Link| {
        port.alias.as_deref().is_some_and(|alias| alias.starts_with(OWNER))
            || attachments.all.iter().any(|pod| pod.record.attachment().is_some_and(|want| want.port.name.as_str() == port.name))
            // The port of a VLAN's gateway: `<bridge>.<vlan>` on one side, a name derived from it on the other.
            || port.peer.and_then(|peer| node.network.by_index(peer)).is_some_and(|peer| peer.name.starts_with(&format!("{name}.")))
    };
    let uplink = |port: &Link| {
        let addressed = node.network.addresses_of(port).into_iter().any(|address| !is_link_local(address));
        port.kind.is_none()
            || addressed
            || node.network.routes.iter().any(|route| route.index == Some(port.index) && route.gw.is_some())
    };
    let ports = ports(&node.network, bridge).into_iter().filter(|port| !ours(port));
    Ok(ports.map(|port| (port, uplink(port))).collect())
}

fn enslaved_uplink(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for (name, _, bridge) in bridges(evidence)? {
        for (port, _) in strangers(evidence, &name, bridge)?.into_iter().filter(|(_, uplink)| *uplink) {
            findings.push(Finding::problem(
                object(&name),
                format!(
                    "{} is one of its ports: pods are in the network behind it, and the node's own address there \
                     is dead",
                    port.name
                ),
                format!("ip link set {} nomaster", typed(&port.name)),
            ));
        }
    }
    Ok(findings)
}

fn foreign_port(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for (name, _, bridge) in bridges(evidence)? {
        for (port, _) in strangers(evidence, &name, bridge)?.into_iter().filter(|(_, uplink)| !*uplink) {
            findings.push(Finding::problem(
                object(&name),
                format!(
                    "its port {} belongs to no pod of ours: whoever is behind it is in the pods' network",
                    port.name
                ),
                format!("ip link set {} nomaster\nunless you put it there", typed(&port.name)),
            ));
        }
    }
    Ok(findings)
}

fn vlan_filtering(evidence: &Evidence) -> Verdict {
    let bridges = bridges(evidence)?;
    if !bridges.iter().any(|(_, promise, _)| promise.vlan_filtering) {
        return Err(Pass::skipped("no pod is in a VLAN"));
    }
    let off = bridges
        .into_iter()
        .filter(|(_, promise, link)| promise.vlan_filtering && link.vlan_filtering != Some(true));
    let findings = off.map(|(name, ..)| {
        Finding::problem(
            object(&name),
            "pods were promised VLANs, and it does not filter by VLAN: all of them are in one network",
            format!("ip link set {} type bridge vlan_filtering 1", typed(&name)),
        )
    });
    Ok(findings.collect())
}

/// What a port does with frames unless somebody says otherwise. A pod that is silent is found by flooding alone.
fn flags(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    bridges(evidence)?;
    let mut findings = Vec::new();
    for pod in evidence.attachments()?.live() {
        let host_if = pod.record.attachment().map(|want| &want.port.name);
        let Some(port) = host_if.and_then(|name| network.link(name.as_str())) else { continue };
        let switches = [
            (port.learning == Some(false), "learning", "on", "the bridge never learns where the pod is"),
            (port.flood == Some(false), "flood", "on", "frames for a pod that has been silent are lost"),
            (port.broadcast_flood == Some(false), "bcast_flood", "on", "nobody finds the pod by ARP"),
            (
                port.multicast_flood == Some(false),
                "mcast_flood",
                "on",
                "nobody finds the pod by neighbour discovery",
            ),
            (
                port.locked == Some(true),
                "locked",
                "off",
                "what the pod sends is dropped unless its MAC was entered by hand",
            ),
        ];
        let wrong: Vec<_> = switches.into_iter().filter(|(wrong, ..)| *wrong).collect();
        if wrong.is_empty() {
            continue;
        }
        let is = |right: &str| if right == "on" { "off" } else { "on" };
        let found: Vec<_> =
            wrong.iter().map(|(_, flag, right, lost)| format!("{flag} is {}: {lost}", is(right))).collect();
        let set: Vec<_> = wrong.iter().map(|(_, flag, right, _)| format!("{flag} {right}")).collect();
        findings.push(Finding::problem(
            pod.words(),
            format!("of its port {}: {}", port.name, found.join("; ")),
            format!("bridge link set dev {} {}", typed(&port.name), set.join(" ")),
        ));
    }
    Ok(findings)
}
