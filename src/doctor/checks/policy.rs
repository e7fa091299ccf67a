//! Policy rules that lead packets of pods, or for them, elsewhere: what the kernel answers when it is asked as packets ask.
//!
//! Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::routes::{
    ROUTES, arrives, has_route, hiding_rules, is_ready, leads_there, pods_of, version, wanted, way_words,
};
use crate::datapath::survey::{Action, MAIN, PolicyRule, Question, Refusal, Way};
use crate::doctor::check::{Check, Finding, Group as G, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::flows::{Flows, Packet, PodFlows};
use crate::doctor::evidence::node::Node;
use crate::net::Family;
use crate::text::typed;

use Severity::Broken;

pub(super) const CHECKS: &[Check] = &[
    G::Addresses.check(
        "policy-rule",
        "no policy rule leads packets for pods elsewhere",
        Broken,
        ROUTES,
        policy_rule,
    ),
    G::Addresses.check(
        "route-outwards",
        "what pods send has a way, to the node and out of it",
        Broken,
        ROUTES,
        route_outwards,
    ),
];

fn policy_rule(evidence: &Evidence) -> Verdict {
    let (node, flows) = (evidence.node()?, evidence.flows()?);
    let mut findings = Vec::new();
    for (subnet, link) in wanted(evidence)? {
        if !is_ready(node, subnet, &link) || !has_route(node, subnet, &link) {
            continue;
        }
        if leads_there(node, flows, subnet) {
            findings.extend(answers_astray(node, flows, subnet));
            continue;
        }
        if let Some(rule) = hiding_rules(node, subnet, &link).first() {
            let version = version(subnet);
            findings.push(Finding::problem(
                format!("range {subnet}"),
                format!(
                    "the policy rule \"{rule}\" comes before the route through {link}; {}",
                    way_words(node, flows, subnet)
                ),
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

/// Packets for pods that a rule leads elsewhere once they have a source, an interface or a mark: what the node sends from its
/// gateway address, and what comes in from outside.
fn answers_astray(node: &Node, flows: &Flows, subnet: IpNetwork) -> Option<Finding> {
    let version = version(subnet);
    let lost = [Packet::FromGateway, Packet::In].into_iter().find_map(|packet| {
        let mut pods = pods_of(flows, subnet).filter(|pod| arrives(node, pod, Packet::FromNode));
        let pod = pods.find(|pod| !arrives(node, pod, packet))?;
        Some((packet, pod))
    });
    let (packet, pod) = lost?;
    let (question, way) = pod.way(packet)?;
    if is_link_to_blame(node, question, way) {
        return None;
    }
    let what = if packet == Packet::In { "what comes in for pods" } else { "what the node sends to pods" };
    let first =
        node.network.rules.iter().find(|rule| applies(node, rule, question) && leads_away(node, rule, pod));
    let (cause, priority) = match first {
        Some(rule) => (format!("the policy rule \"{rule}\" comes first"), rule.priority),
        None => ("a policy rule comes first".to_owned(), 32766),
    };
    Some(Finding::problem(
        format!("range {subnet}"),
        format!("{what} {}: {cause}; seen by: {}", way_in_words(node, way), typed_question(node, question)),
        format!(
            "ip{version} rule add to {subnet} lookup main priority {}",
            priority.saturating_sub(1).max(1)
        ),
    ))
}

/// Links that do not forward, and strict reverse paths, have checks of their own.
fn is_link_to_blame(node: &Node, question: &Question, way: Way) -> bool {
    let off = |index: u32| {
        let key = format!("net/ipv4/conf/{}/forwarding", node.network.name_of(index));
        node.switch(&key) == Some("0")
    };
    match way {
        Way::Refused(Refusal::ReversePath) => true,
        Way::Refused(Refusal::Unreachable) => {
            question.to.is_ipv4()
                && (node.switch("net/ipv4/ip_forward") == Some("0") || question.iif.is_some_and(off))
        }
        _ => false,
    }
}

fn typed_question(node: &Node, question: &Question) -> String {
    question.typed(question.iif.map(|index| node.network.name_of(index)).as_deref())
}

fn way_in_words(node: &Node, way: Way) -> String {
    match way {
        Way::Through { index, .. } => format!("leaves through {}", node.network.name_of(index)),
        Way::Local { .. } => "stays on the node".to_owned(),
        Way::Refused(why) => format!("has no way ({why})"),
    }
}

/// Whether a rule that is not the kernel's own is asked about that packet (`fib_rule_match`, net/core/fib_rules.c).
fn applies(node: &Node, rule: &PolicyRule, question: &Question) -> bool {
    let plain = matches!(rule.action, Action::Table(MAIN | 253 | 255))
        && rule.from.is_none()
        && rule.mark.is_none()
        && rule.to.is_none();
    let of = |network: Option<IpNetwork>, address: Option<IpAddr>| {
        network.is_none_or(|network| {
            network.prefix() == 0 || address.is_some_and(|address| network.contains(address))
        })
    };
    let iif = question.iif.map_or_else(|| "lo".to_owned(), |index| node.network.name_of(index));
    let all = of(rule.to, Some(question.to))
        && of(rule.from, question.from)
        && rule.incoming.as_ref().is_none_or(|name| *name == iif)
        && rule.outgoing.is_none()
        && rule.mark.is_none_or(|mark| mark == question.mark);
    !plain && rule.family == Family::of(question.to) && all != rule.inverted
}

/// Whether what the rule leads to is something else than the pod's own link.
fn leads_away(node: &Node, rule: &PolicyRule, pod: &PodFlows) -> bool {
    let index = node.network.link(pod.ends.gateway.as_str()).map(|link| link.index);
    match rule.action {
        Action::Refuse => true,
        Action::Other => false,
        // Routes that refuse are in no list of routes.
        Action::Table(table) => {
            let mut routes = node.network.routes.iter().filter(|route| route.table == table).peekable();
            routes.peek().is_none() || routes.any(|route| route.index != index)
        }
    }
}

/// What pods send, to the node and out of it. Where the node itself goes out, so must they.
fn route_outwards(evidence: &Evidence) -> Verdict {
    let (node, flows) = (evidence.node()?, evidence.flows()?);
    let mut findings = Vec::new();
    for (subnet, link) in wanted(evidence)? {
        if !is_ready(node, subnet, &link) {
            continue;
        }
        let astray = |pod: &&PodFlows| {
            [Packet::ToNode, Packet::Out].into_iter().find(|packet| !gets_out(node, pod, *packet))
        };
        let lost: Vec<_> = pods_of(flows, subnet).filter(|pod| astray(pod).is_some()).collect();
        let Some(first) = lost.first() else { continue };
        let Some((question, way)) = astray(first).and_then(|packet| first.way(packet)) else { continue };
        if is_link_to_blame(node, question, way) {
            continue;
        }
        let all = lost.len() == pods_of(flows, subnet).count();
        let rule = node.network.rules.iter().find(|rule| applies(node, rule, question));
        let version = version(subnet);
        let (cause, fix) = match rule {
            Some(rule) => (
                format!("; the policy rule \"{rule}\" comes first"),
                format!(
                    "ip{version} rule add iif {} lookup main priority {}\nunless somebody means it: then pods stay in",
                    typed(&link),
                    rule.priority.saturating_sub(1).max(1)
                ),
            ),
            None => (
                String::new(),
                format!("ip{version} route show table all\nand remove what refuses or leads back"),
            ),
        };
        findings.push(Finding::problem(
            if all { format!("range {subnet}") } else { first.words.clone() },
            format!(
                "what {} to {} {}{cause}; seen by: {}",
                if all { "its pods send" } else { "it sends" },
                question.to,
                way_in_words(node, way),
                typed_question(node, question)
            ),
            fix,
        ));
    }
    Ok(findings)
}

fn gets_out(node: &Node, pod: &PodFlows, packet: Packet) -> bool {
    let back = node.network.link(pod.ends.gateway.as_str()).map(|link| link.index);
    match (packet, pod.way(packet)) {
        (_, None) => true,
        (Packet::ToNode, Some((_, way))) => matches!(way, Way::Local { .. }),
        (_, Some((_, Way::Through { index, .. }))) => Some(index) != back,
        (_, Some((_, Way::Local { .. } | Way::Refused(_)))) => false,
    }
}
