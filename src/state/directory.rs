//! One directory, held open, and the files directly in it.
//!
//! Every name is looked up relative to the open directory and no symbolic link is followed at its end, so a link that
//! somebody placed there cannot lead a root process elsewhere. The way to the directory itself may contain links
//! (`/var/run`). Knows nothing of what the files mean.

use std::ffi::{CStr, OsStr};
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags};
use rustix::io::Errno;

use super::error::{Error, Result};
use crate::file;

/// Longer than a lease, short enough to read whatever lies about under a name of ours.
const LONGEST: usize = 256 * 1024;
/// So often a file is written again whose temporary name was swept away.
const ATTEMPTS: usize = 3;
/// Bytes of names that are asked for at once: those of two hundred attachments.
const NAMES: usize = 8 * 1024;

#[derive(Debug)]
pub(super) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens the directory, made with its parents where missing.
    pub(super) fn create(path: &Path, mode: u32) -> Result<Self> {
        if let Some(directory) = Self::existing(path)? {
            return Ok(directory);
        }
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(path)
            .map_err(|error| Error::new("mkdir", path, error))?;
        Self::existing(path)?.ok_or_else(|| Error::new("open", path, Errno::NOENT))
    }

    /// `None` when there is no such directory.
    pub(super) fn existing(path: &Path) -> Result<Option<Self>> {
        match fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_owned() })),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(Error::new("open", path, errno)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    fn error(&self, operation: &str, name: &str, errno: impl Into<std::io::Error>) -> Error {
        Error::new(operation, &self.path.join(name), errno)
    }

    pub(super) fn open(&self, name: &str, flags: OFlags, mode: u32) -> Result<File> {
        // NONBLOCK: a pipe under one of our names must not hang the pod.
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        fs::openat(&self.fd, name, flags, Mode::from_raw_mode(mode))
            .map(File::from)
            .map_err(|errno| self.error("open", name, errno))
    }

    /// `None` when there is no such file. What is no plain file, or longer than any of ours, was not written by us: nothing is
    /// taken of it, so that it is as damaged as an empty one, and in nobody's way.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.read_up_to(name, LONGEST)
    }

    /// As [`Self::read`], for files that may be so long.
    pub(super) fn read_up_to(&self, name: &str, longest: usize) -> Result<Option<Vec<u8>>> {
        let file = match self.open(name, OFlags::RDONLY, 0) {
            Ok(file) => file,
            Err(error) if error.is_missing() => return Ok(None),
            // A symbolic link, or a socket.
            Err(error) if matches!(error.errno(), Some(Errno::LOOP | Errno::NXIO)) => {
                return Ok(Some(Vec::new()));
            }
            Err(error) => return Err(error),
        };
        match file::bytes_of(&file, longest) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if file::is_no_file_of_ours(&error) => Ok(Some(Vec::new())),
            Err(error) => Err(self.error("read", name, error)),
        }
    }

    /// Truncates and writes in place; a reader may see it half done.
    pub(super) fn overwrite(&self, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
        let mut file = self.open(name, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, mode)?;
        file.write_all(bytes).map_err(|error| self.error("write", name, error))
    }

    /// Writes over bytes that are there already: needs no new block on a full disk.
    pub(super) fn patch(&self, name: &str, at: u64, bytes: &[u8]) -> Result<()> {
        let file = self.open(name, OFlags::WRONLY, 0)?;
        file.write_all_at(bytes, at).map_err(|error| self.error("write", name, error))
    }

    /// Puts a complete file in place of whatever has the name. `temporary` is a name nobody else writes to meanwhile; who
    /// takes it for a dead writer's removes it, and it is written again.
    pub(super) fn replace(&self, name: &str, temporary: &str, bytes: &[u8]) -> Result<()> {
        let mut attempts = 0;
        loop {
            self.write_temporary(temporary, name, bytes)?;
            match fs::renameat(&self.fd, temporary, &self.fd, name) {
                Ok(()) => return Ok(()),
                // Or the directory itself is gone.
                Err(Errno::NOENT) if attempts < ATTEMPTS => attempts += 1,
                Err(errno) => {
                    let _ = self.remove(temporary);
                    return Err(self.error("write", name, errno));
                }
            }
        }
    }

    /// Puts a complete file under a name that is free; `false` when it is not. `temporary` as for [`Self::replace`].
    pub(super) fn place(&self, name: &str, temporary: &str, bytes: &[u8]) -> Result<bool> {
        self.write_temporary(temporary, name, bytes)?;
        let mut outcome = fs::renameat_with(&self.fd, temporary, &self.fd, name, RenameFlags::NOREPLACE);
        if matches!(outcome, Err(Errno::INVAL | Errno::NOSYS)) {
            // A file system without the flag has hard links.
            outcome = fs::linkat(&self.fd, temporary, &self.fd, name, AtFlags::empty());
            let _ = self.remove(temporary);
        }
        match outcome {
            Ok(()) => Ok(true),
            Err(errno) => {
                let _ = self.remove(temporary);
                if errno == Errno::EXIST { Ok(false) } else { Err(self.error("write", name, errno)) }
            }
        }
    }

    fn write_temporary(&self, temporary: &str, name: &str, bytes: &[u8]) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let mut file = match self.open(temporary, flags, 0o600) {
            // Left by a process that was killed.
            Err(error) if error.errno() == Some(Errno::EXIST) => {
                self.remove(temporary)?;
                self.open(temporary, flags, 0o600)
            }
            other => other,
        }?;
        file.write_all(bytes).map_err(|error| {
            let _ = self.remove(temporary);
            self.error("write", name, error)
        })
    }

    /// `false` when there was nothing.
    pub(super) fn remove(&self, name: &str) -> Result<bool> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(self.error("remove", name, errno)),
        }
    }

    /// Inode number of what has the name, not following links; `None` when nothing has.
    pub(super) fn inode(&self, name: &str) -> Result<Option<u64>> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat.st_ino)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.error("stat", name, errno)),
        }
    }

    /// Can files be made here? Writes nothing.
    pub(super) fn writable(&self) -> Result<()> {
        let failed = |errno: Errno| Error::new("write", &self.path, errno);
        fs::accessat(&self.fd, ".", fs::Access::WRITE_OK, AtFlags::empty()).map_err(failed)?;
        let disk = fs::fstatvfs(&self.fd).map_err(failed)?;
        // Zero in total means that the file system does not count (btrfs has no number of inodes).
        let full = |free: u64, total: u64| total > 0 && free == 0;
        if full(disk.f_bavail, disk.f_blocks) || full(disk.f_favail, disk.f_files) {
            return Err(failed(Errno::NOSPC));
        }
        Ok(())
    }

    /// Every name with its inode number, sub-directories left out. Names that are not UTF-8 are none of ours.
    pub(super) fn each(&self, mut entry: impl FnMut(&str, u64)) -> Result<()> {
        self.each_until(|name, inode| {
            entry(name, inode);
            ControlFlow::Continue(())
        })
    }

    pub(super) fn each_until(&self, mut entry: impl FnMut(&str, u64) -> ControlFlow<()>) -> Result<()> {
        let failed = |errno: Errno| Error::new("read", &self.path, errno);
        // A descriptor of its own: the position in a directory belongs to the open file.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::openat(&self.fd, ".", flags, Mode::empty()).map_err(failed)?;
        let mut buffer = [MaybeUninit::uninit(); NAMES];
        let mut entries = RawDir::new(fd, &mut buffer);
        while let Some(found) = entries.next() {
            let found = found.map_err(failed)?;
            if found.file_type() == FileType::Directory {
                continue;
            }
            if let Some(name) = text(found.file_name())
                && entry(name, found.ino()).is_break()
            {
                break;
            }
        }
        Ok(())
    }
}

fn text(name: &CStr) -> Option<&str> {
    OsStr::from_bytes(name.to_bytes()).to_str()
}
