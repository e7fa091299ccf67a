//! The node's way to its pods.

use ipnetwork::IpNetwork;

use crate::datapath::survey::{Action, MAIN, PolicyRule};
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::node::Node;
use crate::net::{Family, IfName, overlap};
use crate::text::typed;

use Severity::Broken;

const ROUTES: &[Need] = &[Need::Network, Need::Attachments];

pub(super) const CHECKS: &[Check] = &[
    G::Addresses.check(
        "route-pods",
        "the node's route to its pods leads to the bridge",
        Broken,
        ROUTES,
        route_to_pods,
    ),
    G::Addresses.check(
        "policy-rule",
        "no policy rule leads packets for pods elsewhere",
        Broken,
        ROUTES,
        policy_rule,
    ),
];

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
                format!("ip route add {subnet} dev {}", typed(&link)),
            ));
        } else if hiding_rules(node, subnet, &link).is_empty() {
            let through = node.ways.get(&subnet).copied().flatten();
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

fn version(subnet: IpNetwork) -> &'static str {
    if subnet.is_ipv4() { "" } else { " -6" }
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
            let version = version(subnet);
            findings.push(Finding::problem(
                format!("range {subnet}"),
                format!("the policy rule \"{rule}\" comes before the route through {link}; {}", way_words(node, subnet)),
                format!(
                    "ip{version} rule add to {subnet} lookup main priority {}\nor: ip{version} rule del priority {}",
                    rule.priority.saturating_sub(1).max(1),
                    rule.priority
                ),
            ));
        }
    }
    Ok(findings)
}
