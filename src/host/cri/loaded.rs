//! Has the runtime loaded our network? Judged by what it says of itself; nothing is asked here.
//!
//! Pure.

use std::path::{Path, PathBuf};

use super::super::runtimes::Kind;
use super::{Cni, Condition, Status};

/// What should be true.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    pub kind: Kind,
    pub network: &'a str,
    /// Where the network was written, as the host sees it.
    pub conf_dir: &'a Path,
    /// Where its plugins were written.
    pub bin_dirs: &'a [PathBuf],
    /// Whether two paths are the same place once links are followed ([`super::super::root::Root::same`]).
    pub same: &'a dyn Fn(&Path, &Path) -> bool,
}

impl std::fmt::Debug for Wanted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "network {} of {} in {}", self.network, self.kind, self.conf_dir.display())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    Yes,
    No {
        why: String,
        /// What a person does about it.
        next_move: String,
    },
    /// It does not say.
    Unknown {
        why: String,
    },
}

fn no(why: impl Into<String>, next_move: impl Into<String>) -> Loaded {
    Loaded::No { why: why.into(), next_move: next_move.into() }
}

/// Right after a network was written containerd needs a moment to see it: whoever asks, asks again for a second or two
/// before believing a `No`.
pub fn network_loaded(status: &Status, wanted: &Wanted<'_>) -> Loaded {
    let kind = wanted.kind;
    if let Some(condition @ Condition { met: false, .. }) = status.runtime_ready() {
        let why = format!("{kind} says that it is not ready itself: {}", condition.in_words());
        return no(why, format!("see what it says in {}", kind.log()));
    }
    match (&status.cni, status.network_ready()) {
        (Some(cni), ready) => by_networks(cni, ready, wanted),
        (None, Some(condition @ Condition { met: false, .. })) => {
            let why = format!("{kind} says that no network is ready: {}", condition.in_words());
            no(why, kind.restart())
        }
        (None, Some(_)) => {
            Loaded::Unknown { why: format!("{kind} says that a network is ready and not which one") }
        }
        (None, None) => Loaded::Unknown { why: format!("{kind} says nothing of networks") },
    }
}

fn by_networks(cni: &Cni, ready: Option<&Condition>, wanted: &Wanted<'_>) -> Loaded {
    let Wanted { kind, network, .. } = *wanted;
    let conf_dir = cni.conf_dir.display();
    if !(wanted.same)(&cni.conf_dir, wanted.conf_dir) {
        let why = format!("{kind} reads networks from {conf_dir}, not from {}", wanted.conf_dir.display());
        return no(why, format!("install with --conf-dir {conf_dir}"));
    }
    let ours = |dir: &PathBuf| wanted.bin_dirs.iter().any(|other| (wanted.same)(dir, other));
    if !cni.plugin_dirs.iter().any(ours) {
        let (theirs, ours) = (listed(&cni.plugin_dirs), listed(wanted.bin_dirs));
        let why = format!("{kind} looks for plugins in {theirs}, not in {ours}");
        let next = cni.plugin_dirs.first().map_or_else(
            || kind.restart().to_owned(),
            |dir| format!("install with --bin-dir {}", dir.display()),
        );
        return no(why, next);
    }
    match (cni.networks.first(), &cni.load_error) {
        (Some(first), _) if first.name == network => by_condition(ready, kind),
        (Some(first), _) => {
            let among = cni.networks.iter().any(|other| other.name == network);
            let what = if among { "as the first, which is the one of a pod's eth0," } else { "instead" };
            no(
                format!("{kind} has loaded the network {} {what}", first.name),
                format!(
                    "it takes files of {conf_dir} in the order of their names: remove or rename the one of {}",
                    first.name
                ),
            )
        }
        (None, Some(error)) if !error.contains("no network config found") => no(
            format!("{kind} cannot load any network: {error}"),
            "repair or remove the file that it names; it looks again when a file there changes",
        ),
        // Its view of the directory is older than our file (containerd issues 6490 and 7196; and a file that was renamed into
        // the directory from another one: only writes, renames within it and removals make containerd look).
        (None, _) => no(
            format!(
                "{kind} has not noticed the network in {conf_dir}: it does not when the directory was removed and made \
                 again, or when a file is moved there from another directory"
            ),
            kind.restart(),
        ),
    }
}

/// Ours is loaded; from CNI 1.1 on containerd also asks its plugins whether they could work.
fn by_condition(ready: Option<&Condition>, kind: Kind) -> Loaded {
    match ready {
        Some(condition @ Condition { met: false, .. }) => no(
            format!("{kind} has loaded the network and says that it is not ready: {}", condition.in_words()),
            format!("see {}", kind.log()),
        ),
        _ => Loaded::Yes,
    }
}

fn listed(dirs: &[PathBuf]) -> String {
    let dirs: Vec<String> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    if dirs.is_empty() { "no directory".to_owned() } else { dirs.join(" or ") }
}

#[cfg(test)]
#[path = "loaded_tests.rs"]
mod tests;
