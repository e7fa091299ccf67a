//! k3s and rke2: a containerd of their own, with a configuration that they write at every start, below a data directory that
//! can be moved. k3s without its network (`--flannel-backend=none`) writes no CNI section, so that containerd's defaults
//! count; rke2 never writes one (k3s' `pkg/agent/templates`, unchanged since 2019).

use std::path::{Path, PathBuf};

use super::options::Options;
use super::survey::{Configuration, Defaults, Survey, with};
use super::{DEFAULT_CONF_DIR, Kind};

/// Of both.
const SOCKET: &str = "/run/k3s/containerd/containerd.sock";
/// With `--docker` k3s runs cri-dockerd.
const DOCKER_SOCKET: &str = "/run/k3s/cri-dockerd/cri-dockerd.sock";

const UNITS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

pub(super) fn k3s_and_rke2(survey: &mut Survey<'_>) {
    let before = survey.found.runtimes.len();
    distribution(survey, Kind::Rke2, &["rke2-server.service", "rke2-agent.service"], None);
    let rke2 = survey.found.runtimes.split_off(before);
    // Both use the same socket: alone it speaks for k3s, unless rke2 is there.
    let socket = rke2.is_empty().then_some(Path::new(SOCKET));
    distribution(survey, Kind::K3s, &["k3s.service", "k3s-agent.service"], socket);
    survey.found.runtimes.extend(rke2);
}

/// `socket` is the one that speaks for it.
fn distribution(survey: &mut Survey<'_>, kind: Kind, units: &[&str], socket: Option<&Path>) {
    survey.kind = kind;
    let name = kind.to_string();
    let options = options(survey, &name, units);
    let data = options.data_dir.clone().unwrap_or_else(|| format!("/var/lib/rancher/{name}").into());
    let written = data.join("agent/etc/containerd/config.toml");
    let socket = if options.docker { Some(Path::new(DOCKER_SOCKET)) } else { socket };
    let Some(evidence) = survey.traces(std::slice::from_ref(&written), socket, &name) else { return };
    match &options.endpoint {
        Some(endpoint) if !options.docker && endpoint != Path::new(SOCKET) => {
            let why = format!(
                "runs pods on the runtime at {} (container-runtime-endpoint; {evidence})",
                endpoint.display()
            );
            return survey.leave_out(kind, why);
        }
        _ => {}
    }
    if options.docker || !survey.exists(&written) {
        let evidence = if options.docker { format!("{evidence}; with --docker") } else { evidence };
        return unwritten(survey, kind, &options, &data, evidence);
    }
    let config = survey.containerd(vec![written], None, &std::convert::identity);
    let (bin_dirs, why) = survey.default_bin_dirs();
    let why = why.filter(|_| config.effective.cni.bin_dirs.is_none());
    let defaults = Defaults { bin_dirs, conf_dir: DEFAULT_CONF_DIR.into(), socket: SOCKET.into() };
    survey.add(kind, config, defaults, with(evidence, why));
}

fn options(survey: &mut Survey<'_>, name: &str, units: &[&str]) -> Options {
    let mut files = vec![PathBuf::from(format!("/etc/rancher/{name}/config.yaml"))];
    files.extend(survey.expand(Path::new(&format!("/etc/rancher/{name}/config.yaml.d/*.yaml"))));
    let mut options = Options::default();
    for text in files.iter().filter_map(|file| survey.text(file)) {
        options.add_file(&text);
    }
    for unit in units {
        let mut places = UNITS.iter().map(|dir| Path::new(dir).join(unit));
        if let Some(text) = places.find(|path| survey.exists(path)).and_then(|path| survey.text(&path)) {
            options.add_unit(&text);
        }
    }
    options
}

/// There is no configuration of containerd to read: what the program would write, as far as it can be known.
fn unwritten(survey: &mut Survey<'_>, kind: Kind, options: &Options, data: &Path, evidence: String) {
    let own = [data.join("data/cni"), data.join("data/current/bin")];
    let flannel = kind == Kind::K3s && options.flannel_backend.as_deref() != Some("none");
    let own = own.into_iter().find(|dir| flannel && survey.exists(dir));
    let (bin_dirs, conf_dir, why) = if let Some(dir) = own {
        (vec![dir], data.join("agent/etc/cni/net.d"), None)
    } else {
        let (bin_dirs, why) = survey.default_bin_dirs();
        (bin_dirs, DEFAULT_CONF_DIR.into(), why)
    };
    let written = data.join("agent/etc/containerd/config.toml");
    let assumed = format!("plugins in {}, networks in {}", bin_dirs[0].display(), conf_dir.display());
    if options.docker {
        survey.problem(
            &written,
            "does not count: k3s runs with --docker, whose settings are in no file",
            assumed,
        );
    } else {
        survey.problem(&written, format!("is not there: {kind} writes it when it starts"), assumed);
    }
    let socket = if options.docker { DOCKER_SOCKET } else { SOCKET };
    let defaults = Defaults { bin_dirs, conf_dir, socket: socket.into() };
    survey.add(kind, Configuration::default(), defaults, with(evidence, why));
}
