//! Network managers of the host that would take pods' interfaces for uplinks.
//!
//! Pure.

use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::managers::Kind;

const MANAGERS: &[Need] = &[Need::Files, Need::Attachments, Need::Configuration];

pub(super) const CHECKS: &[Check] = &[
    G::Host.check(
        "manager-networkmanager",
        "NetworkManager leaves pods' interfaces alone",
        Severity::Warning,
        MANAGERS,
        networkmanager,
    ),
    G::Host.check(
        "manager-dhcpcd",
        "dhcpcd leaves pods' interfaces alone",
        Severity::Warning,
        MANAGERS,
        dhcpcd,
    ),
    G::Host.check(
        "manager-connman",
        "connman leaves pods' interfaces alone",
        Severity::Warning,
        MANAGERS,
        connman,
    ),
    G::Host.check(
        "manager-networkd",
        "systemd-networkd leaves pods' interfaces alone",
        Severity::Warning,
        MANAGERS,
        networkd,
    ),
];

fn networkmanager(evidence: &Evidence) -> Verdict {
    judge(evidence, Kind::NetworkManager, "NetworkManager")
}

fn dhcpcd(evidence: &Evidence) -> Verdict {
    judge(evidence, Kind::Dhcpcd, "dhcpcd")
}

fn connman(evidence: &Evidence) -> Verdict {
    judge(evidence, Kind::Connman, "connman")
}

fn networkd(evidence: &Evidence) -> Verdict {
    judge(evidence, Kind::Networkd, "systemd-networkd")
}

fn judge(evidence: &Evidence, kind: Kind, name: &str) -> Verdict {
    let managers = &evidence.files()?.managers;
    let Some(manager) = managers.iter().find(|manager| manager.kind == kind) else {
        return Err(Pass::skipped(format!("{name} does not run here")));
    };
    let configured = evidence.configuration()?.networks();
    let mut bridges: Vec<String> = configured.filter_map(|network| network.bridge.clone()).collect();
    bridges.extend(evidence.records()?.promises().keys().map(ToString::to_string));
    bridges.sort_unstable();
    bridges.dedup();
    let Some(grab) = manager.grabs(&bridges) else { return Ok(Vec::new()) };
    Ok(vec![Finding::problem(
        format!("interface {}", grab.interface),
        format!("{name} takes it for an uplink: {}", grab.because),
        manager.remedy(&bridges),
    )])
}
