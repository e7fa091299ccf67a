//! The facts that a view is made of: attachment records, leases and links. Reads only, locks nothing; what may not be read
//! is left out and named.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::assemble::{Facts, Leased};
use crate::conflist;
use crate::datapath::census;
use crate::datapath::session::Session;
use crate::host::root::Root;
use crate::host::runtimes::{self, Runtime};
use crate::net::AttachmentId;
use crate::plugins::{host_local, portmap};
use crate::state::elsewhere::{COME_HERE, is_elsewhere};
use crate::state::holders::{self, GRACE, LIBCNI_RESULTS, Liveness, Whereabouts};
use crate::state::lease::DATA_DIR;
use crate::state::{BootId, Holder, Lease, Record, Records, Store, boot, record};

/// What is known of the node at this moment.
pub(super) fn gather() -> Facts {
    let mut facts = Facts { now: boot::boottime(), ..Facts::default() };
    let boot = match BootId::current() {
        Ok(boot) => Some(boot),
        Err(error) => {
            facts.unread.push(format!("the identity of this boot: {error}"));
            None
        }
    };
    if is_elsewhere() {
        facts.unread.push(format!("attachment records: {COME_HERE} status"));
    }
    if let Some(boot) = &boot {
        read_records(&mut facts, boot);
    }
    match Session::open(None).and_then(|mut session| census::links(&mut session)) {
        Ok(links) => facts.links = Some(links),
        Err(error) => facts.unread.push(format!("links: {error}")),
    }
    read_drained(&mut facts);
    for directory in lease_directories(&facts.records) {
        read_lease_directory(&mut facts, &directory, boot.as_ref());
    }
    facts
}

/// What may not be read is root's; what cannot be read by anybody is damaged.
fn unread(facts: &mut Facts, what: &str, error: &crate::state::Error) {
    let denied = matches!(error.errno(), Some(Errno::ACCESS | Errno::PERM));
    facts.damaged |= !denied;
    let next = if denied { "; run as root" } else { "" };
    facts.unread.push(format!("{what}: {error}{next}"));
}

fn read_records(facts: &mut Facts, boot: &BootId) {
    let all = match Records::at(Path::new(record::ROOT), boot.clone()).all() {
        Ok(all) => all,
        Err(error) => return unread(facts, "attachment records", &error),
    };
    for record in all {
        if holders::whereabouts(&record) == Whereabouts::Gone && facts.now >= record.created() + GRACE {
            facts.gone.insert(record.id.clone());
        }
        facts.records.entry(record.id.clone()).or_default().push(record);
    }
}

/// What an uninstallation that waits, or was left half-way, wrote where a runtime looks.
fn read_drained(facts: &mut Facts) {
    let root = Root::at("/");
    let runtimes = runtimes::find(&root).runtimes;
    let places = runtimes.iter().flat_map(Runtime::may_look_in).map(|(conf_dir, _)| conf_dir);
    let directories: BTreeSet<&Path> = places.chain([Path::new(runtimes::DEFAULT_CONF_DIR)]).collect();
    for path in directories.iter().flat_map(|dir| conflist::FILE_NAMES.map(|name| dir.join(name))) {
        let bytes = root.read(&path).ok().flatten();
        if let Some(network) = bytes.and_then(|bytes| conflist::drains(&bytes)) {
            facts.drained.insert(network, path.display().to_string());
        }
    }
}

/// Where our configuration and the Go plugins' default have them, and where the records say. A directory with two names
/// (`/var/run` is a link) is one.
fn lease_directories(records: &BTreeMap<AttachmentId, Vec<Record>>) -> BTreeSet<PathBuf> {
    let leasing = records.values().flatten().filter(|record| record.plugin != portmap::PLUGIN);
    let mut directories: BTreeSet<PathBuf> = leasing.map(host_local::data_dir_of).collect();
    directories.extend([DATA_DIR, conflist::DATA_DIR].map(PathBuf::from));
    directories.iter().filter_map(|path| fs::canonicalize(path).ok()).collect()
}

fn read_lease_directory(facts: &mut Facts, directory: &Path, boot: Option<&BootId>) {
    let place = directory.display();
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            let error = crate::state::Error::new("open", directory, error);
            return unread(facts, "leases", &error);
        }
    };
    let is_directory = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let names =
        entries.flatten().filter(is_directory).filter_map(|entry| entry.file_name().into_string().ok());
    let mut closed = 0;
    for network in names.collect::<BTreeSet<_>>() {
        match read_network(facts, directory, &network, boot) {
            Ok(unreadable) => closed += unreadable,
            Err(error) => unread(facts, &format!("leases of {network}"), &error),
        }
    }
    if closed > 0 {
        facts.unread.push(format!("the holders of {closed} leases in {place}; run as root"));
    }
}

/// Returns how many leases may not be read.
fn read_network(
    facts: &mut Facts,
    directory: &Path,
    network: &str,
    boot: Option<&BootId>,
) -> crate::state::Result<usize> {
    let Some(glance) = Store::glance(directory, network)? else { return Ok(0) };
    // Leases of another boot are void: the next ADD removes them.
    if boot.is_some_and(|boot| glance.is_void(boot).unwrap_or(false)) {
        return Ok(0);
    }
    let mut closed = 0;
    for address in glance.addresses()? {
        let (holder, reclaimable) = match glance.lease(address) {
            Ok(None) => continue,
            Ok(Some(Lease::Held(holder))) => {
                let reclaimable = is_reclaimable(facts, network, &holder);
                (Some(holder), reclaimable)
            }
            Ok(Some(Lease::Damaged)) => (None, true),
            Err(_) => {
                closed += 1;
                (None, false)
            }
        };
        facts.leases.push(Leased { network: network.to_owned(), address, holder, reclaimable });
    }
    facts.leases.sort_by_key(|leased| leased.address);
    Ok(closed)
}

/// Whether the next ADD that finds no free address may take it: its holder is proven to be gone.
fn is_reclaimable(facts: &Facts, network: &str, holder: &Holder) -> bool {
    let mut recorded = facts.records_of(network, holder).peekable();
    if recorded.peek().is_some() {
        return recorded.all(|key| facts.gone.contains(key));
    }
    holders::of_cache(Path::new(LIBCNI_RESULTS), network, holder) == Liveness::Dead
}
