//! The bridges that pods hang on.
//!
//! Pure.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::{PLAN, RECONCILE};
use crate::datapath::mark::BridgeMark;
use crate::datapath::survey::{Link, Network, OperState};
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::{Attachment, Promise};
use crate::doctor::planned;
use crate::net::IfName;
use crate::text::typed;

use Severity::{Broken, Warning};

const BRIDGES: &[Need] = &[Need::Network, Need::Attachments];

pub(super) const CHECKS: &[Check] = &[
    G::Bridge.planned("bridge-missing", "the bridge of every pod is there", Broken, PLAN),
    G::Bridge.check(
        "bridge-kind",
        "what has the bridge's name is a bridge",
        Broken,
        &[Need::Network, Need::Attachments, Need::Configuration],
        kind,
    ),
    G::Bridge.planned("bridge-down", "the bridge is up", Broken, PLAN),
    G::Bridge.check("bridge-carrier", "the bridge has a carrier", Broken, BRIDGES, carrier),
    G::Bridge.check(
        "bridge-gateway",
        "the bridge has the gateway addresses",
        Broken,
        &[Need::Plan, Need::Network, Need::Attachments],
        gateway,
    ),
    G::Bridge.planned("dns-address", "pods find the node's name server where they ask it", Broken, PLAN),
    G::Bridge.planned("dns-lead", "questions reach the port that the name server has", Broken, PLAN),
    G::Bridge.planned(
        "dns-intercept",
        "what pods ask of others comes to the name server where that was promised",
        Broken,
        PLAN,
    ),
    G::Bridge.planned(
        "bridge-promiscuous",
        "the bridge is promiscuous where that was promised",
        Warning,
        PLAN,
    ),
    G::Bridge.planned("bridge-advertisements", "no pod gives the node a default route", Broken, PLAN),
    G::Bridge.planned("mark-missing", "bridges and ports say whose they are", Warning, PLAN),
    G::Bridge.check(
        "bridge-foreign-address",
        "nobody else gave the bridge an address",
        Warning,
        &[Need::Network, Need::Attachments, Need::Plan],
        foreign_address,
    ),
    G::Bridge.check(
        "bridge-mac",
        "the bridge has the MAC that pods know",
        Broken,
        &[Need::Plan, Need::Network, Need::Attachments],
        mac,
    ),
    G::Bridge.check("bridge-stp", "the bridge forwards at once", Warning, BRIDGES, spanning_tree),
];

/// Every bridge that pods hang on and that is there and is one.
pub(super) fn bridges(evidence: &Evidence) -> Result<Vec<(IfName, Promise, &Link)>, Pass> {
    let network = &evidence.node()?.network;
    let found = evidence.attachments()?.promises().into_iter().filter_map(|(name, promise)| {
        let link = network.link(name.as_str()).filter(|link| is_bridge(link))?;
        Some((name, promise, link))
    });
    let found: Vec<_> = found.collect();
    if found.is_empty() { Err(Pass::skipped("there is no bridge to look at")) } else { Ok(found) }
}

fn is_bridge(link: &Link) -> bool {
    link.kind.as_deref() == Some("bridge")
}

pub(super) fn object(name: &IfName) -> String {
    format!("bridge {name}")
}

pub(super) fn plural(count: usize, one: &'static str, many: &'static str) -> &'static str {
    if count == 1 { one } else { many }
}

fn kind(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    let mut names: Vec<String> = evidence.records()?.promises().keys().map(ToString::to_string).collect();
    let configured = evidence.configuration()?.networks();
    names.extend(configured.filter(|network| network.is_ours()).filter_map(|network| network.bridge.clone()));
    names.sort_unstable();
    names.dedup();
    let wrong = names.iter().filter_map(|name| network.link(name)).filter(|link| !is_bridge(link));
    let findings = wrong.map(|link| {
        let kind = link.kind.as_deref().unwrap_or("a hardware interface");
        Finding::problem(
            format!("bridge {}", link.name),
            format!("the link of that name is {kind} and no bridge: no pod can be attached"),
            match link.kind {
                Some(_) => format!(
                    "ip link del {0} && {RECONCILE}\nif nobody needs it; or: ip link set {0} down name other0; or give \
                     the network another bridge",
                    typed(&link.name)
                ),
                None => "give the network another bridge in its configuration, or the interface another name".to_owned(),
            },
        )
    });
    Ok(findings.collect())
}

/// A bridge has a carrier as long as one of its ports forwards.
fn carrier(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    let mut findings = Vec::new();
    for (name, _, link) in bridges(evidence)?.into_iter().filter(|(.., link)| link.up) {
        let ports = ports(network, link);
        let usable = ports.iter().filter(|port| port.up && port.state == OperState::Up).count();
        // Without a usable port it is the ports that are to blame, and they have checks of their own.
        if usable > 0
            && matches!(link.state, OperState::Down | OperState::LowerLayerDown | OperState::Dormant)
        {
            findings.push(Finding::problem(
                object(&name),
                format!(
                    "it has no carrier (state {}), though {usable} of its ports have: no port forwards yet",
                    link.state
                ),
                let_pass(&name, link, &ports),
            ));
        }
    }
    Ok(findings)
}

/// Without the spanning tree protocol a port forwards as soon as it may.
fn let_pass(name: &IfName, bridge: &Link, ports: &[&Link]) -> String {
    if bridge.spanning_tree == Some(true) {
        return format!("ip link set {} type bridge stp_state 0", typed(name));
    }
    let held = ports.iter().filter(|port| port.forwarding == Some(false));
    let commands: Vec<_> =
        held.map(|port| format!("bridge link set dev {} state 3", typed(&port.name))).collect();
    if commands.is_empty() {
        return format!(
            "ip link set {0} down && ip link set {0} up\nso that the bridge looks at its ports again",
            typed(name)
        );
    }
    format!("{}\nand keep whoever blocked them away from pods' ports", commands.join(" && "))
}

pub(super) fn ports<'a>(network: &'a Network, bridge: &Link) -> Vec<&'a Link> {
    network.links.iter().filter(|link| link.master == Some(bridge.index)).collect()
}

/// An address that IPv6 is switched off for has a check of its own.
fn gateway(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let mut findings = planned::verdict(evidence, "bridge-gateway")?;
    let is_off = |bridge: &str| {
        let switch = node.switch(&format!("net/ipv6/conf/{bridge}/disable_ipv6"));
        switch.is_some_and(|switch| switch != "0")
    };
    findings.retain(|finding| match finding {
        Finding::Problem { object, found, .. } => {
            !(object.strip_prefix("bridge ").is_some_and(is_off) && found.contains("::"))
        }
        Finding::Unknown { .. } => true,
    });
    for (link, address) in refused_gateways(evidence)? {
        findings.push(Finding::problem(
            format!("bridge {link}"),
            format!(
                "it has {address} and does not use it: somebody else answered for it when the address came \
                 (duplicate address detection, dadfailed)"
            ),
            format!(
                "ip -6 addr del {address} dev {0} && {RECONCILE}\nonce nobody else answers for it; who does: bridge fdb \
                 show br {0}",
                typed(&link)
            ),
        ));
    }
    Ok(findings)
}

/// Addresses of gateways that are there and that the kernel does not use.
fn refused_gateways(evidence: &Evidence) -> Result<Vec<(IfName, IpNetwork)>, Pass> {
    let network = &evidence.node()?.network;
    let mut found = Vec::new();
    for (link, wanted) in evidence.records()?.promises().into_values().flat_map(|promise| promise.gateways) {
        let index = network.link(link.as_str()).map(|link| link.index);
        let failed = network.addresses.iter().filter(|own| Some(own.index) == index && own.dad_failed);
        let failed = failed.filter(|own| wanted.contains(&own.address));
        found.extend(failed.map(|own| (link.clone(), own.address)));
    }
    Ok(found)
}

pub(super) fn is_link_local(address: IpNetwork) -> bool {
    match address {
        IpNetwork::V4(v4) => v4.ip().is_link_local(),
        IpNetwork::V6(v6) => v6.ip().is_unicast_link_local(),
    }
}

/// An address that neither the mark nor a promise names. Those of managers (169.254.0.0/16) are the usual ones. One that an
/// earlier configuration of ours left is in the plan.
fn foreign_address(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    let mut findings = planned::findings(evidence, "bridge-foreign-address")?;
    for (_, promise, bridge) in bridges(evidence)? {
        let mark = bridge.alias.as_deref().and_then(BridgeMark::parse).unwrap_or_default();
        let mut links: BTreeMap<&str, &Link> = BTreeMap::from([(bridge.name.as_str(), bridge)]);
        links.extend(
            promise.gateways.keys().filter_map(|name| Some((name.as_str(), network.link(name.as_str())?))),
        );
        for (name, link) in links {
            let promised = promise.gateways.iter().filter(|(gateway, _)| gateway.as_str() == name);
            let known: Vec<IpNetwork> = promised
                .flat_map(|(_, addresses)| addresses)
                .chain(&promise.name_servers)
                .chain(&mark.gateways)
                .copied()
                .collect();
            for address in network.addresses_of(link).into_iter().filter(|address| !known.contains(address)) {
                if address.is_ipv6() && is_link_local(address) {
                    continue;
                }
                let whose =
                    if is_link_local(address) { "; a network manager gives such addresses" } else { "" };
                findings.push(Finding::problem(
                    format!("bridge {name}"),
                    format!("it has {address}, which no pod was promised{whose}"),
                    format!(
                        "ip addr del {address} dev {}\nand keep whoever put it there away from the bridge",
                        typed(name)
                    ),
                ));
            }
        }
    }
    Ok(findings)
}

/// The record is the witness of what the MAC was, never a pod: what a pod remembers anybody on the bridge may have told it.
/// A MAC that we derive is in the plan.
fn mac(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    let mut findings = planned::findings(evidence, "bridge-mac")?;
    let mut known: Vec<IfName> = Vec::new();
    for pod in evidence.attachments()?.live() {
        let Some(want) = pod.record.attachment() else { continue };
        let (name, wanted) = (&want.bridge.name, want.bridge.mac);
        let gateway = pod.gateway_link().as_ref() == Some(name);
        let mac = network.link(name.as_str()).filter(|link| is_bridge(link)).and_then(|link| link.mac);
        let Some(mac) = mac.filter(|mac| *mac != wanted && gateway) else { continue };
        // Whoever came after the change was promised what is there now.
        let accepted = |other: &Attachment| {
            let other = other.record.attachment();
            other.is_some_and(|other| other.bridge.name == *name && other.bridge.mac == mac)
        };
        if known.contains(name)
            || findings.iter().any(|finding| finding.object() == object(name))
            || evidence.attachments()?.live().any(accepted)
        {
            continue;
        }
        known.push(name.clone());
        findings.push(Finding::problem(
            object(name),
            format!("its MAC is {mac}, and its pods were promised {wanted} for their gateway"),
            format!(
                "ip link set {} address {wanted}\nwhoever changes MACs of bridges (a network manager, \
                 MACAddressPolicy= of systemd.link) must leave this one alone",
                typed(name)
            ),
        ));
    }
    Ok(findings)
}

fn spanning_tree(evidence: &Evidence) -> Verdict {
    let on = bridges(evidence)?.into_iter().filter(|(.., link)| link.spanning_tree == Some(true));
    let findings = on.map(|(name, ..)| {
        Finding::problem(
            object(&name),
            "the spanning tree protocol is on: a new pod is cut off for its first 30 seconds",
            format!("ip link set {} type bridge stp_state 0", typed(&name)),
        )
    });
    Ok(findings.collect())
}
