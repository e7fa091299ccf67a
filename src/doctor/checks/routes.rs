//! The node's way to its pods, and theirs out of it, as the kernel answers when it is asked as packets ask.
//!
//! Pure.

use ipnetwork::IpNetwork;

use crate::datapath::survey::{Action, MAIN, PolicyRule, Refusal, Way};
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::flows::{Flows, Packet, PodFlows};
use crate::doctor::evidence::node::Node;
use crate::net::{Family, IfName, overlap};
use crate::text::typed;

use Severity::Broken;

pub(super) const ROUTES: &[Need] = &[Need::Network, Need::Attachments, Need::Flows];

pub(super) const CHECKS: &[Check] = &[G::Addresses.check(
    "route-pods",
    "the node's route to its pods leads to the bridge",
    Broken,
    ROUTES,
    route_to_pods,
)];

/// Subnets of the pods with the interface that must lead there.
pub(super) fn wanted(evidence: &Evidence) -> Result<Vec<(IpNetwork, IfName)>, Pass> {
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
pub(super) fn is_ready(node: &Node, subnet: IpNetwork, link: &IfName) -> bool {
    let ready = node.network.link(link.as_str()).filter(|link| link.up);
    ready.is_some_and(|link| {
        node.network.addresses_of(link).iter().any(|address| subnet.contains(address.ip()))
    })
}

pub(super) fn has_route(node: &Node, subnet: IpNetwork, link: &IfName) -> bool {
    let index = node.network.link(link.as_str()).map(|link| link.index);
    node.network
        .routes
        .iter()
        .any(|route| route.table == MAIN && route.dst == subnet && route.index == index && route.gw.is_none())
}

/// The pods of a subnet with the kernel's answers.
pub(super) fn pods_of(flows: &Flows, subnet: IpNetwork) -> impl Iterator<Item = &PodFlows> {
    flows.pods.iter().filter(move |pod| subnet.contains(pod.ends.pod.address))
}

/// Whether the packet leaves by the interface of its pod. An address that the node has itself is no matter of routes.
pub(super) fn arrives(node: &Node, pod: &PodFlows, packet: Packet) -> bool {
    let index = node.network.link(pod.ends.gateway.as_str()).map(|link| link.index);
    match pod.way(packet) {
        Some((_, Way::Through { index: through, .. })) => Some(through) == index,
        Some((_, Way::Refused(_))) => false,
        // Where nobody was asked something else is missing.
        Some((_, Way::Local { .. })) | None => true,
    }
}

/// Whether the node's own packets get to any of the pods: where they do not, it is the whole subnet that has no way.
pub(super) fn leads_there(node: &Node, flows: &Flows, subnet: IpNetwork) -> bool {
    let mut pods = pods_of(flows, subnet).peekable();
    pods.peek().is_none() || pods.any(|pod| arrives(node, pod, Packet::FromNode))
}

/// Where the kernel leads what is for the first pod of the subnet.
fn way_of(flows: &Flows, subnet: IpNetwork) -> Option<u32> {
    pods_of(flows, subnet).find_map(|pod| pod.way(Packet::FromNode)).and_then(|(_, way)| way.index())
}

pub(super) fn way_words(node: &Node, flows: &Flows, subnet: IpNetwork) -> String {
    match way_of(flows, subnet) {
        Some(index) => format!("packets for pods leave through {}", node.network.name_of(index)),
        None => "the node has no way to its pods".to_owned(),
    }
}

fn route_to_pods(evidence: &Evidence) -> Verdict {
    let (node, flows) = (evidence.node()?, evidence.flows()?);
    let mut findings = Vec::new();
    for (subnet, link) in wanted(evidence)? {
        if !is_ready(node, subnet, &link) {
            continue;
        }
        if leads_there(node, flows, subnet) {
            let astray = pods_of(flows, subnet).filter(|pod| !arrives(node, pod, Packet::FromNode));
            findings.extend(astray.map(|pod| one_pod_astray(node, pod)));
            continue;
        }
        if !has_route(node, subnet, &link) {
            findings.push(Finding::problem(
                format!("range {subnet}"),
                format!("the route to it through {link} is missing; {}", way_words(node, flows, subnet)),
                format!("ip route add {subnet} dev {}", typed(&link)),
            ));
        } else if hiding_rules(node, subnet, &link).is_empty() {
            let through = way_of(flows, subnet);
            let narrower = node.network.routes.iter().find(|route| {
                route.index == through
                    && route.table == MAIN
                    && overlap(route.dst, subnet)
                    && route.dst.prefix() > 0
            });
            let command = narrower.map_or_else(
                || {
                    format!(
                        "ip{} route show table all to root {subnet}\nand remove the one that leads elsewhere",
                        version(subnet)
                    )
                },
                |route| {
                    // One that refuses or drops leads through nothing.
                    let through =
                        route.index.map(|index| format!(" dev {}", typed(node.network.name_of(index))));
                    format!("ip route del {}{}", route.dst, through.unwrap_or_default())
                },
            );
            findings.push(Finding::problem(
                format!("range {subnet}"),
                format!(
                    "another route is preferred to the one through {link}; {}",
                    way_words(node, flows, subnet)
                ),
                command,
            ));
        }
    }
    Ok(findings)
}

/// A route for its address alone.
fn one_pod_astray(node: &Node, pod: &PodFlows) -> Finding {
    let address = pod.ends.pod.address;
    let single = IpNetwork::from(address);
    let version = version(single);
    let (found, fix) = match pod.way(Packet::FromNode) {
        Some((_, Way::Through { index, .. })) => {
            let name = node.network.name_of(index);
            let narrow = node.network.routes.iter().filter(|route| {
                route.table == MAIN && route.index == Some(index) && route.dst.contains(address)
            });
            let route = narrow.max_by_key(|route| route.dst.prefix());
            let dst = route.map_or(single, |route| route.dst);
            (
                format!("what is for its address {address} leaves through {name}"),
                format!("ip{version} route del {dst} dev {}", typed(name)),
            )
        }
        Some((_, Way::Refused(why))) => (
            format!("the node has no way to its address {address}: {why}"),
            format!("ip{version} route del {} {single}", refused_kind(why)),
        ),
        _ => (format!("what is for its address {address} stays on the node"), String::new()),
    };
    Finding::problem(pod.words.clone(), found, fix)
}

/// As `ip route` calls routes that refuse.
fn refused_kind(why: Refusal) -> &'static str {
    match why {
        Refusal::Prohibited => "prohibit",
        Refusal::Dropped => "blackhole",
        Refusal::NoRoute | Refusal::Unreachable | Refusal::ReversePath => "unreachable",
    }
}

/// Rules before the main table's that could catch a packet for the subnet.
pub(super) fn hiding_rules(node: &Node, subnet: IpNetwork, link: &IfName) -> Vec<PolicyRule> {
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
                    && routes.any(|route| overlap(route.dst, subnet) && route.index != index)
            }
        })
        .cloned()
        .collect()
}

/// Whether a packet for the subnet that carries no mark and comes from the node itself may match (`fib_rule_match`,
/// net/core/fib_rules.c: all conditions, and then `not`).
fn catches(rule: &PolicyRule, subnet: IpNetwork) -> bool {
    let all = rule.to.is_none_or(|to| overlap(to, subnet))
        && rule.incoming.is_none()
        && rule.outgoing.is_none()
        && rule.mark.is_none();
    all != rule.inverted
}

pub(super) fn version(subnet: IpNetwork) -> &'static str {
    if subnet.is_ipv4() { "" } else { " -6" }
}
