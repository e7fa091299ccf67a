//! Carries out what the plan says, step by step, below the root. Decides nothing; stops at the first step that fails.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::have::{OWN, PROGRAM};
use super::installation::{self, Installation, Kept};
use super::plan::Step;
use super::program::{self, Program};
use crate::file;
use crate::host::place;
use crate::host::root::Root;

/// One installation at a time on a node: the container that installs and the one that watches may meet.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

impl Lock {
    /// Waits for whoever holds it. Makes the directory of the installation's file.
    pub(super) fn take(root: &Root) -> io::Result<Self> {
        let here = root.locate(Path::new(installation::DIRECTORY))?;
        loop {
            if !here.is_dir() {
                place::directory(&here)?;
            }
            let directory = match file::directory(&here) {
                // Removed just now, by an uninstallation.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                directory => directory?,
            };
            flock(&directory)?;
            // The directory itself is the lock. While we waited it may have been removed, and made anew by somebody who
            // holds the new one: then ours keeps nobody out.
            let (held, there) = (directory.metadata()?, fs::metadata(&here));
            if there.is_ok_and(|there| (there.dev(), there.ino()) == (held.dev(), held.ino())) {
                return Ok(Self(directory));
            }
        }
    }

    /// As [`Self::take`], without making anything: a node without the directory has no installation to lock.
    pub(super) fn take_if_installed(root: &Root) -> io::Result<Option<Self>> {
        root.exists(Path::new(installation::DIRECTORY)).then(|| Self::take(root)).transpose()
    }
}

fn flock(file: &File) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, FlockOperation::LockExclusive) {
            Err(Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
}

/// Written before the first effect.
pub(super) fn write_down(root: &Root, installation: &Installation) -> io::Result<()> {
    let here = here(root, Path::new(installation::FILE))?;
    place::file(&here, 0o644, &mut installation.render().as_slice(), |_| Ok(()))
}

pub(super) fn apply(root: &Root, program: &Program, step: &Step) -> Result<(), String> {
    let outcome = match step {
        Step::MakeDirectory(path) => root.locate(path).and_then(|here| place::directory(&here)),
        Step::Keep(kept) => keep(root, kept),
        Step::MoveAside(kept) => rename(root, &kept.original, &kept.kept_as),
        Step::PlaceProgram(path, _) => place_program(root, program, path),
        Step::Link(path) => here(root, path).and_then(|here| place::link(&here, PROGRAM)),
        Step::TryPrograms(directory) => try_programs(root, directory),
        Step::WriteConflist(path, bytes) => write(root, path, bytes),
        Step::WriteResolver(path, bytes) => {
            let directory = root.locate(path.parent().unwrap_or(Path::new("/")));
            directory.and_then(|here| place::directory(&here)).and_then(|()| write(root, path, bytes))
        }
        Step::RemoveConflist(path)
        | Step::RemoveResolver(path)
        | Step::RemoveLeftover(path)
        | Step::RemoveCache(path) => remove(root, path),
    };
    outcome.map_err(|error| match step {
        Step::WriteResolver(..) if Errno::from_io_error(&error) == Some(Errno::ROFS) => {
            format!("{step}: {error}; mount it writable, or say --host-dns off. Everything else is in place")
        }
        _ => format!("{step}: {error}{}", next_move(&error)),
    })
}

fn write(root: &Root, path: &Path, mut bytes: &[u8]) -> io::Result<()> {
    place::file(&here(root, path)?, 0o644, &mut bytes, |_| Ok(()))
}

/// Where a file of the host is for us, its own name not followed if it is a link.
pub(super) fn here(root: &Root, path: &Path) -> io::Result<PathBuf> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    Ok(root.locate(parent)?.join(path.file_name().unwrap_or_default()))
}

pub(super) fn remove(root: &Root, path: &Path) -> io::Result<()> {
    place::remove_synced(&here(root, path)?).map(drop)
}

pub(super) fn rename(root: &Root, from: &Path, to: &Path) -> io::Result<()> {
    place::rename(&here(root, from)?, &here(root, to)?)
}

/// A second name for the same file; a copy where the file system has no hard links. What is a link stays one.
fn keep(root: &Root, kept: &Kept) -> io::Result<()> {
    let (original, kept_as) = (here(root, &kept.original)?, here(root, &kept.kept_as)?);
    place::remove(&kept_as)?;
    // linkat(2) without AT_SYMLINK_FOLLOW does not follow links.
    match fs::hard_link(&original, &kept_as) {
        Err(error)
            if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) =>
        {
            use std::os::unix::fs::PermissionsExt;
            let mut file = file::open(&original)?;
            let mode = file.metadata()?.permissions().mode() & 0o7777;
            place::file(&kept_as, mode, &mut file, |_| Ok(()))
        }
        other => other,
    }
}

/// Tried before it takes the place of one that works.
fn place_program(root: &Root, program: &Program, path: &Path) -> io::Result<()> {
    let here = here(root, path)?;
    place::file(&here, 0o755, &mut program.open()?, |new| program::try_version(new, OWN[0]))
}

fn try_programs(root: &Root, directory: &Path) -> io::Result<()> {
    let here = root.locate(directory)?;
    OWN.iter().try_for_each(|name| {
        let tried = program::try_version(&here.join(name), name);
        tried.map_err(|error| io::Error::new(error.kind(), format!("{name} {error}")))
    })
}

/// What whoever reads the error can do about it.
pub(super) fn next_move(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::ROFS) => {
            "; mount it writable, or give writable directories with --bin-dir and --conf-dir"
        }
        Some(Errno::NOSPC | Errno::DQUOT) => "; make room and run it again",
        Some(Errno::ACCESS | Errno::PERM) => {
            "; run it as root, in a container with the host's directory mounted writable"
        }
        Some(Errno::NOTDIR | Errno::EXIST) => "; something else has the name: move it away",
        _ => "",
    }
}
