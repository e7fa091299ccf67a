//! What we changed on the host outside our own links and tables, so that it can be given back: `host.json` below
//! `/run/smarter-cni`.
//!
//! A change is written down before it is made. Void after a reboot, because the kernel forgets the switches too. Refuses
//! to make or to undo changes: it only knows what an undo has to write.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::boot::BootId;
use super::directory::Directory;
use super::error::{Error, Result};
use super::holders::NetnsId;

const NAME: &str = "host.json";
/// Only whoever holds the node's lock writes.
const TEMPORARY: &str = ".host.json.new";
/// What this program writes and reads. A file of a newer one is left alone.
const VERSION: u32 = 1;

/// One switch of the kernel, in the network namespace that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub netns: NetnsId,
    /// Path below `/proc/sys`, such as `net/ipv4/ip_forward`.
    pub key: String,
    pub old: String,
    pub new: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    version: u32,
    boot_id: BootId,
    changes: Vec<Change>,
}

/// The changes of this boot.
#[derive(Clone, Debug)]
pub struct HostChanges {
    root: PathBuf,
    boot: BootId,
}

/// Whether there is a file of changes at all, of whatever boot.
pub fn changes_exist(root: &Path) -> bool {
    root.join(NAME).exists()
}

impl HostChanges {
    /// `root` is [`super::record::ROOT`] on a node. Touches nothing.
    pub fn at(root: &Path, boot: BootId) -> Self {
        Self { root: root.to_owned(), boot }
    }

    /// In the order in which they were made; none when the file is missing, damaged or of another boot.
    pub fn read(&self) -> Result<Vec<Change>> {
        let Some(directory) = Directory::existing(&self.root)? else { return Ok(Vec::new()) };
        let Some(bytes) = directory.read(NAME)? else { return Ok(Vec::new()) };
        match serde_json::from_slice::<Document>(&bytes) {
            Ok(document) if document.boot_id == self.boot && document.version == VERSION => {
                Ok(document.changes)
            }
            Ok(_) => Ok(Vec::new()),
            Err(error) => {
                let path = self.root.join(NAME);
                tracing::warn!("{} is damaged and counts as absent: {error}", path.display());
                Ok(Vec::new())
            }
        }
    }

    /// Adds a change that is about to be made. One of the same switch keeps its first old value. The caller holds the
    /// node's lock.
    pub fn remember(&self, change: Change) -> Result<()> {
        let mut changes = self.read()?;
        match changes.iter_mut().find(|known| known.netns == change.netns && known.key == change.key) {
            Some(known) if known.new == change.new => return Ok(()),
            Some(known) => known.new = change.new,
            None => changes.push(change),
        }
        self.write(changes)
    }

    /// Removes what was given back. The caller holds the node's lock.
    pub fn forget(&self, given_back: &[Change]) -> Result<()> {
        let mut changes = self.read()?;
        changes.retain(|change| !given_back.contains(change));
        if changes.is_empty() {
            let Some(directory) = Directory::existing(&self.root)? else { return Ok(()) };
            directory.remove(TEMPORARY)?;
            return directory.remove(NAME).map(drop);
        }
        self.write(changes)
    }

    fn write(&self, changes: Vec<Change>) -> Result<()> {
        let document = Document { version: VERSION, boot_id: self.boot.clone(), changes };
        let bytes = serde_json::to_vec_pretty(&document)
            .map_err(|error| Error::new("write", &self.root.join(NAME), std::io::Error::from(error)))?;
        Directory::create(&self.root, 0o700)?.replace(NAME, TEMPORARY, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, old: &str, new: &str) -> Change {
        let netns = NetnsId { dev: 4, ino: 7 };
        Change { netns, key: key.to_owned(), old: old.to_owned(), new: new.to_owned() }
    }

    fn changes(directory: &tempfile::TempDir) -> HostChanges {
        HostChanges::at(&directory.path().join("run"), BootId::current().unwrap())
    }

    #[test]
    fn changes_are_remembered_in_order_until_they_are_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let host = changes(&directory);
        assert_eq!(host.read().unwrap(), []);
        let [forward, advertisements] =
            [change("net/ipv4/ip_forward", "0", "1"), change("net/ipv6/conf/eth0/accept_ra", "1", "2")];
        host.remember(forward.clone()).unwrap();
        host.remember(advertisements.clone()).unwrap();
        assert_eq!(host.read().unwrap(), [forward.clone(), advertisements.clone()]);
        host.forget(std::slice::from_ref(&forward)).unwrap();
        assert_eq!(host.read().unwrap(), std::slice::from_ref(&advertisements));
        host.forget(&[advertisements]).unwrap();
        assert!(!directory.path().join("run/host.json").exists());
    }

    #[test]
    fn the_first_old_value_is_what_the_host_had() {
        let directory = tempfile::tempdir().unwrap();
        let host = changes(&directory);
        host.remember(change("net/ipv4/ip_forward", "0", "1")).unwrap();
        host.remember(change("net/ipv4/ip_forward", "1", "1")).unwrap();
        host.remember(change("net/ipv4/ip_forward", "2", "3")).unwrap();
        assert_eq!(host.read().unwrap(), [change("net/ipv4/ip_forward", "0", "3")]);
    }

    #[test]
    fn other_boots_and_damaged_files_count_for_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let host = changes(&directory);
        host.remember(change("net/ipv4/ip_forward", "0", "1")).unwrap();
        let other = BootId::parse("00000000-0000-4000-8000-000000000000").unwrap();
        assert_eq!(HostChanges::at(&directory.path().join("run"), other).read().unwrap(), []);
        std::fs::write(directory.path().join("run/host.json"), "{").unwrap();
        assert_eq!(host.read().unwrap(), []);
    }
}
