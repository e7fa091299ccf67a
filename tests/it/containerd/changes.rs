//! Our program changed below pods that run: another build installed over it, and its removal from the node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use super::{Containerd, Release, on_each};
use crate::cri::{HostPort, Pod, Sandbox};
use crate::deployment::{as_a_node, stripped};
use crate::install::another_build;
use crate::lab::{self, Node, Place, Plugin, eventually};
use crate::labnet::ping;

on_each!(
    pods_of_one_build_are_checked_and_removed_by_the_next,
    uninstall_waits_for_pods_and_takes_no_new_ones,
    uninstall_does_not_end_containerd,
);

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
const LIST: &str = "/etc/cni/net.d/0-smarter-bridge.conflist";
const GATEWAY: &str = "10.38.0.1";
const PORT: u16 = 8080;

struct Installed {
    containerd: Containerd,
    program: PathBuf,
    _world: lab::Netns,
}

fn call(program: &Path, line: &str) -> Output {
    Node.command(&format!("{} {line}", program.display())).output().expect("the program runs")
}

#[track_caller]
fn succeeds(program: &Path, line: &str) -> String {
    let out = call(program, line);
    assert!(out.status.success(), "{line}: {out:?}");
    String::from_utf8(out.stdout).expect("UTF-8")
}

impl Installed {
    fn new(release: Release) -> Self {
        as_a_node();
        let world = lab::world();
        let containerd = Containerd::start_on_bare_node(release);
        let program = stripped(&lab::binary());
        let said = succeeds(&program, "install --subnet 10.38.0.0/16");
        assert!(said.contains("runtime  containerd: has loaded the network smartnet"), "{said}");
        Self { containerd, program, _world: world }
    }

    fn run_pod(&self, name: &str, ports: &[u16]) -> Sandbox {
        let mapped = |host: &u16| HostPort { udp: false, host: *host, container: 80, address: String::new() };
        self.containerd.run_pod(&Pod { host_ports: ports.iter().map(mapped).collect(), ..Pod::new(name) })
    }
}

/// CHECK as libcni says it, with the result that it keeps. containerd does not, CRI-O does.
fn check(pod: &Sandbox, name: &str, ports: &[u16]) {
    let kept = format!("/var/lib/cni/results/smartnet-{}-eth0", pod.id);
    let kept: Value =
        serde_json::from_str(&fs::read_to_string(&kept).expect("libcni's memory")).expect("JSON");
    let list: Value = serde_json::from_str(&fs::read_to_string(LIST).expect("the list")).expect("JSON");
    let mappings: Vec<_> = ports
        .iter()
        .map(|port| json!({"HostPort": port, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}))
        .collect();
    for plugin in list["plugins"].as_array().expect("plugins") {
        let mut config = plugin.clone();
        for key in ["name", "cniVersion"] {
            config[key] = list[key].clone();
        }
        config["prevResult"] = kept["result"].clone();
        config["runtimeConfig"] = json!({"portMappings": mappings});
        Plugin::new("/opt/cni/bin", plugin["type"].as_str().expect("a type"))
            .command("CHECK")
            .container(&pod.id)
            .env("CNI_NETNS", &pod.network.0)
            .ifname("eth0")
            .env("CNI_ARGS", &format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}"))
            .json(&config)
            .succeed();
    }
}

/// What pods leave: none of it may outlive the last one.
fn nothing_of_pods() {
    let nothing = Vec::<String>::new();
    assert_eq!(lab::files("/run/smarter-cni/attachments"), nothing);
    let leases = lab::files("/run/cni/networks/smartnet").into_iter();
    let leases = leases.filter(|name| name.parse::<std::net::IpAddr>().is_ok());
    assert_eq!(leases.collect::<Vec<_>>(), nothing);
    let links = Node.ip("link show type veth");
    let links = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    assert_eq!(links.filter(|name| *name != "up0").collect::<Vec<_>>(), Vec::<&str>::new());
    let rules = Node.run("nft list ruleset");
    assert!(rules.lines().all(|line| !line.contains(&PORT.to_string())), "{rules}");
}

fn pods_of_one_build_are_checked_and_removed_by_the_next(release: Release) {
    let node = Installed::new(release);
    let (one, two) = (node.run_pod("one", &[PORT]), node.run_pod("two", &[]));
    check(&one, "one", &[PORT]);
    let placed = || fs::read("/opt/cni/bin/smarter-cni").expect("the program");
    let before = placed();
    let next = another_build(&node.program, Path::new("/mnt"));
    let said = succeeds(&next, "install --subnet 10.38.0.0/16");
    assert!(said.contains("done     place /opt/cni/bin/smarter-cni"), "{said}");
    assert!(placed() != before, "it is another one");
    check(&one, "one", &[PORT]);
    check(&two, "two", &[]);
    let three = node.run_pod("three", &[]);
    for pod in [&two, &three] {
        ping(&pod.network, &one.addresses[0]);
    }
    for pod in [one, two, three] {
        node.containerd.remove_pod(&pod);
    }
    nothing_of_pods();
}

fn uninstall_waits_for_pods_and_takes_no_new_ones(release: Release) {
    let mut node = Installed::new(release);
    let pods = ["one", "two"].map(|name| node.run_pod(name, &[]));
    let waiting = call(&node.program, "uninstall");
    let said = String::from_utf8_lossy(&waiting.stderr).into_owned();
    assert_eq!(waiting.status.code(), Some(1), "{waiting:?}");
    assert!(said.contains("default/one") && said.contains("default/two"), "{said}");

    // No pod comes; those that are there work and go, also when containerd was started anew meanwhile.
    let refused =
        node.containerd.cri.run_pod(&Pod::new("late")).expect_err("the node is drained").to_string();
    assert!(refused.contains("drain"), "{refused}");
    ping(&pods[0].network, &pods[1].addresses[0]);
    node.containerd.kill();
    ping(&pods[0].network, GATEWAY);
    // A containerd that asks plugins for their STATUS says that the node takes no pods.
    node.containerd.start_again();
    node.containerd.remove_pod(&pods[0]);
    let waiting = call(&node.program, "uninstall");
    assert_eq!(waiting.status.code(), Some(1), "{waiting:?}");
    node.containerd.remove_pod(&pods[1]);
    for sandbox in node.containerd.cri.all_sandboxes() {
        node.containerd.cri.stop_pod(&sandbox.id).expect("stop what was refused");
        node.containerd.cri.remove_pod(&sandbox.id).expect("remove what was refused");
    }
    assert!(succeeds(&node.program, "uninstall").contains("smarter-cni is gone from this node"));
    nothing_of_pods();
    assert!(Node.link("smartnet0").is_none());
    eventually("containerd has lost the network", PATIENCE, || {
        node.containerd.cri.conditions().is_some_and(|all| all.contains(&("NetworkReady".to_owned(), false)))
    });
}

/// It ends by itself from 2.1 on when its directory of networks goes: ours to remove is what is in there.
fn uninstall_does_not_end_containerd(release: Release) {
    as_a_node();
    let _world = lab::world();
    let program = stripped(&lab::binary());
    // The directory is made by the installation, before containerd is started for the first time.
    fs::create_dir_all("/etc/containerd").expect("a directory");
    fs::write("/etc/containerd/config.toml", release.format().bare(Path::new("/run/containerd")))
        .expect("config.toml");
    let said = succeeds(&program, "install --subnet 10.38.0.0/16");
    assert!(said.contains("make directory /etc/cni/net.d"), "{said}");
    let mut containerd = Containerd::start_on_bare_node(release);
    assert!(containerd.cri.ready());
    assert!(succeeds(&program, "uninstall").contains("smarter-cni is gone from this node"));
    eventually("containerd has lost the network", PATIENCE, || !containerd.cri.ready());
    let said = succeeds(&program, "install --subnet 10.38.0.0/16");
    assert!(
        !containerd.has_ended() && said.contains("has loaded the network smartnet"),
        "{said}{}",
        containerd.log()
    );

    // Nobody looks at it any more: now it goes.
    containerd.kill();
    fs::remove_file("/run/containerd/containerd.sock").expect("its socket");
    let said = succeeds(&program, "uninstall");
    assert!(said.contains("gone from this node"), "{said}");
}
