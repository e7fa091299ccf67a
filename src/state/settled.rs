//! Which forward chains of somebody else an ADD found as they should be: `forward-<bridge>.json` below `/run/smarter-cni`.
//!
//! A memory that only saves work: whatever is missing, damaged or does not fit is looked at again. Void after a reboot and
//! in another network namespace, because handles are. Refuses to know what a chain is and when two are the same.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::boot::BootId;
use super::directory::Directory;
use super::error::Result;
use super::holders::NetnsId;

/// A chain that was found settled: what it looked like from afar, and the rules of ours behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    pub print: u64,
    /// Chain and handle, in the chain's table.
    pub rules: Vec<(String, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Document {
    boot_id: BootId,
    netns: NetnsId,
    chains: Vec<Settled>,
}

/// The file of one bridge.
#[derive(Debug)]
pub struct SettledChains {
    root: PathBuf,
    name: String,
    boot: BootId,
    netns: NetnsId,
}

impl SettledChains {
    /// `root` is [`super::record::ROOT`] on a node. Touches nothing.
    pub fn at(root: &Path, bridge: &str, boot: BootId, netns: NetnsId) -> Self {
        Self { root: root.to_owned(), name: format!("forward-{bridge}.json"), boot, netns }
    }

    pub fn read(&self) -> Vec<Settled> {
        let directory = Directory::existing(&self.root).ok().flatten();
        let bytes = directory.and_then(|directory| directory.read(&self.name).ok().flatten());
        let document = bytes.and_then(|bytes| serde_json::from_slice::<Document>(&bytes).ok());
        let document = document.filter(|known| known.boot_id == self.boot && known.netns == self.netns);
        document.map(|known| known.chains).unwrap_or_default()
    }

    /// The caller holds the node's lock.
    pub fn write(&self, chains: Vec<Settled>) -> Result<()> {
        let document = Document { boot_id: self.boot.clone(), netns: self.netns, chains };
        let bytes = serde_json::to_vec(&document).unwrap_or_default();
        Directory::create(&self.root, 0o700)?.replace(&self.name, &format!(".{}.new", self.name), &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_good_for_this_boot_and_namespace_only() {
        let directory = tempfile::tempdir().unwrap();
        let boot = BootId::current().unwrap();
        let here = NetnsId { dev: 4, ino: 7 };
        let chains = |boot: &BootId, netns| SettledChains::at(directory.path(), "br0", boot.clone(), netns);
        assert_eq!(chains(&boot, here).read(), []);
        let known = vec![Settled { print: 7, rules: vec![("FORWARD".to_owned(), 12)] }];
        chains(&boot, here).write(known.clone()).unwrap();
        assert_eq!(chains(&boot, here).read(), known);
        assert_eq!(chains(&boot, NetnsId { dev: 4, ino: 8 }).read(), []);
        let other = BootId::parse("00000000-0000-4000-8000-000000000000").unwrap();
        assert_eq!(chains(&other, here).read(), []);
        std::fs::write(directory.path().join("forward-br0.json"), "{").unwrap();
        assert_eq!(chains(&boot, here).read(), []);
    }
}
