//! Ranges that overlap, routes that lead elsewhere, addresses that two have.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use crate::datapath::survey::{Action, MAIN, PolicyRule};
use crate::doctor::check::{Check, Finding, Group, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::node::Node;
use crate::net::{Family, IfName, Mac};

const fn check(
    id: &'static str,
    title: &'static str,
    severity: Severity,
    needs: &'static [Need],
    run: fn(&Evidence) -> Verdict,
) -> Check {
    Check { id, group: Group::Addresses, title, severity, needs, run }
}

use Severity::{Broken, Warning};

const RANGES: &[Need] = &[Need::Network, Need::Attachments, Need::Configuration];

pub(super) const CHECKS: &[Check] = &[
    check("range-overlap", "the pods' range is nobody else's network", Broken, RANGES, overlap),
    check("range-public", "the pods' range is private", Warning, RANGES, public),
    check("route-pods", "the node's route to its pods leads to the bridge", Broken, ROUTES, route_to_pods),
    check("policy-rule", "no policy rule leads packets for pods elsewhere", Broken, ROUTES, policy_rule),
    check("address-duplicate", "no two pods have one address", Broken, ROUTES, duplicate),
    check(
        "address-claimed",
        "nobody else answers for addresses of pods and gateways",
        Broken,
        &[Need::Attachments, Need::Packets],
        claimed,
    ),
];

const ROUTES: &[Need] = &[Need::Network, Need::Attachments];

/// Every range of ours with the interfaces that may carry it: from what pods were promised, and from configurations.
fn ranges(evidence: &Evidence) -> Result<BTreeMap<IpNetwork, Vec<String>>, Pass> {
    let mut ranges: BTreeMap<IpNetwork, Vec<String>> = BTreeMap::new();
    for (bridge, promise) in evidence.records()?.promises() {
        for subnet in promise.subnets.keys() {
            let links = ranges.entry(*subnet).or_default();
            links.push(bridge.to_string());
            links.extend(promise.gateways.keys().map(ToString::to_string));
        }
    }
    let configured = evidence.configuration()?.files.iter().filter_map(|file| file.network.as_ref().ok());
    for network in configured.filter(|network| network.is_ours()) {
        for subnet in &network.subnets {
            ranges.entry(*subnet).or_default().extend(network.bridge.clone());
        }
    }
    if ranges.is_empty() {
        return Err(Pass::skipped(
            "no range of pods is known: no pod is attached and no configuration of ours was found",
        ));
    }
    Ok(ranges)
}

fn overlaps(one: IpNetwork, other: IpNetwork) -> bool {
    match (one, other) {
        (IpNetwork::V4(one), IpNetwork::V4(other)) => {
            one.contains(other.network()) || other.contains(one.network())
        }
        (IpNetwork::V6(one), IpNetwork::V6(other)) => {
            one.contains(other.network()) || other.contains(one.network())
        }
        _ => false,
    }
}

fn overlap(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    let mut findings = Vec::new();
    for (range, own) in ranges(evidence)? {
        let elsewhere = |index: u32| {
            let link = network.by_index(index)?;
            // What another network of ours has is a range of its own, and is compared as such.
            (!own.contains(&link.name)).then_some(link)
        };
        let mut named: Vec<String> = Vec::new();
        for address in &network.addresses {
            let Some(link) = elsewhere(address.index).filter(|_| overlaps(range, address.address)) else {
                continue;
            };
            if link.name == "lo" || named.contains(&link.name) {
                continue;
            }
            named.push(link.name.clone());
            let what = if link.kind.as_deref() == Some("bridge") { "the bridge" } else { "the interface" };
            findings.push(clash(range, &format!("{what} {} has {}", link.name, address.address)));
        }
        for route in
            network.routes.iter().filter(|route| route.dst.prefix() > 0 && overlaps(range, route.dst))
        {
            let Some(link) = route.index.and_then(elsewhere) else { continue };
            if link.name == "lo" || named.contains(&link.name) {
                continue;
            }
            named.push(link.name.clone());
            findings.push(clash(range, &format!("a route to {} leads through {}", route.dst, link.name)));
        }
    }
    Ok(findings)
}

fn clash(range: IpNetwork, with: &str) -> Finding {
    Finding::problem(
        format!("range {range}"),
        format!(
            "{with}: hosts there and pods cannot reach each other, and the node may lose its own network"
        ),
        "give the pods another range, in the network's configuration and as the cluster's --cluster-cidr",
    )
}

/// RFC 1918, RFC 6598, and what is for documentation, benchmarks and links only; RFC 4193 in IPv6.
fn is_private(range: IpNetwork) -> bool {
    match range {
        IpNetwork::V4(v4) => {
            let own: [(Ipv4Addr, u8); 9] = [
                (Ipv4Addr::new(10, 0, 0, 0), 8),
                (Ipv4Addr::new(172, 16, 0, 0), 12),
                (Ipv4Addr::new(192, 168, 0, 0), 16),
                (Ipv4Addr::new(100, 64, 0, 0), 10),
                (Ipv4Addr::new(169, 254, 0, 0), 16),
                (Ipv4Addr::new(198, 18, 0, 0), 15),
                (Ipv4Addr::new(192, 0, 2, 0), 24),
                (Ipv4Addr::new(198, 51, 100, 0), 24),
                (Ipv4Addr::new(203, 0, 113, 0), 24),
            ];
            own.into_iter().any(|(network, prefix)| {
                v4.prefix() >= prefix
                    && ipnetwork::Ipv4Network::new(network, prefix).is_ok_and(|own| own.contains(v4.ip()))
            })
        }
        IpNetwork::V6(v6) => {
            let first = v6.network().segments();
            first[0] & 0xfe00 == 0xfc00
                || (first[0], first[1]) == (0x2001, 0x0db8)
                || first[0] & 0xffc0 == 0xfe80
        }
    }
}

/// A public range of IPv6 is what a provider gives away for use.
fn public(evidence: &Evidence) -> Verdict {
    let ranges = ranges(evidence)?;
    let public = ranges.keys().filter(|range| range.is_ipv4() && !is_private(**range));
    let findings = public.map(|range| {
        Finding::problem(
            format!("range {range}"),
            "it is not private (RFC 1918): the hosts on the Internet that really have these addresses cannot be reached from \
             this node",
            "for a new cluster take a range from 10.0.0.0/8, in the network's configuration and as --cluster-cidr",
        )
    });
    Ok(findings.collect())
}

/// Subnets of the pods with the interface that must lead there.
fn wanted(evidence: &Evidence) -> Result<Vec<(IpNetwork, IfName)>, Pass> {
    let mut wanted = Vec::new();
    for (_, promise) in evidence.attachments()?.promises() {
        for subnet in promise.subnets.keys() {
            let gateway = promise
                .gateways
                .iter()
                .find(|(_, addresses)| addresses.iter().any(|address| subnet.contains(address.ip())));
            wanted.extend(gateway.map(|(link, _)| (*subnet, link.clone())));
        }
    }
    if wanted.is_empty() { Err(Pass::skipped("the node is no gateway for its pods")) } else { Ok(wanted) }
}

/// Whether the interface is as it must be before anybody can speak of routes: there, up, with its address.
fn is_ready(node: &Node, subnet: IpNetwork, link: &IfName) -> bool {
    let ready = node.network.link(link.as_str()).filter(|link| link.up);
    ready.is_some_and(|link| {
        node.network.addresses_of(link).iter().any(|address| subnet.contains(address.ip()))
    })
}

fn has_route(node: &Node, subnet: IpNetwork, link: &IfName) -> bool {
    let index = node.network.link(link.as_str()).map(|link| link.index);
    node.network
        .routes
        .iter()
        .any(|route| route.table == MAIN && route.dst == subnet && route.index == index && route.gw.is_none())
}

/// An address that the node has itself is no matter of routes.
fn leads_there(node: &Node, subnet: IpNetwork, link: &IfName) -> bool {
    let way = node.ways.get(&subnet).copied().flatten();
    let index = |name: &str| node.network.link(name).map(|link| link.index);
    way.is_some() && (way == index(link.as_str()) || way == index("lo"))
}

fn way_words(node: &Node, subnet: IpNetwork) -> String {
    match node.ways.get(&subnet).copied().flatten() {
        Some(index) => format!("packets for pods leave through {}", node.network.name_of(index)),
        None => "the node has no way to its pods".to_owned(),
    }
}

fn route_to_pods(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let mut findings = Vec::new();
    for (subnet, link) in wanted(evidence)? {
        if !is_ready(node, subnet, &link) || leads_there(node, subnet, &link) {
            continue;
        }
        if !has_route(node, subnet, &link) {
            findings.push(Finding::problem(
                format!("range {subnet}"),
                format!("the route to it through {link} is missing; {}", way_words(node, subnet)),
                format!("ip route add {subnet} dev {link}"),
            ));
        } else if hiding_rules(node, subnet, &link).is_empty() {
            let through = node.ways.get(&subnet).copied().flatten();
            let narrower = node.network.routes.iter().find(|route| {
                route.index == through
                    && route.table == MAIN
                    && overlaps(route.dst, subnet)
                    && route.dst.prefix() > 0
            });
            let command = narrower.map_or_else(
                || format!("ip route show to match {subnet}"),
                |route| {
                    format!(
                        "ip route del {} dev {}",
                        route.dst,
                        node.network.name_of(route.index.unwrap_or(0))
                    )
                },
            );
            findings.push(Finding::problem(
                format!("range {subnet}"),
                format!("another route is preferred to the one through {link}; {}", way_words(node, subnet)),
                command,
            ));
        }
    }
    Ok(findings)
}

/// Rules before the main table's that could catch a packet for the subnet.
fn hiding_rules(node: &Node, subnet: IpNetwork, link: &IfName) -> Vec<PolicyRule> {
    let family = Family::of(subnet.ip());
    let rules = node.network.rules.iter().filter(|rule| rule.family == family);
    let before = rules
        .take_while(|rule| rule.action != Action::Table(MAIN) || rule.from.is_some() || rule.to.is_some());
    let index = node.network.link(link.as_str()).map(|link| link.index);
    before
        .filter(|rule| match rule.action {
            // RT_TABLE_LOCAL
            Action::Table(255) | Action::Other => false,
            Action::Refuse => catches(rule, subnet),
            Action::Table(table) => {
                let mut routes = node.network.routes.iter().filter(|route| route.table == table);
                catches(rule, subnet)
                    && routes.any(|route| overlaps(route.dst, subnet) && route.index != index)
            }
        })
        .cloned()
        .collect()
}

fn catches(rule: &PolicyRule, subnet: IpNetwork) -> bool {
    rule.to.is_none_or(|to| overlaps(to, subnet)) != rule.inverted && rule.incoming.is_none()
}

fn policy_rule(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let mut findings = Vec::new();
    for (subnet, link) in wanted(evidence)? {
        if !is_ready(node, subnet, &link)
            || leads_there(node, subnet, &link)
            || !has_route(node, subnet, &link)
        {
            continue;
        }
        if let Some(rule) = hiding_rules(node, subnet, &link).first() {
            let version = if subnet.is_ipv4() { "" } else { " -6" };
            findings.push(Finding::problem(
                format!("range {subnet}"),
                format!("the policy rule \"{rule}\" comes before the route through {link}; {}", way_words(node, subnet)),
                format!(
                    "ip{version} rule add to {subnet} lookup main priority {}, or ip{version} rule del priority {}",
                    rule.priority.saturating_sub(1).max(1),
                    rule.priority
                ),
            ));
        }
    }
    Ok(findings)
}

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
                    format!("{mac} answers for it on {link}, and is neither the node nor the pod that has the address"),
                    format!("find it (bridge fdb show br {link} | grep {mac}) and give it an address outside the pods' range"),
                ));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_is_what_nobody_on_the_internet_has() {
        for range in ["10.1.0.0/16", "172.31.0.0/16", "192.168.7.0/24", "100.64.0.0/16"] {
            assert!(is_private(range.parse().unwrap()), "{range}");
        }
        for range in ["172.38.0.0/16", "172.0.0.0/8", "8.8.8.0/24", "0.0.0.0/0", "11.0.0.0/8"] {
            assert!(!is_private(range.parse().unwrap()), "{range}");
        }
    }
}
