//! What containerd asks of a network's plugins beside ADD and DEL, and pods that get the interfaces of several networks.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use smarter_cni::host::cri::Condition;

use super::{Containerd, Release, on_each};
use crate::cri::{HostPort, Pod};
use crate::lab::{self, Node, Place, UNDER_TEST, eventually};
use crate::labnet::{assert_nothing_is_left, conflist, ping};

on_each!(a_pod_gets_the_interfaces_of_all_networks; v2: status_is_asked_and_answered_and_gc_never_comes);

const PATIENCE: Duration = Duration::from_secs(20);
const CALLED: &str = "/run/lab-called";

/// Our plugins, each behind a script that notes what it is called for.
fn noting() -> PathBuf {
    let dir = PathBuf::from("/run/lab-plugins");
    fs::create_dir(&dir).expect("a directory");
    for name in ["bridge", "host-local", "loopback", "portmap"] {
        let plugin = UNDER_TEST.dir().join(name);
        let script = format!(
            "#!/bin/sh\necho \"$CNI_COMMAND {name}\" >>{CALLED}\nexec {plugin}\n",
            plugin = plugin.display()
        );
        let path = dir.join(name);
        fs::write(&path, script).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
    }
    dir
}

fn ready(containerd: &Containerd) -> Condition {
    containerd.says().network_ready().cloned().expect("the condition")
}

fn called(what: &str) -> usize {
    fs::read_to_string(CALLED).unwrap_or_default().lines().filter(|line| line.starts_with(what)).count()
}

/// As an installer does: containerd looks when a file is renamed within its directory.
fn replace(conflist: &Value) {
    let directory = Path::new("/run/lab-containerd/net.d");
    fs::write(directory.join(".new"), conflist.to_string()).expect("a network");
    fs::rename(directory.join(".new"), directory.join("10-lab.conflist")).expect("a network");
}

/// From version 1.1.0 of a list on containerd 2 asks its plugins each time when kubelet asks containerd.
fn status_is_asked_and_answered_and_gc_never_comes(release: Release) {
    release.must_be_2();
    let mut list = conflist();
    list["cniVersion"] = "1.1.0".into();
    let mut containerd = Containerd::start(release, &noting(), &list);
    for plugin in ["bridge", "portmap"] {
        let before = called(&format!("STATUS {plugin}"));
        for _ in 0..3 {
            assert!(containerd.cri.ready());
        }
        assert_eq!(called(&format!("STATUS {plugin}")), before + 3);
    }

    // What our STATUS refuses makes the node not ready, with our words.
    let pod = containerd.run_pod(&Pod::new("one"));
    let mut closed = list.clone();
    closed["plugins"][0]["drain"] = true.into();
    replace(&closed);
    eventually("the node is not ready", PATIENCE, || !ready(&containerd).met);
    let refused = ready(&containerd);
    assert_eq!(refused.reason, "NetworkPluginNotReady");
    assert!(refused.message.contains("drain"), "{refused:?}");
    let error = containerd.cri.run_pod(&Pod::new("two")).expect_err("no pod comes").to_string();
    assert!(error.contains("drain"), "{error}");
    replace(&list);
    eventually("the node is ready again", PATIENCE, || ready(&containerd).met);

    containerd.crash_and_restart(|| ());
    containerd.remove_pod(&pod);
    containerd.run_pod(&Pod::new("three"));
    // Also what it remembers of the pod that was refused.
    for sandbox in containerd.cri.all_sandboxes() {
        containerd.cri.stop_pod(&sandbox.id).expect("stop");
        containerd.cri.remove_pod(&sandbox.id).expect("remove");
    }
    assert_nothing_is_left(&pod.addresses);
    assert!(called("ADD bridge") >= 3 && called("DEL bridge") >= 2);
    assert_eq!((called("GC"), called("CHECK")), (0, 0), "containerd calls them now: prove what they do");
}

/// With `max_conf_num = 0` containerd loads every network and gives each pod an interface of all, at the same time.
fn a_pod_gets_the_interfaces_of_all_networks(release: Release) {
    let world = lab::world();
    let first = conflist();
    // The same capabilities as the first: containerd tells both of the pod's ports.
    let second = json!({
        "cniVersion": "1.0.0", "name": "second",
        "plugins": [
            {
                "type": "bridge", "bridge": "lab1", "isGateway": true,
                "ipam": {"type": "host-local", "dataDir": "/run/cni/networks", "ranges": [[{"subnet": "10.78.0.0/24"}]]}
            },
            {"type": "portmap", "capabilities": {"portMappings": true}}
        ]
    });
    let dir = Containerd::directory();
    let configuration = release.format().with_directories(&dir, UNDER_TEST.dir());
    let all = format!("{configuration}max_conf_num = 0\n");
    let containerd = Containerd::start_with(release, &all, &[&first, &second]);
    let names: Vec<String> =
        containerd.says().cni.expect("networks").networks.into_iter().map(|network| network.name).collect();
    assert_eq!(names, ["labnet", "second"]);

    let mut pods = Vec::new();
    for n in 2..5_u8 {
        let pod = containerd.run_pod(&Pod::new(&format!("pod{n}")));
        assert_eq!(pod.network.addresses("eth0"), [format!("10.77.0.{n}/24")]);
        assert_eq!(pod.network.addresses("eth1"), [format!("10.78.0.{n}/24")]);
        pods.push(pod);
    }
    ping(&pods[0].network, "10.77.0.4");
    ping(&pods[0].network, "10.78.0.4");
    ping(&pods[0].network, &lab::WORLD.to_string());

    let port = HostPort { udp: false, host: 8080, container: 80, address: String::new() };
    let web = containerd.run_pod(&Pod { host_ports: vec![port], ..Pod::new("web") });
    let addresses = ["eth0", "eth1"].map(|interface| web.network.addresses(interface)[0].clone());
    lab::serve_tcp(&web.network, "0.0.0.0:80".parse::<std::net::SocketAddr>().expect("any"), "web");
    let outer = std::net::SocketAddr::new(lab::NODE, 8080);
    assert_eq!(lab::ask_tcp(&world, outer).expect("the host port").token, "web");

    pods.push(web);
    for pod in &pods {
        containerd.remove_pod(pod);
    }
    assert!(lab::ask_tcp(&world, outer).is_err(), "the host port outlived its pod");
    let all = addresses.map(|address| address.split('/').next().expect("an address").to_owned());
    assert_nothing_is_left(&all);
    assert_eq!(addresses_of_second(), Vec::<String>::new());
    assert!(Node.run("nft list ruleset").lines().all(|line| !line.contains("8080")));
}

fn addresses_of_second() -> Vec<String> {
    let names = lab::files("/run/cni/networks/second");
    names.into_iter().filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
}
