//! The lock of this node: whoever changes what all pods share takes it first.
//!
//! A pod's own links, lease and record need no lock: their names belong to one attachment.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags};

/// Gone with a reboot, like everything it protects.
pub const RUN_DIR: &str = "/run/smarter-cni";

/// Held until dropped.
#[derive(Debug)]
pub struct NodeLock(#[expect(dead_code, reason = "closing the file is what releases the lock")] OwnedFd);

impl NodeLock {
    /// Waits for whoever holds it.
    pub fn take() -> io::Result<Self> {
        Self::take_at(Path::new(RUN_DIR))
    }

    fn take_at(directory: &Path) -> io::Result<Self> {
        super::create_private_dir(directory)?;
        let flags = OFlags::RDONLY | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = rustix::fs::open(directory.join("lock"), flags, Mode::RUSR | Mode::WUSR)?;
        loop {
            match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Self(file)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
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
