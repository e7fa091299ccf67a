//! Stays on the node and repairs what gets lost: of the installation (plugins, names, configuration) and of what attached
//! pods were promised (bridge, addresses, rules, host ports).
//!
//! Wakes up when something happens in one of the directories, when the kernel announces what may be damage, and once a
//! minute because not everything is announced. Idle it writes nothing and asks nobody. Leaves everything in place when it
//! ends: a restart must not take the network from a node. Refuses to fight with another build's installation, and fights
//! nobody without a pause.

mod look;
mod pace;
mod waiter;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::io::Errno;

pub(super) use self::look::Look;
use self::look::{Files, Network};
use self::waiter::{Due, Told, Waiter};
pub(super) use self::waiter::{Signals, nearest};
use super::installation;
use crate::Outcome as Answer;
use crate::host::root::Root;

/// Before the next attempt where waiting itself fails.
const PAUSE: Duration = Duration::from_secs(1);

/// How soon the end of the first installation is noticed.
const A_MOMENT: Duration = Duration::from_millis(20);

/// Installs, then looks again and again until a signal comes. Each look is a process of its own: whoever stays for months
/// keeps no more in memory than it takes to wait (2 MiB less).
///
/// Only a node that has no installation can end it: what comes into the way of one that is there is said, and looked at
/// again. Nobody else would repair the rest.
pub(super) fn watch(arguments: &[OsString], root: PathBuf, signals: Signals) -> Answer {
    let arguments: Vec<&OsString> = arguments.iter().filter(|word| *word != "--watch").collect();
    let tried = match first(&arguments, &signals) {
        Ok(None) => return Answer::default(),
        Ok(Some(status)) => Ok(status),
        Err(error) => Err(error),
    };
    let is_installed = Root::at(&root).exists(Path::new(installation::FILE));
    match tried {
        Ok(status) if status.success() || is_installed => {}
        Ok(status) => {
            let status = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Answer { status, ..Answer::default() };
        }
        Err(error) if is_installed => lines("trouble ", &[cannot_look(&error)]),
        Err(error) => {
            let stderr = format!("smarter-cni install: cannot watch: {error}\n");
            return Answer { stderr, status: 1, ..Answer::default() };
        }
    }
    stay(&arguments, Waiter::new(root, signals));
    Answer::default()
}

/// The first installation, which may wait for the runtime. `None`: a signal came; whatever it was doing, the next one
/// finishes.
fn first(arguments: &[&OsString], signals: &Signals) -> io::Result<Option<ExitStatus>> {
    let mut child = own().args(arguments).spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if signals.come_within(A_MOMENT, 1, || false)? {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
    }
}

fn own() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("install").stdin(Stdio::null());
    command
}

/// Until a signal comes.
fn stay(arguments: &[&OsString], mut waiter: Waiter) {
    let mut said = Said::default();
    loop {
        match waiter.next() {
            Ok(Some(due)) => match looks(arguments, due, &mut waiter, &mut said) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => said.trouble(&cannot_look(&error)),
            },
            Ok(None) => return,
            // The kernel is out of memory, if anything: what came meanwhile is still there.
            Err(error) => {
                said.trouble(&format!("cannot wait for news: {error}; it looks every minute"));
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Looks until nothing happens unseen. `false`: a signal came.
fn looks(arguments: &[&OsString], mut due: Due, waiter: &mut Waiter, said: &mut Said) -> io::Result<bool> {
    loop {
        // What happens during the look is heard after it.
        if due.network {
            waiter.alarm.learn();
        }
        let Some(look) = look(arguments, due, waiter)? else { return Ok(false) };
        said.say(&look);
        if due.network {
            let unfinished = look.network.as_ref().is_some_and(|network| network.unfinished);
            waiter.pace.looked(waiter.now(), !unfinished);
        }
        let Some(files) = look.files else { return Ok(true) };
        waiter.superseded = files.superseded;
        // What happened in a directory before it was watched was seen by nobody.
        if !waiter.add(&files.watched) {
            return Ok(true);
        }
        due = Due::FILES;
    }
}

/// `None`: a signal came. Whatever a look was doing, the next one finishes it.
fn look(arguments: &[&OsString], due: Due, waiter: &Waiter) -> io::Result<Option<Look>> {
    let mut command = own();
    command.args(arguments).stdout(Stdio::piped());
    command.args(due.files.then_some("--look")).args(due.network.then_some("--repair"));
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Some(trouble(due, &cannot_look(&error)))),
    };
    let told = match child.stdout.as_mut() {
        Some(stdout) => waiter.listen_to(stdout),
        None => Ok(Told::TooLate),
    };
    if !matches!(told, Ok(Told::Everything(_))) {
        let _ = child.kill();
    }
    let status = child.wait()?;
    Ok(match told? {
        Told::Everything(text) => Some(
            serde_json::from_slice(&text)
                .unwrap_or_else(|_| trouble(due, &format!("a look ended with {status}"))),
        ),
        Told::TooLate => Some(trouble(due, "a look did not end and was ended")),
        Told::Interrupted => None,
    })
}

fn cannot_look(error: &io::Error) -> String {
    let what = format!("nothing can be looked at or repaired: {error}");
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => format!("{what}; it needs more open files (LimitNOFILE, ulimit -n)"),
        Some(Errno::AGAIN | Errno::NOMEM) => format!("{what}; it needs more processes or memory"),
        _ => what,
    }
}

/// Instead of a look.
fn trouble(due: Due, what: &str) -> Look {
    let troubles = vec![what.to_owned()];
    let files = Files { troubles: troubles.clone(), ..Files::default() };
    let network = Network {
        troubles: if due.files { Vec::new() } else { troubles },
        unfinished: true,
        ..Network::default()
    };
    Look { files: due.files.then_some(files), network: due.network.then_some(network), ..Look::default() }
}

/// What was said already, and is not said again as long as it is the same.
#[derive(Debug, Default)]
struct Said {
    files: Vec<String>,
    network: Vec<String>,
    notes: Vec<String>,
    own: Vec<String>,
}

impl Said {
    /// Of the one that stays.
    fn trouble(&mut self, what: &str) {
        news("trouble ", &[what.to_owned()], &mut self.own);
    }

    /// One line per repair, and one per trouble as long as it is the same.
    fn say(&mut self, look: &Look) {
        if let Some(files) = &look.files {
            lines("repaired", &files.repaired);
            news("trouble ", &files.troubles, &mut self.files);
        }
        if let Some(network) = &look.network {
            lines("repaired", &network.repaired);
            lines("removed ", &network.removed);
            news("trouble ", &network.troubles, &mut self.network);
            news("note    ", &network.notes, &mut self.notes);
        }
    }
}

fn lines(word: &str, texts: &[String]) {
    let mut stderr = io::stderr().lock();
    for text in texts {
        let _ = writeln!(stderr, "{word} {text}");
    }
}

fn news(word: &str, texts: &[String], said: &mut Vec<String>) {
    if texts != said.as_slice() {
        lines(word, texts);
        *said = texts.to_vec();
    }
}
