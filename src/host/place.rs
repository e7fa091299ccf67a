//! Files put in place so that a power cut or a kill at any moment leaves the old one or the new one.
//!
//! Written under another name in the same directory, synced, renamed, and the directory synced: without the first sync
//! a file system may keep the new name and lose the bytes (that is how empty plugins and empty configurations come about).
//! A program that runs is never written to ("text file busy"), it is replaced. Links at the end of a path are replaced,
//! not followed. Refuses to decide what belongs where.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::file;

/// What a name begins with while its file is being made. Nobody else's names do, so leftovers can be removed.
pub const TEMPORARY: &str = ".smarter-cni-new.";

/// What is copied and compared at a time: little memory counts more here than few calls.
const PIECE: usize = 16 * 1024;

/// The name that a file has until it is complete. Not with the extension of the file: a runtime reads every `*.conflist`
/// in its directory, those with a dot in front first.
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{TEMPORARY}{name}.part"))
}

/// Puts a complete file in place. `check` sees it under its temporary name, closed and executable, and may refuse it: then
/// the old one stays. One caller at a time for a directory.
pub fn file(
    path: &Path,
    mode: u32,
    content: &mut dyn Read,
    check: impl FnOnce(&Path) -> io::Result<()>,
) -> io::Result<()> {
    let new = temporary(path);
    let written =
        write_new(&new, mode, content).and_then(|()| check(&new)).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written.and_then(|()| sync_parent(path))
}

fn write_new(new: &Path, mode: u32, content: &mut dyn Read) -> io::Result<()> {
    // Left by a process that was killed.
    remove(new)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(new)?;
    // Not `io::copy`: copy_file_range fails with EBADF on odd kernels and file systems, and short reads are rare here.
    let mut buffer = vec![0; PIECE];
    loop {
        match content.read(&mut buffer)? {
            0 => break,
            length => file.write_all(&buffer[..length])?,
        }
    }
    // The mode of `open` is cut by the umask of whoever started us.
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
    file.sync_all()
}

/// Puts a symbolic link in place.
pub fn link(path: &Path, target: &str) -> io::Result<()> {
    let new = temporary(path);
    remove(&new)?;
    symlink(target, &new)?;
    fs::rename(&new, path).inspect_err(|_| {
        let _ = fs::remove_file(&new);
    })?;
    sync_parent(path)
}

/// Gives a file another name in the same directory, in place of whatever has it.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

/// `false` when there was nothing.
pub fn remove(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// As [`remove`], and known to the disk.
pub fn remove_synced(path: &Path) -> io::Result<bool> {
    let removed = remove(path)?;
    if removed {
        sync_parent(path)?;
    }
    Ok(removed)
}

/// Makes a directory and those above it.
pub fn directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        directory(parent)?;
    }
    match fs::create_dir(path) {
        // Whatever the umask: plugins and networks are for everybody to read.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(0o755))?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) => return Err(error),
    }
    sync_parent(path)
}

/// Removes a directory that is empty; `false` when it is not, or not there.
pub fn remove_empty_directory(path: &Path) -> io::Result<bool> {
    match fs::remove_dir(path) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match file::directory(parent)?.sync_all() {
        // A file system that cannot sync a directory has nothing to sync (EINVAL, fsync(2)).
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

/// Whether a file has just these bytes; `false` also when it cannot be read. Reads piece by piece: a plugin is larger than
/// what a resident program may have in memory.
pub fn is_same(file: &File, content: &mut dyn Read) -> bool {
    let mut file = io::BufReader::with_capacity(PIECE, file);
    let mut buffer = vec![0; PIECE];
    let mut other = vec![0; PIECE];
    loop {
        let Ok(length) = content.read(&mut buffer) else { return false };
        if length == 0 {
            return matches!(file.read(&mut other[..1]), Ok(0));
        }
        if file.read_exact(&mut other[..length]).is_err() || other[..length] != buffer[..length] {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn no_runtime_reads_a_file_that_is_not_complete() {
        let temporary = temporary(Path::new("/etc/cni/net.d/0-smarter-bridge.conflist"));
        assert_eq!(temporary, Path::new("/etc/cni/net.d/.smarter-cni-new.0-smarter-bridge.conflist.part"));
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plugin");
        fs::write(temporary(&path), "half a pl").unwrap();
        file(&path, 0o755, &mut "one".as_bytes(), |new| {
            assert_eq!(fs::read(new).unwrap(), b"one");
            assert_eq!(fs::metadata(new).unwrap().permissions().mode() & 0o7777, 0o755);
            Ok(())
        })
        .unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        let refused = file(&path, 0o755, &mut "two".as_bytes(), |_| Err(io::ErrorKind::InvalidData.into()));
        assert!(refused.is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn links_are_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (path, victim) = (directory.path().join("name"), directory.path().join("victim"));
        fs::write(&victim, "precious").unwrap();
        link(&path, "victim").unwrap();
        file(&path, 0o644, &mut "new".as_bytes(), |_| Ok(())).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        link(&path, "elsewhere").unwrap();
        assert_eq!(fs::read_link(&path).unwrap(), Path::new("elsewhere"));
        assert!(remove_synced(&path).unwrap());
        assert!(!remove_synced(&path).unwrap());
    }

    #[test]
    fn sameness_is_of_every_byte_and_of_the_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let long = vec![7; 200_000];
        fs::write(&path, &long).unwrap();
        let same = |content: &[u8]| is_same(&File::open(&path).unwrap(), &mut &content[..]);
        assert!(same(&long));
        assert!(!same(&long[1..]));
        assert!(!same(&[long.as_slice(), &[7]].concat()));
        assert!(!same(&[&[8], &long[1..]].concat()));
    }

    #[test]
    fn only_empty_directories_go() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b");
        super::directory(&path).unwrap();
        assert!(!remove_empty_directory(&directory.path().join("a")).unwrap());
        assert!(remove_empty_directory(&path).unwrap());
        assert!(!remove_empty_directory(&path).unwrap());
    }
}
