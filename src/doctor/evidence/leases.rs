//! Which addresses are promised to whom, as the lease directories have it, and who sits on a lock. Reads only: neither a
//! directory nor a lock is made.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::file::lock::Holder;
use crate::host::root::Root;
use crate::plugins::host_local::RangeSet;
use crate::state::boot::boottime;
use crate::state::lease::Glance;
use crate::state::{BootId, Lease};

/// The leases of one network.
#[derive(Clone, Debug)]
pub struct LeaseDirectory {
    pub network: String,
    /// As the host sees it.
    pub path: String,
    /// The mark says another boot: the next ADD removes what is here.
    pub other_boot: bool,
    pub leases: Vec<(IpAddr, Lease)>,
    /// As the network's configuration has it; empty where no configuration was found.
    pub ranges: Vec<RangeSet>,
}

/// Somebody has held a lock of ours for as long as it lives, at most.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLock {
    pub path: String,
    pub holder: Holder,
    pub age: Duration,
}

#[derive(Clone, Debug, Default)]
pub struct Leases {
    pub directories: Vec<LeaseDirectory>,
    pub locks: Vec<HeldLock>,
}

/// A network that keeps leases, its data directory, and its ranges where a configuration names them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub network: String,
    pub data_dir: PathBuf,
    pub ranges: Vec<RangeSet>,
}

pub fn load(root: &Root, known: &[Known], other_locks: &[String]) -> Result<Leases, String> {
    let boot = BootId::current().map_err(|error| error.to_string())?;
    let mut found = Leases::default();
    let mut lock_files: BTreeSet<String> = other_locks.iter().cloned().collect();
    for Known { network, data_dir, ranges } in known {
        let path = data_dir.join(network);
        let here = root.locate(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        if !here.is_dir() {
            continue;
        }
        let failed = |error: crate::state::Error| error.to_string();
        let glance = Glance::at(&here).map_err(failed)?;
        let mut leases = Vec::new();
        for address in glance.addresses().map_err(failed)? {
            leases.extend(glance.lease(address).map_err(failed)?.map(|lease| (address, lease)));
        }
        leases.sort_unstable_by_key(|(address, _)| *address);
        lock_files.insert(path.join("lock").display().to_string());
        found.directories.push(LeaseDirectory {
            network: network.clone(),
            path: path.display().to_string(),
            other_boot: glance.is_void(&boot).map_err(failed)?,
            leases,
            ranges: ranges.clone(),
        });
    }
    found.locks = held_locks(root, &lock_files);
    Ok(found)
}

fn held_locks(root: &Root, files: &BTreeSet<String>) -> Vec<HeldLock> {
    let mut held = Vec::new();
    for path in files {
        let Ok(here) = root.locate(Path::new(path)) else { continue };
        for holder in Holder::of(&here) {
            let age = age(holder.pid).unwrap_or_default();
            held.push(HeldLock { path: path.clone(), holder, age });
        }
    }
    held
}

fn age(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let started = start(&stat)?;
    // USER_HZ, asm-generic/param.h: the same on all architectures that we run on.
    boottime().checked_sub(Duration::from_millis(started * 1000 / 100))
}

/// Field 22 of proc_pid_stat(5). The command in field 2 may contain anything.
fn start(stat: &str) -> Option<u64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_stands_behind_whatever_a_command_is_called() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start(stat), Some(4242));
        assert!(age(std::process::id()).is_some_and(|age| age < Duration::from_hours(1)));
    }
}
