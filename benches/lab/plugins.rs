//! What stands in a plugin directory.

use std::path::{Path, PathBuf};

use crate::Result;
use crate::peers;
use crate::stage::Stage;

/// What the four roles are called on disk.
pub(crate) const NAMES: [&str; 4] = ["bridge", "host-local", "portmap", "loopback"];

impl Stage {
    /// As the installer does it: one file, and links.
    pub(crate) fn with_our_plugins(self, binary: PathBuf) -> Self {
        self.with_file("smarter-cni", binary).with_links("smarter-cni", &NAMES)
    }

    pub(crate) fn with_go_plugins(self, from: &Path) -> Result<Self> {
        NAMES.iter().try_fold(self, |stage, name| {
            let file = from.join(name);
            let file = file.canonicalize().map_err(|error| {
                format!("{}: {error}; as root: apt-get install containernetworking-plugins", file.display())
            })?;
            Ok(stage.with_file(name, file))
        })
    }

    /// One program that asks for its name.
    pub(crate) fn with_iptables(self) -> Result<Self> {
        Ok(self.with_file("iptables", peers::find("iptables")?).with_links("iptables", &["ip6tables"]))
    }
}
