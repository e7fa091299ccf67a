//! The file: `log` in a directory, and its predecessor `log.1`. Neither is ever larger than the cap.
//!
//! Any number of processes write at once: whoever does holds flock(2) on the directory, because files in it get other
//! names. Each line is one write. Nothing is synced: the directory is in memory, and void with the next boot.

use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::fs::{self, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

const NAME: &str = "log";
const PREDECESSOR: &str = "log.1";
/// A line takes microseconds; whoever holds the lock for longer is not one of us, or is stopped.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_micros(500);
/// Of what was said last, this much is looked at before it is said again.
const TAIL: u64 = 4096;
/// More than any word that has a meaning in a file of one word.
const WORD: u64 = 64;

#[derive(Debug)]
pub(super) struct Ring<'a> {
    directory: &'a Path,
    cap: u64,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Written,
    /// The same is there already.
    Known,
    /// Others held the lock for too long, or the line is larger than the file may be.
    Lost,
}

impl<'a> Ring<'a> {
    pub(super) fn at(directory: &'a Path, cap: u64) -> Self {
        Self { directory, cap }
    }

    /// `makes` the directory where it is missing; `is_known` is shown the end of the log, where that matters.
    pub(super) fn append(
        &self,
        line: &str,
        makes: bool,
        is_known: Option<&dyn Fn(&str) -> bool>,
    ) -> io::Result<Fate> {
        let directory = self.open(makes)?;
        if !lock(&directory)? {
            return Ok(Fate::Lost);
        }
        let file = open_log(&directory)?;
        let stat = fs::fstat(&file)?;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let length = line.len() as u64;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || length > self.cap {
            return Ok(Fate::Lost);
        }
        if let Some(is_known) = is_known
            && is_known(&tail(&file, size)?)
        {
            return Ok(Fate::Known);
        }
        if size + length <= self.cap {
            return write(&file, size, line);
        }
        if fs::renameat(&directory, NAME, &directory, PREDECESSOR).is_ok() {
            return write(&open_log(&directory)?, 0, line);
        }
        // Something is in the way of the predecessor: better the last lines than none.
        fs::ftruncate(&file, 0)?;
        write(&file, 0, line)
    }

    fn open(&self, makes: bool) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match fs::open(self.directory, flags, Mode::empty()) {
            Err(Errno::NOENT) if makes => {
                // Somebody else may make it at this moment.
                let _ = fs::mkdir(self.directory, Mode::RWXU);
                Ok(fs::open(self.directory, flags, Mode::empty())?)
            }
            other => Ok(other?),
        }
    }
}

/// Never waits for long: `false` when somebody else keeps it.
fn lock(directory: &OwnedFd) -> io::Result<bool> {
    for _ in 0..TRIES {
        match fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) => thread::sleep(PAUSE),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// A link that somebody placed there is not followed, and a pipe does not stop us.
fn open_log(directory: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::APPEND | OFlags::CREATE;
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    Ok(fs::openat(directory, NAME, flags, Mode::RUSR | Mode::WUSR)?)
}

fn tail(file: &OwnedFd, size: u64) -> io::Result<String> {
    let mut bytes = vec![0; usize::try_from(size.min(TAIL)).unwrap_or(0)];
    let read = rustix::io::pread(file, &mut bytes, size.saturating_sub(TAIL))?;
    bytes.truncate(read);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// All of it or nothing: a full disk may take half a line.
fn write(file: &OwnedFd, size: u64, line: &str) -> io::Result<Fate> {
    match rustix::io::write(file, line.as_bytes()) {
        Ok(written) if written == line.len() => Ok(Fate::Written),
        Ok(_) => {
            fs::ftruncate(file, size)?;
            Err(Errno::NOSPC.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// The text of a file that holds one word; `None` when there is none. A link is not followed.
pub(super) fn word(path: &Path) -> Option<String> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = fs::open(path, flags, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    std::fs::File::from(file).take(WORD).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests;
