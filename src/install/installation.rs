//! What an installation wrote down about itself: what it is going to put on the node, so that all of it can be taken away
//! again, whenever it was killed. One JSON file on the disk, because leases die with a boot and plugins do not.
//!
//! Written before the first effect and removed after the last one. Refuses to know what is there now.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// As the host sees it.
pub(super) const DIRECTORY: &str = "/var/lib/smarter-cni";
pub const FILE: &str = "/var/lib/smarter-cni/install.json";
/// What this program writes. Fields that an older one does not know are left out by it.
const VERSION: u32 = 1;

/// All paths are the host's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Installation {
    pub(crate) version: u32,
    /// Version and digest of the binary that was placed last: another one's watch leaves it alone.
    pub(crate) program: String,
    pub(crate) digest: String,
    pub(crate) network: String,
    pub(crate) bridge: String,
    /// The bridge was there before us, without our mark: it stays when we go.
    pub(crate) bridge_is_foreign: bool,
    /// The network had leases before us: what belongs to their bookkeeping stays when we go.
    pub(crate) leases_are_foreign: bool,
    /// What was said, for an installation that says nothing: whoever repairs a node does not know its settings.
    pub(crate) settings: BTreeMap<String, String>,
    /// What pods get, each range with its gateway.
    pub(crate) ranges: Vec<(IpNetwork, IpAddr)>,
    /// What `--subnet auto` picked.
    pub(crate) automatic: Option<IpNetwork>,
    /// Programs and their names, ours to remove.
    pub(crate) plugins: BTreeSet<PathBuf>,
    pub(crate) conflists: BTreeSet<PathBuf>,
    /// Files that tell the node's own resolver of the name server.
    pub(crate) resolver_files: BTreeSet<PathBuf>,
    /// What stood in our way, to be given back.
    pub(crate) kept: BTreeSet<Kept>,
    /// Directories that we made, to be removed when they are empty.
    pub(crate) directories: BTreeSet<PathBuf>,
}

/// A file of somebody else under another name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) original: PathBuf,
    pub(crate) kept_as: PathBuf,
}

impl Installation {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        let paths = read.plugins.iter().chain(&read.conflists).chain(&read.resolver_files);
        let paths = paths.chain(&read.directories);
        let kept = read.kept.iter().flat_map(|kept| [&kept.original, &kept.kept_as]);
        if let Some(path) = paths.chain(kept).find(|path| !path.is_absolute()) {
            return Err(format!("{} is not an absolute path", path.display()));
        }
        Ok(read)
    }

    pub(super) fn render(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(&Self { version: VERSION, ..self.clone() })
            .expect("strings and paths that were text");
        bytes.push(b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_it_wrote_and_what_an_older_one_wrote() {
        let installation = Installation {
            version: VERSION,
            network: "smartnet".into(),
            ranges: vec![("10.38.0.0/16".parse().unwrap(), "10.38.0.1".parse().unwrap())],
            automatic: Some("10.38.0.0/16".parse().unwrap()),
            plugins: [PathBuf::from("/opt/cni/bin/smarter-cni")].into(),
            kept: [Kept { original: "/a".into(), kept_as: "/b".into() }].into(),
            ..Installation::default()
        };
        assert_eq!(Installation::parse(&installation.render()), Ok(installation));
        assert_eq!(Installation::parse(b"{}"), Ok(Installation::default()));
        assert!(Installation::parse(b"").is_err());
        assert!(Installation::parse(br#"{"plugins":["../x"]}"#).unwrap_err().contains("../x"));
    }
}
