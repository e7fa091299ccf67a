//! Takes everything of ours away from the node: looks, asks `removal` what has to go, does it.
//!
//! What is ours is known from the installation's file; where that is lost, from names and marks. Goes on from wherever an
//! earlier run was killed, because that file goes last.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::apply::{self, Lock, here, next_move};
use super::have::{ConfFile, Found, Have as Seen, OWN, PROGRAM, STANDARD};
use super::installation::{self, Installation, Kept};
use super::observe;
use super::pods::{self, Pods};
use super::program::Program;
use super::removal::{self, Have, Step};
use super::report::{Report, Result as Outcome};
use super::watch::Signals;
use crate::conflist::{DATA_DIR, FILE_NAME, FILE_NAMES, NETWORK, drained};
use crate::datapath::session::Session;
use crate::datapath::withdraw;
use crate::host::enter::enter;
use crate::host::place;
use crate::host::root::Root;
use crate::host::runtimes::{self, Runtime};
use crate::state::record;

/// What was said on the command line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode {
    pub(super) force: bool,
    pub(super) dry_run: bool,
}

/// While it waits: how soon the last pod is noticed, and after how many of these everything is looked at again.
const PAUSE: Duration = Duration::from_secs(1);
const ROUND: u32 = 30;

/// `directories` are where plugins and configurations would be put now. With `waiting` it stays until the last pod is gone,
/// or a signal comes, and says on standard error whom it waits for: whoever comes back later, as a kubelet does, comes
/// back minutes too late.
pub(super) fn run(
    root: &Path,
    directories: &(Vec<PathBuf>, Vec<PathBuf>),
    mode: Mode,
    waiting: Option<&Signals>,
) -> Report {
    let failed = |error| Report { errors: vec![error], ..Report::new(Outcome::Failed) };
    let program = Program::own().map_err(|error| format!("cannot read this very program: {error}"));
    let attempt = |program: &Program| uninstall(program, directories, mode).unwrap_or_else(failed);
    let program = match program.and_then(|program| enter(root).map(|()| program)) {
        Ok(program) => program,
        Err(error) => return failed(error),
    };
    let mut report = attempt(&program);
    let Some(signals) = waiting else { return report };
    let mut steps = Vec::new();
    let mut said = Vec::new();
    while report.result == Outcome::Waiting {
        steps.append(&mut report.steps);
        if report.errors != said {
            let _ = io::stderr().write_all(report.waits().as_bytes());
            said.clone_from(&report.errors);
        }
        match signals.come_within(PAUSE, ROUND, || pods::remembered() != report.pods) {
            Ok(false) => report = attempt(&program),
            Ok(true) => break,
            Err(error) => {
                report.errors.push(format!("cannot wait: {error}"));
                break;
            }
        }
    }
    report.steps.splice(0..0, steps);
    report
}

fn uninstall(
    program: &Program,
    directories: &(Vec<PathBuf>, Vec<PathBuf>),
    Mode { force, dry_run }: Mode,
) -> Result<Report, String> {
    let root = Root::at("/");
    // Before the look: a pod that goes while it is taken changes the number, and the next look comes at once.
    let pods = pods::remembered();
    let _lock =
        if dry_run { None } else { Lock::take_if_installed(&root).map_err(|error| error.to_string())? };
    let (mut have, mut notes) = look(&root, program, directories)?;
    let mut drained = Vec::new();
    if !dry_run && !force && !have.open.is_empty() {
        // Who comes between a look and a removal could never be detached: so no one comes, and then another look.
        for path in &have.open {
            drain(&root, path)
                .map_err(|error| format!("{}: {error}{}", path.display(), next_move(&error)))?;
            drained.push(Step::Drain(path.clone()).to_string());
        }
        (have, notes) = look(&root, program, directories)?;
    }
    let plan = removal::plan(&have, force);
    let mut report = Report { notes, ..Report::new(Outcome::Planned) };
    report.pods = pods;
    report.errors = plan.waiting_for.iter().map(|pod| format!("{pod} is attached")).collect();
    if dry_run {
        report.steps = plan.steps.iter().map(ToString::to_string).collect();
        return Ok(report);
    }
    report.result = if plan.waiting_for.is_empty() { Outcome::Uninstalled } else { Outcome::Waiting };
    report.steps = drained;
    let mut session = Session::open(None).map_err(|error| error.to_string())?;
    for step in &plan.steps {
        match carry_out(&root, &mut session, step) {
            Ok(true) => report.steps.push(step.to_string()),
            Ok(false) => {}
            // One thing that stays must not keep the others.
            Err(error) => {
                report.result = Outcome::Failed;
                report.errors.push(error);
            }
        }
    }
    if report.result == Outcome::Uninstalled {
        forget(&root).map_err(|error| format!("remove {}: {error}", installation::FILE))?;
    }
    Ok(report)
}

/// What there is, and what a person should know about it.
fn look(
    root: &Root,
    program: &Program,
    (bin_dirs, conf_dirs): &(Vec<PathBuf>, Vec<PathBuf>),
) -> Result<(Have, Vec<String>), String> {
    let known = observe::installation(root)?;
    let mut notes = Vec::new();
    if known.is_none() {
        notes.push(format!(
            "{} is not there: what is removed was found by its name and its marks",
            installation::FILE
        ));
    }
    let installation = known.unwrap_or_default();
    let network = if installation.network.is_empty() { NETWORK } else { installation.network.as_str() };
    let seen = observe::observe(root, program, network, bin_dirs, conf_dirs)?;
    let mut have = Have { kept: kept(root, &installation), ..Have::default() };
    have.conflists = conflists(root, &installation, &seen)?;
    have.open = have.conflists.iter().filter(|path| lets_pods_come(root, path)).cloned().collect();
    have.plugins = plugins(root, program, &installation, &seen)?;
    have.plugins.extend(seen.leftovers);
    let of_resolvers = seen.resolver_files.iter().map(|file| (file, file.reader.path().to_owned()));
    for (file, path) in of_resolvers {
        if file.is_ours(installation.resolver_files.contains(&path)) {
            notes.push(format!(
                "the node's resolver forgets {} at its next start or by: {}",
                path.display(),
                file.reader.reload()
            ));
            have.resolver_files.push(path);
        }
    }
    let state = Pods::look(network, installation.leases_are_foreign)?;
    have.attached = state.attached;
    have.leases = state.removable;
    if !state.unknown.is_empty() {
        notes.push(format!("leases of nobody we know stay: {}", state.unknown.join(", ")));
    }
    have.state = [record::ROOT].map(PathBuf::from).into_iter().filter(|path| root.exists(path)).collect();
    let foreign = installation.bridge_is_foreign.then(|| installation.bridge.parse().ok()).flatten();
    let mut session = Session::open(None).map_err(|error| error.to_string())?;
    have.kernel = withdraw::plan(&mut session, foreign.as_slice())
        .map_err(|error| format!("cannot look at the kernel's side: {error}"))?;
    let watched = watched(root);
    let is_watched = |path: &Path| watched.iter().any(|directory| root.same(directory, path));
    let made = installation.directories.iter().filter(|path| root.exists(path));
    have.directories = made.filter(|path| !is_watched(path)).cloned().collect();
    // Made by the first lease, on a file system that does not outlive the boot.
    if installation.leases_are_foreign {
        return Ok((have, notes));
    }
    let lease_directories = Path::new(DATA_DIR).join(network);
    have.directories
        .extend(lease_directories.ancestors().take(3).map(Path::to_owned).filter(|path| root.exists(path)));
    Ok((have, notes))
}

/// Where runtimes that run read networks. containerd ends by itself from 2.1 on when that directory goes, and until somebody
/// starts it again there is no runtime.
fn watched(root: &Root) -> Vec<PathBuf> {
    let found = runtimes::find(root).runtimes;
    let running = found.iter().filter(|runtime| root.exists(&runtime.socket));
    running.flat_map(Runtime::may_look_in).map(|(conf_dir, _)| conf_dir.to_owned()).collect()
}

fn kept(root: &Root, installation: &Installation) -> Vec<Kept> {
    let is_there = |kept: &&Kept| here(root, &kept.kept_as).is_ok_and(|path| path.symlink_metadata().is_ok());
    installation.kept.iter().filter(is_there).cloned().collect()
}

/// Those we wrote, and those in front of us that look like it; one that somebody else wrote meanwhile stays.
fn conflists(root: &Root, known: &Installation, seen: &Seen) -> Result<Vec<PathBuf>, String> {
    let is_ours = |file: &&ConfFile| FILE_NAMES.contains(&file.name.as_str()) && file.is_ours();
    let mut found: BTreeSet<PathBuf> = seen
        .conf_dirs
        .iter()
        .flat_map(|dir| dir.files.iter().filter(is_ours).map(|file| dir.path.join(&file.name)))
        .collect();
    for path in &known.conflists {
        let bytes = root.read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let file = bytes.map(|bytes| ConfFile {
            name: FILE_NAME.to_owned(),
            content: observe::content(&bytes),
            bytes,
        });
        if file.is_some_and(|file| file.is_ours()) {
            found.insert(path.clone());
        }
    }
    Ok(found.into_iter().collect())
}

/// A damaged one lets nobody come.
fn lets_pods_come(root: &Root, path: &Path) -> bool {
    let bytes = root.read(path).ok().flatten().unwrap_or_default();
    drained(&bytes).is_some_and(|drained| serde_json::from_slice::<Value>(&bytes).ok() != Some(drained))
}

fn drain(root: &Root, path: &Path) -> io::Result<()> {
    let bytes = root.read(path)?.unwrap_or_default();
    let Some(list) = drained(&bytes) else { return Ok(()) };
    let text = format!("{list:#}\n");
    place::file(&here(root, path)?, 0o644, &mut text.as_bytes(), |_| Ok(()))
}

/// Names first, because a name without its program cannot even say what is wrong.
fn plugins(
    root: &Root,
    program: &Program,
    known: &Installation,
    seen: &Seen,
) -> Result<Vec<PathBuf>, String> {
    let mut paths: BTreeSet<PathBuf> = known.plugins.clone();
    let names = || [PROGRAM].iter().chain(OWN).chain(STANDARD);
    paths.extend(seen.bin_dirs.iter().flat_map(|dir| names().map(|name| dir.path.join(name))));
    let mut found = Vec::new();
    for path in paths {
        let recorded = known.plugins.contains(&path);
        let is_program = path.file_name().is_some_and(|name| name == PROGRAM);
        let state = observe::found(root, program, &path, is_program);
        match state.map_err(|error| format!("{}: {error}", path.display()))? {
            Found::Same | Found::Ours => found.push(path),
            Found::Broken(_) if recorded => found.push(path),
            Found::Absent | Found::Broken(_) | Found::Foreign => {}
        }
    }
    found.sort_by_key(|path| path.file_name().is_some_and(|name| name == PROGRAM));
    Ok(found)
}

/// `false` when there was nothing to do any more. The text of an error names the step.
fn carry_out(root: &Root, session: &mut Session, step: &Step) -> Result<bool, String> {
    let outcome = match step {
        Step::Drain(path) => drain(root, path).map(|()| true),
        Step::RemoveFile(path) => apply::remove(root, path).map(|()| true),
        Step::Kernel(step) => {
            return withdraw::apply(session, step).map(|()| true).map_err(|error| error.to_string());
        }
        Step::RemoveState(path) => root.locate(path).and_then(fs::remove_dir_all).map(|()| true),
        Step::GiveBack(kept) => apply::rename(root, &kept.kept_as, &kept.original).map(|()| true),
        Step::RemoveDirectory(path) => {
            root.locate(path).and_then(|here| place::remove_empty_directory(&here))
        }
    };
    outcome.map_err(|error| format!("{step}: {error}{}", next_move(&error)))
}

/// The last thing to go: whoever is killed before knows what is still to do.
fn forget(root: &Root) -> io::Result<()> {
    apply::remove(root, Path::new(installation::FILE))?;
    let directory = root.locate(Path::new(installation::DIRECTORY))?;
    place::remove(&place::temporary(&here(root, Path::new(installation::FILE))?))?;
    place::remove_empty_directory(&directory).map(drop)
}
