//! Packet filters of others that stand in the way of what pods send.

use super::RECONCILE;
use super::host::{gateway_links, routed};
use crate::datapath::firewall::{ForwardChain, legacy};
use crate::doctor::check::{Check, Finding, Group as G, Need, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::planned;
use crate::net::{Family, IfName};

use Severity::{Broken, Warning};

pub(super) const CHECKS: &[Check] = &[
    G::Host.check(
        "forward-drop",
        "no firewall drops what pods send through the node",
        Broken,
        &[Need::Filter, Need::Attachments, Need::Configuration, Need::Plan],
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
    let families = routed(evidence)?;
    let configured = evidence.configuration()?.networks();
    let left_alone: Vec<_> =
        configured.filter(|network| network.hands_off).filter_map(|network| network.bridge.clone()).collect();
    let mut findings = Vec::new();
    for link in gateway_links(evidence)? {
        if left_alone.iter().any(|bridge| *bridge == link.as_str()) {
            continue;
        }
        for (chain, owned) in filter.forward_chains(&link) {
            let concerns = families.iter().any(|family| chain.name.sees(*family));
            let lets_through = chain.accepts() || filter.names_interface(&chain.name.table, &link);
            if concerns && chain.drops() && !lets_through {
                let whose = owner(evidence, &chain);
                let how =
                    if chain.policy_drops { "its policy is drop" } else { "a rule without conditions drops" };
                findings.push(Finding::problem(
                    format!("chain {}", chain.name),
                    format!("{how}, and nothing accepts the packets of {link}; the chain is {whose}"),
                    remedy(&chain, &link, owned),
                ));
            }
        }
    }
    let known: Vec<_> = findings.iter().map(|finding| finding.object().to_owned()).collect();
    let planned = planned::findings(evidence, "forward-drop")?;
    findings
        .extend(planned.into_iter().filter(|finding| !known.iter().any(|known| known == finding.object())));
    Ok(findings)
}

fn owner(evidence: &Evidence, chain: &ForwardChain) -> &'static str {
    let has =
        |name: &str| evidence.filter().is_ok_and(|filter| filter.has_chain_like(&chain.name.table, name));
    match chain.name.table.as_str() {
        "firewalld" => "firewalld's",
        "filter" if has("DOCKER") => "Docker's",
        "filter" if has("ufw") => "ufw's",
        "filter" => "iptables'",
        _ => "an administrator's, or another program's",
    }
}

fn remedy(chain: &ForwardChain, link: &IfName, owned: bool) -> String {
    if owned || chain.name.table == "firewalld" {
        let told = format!(
            "firewall-cmd --permanent --zone=trusted --add-interface={link} && firewall-cmd --reload"
        );
        return if owned { told } else { format!("{RECONCILE}\nuntil it is reloaded; for good: {told}") };
    }
    let again = format!("{RECONCILE}\nputs the accepts there, as every pod that starts does; by hand:\n");
    if chain.name.is_iptables() {
        let program = if chain.name.sees(Family::V4) { "iptables" } else { "ip6tables" };
        return format!("{again}{}", legacy::commands(program, link).replace("; ", "\n"));
    }
    let name = &chain.name;
    format!(
        "{again}nft insert rule {name} oifname {link} ct status dnat accept\nnft insert rule {name} oifname \
         {link} ct state established,related accept\nnft insert rule {name} iifname {link} accept"
    )
}

/// Two packet filters side by side: each shows half of the rules, and a drop in either is a drop.
fn iptables_mixed(evidence: &Evidence) -> Verdict {
    let legacy = &evidence.node()?.legacy;
    let ours = evidence.filter()?.iptables_tables();
    let mixed = legacy.iter().find(|(_, table)| table == "filter" || table == "nat");
    match (mixed, ours.first()) {
        (Some((family, table)), Some(other)) => {
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
