//! The bridges that pods hang on.

use std::collections::BTreeMap;

use ipnetwork::IpNetwork;

use super::RECONCILE;
use crate::datapath::mark::BridgeMark;
use crate::datapath::survey::{Link, Network, OperState};
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::{Attachment, Promise};
use crate::net::{Family, IfName};

use Severity::{Broken, Warning};

const BRIDGES: &[Need] = &[Need::Network, Need::Attachments];

pub(super) const CHECKS: &[Check] = &[
    G::Bridge.check("bridge-missing", "the bridge of every pod is there", Broken, BRIDGES, missing),
    G::Bridge.check(
        "bridge-kind",
        "what has the bridge's name is a bridge",
        Broken,
        &[Need::Network, Need::Attachments, Need::Configuration],
        kind,
    ),
    G::Bridge.check("bridge-down", "the bridge is up", Broken, BRIDGES, down),
    G::Bridge.check("bridge-carrier", "the bridge has a carrier", Broken, BRIDGES, carrier),
    G::Bridge.check("bridge-gateway", "the bridge has the gateway addresses", Broken, BRIDGES, gateway),
    G::Bridge.check(
        "bridge-foreign-address",
        "nobody else gave the bridge an address",
        Warning,
        BRIDGES,
        foreign_address,
    ),
    G::Bridge.check("bridge-mac", "pods know the bridge's MAC", Broken, BRIDGES, mac),
    G::Bridge.check("bridge-stp", "the bridge forwards at once", Warning, BRIDGES, spanning_tree),
    G::Bridge.check("bridge-mtu", "the bridge's MTU fits the uplink", Warning, BRIDGES, mtu),
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

fn missing(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    let attachments = evidence.attachments()?;
    let gone = attachments.promises().into_keys().filter(|name| network.link(name.as_str()).is_none());
    let findings = gone.map(|name| {
        let on_it = |pod: &&Attachment| pod.record.promised.bridge.as_ref() == Some(&name);
        let pods = attachments.live().filter(on_it).count();
        Finding::problem(
            object(&name),
            format!("there is no such link, and {pods} running {} hang on it", plural(pods, "pod", "pods")),
            format!("{RECONCILE}\nmakes it anew, and puts the pods back on it"),
        )
    });
    Ok(findings.collect())
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
                    link.name
                ),
                None => "give the network another bridge in its configuration, or the interface another name".to_owned(),
            },
        )
    });
    Ok(findings.collect())
}

fn down(evidence: &Evidence) -> Verdict {
    let down = bridges(evidence)?.into_iter().filter(|(.., link)| !link.up);
    let findings =
        down.map(|(name, ..)| Finding::problem(object(&name), "it is down: no packet passes", RECONCILE));
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
        return format!("ip link set {name} type bridge stp_state 0");
    }
    let held = ports.iter().filter(|port| port.forwarding == Some(false));
    let commands: Vec<_> = held.map(|port| format!("bridge link set dev {} state 3", port.name)).collect();
    format!("{}\nand keep whoever blocked them away from pods' ports", commands.join(" && "))
}

pub(super) fn ports<'a>(network: &'a Network, bridge: &Link) -> Vec<&'a Link> {
    network.links.iter().filter(|link| link.master == Some(bridge.index)).collect()
}

/// Gateway addresses by the interface that has them: the bridge, or that of a VLAN.
fn gateway(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    let without_ipv6 = |link: &IfName| {
        evidence
            .node()
            .is_ok_and(|node| node.switch(&format!("net/ipv6/conf/{link}/disable_ipv6")) != Some("0"))
    };
    let mut findings = Vec::new();
    for (_, promise, _) in bridges(evidence)? {
        for (name, wanted) in &promise.gateways {
            let Some(link) = network.link(name.as_str()) else {
                findings.push(Finding::problem(
                    object(name),
                    "the interface that has the gateway address of a VLAN is missing",
                    RECONCILE,
                ));
                continue;
            };
            let has = network.addresses_of(link);
            for address in wanted.iter().filter(|address| !has.contains(address)) {
                // That has a check of its own.
                if address.is_ipv6() && without_ipv6(name) {
                    continue;
                }
                let instead: Vec<_> = has
                    .iter()
                    .filter(|other| {
                        Family::of(other.ip()) == Family::of(address.ip()) && !is_link_local(**other)
                    })
                    .map(ToString::to_string)
                    .collect();
                let instead = if instead.is_empty() {
                    String::new()
                } else {
                    format!("; it has {}", instead.join(", "))
                };
                findings.push(Finding::problem(
                    object(name),
                    format!(
                        "the gateway address {address} is missing{instead}: pods reach nothing beyond their \
                         subnet"
                    ),
                    RECONCILE,
                ));
            }
        }
    }
    Ok(findings)
}

pub(super) fn is_link_local(address: IpNetwork) -> bool {
    match address {
        IpNetwork::V4(v4) => v4.ip().is_link_local(),
        IpNetwork::V6(v6) => v6.ip().is_unicast_link_local(),
    }
}

/// An address that neither the mark nor a promise names. Those of managers (169.254.0.0/16) are the usual ones.
fn foreign_address(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    let mut findings = Vec::new();
    for (_, promise, bridge) in bridges(evidence)? {
        let mark = bridge.alias.as_deref().and_then(BridgeMark::parse).unwrap_or_default();
        let mut links: BTreeMap<&str, &Link> = BTreeMap::from([(bridge.name.as_str(), bridge)]);
        links.extend(
            promise.gateways.keys().filter_map(|name| Some((name.as_str(), network.link(name.as_str())?))),
        );
        for (name, link) in links {
            let promised = promise.gateways.iter().filter(|(gateway, _)| gateway.as_str() == name);
            let known: Vec<IpNetwork> =
                promised.flat_map(|(_, addresses)| addresses).chain(&mark.gateways).copied().collect();
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
                        "ip addr del {address} dev {name}\nand keep whoever put it there away from the bridge"
                    ),
                ));
            }
        }
    }
    Ok(findings)
}

/// Pods that remember another MAC for their gateway talk to nobody until the entry expires.
fn mac(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    let bridges = bridges(evidence)?;
    let mut findings: Vec<Finding> = Vec::new();
    for pod in evidence.attachments()?.live() {
        let (Some(inside), Some(name)) = (pod.pod(), pod.gateway_link()) else { continue };
        let on_bridge =
            bridges.iter().any(|(bridge, ..)| pod.record.promised.bridge.as_ref() == Some(bridge));
        let Some(mac) = network.link(name.as_str()).filter(|_| on_bridge).and_then(|link| link.mac) else {
            continue;
        };
        for gateway in &pod.record.promised.gateways {
            let entry = inside.neighbours.iter().find(|neighbour| neighbour.ip == gateway.ip());
            let Some(remembered) = entry.and_then(|entry| entry.mac).filter(|remembered| *remembered != mac)
            else {
                continue;
            };
            let object = object(&name);
            let known = findings
                .iter()
                .any(|finding| matches!(finding, Finding::Problem { object: o, .. } if *o == object));
            if !known {
                findings.push(Finding::problem(
                    object,
                    format!(
                        "its MAC is {mac}, and {} knows the gateway {} under {remembered}",
                        pod.words(),
                        gateway.ip()
                    ),
                    format!(
                        "ip link set {name} address {remembered}\nwhoever changes MACs of bridges (a network \
                         manager, MACAddressPolicy= of systemd.link) must leave this one alone"
                    ),
                ));
            }
        }
    }
    Ok(findings)
}

fn spanning_tree(evidence: &Evidence) -> Verdict {
    let on = bridges(evidence)?.into_iter().filter(|(.., link)| link.spanning_tree == Some(true));
    let findings = on.map(|(name, ..)| {
        Finding::problem(
            object(&name),
            "the spanning tree protocol is on: a new pod is cut off for its first 30 seconds",
            format!("ip link set {name} type bridge stp_state 0"),
        )
    });
    Ok(findings.collect())
}

fn mtu(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let bridges = bridges(evidence)?;
    let preferred = Family::BOTH.into_iter().find_map(|family| {
        let route = node.network.default_routes(family).into_iter().next()?;
        let link = node.network.by_index(route.index?)?;
        Some((link, route.mtu.map_or(link.mtu, |limit| limit.min(link.mtu))))
    });
    let Some((uplink, limit)) = preferred else { return Err(Pass::skipped("there is no uplink")) };
    let above = bridges.into_iter().filter(|(.., link)| link.mtu > limit && link.index != uplink.index);
    let findings = above.map(|(name, _, link)| {
        Finding::problem(
            object(&name),
            format!(
                "its MTU is {}, that of the uplink {} is {limit}: large UDP packets of pods are lost where no \
                 ICMP comes back",
                link.mtu, uplink.name
            ),
            format!("write \"mtu\": \"auto\" into the network's configuration, then ip link del {name} while no pod \
                     runs, or reboot"),
        )
    });
    Ok(findings.collect())
}
