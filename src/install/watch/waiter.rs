//! Waits for a reason to look: a signal, a change in a directory, damage that the kernel announces, a span of time.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ChildStdout;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

use super::pace::Pace;
use crate::applet;
use crate::datapath::alarm::{Alarm, Suspicion};
use crate::file::changes::CHANGES;
use crate::host::root::Root;
use crate::state::record;
use crate::state::{BootId, Records, fallback};

/// Longest time without a look.
const ROUND: Duration = Duration::from_mins(1);
/// Whoever changes one thing mostly changes several.
const SETTLE: Duration = Duration::from_millis(100);
const LONGEST_SETTLE: Duration = Duration::from_secs(1);
/// More than any look takes: a second for every pod that could be on a small node.
const LONGEST_LOOK: Duration = Duration::from_mins(2);
/// A file comes under its name, or goes; nothing of those that are written to.
const NAMES: WatchFlags =
    WatchFlags::MOVED_TO.union(WatchFlags::DELETE).union(WatchFlags::ONLYDIR).union(WatchFlags::DONT_FOLLOW);
/// SIGTERM and SIGINT are the same on every architecture of Linux.
const SIGNALS: [i32; 2] = [15, 2];

/// What a terminal sends that goes away, and people who want a configuration to be read again.
const HANGUP: i32 = 1;

/// What is to be looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) files: bool,
    pub(super) network: bool,
}

impl Due {
    pub(super) const ALL: Self = Self { files: true, network: true };
    pub(super) const FILES: Self = Self { files: true, network: false };
    const NETWORK: Self = Self { files: false, network: true };
}

/// SIGTERM and SIGINT, from the making of this value on: the first process of a container is deaf to signals that it has
/// not asked for.
#[derive(Debug)]
pub(in crate::install) struct Signals(UnixStream);

impl Signals {
    pub(in crate::install) fn catch() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        for signal in SIGNALS {
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        // There is nothing to read anew, every look does; without a handler it would end whoever stays.
        signal_hook::flag::register(HANGUP, Arc::default())?;
        Ok(Self(read))
    }

    /// Whether one comes, before something happens or so many pauses are over.
    pub(in crate::install) fn come_within(
        &self,
        pause: Duration,
        pauses: u32,
        happened: impl Fn() -> bool,
    ) -> io::Result<bool> {
        for _ in 0..pauses {
            if ready(&[self.0.as_fd()], pause)?.is_some() {
                return Ok(true);
            }
            if happened() {
                break;
            }
        }
        Ok(false)
    }

    /// Waits for the first one.
    pub(in crate::install) fn wait(mut self) -> io::Result<()> {
        self.0.read_exact(&mut [0])
    }
}

/// What came first.
enum Woken {
    Signal,
    /// Which is to be looked at.
    Files(Due),
    Network,
    Time,
}

/// How reading from a look ended.
pub(super) enum Told {
    Everything(Vec<u8>),
    /// A signal came.
    Interrupted,
    TooLate,
}

pub(super) struct Waiter {
    /// A user has 128 at most (fs.inotify.max_user_instances), and others have used them up: then the minute has to do.
    inotify: Option<OwnedFd>,
    /// Numbers of watches; the kernel never uses one again.
    watches: BTreeSet<i32>,
    /// Of the directory where the name server says at which port it answers.
    names: Option<i32>,
    signals: Signals,
    pub(super) alarm: Alarm,
    pub(super) pace: Pace,
    /// The network is left to another build.
    pub(super) superseded: bool,
    root: Root,
    begun: Instant,
    /// When everything is looked at again.
    round: Duration,
}

impl Waiter {
    pub(super) fn new(root: PathBuf, signals: Signals) -> Self {
        Self {
            inotify: None,
            watches: BTreeSet::new(),
            names: None,
            signals,
            alarm: Alarm::new(|program| applet::plugin(program).is_some()),
            pace: Pace::default(),
            superseded: false,
            root: Root::at(root),
            begun: Instant::now(),
            round: Duration::ZERO,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// A directory that is watched already is the same watch; one that took its place is a new one. Is any new?
    pub(super) fn add(&mut self, directories: &[PathBuf]) -> bool {
        if self.inotify.is_none() {
            match inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK) {
                Ok(inotify) => self.inotify = Some(inotify),
                Err(error) => tracing::info!("changes of files are seen once a minute: {error}"),
            }
        }
        let Some(inotify) = &self.inotify else { return false };
        let mut new = false;
        for directory in directories {
            match inotify::add_watch(inotify, directory, CHANGES) {
                Ok(watch) => new |= self.watches.insert(watch),
                // The minute finds it; the limit of watches is low on some nodes (fs.inotify.max_user_watches).
                Err(error) => tracing::info!("cannot watch {}: {error}", directory.display()),
            }
        }
        new
    }

    /// The directory is made by the first pod or by the name server, whose doings wake us up.
    fn add_names(&mut self) {
        if let (None, Some(inotify)) = (self.names, &self.inotify) {
            let records = self.root.locate(Path::new(record::ROOT));
            self.names = records.ok().and_then(|records| inotify::add_watch(inotify, &records, NAMES).ok());
        }
    }

    /// What to look at next, as soon as there is a reason. `None`: a signal came.
    pub(super) fn next(&mut self) -> io::Result<Option<Due>> {
        loop {
            self.add_names();
            let now = self.now();
            if now >= self.round {
                self.round = now + ROUND;
                return Ok(Some(Due { network: !self.superseded, ..Due::ALL }));
            }
            let earliest = self.pace.earliest();
            let retry = self.pace.retry().filter(|_| !self.superseded);
            let retry = retry.map_or(Duration::MAX, |retry| retry.max(earliest));
            if now >= retry {
                return Ok(Some(Due::NETWORK));
            }
            // What must wait is not listened to meanwhile: whoever fights us does not wake us up either.
            let listens = !self.superseded && now >= earliest;
            let pause = if self.superseded || listens { Duration::MAX } else { earliest };
            let until = self.round.min(retry).min(pause);
            let due = match self.wait(until.saturating_sub(now), listens)? {
                Woken::Signal => return Ok(None),
                Woken::Files(due) if due != Due::default() => self.settle(due, due.network)?,
                Woken::Network if self.alarm.hear() => self.settle(Due::NETWORK, false)?,
                Woken::Time | Woken::Network | Woken::Files(_) => continue,
            };
            match due {
                Some(Due { files: false, network: false }) => {}
                due => return Ok(due),
            }
        }
    }

    /// Until nothing of interest has happened for a moment, but not for ever. `None`: a signal came. It may be `certain` that
    /// the network is to be looked at.
    fn settle(&mut self, begun_by: Due, mut certain: bool) -> io::Result<Option<Due>> {
        let mut due = begun_by;
        let end = self.now() + LONGEST_SETTLE;
        let mut quiet = self.now() + SETTLE;
        loop {
            let left = quiet.min(end).saturating_sub(self.now());
            if left.is_zero() {
                break;
            }
            match self.wait(left, !self.superseded)? {
                Woken::Signal => return Ok(None),
                Woken::Time => break,
                Woken::Files(more) => {
                    due.files |= more.files;
                    certain |= more.network;
                    due.network |= more.network;
                }
                Woken::Network if self.alarm.hear() => due.network = true,
                Woken::Network => continue,
            }
            quiet = self.now() + SETTLE;
        }
        if due.network {
            let suspicion = self.alarm.suspicion();
            due.network = certain || self.is_damage(&suspicion);
        }
        Ok(Some(due))
    }

    /// What an attachment lost that has no record any more, a DEL took from it.
    fn is_damage(&self, suspicion: &Suspicion) -> bool {
        if suspicion.certain {
            return true;
        }
        let names = self
            .root
            .locate(Path::new(record::ROOT))
            .and_then(|root| Ok(Records::at(&root, BootId::current()?).names()));
        // Where nobody knows, a look does no harm.
        let Ok(Ok(names)) = names else { return true };
        suspicion.attachments.iter().any(|lost| names.contains(lost))
    }

    fn wait(&mut self, longest: Duration, listens: bool) -> io::Result<Woken> {
        let mut fds = vec![self.signals.0.as_fd()];
        fds.extend(self.inotify.as_ref().map(AsFd::as_fd));
        let files = fds.len();
        if listens {
            fds.extend(self.alarm.fds());
        }
        let ready = ready(&fds, longest)?;
        Ok(match ready {
            None => Woken::Time,
            Some(0) => Woken::Signal,
            Some(at) if at < files => Woken::Files(self.drain()?),
            Some(_) => Woken::Network,
        })
    }

    /// What happened to a file does not matter: the look that follows sees all of it. Where records are, it is the business of
    /// pods, but for one file.
    fn drain(&mut self) -> io::Result<Due> {
        let mut due = Due::default();
        let Some(inotify) = &self.inotify else { return Ok(due) };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        loop {
            match events.next() {
                Ok(event) if Some(event.wd()) == self.names => {
                    if event.events().contains(ReadFlags::IGNORED) {
                        self.names = None;
                        continue;
                    }
                    let is_it =
                        event.file_name().is_some_and(|name| name.to_bytes() == fallback::FILE.as_bytes());
                    due.network |= is_it && !self.superseded;
                }
                Ok(_) => due.files = true,
                Err(Errno::AGAIN) => return Ok(due),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Everything that a look says, until it ends.
    pub(super) fn listen_to(&self, look: &mut ChildStdout) -> io::Result<Told> {
        let end = Instant::now() + LONGEST_LOOK;
        let mut told = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match ready(&[self.signals.0.as_fd(), look.as_fd()], left)? {
                None => return Ok(Told::TooLate),
                Some(0) => return Ok(Told::Interrupted),
                Some(_) => match look.read(&mut buffer)? {
                    0 => return Ok(Told::Everything(told)),
                    length => told.extend(buffer.iter().take(length)),
                },
            }
        }
    }
}

/// The first of these that has something to say; `None` when the time is over.
fn ready(fds: &[BorrowedFd<'_>], longest: Duration) -> io::Result<Option<usize>> {
    let timeout = Timespec {
        tv_sec: longest.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: longest.subsec_nanos().into(),
    };
    loop {
        let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&timeout)) {
            Ok(0) => return Ok(None),
            Ok(_) => return Ok(polled.iter().position(|fd| !fd.revents().is_empty())),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The nearest directory that is there: where the wanted one would appear.
pub(in crate::install) fn nearest(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|part| part.is_dir()).map(Path::to_owned)
}
