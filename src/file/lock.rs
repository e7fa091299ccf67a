//! Taking a lock (flock(2)) that other programs take too: with patience, not without end, and with words for whoever has it.
//!
//! A process that was stopped, or that hangs, holds its locks for as long as it lives. Whoever waits for it must say so, and
//! say what ends it: a stopped process takes no signal but two.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, Stat, flock, fstat, major, minor, stat};
use rustix::io::Errno;

use crate::text::{printable, typed};

/// One that is stopped goes on when somebody says so, and that is not soon.
const PATIENCE_WITH_STOPPED: Duration = Duration::from_secs(2);
/// From then on somebody who watches is told what is waited for.
const SILENCE: Duration = Duration::from_secs(1);
/// Whoever waits has this many times the patience in all, as long as others have their turns before it: those who wait are not
/// in the order in which they came, and fifty pods at once on a slow node take longer than any one of them.
const TURNS: u32 = 3;
const SHORTEST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A process that has a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// 0 for one of another process namespace.
    pub pid: u32,
    pub command: String,
    /// By SIGSTOP, a terminal or a debugger: it does nothing until it is let go on.
    pub stopped: bool,
}

impl Holder {
    /// Of the lock of a file; `None` where nobody is seen to have it.
    pub fn of(path: &Path) -> Vec<Self> {
        stat(path).map(|stat| holders(&stat)).unwrap_or_default()
    }

    /// The commands that end its hold, one a line, each as it is typed.
    pub fn remedy(&self, path: &Path) -> String {
        let path = typed(path.display());
        match self {
            // `kill 0` would be for ourselves.
            Self { pid: 0, .. } => format!("fuser -v {path}\nnames it, in its own container or on the host"),
            Self { pid, stopped: true, .. } => {
                format!("kill -CONT {pid}\nlets it go on; to end it: kill -9 {pid}")
            }
            Self { pid, .. } => {
                format!(
                    "cat /proc/{pid}/stack; ls -l /proc/{pid}/fd\nshow what it does; to end it: kill -9 {pid}"
                )
            }
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { pid: 0, .. } => f.write_str("a process of another container"),
            Self { pid, command, stopped } => {
                write!(f, "process {pid} ({command}){}", if *stopped { ", which is stopped," } else { "" })
            }
        }
    }
}

/// Locks that this process has waited for in vain: a repair of many pods waits once, not once for each.
static IN_VAIN: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Takes the lock of an open file for itself alone. `path` is for people.
pub fn exclusive(file: &File, path: &Path, patience: Duration) -> io::Result<()> {
    let in_vain = || IN_VAIN.lock().unwrap_or_else(PoisonError::into_inner);
    let patience = if in_vain().iter().any(|known| known == path) { Duration::ZERO } else { patience };
    let outcome = wait(file, path, patience);
    match &outcome {
        Ok(()) => in_vain().retain(|known| known != path),
        Err(_) if !patience.is_zero() => in_vain().push(path.to_owned()),
        Err(_) => {}
    }
    outcome
}

fn wait(file: &File, path: &Path, patience: Duration) -> io::Result<()> {
    let begun = Instant::now();
    let mut pause = SHORTEST_PAUSE;
    let mut turn = Turn::default();
    loop {
        if try_exclusive(file)? {
            return Ok(());
        }
        let waited = begun.elapsed();
        if waited > SILENCE && turn.holder.is_none() {
            tracing::warn!("waiting for the lock {}: {}", path.display(), held_by(file, path));
            turn.holder = Some(first_holder(file).map_or(0, |holder| holder.pid));
        }
        let stopped = waited > PATIENCE_WITH_STOPPED && is_stopped(file);
        if stopped || waited > turn.since + patience {
            let holder = first_holder(file);
            match turn.next(waited, patience, holder.as_ref()) {
                Some(next) if !stopped => turn = next,
                _ => return Err(io::Error::new(io::ErrorKind::TimedOut, in_words(holder.as_ref(), path))),
            }
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The same without waiting.
pub fn try_exclusive(file: &File) -> io::Result<bool> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Gives the lock back, although the file stays open.
pub fn unlock(file: &File) {
    // Nobody else can take it away, and closing the file does the same.
    let _ = flock(file, FlockOperation::Unlock);
}

fn is_stopped(file: &File) -> bool {
    fstat(file.as_fd()).is_ok_and(|stat| holders(&stat).iter().any(|holder| holder.stopped))
}

fn first_holder(file: &File) -> Option<Holder> {
    fstat(file.as_fd()).ok().and_then(|stat| holders(&stat).into_iter().next())
}

fn held_by(file: &File, path: &Path) -> String {
    in_words(first_holder(file).as_ref(), path)
}

/// Who was seen to have the lock, and since when: a process, 0 for one that cannot be seen, `None` before anybody looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Turn {
    since: Duration,
    holder: Option<u32>,
}

impl Turn {
    /// That of somebody else, with whom patience begins again; `None` when it is over.
    fn next(self, waited: Duration, patience: Duration, holder: Option<&Holder>) -> Option<Self> {
        let pid = holder.map_or(0, |holder| holder.pid);
        // Two that cannot be seen may be one.
        let moved = pid != 0 && self.holder.is_some_and(|known| known != pid);
        (moved && waited <= patience * TURNS).then_some(Self { since: waited, holder: Some(pid) })
    }
}

/// Who holds the lock of a file, and what ends that, in one line.
pub fn in_words(holder: Option<&Holder>, path: &Path) -> String {
    let path_words = typed(path.display());
    match holder {
        None => format!(
            "somebody holds it who cannot be seen from here; fuser -v {path_words} on the host names it"
        ),
        Some(holder @ Holder { pid: 0, .. }) => {
            format!("{holder} holds it; fuser -v {path_words} on the host names it")
        }
        Some(holder @ Holder { pid, stopped: true, .. }) => {
            format!("{holder} holds it; kill -CONT {pid} lets it go on, kill -9 {pid} ends it")
        }
        Some(holder @ Holder { pid, .. }) => format!("{holder} holds it; if it hangs: kill -9 {pid}"),
    }
}

fn holders(stat: &Stat) -> Vec<Holder> {
    let identity = (major(stat.st_dev), minor(stat.st_dev), stat.st_ino);
    let table = procfs("/proc/locks");
    table.lines().filter_map(|line| holder_of(line, identity)).map(known).collect()
}

fn known(pid: u32) -> Holder {
    let status = procfs(&format!("/proc/{pid}/stat"));
    // proc_pid_stat(5): the command in brackets may contain anything; behind it the state.
    let command = status.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')'));
    let (command, rest) = command.unwrap_or(("unknown", ""));
    let stopped = matches!(rest.trim_start().chars().next(), Some('T' | 't'));
    // Whoever calls itself so could move the cursor of whoever reads it.
    Holder { pid, command: printable(command).into_owned(), stopped }
}

/// The kernel's own file, which is as long as it is.
fn procfs(path: &str) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// One line of `/proc/locks` (proc(5)): `1: FLOCK  ADVISORY  WRITE 708 00:13:16853 0 EOF`. Those who wait have an arrow.
fn holder_of(line: &str, (major, minor, inode): (u32, u32, u64)) -> Option<u32> {
    let words: Vec<_> = line.split_whitespace().collect();
    let [_, "FLOCK", _, _, pid, file, ..] = words[..] else { return None };
    let mut parts = file.split(':');
    let number = |text: Option<&str>| u32::from_str_radix(text?, 16).ok();
    let same = number(parts.next()) == Some(major)
        && number(parts.next()) == Some(minor)
        && parts.next().and_then(|text| text.parse().ok()) == Some(inode);
    // A holder in another process namespace has no number here.
    same.then(|| pid.parse::<i64>().ok()).flatten().map(|pid| u32::try_from(pid).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_told_from_those_who_wait() {
        let identity = (0, 0x13, 16853);
        assert_eq!(holder_of("1: FLOCK  ADVISORY  WRITE 708 00:13:16853 0 EOF", identity), Some(708));
        assert_eq!(holder_of("1: -> FLOCK  ADVISORY  WRITE 709 00:13:16853 0 EOF", identity), None);
        assert_eq!(holder_of("2: POSIX  ADVISORY  WRITE 708 00:13:16853 0 EOF", identity), None);
        assert_eq!(holder_of("2: FLOCK  ADVISORY  WRITE 708 00:14:16853 0 EOF", identity), None);
        assert_eq!(holder_of("2: FLOCK  ADVISORY  WRITE -1 00:13:16853 0 EOF", identity), Some(0));
    }

    #[test]
    fn whoever_waits_in_vain_learns_for_whom() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let holder = File::create(&path).unwrap();
        assert!(try_exclusive(&holder).unwrap());
        let waiting = File::open(&path).unwrap();
        let error = exclusive(&waiting, &path, Duration::from_millis(30)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let me = std::process::id();
        let text = error.to_string();
        assert!(text.starts_with(&format!("process {me} (")), "{text}");
        assert!(text.ends_with(&format!("holds it; if it hangs: kill -9 {me}")), "{text}");
        unlock(&holder);
        exclusive(&waiting, &path, Duration::from_millis(30)).unwrap();
    }

    #[test]
    fn who_waits_behind_others_is_patient_with_each_of_them() {
        let seconds = Duration::from_secs;
        let holder = |pid| Holder { pid, command: "bridge".to_owned(), stopped: false };
        let turn = Turn { since: seconds(0), holder: Some(7) };
        let second = turn.next(seconds(21), seconds(20), Some(&holder(8)));
        assert_eq!(second, Some(Turn { since: seconds(21), holder: Some(8) }));
        assert_eq!(turn.next(seconds(21), seconds(20), Some(&holder(7))), None, "one that hangs");
        assert_eq!(turn.next(seconds(21), seconds(20), None), None, "nobody is seen");
        assert_eq!(turn.next(seconds(21), seconds(20), Some(&holder(0))), None, "of another container");
        assert_eq!(
            Turn::default().next(seconds(1), seconds(0), Some(&holder(8))),
            None,
            "nobody was looked for"
        );
        assert_eq!(second.unwrap().next(seconds(61), seconds(20), Some(&holder(9))), None, "not without end");
    }

    #[test]
    fn a_stopped_process_is_ended_by_two_signals_only() {
        let stopped = Holder { pid: 7, command: "iptables".to_owned(), stopped: true };
        let lock = Path::new("/run/xtables.lock");
        assert_eq!(
            in_words(Some(&stopped), lock),
            "process 7 (iptables), which is stopped, holds it; kill -CONT 7 lets it go on, kill -9 7 ends it"
        );
        assert_eq!(stopped.remedy(lock), "kill -CONT 7\nlets it go on; to end it: kill -9 7");
    }
}
