//! Stays on the node and repairs what gets lost of the installation: plugins, names, configuration.
//!
//! Wakes up when something happens in one of the directories, and once a minute because directories can be replaced by
//! others unseen. Idle it writes nothing and asks nobody. Leaves everything in place when it ends: a restart must not
//! take the network from a node. Refuses to fight with another build's installation.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::pass::Pass;
use super::report::Result as Outcome;
use crate::Outcome as Answer;

/// Longest time without a look.
const ROUND: Duration = Duration::from_mins(1);
/// Whoever changes one file mostly changes several.
const SETTLE: Duration = Duration::from_millis(100);
/// SIGTERM and SIGINT are the same on every architecture of Linux.
const SIGNALS: [i32; 2] = [15, 2];

/// What one look did and saw. Made by a process of its own and read by the one that stays.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Look {
    /// Directories in which something may get lost, as they are for us.
    watched: Vec<PathBuf>,
    repaired: Vec<String>,
    troubles: Vec<String>,
}

impl Look {
    pub(super) fn of(pass: &Pass) -> Self {
        let report = pass.repair();
        let troubles = match report.result {
            Outcome::Refused | Outcome::Failed => report.errors,
            Outcome::Superseded => report.notes,
            _ => Vec::new(),
        };
        Self { watched: pass.watched(), repaired: report.steps, troubles }
    }

    pub(super) fn render(&self) -> String {
        serde_json::to_string(self).expect("texts and paths")
    }
}

/// Installs, then looks again and again until a signal comes. Each look is a process of its own: whoever stays for months
/// keeps no more in memory than it takes to wait (2 MiB less).
pub(super) fn watch(arguments: &[OsString], signals: Signals) -> Answer {
    let arguments: Vec<&OsString> = arguments.iter().filter(|word| *word != "--watch").collect();
    let failed = |error: io::Error| Answer {
        stderr: format!("smarter-cni install: cannot watch: {error}\n"),
        status: 1,
        ..Answer::default()
    };
    match own().args(&arguments).status() {
        Ok(status) if status.success() => {}
        Ok(status) => {
            let status = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Answer { status, ..Answer::default() };
        }
        Err(error) => return failed(error),
    }
    stay(&arguments, signals).map_or_else(failed, |()| Answer::default())
}

fn own() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("install").stdin(Stdio::null());
    command
}

fn stay(arguments: &[&OsString], signals: Signals) -> io::Result<()> {
    let mut watcher = Watcher::new(signals)?;
    let mut said = Vec::new();
    loop {
        let look = look(arguments);
        say(&look, &mut said);
        // What happened in a directory before it was watched was seen by nobody.
        if watcher.add(&look.watched) {
            continue;
        }
        match watcher.wait(ROUND)? {
            Woken::Signal => return Ok(()),
            Woken::Change => {
                if matches!(watcher.settle()?, Woken::Signal) {
                    return Ok(());
                }
            }
            Woken::Time => {}
        }
    }
}

fn look(arguments: &[&OsString]) -> Look {
    let trouble = |what: String| Look { troubles: vec![what], ..Look::default() };
    match own().args(arguments).arg("--look").stderr(Stdio::inherit()).output() {
        Ok(output) => serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| trouble(format!("a look ended with {}", output.status))),
        Err(error) => trouble(format!("cannot look: {error}")),
    }
}

/// One line per repair, and one per trouble as long as it is the same.
fn say(look: &Look, said: &mut Vec<String>) {
    let mut stderr = io::stderr().lock();
    for step in &look.repaired {
        let _ = writeln!(stderr, "repaired {step}");
    }
    if look.troubles != *said {
        for trouble in &look.troubles {
            let _ = writeln!(stderr, "trouble  {trouble}");
        }
        said.clone_from(&look.troubles);
    }
}

enum Woken {
    Signal,
    Change,
    Time,
}

/// SIGTERM and SIGINT, from the making of this value on: the first process of a container is deaf to signals that it has
/// not asked for.
#[derive(Debug)]
pub(super) struct Signals(UnixStream);

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        for signal in SIGNALS {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self(read))
    }

    /// Waits for the first one.
    pub(super) fn wait(mut self) -> io::Result<()> {
        self.0.read_exact(&mut [0])
    }
}

struct Watcher {
    inotify: OwnedFd,
    /// Numbers of watches; the kernel never uses one again.
    watches: BTreeSet<i32>,
    signals: Signals,
}

impl Watcher {
    fn new(signals: Signals) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify, watches: BTreeSet::new(), signals })
    }

    /// A directory that is watched already is the same watch; one that took its place is a new one. Is any new?
    fn add(&mut self, directories: &[PathBuf]) -> bool {
        let events = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::ATTRIB
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut new = false;
        for directory in directories {
            match inotify::add_watch(&self.inotify, directory, events) {
                Ok(watch) => new |= self.watches.insert(watch),
                // The minute finds it; the limit of watches is low on some nodes (fs.inotify.max_user_watches).
                Err(error) => tracing::info!("cannot watch {}: {error}", directory.display()),
            }
        }
        new
    }

    fn wait(&mut self, longest: Duration) -> io::Result<Woken> {
        let timeout = Timespec {
            tv_sec: longest.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: longest.subsec_nanos().into(),
        };
        loop {
            let mut fds =
                [PollFd::new(&self.signals.0, PollFlags::IN), PollFd::new(&self.inotify, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => return Ok(Woken::Time),
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            }
            if !fds[0].revents().is_empty() {
                return Ok(Woken::Signal);
            }
            self.drain()?;
            return Ok(Woken::Change);
        }
    }

    /// Until nothing has happened for a moment, or for as long as ten of them.
    fn settle(&mut self) -> io::Result<Woken> {
        for _ in 0..10 {
            match self.wait(SETTLE)? {
                Woken::Change => {}
                other => return Ok(other),
            }
        }
        Ok(Woken::Time)
    }

    /// What happened does not matter: the look that follows sees all of it.
    fn drain(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match rustix::io::read(self.inotify.as_fd(), &mut buffer) {
                Ok(0) | Err(Errno::AGAIN) => return Ok(()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The nearest directory that is there: where the wanted one would appear.
pub(super) fn nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|part| part.is_dir()).map(Path::to_owned)
}
