//! `.boot_id` in a lease directory: the boot that the leases belong to, and the seal.
//!
//! The seal is a digest of the names and inodes of all lease files, as this program left them, written only when every
//! one of them has a record. While it fits, nobody else has made or removed a lease, and finding out whether a
//! container holds one takes a look at its record instead of reading every file. It is a hint that can only be lost:
//! killed before it is written, or without space for it, the files are read again. Host-local's own binary reads this
//! file among the leases, finds no container of that name in it, and passes on.

use std::cell::Cell;

use super::super::boot::BootId;
use super::super::directory::Directory;
use super::super::error::Result;
use crate::net::stable_hash;

const NAME: &str = ".boot_id";
pub(super) const TEMPORARY: &str = ".boot_id.new";
/// Behind a boot identity of 36 characters and a newline.
const SEAL_AT: u64 = 37;
/// As long as a seal, so that it can be written over in place.
const OPEN: &str = "----------------";

pub(super) struct Mark {
    /// `None` when damaged, which only a power cut does: then it is another boot's.
    pub(super) boot: Option<BootId>,
    seal: Option<u64>,
}

pub(super) fn read(directory: &Directory) -> Result<Option<Mark>> {
    let Some(bytes) = directory.read(NAME)? else { return Ok(None) };
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let boot = lines.next().and_then(BootId::parse);
    let seal = lines.next().and_then(|line| u64::from_str_radix(line, 16).ok());
    Ok(Some(Mark { boot, seal }))
}

pub(super) fn create(directory: &Directory, boot: &BootId, seal: Option<u64>) -> Result<()> {
    directory.replace(NAME, TEMPORARY, format!("{boot}\n{}\n", text(seal)).as_bytes())
}

fn text(seal: Option<u64>) -> String {
    seal.map_or_else(|| OPEN.to_owned(), |seal| format!("{seal:016x}"))
}

/// One file's part in the seal; the parts are added up.
pub(super) fn digest(name: &str, inode: u64) -> u64 {
    // The multiplier spreads neighbouring inodes; without it two swapped files could give the same sum.
    (stable_hash(&[name]) ^ inode).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The seal while the lock is held: read when first asked for, written when the lock is given back.
#[derive(Debug)]
pub(super) struct Seal {
    state: Cell<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Unknown,
    Read { stored: Option<u64>, now: Option<u64> },
}

impl Seal {
    pub(super) fn unknown() -> Self {
        Self { state: Cell::new(State::Unknown) }
    }

    pub(super) fn was_read(&self, mark: &Mark) {
        self.state.set(State::Read { stored: mark.seal, now: mark.seal });
    }

    pub(super) fn forget(&self) {
        self.state.set(State::Unknown);
    }

    /// `None` when there is none.
    pub(super) fn digest(&self, directory: &Directory) -> Result<Option<u64>> {
        if let State::Read { now, .. } = self.state.get() {
            return Ok(now);
        }
        let stored = read(directory)?.and_then(|mark| mark.seal);
        self.state.set(State::Read { stored, now: stored });
        Ok(stored)
    }

    pub(super) fn set(&self, digest: u64) {
        let stored = match self.state.get() {
            State::Read { stored, .. } => stored,
            State::Unknown => None,
        };
        self.state.set(State::Read { stored, now: Some(digest) });
    }

    pub(super) fn added(&self, directory: &Directory, name: &str) {
        self.adjust(directory, name, u64::wrapping_add);
    }

    pub(super) fn removing(&self, directory: &Directory, name: &str) {
        self.adjust(directory, name, u64::wrapping_sub);
    }

    fn adjust(&self, directory: &Directory, name: &str, with: fn(u64, u64) -> u64) {
        let Ok(Some(seal)) = self.digest(directory) else { return };
        let Ok(Some(inode)) = directory.inode(name) else { return };
        self.set(with(seal, digest(name, inode)));
    }

    pub(super) fn store(&self, directory: &Directory) {
        let State::Read { stored, now } = self.state.get() else { return };
        if stored == now {
            return;
        }
        if let Err(error) = directory.patch(NAME, SEAL_AT, text(now).as_bytes()) {
            tracing::debug!("the leases will be read again: {error}");
        }
    }
}
