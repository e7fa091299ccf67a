//! Switches of the kernel that decide whether pods' packets pass the node, and the files that set them.
//!
//! Pure.

use super::RECONCILE;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::{Evidence, sysctls};
use crate::doctor::planned;
use crate::net::{Family, IfName};
use crate::text::typed;

use Severity::{Broken, Warning};

pub(super) const SWITCHES: &[Need] = &[Need::Network, Need::Attachments, Need::Files];

pub(super) const CHECKS: &[Check] = &[
    G::Host.check(
        "forwarding",
        "the node forwards for its pods",
        Broken,
        &[Need::Plan, Need::Files],
        forwarding,
    ),
    G::Host.check(
        "forwarding-bridge",
        "bridge and uplinks take part in forwarding",
        Broken,
        SWITCHES,
        forwarding_bridge,
    ),
    G::Host.check(
        "forwarding-reset",
        "no file switches forwarding off again",
        Warning,
        SWITCHES,
        forwarding_reset,
    ),
    G::Host.check("rp-filter", "no reverse path filter drops what comes back", Warning, SWITCHES, rp_filter),
];

fn forwarding_key(family: Family) -> &'static str {
    if family == Family::V4 { "net/ipv4/ip_forward" } else { "net/ipv6/conf/all/forwarding" }
}

pub(super) fn dotted(key: &str) -> String {
    key.chars()
        .map(|c| {
            if c == '/' {
                '.'
            } else if c == '.' {
                '/'
            } else {
                c
            }
        })
        .collect()
}

/// `sysctl -w x=1`, and what to do about a file that says something else.
pub(super) fn turn(evidence: &Evidence, key: &str, value: &str) -> (String, String) {
    turn_by(evidence, key, value, format!("sysctl -w {}={value}", typed(dotted(key))))
}

/// As [`turn`], with another command.
pub(super) fn turn_by(evidence: &Evidence, key: &str, value: &str, command: String) -> (String, String) {
    let files = evidence.files();
    let setter = files.ok().and_then(|files| sysctls::setter(&files.sysctls, key));
    match setter.filter(|setter| setter.value() != value) {
        Some(setter) => (
            format!(", and {} sets it to {}", setter.place(), setter.value()),
            format!("{command}\nand change {}, which is applied again with the next boot", setter.place()),
        ),
        None => (String::new(), command),
    }
}

/// Forwarding by hand would be for everybody; the plan's comes with the guard. Who switched it off does it again.
fn forwarding(evidence: &Evidence) -> Verdict {
    let mut findings = planned::verdict(evidence, "forwarding")?;
    for finding in &mut findings {
        let Finding::Problem { object, found, fix } = finding else { continue };
        let key = object.trim_start_matches("sysctl ").replace('.', "/");
        let (setter, command) = turn_by(evidence, &key, "1", RECONCILE.to_owned());
        found.push_str(&setter);
        *fix = command;
    }
    Ok(findings)
}

pub(super) fn routed(evidence: &Evidence) -> Result<Vec<Family>, Pass> {
    let routed = evidence.attachments()?.routed();
    if routed.is_empty() { Err(Pass::skipped("the node is no gateway for its pods")) } else { Ok(routed) }
}

pub(super) fn gateway_links(evidence: &Evidence) -> Result<Vec<IfName>, Pass> {
    let promises = evidence.attachments()?.promises();
    Ok(promises.values().flat_map(|promise| promise.gateways.keys().cloned()).collect())
}

fn forwarding_bridge(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    if !routed(evidence)?.contains(&Family::V4) {
        return Err(Pass::skipped("IPv6 has no switch per interface that counts"));
    }
    if node.switch("net/ipv4/ip_forward") != Some("1") {
        return Err(Pass::skipped("forwarding is off altogether"));
    }
    let mut findings = Vec::new();
    let mut off = |link: &str, object: String, lost: &str| {
        let key = format!("net/ipv4/conf/{link}/forwarding");
        if node.switch(&key) == Some("0") {
            let (setter, fix) = turn(evidence, &key, "1");
            let found = format!("{} is 0{setter}: {lost}", dotted(&key));
            findings.push(Finding::problem(object, found, fix));
        }
    };
    let bridges = gateway_links(evidence)?;
    for link in &bridges {
        off(link.as_str(), format!("bridge {link}"), "what pods send is not forwarded");
    }
    for link in node.uplinks() {
        if !bridges.iter().any(|bridge| bridge.as_str() == link.name) {
            let lost = "what comes in there for pods, answers included, is not forwarded";
            off(&link.name, format!("interface {}", link.name), lost);
        }
    }
    Ok(findings)
}

/// Forwarding is on, but not for long.
fn forwarding_reset(evidence: &Evidence) -> Verdict {
    let (node, files) = (evidence.node()?, evidence.files()?);
    let mut findings = Vec::new();
    for family in routed(evidence)? {
        let key = forwarding_key(family);
        let setter = sysctls::setter(&files.sysctls, key).filter(|setter| setter.value() == "0");
        if let Some(setter) = setter.filter(|_| node.switch(key) == Some("1")) {
            findings.push(Finding::problem(
                format!("file {}", setter.file),
                format!(
                    "{} sets {} to 0: pods are cut off whenever it is applied, at the latest with the next \
                     update of the system",
                    setter.place(),
                    dotted(key)
                ),
                format!(
                    "echo {} >> /etc/sysctl.d/99-zz-pods.conf\nor remove that line, if nobody needs it",
                    typed(format!("{} = 1", dotted(key)))
                ),
            ));
        }
    }
    Ok(findings)
}

/// Strict filtering asks whether an answer would leave where the packet came in. With two uplinks it does not.
fn rp_filter(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    routed(evidence)?;
    let defaults = node.network.default_routes(Family::V4);
    let mut links: Vec<u32> = defaults.iter().filter_map(|route| route.index).collect();
    links.dedup();
    let Some((preferred, others)) = links.split_first().filter(|(_, others)| !others.is_empty()) else {
        return Err(Pass::skipped("there is one uplink at most"));
    };
    let all = node.number("net/ipv4/conf/all/rp_filter").unwrap_or(0);
    let mut findings = Vec::new();
    for link in
        others.iter().filter(|link| *link != preferred).filter_map(|link| node.network.by_index(*link))
    {
        let key = format!("net/ipv4/conf/{}/rp_filter", link.name);
        // The kernel takes the larger of the two (ip-sysctl).
        if node.number(&key).unwrap_or(0).max(all) != 1 {
            continue;
        }
        let (setter, fix) = turn(evidence, &key, "2");
        findings.push(Finding::problem(
            format!("interface {}", link.name),
            format!(
                "{} is strict{setter}, and the preferred default route leaves through {}: clients behind {} do \
                 not reach host ports",
                dotted(&key),
                node.network.name_of(*preferred),
                link.name
            ),
            fix,
        ));
    }
    Ok(findings)
}
