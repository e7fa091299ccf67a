//! What a node has of an installation, and what it has of others, as values.
//!
//! Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use super::host_dns::{Reader, Standing};
use super::installation::Installation;
use crate::conflist::{self, Ranges};
use crate::datapath::claim::Use;
use crate::datapath::ground::Ground;
use crate::host::resolver::Seen;

/// The file; everything else is a link to it.
pub(super) const PROGRAM: &str = "smarter-cni";
/// The names that our own configuration uses.
pub(super) const OWN: &[&str] = &["smarter-bridge", "smarter-ipam", "smarter-portmap", "smarter-loopback"];
/// What runtimes call by themselves, or other networks need: only where nobody else provides it.
pub(super) const STANDARD: &[&str] = &["loopback", "portmap"];
/// What is there.
#[derive(Clone, Debug, Default)]
pub(super) struct Have {
    pub(super) program: ProgramIdentity,
    pub(super) bin_dirs: Vec<BinDir>,
    pub(super) conf_dirs: Vec<ConfDir>,
    pub(super) installation: Option<Installation>,
    pub(super) ground: Ground,
    /// What has to do with addresses such as that of the name server; looked at only where one is wanted.
    pub(super) uses: Vec<Use>,
    /// Of the node's own resolvers; looked at only where one of them is to be told of the name server.
    pub(super) resolvers: Option<Seen>,
    pub(super) resolver_files: Vec<ResolverFile>,
    /// The network has a lease directory.
    pub(super) leases: bool,
    /// Empty or unreadable results of our network in libcni's cache.
    pub(super) damaged_cache: Vec<PathBuf>,
    /// Left by an installation that was killed.
    pub(super) leftovers: Vec<PathBuf>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProgramIdentity {
    pub(super) version: String,
    pub(super) digest: String,
    /// Bytes.
    pub(super) size: u64,
}

/// Links in the path are resolved already.
#[derive(Clone, Debug, Default)]
pub(super) struct BinDir {
    pub(super) path: PathBuf,
    /// This and the directories above it that are not there, the outermost first.
    pub(super) missing: Vec<PathBuf>,
    pub(super) names: BTreeMap<&'static str, Found>,
}

/// What stands under a name of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Found {
    #[default]
    Absent,
    /// Just what we would put there.
    Same,
    /// A smarter-cni of another build, or in another form.
    Ours,
    /// Cannot be executed; why.
    Broken(String),
    Foreign,
}

/// The place of a file of ours that a resolver reads.
#[derive(Clone, Debug)]
pub(super) struct ResolverFile {
    pub(super) reader: Reader,
    /// Of its directory, as for programs.
    pub(super) missing: Vec<PathBuf>,
    pub(super) standing: Standing,
}

impl ResolverFile {
    /// `recorded`: we wrote one there.
    pub(super) fn is_ours(&self, recorded: bool) -> bool {
        match self.standing {
            Standing::Ours(_) => true,
            Standing::Empty => recorded,
            Standing::Absent | Standing::Foreign(_) => false,
        }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct ConfDir {
    pub(super) path: PathBuf,
    pub(super) missing: Vec<PathBuf>,
    /// More than one runtime of the node reads networks there.
    pub(super) shared: bool,
    /// Those that a runtime reads, in its order.
    pub(super) files: Vec<ConfFile>,
}

#[derive(Clone, Debug)]
pub(super) struct ConfFile {
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    pub(super) content: Content,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Broken(String),
    List {
        network: String,
        types: Vec<String>,
        /// Such as we could take over.
        ranges: Option<Ranges>,
        /// All that any of its plugins gives addresses of.
        subnets: Vec<IpNetwork>,
        bridges: Vec<String>,
    },
}

impl ConfFile {
    /// Written for plugins of our names: by Arm's smarter-cni, or by hand.
    pub(super) fn is_of_our_plugins(&self) -> bool {
        matches!(&self.content, Content::List { types, .. }
            if types.first().is_some_and(|first| first == "smarter-bridge")
                && types.iter().all(|name| name.starts_with("smarter-")))
    }
}

impl ConfFile {
    /// Of a meta-plugin, which lets pods have the networks of other files.
    pub(super) fn hands_on(&self) -> bool {
        matches!(&self.content, Content::List { types, .. }
            if types.first().is_some_and(|first| conflist::hands_on(first)))
    }

    /// Ours, or what a power cut left of it.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self.content, Content::Broken(_)) || self.is_of_our_plugins()
    }
}

impl fmt::Display for ConfFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Broken(why) => write!(f, "{} ({why})", self.name),
            Content::List { network, .. } => write!(f, "{} (network {network})", self.name),
        }
    }
}
