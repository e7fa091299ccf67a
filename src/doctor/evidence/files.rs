//! What the host's files say beside its network: modules that may not be loaded, who flushes the packet filter, and how
//! full the directories are that we write to.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub path: String,
    pub purpose: Purpose,
    pub free_bytes: u64,
    pub bytes: u64,
    pub free_inodes: u64,
    pub inodes: u64,
    pub read_only: bool,
    pub no_exec: bool,
    /// Why there is no directory, and none can be made: the path of what stands in the way, and what it is.
    pub obstacle: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// Written to with every pod.
    #[default]
    State,
    /// Made below such a directory, on the same disk.
    Records,
    /// Plugins are executed from it.
    Plugins,
    /// Networks are read from it.
    Networks,
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
    if let Some(obstacle) = obstacle(root, path) {
        let none = Place { path: path.to_owned(), purpose, ..Place::default() };
        return Some(Place { obstacle: Some(obstacle), ..none });
    }
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
        obstacle: None,
    })
}

/// What keeps a path from being a directory. That it may not be read is no fault of what is there.
fn obstacle(root: &Root, path: &str) -> Option<(String, String)> {
    let named = |error: &io::Error| {
        let harmless = matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied);
        (!harmless).then(|| (path.to_owned(), error.to_string()))
    };
    let here = match root.locate(Path::new(path)) {
        Ok(here) => here,
        Err(error) => return named(&error),
    };
    let mut at = PathBuf::new();
    // From the top: what stands below a file is not there.
    for part in Path::new(path).components() {
        at.push(part);
        let Ok(found) = root.locate(&at) else { break };
        match std::fs::metadata(&found) {
            Ok(found) if found.is_dir() => {}
            Ok(found) => {
                let kind = if found.is_file() { "a file" } else { "neither a directory nor a file" };
                return Some((at.display().to_string(), format!("it is {kind}")));
            }
            Err(_) => break,
        }
    }
    std::fs::read_dir(here).err().and_then(|error| named(&error))
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
    fn what_stands_in_the_way_of_a_directory_is_named() {
        let tree = tempfile::tempdir().unwrap();
        let root = Root::at(tree.path());
        std::fs::create_dir_all(tree.path().join("run/fine")).unwrap();
        std::fs::write(tree.path().join("run/smarter-cni"), "").unwrap();
        std::os::unix::fs::symlink("/run/loop", tree.path().join("run/loop")).unwrap();
        let named = |path: &str| obstacle(&root, path).map(|(path, _)| path);
        assert_eq!(named("/run/smarter-cni/attachments").as_deref(), Some("/run/smarter-cni"));
        assert_eq!(named("/run/smarter-cni").as_deref(), Some("/run/smarter-cni"));
        assert_eq!(named("/run/loop").as_deref(), Some("/run/loop"));
        assert_eq!((named("/run/fine"), named("/run/none/yet")), (None, None));
    }

    #[test]
    fn a_place_that_is_not_there_yet_is_judged_by_what_is_above() {
        let tree = tempfile::tempdir().unwrap();
        let found = place(&Root::at(tree.path()), "/run/smarter-cni/attachments", Purpose::State).unwrap();
        assert!(found.bytes > 0 && !found.read_only);
        assert_eq!(found.path, "/run/smarter-cni/attachments");
    }
}
