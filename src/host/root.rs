//! The host's file tree, seen from where we run: `/` itself, or wherever a container has it mounted.
//!
//! Everybody speaks of paths as the host sees them; this file alone knows where they are for us. Links are followed as
//! the host would follow them, an absolute target therefore starts at the host's root and `..` never leaves it: opened
//! naively, `/host/var/run` would lead into the container. Refuses relative paths.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::file;

/// Linux gives up after as many links (`MAXSYMLINKS`, include/linux/namei.h).
const MOST_LINKS: usize = 40;

/// Where the host's `/` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Root(PathBuf);

impl Root {
    /// `/` on the host itself.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path behind every link, as the host sees it. What does not exist yet is taken as written, so that it can be
    /// made. Fails with `ELOOP`, `EACCES` and the like, and with `EINVAL` for a relative path.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        if !path.is_absolute() {
            let text = format!("{} is not an absolute path", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mut resolved = PathBuf::from("/");
        let mut ahead: Vec<OsString> = words(path);
        let mut links = 0;
        while let Some(word) = ahead.pop() {
            if word == ".." {
                resolved.pop();
                continue;
            }
            resolved.push(&word);
            match fs::symlink_metadata(self.below(&resolved)) {
                Ok(found) if found.is_symlink() => {
                    links += 1;
                    if links > MOST_LINKS {
                        return Err(rustix::io::Errno::LOOP.into());
                    }
                    let target = fs::read_link(self.below(&resolved))?;
                    resolved.pop();
                    if target.is_absolute() {
                        resolved = PathBuf::from("/");
                    }
                    ahead.extend(words(&target));
                }
                Ok(_) => {}
                // A file as a directory: whoever opens the result says so.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(resolved)
    }

    /// Where the path of the host is for us, links followed.
    pub fn locate(&self, path: &Path) -> io::Result<PathBuf> {
        Ok(self.below(&self.resolve(path)?))
    }

    /// The other way round: the host's own path of a place that was located here.
    pub fn as_the_host_sees(&self, here: &Path) -> PathBuf {
        here.strip_prefix(&self.0).map_or_else(|_| here.to_owned(), |below| Path::new("/").join(below))
    }

    /// `None` when there is nothing; an error when it is no plain file, or has more than [`file::MOST`].
    pub fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        missing_is_none(file::bytes(&self.locate(path)?, file::MOST))
    }

    /// As [`Self::read`]; bytes that are no UTF-8 become U+FFFD.
    pub fn read_text(&self, path: &Path) -> io::Result<Option<String>> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Is there something at the path, links followed?
    pub fn exists(&self, path: &Path) -> bool {
        self.locate(path).is_ok_and(|here| here.exists())
    }

    /// Do both lead to the same place, whether or not there is something yet?
    pub fn same(&self, one: &Path, other: &Path) -> bool {
        one == other
            || matches!((self.resolve(one), self.resolve(other)), (Ok(one), Ok(other)) if one == other)
    }

    /// Names in a directory, sorted; none when there is no such directory.
    pub fn list(&self, directory: &Path) -> io::Result<Vec<OsString>> {
        let Some(entries) = missing_is_none(fs::read_dir(self.locate(directory)?))? else {
            return Ok(Vec::new());
        };
        let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    /// Where a path without links is for us.
    fn below(&self, resolved: &Path) -> PathBuf {
        self.0.join(resolved.strip_prefix("/").unwrap_or(resolved))
    }
}

/// The parts of a path, the first one last: a stack of what is still ahead.
fn words(path: &Path) -> Vec<OsString> {
    let word = |part: Component<'_>| match part {
        Component::Normal(word) => Some(word.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(word).collect()
}

fn missing_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    fn tree() -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for sub in ["run/netns", "opt/data/v2/bin", "var"] {
            fs::create_dir_all(directory.path().join(sub)).unwrap();
        }
        let root = Root::at(directory.path());
        (directory, root)
    }

    #[test]
    fn links_are_followed_as_the_host_would() {
        let (directory, root) = tree();
        symlink("/run", directory.path().join("var/run")).unwrap();
        symlink("v2", directory.path().join("opt/data/current")).unwrap();
        symlink("../../../../../../etc/passwd", directory.path().join("opt/data/v2/up")).unwrap();
        let resolved = |path: &str| root.resolve(Path::new(path)).unwrap();
        assert_eq!(resolved("/var/run/netns"), Path::new("/run/netns"));
        assert_eq!(resolved("/opt/data/current/bin"), Path::new("/opt/data/v2/bin"));
        assert_eq!(resolved("/opt/data/v2/up"), Path::new("/etc/passwd"), "not ours");
        assert_eq!(resolved("/no/such/place"), Path::new("/no/such/place"), "can be made");
        assert_eq!(root.locate(Path::new("/var/run")).unwrap(), directory.path().join("run"));
        assert!(root.same(Path::new("/opt/data/current/bin"), Path::new("/opt/data/v2/bin/")));
        assert!(!root.same(Path::new("/opt/data/current"), Path::new("/opt/data/v1")));
    }

    #[test]
    fn circles_and_relative_paths_are_errors() {
        let (directory, root) = tree();
        symlink("/a", directory.path().join("b")).unwrap();
        symlink("/b", directory.path().join("a")).unwrap();
        let error = root.resolve(Path::new("/a/x")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::LOOP.raw_os_error()));
        assert_eq!(root.resolve(Path::new("etc")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_pipe_or_an_endless_file_is_an_error() {
        let (directory, root) = tree();
        let at = |name: &str| directory.path().join("opt").join(name);
        mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::File::create(at("sparse")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(root.read(Path::new("/opt/pipe")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert_eq!(root.read(Path::new("/opt/sparse")).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn what_is_missing_is_none_and_no_error() {
        let (directory, root) = tree();
        fs::write(directory.path().join("opt/file"), "text").unwrap();
        assert_eq!(root.read_text(Path::new("/opt/file")).unwrap().as_deref(), Some("text"));
        assert_eq!(root.read(Path::new("/opt/none")).unwrap(), None);
        assert_eq!(root.list(Path::new("/opt")).unwrap(), ["data", "file"]);
        assert_eq!(root.list(Path::new("/none")).unwrap(), Vec::<OsString>::new());
        assert!(root.exists(Path::new("/opt/file")) && !root.exists(Path::new("/opt/none")));
    }
}
