//! Which containerd: the one of this machine's packages, and today's.
//!
//! Knows where their programs are and what configuration they read. Starts nothing that stays.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::image;

/// Where the programs of today are; it has to be set.
const PEERS: &str = "SMARTER_CNI_PEERS";
/// One directory in front of all others in `PATH`, so that a runtime finds its own shim and its own runc.
const PROGRAMS: &str = "/run/lab-programs";

/// Every test of this module is there once for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Release {
    /// Debian 12, and what k3s and rke2 had until 2024.
    V1_6,
    /// As Debian's sid has it, or trixie where sid could not be had: that is 1.7, which its own version says.
    V2,
}

/// How a configuration is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Every containerd reads it.
    Two,
    /// containerd 2 alone.
    Three,
}

impl Release {
    /// Called before anything else, because a test that lacks its runtime must not look like one that passed.
    pub(crate) fn must_be_there(self) {
        if self == Self::V2 {
            let peers = peers();
            let suite = fs::read_to_string(peers.join("suite")).unwrap_or_else(|e| {
                panic!(
                    "COULD NOT RUN: {PEERS} is {}, which has no file `suite` ({e}): run tests/peers/fetch and set {PEERS} \
                     to what it prints",
                    peers.display()
                )
            });
            eprintln!("{} of Debian's {}", self.version(), suite.trim());
        }
    }

    /// What the program says of itself: `containerd github.com/containerd/containerd/v2 2.1.9+unknown`.
    pub(crate) fn version(self) -> &'static str {
        static SAID: [OnceLock<String>; 2] = [const { OnceLock::new() }; 2];
        SAID[usize::from(self == Self::V2)].get_or_init(|| {
            let program = match self {
                Self::V1_6 => PathBuf::from("containerd"),
                Self::V2 => peers().join("usr/bin/containerd"),
            };
            let out = Command::new(&program).arg("--version").output();
            let out = out.unwrap_or_else(|e| panic!("COULD NOT RUN: {}: {e}", program.display()));
            String::from_utf8_lossy(&out.stdout).trim().to_owned()
        })
    }

    /// Whether it is a containerd 2, which merges files, asks plugins for STATUS and keeps a pod's record from its first
    /// moment on.
    pub(crate) fn is_2(self) -> bool {
        let number = self.version().split_whitespace().nth(2).unwrap_or_default();
        number.trim_start_matches('v').starts_with("2.")
    }

    /// What only containerd 2 can show is not shown by another one.
    pub(crate) fn must_be_2(self) {
        assert!(self.is_2(), "COULD NOT RUN: this takes containerd 2, and there is {}", self.version());
    }

    /// In which format this one is configured today.
    pub(crate) fn format(self) -> Format {
        if self.is_2() { Format::Three } else { Format::Two }
    }

    /// A program of this release, to be called with its own other programs in reach.
    pub(crate) fn command(self, program: &str) -> Command {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let (program, path) = match self {
            Self::V1_6 => (PathBuf::from(program), path.to_owned()),
            Self::V2 => (programs().join(program), format!("{PROGRAMS}:{path}")),
        };
        let mut command = Command::new(program);
        command.env("PATH", path);
        command
    }

    /// The configuration in its package.
    pub(crate) fn packaged(self) -> String {
        match self {
            // Debian 12 puts it into /etc, where an administrator may have changed it.
            Self::V1_6 => {
                include_str!("../../fixtures/runtimes/containerd-1.6-debian12/config.toml").to_owned()
            }
            Self::V2 => fs::read_to_string(peers().join("etc/containerd/config.toml")).expect("config.toml"),
        }
    }
}

/// Links to the programs alone: what else the suite's packages bring is not for this machine's tools.
fn programs() -> &'static Path {
    let at = Path::new(PROGRAMS);
    if !at.exists() {
        fs::create_dir_all(at).expect("a directory of links");
        for program in
            ["usr/bin/containerd", "usr/bin/ctr", "usr/bin/containerd-shim-runc-v2", "usr/sbin/runc"]
        {
            let program = peers().join(program);
            symlink(&program, at.join(program.file_name().expect("a name"))).expect("a link");
        }
    }
    at
}

#[expect(clippy::disallowed_methods, reason = "tests/run says where today's programs are")]
fn peers() -> PathBuf {
    let Some(named) = std::env::var_os(PEERS) else {
        panic!(
            "COULD NOT RUN: today's containerd is not there; run tests/peers/fetch and set {PEERS} to what it prints"
        )
    };
    named.into()
}

impl Format {
    /// The table with the keys of CNI.
    pub(crate) fn cni(self) -> &'static str {
        match self {
            Self::Two => "[plugins.\"io.containerd.grpc.v1.cri\".cni]\n",
            Self::Three => "[plugins.\"io.containerd.cri.v1.runtime\".cni]\n",
        }
    }

    pub(crate) fn version(self) -> &'static str {
        match self {
            Self::Two => "version = 2\n",
            Self::Three => "version = 3\n",
        }
    }

    /// One directory for plugins.
    pub(crate) fn bin_dir(self, directory: &Path) -> String {
        match self {
            Self::Two => format!("bin_dir = \"{}\"\n", directory.display()),
            Self::Three => format!("bin_dirs = [\"{}\"]\n", directory.display()),
        }
    }

    /// A containerd in a directory of its own, with nothing said about CNI.
    ///
    /// `restrict_oom_score_adj`: where CAP_SYS_RESOURCE is missing no pod starts without it. `native`: works on every file
    /// system, and the image is small. The `opt` plugin would make /opt/containerd on the machine.
    pub(crate) fn bare(self, dir: &Path) -> String {
        let (version, pods) = (self.version(), self.pods());
        let dir = dir.display();
        format!(
            r#"{version}root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{dir}/containerd.sock"
{pods}"#
        )
    }

    /// What every pod needs on this kind of machine.
    pub(crate) fn pods(self) -> String {
        let image = image::NAME;
        match self {
            Self::Two => format!(
                r#"[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"#
            ),
            Self::Three => format!(
                r#"[plugins."io.containerd.cri.v1.images"]
snapshotter = "native"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{image}"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
"#
            ),
        }
    }

    /// With directories for plugins and networks that are the test's own.
    pub(crate) fn with_directories(self, dir: &Path, plugins: &Path) -> String {
        let networks = dir.join("net.d");
        let (bare, cni, bin_dir) = (self.bare(dir), self.cni(), self.bin_dir(plugins));
        format!("{bare}{cni}{bin_dir}conf_dir = \"{}\"\n", networks.display())
    }
}
