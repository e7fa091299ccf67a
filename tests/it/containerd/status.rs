//! What containerd says of itself over CRI, whether we find it where it is, and what we make of both.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use smarter_cni::host::cri::{self, Loaded, Reason, Wanted, network_loaded};
use smarter_cni::host::root::Root;
use smarter_cni::host::runtimes::Kind;

use super::daemon::PATIENCE;
use super::{Containerd, Release, on_each};
use crate::lab::eventually;
use crate::labnet::conflist;

on_each!(
    a_network_is_named_once_it_is_loaded,
    what_is_in_the_way_is_named,
    a_directory_that_was_made_again_needs_a_restart,
    nobody_and_no_cri_are_told_apart,
);

const PLUGINS: &str = "/usr/lib/cni";
const NETWORKS: &str = "/run/lab-containerd/net.d";

impl Containerd {
    /// Runs and has no network.
    fn bare(release: Release) -> Self {
        let config = release.format().with_directories(&Self::directory(), Path::new(PLUGINS));
        let containerd = Self::with(release, &config);
        containerd.answers();
        containerd
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

fn a_network_is_named_once_it_is_loaded(release: Release) {
    let containerd = Containerd::bare(release);
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
}

fn what_is_in_the_way_is_named(release: Release) {
    let containerd = Containerd::bare(release);
    place("5-lab.conflist", &conflist().to_string());
    containerd.comes_to("the network is loaded", |loaded| *loaded == Loaded::Yes);

    let other = json!({"cniVersion": "1.0.0", "name": "cilium", "plugins": [{"type": "cilium-cni"}]});
    place("05-cilium.conflist", &other.to_string());
    containerd.comes_to("another network is named", |loaded| {
        says_no(loaded, "has loaded the network cilium instead", "remove or rename the one of cilium")
    });
    place("05-cilium.conflist", "");
    containerd.comes_to("an empty file is named", |loaded| {
        let file =
            "/run/lab-containerd/net.d/05-cilium.conflist: error parsing configuration list: unexpected end";
        says_no(loaded, file, "repair or remove the file")
    });
    fs::remove_file(Path::new(NETWORKS).join("05-cilium.conflist")).expect("remove it");
    containerd.comes_to("ours is loaded again", |loaded| *loaded == Loaded::Yes);
}

fn a_directory_that_was_made_again_needs_a_restart(release: Release) {
    let mut containerd = Containerd::bare(release);
    place("5-lab.conflist", &conflist().to_string());
    containerd.comes_to("the network is loaded", |loaded| *loaded == Loaded::Yes);
    fs::remove_dir_all(NETWORKS).expect("remove the directory");
    if release.is_2() {
        // It ends, and systemd starts it again.
        eventually("containerd ends", PATIENCE, || containerd.has_ended());
        assert!(containerd.log().contains("cni conf dir is removed, stop watching"), "{}", containerd.log());
    } else {
        containerd.comes_to("the network is gone", |loaded| *loaded != Loaded::Yes);
    }
    fs::create_dir(NETWORKS).expect("make it again");
    place("5-lab.conflist", &conflist().to_string());
    if !release.is_2() {
        let judged = containerd.judge();
        assert!(says_no(&judged, "has not noticed", "systemctl restart containerd"), "{judged:?}");
        containerd.kill();
    }
    containerd.start_again();
    assert_eq!(containerd.judge(), Loaded::Yes);
}

fn nobody_and_no_cri_are_told_apart(release: Release) {
    let config = release.format().with_directories(&Containerd::directory(), Path::new(PLUGINS));
    let without =
        config.replace("disabled_plugins = [", "disabled_plugins = [\"io.containerd.grpc.v1.cri\", ");
    let mut containerd = Containerd::with(release, &without);
    let socket = containerd.socket();
    let reason = || cri::status(&socket, PATIENCE).expect_err("no CRI").reason;
    eventually("containerd answers", Duration::from_mins(1), || matches!(reason(), Reason::NotCri(_)));
    assert_eq!(reason(), Reason::NotCri("unknown service runtime.v1alpha2.RuntimeService".to_owned()));
    containerd.kill();
    assert_eq!(reason(), Reason::NobodyListens, "its socket is still there");
}
