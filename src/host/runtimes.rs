//! Which container runtimes the host has, and where they look for CNI: plugins, networks, their own socket.
//!
//! A runtime is there when something of it is on the host, a configuration, a socket or a program; nothing is assumed to be
//! there. Where it looks is read from the configuration that it really uses; what that leaves open are the program's own
//! defaults. Asks no runtime ([`super::cri`] does), writes nothing.

mod containerd;
mod crio;
mod document;
#[cfg(fuzzing)]
pub mod fuzz;
mod glob;
mod microk8s;
mod options;
mod plain;
mod rancher;
mod survey;
mod used;

use std::fmt;
use std::path::{Path, PathBuf};

use super::root::Root;
use survey::Survey;

/// Where plugins go when there is no runtime to ask: the default of containerd and CRI-O.
pub const DEFAULT_BIN_DIR: &str = "/opt/cni/bin";
/// The same for networks.
pub const DEFAULT_CONF_DIR: &str = "/etc/cni/net.d";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Containerd,
    K3s,
    Rke2,
    Microk8s,
    Crio,
}

/// One runtime, with paths as the host sees them and links not followed: those may point elsewhere tomorrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    pub kind: Kind,
    /// The files that were read, in the order in which the runtime reads them.
    pub config: Vec<PathBuf>,
    /// Where it looks for plugins, in its order; never empty.
    pub bin_dirs: Vec<PathBuf>,
    /// Where it reads networks.
    pub conf_dir: PathBuf,
    /// Where it looks if it is of a version that makes something else of the same files. No file says which version runs.
    pub otherwise: Option<Places>,
    /// How many files containerd loads from there, 0 for all. CRI-O has no such limit.
    pub max_conf_num: Option<u32>,
    /// CRI-O can be told to take the network of one name only (`cni_default_network`).
    pub only_network: Option<String>,
    /// Where it speaks CRI.
    pub socket: PathBuf,
    /// Why we believe that it is here, for people.
    pub evidence: String,
}

/// Where one runtime looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// In its order; never empty.
    pub bin_dirs: Vec<PathBuf>,
    pub conf_dir: PathBuf,
}

/// A runtime that is there and that runs no pods of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub kind: Kind,
    pub why: String,
}

/// A configuration that could not be taken at its word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub kind: Kind,
    pub file: PathBuf,
    pub what: String,
    /// What was taken instead.
    pub assumed: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// At most one of a kind, in the order of [`Kind`].
    pub runtimes: Vec<Runtime>,
    pub left_out: Vec<LeftOut>,
    pub problems: Vec<Problem>,
}

/// Looks the host over. A file that cannot be read or understood is a [`Problem`], never an error.
pub fn find(root: &Root) -> Found {
    let mut survey = Survey::of(root);
    plain::containerd(&mut survey);
    rancher::k3s_and_rke2(&mut survey);
    microk8s::microk8s(&mut survey);
    plain::crio(&mut survey);
    survey.found
}

impl Runtime {
    /// All places where it may look for networks and plugins, the most likely first.
    pub fn may_look_in(&self) -> impl Iterator<Item = (&Path, &[PathBuf])> {
        let usual = (self.conf_dir.as_path(), self.bin_dirs.as_slice());
        let other = self.otherwise.as_ref();
        std::iter::once(usual)
            .chain(other.map(|places| (places.conf_dir.as_path(), places.bin_dirs.as_slice())))
    }
}

impl Kind {
    /// The command that makes it read everything again.
    pub fn restart(self) -> &'static str {
        match self {
            Self::Containerd => "systemctl restart containerd",
            Self::K3s => "systemctl restart k3s || systemctl restart k3s-agent",
            Self::Rke2 => "systemctl restart rke2-server || systemctl restart rke2-agent",
            Self::Microk8s => "snap restart microk8s.daemon-containerd",
            Self::Crio => "systemctl restart crio",
        }
    }

    /// It leads ports of the node to pods by rules of its own (CRI-O: chain `crio-hostports`), and no plugin hears of them.
    pub fn makes_host_ports(self) -> bool {
        self == Self::Crio
    }

    /// Where a person finds what it has to say.
    pub fn log(self) -> &'static str {
        match self {
            Self::Containerd => "journalctl -u containerd",
            Self::K3s => "/var/lib/rancher/k3s/agent/containerd/containerd.log",
            Self::Rke2 => "/var/lib/rancher/rke2/agent/containerd/containerd.log",
            Self::Microk8s => "journalctl -u snap.microk8s.daemon-containerd",
            Self::Crio => "journalctl -u crio",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Containerd => "containerd",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::Microk8s => "microk8s",
            Self::Crio => "cri-o",
        })
    }
}

impl fmt::Display for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dirs: Vec<_> = self.bin_dirs.iter().map(|dir| dir.display().to_string()).collect();
        write!(f, "plugins in {} and networks in {}", dirs.join(" or "), self.conf_dir.display())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; assumed: {}", self.file.display(), self.what, self.assumed)
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.why)
    }
}

#[cfg(test)]
#[path = "runtimes/find_tests.rs"]
mod tests;
