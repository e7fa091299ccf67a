//! What the host's files say beside its network: modules that may not be loaded, who flushes the packet filter, and how
//! full the directories are that we write to.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use rustix::fs::StatVfsMountFlags;

use super::dropins::{self, TextFile};
use super::managers::{self, Manager};
use super::sysctls::{self, Assignment};
use crate::host::root::Root;

#[derive(Clone, Debug, Default)]
pub struct Files {
    pub sysctls: Vec<Assignment>,
    pub managers: Vec<Manager>,
    pub blocked: Vec<Blocked>,
    /// Modules that are loaded now; one that is neither here nor missed is built into the kernel.
    pub loaded: BTreeSet<String>,
    /// A file that empties the packet filter whenever its service is started or reloaded.
    pub flusher: Option<String>,
    pub directories: Vec<Place>,
}

/// A line that keeps a module from being loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub module: String,
    pub file: String,
}

/// A directory that we need, or the nearest one above it that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub path: String,
    pub purpose: Purpose,
    pub free_bytes: u64,
    pub bytes: u64,
    pub free_inodes: u64,
    pub inodes: u64,
    pub read_only: bool,
    pub no_exec: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Written to with every pod.
    State,
    /// Plugins are executed from it.
    Plugins,
}

pub fn load(root: &Root, places: &[(String, Purpose)]) -> io::Result<Files> {
    Ok(Files {
        sysctls: sysctls::load(root)?,
        managers: managers::load(root)?,
        blocked: blocked(&dropins::read(root, &MODPROBE, ".conf")?),
        loaded: loaded_modules()?,
        flusher: flusher(root)?,
        directories: places.iter().filter_map(|(path, purpose)| place(root, path, *purpose)).collect(),
    })
}

/// modprobe.d(5).
const MODPROBE: [&str; 5] = [
    "/etc/modprobe.d",
    "/run/modprobe.d",
    "/usr/local/lib/modprobe.d",
    "/usr/lib/modprobe.d",
    "/lib/modprobe.d",
];

/// `blacklist` takes away the aliases by which the kernel asks for a module, `install` with a command that does nothing
/// takes away the module.
fn blocked(files: &[TextFile]) -> Vec<Blocked> {
    let mut found = Vec::new();
    for file in files {
        for line in file.text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let nothing = |command: &str| matches!(command.rsplit('/').next(), Some("true" | "false" | ":"));
            let module = match words[..] {
                ["blacklist", module] => module,
                ["install", module, command, ..] if nothing(command) => module,
                _ => continue,
            };
            found.push(Blocked { module: module.replace('-', "_"), file: file.path.clone() });
        }
    }
    found
}

/// `/proc/modules` names them first. A kernel without modules has no such file.
fn loaded_modules() -> io::Result<BTreeSet<String>> {
    match std::fs::read_to_string("/proc/modules") {
        Ok(text) => {
            Ok(text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error),
    }
}

/// Distributions ship nftables.conf with this line and leave the service off.
fn flusher(root: &Root) -> io::Result<Option<String>> {
    let enabled = ["sysinit.target.wants", "multi-user.target.wants"]
        .iter()
        .any(|wants| root.exists(Path::new(&format!("/etc/systemd/system/{wants}/nftables.service"))));
    for path in ["/etc/nftables.conf", "/etc/sysconfig/nftables.conf"] {
        let text = root.read_text(Path::new(path))?.unwrap_or_default();
        if enabled && text.lines().any(|line| line.trim() == "flush ruleset") {
            return Ok(Some(path.to_owned()));
        }
    }
    Ok(None)
}

fn place(root: &Root, path: &str, purpose: Purpose) -> Option<Place> {
    let here = root.locate(Path::new(path)).ok()?;
    let existing = here.ancestors().find(|path| path.exists())?;
    let disk = rustix::fs::statvfs(existing).ok()?;
    Some(Place {
        path: path.to_owned(),
        purpose,
        free_bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        bytes: disk.f_blocks.saturating_mul(disk.f_frsize),
        free_inodes: disk.f_favail,
        inodes: disk.f_files,
        read_only: disk.f_flag.contains(StatVfsMountFlags::RDONLY),
        no_exec: disk.f_flag.contains(StatVfsMountFlags::NOEXEC),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_blocked_by_two_words() {
        let text = "# blacklist veth\nblacklist nft-masq\ninstall br_netfilter /bin/false\n\
                    install snd /sbin/modprobe --ignore-install snd\noptions bridge x=1\n";
        let found = blocked(&[TextFile::new("/etc/modprobe.d/x.conf", text)]);
        let modules: Vec<_> = found.iter().map(|blocked| blocked.module.as_str()).collect();
        assert_eq!(modules, ["nft_masq", "br_netfilter"]);
    }

    #[test]
    fn only_an_enabled_service_flushes() {
        let tree = tempfile::tempdir().unwrap();
        let root = Root::at(tree.path());
        let write = |path: &str, text: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("etc/nftables.conf", "#!/usr/sbin/nft -f\n\nflush ruleset\n");
        assert_eq!(flusher(&root).unwrap(), None);
        write("etc/systemd/system/sysinit.target.wants/nftables.service", "");
        assert_eq!(flusher(&root).unwrap().as_deref(), Some("/etc/nftables.conf"));
    }

    #[test]
    fn a_place_that_is_not_there_yet_is_judged_by_what_is_above() {
        let tree = tempfile::tempdir().unwrap();
        let found = place(&Root::at(tree.path()), "/run/smarter-cni/attachments", Purpose::State).unwrap();
        assert!(found.bytes > 0 && !found.read_only);
        assert_eq!(found.path, "/run/smarter-cni/attachments");
    }
}
