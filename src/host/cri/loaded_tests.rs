use super::super::Network;
use super::*;

fn condition(kind: &str, met: bool, message: &str) -> Condition {
    let reason = if met { "" } else { "NetworkPluginNotReady" };
    Condition { kind: kind.into(), met, reason: reason.into(), message: message.into() }
}

fn network(name: &str) -> Network {
    Network { name: name.into(), interface: "eth0".into(), ..Network::default() }
}

const NOT_READY: &str = "Network plugin returns error: cni plugin not initialized";

/// A containerd with these networks.
fn containerd(networks: &[&str]) -> Status {
    let networks: Vec<Network> = networks.iter().map(|name| network(name)).collect();
    let ready =
        condition("NetworkReady", !networks.is_empty(), if networks.is_empty() { NOT_READY } else { "" });
    Status {
        conditions: vec![condition("RuntimeReady", true, ""), ready],
        cni: Some(Cni {
            plugin_dirs: vec!["/opt/cni/bin".into()],
            conf_dir: "/etc/cni/net.d".into(),
            networks,
            load_error: None,
        }),
        ..Status::default()
    }
}

fn judge(status: &Status) -> Loaded {
    judge_in(status, "/etc/cni/net.d", "/opt/cni/bin")
}

fn judge_in(status: &Status, conf_dir: &str, bin_dir: &str) -> Loaded {
    network_loaded(
        status,
        &Wanted {
            kind: Kind::Containerd,
            network: "smartnet",
            conf_dir: Path::new(conf_dir),
            bin_dirs: &[bin_dir.into()],
            // A host with one link.
            same: &|a, b| {
                let resolved = |path: &Path| {
                    PathBuf::from(path.to_str().unwrap().replace("/usr/libexec/cni", "/opt/cni/bin"))
                };
                resolved(a) == resolved(b)
            },
        },
    )
}

#[track_caller]
fn assert_no(loaded: Loaded, why: &str, next_move: &str) {
    let Loaded::No { why: said, next_move: next } = loaded else { panic!("{loaded:?}") };
    assert!(said.contains(why) && next.contains(next_move), "{said} / {next}");
}

#[test]
fn ours_as_the_first_is_what_we_want() {
    assert_eq!(judge(&containerd(&["smartnet"])), Loaded::Yes);
    assert_eq!(judge(&containerd(&["smartnet", "other"])), Loaded::Yes);
    assert_eq!(judge_in(&containerd(&["smartnet"]), "/etc/cni/net.d", "/usr/libexec/cni"), Loaded::Yes);
}

#[test]
fn another_network_is_named() {
    assert_no(
        judge(&containerd(&["cilium"])),
        "containerd has loaded the network cilium instead",
        "files of /etc/cni/net.d in the order of their names: remove or rename the one of cilium",
    );
    assert_no(judge(&containerd(&["cilium", "smartnet"])), "cilium as the first", "the one of cilium");
}

#[test]
fn other_directories_are_named() {
    let elsewhere = judge_in(&containerd(&["smartnet"]), "/srv/net.d", "/opt/cni/bin");
    assert_no(
        elsewhere,
        "reads networks from /etc/cni/net.d, not from /srv/net.d",
        "install with --conf-dir /etc/cni/net.d",
    );
    let elsewhere = judge_in(&containerd(&["smartnet"]), "/etc/cni/net.d", "/srv/bin");
    assert_no(
        elsewhere,
        "looks for plugins in /opt/cni/bin, not in /srv/bin",
        "install with --bin-dir /opt/cni/bin",
    );
}

#[test]
fn a_broken_file_is_quoted() {
    let mut status = containerd(&[]);
    let error = "cni config load failed: failed to load CNI config list file /etc/cni/net.d/05-x.conflist: error parsing \
                 configuration list: unexpected end of JSON input: invalid cni config: failed to load cni config";
    status.cni.as_mut().unwrap().load_error = Some(error.into());
    assert_no(judge(&status), error, "repair or remove the file");
}

#[test]
fn a_directory_that_was_made_again_needs_a_restart() {
    let mut status = containerd(&[]);
    status.cni.as_mut().unwrap().load_error = Some(
        "cni config load failed: no network config found in /etc/cni/net.d: cni plugin not initialized: failed to load \
         cni config"
            .into(),
    );
    assert_no(
        judge(&status),
        "has not noticed the network in /etc/cni/net.d",
        "systemctl restart containerd",
    );
    status.cni.as_mut().unwrap().load_error = None;
    assert_no(judge(&status), "has not noticed", "systemctl restart containerd");
}

#[test]
fn a_plugin_that_says_it_cannot_work_is_quoted() {
    let mut status = containerd(&["smartnet"]);
    status.conditions[1] = condition("NetworkReady", false, "Network plugin returns error: range exhausted");
    assert_no(judge(&status), "range exhausted (NetworkPluginNotReady)", "journalctl -u containerd");
    let mut broken = containerd(&["smartnet"]);
    broken.conditions[0] = condition("RuntimeReady", false, "");
    assert_no(judge(&broken), "not ready itself: NetworkPluginNotReady", "journalctl");
}

#[test]
fn a_runtime_that_does_not_name_networks_is_believed_only_when_it_has_none() {
    let mut status = Status { cni: None, ..containerd(&["smartnet"]) };
    assert!(matches!(judge(&status), Loaded::Unknown { why } if why.contains("not which one")));
    status.conditions[1] = condition("NetworkReady", false, "no CNI configuration file in /etc/cni/net.d/");
    assert_no(judge(&status), "no CNI configuration file in /etc/cni/net.d/", "systemctl restart");
    assert!(matches!(judge(&Status::default()), Loaded::Unknown { .. }));
}
