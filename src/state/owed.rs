//! Flows that are still to be forgotten: what an ADD or a DEL left to a process that nobody waits for, in
//! `/run/smarter-cni/flows`, one file per call.
//!
//! A file is gone when its flows are. So what a process left that was killed is found by whoever comes next. One process at
//! a time works on them, for all who left some. Refuses to know what a flow is. Void after a reboot, as flows are.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::boot::{BootId, boottime};
use super::directory::Directory;
use super::error::{Error, Result};
use crate::file::lock;

const LOCK: &str = "lock";
const ENDING: &str = ".json";
/// As many ports as a record may promise, with some more words for each.
const LONGEST: usize = 32 << 20;

/// A host port that was opened or closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Else it was closed.
    pub opened: bool,
    /// IANA number.
    pub protocol: u8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub pod: IpAddr,
    pub pod_port: u16,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    boot_id: BootId,
    ports: Vec<Port>,
}

/// The directory of a node.
#[derive(Clone, Debug)]
pub struct Owed {
    directory: PathBuf,
    boot: BootId,
}

impl Owed {
    /// Touches nothing.
    pub(super) fn at(directory: PathBuf, boot: BootId) -> Self {
        Self { directory, boot }
    }

    /// Leaves something to be done.
    pub fn add(&self, ports: Vec<Port>) -> Result<()> {
        /// One process may call twice within one tick.
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let (now, process) = (boottime().as_nanos(), std::process::id());
        let name = format!("{now:x}-{process}-{}{ENDING}", CALLS.fetch_add(1, Ordering::Relaxed));
        let document = Document { boot_id: self.boot.clone(), ports };
        let bytes = serde_json::to_vec(&document)
            .map_err(|error| Error::new("write", &self.directory.join(&name), std::io::Error::from(error)))?;
        Directory::create(&self.directory, 0o700)?.replace(&name, &format!(".{name}.new"), &bytes)
    }

    /// Whether something is left. What cannot be looked at is none.
    pub fn is_any(&self) -> bool {
        self.directory().is_some_and(|directory| names(&directory).is_ok_and(|names| !names.is_empty()))
    }

    fn directory(&self) -> Option<Directory> {
        Directory::existing(&self.directory).ok().flatten()
    }

    /// Everything that is left now; `None` where nothing is, or another process works on it. That one looks again after it
    /// gave the lock back: whoever adds something first and then finds the lock taken may go.
    pub fn claim(&self) -> Result<Option<Claim>> {
        let Some(directory) = self.directory() else { return Ok(None) };
        let lock = directory.open(LOCK, OFlags::RDONLY | OFlags::CREATE, 0o600)?;
        let place = self.directory.join(LOCK);
        if !lock::try_exclusive(&lock).map_err(|error| Error::new("lock", &place, error))? {
            return Ok(None);
        }
        let names = names(&directory)?;
        let mut ports = Vec::new();
        for name in &names {
            let bytes = directory.read_up_to(name, LONGEST)?.unwrap_or_default();
            // A damaged one is void, and so is one of another boot.
            let document = serde_json::from_slice::<Document>(&bytes).ok();
            ports.extend(document.filter(|left| left.boot_id == self.boot).map(|left| left.ports));
        }
        let claim = Claim { directory, names, ports: ports.into_iter().flatten().collect(), _lock: lock };
        Ok((!claim.names.is_empty()).then_some(claim))
    }
}

/// What one process works on. Dropped without [`Claim::settle`], all of it is still to be done.
#[derive(Debug)]
pub struct Claim {
    directory: Directory,
    names: Vec<String>,
    pub ports: Vec<Port>,
    _lock: File,
}

impl Claim {
    /// It is done.
    pub fn settle(self) -> Result<()> {
        self.names.iter().try_for_each(|name| self.directory.remove(name).map(drop))
    }
}

fn names(directory: &Directory) -> Result<Vec<String>> {
    let mut names = Vec::new();
    directory.each(|name, _| {
        // Also what a writer that was killed has not finished: it is damaged, and goes.
        let left = Path::new(name).extension().is_some_and(|ending| ending == "json" || ending == "new");
        names.extend(left.then(|| name.to_owned()));
    })?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_port: u16) -> Port {
        let pod = IpAddr::from([10, 1, 2, 3]);
        Port { opened: true, protocol: 17, host_ip: None, host_port, pod, pod_port: 53 }
    }

    #[test]
    fn what_is_left_is_done_once_and_by_one() {
        let directory = tempfile::tempdir().unwrap();
        let boot = BootId::current().unwrap();
        let owed = Owed::at(directory.path().join("flows"), boot.clone());
        assert!(!owed.is_any() && owed.claim().unwrap().is_none());
        owed.add(vec![port(1), port(2)]).unwrap();
        owed.add(vec![port(3)]).unwrap();
        let claim = owed.claim().unwrap().expect("something to do");
        let mut ports: Vec<_> = claim.ports.iter().map(|port| port.host_port).collect();
        ports.sort_unstable();
        assert_eq!(ports, [1, 2, 3]);
        assert!(owed.claim().unwrap().is_none(), "another process has it");
        drop(claim);
        assert!(owed.is_any(), "that one was killed");
        let claim = owed.claim().unwrap().expect("it is still to be done");
        owed.add(vec![port(4)]).unwrap();
        claim.settle().unwrap();
        assert_eq!(owed.claim().unwrap().expect("what came meanwhile").ports, [port(4)]);
    }

    #[test]
    fn what_makes_no_sense_is_void_and_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flows");
        let owed = Owed::at(path.clone(), BootId::current().unwrap());
        let other = BootId::parse("00000000-0000-4000-8000-000000000000").unwrap();
        Owed::at(path.clone(), other).add(vec![port(1)]).unwrap();
        std::fs::write(path.join("1-2-3.json"), "{").unwrap();
        std::fs::write(path.join(".1-2-4.json.new"), "").unwrap();
        let claim = owed.claim().unwrap().expect("files");
        assert_eq!(claim.ports, []);
        claim.settle().unwrap();
        assert!(!owed.is_any());
    }
}
