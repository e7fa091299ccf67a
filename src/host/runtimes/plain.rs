//! containerd and CRI-O as a distribution installs them.

use std::path::{Path, PathBuf};

use super::crio::Effective;
use super::survey::{Defaults, Survey, with};
use super::{DEFAULT_CONF_DIR, Kind, Runtime};

const CONTAINERD: &str = "/etc/containerd/config.toml";
/// What the configuration inside containerd imports from 2.2 on, when there is no file.
const CONTAINERD_DROP_INS: &str = "/etc/containerd/conf.d/*.toml";
const CONTAINERD_BUILTIN: u32 = 3;
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

const CRIO: &str = "/etc/crio/crio.conf";
const CRIO_DROP_INS: &str = "/etc/crio/crio.conf.d";
const CRIO_SOCKET: &str = "/var/run/crio/crio.sock";

pub(super) fn containerd(survey: &mut Survey<'_>) {
    survey.kind = Kind::Containerd;
    let there = survey.exists(CONTAINERD);
    let (first, builtin) = if there {
        (vec![CONTAINERD.into()], None)
    } else {
        (survey.expand(Path::new(CONTAINERD_DROP_INS)), Some(CONTAINERD_BUILTIN))
    };
    let config = survey.containerd(first.clone(), builtin, &std::convert::identity);
    let socket = config.effective.address.clone().unwrap_or_else(|| CONTAINERD_SOCKET.into());
    let Some(evidence) = survey.traces(&first, Some(&socket), "containerd") else { return };
    if !config.effective.serves_pods {
        let files = names(&config.files);
        let why =
            format!("runs no pods: disabled_plugins in {files} switches its CRI plugin off ({evidence})");
        return survey.leave_out(Kind::Containerd, why);
    }
    let (bin_dirs, why) = survey.default_bin_dirs();
    let why = why.filter(|_| config.effective.cni.bin_dirs.is_none());
    let defaults = Defaults { bin_dirs, conf_dir: DEFAULT_CONF_DIR.into(), socket };
    survey.add(Kind::Containerd, config, defaults, with(evidence, why));
}

pub(super) fn crio(survey: &mut Survey<'_>) {
    survey.kind = Kind::Crio;
    let mut first: Vec<PathBuf> = vec![CRIO.into()];
    files_below(survey, Path::new(CRIO_DROP_INS), &mut first);
    let mut effective = Effective::default();
    let mut config = Vec::new();
    for path in &first {
        let Some(text) = survey.text(path) else { continue };
        match effective.add(&text) {
            Ok(()) => config.push(path.clone()),
            Err(what) => {
                survey.problem(path, format!("{what}; CRI-O does not start with it"), "that it says nothing");
            }
        }
    }
    let socket = effective.listen.clone().unwrap_or_else(|| CRIO_SOCKET.into());
    let Some(evidence) = survey.traces(&first, Some(&socket), "crio") else { return };
    let (defaults, why) = survey.default_bin_dirs();
    let bin_dirs = effective.plugin_dirs(defaults.clone());
    let why = why.filter(|_| bin_dirs.starts_with(&defaults));
    survey.found.runtimes.push(Runtime {
        kind: Kind::Crio,
        config,
        bin_dirs,
        conf_dir: effective.network_dir.unwrap_or_else(|| DEFAULT_CONF_DIR.into()),
        otherwise: None,
        max_conf_num: None,
        only_network: effective.default_network.filter(|name| !name.is_empty()),
        socket,
        evidence: with(evidence, why),
    });
}

/// CRI-O reads every file there, whatever its name, in the order of a walk that sorts names.
fn files_below(survey: &Survey<'_>, directory: &Path, found: &mut Vec<PathBuf>) {
    for name in survey.root.list(directory).unwrap_or_default() {
        let path = directory.join(name);
        // A link to a directory is not followed by that walk.
        let kind = survey
            .root
            .locate(directory)
            .and_then(|here| here.join(path.file_name().unwrap_or_default()).symlink_metadata());
        if kind.is_ok_and(|kind| kind.is_dir()) {
            files_below(survey, &path, found);
        } else {
            found.push(path);
        }
    }
}

fn names(files: &[PathBuf]) -> String {
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    names.join(" or ")
}
