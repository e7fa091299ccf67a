//! Which addresses are promised to whom: leases, the attachments they belong to, and who sits on the lock.
//!
//! Pure.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::PLAN;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::Attachment;
use crate::doctor::evidence::leases::LeaseDirectory;
use crate::state::{Holder, Lease};
use crate::text::typed;

use Severity::{Broken, Warning};

const LEASES: &[Need] = &[Need::Leases, Need::Attachments, Need::Configuration];

pub(super) const CHECKS: &[Check] = &[
    G::Leases.check("lease-other-boot", "no lease is of another boot", Warning, LEASES, other_boot),
    G::Leases.check("lease-damaged", "every lease names its holder", Warning, LEASES, damaged),
    G::Leases.planned("lease-dead", "no lease belongs to a pod that is gone", Warning, PLAN),
    G::Leases.check("lease-orphan", "every lease has an attachment", Warning, LEASES, orphan),
    G::Leases.planned("lease-missing", "every attachment has its lease", Broken, PLAN),
    G::Leases.check("lease-outside", "every lease is inside the range", Warning, LEASES, outside),
    G::Leases.check("lease-twice", "no pod holds two leases of one range", Warning, LEASES, twice),
    G::Leases.check(
        "pool-nearly-full",
        "there are addresses for the next pods",
        Warning,
        LEASES,
        nearly_full,
    ),
    G::Leases.check("lock-held", "nobody sits on a lock", Broken, LEASES, lock_held),
    G::Leases.check(
        "record-damaged",
        "every attachment record can be read",
        Warning,
        &[Need::Attachments],
        record_damaged,
    ),
];

fn directories(evidence: &Evidence) -> Result<&[LeaseDirectory], Pass> {
    let directories = &evidence.leases()?.directories;
    if directories.is_empty() {
        return Err(Pass::skipped("no address was leased since the boot"));
    }
    Ok(directories)
}

/// Leases of this boot that name somebody.
fn held(directory: &LeaseDirectory) -> impl Iterator<Item = (IpAddr, &Holder)> {
    directory.leases.iter().filter(|_| !directory.other_boot).filter_map(|(address, lease)| match lease {
        Lease::Held(holder) => Some((*address, holder)),
        Lease::Damaged => None,
    })
}

fn file(directory: &LeaseDirectory, address: IpAddr) -> String {
    format!("lease {}/{address}", directory.path)
}

fn short(container: &str) -> &str {
    container.get(..12).unwrap_or(container)
}

/// Harmless: the next ADD removes them. But whoever counts files is misled.
fn other_boot(evidence: &Evidence) -> Verdict {
    let old = directories(evidence)?
        .iter()
        .filter(|directory| directory.other_boot && !directory.leases.is_empty());
    let findings = old.map(|directory| {
        Finding::problem(
            format!("network {}", directory.network),
            format!("the {} leases in {} are of another boot", directory.leases.len(), directory.path),
            "nothing has to be done: the next pod that starts removes them; a dataDir below /run does not keep them at all",
        )
    });
    Ok(findings.collect())
}

fn damaged(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for directory in directories(evidence)?.iter().filter(|directory| !directory.other_boot) {
        for (address, _) in directory.leases.iter().filter(|(_, lease)| *lease == Lease::Damaged) {
            findings.push(Finding::problem(
                file(directory, *address),
                "the file is empty or names nobody, as after a power cut: the address counts as free, to the Go \
                 plugin as taken",
                format!("rm {}", typed(format!("{}/{address}", directory.path))),
            ));
        }
    }
    Ok(findings)
}

/// The attachment of a holder in a network.
fn attachment<'a>(
    evidence: &'a Evidence,
    directory: &LeaseDirectory,
    holder: &Holder,
) -> Option<&'a Attachment> {
    let all = evidence.records().ok()?.all.iter();
    all.into_iter().find(|pod| {
        pod.record.id.network == directory.network
            && pod.record.id.container == holder.container
            && holder.if_name.as_ref().is_none_or(|name| *name == pod.record.id.if_name)
    })
}

/// Of a holder that no record knows: the Go plugin's, before we came, or a record was lost.
fn orphan(evidence: &Evidence) -> Verdict {
    evidence.records()?;
    let mut findings = Vec::new();
    for directory in directories(evidence)? {
        for (address, holder) in held(directory) {
            // A lease of IPAM's own, without our bridge, has no attachment.
            let without_bridge =
                evidence.records()?.all.iter().all(|pod| pod.record.id.network != directory.network);
            let configured = evidence.configuration()?.networks();
            let bridged = configured
                .filter(|network| network.name == directory.network)
                .any(|network| network.bridge.is_some());
            if (without_bridge && !bridged) || attachment(evidence, directory, holder).is_some() {
                continue;
            }
            // A pod that the Go plugin attached before we came.
            if evidence.carried.contains(&address) {
                continue;
            }
            findings.push(Finding::problem(
                file(directory, address),
                format!(
                    "container {} holds it, and nothing is known of such an attachment",
                    short(&holder.container)
                ),
                format!(
                    "crictl pods --id {}\nif it shows no such pod: rm {}",
                    typed(short(&holder.container)),
                    typed(format!("{}/{address}", directory.path))
                ),
            ));
        }
    }
    Ok(findings)
}

fn outside(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    let known: Vec<_> =
        directories(evidence)?.iter().filter(|directory| !directory.ranges.is_empty()).collect();
    if known.is_empty() {
        return Err(Pass::skipped("no configuration of these networks was found"));
    }
    for directory in known {
        let ranges: Vec<_> = directory.ranges.iter().map(ToString::to_string).collect();
        for (address, _) in
            held(directory).filter(|(address, _)| !directory.ranges.iter().any(|set| set.contains(*address)))
        {
            findings.push(Finding::problem(
                file(directory, address),
                format!(
                    "it is outside of the configured range {}: the range was changed while pods ran",
                    ranges.join(" and ")
                ),
                "restart the pods of the old range, or give the network its old range back",
            ));
        }
    }
    Ok(findings)
}

fn twice(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for directory in directories(evidence)? {
        let mut holders: BTreeMap<(String, String, usize), Vec<IpAddr>> = BTreeMap::new();
        for (address, holder) in held(directory) {
            // One of each set. Without a configuration, one of each family.
            let set = directory.ranges.iter().position(|set| set.contains(address));
            let set = set.unwrap_or(usize::MAX - usize::from(address.is_ipv4()));
            let name = holder.if_name.as_ref().map(ToString::to_string).unwrap_or_default();
            holders.entry((holder.container.clone(), name, set)).or_default().push(address);
        }
        for ((container, ..), addresses) in holders.into_iter().filter(|(_, addresses)| addresses.len() > 1) {
            let holder = Holder { container: container.clone(), if_name: None };
            let pod = evidence.records()?.all.iter().find(|pod| pod.record.id.container == holder.container);
            let in_use =
                |address: &&IpAddr| pod.is_some_and(|pod| pod.addresses().any(|own| own.ip() == **address));
            let spare: Vec<_> = addresses.iter().filter(|address| !in_use(address)).collect();
            let Some(spare) = spare.first() else { continue };
            findings.push(Finding::problem(
                file(directory, **spare),
                format!("container {} holds {} leases of one range", short(&container), addresses.len()),
                format!("rm {}\nwhich its pod does not use", typed(format!("{}/{spare}", directory.path))),
            ));
        }
    }
    Ok(findings)
}

/// Percent of a pool.
const NEARLY_FULL: u128 = 90;

fn nearly_full(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    let known: Vec<_> =
        directories(evidence)?.iter().filter(|directory| !directory.ranges.is_empty()).collect();
    if known.is_empty() {
        return Err(Pass::skipped("no configuration of these networks was found"));
    }
    for directory in known {
        for set in &directory.ranges {
            let used = held(directory).filter(|(address, _)| set.contains(*address)).count() as u128;
            let size = set.size();
            if used * 100 < size * NEARLY_FULL {
                continue;
            }
            findings.push(Finding::problem(
                format!("network {}", directory.network),
                format!("{used} of {size} addresses of {set} are leased: {} pods more fit", size.saturating_sub(used)),
                "widen the range in the network's configuration, or stop pods; leases of pods that are gone are \
                 named above",
            ));
        }
    }
    Ok(findings)
}

/// A plugin holds a lock for milliseconds. One that lives for so long hangs.
const LONG: Duration = Duration::from_secs(10);

fn lock_held(evidence: &Evidence) -> Verdict {
    let locks = evidence.leases()?.locks.iter().filter(|lock| lock.age >= LONG || lock.holder.stopped);
    let findings = locks.map(|lock| {
        let (holder, age) = (&lock.holder, lock.age.as_secs());
        let state = if holder.stopped { ", stopped" } else { "" };
        Finding::problem(
            format!("lock {}", lock.path),
            format!(
                "{} (process {}, {age} s old{state}) holds it: every pod that starts or stops waits for it",
                holder.command, holder.pid
            ),
            holder.remedy(Path::new(&lock.path)),
        )
    });
    Ok(findings.collect())
}

fn record_damaged(evidence: &Evidence) -> Verdict {
    let findings = evidence.records()?.damaged.iter().map(|(path, why)| {
        Finding::problem(
            format!("file {path}"),
            format!(
                "it cannot be read: {why}; the attachment counts as unknown, and is neither checked nor \
                 repaired"
            ),
            format!("rm {}\nrestarting its pod makes a new one", typed(path)),
        )
    });
    Ok(findings.collect())
}
