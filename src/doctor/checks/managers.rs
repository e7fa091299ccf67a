//! Network managers of the host that would take pods' interfaces for uplinks.

use crate::doctor::check::{Check, Finding, Group, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::managers::Kind;

const fn check(id: &'static str, title: &'static str, run: fn(&Evidence) -> Verdict) -> Check {
    let needs = &[Need::Files, Need::Attachments, Need::Configuration];
    Check { id, group: Group::Host, title, severity: Severity::Warning, needs, run }
}

pub(super) const CHECKS: &[Check] = &[
    check("manager-networkmanager", "NetworkManager leaves pods' interfaces alone", networkmanager),
    check("manager-dhcpcd", "dhcpcd leaves pods' interfaces alone", dhcpcd),
    check("manager-connman", "connman leaves pods' interfaces alone", connman),
    check("manager-networkd", "systemd-networkd leaves pods' interfaces alone", networkd),
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
    let configured = evidence.configuration()?.files.iter().filter_map(|file| file.network.as_ref().ok());
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
