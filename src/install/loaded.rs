//! Whether the node's runtimes have loaded our network: asks them over CRI, and gives them a moment and a nudge.
//!
//! A runtime that is not there yet, or cannot be asked from here, is no failure of the installation: the answer is for
//! whoever reads the report. One that answers that it has not loaded the network is: no pod would start on a node that
//! looks well.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::apply;
use super::pass::Pass;
use super::plan::Step;
use super::report::{Report, Result as Outcome, RuntimeReport};
use crate::conflist::{self, FILE_NAMES};
use crate::host::cri::{self, Loaded, Wanted};
use crate::host::runtimes::Runtime;

/// For one answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long a runtime may take to notice a new file; containerd needs milliseconds.
const MOMENT: Duration = Duration::from_secs(10);
/// And when it is reminded.
const NUDGE: Duration = Duration::from_millis(1500);
const PAUSE: Duration = Duration::from_millis(100);

pub(super) fn unasked(runtime: &Runtime) -> RuntimeReport {
    RuntimeReport {
        name: runtime.kind.to_string(),
        bin_dirs: runtime.bin_dirs.iter().map(|path| path.display().to_string()).collect(),
        conf_dir: runtime.conf_dir.display().to_string(),
        loaded: None,
        says: format!("found by {}", runtime.evidence),
    }
}

/// Adds to the report what each runtime says. Where there are several, kubelet uses one of them, and nobody here knows which.
pub(super) fn ask(pass: &Pass, report: &mut Report) {
    report.runtimes = pass.runtimes().iter().map(|runtime| asked(pass, runtime)).collect();
    let says = |loaded| report.runtimes.iter().any(|runtime| runtime.loaded == Some(loaded));
    if says(false) && !says(true) {
        report.result = Outcome::NotLoaded;
    }
}

fn asked(pass: &Pass, runtime: &Runtime) -> RuntimeReport {
    let mut verdict = question(pass, runtime);
    let begin = Instant::now();
    let mut nudged = false;
    while matches!(verdict, Ok(Loaded::No { .. })) && begin.elapsed() < MOMENT {
        thread::sleep(PAUSE);
        if !nudged && begin.elapsed() > NUDGE {
            nudge(pass, runtime);
            nudged = true;
        }
        verdict = question(pass, runtime);
    }
    let network = &pass.settings.network.name;
    let (loaded, says) = match verdict {
        Ok(Loaded::Yes) => (Some(true), format!("has loaded the network {network}")),
        Ok(Loaded::No { why, next_move }) => {
            (Some(false), format!("has NOT loaded the network {network}: {why}; {next_move}"))
        }
        Ok(Loaded::Unknown { why }) => (None, why),
        Err(error) => (None, format!("could not be asked: {error}")),
    };
    RuntimeReport { loaded, says, ..unasked(runtime) }
}

fn question(pass: &Pass, runtime: &Runtime) -> Result<Loaded, String> {
    let socket = pass.root.locate(&runtime.socket).map_err(|error| error.to_string())?;
    let status = cri::status(&socket, PATIENCE).map_err(|error| error.to_string())?;
    let network = pass.settings.network.name.as_str();
    if let Some(only) = runtime.only_network.as_deref().filter(|only| *only != network) {
        return Ok(Loaded::No {
            why: format!("it takes the network {only} and no other"),
            next_move: format!(
                "take cni_default_network out of its configuration, then {}",
                runtime.kind.restart()
            ),
        });
    }
    let (bin_dirs, conf_dirs) = pass.directories();
    let same = |one: &Path, other: &Path| pass.root.same(one, other);
    // Its own word is better than what its files make us believe: there may be two ways to read them.
    let said = status.cni.as_ref().and_then(|cni| conf_dirs.iter().find(|dir| same(dir, &cni.conf_dir)));
    let meant = || conf_dirs.iter().find(|dir| same(dir, &runtime.conf_dir));
    let ours = said.or_else(meant).unwrap_or(&conf_dirs[0]);
    let first = status.cni.as_ref().and_then(|cni| cni.networks.first());
    let hands_on = |kind: &String| conflist::hands_on(kind);
    if let Some(first) = first.filter(|first| first.plugins.first().is_some_and(hands_on)) {
        let why = format!("has loaded the network {}, which hands pods on to other files", first.name);
        return Ok(Loaded::Unknown { why });
    }
    let wanted = Wanted { kind: runtime.kind, network, conf_dir: ours, bin_dirs: &bin_dirs, same: &same };
    Ok(cri::network_loaded(&status, &wanted))
}

/// A runtime that missed the new file looks again when it is renamed into place once more.
fn nudge(pass: &Pass, runtime: &Runtime) {
    for (conf_dir, _) in runtime.may_look_in() {
        for name in FILE_NAMES {
            let path = conf_dir.join(name);
            if let (Ok(Some(bytes)), Ok(path)) = (pass.root.read(&path), pass.root.resolve(&path)) {
                let _ = apply::apply(&pass.root, &pass.program, &Step::WriteConflist(path, bytes));
            }
        }
    }
}
