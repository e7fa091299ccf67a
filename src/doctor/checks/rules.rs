//! Our tables in nf_tables, and what the Go plugins left in theirs.

use std::collections::BTreeSet;

use super::RECONCILE;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::net::Family;

use Severity::{Broken, Warning};

const RULES: &[Need] = &[Need::Filter, Need::Attachments];

pub(super) const CHECKS: &[Check] = &[
    G::Rules.check(
        "table-missing",
        "our tables are there",
        Broken,
        &[Need::Filter, Need::Attachments, Need::Files],
        missing,
    ),
    G::Rules.check(
        "table-incomplete",
        "our tables have all their rules",
        Broken,
        &[Need::Filter, Need::Attachments, Need::Network],
        incomplete,
    ),
    G::Rules.check("masquerade-missing", "pods leave with the node's address", Broken, RULES, masquerade),
    G::Rules.check(
        "spoof-check-missing",
        "forged source addresses are dropped where promised",
        Warning,
        RULES,
        spoof_check,
    ),
    G::Rules.check(
        "go-leftovers",
        "the Go plugins left no rules of pods that are gone",
        Warning,
        &[Need::Filter],
        leftovers,
    ),
];

pub(super) fn table(family: Family) -> String {
    format!("table {} smarter-cni", if family == Family::V4 { "ip" } else { "ip6" })
}

/// Families in which something of pods must stand in our table.
fn needed(evidence: &Evidence) -> Result<BTreeSet<&'static str>, Pass> {
    let attachments = evidence.records()?;
    let masqueraded = attachments.promises().into_values().flat_map(|promise| promise.masqueraded);
    let mut families: BTreeSet<_> =
        masqueraded.map(|(_, subnet)| if subnet.is_ipv4() { "ip" } else { "ip6" }).collect();
    families.extend(attachments.ports().iter().map(|port| if port.pod.is_ipv4() { "ip" } else { "ip6" }));
    if families.is_empty() {
        return Err(Pass::skipped("no pod is masqueraded and none has a host port"));
    }
    Ok(families)
}

fn families(evidence: &Evidence) -> Result<Vec<Family>, Pass> {
    let needed = needed(evidence)?;
    Ok(Family::BOTH
        .into_iter()
        .filter(|f| needed.contains(if *f == Family::V4 { "ip" } else { "ip6" }))
        .collect())
}

fn missing(evidence: &Evidence) -> Verdict {
    let filter = evidence.filter()?;
    let gone = families(evidence)?.into_iter().filter(|family| !filter.has_table(*family));
    let culprit = match evidence.files().ok().and_then(|files| files.flusher.as_ref()) {
        Some(file) => format!("; {file} flushes all tables whenever nftables.service is started or reloaded"),
        None => "; somebody deleted it, for instance with nft flush ruleset".to_owned(),
    };
    let afterwards = match evidence.files().ok().and_then(|files| files.flusher.as_ref()) {
        Some(file) => format!("\nand delete only your own tables in {file} instead of \"flush ruleset\""),
        None => String::new(),
    };
    let findings = gone.map(|family| {
        Finding::problem(
            table(family),
            format!(
                "it is missing{culprit}: pods reach nothing beyond the node, and host ports lead nowhere"
            ),
            format!("{RECONCILE}{afterwards}"),
        )
    });
    Ok(findings.collect())
}

fn incomplete(evidence: &Evidence) -> Verdict {
    let filter = evidence.filter()?;
    let attachments = evidence.records()?;
    let links: BTreeSet<_> =
        attachments.promises().into_values().flat_map(|promise| promise.gateways.into_keys()).collect();
    let inside: Vec<_> = links.iter().cloned().collect();
    let node = evidence.node()?;
    let mut findings = Vec::new();
    for family in families(evidence)?.into_iter().filter(|family| filter.has_table(*family)) {
        let mut lacking = Vec::new();
        if attachments.ports().iter().any(|port| port.family() == family) {
            lacking.extend(filter.lacking_for_ports(family));
        }
        if attachments.routed().contains(&family) {
            lacking.extend(filter.lacking_for_guard(family, &node.network.uplinks(family, &inside)));
        }
        for link in links.iter().filter(|_| attachments.routed().contains(&family)) {
            lacking.extend(filter.lacking_for_clamp(family, link));
        }
        if let Some((first, others)) = lacking.split_first() {
            let more = if others.is_empty() { String::new() } else { format!(", and {} more", others.len()) };
            findings.push(Finding::problem(
                table(family),
                format!("rules of ours are missing or were written by another version: {first}{more}"),
                RECONCILE,
            ));
        }
    }
    Ok(findings)
}

fn masquerade(evidence: &Evidence) -> Verdict {
    let filter = evidence.filter()?;
    let promised: BTreeSet<_> =
        evidence.attachments()?.promises().into_values().flat_map(|promise| promise.masqueraded).collect();
    if promised.is_empty() {
        return Err(Pass::skipped("no network asked for it (ipMasq)"));
    }
    let gone = promised.into_iter().filter(|(network, subnet)| {
        filter.has_table(Family::of(subnet.ip())) && !filter.masquerades(network, *subnet)
    });
    let findings = gone.map(|(network, subnet)| {
        Finding::problem(
            format!("range {subnet}"),
            format!(
                "the rule that masquerades network {network} is missing: answers to its pods do not come back"
            ),
            RECONCILE,
        )
    });
    Ok(findings.collect())
}

fn spoof_check(evidence: &Evidence) -> Verdict {
    let filter = evidence.filter()?;
    let mut checked =
        evidence.attachments()?.live().filter(|pod| pod.record.promised.flags.mac_spoof_check).peekable();
    if checked.peek().is_none() {
        return Err(Pass::skipped("no network asked for it (macspoofchk)"));
    }
    let mut findings = Vec::new();
    for pod in checked {
        let promised = &pod.record.promised;
        let (Some(port), Some(mac)) = (&promised.host_if, promised.pod_mac) else { continue };
        if !filter.checks_source(port, mac) {
            findings.push(Finding::problem(
                pod.words(),
                format!("frames that come in through {port} are not checked for their source address {mac}"),
                RECONCILE,
            ));
        }
    }
    Ok(findings)
}

/// A rule about an address that no namespace of this machine has is about a pod that is gone.
fn leftovers(evidence: &Evidence) -> Verdict {
    let rules = evidence.filter()?.go_rules();
    let dead =
        rules.iter().filter(|rule| rule.addresses.iter().all(|address| !evidence.carried.contains(address)));
    let dead: Vec<_> = dead.collect();
    let Some(first) = dead.first() else { return Ok(Vec::new()) };
    let addresses: BTreeSet<_> =
        dead.iter().flat_map(|rule| &rule.addresses).map(ToString::to_string).collect();
    let addresses: Vec<_> = addresses.into_iter().collect();
    Ok(vec![Finding::problem(
        format!("chain {}", first.place),
        format!(
            "{} rules of the Go plugins are about addresses that no pod has: {}; a pod that gets one of them \
             inherits its rules",
            dead.len(),
            addresses.join(", ")
        ),
        format!(
            "nft -a list chain {}\nthen for each: nft delete rule {} handle <number>; a reboot removes all of them",
            first.place, first.place
        ),
    )])
}
