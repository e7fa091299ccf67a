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
use std::path::PathBuf;
use std::process::{Command, Stdio};

pub(super) use self::look::Look;
use self::look::{Files, Network};
use self::waiter::{Due, Told, Waiter};
pub(super) use self::waiter::{Signals, nearest};
use crate::Outcome as Answer;

/// Installs, then looks again and again until a signal comes. Each look is a process of its own: whoever stays for months
/// keeps no more in memory than it takes to wait (2 MiB less).
pub(super) fn watch(arguments: &[OsString], root: PathBuf, signals: Signals) -> Answer {
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
    let waiter = Waiter::new(root, signals);
    waiter.and_then(|waiter| stay(&arguments, waiter)).map_or_else(failed, |()| Answer::default())
}

fn own() -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.arg("install").stdin(Stdio::null());
    command
}

fn stay(arguments: &[&OsString], mut waiter: Waiter) -> io::Result<()> {
    let mut said = Said::default();
    while let Some(mut due) = waiter.next()? {
        loop {
            // What happens during the look is heard after it.
            if due.network {
                waiter.alarm.learn();
            }
            let Some(look) = look(arguments, due, &waiter)? else { return Ok(()) };
            said.say(&look);
            if due.network {
                let unfinished = look.network.as_ref().is_some_and(|network| network.unfinished);
                waiter.pace.looked(waiter.now(), !unfinished);
            }
            let Some(files) = look.files else { break };
            waiter.superseded = files.superseded;
            // What happened in a directory before it was watched was seen by nobody.
            if !waiter.add(&files.watched) {
                break;
            }
            due = Due::FILES;
        }
    }
    Ok(())
}

/// `None`: a signal came. Whatever a look was doing, the next one finishes it.
fn look(arguments: &[&OsString], due: Due, waiter: &Waiter) -> io::Result<Option<Look>> {
    let mut command = own();
    command.args(arguments).stdout(Stdio::piped());
    command.args(due.files.then_some("--look")).args(due.network.then_some("--repair"));
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Some(trouble(due, format!("cannot look: {error}")))),
    };
    let told = match child.stdout.as_mut() {
        Some(stdout) => waiter.listen_to(stdout)?,
        None => Told::TooLate,
    };
    if !matches!(told, Told::Everything(_)) {
        child.kill()?;
    }
    let status = child.wait()?;
    Ok(match told {
        Told::Everything(text) => Some(
            serde_json::from_slice(&text)
                .unwrap_or_else(|_| trouble(due, format!("a look ended with {status}"))),
        ),
        Told::TooLate => Some(trouble(due, "a look did not end and was ended".to_owned())),
        Told::Interrupted => None,
    })
}

/// Instead of a look.
fn trouble(due: Due, what: String) -> Look {
    let troubles = vec![what];
    if due.files {
        return Look { files: Some(Files { troubles, ..Files::default() }), ..Look::default() };
    }
    let network = Network { troubles, unfinished: true, ..Network::default() };
    Look { network: Some(network), ..Look::default() }
}

/// What was said already, and is not said again as long as it is the same.
#[derive(Debug, Default)]
struct Said {
    files: Vec<String>,
    network: Vec<String>,
    notes: Vec<String>,
}

impl Said {
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
