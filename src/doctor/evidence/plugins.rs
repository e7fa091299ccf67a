//! What stands under the name of a plugin in the directories in which a runtime looks for it. Nothing is executed: whether
//! it could be is read off its head, and whether it is ours, and of which version, off its bytes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::applet;
use crate::file;
use crate::host::elf::{self, Soundness};
use crate::host::root::Root;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginFile {
    /// Behind all links: the names of ours lead to one file.
    pub path: String,
    pub condition: Condition,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The version, when it is a build of ours.
    Sound(Option<String>),
    NotExecutable,
    /// What is wrong, for a person: `is empty`, `is cut short: …`.
    Damaged(String),
    /// The link leads to it, and it is not there.
    Gone,
    /// Could not be looked at; why.
    Unknown(String),
}

/// Links that lead nowhere count only where no directory has the plugin: so does the runtime's search (libcni
/// `FindInPath`).
pub(super) fn find(
    root: &Root,
    bin_dirs: &[PathBuf],
    name: &str,
    versions: &mut Versions,
) -> Option<PluginFile> {
    let mut found = bin_dirs.iter().filter_map(|directory| entry(root, &directory.join(name)));
    let first = found.next()?;
    let (path, is_there) =
        if first.1 { first } else { found.find(|(_, is_there)| *is_there).unwrap_or(first) };
    let condition = if is_there { condition(root, &path, name, versions) } else { Condition::Gone };
    Some(PluginFile { path: path.display().to_string(), condition })
}

/// The path behind the name, as the host sees it, and whether there is a file.
fn entry(root: &Root, path: &Path) -> Option<(PathBuf, bool)> {
    let behind = root.resolve(path).ok()?;
    match fs::metadata(root.locate(&behind).ok()?) {
        Ok(metadata) => metadata.is_file().then_some((behind, true)),
        Err(_) => is_link(root, path).then_some((behind, false)),
    }
}

fn is_link(root: &Root, path: &Path) -> bool {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return false };
    root.locate(directory).is_ok_and(|here| here.join(name).is_symlink())
}

fn condition(root: &Root, path: &Path, name: &str, versions: &mut Versions) -> Condition {
    let mut judged = |here: &Path| -> io::Result<Condition> {
        let file = file::open(here)?;
        if file.metadata()?.permissions().mode() & 0o111 == 0 {
            return Ok(Condition::NotExecutable);
        }
        Ok(match elf::judge(&file)? {
            Soundness::Broken(why) => Condition::Damaged(why),
            Soundness::Sound if applet::plugin(name).is_none() => Condition::Sound(None),
            Soundness::Sound => {
                Condition::Sound(versions.entry(here.to_owned()).or_insert_with(|| version(&file)).clone())
            }
        })
    };
    root.locate(path)
        .and_then(|here| judged(&here))
        .unwrap_or_else(|error| Condition::Unknown(error.to_string()))
}

/// By the path behind all links.
pub(super) type Versions = BTreeMap<PathBuf, Option<String>>;

/// Longer than any build of ours, those with symbols for a debugger included.
const LARGEST: u64 = 128 << 20;

/// What `--version` prints stands in the binary as one piece: `smarter-cni 0.1.0` and a line break.
fn version(file: &File) -> Option<String> {
    let mut file = file;
    file.seek(SeekFrom::Start(0)).ok()?;
    find_version(file.take(LARGEST)).ok()?
}

const NAME: &[u8] = b"smarter-cni ";
/// Longer than the name and any version.
const LINE: usize = 64;
const PIECE: usize = 64 * 1024;

/// Piece by piece: somebody else's plugin may be a tenth of the node's memory.
fn find_version(mut from: impl Read) -> io::Result<Option<String>> {
    let mut window = Vec::with_capacity(PIECE + LINE);
    loop {
        let before = window.len();
        from.by_ref().take(PIECE as u64).read_to_end(&mut window)?;
        if let Some(version) = version_in(&window) {
            return Ok(Some(version));
        }
        if window.len() == before {
            return Ok(None);
        }
        // What could be its beginning stays for the next piece.
        window.drain(..window.len().saturating_sub(LINE));
    }
}

fn version_in(bytes: &[u8]) -> Option<String> {
    let candidates = bytes.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    candidates.map(|(at, _)| &bytes[at + NAME.len()..]).find_map(|rest| {
        let end = rest.iter().take(32).position(|byte| *byte == b'\n')?;
        let text = std::str::from_utf8(&rest[..end]).ok()?;
        let mut parts = text.splitn(3, '.');
        let digits = |part: Option<&str>| part.is_some_and(|p| p.starts_with(|c: char| c.is_ascii_digit()));
        (digits(parts.next()) && digits(parts.next()) && digits(parts.next())).then(|| text.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_first_directory_that_has_the_plugin_counts() {
        let tree = tempfile::tempdir().unwrap();
        let root = Root::at(tree.path());
        for directory in ["a", "b"] {
            fs::create_dir(tree.path().join(directory)).unwrap();
        }
        let dirs = [PathBuf::from("/a"), PathBuf::from("/b")];
        let found =
            || find(&root, &dirs, "flannel", &mut Versions::new()).map(|file| (file.path, file.condition));
        assert_eq!(found(), None);
        symlink("gone", tree.path().join("a/flannel")).unwrap();
        assert_eq!(found(), Some(("/a/gone".into(), Condition::Gone)));
        fs::copy("/proc/self/exe", tree.path().join("b/real")).unwrap();
        symlink("/b/real", tree.path().join("b/flannel")).unwrap();
        assert_eq!(found(), Some(("/b/real".into(), Condition::Sound(None))), "as the runtime searches");
        fs::create_dir(tree.path().join("a/gone")).unwrap();
        assert_eq!(found(), Some(("/b/real".into(), Condition::Sound(None))), "a directory is no plugin");
        fs::remove_dir(tree.path().join("a/gone")).unwrap();
        fs::write(tree.path().join("a/gone"), "").unwrap();
        assert_eq!(found(), Some(("/a/gone".into(), Condition::NotExecutable)));
        fs::set_permissions(tree.path().join("a/gone"), fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(found(), Some(("/a/gone".into(), Condition::Damaged("is empty".into()))));
    }

    #[test]
    fn a_build_of_ours_says_its_version() {
        let found = |bytes: &[u8]| find_version(bytes).unwrap();
        let ours = b"..smarter-cni bridge\n..smarter-cni 1.2.3-rc.1\n";
        assert_eq!(found(ours).as_deref(), Some("1.2.3-rc.1"));
        assert_eq!(found(b"smarter-cni 1.2\n"), None);
        assert_eq!(found(b"#!/bin/sh\n"), None);
        for before in [PIECE - 40, PIECE - 12, PIECE, 3 * PIECE - 30] {
            let bytes = [&vec![0; before][..], ours, &vec![0; 2 * PIECE]].concat();
            assert_eq!(found(&bytes).as_deref(), Some("1.2.3-rc.1"), "behind {before} bytes");
        }
    }
}
