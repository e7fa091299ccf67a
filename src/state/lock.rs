//! Locks: one of this node, for what all pods share, and one of each attachment record, for what that record promises.
//!
//! A runtime never runs two verbs for one attachment at once, so the verbs would not need the second kind. Repair does: it
//! must not make again what a DEL is just removing. Order, where both are held: the record's first.

use std::fs::File;
use std::path::Path;
use std::time::Duration;

use rustix::fs::OFlags;

use super::directory::Directory;
use super::error::{Error, Result};
use super::record::ROOT;
use crate::file::lock;

/// How long is waited for whoever has a lock: longer than anything takes that is done with it.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than any repair of one attachment takes.
const PATIENCE_WITH_ATTACHMENT: Duration = Duration::from_secs(10);
/// A repair of all pods of a node, which another one waits for.
const PATIENCE_WITH_REPAIR: Duration = Duration::from_mins(1);

/// Held until dropped.
#[derive(Debug)]
pub struct NodeLock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl NodeLock {
    /// Waits for whoever holds it; after some seconds the error names it.
    pub fn take() -> Result<Self> {
        Self::take_at(Path::new(ROOT), "lock", PATIENCE)
    }

    /// Another lock: that of whoever repairs. Verbs never wait for it.
    pub fn of_reconcile() -> Result<Self> {
        Self::take_at(Path::new(ROOT), "reconcile.lock", PATIENCE_WITH_REPAIR)
    }

    /// As [`Self::take`], for whoever only looks: makes no file. `None` where there never was one, or it may not be opened:
    /// then nobody is waited for.
    pub fn beside(records: &Path) -> Result<Option<Self>> {
        let Some(directory) = Directory::existing(records)? else { return Ok(None) };
        let Ok(file) = directory.open("lock", OFlags::RDONLY, 0) else { return Ok(None) };
        let place = records.join("lock");
        lock::exclusive(&file, &place, PATIENCE).map_err(|error| Error::new("lock", &place, error))?;
        Ok(Some(Self(file)))
    }

    fn take_at(directory: &Path, name: &str, patience: Duration) -> Result<Self> {
        let place = directory.join(name);
        let file = Directory::create(directory, 0o700)?.open(name, OFlags::RDONLY | OFlags::CREATE, 0o600)?;
        lock::exclusive(&file, &place, patience).map_err(|error| Error::new("lock", &place, error))?;
        Ok(Self(file))
    }
}

/// Held until dropped. The file is as old as the record and goes with it; its name is the record's.
#[derive(Debug)]
pub struct RecordLock {
    directory: Directory,
    name: String,
    #[expect(dead_code, reason = "closing the file releases the lock")]
    file: File,
}

impl RecordLock {
    /// Waits for whoever holds it; after some seconds the error names it.
    pub(super) fn take(directory: &Path, name: &str) -> Result<Self> {
        let wait =
            |file: &File, place: &Path| lock::exclusive(file, place, PATIENCE_WITH_ATTACHMENT).map(|()| true);
        Self::take_by(directory, name, wait)?.ok_or_else(|| {
            Error::new("lock", &directory.join(name), std::io::Error::from(std::io::ErrorKind::WouldBlock))
        })
    }

    /// `None` while somebody else holds it.
    pub(super) fn try_take(directory: &Path, name: &str) -> Result<Option<Self>> {
        Self::take_by(directory, name, |file, _| lock::try_exclusive(file))
    }

    /// Whether somebody holds it now. Makes no file; one that may not be opened is held by nobody.
    pub(super) fn is_held(directory: &Path, name: &str) -> bool {
        let file = Directory::existing(directory).ok().flatten();
        let file = file.and_then(|directory| directory.open(name, OFlags::RDONLY, 0).ok());
        file.is_some_and(|file| matches!(lock::try_exclusive(&file), Ok(false)))
    }

    fn take_by(
        directory: &Path,
        name: &str,
        take: impl Fn(&File, &Path) -> std::io::Result<bool>,
    ) -> Result<Option<Self>> {
        let place = directory.join(name);
        let directory = Directory::create(directory, 0o700)?;
        loop {
            let file = directory.open(name, OFlags::RDONLY | OFlags::CREATE, 0o600)?;
            if !take(&file, &place).map_err(|error| Error::new("lock", &place, error))? {
                return Ok(None);
            }
            // Whoever had it may have removed the file while we opened it: then others lock another one.
            if rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_nlink > 0) {
                return Ok(Some(Self { directory, name: name.to_owned(), file }));
            }
        }
    }

    /// Gives the lock back and removes its file, when the record is no more.
    pub fn forget(self) {
        if let Err(error) = self.directory.remove(&self.name) {
            tracing::debug!("an empty file stays: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn only_one_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        let first = NodeLock::take_at(&path, "lock", PATIENCE).unwrap();
        let waiting = thread::spawn({
            let path = path.clone();
            move || NodeLock::take_at(&path, "lock", PATIENCE).map(drop)
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(first);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn a_records_lock_goes_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("locks");
        let first = RecordLock::take(&path, "one").unwrap();
        assert!(RecordLock::try_take(&path, "one").unwrap().is_none());
        assert!(RecordLock::is_held(&path, "one") && !RecordLock::is_held(&path, "two"));
        assert!(!path.join("two").exists(), "whoever only looks makes nothing");
        let other = RecordLock::try_take(&path, "two").unwrap().expect("another record");
        let waiting = thread::spawn({
            let path = path.clone();
            move || RecordLock::take(&path, "one").unwrap()
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!waiting.is_finished());
        // Whoever waited for the file that is removed must not share the lock with whoever makes it anew.
        first.forget();
        let second = waiting.join().unwrap();
        assert!(path.join("one").exists());
        assert!(RecordLock::try_take(&path, "one").unwrap().is_none());
        drop(second);
        assert!(RecordLock::try_take(&path, "one").unwrap().is_some());
        other.forget();
        assert!(!path.join("two").exists());
    }
}
