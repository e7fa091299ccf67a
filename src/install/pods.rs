//! What is remembered of pods: who is attached, and which leases nobody needs any more. Reads only, below the node's own
//! `/`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::conflist::DATA_DIR;
use crate::state::holders::{self, LIBCNI_RESULTS, Liveness};
use crate::state::{BootId, Lease, Record, Records, Store, record};

/// What is remembered of pods.
#[derive(Debug, Default)]
pub(super) struct Pods {
    /// Pods, or containers, for people.
    pub(super) attached: Vec<String>,
    /// Files of leases whose pods are gone, and of the bookkeeping beside them.
    pub(super) removable: Vec<PathBuf>,
    /// Addresses whose holders nobody can judge.
    pub(super) unknown: Vec<String>,
    /// Whoever had leases here before us goes on with his bookkeeping.
    shared: bool,
}

/// How many attachments there are records of. Cheap, to be asked every second.
pub(super) fn remembered() -> usize {
    let names =
        BootId::current().ok().and_then(|boot| Records::at(Path::new(record::ROOT), boot).names().ok());
    names.map_or(0, |names| names.count())
}

impl Pods {
    pub(super) fn look(network: &str, shared: bool) -> Result<Self, String> {
        let boot = BootId::current().map_err(|error| format!("which boot is this? {error}"))?;
        let records = Records::at(Path::new(record::ROOT), boot.clone());
        let records = records.all().map_err(|error| error.to_string())?;
        let mut state = Self { shared, ..Self::default() };
        for record in records.iter().filter(|record| !holders::is_gone(record)) {
            let name = record.display_name();
            if !state.attached.contains(&name) {
                state.attached.push(name);
            }
        }
        let mut stores: BTreeSet<(PathBuf, String)> = [(PathBuf::from(DATA_DIR), network.to_owned())].into();
        let recorded = |record: &Record| {
            Some((PathBuf::from(record.leases.data_dir.as_ref()?), record.id.network.clone()))
        };
        stores.extend(records.iter().filter_map(recorded));
        for (data_dir, network) in stores {
            state.leases(&data_dir, &network, &boot, &records)?;
        }
        Ok(state)
    }

    fn leases(
        &mut self,
        data_dir: &Path,
        network: &str,
        boot: &BootId,
        records: &[Record],
    ) -> Result<(), String> {
        let failed = |error: crate::state::Error| error.to_string();
        let Some(store) = Store::glance(data_dir, network).map_err(failed)? else { return Ok(()) };
        let void = store.is_void(boot).map_err(failed)?;
        let mut held = false;
        for address in store.addresses().map_err(failed)? {
            let holder = match store.lease(address).map_err(failed)? {
                Some(Lease::Held(holder)) if !void => holder,
                _ => {
                    self.removable.push(store.path().join(address.to_string()));
                    continue;
                }
            };
            if records.iter().any(|record| record.id.container == holder.container) {
                self.removable.push(store.path().join(address.to_string()));
                continue;
            }
            match holders::of_cache(Path::new(LIBCNI_RESULTS), network, &holder) {
                Liveness::Alive => self.attached.push(holder.container),
                Liveness::Dead => self.removable.push(store.path().join(address.to_string())),
                Liveness::Unknown => {
                    held = true;
                    self.unknown.push(address.to_string());
                }
            }
        }
        let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name == ".boot_id");
        let shared = self.shared || held;
        self.removable.extend(bookkeeping(store.path()).into_iter().filter(|path| !shared || ours(path)));
        Ok(())
    }
}

/// What host-local and we keep beside the leases.
fn bookkeeping(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let known = |name: &String| {
        matches!(name.as_str(), "lock" | ".boot_id" | ".lease.new") || name.starts_with("last_reserved_ip.")
    };
    names.filter(known).map(|name| directory.join(name)).collect()
}
