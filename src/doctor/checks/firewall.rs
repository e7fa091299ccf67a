//! Packet filters of others that stand in the way of what pods send.
//!
//! Pure.

use ipnetwork::IpNetwork;

use super::host::routed;
use super::{RECONCILE, flows};
use crate::datapath::firewall::passage::{ACCEPTS, Change, ForwardTable, Obstacle, Place, Traffic};
use crate::datapath::firewall::way::Spot;
use crate::datapath::firewall::{ChainName, legacy};
use crate::datapath::step::accept_commands;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::node::LegacyListing;
use crate::doctor::planned;
use crate::net::{Family, IfName};
use crate::text::typed;

use Severity::{Broken, Warning};

pub(super) const CHECKS: &[Check] = &[
    G::Host.check(
        "forward-drop",
        "no firewall drops what pods send through the node",
        Broken,
        &[Need::Filter, Need::Attachments, Need::Configuration, Need::Network, Need::Plan, Need::Flows],
        forward_drop,
    ),
    G::Host.check(
        "iptables-mixed",
        "old and new iptables are not both in use",
        Warning,
        &[Need::Filter, Need::Network],
        iptables_mixed,
    ),
];

fn forward_drop(evidence: &Evidence) -> Verdict {
    let filter = evidence.filter()?;
    let legacy = evidence.node()?.legacy_listings.iter().filter(|old| old.table == "filter");
    let families = routed(evidence)?;
    let configured = evidence.configuration()?.networks();
    let left_alone: Vec<_> =
        configured.filter(|network| network.hands_off).filter_map(|network| network.bridge.clone()).collect();
    let mut findings = Vec::new();
    for (link, subnets) in gateways(evidence)? {
        if left_alone.iter().any(|bridge| *bridge == link.as_str()) {
            continue;
        }
        let traffic = Traffic::of(&link, &families, &subnets);
        for (table, owned) in filter.forward_tables(&link) {
            let rule = |spot: &Spot| filter.rule_of(&table.base, spot);
            findings.extend(judge(evidence, &table, &traffic, &rule, Some(owned)));
        }
        for old in legacy.clone() {
            findings.extend(judge_legacy(evidence, old.family, &old.listing, &traffic));
        }
    }
    add_unnamed(&mut findings, planned::findings(evidence, "forward-drop")?);
    // What is dropped of single pods, of one of their protocols, or between them.
    if left_alone.is_empty() {
        add_unnamed(&mut findings, flows::found(evidence, flows::is_forwarded)?);
    }
    Ok(findings)
}

fn add_unnamed(findings: &mut Vec<Finding>, more: Vec<Finding>) {
    let known: Vec<_> = findings.iter().map(|finding| finding.object().to_owned()).collect();
    findings.extend(more.into_iter().filter(|finding| !known.iter().any(|known| known == finding.object())));
}

fn judge_legacy(
    evidence: &Evidence,
    family: Family,
    listing: &Result<String, String>,
    traffic: &Traffic,
) -> Option<Finding> {
    let listing = match listing {
        Ok(listing) => listing,
        Err(why) => {
            let object = format!("chain FORWARD of {}", legacy::program(family));
            return Some(Finding::Unknown { object, why: why.clone() });
        }
    };
    let table = legacy::parse(family, listing);
    let rule = |spot: &Spot| {
        let line = legacy::line(listing, &spot.chain, spot.index)?;
        Some((line.to_owned(), 0))
    };
    judge(evidence, &table, traffic, &rule, None)
}

/// `owned` is whether only its maker may change the table; `None` for one of the old x_tables.
fn judge(
    evidence: &Evidence,
    table: &ForwardTable,
    traffic: &Traffic,
    rule: &dyn Fn(&Spot) -> Option<(String, u64)>,
    owned: Option<bool>,
) -> Option<Finding> {
    // Everything was read: nothing can be missing.
    let host_ports = evidence.records().is_ok_and(|attachments| !attachments.ports().is_empty());
    let trouble = table.trouble(traffic, host_ports).ok().flatten()?;
    let link = &traffic.interface;
    let object = match owned {
        Some(_) => format!("chain {}", table.base),
        None => format!("chain {} of {}", table.base.chain, legacy::program(table.base.family?)),
    };
    let refused = match trouble.accept {
        0 => format!("what pods behind {link} send"),
        1 => format!("answers to pods behind {link}"),
        _ => format!("what is sent to host ports of pods behind {link}"),
    };
    let found = trouble.rule.as_ref().and_then(|spot| Some((spot, rule(spot)?)));
    let cause = match &found {
        None => "its policy is drop".to_owned(),
        Some((spot, (text, _))) => format!("rule \"{text}\" in {} drops", spot.chain),
    };
    let whose = owner(evidence, &table.base);
    let words = match trouble.obstacle {
        Obstacle::Unknown => {
            let rule =
                found.map_or_else(String::new, |(spot, (text, _))| format!("\"{text}\" in {}", spot.chain));
            let why = format!(
                "could not tell: rule {rule} may refuse {refused}, all or a part of it: it asks for something that only \
                 the packets know"
            );
            return Some(Finding::Unknown { object, why });
        }
        Obstacle::LacksAccept => format!("{cause}, and nothing accepts {refused}; the chain is {whose}"),
        Obstacle::Meant => {
            format!("{cause} {refused}, and names it: somebody means it; the chain is {whose}")
        }
        Obstacle::Shared => format!(
            "{cause}, and nothing accepts {refused}; others come through there too, and rules in front of it refuse some \
             packets: no accept of ours can stand there; the chain is {whose}"
        ),
    };
    let fix = match (trouble.obstacle, &found) {
        (Obstacle::LacksAccept, _) | (_, None) => remedy(table, traffic, owned),
        (_, Some((spot, (_, handle)))) => allow(table, traffic, spot, *handle, owned),
    };
    Some(Finding::problem(object, words, fix))
}

/// The node's interfaces that pods' packets come through, with the pods' subnets.
fn gateways(evidence: &Evidence) -> Result<Vec<(IfName, Vec<IpNetwork>)>, Pass> {
    let promises = evidence.attachments()?.promises();
    let gateways = promises.into_values().flat_map(|promise| promise.gateways);
    Ok(gateways.map(|(link, addresses)| (link, addresses.into_iter().collect())).collect())
}

fn owner(evidence: &Evidence, chain: &ChainName) -> &'static str {
    let has = |name: &str| evidence.filter().is_ok_and(|filter| filter.has_chain_like(&chain.table, name));
    match chain.table.as_str() {
        "firewalld" => "firewalld's",
        "filter" if has("DOCKER") => "Docker's",
        "filter" if has("ufw") => "ufw's",
        "filter" => "iptables'",
        _ => "an administrator's, or another program's",
    }
}

fn commands(table: &ForwardTable, traffic: &Traffic, change: &Change, owned: Option<bool>) -> Vec<String> {
    let link = &traffic.interface;
    match (owned, table.base.family) {
        (None, Some(family)) => {
            let program = legacy::program(family);
            legacy::commands(link, change).iter().map(|words| legacy::typed(program, words)).collect()
        }
        _ => accept_commands(&table.base, link, change),
    }
}

fn remedy(table: &ForwardTable, traffic: &Traffic, owned: Option<bool>) -> String {
    let link = &traffic.interface;
    if owned == Some(true) || table.base.table == "firewalld" {
        let told = format!(
            "firewall-cmd --permanent --zone=trusted --add-interface={} && firewall-cmd --reload",
            typed(link)
        );
        let once = format!("{RECONCILE}\nuntil it is reloaded; for good: {told}");
        return if owned == Some(true) { told } else { once };
    }
    let typed = commands(table, traffic, &table.change(traffic).unwrap_or_default(), owned);
    format!(
        "{RECONCILE}\nputs the accepts there, as every pod that starts does; by hand:\n{}",
        typed.join("\n")
    )
}

/// In front of a rule that somebody means only a person puts an accept.
fn allow(table: &ForwardTable, traffic: &Traffic, spot: &Spot, handle: u64, owned: Option<bool>) -> String {
    let place = Place { chain: spot.chain.clone(), before: Some((handle, spot.index)) };
    let insert = (0..ACCEPTS).map(|accept| (accept, place.clone())).collect();
    let typed = commands(table, traffic, &Change { insert, ..Change::default() }, owned);
    format!("if pods shall get through, put accepts in front of that rule:\n{}", typed.join("\n"))
}

/// Two packet filters side by side: each shows half of the rules, and a drop in either is a drop. A table that somebody has
/// only listed is loaded, and does nothing.
fn iptables_mixed(evidence: &Evidence) -> Verdict {
    let legacy = &evidence.node()?.legacy_listings;
    let ours = evidence.filter()?.iptables_tables();
    let does_something = |listing: &str| {
        let mut lines = listing.lines();
        lines.any(|line| line.starts_with("-A ") || line.starts_with("-P ") && !line.ends_with(" ACCEPT"))
    };
    let mixed = legacy.iter().find(|old| {
        matches!(old.table.as_str(), "filter" | "nat") && old.listing.as_deref().map_or(true, does_something)
    });
    match (mixed, ours.first()) {
        (Some(LegacyListing { family, table, .. }), Some(other)) => {
            let program = legacy::program(*family);
            Ok(vec![Finding::problem(
                format!("table {table}"),
                format!(
                    "the old {table} table of iptables-legacy is loaded, and iptables has rules in table {other} \
                     of nf_tables: neither program shows all rules"
                ),
                format!(
                    "find out who uses {program} ({program}-save shows its rules), move those rules, then \
                     reboot; on Debian: update-alternatives --config iptables"
                ),
            )])
        }
        _ => Ok(Vec::new()),
    }
}
