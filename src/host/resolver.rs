//! Whom the programs of this node ask for names: the files of the resolvers that may be on it, as they stand.
//!
//! Files only: an image that is being built has no processes, and a container sees none of the host's. Refuses to say which
//! of them is asked, and what could be told to it.

use std::io;
use std::path::{Path, PathBuf};

use super::root::Root;
use crate::file;

pub const RESOLV_CONF: &str = "/etc/resolv.conf";
/// Files in there are read by a dnsmasq whose configuration says so.
pub const DNSMASQ_DIRECTORY: &str = "/etc/dnsmasq.d";
/// NetworkManager gives it to the dnsmasq that it runs (its `NMDNSMASQ_CONFDIR`).
pub const NETWORK_MANAGER_DIRECTORY: &str = "/etc/NetworkManager/dnsmasq.d";

/// Where systemd-resolved stands: with a merged /usr, without, and on NixOS.
const RESOLVED: [&str; 3] = [
    "/usr/lib/systemd/systemd-resolved",
    "/lib/systemd/systemd-resolved",
    "/run/current-system/systemd/lib/systemd/systemd-resolved",
];
/// What stands in a systemd-resolved that reads such files, and in no other. Its version would have to be asked of it, or guessed
/// from the name of a library (`libsystemd-shared-258.so`) whose directory and form are each distribution's own, and of which
/// an update may leave two; and a version says nothing about what was ported back.
const DELEGATES: &[u8] = b"/systemd/dns-delegate.d";

/// Many times what any build of it has; a longer file is none.
const LARGEST: u64 = 32 << 20;

/// In NetworkManager's order, where what comes later counts more (NetworkManager.conf(5)). Files in a directory go by name.
const NETWORK_MANAGER: [&str; 4] = [
    "/usr/lib/NetworkManager/conf.d",
    "/run/NetworkManager/conf.d",
    "/etc/NetworkManager/NetworkManager.conf",
    "/etc/NetworkManager/conf.d",
];

/// Texts are empty where there is no such file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub resolv_conf: String,
    /// The path of that file behind all links, also of a link that leads nowhere yet.
    pub leads_to: PathBuf,
    /// systemd-resolved is there and reads files about single domains (systemd.dns-delegate(5), systemd 258).
    pub takes_delegates: bool,
    /// NetworkManager's configuration in its order.
    pub network_manager: Vec<String>,
    pub has_network_manager_directory: bool,
    /// That of dnsmasq, and of the files in its directory.
    pub dnsmasq: Vec<String>,
    /// Options that Debian's unit gives to dnsmasq.
    pub dnsmasq_options: String,
    pub has_dnsmasq_directory: bool,
}

/// The text of an error names what could not be looked at.
pub fn look(root: &Root) -> Result<Seen, String> {
    let resolv_conf = Path::new(RESOLV_CONF);
    Ok(Seen {
        leads_to: root.resolve(resolv_conf).map_err(failed(resolv_conf))?,
        resolv_conf: text(root, resolv_conf)?,
        takes_delegates: takes_delegates(root)?,
        network_manager: network_manager(root)?,
        has_network_manager_directory: root.exists(Path::new(NETWORK_MANAGER_DIRECTORY)),
        dnsmasq: dnsmasq(root)?,
        dnsmasq_options: text(root, Path::new("/etc/default/dnsmasq"))?,
        has_dnsmasq_directory: root.exists(Path::new(DNSMASQ_DIRECTORY)),
    })
}

fn failed(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("cannot look at {}: {error}", path.display())
}

/// What is no plain file is nobody's configuration.
fn text(root: &Root, path: &Path) -> Result<String, String> {
    match root.read_text(path) {
        Ok(text) => Ok(text.unwrap_or_default()),
        Err(error) if file::is_no_file_of_ours(&error) => Ok(String::new()),
        Err(error) => Err(failed(path)(error)),
    }
}

fn takes_delegates(root: &Root) -> Result<bool, String> {
    for path in RESOLVED.map(Path::new) {
        let found = root.locate(path).and_then(|here| {
            let file = file::open(&here)?;
            Ok(file.metadata()?.len() <= LARGEST && file::holds(&file, DELEGATES)?)
        });
        match found {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound || file::is_no_file_of_ours(&error) => {}
            Err(error) => return Err(failed(path)(error)),
        }
    }
    Ok(false)
}

fn dnsmasq(root: &Root) -> Result<Vec<String>, String> {
    let mut texts = vec![text(root, Path::new("/etc/dnsmasq.conf"))?];
    let directory = Path::new(DNSMASQ_DIRECTORY);
    for name in root.list(directory).map_err(failed(directory))? {
        // Those it passes over itself (dnsmasq(8), --conf-dir).
        let bytes = name.as_encoded_bytes();
        if !bytes.starts_with(b".")
            && !bytes.ends_with(b"~")
            && !root.locate(&directory.join(&name)).is_ok_and(|here| here.is_dir())
        {
            texts.push(text(root, &directory.join(&name))?);
        }
    }
    Ok(texts)
}

fn network_manager(root: &Root) -> Result<Vec<String>, String> {
    let mut texts = Vec::new();
    for path in NETWORK_MANAGER.map(Path::new) {
        if path.extension().is_some_and(|extension| extension == "conf") {
            texts.push(text(root, path)?);
            continue;
        }
        for name in root.list(path).map_err(failed(path))? {
            if Path::new(&name).extension().is_some_and(|extension| extension == "conf") {
                texts.push(text(root, &path.join(name))?);
            }
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for sub in ["etc/NetworkManager/conf.d", "usr/lib/NetworkManager/conf.d", "usr/lib/systemd", "run"] {
            fs::create_dir_all(directory.path().join(sub)).unwrap();
        }
        let root = Root::at(directory.path());
        (directory, root)
    }

    #[test]
    fn a_link_that_leads_nowhere_yet_says_who_will_write_there() {
        let (directory, root) = tree();
        let none = look(&root).unwrap();
        assert_eq!(
            none,
            Seen {
                leads_to: RESOLV_CONF.into(),
                network_manager: vec![String::new()],
                dnsmasq: vec![String::new()],
                ..Seen::default()
            }
        );
        symlink("../run/systemd/resolve/stub-resolv.conf", directory.path().join("etc/resolv.conf")).unwrap();
        let seen = look(&root).unwrap();
        assert_eq!(seen.leads_to, Path::new("/run/systemd/resolve/stub-resolv.conf"));
        assert_eq!(seen.resolv_conf, "");
    }

    #[test]
    fn a_resolved_that_reads_delegates_is_told_by_what_is_in_it() {
        let (directory, root) = tree();
        let program = directory.path().join("usr/lib/systemd/systemd-resolved");
        for (bytes, takes) in [
            (&b"\x7fELF\0/etc/systemd/dnssd\0"[..], false),
            (b"\x7fELF\0/etc/systemd/dns-delegate.d\0/run/systemd/dns-delegate.d\0", true),
        ] {
            fs::write(&program, bytes).unwrap();
            assert_eq!(look(&root).unwrap().takes_delegates, takes);
        }
        fs::remove_file(&program).unwrap();
        fs::create_dir(&program).unwrap();
        assert!(look(&root).unwrap_err().starts_with("cannot look at /usr/lib/systemd/systemd-resolved: "));
    }

    #[test]
    fn configurations_come_in_the_order_in_which_they_count() {
        let (directory, root) = tree();
        for (path, text) in [
            ("etc/NetworkManager/conf.d/20-b.conf", "4"),
            ("etc/NetworkManager/conf.d/10-a.conf", "3"),
            ("etc/NetworkManager/conf.d/note.txt", "no"),
            ("etc/NetworkManager/NetworkManager.conf", "2"),
            ("usr/lib/NetworkManager/conf.d/90.conf", "1"),
        ] {
            fs::write(directory.path().join(path), text).unwrap();
        }
        fs::create_dir_all(directory.path().join("etc/dnsmasq.d/not-a-file.conf")).unwrap();
        for (path, text) in
            [("dnsmasq.conf", "1"), ("dnsmasq.d/a", "2"), ("dnsmasq.d/.b", "no"), ("dnsmasq.d/c~", "no")]
        {
            fs::write(directory.path().join("etc").join(path), text).unwrap();
        }
        let seen = look(&root).unwrap();
        assert_eq!(seen.network_manager, ["1", "2", "3", "4"]);
        assert_eq!(seen.dnsmasq, ["1", "2"]);
    }
}
