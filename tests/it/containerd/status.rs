//! What containerd says of itself over CRI, whether we find it where it is, and what we make of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::mount_bind;
use serde_json::json;
use smarter_cni::host::cri::{self, Loaded, Reason, Status, Wanted, network_loaded};
use smarter_cni::host::root::Root;
use smarter_cni::host::runtimes::{self, Kind};

use super::{Containerd, configuration};
use crate::lab::eventually;
use crate::labnet::conflist;
use crate::sandbox::sandboxed_daemons;

const PLUGINS: &str = "/usr/lib/cni";
const NETWORKS: &str = "/run/lab-containerd/net.d";
/// Generous: a machine that is busy with something else is no fault of containerd's.
const PATIENCE: Duration = Duration::from_secs(20);

impl Containerd {
    /// Runs and has no network.
    fn bare() -> Self {
        let containerd = Self::with(&configuration(&Self::directory(), Path::new(PLUGINS)));
        containerd.answers();
        containerd
    }

    fn answers(&self) {
        eventually("containerd answers", Duration::from_mins(1), || {
            cri::status(&self.socket(), PATIENCE).is_ok()
        });
    }

    fn says(&self) -> Status {
        cri::status(&self.socket(), PATIENCE).expect("containerd answers")
    }

    fn judge(&self) -> Loaded {
        network_loaded(
            &self.says(),
            &Wanted {
                kind: Kind::Containerd,
                network: "labnet",
                conf_dir: Path::new(NETWORKS),
                bin_dirs: &[PLUGINS.into()],
                same: &|one, other| Root::at("/").same(one, other),
            },
        )
    }

    #[track_caller]
    fn comes_to(&self, what: &str, judged: impl Fn(&Loaded) -> bool) {
        eventually(what, PATIENCE, || judged(&self.judge()));
    }
}

/// As the installer does: containerd looks when a file is renamed within its directory.
fn place(name: &str, text: &str) {
    let new = Path::new(NETWORKS).join(".new");
    fs::write(&new, text).expect("a network");
    fs::rename(new, Path::new(NETWORKS).join(name)).expect("a network");
}

fn says_no(loaded: &Loaded, what: &str, next: &str) -> bool {
    matches!(loaded, Loaded::No { why, next_move } if why.contains(what) && next_move.contains(next))
}

#[test]
fn a_network_is_named_once_it_is_loaded() {
    sandboxed_daemons(|| {
        let containerd = Containerd::bare();
        let before = containerd.says();
        let ready = before.network_ready().expect("the condition");
        assert!(!ready.met && ready.reason == "NetworkPluginNotReady", "{ready:?}");
        assert_eq!(ready.message, "Network plugin returns error: cni plugin not initialized");
        assert!(before.runtime_ready().expect("the condition").met);
        let cni = before.cni.as_ref().expect("containerd speaks of networks");
        assert_eq!(cni.networks, []);
        assert_eq!(
            cni.load_error.as_deref(),
            Some(
                "cni config load failed: no network config found in /run/lab-containerd/net.d: cni plugin not initialized: \
                 failed to load cni config"
            )
        );
        let judged = containerd.judge();
        assert!(says_no(&judged, "has not noticed", "systemctl restart containerd"), "{judged:?}");

        let text = conflist().to_string();
        place("0-lab.conflist", &text);
        containerd.comes_to("the network is loaded", |loaded| *loaded == Loaded::Yes);
        let after = containerd.says();
        assert!(after.network_ready().expect("the condition").met);
        assert_eq!(after.name, "containerd");
        assert!(after.version.starts_with(|c: char| c.is_ascii_digit()), "{}", after.version);
        let cni = after.cni.expect("containerd speaks of networks");
        assert_eq!((cni.plugin_dirs, cni.conf_dir), (vec![PathBuf::from(PLUGINS)], PathBuf::from(NETWORKS)));
        assert_eq!(cni.load_error, None);
        let [network] = &cni.networks[..] else { panic!("{:?}", cni.networks) };
        assert_eq!((network.name.as_str(), network.interface.as_str()), ("labnet", "eth0"));
        assert_eq!(network.plugins, ["bridge", "portmap"]);
        assert_eq!(network.source, text);
    });
}

#[test]
fn what_is_in_the_way_is_named() {
    sandboxed_daemons(|| {
        let containerd = Containerd::bare();
        place("5-lab.conflist", &conflist().to_string());
        containerd.comes_to("the network is loaded", |loaded| *loaded == Loaded::Yes);

        let other = json!({"cniVersion": "1.0.0", "name": "cilium", "plugins": [{"type": "cilium-cni"}]});
        place("05-cilium.conflist", &other.to_string());
        containerd.comes_to("another network is named", |loaded| {
            says_no(loaded, "has loaded the network cilium instead", "remove or rename the one of cilium")
        });
        place("05-cilium.conflist", "");
        containerd.comes_to("an empty file is named", |loaded| {
            let file = "/run/lab-containerd/net.d/05-cilium.conflist: error parsing configuration list: unexpected end";
            says_no(loaded, file, "repair or remove the file")
        });
        fs::remove_file(Path::new(NETWORKS).join("05-cilium.conflist")).expect("remove it");
        containerd.comes_to("ours is loaded again", |loaded| *loaded == Loaded::Yes);
    });
}

#[test]
fn a_directory_that_was_made_again_needs_a_restart() {
    sandboxed_daemons(|| {
        let mut containerd = Containerd::bare();
        place("5-lab.conflist", &conflist().to_string());
        containerd.comes_to("the network is loaded", |loaded| *loaded == Loaded::Yes);
        fs::remove_dir_all(NETWORKS).expect("remove the directory");
        containerd.comes_to("the network is gone", |loaded| *loaded != Loaded::Yes);
        fs::create_dir(NETWORKS).expect("make it again");
        place("5-lab.conflist", &conflist().to_string());
        let judged = containerd.judge();
        assert!(says_no(&judged, "has not noticed", "systemctl restart containerd"), "{judged:?}");

        containerd.crash_and_restart(|| ());
        assert_eq!(containerd.judge(), Loaded::Yes);
    });
}

#[test]
fn nobody_and_no_cri_are_told_apart() {
    sandboxed_daemons(|| {
        let config = configuration(&Containerd::directory(), Path::new(PLUGINS));
        let without =
            config.replace("disabled_plugins = [", "disabled_plugins = [\"io.containerd.grpc.v1.cri\", ");
        let mut containerd = Containerd::with(&without);
        let socket = containerd.socket();
        let reason = || cri::status(&socket, PATIENCE).expect_err("no CRI").reason;
        eventually("containerd answers", Duration::from_mins(1), || matches!(reason(), Reason::NotCri(_)));
        assert_eq!(reason(), Reason::NotCri("unknown service runtime.v1alpha2.RuntimeService".to_owned()));
        containerd.kill();
        assert_eq!(reason(), Reason::NobodyListens, "its socket is still there");
    });
}

/// What we read of the files, and what containerd made of them.
fn found_and_said(config: &str, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = Path::new("/run/lab-containerd").join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(path, text).expect("an imported file");
    }
    let mut containerd = Containerd::with(config);
    let found = runtimes::find(&Root::at("/"));
    let runtime = found.runtimes.iter().find(|runtime| runtime.kind == Kind::Containerd);
    let runtime = runtime.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(runtime.socket, containerd.socket());
    containerd.answers();
    let said = containerd.says().cni.expect("containerd speaks of networks");
    assert_eq!((&runtime.bin_dirs, &runtime.conf_dir), (&said.plugin_dirs, &said.conf_dir), "{config}");
    containerd.kill();
}

#[test]
fn we_read_its_configuration_as_it_does() {
    sandboxed_daemons(|| {
        let config = configuration(&Containerd::directory(), Path::new(PLUGINS));
        // In this test's own mount namespace the configuration is where a distribution has it.
        mount_bind("/run/lab-containerd", "/etc/containerd").expect("/etc/containerd, of the package");
        found_and_said(&config, &[]);
        let silent = config.replace(&format!("bin_dir = \"{PLUGINS}\"\n"), "");
        assert_ne!(silent, config);
        found_and_said(&silent, &[]);
        // The section of a plugin is replaced as a whole, the last file wins, and a file may import others. A pattern is
        // absolute: 1.6 looks for others in its working directory.
        let pattern = "imports = [\"/run/lab-containerd/more/*.toml\"]";
        let importing = config.replace("version = 2\n", &format!("version = 2\n{pattern}\n"));
        assert_ne!(importing, config);
        let cri = |rest: &str| format!("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n{rest}");
        let only_conf =
            "[plugins.\"io.containerd.grpc.v1.cri\".cni]\nconf_dir = \"/run/lab-containerd/net.d\"\n";
        let first = cri("restrict_oom_score_adj = true\n");
        let second = format!("imports = [\"../last.toml\"]\n{}", cri(only_conf));
        found_and_said(&importing, &[("more/10-a.toml", &first)]);
        let more =
            [("more/10-a.toml", &first[..]), ("more/20-b.toml", &second), ("last.toml", "version = 2\n")];
        found_and_said(&importing, &more);
        let last = only_conf.replace("conf_dir = ", "bin_dir = \"/srv/bin\"\nconf_dir = ");
        found_and_said(&importing, &[more[0], more[1], ("last.toml", &format!("version = 2\n{last}"))]);
    });
}
