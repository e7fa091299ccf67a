//! The lock of this node: whoever changes what all pods share takes it first.
//!
//! A pod's own links, lease and record need no lock: their names belong to one attachment.

use std::fs::File;
use std::path::Path;

use rustix::fs::{FlockOperation, OFlags};

use super::directory::Directory;
use super::error::{Error, Result};
use super::record::ROOT;

/// Held until dropped.
#[derive(Debug)]
pub struct NodeLock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl NodeLock {
    /// Waits for whoever holds it.
    pub fn take() -> Result<Self> {
        Self::take_at(Path::new(ROOT))
    }

    fn take_at(directory: &Path) -> Result<Self> {
        let place = directory.join("lock");
        let file =
            Directory::create(directory, 0o700)?.open("lock", OFlags::RDONLY | OFlags::CREATE, 0o600)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::new("lock", &place, error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run");
        let first = NodeLock::take_at(&path).unwrap();
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || NodeLock::take_at(&path).map(drop)
        });
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!waiting.is_finished());
        drop(first);
        waiting.join().unwrap().unwrap();
    }
}
