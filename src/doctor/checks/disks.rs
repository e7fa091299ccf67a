//! Directories that are written to, and those that plugins are executed from.
//!
//! Pure.

use super::INSTALL;
use crate::doctor::check::{Check, Finding, Group as G, Need, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::files::Purpose;
use crate::text::typed;

use Severity::Broken;

const DISKS: &[Need] = &[Need::Files, Need::Configuration, Need::Attachments];

pub(super) const CHECKS: &[Check] = &[
    G::Host.check(
        "directory",
        "leases, records, plugins and networks have their directories",
        Broken,
        DISKS,
        directory,
    ),
    G::Host.check("disk-full", "there is room for leases and records", Broken, DISKS, disk_full),
    G::Host.check("disk-read-only", "leases and records can be written", Broken, DISKS, disk_read_only),
    G::Host.check("disk-noexec", "plugins may be executed", Broken, DISKS, disk_noexec),
];

/// Less than this, and the next pod may be the one that fails.
const ROOM: u64 = 1 << 20;
const FILES: u64 = 64;

/// Whatever looks there says that it could not; this says why.
fn directory(evidence: &Evidence) -> Verdict {
    let places = evidence.files()?.directories.iter();
    let mut findings: Vec<Finding> = Vec::new();
    for place in places {
        let Some((path, what)) = &place.obstacle else { continue };
        let then = match place.purpose {
            Purpose::State | Purpose::Records => "no pod can be attached",
            Purpose::Plugins => "the runtime finds no plugin",
            Purpose::Networks => "the runtime finds no network",
        };
        let finding = Finding::problem(
            format!("directory {path}"),
            format!("{what}: {then}"),
            format!("mv {path} {path}.moved\nwhat has to be there is made by the next pod, or by {INSTALL}"),
        );
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    Ok(findings)
}

fn disk_full(evidence: &Evidence) -> Verdict {
    let places = evidence.files()?.directories.iter().filter(|place| place.purpose == Purpose::State);
    let mut findings = Vec::new();
    for place in places {
        let what = if place.bytes > 0 && place.free_bytes < ROOM {
            format!("{} KiB are left of {} MiB", place.free_bytes >> 10, place.bytes >> 20)
        } else if place.inodes > 0 && place.free_inodes < FILES {
            format!("{} inodes are left of {}", place.free_inodes, place.inodes)
        } else {
            continue;
        };
        findings.push(Finding::problem(
            format!("directory {}", place.path),
            format!("{what}: no pod can be attached"),
            format!("free space there (df -h {0}; df -i {0}), or move it to a tmpfs below /run", place.path),
        ));
    }
    Ok(findings)
}

fn disk_read_only(evidence: &Evidence) -> Verdict {
    let places = evidence.files()?.directories.iter();
    let read_only = places.filter(|place| place.purpose == Purpose::State && place.read_only);
    let findings = read_only.map(|place| {
        Finding::problem(
            format!("directory {}", place.path),
            "its file system is mounted read-only: no pod can be attached",
            format!(
                "mount -o remount,rw $(findmnt -no TARGET -T {})\nafter a fault of the disk: fsck, then reboot",
                typed(&place.path)
            ),
        )
    });
    Ok(findings.collect())
}

fn disk_noexec(evidence: &Evidence) -> Verdict {
    let places = evidence.files()?.directories.iter();
    let barred = places.filter(|place| place.purpose == Purpose::Plugins && place.no_exec);
    let findings = barred.map(|place| {
        Finding::problem(
            format!("directory {}", place.path),
            "its file system is mounted noexec: the runtime cannot execute the plugins there",
            format!(
                "mount -o remount,exec $(findmnt -no TARGET -T {})\nand change /etc/fstab",
                typed(&place.path)
            ),
        )
    });
    Ok(findings.collect())
}
