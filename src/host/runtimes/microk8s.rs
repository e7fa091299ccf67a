//! microk8s: a snap with a containerd of its own. Its wrapper fills in the snap's directories when it starts containerd.

use std::path::{Path, PathBuf};

use super::Kind;
use super::document::absolute;
use super::options::{option, words};
use super::survey::{Defaults, Survey};

const SNAP: &str = "/snap/microk8s/current";
/// A link to the directory of the snap's revision.
const SNAP_DATA: &str = "/var/snap/microk8s/current";
const SNAP_COMMON: &str = "/var/snap/microk8s/common";

pub(super) fn microk8s(survey: &mut Survey<'_>) {
    survey.kind = Kind::Microk8s;
    let args = Path::new(SNAP_DATA).join("args");
    // The wrapper makes the first of the second.
    let candidates = [args.join("containerd.toml"), args.join("containerd-template.toml")];
    let socket = socket(survey, &args.join("containerd"));
    let Some(evidence) = survey.traces(&candidates, Some(&socket), "microk8s") else { return };
    let first: Vec<PathBuf> =
        candidates.iter().find(|path| survey.exists(path)).cloned().into_iter().collect();
    let bin_dirs = vec![Path::new(SNAP_DATA).join("opt/cni/bin")];
    let conf_dir = args.join("cni-network");
    if first.is_empty() {
        let assumed = format!("plugins in {}, networks in {}", bin_dirs[0].display(), conf_dir.display());
        survey.problem(&candidates[0], "is not there: microk8s writes it when it starts", assumed);
    }
    let mut config = survey.containerd(first, None, &|text| filled_in(&text));
    // On the command line, which wins.
    config.effective.address = None;
    survey.add(Kind::Microk8s, config, Defaults { bin_dirs, conf_dir, socket }, evidence);
}

fn socket(survey: &mut Survey<'_>, arguments: &Path) -> PathBuf {
    let line = filled_in(&survey.text(arguments).unwrap_or_default());
    let address = option(&words(&line), "address").and_then(|text| absolute("address", text).ok());
    address.unwrap_or_else(|| Path::new(SNAP_COMMON).join("run/containerd.sock"))
}

fn filled_in(text: &str) -> String {
    text.replace("${SNAP_DATA}", SNAP_DATA).replace("${SNAP_COMMON}", SNAP_COMMON).replace("${SNAP}", SNAP)
}
