//! What was done, for whoever asks later: one line per run, to a file of bounded size and to the system's log.
//!
//! Everybody speaks to `tracing`; this room listens. It prints to standard error what SMARTER_CNI_LOG asks for, times the
//! stages of a run, and at the end writes the line. Refuses to fail, to wait for long and to touch standard output: a log
//! must never delay or refuse a pod. Knows no other room; whoever has something to report makes an [`Entry`].

mod clock;
mod collector;
mod entry;
mod level;
mod line;
mod ring;
mod syslog;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

pub use self::entry::{Entry, Failure};
pub use self::level::Level;

use self::clock::Clock;
use self::ring::{Fate, Ring};

/// In the directory of the log: one word, read at every run.
const LEVEL_FILE: &str = "log-level";
/// Of the file; its predecessor may be as large.
const CAP: u64 = 256 * 1024;

/// The one run of this process.
#[derive(Debug)]
struct Run {
    directory: PathBuf,
    /// What standard error gets.
    stderr: tracing::Level,
    /// What the line gets. As a number, because whoever asks must not wait.
    level: AtomicU8,
    /// The file or the environment said it: what a configuration says does not count.
    settled: bool,
    clock: Mutex<Clock>,
}

static RUN: OnceLock<Run> = OnceLock::new();

impl Run {
    fn level(&self) -> Level {
        Level::ALL[usize::from(self.level.load(Ordering::Relaxed))]
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins the run: from now on its time counts. `environment` is SMARTER_CNI_LOG, `directory` where the log is kept.
pub fn start(directory: &Path, environment: Option<&str>) {
    begin(directory, environment, collector::stderr_level(environment));
}

/// As [`start`], for a command whose answer names whatever there is to warn of: standard error gets errors only, unless
/// `environment` asks for more.
pub fn start_quietly(directory: &Path, environment: Option<&str>) {
    begin(directory, environment, collector::stderr_level(environment.or(Some("error"))));
}

fn begin(directory: &Path, environment: Option<&str>, stderr: tracing::Level) {
    let mut clock = Clock::begin(Instant::now());
    let file = ring::word(&directory.join(LEVEL_FILE));
    let (level, refused) = level::first(&[(LEVEL_FILE, file.as_deref()), ("SMARTER_CNI_LOG", environment)]);
    // About the log alone, so for the log alone: standard error goes to a runtime, which has no use for it.
    clock.warnings.extend(refused);
    let run = Run {
        directory: directory.to_owned(),
        stderr,
        level: AtomicU8::new(level.unwrap_or_default() as u8),
        settled: level.is_some(),
        clock: Mutex::new(clock),
    };
    if RUN.set(run).is_ok() {
        let _ = tracing::subscriber::set_global_default(collector::Collector);
    }
}

/// The level that a configuration asks for. Any word is acceptable: one that is no level must not keep a pod from
/// starting, and least of all from being removed.
pub fn heed(configured: Option<&str>) {
    let Some(run) = RUN.get().filter(|run| !run.settled) else { return };
    let (level, refused) = level::first(&[("logLevel", configured)]);
    for words in refused {
        tracing::warn!("{words}");
    }
    run.level.store(level.unwrap_or_default() as u8, Ordering::Relaxed);
}

/// Writes the line of the run, if its level asks for one. Whoever has an answer to give, gives it before.
pub fn write(entry: &Entry) {
    let Some(run) = RUN.get() else { return };
    // A panic may have come while the clock was held.
    let Ok(clock) = run.clock.try_lock() else { return };
    let measured = clock.read(Instant::now());
    drop(clock);
    let severity = entry.severity(!measured.warnings.is_empty());
    let level = match &entry.directory {
        // The level that was read at the beginning is that of another file tree.
        Some(directory) if !run.settled => {
            level::first(&[(LEVEL_FILE, ring::word(&directory.join(LEVEL_FILE)).as_deref())])
                .0
                .unwrap_or_default()
        }
        _ => run.level(),
    };
    if severity > level {
        return;
    }
    let stamp = line::Stamp {
        time: clock_gettime(ClockId::Realtime),
        uptime: clock_gettime(ClockId::Boottime),
        severity,
    };
    let line = line::render(entry, &measured, &stamp);
    let ring = Ring::at(entry.directory.as_deref().unwrap_or(&run.directory), CAP);
    let is_known = |tail: &str| line::is_known(tail, &line);
    let is_known = entry.is_look().then_some(&is_known as &dyn Fn(&str) -> bool);
    let fate = ring.append(&line, entry.is_first_of_node(), is_known).unwrap_or(Fate::Lost);
    // Where the same cannot be seen to have been said, it would be said every few seconds.
    let is_news = fate == Fate::Written || fate == Fate::Lost && !entry.is_look();
    if entry.directory.is_none() && is_news {
        syslog::send(entry, &measured, (severity, level));
    }
}
