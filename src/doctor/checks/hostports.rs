//! Ports of the node that lead to pods: whether they do, whom they take clients from, and who takes theirs.

use std::collections::BTreeMap;

use crate::datapath::hostports::{Mapping, Owner, Protocol};
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::checks::RECONCILE;
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::{Ported, words};
use crate::net::Family;

use Severity::{Broken, Warning};

const RULES: &[Need] = &[Need::Filter, Need::Attachments];

pub(super) const CHECKS: &[Check] = &[
    G::Rules.check("hostport-missing", "every host port leads to its pod", Broken, RULES, missing),
    G::Rules.check("hostport-stale", "no host port leads to a pod that is gone", Warning, RULES, stale),
    G::Rules.check("hostport-shadowed", "nobody else's rule takes a host port", Broken, RULES, shadowed),
    G::Rules.check(
        "hostport-shadows",
        "no host port hides a process of the node",
        Warning,
        &[Need::Network, Need::Attachments],
        shadows,
    ),
    G::Rules.check(
        "hostport-localhost",
        "host ports answer on 127.0.0.1",
        Warning,
        &[Need::Network, Need::Attachments, Need::Filter],
        localhost,
    ),
];

fn object(mapping: &Mapping) -> String {
    format!("port {}", mapping.port_words())
}

/// Live pods with ports.
fn ported(evidence: &Evidence) -> Result<Vec<&Ported>, Pass> {
    let ported: Vec<_> = evidence.records()?.ported.iter().filter(|ported| ported.live).collect();
    if ported.iter().all(|ported| ported.mappings.is_empty()) {
        return Err(Pass::skipped("no pod has a host port"));
    }
    Ok(ported)
}

fn missing(evidence: &Evidence) -> Verdict {
    let filter = evidence.filter()?;
    let mut findings = Vec::new();
    for pod in ported(evidence)? {
        for mapping in pod.mappings.iter().filter(|mapping| filter.has_table(mapping.family())) {
            let found = match filter.element(mapping) {
                // Runtimes give every network of a container the same ports, and the first one keeps them.
                Some((_, comment)) if Owner::is_named_by(&pod.record.container_id, comment) => continue,
                Some((other, comment)) => {
                    format!("it leads to {} at {}:{}", Owner::words(comment), other.pod, other.pod_port)
                }
                None => "nothing leads there".to_owned(),
            };
            let (words, pod_port) = (words(&pod.record), mapping.pod_port);
            findings.push(Finding::problem(
                object(mapping),
                format!("it was promised to {words} at {}:{pod_port}, and {found}", mapping.pod),
                RECONCILE,
            ));
        }
    }
    Ok(findings)
}

fn stale(evidence: &Evidence) -> Verdict {
    let filter = evidence.filter()?;
    let ported = &evidence.records()?.ported;
    let lives = |mapping: &Mapping, comment: &str| {
        let mut live =
            ported.iter().filter(|pod| pod.live && Owner::is_named_by(&pod.record.container_id, comment));
        live.any(|pod| pod.mappings.iter().any(|promised| promised.same_port(mapping)))
    };
    let dead = filter.mappings.iter().filter(|(mapping, comment)| !lives(mapping, comment));
    let findings = dead.map(|(mapping, comment)| {
        Finding::problem(
            object(mapping),
            format!(
                "it leads to {} at {}:{}, and there is no such pod",
                Owner::words(comment),
                mapping.pod,
                mapping.pod_port
            ),
            RECONCILE,
        )
    });
    Ok(findings.collect())
}

/// Of two translations of one packet the first wins, and the order of chains with the same priority is that of their
/// making.
fn shadowed(evidence: &Evidence) -> Verdict {
    let filter = evidence.filter()?;
    let ported = ported(evidence)?;
    let foreign = filter.foreign_ports();
    let mut findings = Vec::new();
    for mapping in ported.iter().flat_map(|pod| &pod.mappings) {
        let same = foreign.iter().find(|theirs| {
            theirs.port == mapping.host_port
                && theirs.protocol.is_none_or(|protocol| protocol == mapping.protocol)
                && theirs.family.is_none_or(|family| family == mapping.family())
        });
        if let Some(theirs) = same {
            findings.push(Finding::problem(
                object(mapping),
                format!(
                    "a rule in chain {} sends the same port elsewhere: one of the two gets nothing",
                    theirs.place
                ),
                format!(
                    "nft -a list chain {}\nand remove that rule; or give the pod another hostPort",
                    theirs.place
                ),
            ));
        }
    }
    Ok(findings)
}

fn shadows(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    ported(evidence)?;
    // One process may listen in both families.
    let mut hidden: BTreeMap<(u16, Protocol), String> = BTreeMap::new();
    for (listener, owner) in &node.listeners {
        let process = match owner {
            Some((pid, command)) => format!("{command} (process {pid})"),
            None => "a process".to_owned(),
        };
        let words = format!("{process} listens on {}", listener.address);
        hidden.entry((listener.port, listener.protocol)).or_insert(words);
    }
    let findings = hidden.into_iter().map(|((port, protocol), who)| {
        Finding::problem(
            format!("port {port}/{protocol}"),
            format!("{who}, and its clients reach a pod instead"),
            "give the pod another hostPort, or the process another port; \"strictHostPorts\": true refuses such pods",
        )
    });
    Ok(findings.collect())
}

fn localhost(evidence: &Evidence) -> Verdict {
    let (node, filter) = (evidence.node()?, evidence.filter()?);
    let ported = ported(evidence)?;
    let mut findings = Vec::new();
    for (bridge, promise) in evidence.records()?.promises() {
        for link in promise.gateways.keys() {
            // Without "snat" nothing was promised there.
            let on_it = |mapping: &&Mapping| {
                mapping.family() == Family::V4
                    && filter.local_clients.contains(&mapping.pod)
                    && promise.subnets.keys().any(|subnet| subnet.contains(mapping.pod))
            };
            // A bridge that is none has a check of its own.
            if !node
                .network
                .link(link.as_str())
                .is_some_and(|found| *link != bridge || found.kind.as_deref() == Some("bridge"))
            {
                continue;
            }
            let mapped = ported.iter().flat_map(|pod| &pod.mappings).any(|mapping| on_it(&mapping));
            let key = format!("net/ipv4/conf/{link}/route_localnet");
            if mapped && node.switch(&key) == Some("0") {
                findings.push(Finding::problem(
                    format!("bridge {bridge}"),
                    format!(
                        "net.ipv4.conf.{link}.route_localnet is 0: host ports do not answer on 127.0.0.1"
                    ),
                    RECONCILE,
                ));
            }
        }
    }
    Ok(findings)
}
