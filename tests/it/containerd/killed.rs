//! containerd killed in the middle of a burst, and pods whose runtime lost its memory of them.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{Containerd, Release, on_each};
use crate::cri::{HostPort, Pod, Sandbox};
use crate::lab::{self, Answer, Node, Place, UNDER_TEST, eventually};
use crate::labnet::{
    GATEWAY, assert_nothing_is_left, assert_nothing_of_pods_is_left, conflist, host_ends, leases, ping,
};

on_each!(
    a_crash_in_a_burst_leaves_nothing_that_no_pod_has,
    dual_stack_pods_outlive_containerd_and_its_memory
);

const PATIENCE: Duration = Duration::from_secs(30);
const PODS: usize = 20;

/// containerd 1.6 makes a snapshot's directory before it writes down that there is one. Killed in between it stumbles over its
/// own directory each time, until somebody takes that away.
fn start_again(containerd: &Containerd, pod: &Pod) -> Sandbox {
    let refused = match containerd.cri.run_pod(pod) {
        Ok(sandbox) => return sandbox,
        Err(refused) => refused,
    };
    let words = refused.to_string();
    let forgotten = words.strip_suffix(": file exists").and_then(|words| words.rsplit(' ').next());
    let forgotten = forgotten.filter(|path| path.contains("/snapshots/"));
    fs::remove_dir_all(forgotten.unwrap_or_else(|| panic!("pod {}: {words}", pod.name)))
        .expect("its directory");
    containerd.run_pod(pod)
}

/// What kubelet does after it: whatever is not ready goes, what is ready stays, and what is missing is started.
fn a_crash_in_a_burst_leaves_nothing_that_no_pod_has(release: Release) {
    let mut containerd = Containerd::start(release, UNDER_TEST.dir(), &conflist());
    let names: Vec<String> = (0..PODS).map(|n| format!("pod{n}")).collect();
    let cri = &containerd.cri.clone();
    thread::scope(|scope| {
        // Those that are cut off end with an error.
        let starting: Vec<_> =
            names.iter().map(|name| scope.spawn(move || cri.run_pod(&Pod::new(name)).is_ok())).collect();
        eventually("some pods have a link", PATIENCE, || host_ends().len() >= PODS / 4);
        containerd.kill();
        let ended = starting.into_iter().map(|one| one.join().expect("no panic"));
        let started = ended.filter(|started| *started).count();
        eprintln!("{started} of {PODS} were started, {} have a link", host_ends().len());
        assert!(started < PODS, "the crash came too late");
    });
    containerd.start_again();

    let known = containerd.cri.all_sandboxes();
    for sandbox in known.iter().filter(|sandbox| !sandbox.ready) {
        containerd.cri.stop_pod(&sandbox.id).expect("stop what is not ready");
        containerd.cri.remove_pod(&sandbox.id).expect("remove what is not ready");
    }
    let ready = known.iter().filter(|sandbox| sandbox.ready);
    let mut pods: Vec<Sandbox> =
        ready.map(|sandbox| containerd.cri.status(&sandbox.id).expect("its status")).collect();
    // Some of the others, not all: that takes its time and shows nothing else.
    let is_missing = |name: &&String| !known.iter().any(|sandbox| sandbox.ready && sandbox.name == **name);
    pods.extend(
        names.iter().filter(is_missing).take(PODS / 4).map(|name| start_again(&containerd, &Pod::new(name))),
    );
    let addresses: BTreeSet<String> = pods.iter().flat_map(|pod| pod.addresses.clone()).collect();
    assert_eq!(addresses.len(), pods.len());
    for pod in &pods {
        ping(&pod.network, GATEWAY);
    }

    assert_eq!((leases().len(), host_ends().len()), (pods.len(), pods.len()));
    thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| containerd.remove_pod(pod));
        }
    });
    assert_eq!(containerd.cri.all_sandboxes().len(), 0);
    let addresses: Vec<String> = addresses.into_iter().collect();
    // A namespace whose pod containerd had not written down at that moment is its own to lose; nothing is in it.
    assert_nothing_of_pods_is_left(&addresses);
}

/// Both families with host ports over TCP and UDP; what libcni remembers of them is deleted.
fn dual_stack_pods_outlive_containerd_and_its_memory(release: Release) {
    let world = lab::world();
    let mut list = conflist();
    list["plugins"][0]["ipam"]["ranges"] = json!([[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd77::/64"}]]);
    let mut containerd = Containerd::start(release, UNDER_TEST.dir(), &list);
    let port = |udp| HostPort { udp, host: 8080, container: 80, address: String::new() };
    let web = Pod { host_ports: vec![port(false), port(true)], ..Pod::new("web") };
    let (web, other) = (containerd.run_pod(&web), containerd.run_pod(&Pod::new("other")));
    assert_eq!(web.addresses, ["10.77.0.2", "fd77::2"]);
    assert_eq!(web.network.addresses("eth0"), ["10.77.0.2/24", "fd77::2/64"]);
    for address in &web.addresses {
        let inner = SocketAddr::new(address.parse().expect("an address"), 80);
        lab::serve_tcp(&web.network, inner, "web");
        lab::serve_udp(&web.network, inner, "web");
    }
    let answers = |to: IpAddr, from: IpAddr| {
        let (outer, seen) = (SocketAddr::new(to, 8080), Answer { token: "web".into(), seen_as: from });
        assert_eq!(lab::ask_tcp(&world, outer).unwrap_or_else(|e| panic!("TCP to {to}: {e}")), seen);
        assert_eq!(lab::ask_udp(&world, outer).unwrap_or_else(|e| panic!("UDP to {to}: {e}")), seen);
    };
    let all_answer = || {
        answers(lab::NODE, lab::WORLD);
        answers(lab::NODE_V6, lab::WORLD_V6);
        web.addresses.iter().for_each(|address| ping(&other.network, address));
    };
    // The first pod of a node gives the bridge a carrier, and only then the kernel begins to look for duplicates of the
    // gateway's address.
    eventually("the gateway's address is sure", PATIENCE, || {
        Node.run("ip -6 addr show dev lab0 tentative").is_empty()
    });
    all_answer();
    containerd.crash_and_restart(all_answer);
    all_answer();
    assert_eq!(containerd.cri.status(&web.id).expect("its status").addresses, web.addresses);

    let memory = ["/var/lib/cni/results", "/var/lib/cni/cache"].map(Path::new);
    assert!(memory.iter().any(|directory| directory.exists()), "libcni remembers");
    for directory in memory {
        let _ = fs::remove_dir_all(directory);
    }
    containerd.remove_pod(&web);
    containerd.remove_pod(&other);
    for to in [lab::NODE, lab::NODE_V6] {
        assert!(lab::ask_tcp(&world, SocketAddr::new(to, 8080)).is_err(), "the host port outlived its pod");
    }
    assert_nothing_is_left(&[web.addresses, other.addresses].concat());
    assert!(Node.run("nft list ruleset").lines().all(|line| !line.contains("8080")));
}
