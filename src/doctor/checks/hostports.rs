//! Ports of the node that lead to pods: whether they do, whom they take clients from, and who takes theirs.
//!
//! Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::datapath::firewall::way::{Answer, Chains, Maker, Packet, Rule, Verdict as Fate, track};
use crate::datapath::survey::ruleset::ForeignPort;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::checks::PLAN_OF_RULES;
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::Ported;
use crate::doctor::evidence::flows::Flows;
use crate::doctor::evidence::node::Node;
use crate::net::Family;
use crate::spec::{Mapping, Protocol};

use Severity::{Broken, Warning};

const RULES: &[Need] = &[Need::Filter, Need::Attachments, Need::Network, Need::Flows];

pub(super) const CHECKS: &[Check] = &[
    G::Rules.planned("hostport-missing", "every host port leads to its pod", Broken, PLAN_OF_RULES),
    G::Rules.planned("hostport-stale", "no host port leads to a pod that is gone", Warning, PLAN_OF_RULES),
    G::Rules.check("hostport-shadowed", "nobody else's rule takes a host port", Broken, RULES, shadowed),
    G::Rules.check(
        "hostport-shadows",
        "no host port hides a process of the node",
        Warning,
        &[Need::Network, Need::Attachments],
        shadows,
    ),
    G::Rules.planned("hostport-localhost", "host ports answer on 127.0.0.1", Warning, PLAN_OF_RULES),
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

/// Of two translations of one packet the first wins, and the order of chains with the same priority is that of their
/// making.
fn shadowed(evidence: &Evidence) -> Verdict {
    let (filter, node, flows) = (evidence.filter()?, evidence.node()?, evidence.flows()?);
    let ported = ported(evidence)?;
    let foreign = filter.foreign_ports();
    let mut findings = Vec::new();
    for mapping in ported.iter().flat_map(|pod| &pod.mappings) {
        let same = foreign.iter().find(|theirs| {
            theirs.port == mapping.host_port
                && theirs.protocol.is_none_or(|protocol| protocol == mapping.protocol)
                && theirs.family.is_none_or(|family| family == mapping.family())
                && takes(theirs, mapping, node, flows)
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

/// Whether the rule takes whatever comes from outside for the port: one for another address, interface or source takes
/// nothing from it.
fn takes(theirs: &ForeignPort, mapping: &Mapping, node: &Node, flows: &Flows) -> bool {
    let family = mapping.family();
    let all = node.network.addresses.iter().filter(|own| own.scope == 0).map(|own| own.address.ip());
    let pods = |address: &IpAddr| flows.pods.iter().any(|pod| pod.ends.gateway_address == Some(*address));
    let own = all.filter(|address| Family::of(*address) == family && !pods(address));
    let destination: Vec<IpAddr> = mapping.host_ip.map_or_else(|| own.collect(), |ip| vec![ip]);
    let uplink = flows.pods.iter().filter(|pod| pod.family == family).find_map(|pod| pod.ends.uplink.clone());
    let packet = Packet {
        family,
        iif: uplink,
        oif: None,
        source: Vec::new(),
        destination: destination.into_iter().map(IpNetwork::from).collect(),
        track: track::NEW,
        protocol: Some(mapping.protocol.number()),
        service: None,
        mark: Some(0),
        local: Some(true),
        arp: false,
    };
    let rule = Rule {
        handle: 0,
        maker: Maker::Other,
        conditions: theirs.conditions.clone(),
        verdict: Fate::Undecided,
    };
    packet.answer(&rule, &Chains::default()) == Answer::All
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
