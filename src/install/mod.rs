//! Put it on a node, keep it there, take it away.
//!
//! `settings` says what is wanted, `observe` what is there, `plan` (pure) what is missing, `apply` does it: the plugins first,
//! the configuration that names them last, every file whole or not at all. Works below a root, because it mostly runs in a
//! container that has the host's file tree mounted somewhere. Refuses to start when the node's networks or other people's
//! files are in the way, and says how to go on.

mod apply;
mod cli;
#[cfg(fuzzing)]
pub mod fuzz;
mod have;
mod host_dns;
mod installation;
mod loaded;
mod name_server;
mod neighbours;
mod observe;
mod pass;
mod plan;
mod pods;
mod program;
mod range;
mod removal;
mod report;
mod settings;
mod uninstall;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::Path;

use clap::{CommandFactory, Parser};

pub use self::cli::Environment;
use self::cli::Words;
pub use self::installation::FILE as RECORD;
/// What the last installation wrote down about itself, for whoever compares it with the node.
pub(crate) use self::observe::installation as remembered;
use self::pass::Pass;
pub use self::program::digest;
use self::watch::{Look, Signals};
use crate::Outcome;
use crate::host::asked;
use crate::host::root::Root;
use crate::log;
use crate::state::record;
use crate::text::printable;

/// The options of `install`, for whoever describes them.
pub(crate) fn install_command() -> clap::Command {
    <cli::Install as CommandFactory>::command()
}

/// Those of `uninstall`.
pub(crate) fn uninstall_command() -> clap::Command {
    <cli::Uninstall as CommandFactory>::command()
}

/// A word that makes no sense, as `clap` has it.
const USAGE: u8 = 2;

/// `smarter-cni install`.
pub fn install(arguments: &[OsString], environment: &Environment) -> Outcome {
    let options = match parsed::<cli::Install>("smarter-cni install", arguments) {
        Ok(options) => options,
        Err(outcome) => return *outcome,
    };
    let root = cli::root(options.root.as_ref(), environment);
    let settings = match settings::settings(&said(&options, environment, &root)) {
        Ok(settings) => settings,
        Err(wrong) => {
            let stderr =
                format!("smarter-cni install: {wrong}\n`smarter-cni install --help` says what can be said\n");
            return Outcome { stderr, status: USAGE, ..Outcome::default() };
        }
    };
    if options.watch {
        return match caught(true) {
            Ok(Some(signals)) => watch::watch(arguments, root, signals),
            Ok(None) => Outcome::default(),
            Err(outcome) => *outcome,
        };
    }
    if options.repair && !options.look {
        return seen(Look::of_network(&root));
    }
    let pass = match Pass::new(root.clone(), settings) {
        Ok(pass) => pass,
        Err(error) => {
            return Outcome {
                stderr: format!("smarter-cni install: {error}\n"),
                status: 1,
                ..Outcome::default()
            };
        }
    };
    if options.look {
        let report = pass.repair();
        // Before the host's tree becomes our own, and paths other ones.
        if let Some(entry) = report.entry("install") {
            log::write(&kept_below(&pass.root, entry));
        }
        let files = Look::of_files(&pass, report);
        return seen(if options.repair { files.with_network(&root) } else { files });
    }
    let report = pass.run(options.dry_run);
    report.outcome(options.json).logged(report.entry("install").map(|entry| kept_below(&pass.root, entry)))
}

fn seen(look: Look) -> Outcome {
    Outcome::printed(look.render()).logged(look.entry)
}

/// The settings; when there is none, those of the installation that is there.
fn said(options: &cli::Install, environment: &Environment, root: &Path) -> Words {
    let words = options.words(environment);
    if !words.is_silent() {
        return words;
    }
    // Whatever is wrong with the file is said by whoever needs more of it.
    let known = remembered(&Root::at(root)).ok().flatten();
    known.map(|installation| Words::of_written(&installation.settings)).unwrap_or_default()
}

/// In a container the log is on the host, and the container's own output is already kept by somebody.
fn kept_below(root: &Root, entry: log::Entry) -> log::Entry {
    let is_here = *root == Root::at("/");
    let directory = root.locate(Path::new(record::ROOT)).ok().filter(|_| !is_here);
    log::Entry { directory, ..entry }
}

/// Whoever stays hears signals from the beginning.
fn caught(stays: bool) -> Result<Option<Signals>, Box<Outcome>> {
    let signals = stays.then(Signals::catch).transpose();
    signals.map_err(|error| {
        let stderr = format!("smarter-cni: cannot catch signals: {error}\n");
        Box::new(Outcome { stderr, status: 1, ..Outcome::default() })
    })
}

/// What was done is said before, because the end may be months away.
fn stay(done: &Outcome, until: impl FnOnce() -> io::Result<()>) -> Outcome {
    let _ = io::stdout().write_all(printable(&done.stdout).as_bytes());
    if let Some(entry) = &done.entry {
        log::write(entry);
    }
    match until() {
        Ok(()) => Outcome::default(),
        Err(error) => {
            let stderr = format!("smarter-cni: cannot stay: {error}\n");
            Outcome { stderr, status: 1, ..Outcome::default() }
        }
    }
}

/// The options, or what to say instead of doing anything.
fn parsed<T: Parser>(name: &str, arguments: &[OsString]) -> Result<T, Box<Outcome>> {
    let words = std::iter::once(OsString::from(name)).chain(arguments.iter().cloned());
    T::try_parse_from(words).map_err(|error| {
        Box::new(if error.use_stderr() {
            Outcome { stderr: error.to_string(), status: USAGE, ..Outcome::default() }
        } else {
            Outcome::printed(error.to_string())
        })
    })
}

/// `smarter-cni uninstall`.
pub fn uninstall(arguments: &[OsString], environment: &Environment) -> Outcome {
    let options = match parsed::<cli::Uninstall>("smarter-cni uninstall", arguments) {
        Ok(options) => options,
        Err(outcome) => return *outcome,
    };
    let root = cli::root(options.root.as_ref(), environment);
    let directories = pass::directories(&asked::find(&Root::at(&root), loaded::PATIENCE), &[], &[]);
    let signals = match caught(options.stay || options.wait) {
        Ok(signals) => signals,
        Err(outcome) => return *outcome,
    };
    // From here on the host's root is ours, and its log.
    let mode = uninstall::Mode { force: options.force, dry_run: options.dry_run };
    let report = uninstall::run(&root, &directories, mode, signals.as_ref().filter(|_| options.wait));
    let outcome = report.outcome(options.json).logged(report.entry("uninstall"));
    match signals {
        Some(signals) if outcome.status == 0 && options.stay => stay(&outcome, || signals.wait()),
        _ => outcome,
    }
}
