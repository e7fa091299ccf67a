//! Our tables in nf_tables, and what the Go plugins left in theirs.
//!
//! Pure.

use std::collections::BTreeSet;

use super::PLAN_OF_RULES;
use crate::doctor::check::{Check, Finding, Group as G, Need, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::planned;

use Severity::{Broken, Warning};

pub(super) const CHECKS: &[Check] = &[
    G::Rules.check(
        "table-missing",
        "our tables are there",
        Broken,
        &[Need::Plan, Need::Filter, Need::Files],
        missing,
    ),
    G::Rules.check("table-dormant", "our tables are awake", Broken, &[Need::Filter], dormant),
    G::Rules.planned("table-incomplete", "our tables have all their rules", Broken, PLAN_OF_RULES),
    G::Rules.planned("dns-guard", "only this node's pods learn of its name server", Warning, PLAN_OF_RULES),
    G::Rules.planned("masquerade-missing", "pods leave with the node's address", Broken, PLAN_OF_RULES),
    G::Rules.planned(
        "spoof-check-missing",
        "forged source addresses are dropped where promised",
        Warning,
        PLAN_OF_RULES,
    ),
    G::Rules.planned("rules-leftover", "our tables have nothing of what is gone", Warning, PLAN_OF_RULES),
    G::Rules.check(
        "go-leftovers",
        "the Go plugins left no rules of pods that are gone",
        Warning,
        &[Need::Filter],
        leftovers,
    ),
];

/// The plan tells that a table is missing as a whole; who empties the packet filter stands in files.
fn missing(evidence: &Evidence) -> Verdict {
    evidence.filter()?;
    let mut findings = planned::verdict(evidence, "table-missing")?;
    let flusher = evidence.files()?.flusher.as_ref();
    for finding in &mut findings {
        let Finding::Problem { found, fix, .. } = finding else { continue };
        match flusher {
            Some(file) => {
                let whenever = "flushes all tables whenever nftables.service is started or reloaded";
                *found = format!("{found}; {file} {whenever}");
                *fix =
                    format!("{fix}\nand delete only your own tables in {file} instead of \"flush ruleset\"");
            }
            None => found.push_str("; somebody deleted it, for instance with nft flush ruleset"),
        }
    }
    Ok(findings)
}

/// `nft add table … { flags dormant; }`: everything is there, and no packet is shown to it.
fn dormant(evidence: &Evidence) -> Verdict {
    let asleep = evidence.filter()?.dormant_tables().into_iter();
    let findings = asleep.map(|table| {
        Finding::problem(
            format!("table {table}"),
            "it is dormant: all of its rules are there, and no packet gets to them",
            format!("nft add table {table}"),
        )
    });
    Ok(findings.collect())
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
