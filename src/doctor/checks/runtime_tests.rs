use super::*;
use crate::doctor::evidence::configuration::{ConfFile, ConfiguredNetwork, Directory};
use crate::doctor::evidence::installed::Installed;
use crate::host::cri::{Cni, Condition, Error, Network};
use crate::host::runtimes::{Kind, LeftOut, Places, Problem};

const NETWORKS: &str = "/etc/cni/net.d";
const PLUGINS: &str = "/opt/cni/bin";

fn runtime(kind: Kind) -> Runtime {
    Runtime {
        kind,
        config: vec!["/etc/x.toml".into()],
        bin_dirs: vec![PLUGINS.into()],
        conf_dir: NETWORKS.into(),
        otherwise: None,
        max_conf_num: None,
        only_network: None,
        socket: "/run/x.sock".into(),
        evidence: "configuration /etc/x.toml".into(),
    }
}

fn condition(kind: &str, met: bool, message: &str) -> Condition {
    Condition { kind: kind.into(), met, reason: String::new(), message: message.into() }
}

fn status(runtime_ready: bool, cni: Option<Cni>) -> Status {
    let ready = condition("RuntimeReady", runtime_ready, "its disk is gone");
    Status { conditions: vec![ready, condition("NetworkReady", true, "")], cni, ..Status::default() }
}

/// What containerd says that has loaded these networks.
fn loaded(conf_dir: &str, networks: &[&str]) -> Cni {
    let network = |name: &&str| Network { name: (*name).into(), ..Network::default() };
    Cni {
        plugin_dirs: vec![PLUGINS.into()],
        conf_dir: conf_dir.into(),
        networks: networks.iter().map(network).collect(),
        load_error: None,
    }
}

/// A node with our network in the usual place, and one runtime.
fn node(runtime: Runtime, answer: Result<Status, Reason>) -> Evidence {
    let network = ConfiguredNetwork {
        name: "smartnet".into(),
        types: vec!["smarter-bridge".into()],
        ..ConfiguredNetwork::default()
    };
    let file = ConfFile { path: format!("{NETWORKS}/0-smarter-bridge.conflist"), network: Ok(network) };
    let installed = Installed {
        settings: std::collections::BTreeMap::new(),
        networks: ["smartnet".to_owned()].into(),
        conf_dirs: [PathBuf::from(NETWORKS)].into(),
        bin_dirs: [PathBuf::from(PLUGINS)].into(),
    };
    let directory = Directory {
        path: NETWORKS.into(),
        place: NETWORKS.into(),
        reader: Some(runtime.kind),
        files: vec![file],
        searches: Vec::new(),
    };
    let answer = answer.map_err(|reason| Error { socket: runtime.socket.clone(), reason });
    let configured = Places { conf_dir: runtime.conf_dir.clone(), bin_dirs: runtime.bin_dirs.clone() };
    Evidence {
        configuration: Some(Ok(Configuration { directories: vec![directory], installed })),
        runtime: Some(Ok(Runtimes {
            all: vec![Asked { runtime, answer, configured }],
            ..Runtimes::default()
        })),
        ..Evidence::default()
    }
}

/// The problems: id, what was found, and the fix.
fn problems(evidence: &Evidence) -> Vec<(&'static str, String, String)> {
    let mut problems = Vec::new();
    for check in CHECKS {
        for finding in check.verdict(evidence).into_iter().flatten() {
            let Finding::Problem { found, fix, .. } = finding else { continue };
            problems.push((check.id, found, fix));
        }
    }
    problems
}

#[track_caller]
fn assert_only(evidence: &Evidence, id: &str, found: &str, fix: &str) {
    let [(one, said, next)] = &problems(evidence)[..] else { panic!("{:?}", problems(evidence)) };
    assert!(*one == id && said.contains(found) && next.contains(fix), "{one}: {said} / {next}");
}

#[test]
fn a_runtime_that_has_our_network_is_fine() {
    let fine = node(runtime(Kind::Containerd), Ok(status(true, Some(loaded(NETWORKS, &["smartnet"])))));
    assert_eq!(problems(&fine), []);
    assert_eq!(problems(&node(runtime(Kind::Crio), Ok(status(true, None)))), [], "it does not say which");
}

#[test]
fn a_runtime_that_is_not_ready_is_named_as_that_alone() {
    let evidence = node(runtime(Kind::Containerd), Ok(status(false, Some(loaded(NETWORKS, &[])))));
    assert_only(&evidence, "runtime-ready", "its disk is gone", "journalctl -u containerd");
}

#[test]
fn without_an_answer_nothing_else_is_judged() {
    let silent = node(runtime(Kind::Rke2), Err(Reason::NobodyListens));
    assert_only(&silent, "runtime-socket", "nobody listens at /run/x.sock", "systemctl restart rke2-server");
    let without_cri = node(runtime(Kind::Containerd), Err(Reason::NotCri("unknown service".into())));
    assert_only(&without_cri, "runtime-socket", "does not speak CRI", "disabled_plugins in /etc/x.toml");

    let forbidden = node(runtime(Kind::Containerd), Err(Reason::NotPermitted));
    assert_eq!(problems(&forbidden), []);
    assert!(matches!(socket(&forbidden).unwrap()[..], [Finding::Unknown { .. }]));
    assert!(matches!(ready(&forbidden), Err(Pass::Unknown(_))));
    assert!(matches!(network(&forbidden), Err(Pass::Unknown(_))));
}

#[test]
fn a_runtime_that_looks_elsewhere_is_named_with_both_directories() {
    let moved =
        Runtime { conf_dir: "/srv/net.d".into(), bin_dirs: vec!["/srv/bin".into()], ..runtime(Kind::K3s) };
    let found = "reads networks from /srv/net.d, and ours is in /etc/cni/net.d; it looks for plugins in /srv/bin, and \
                 ours are in /opt/cni/bin (as /etc/x.toml says)";
    assert_only(&node(moved, Err(Reason::NotPermitted)), "runtime-directories", found, "smarter-cni install");

    let old = node(runtime(Kind::Containerd), Ok(status(true, Some(loaded("/srv/net.d", &["smartnet"])))));
    assert_only(
        &old,
        "runtime-directories",
        "though its configuration says otherwise",
        "--conf-dir /srv/net.d",
    );
}

#[test]
fn a_network_that_is_not_loaded_has_a_reason() {
    let evidence = node(runtime(Kind::Containerd), Ok(status(true, Some(loaded(NETWORKS, &[])))));
    assert_only(&evidence, "runtime-network", "has not noticed the network", "systemctl restart containerd");
    let evidence = node(runtime(Kind::Containerd), Ok(status(true, Some(loaded(NETWORKS, &["cbr0"])))));
    assert_only(&evidence, "runtime-network", "the network cbr0 instead", "systemctl restart containerd");
    let one = Runtime { only_network: Some("crio".into()), ..runtime(Kind::Crio) };
    assert_only(
        &node(one, Ok(status(true, None))),
        "runtime-network",
        "takes the network crio",
        "cni_default_network",
    );
}

#[test]
fn what_a_configuration_is_to_blame_for_is_not_said_twice() {
    let mut evidence = node(runtime(Kind::Containerd), Ok(status(true, Some(loaded(NETWORKS, &[])))));
    let directory = |evidence: &mut Evidence, change: &dyn Fn(&mut Directory)| {
        let Some(Ok(configuration)) = &mut evidence.configuration else { panic!("there is one") };
        change(&mut configuration.directories[0]);
    };
    directory(&mut evidence, &|directory| directory.files.clear());
    assert_eq!(
        network(&evidence),
        Err(Pass::skipped("containerd: there is no configuration that can be read"))
    );
    let foreign = ConfiguredNetwork { name: "cbr0".into(), ..ConfiguredNetwork::default() };
    directory(&mut evidence, &|directory| {
        directory.files.push(ConfFile { path: "a".into(), network: Ok(foreign.clone()) });
    });
    assert_eq!(network(&evidence), Err(Pass::skipped("containerd: the first configuration is not ours")));
}

#[test]
fn a_node_without_runtime_is_no_finding() {
    let left_out = LeftOut { kind: Kind::Containerd, why: "runs no pods".into() };
    let runtimes = Runtimes { left_out: vec![left_out], ..Runtimes::default() };
    let evidence = Evidence { runtime: Some(Ok(runtimes)), ..Evidence::default() };
    for check in CHECKS.iter().filter(|check| check.id != "cache-damaged") {
        assert_eq!(check.verdict(&evidence), Err(Pass::skipped("containerd: runs no pods")), "{}", check.id);
    }
}

#[test]
fn a_configuration_that_is_not_understood_is_named_with_what_was_assumed() {
    let problem = Problem {
        kind: Kind::Crio,
        file: "/etc/x.toml".into(),
        what: "is cut off".into(),
        assumed: "defaults".into(),
    };
    let runtimes = Runtimes { problems: vec![problem], ..Runtimes::default() };
    let evidence = Evidence { runtime: Some(Ok(runtimes)), ..Evidence::default() };
    assert_only(&evidence, "runtime-config", "is cut off; assumed: defaults", "--conf-dir");
}

#[test]
fn settings_of_host_ports_do_not_hold_where_the_runtime_makes_them() {
    let limited = |kind| {
        let mut evidence = node(runtime(kind), Ok(status(true, None)));
        let Some(Ok(configuration)) = &mut evidence.configuration else { unreachable!() };
        let Ok(network) = &mut configuration.directories[0].files[0].network else { unreachable!() };
        network.port_limits = vec!["denyHostPortInterfaces"];
        evidence
    };
    let found = "cri-o makes the host ports of its pods itself: denyHostPortInterfaces of ";
    assert_only(&limited(Kind::Crio), "runtime-host-ports", found, "the node's own firewall");
    assert!(matches!(host_ports(&limited(Kind::Containerd)), Err(Pass::Skipped(_))));
    let free = node(runtime(Kind::Crio), Ok(status(true, None)));
    assert!(
        matches!(host_ports(&free), Err(Pass::Skipped(why)) if why.contains("`status` do not have them"))
    );
}
