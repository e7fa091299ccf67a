//! A node as an installer leaves it, with pods that a runtime has started: configuration in /etc/cni/net.d, plugins in
//! /opt/cni/bin, nothing else in /etc.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};

use crate::lab::{self, Netns, Node, Place, Plugin};

pub(super) const CONFLIST: &str = "/etc/cni/net.d/0-smarter.conflist";
pub(super) const BIN: &str = "/opt/cni/bin";
pub(super) const BRIDGE: &str = "smartnet0";
/// Where leases are.
pub(super) const LEASES: &str = "/run/cni/networks/smartnet";

/// How the network of a test differs from the usual one.
#[derive(Clone, Debug, Default)]
pub(super) struct Kind {
    pub(super) dual: bool,
    /// On top of the bridge plugin's keys.
    pub(super) keys: Value,
    pub(super) subnet: Option<&'static str>,
}

#[derive(Debug)]
pub(super) struct Lab {
    pub(super) pods: Vec<Pod>,
    _world: Netns,
}

#[derive(Debug)]
pub(super) struct Pod {
    pub(super) netns: Netns,
    /// The interface on the node.
    pub(super) port: String,
    /// Without prefix.
    pub(super) address: String,
}

/// A file of the node, with its directories.
pub(super) fn write(path: &str, text: &str) {
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap_or_else(|e| panic!("{path}: {e}"));
    fs::write(path, text).unwrap_or_else(|e| panic!("{path}: {e}"));
}

pub(super) fn conflist(kind: &Kind) -> Value {
    let subnet = kind.subnet.unwrap_or("10.7.0.0/24");
    let mut ranges = vec![json!([{"subnet": subnet}])];
    if kind.dual {
        ranges.push(json!([{"subnet": "fd07::/64"}]));
    }
    let mut bridge = json!({
        "type": "smarter-bridge", "bridge": BRIDGE, "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": {"type": "smarter-ipam", "dataDir": "/run/cni/networks", "ranges": ranges},
    });
    for (key, value) in kind.keys.as_object().into_iter().flatten() {
        bridge[key] = value.clone();
    }
    json!({
        "cniVersion": "1.0.0", "name": "smartnet",
        "plugins": [bridge, {"type": "smarter-portmap", "capabilities": {"portMappings": true}, "snat": true}],
    })
}

impl Lab {
    /// Makes the sandbox such a node, with that many pods `default/web-<n>`, each with the host port 8080 + n.
    pub(super) fn new(kind: &Kind, pods: usize) -> Self {
        for directory in ["/etc", "/opt"] {
            mount("tmpfs", directory, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")
                .unwrap_or_else(|e| panic!("{directory}: {e}"));
        }
        fs::create_dir_all(BIN).unwrap();
        for name in ["smarter-bridge", "smarter-ipam", "smarter-portmap", "smarter-loopback", "loopback"] {
            symlink(lab::binary(), Path::new(BIN).join(name)).unwrap();
        }
        write(CONFLIST, &conflist(kind).to_string());
        let world = lab::world();
        // The node's own addresses must be settled before anything looks at routes.
        let pods = thread::scope(|scope| {
            let calls: Vec<_> = (0..pods).map(|n| scope.spawn(move || Pod::attach(kind, n))).collect();
            calls.into_iter().map(|call| call.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
        });
        lab::eventually("no address is tentative", Duration::from_secs(10), || {
            Node.run("ip -6 addr show tentative").trim().is_empty()
        });
        Self { pods, _world: world }
    }

    /// The pod's interface on the node.
    pub(super) fn port(&self, pod: usize) -> &str {
        &self.pods[pod].port
    }
}

impl Pod {
    fn attach(kind: &Kind, n: usize) -> Self {
        let name = format!("web-{n}");
        let netns = Netns::new(&name);
        let list = conflist(kind);
        let plugin = |config: &Value, ifname: &str| {
            let mut config = config.clone();
            (config["name"], config["cniVersion"]) = (list["name"].clone(), list["cniVersion"].clone());
            let kind = config["type"].as_str().unwrap().to_owned();
            let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}");
            let call = Plugin::new(BIN, &kind).command("ADD").container(&name).netns(&netns).ifname(ifname);
            call.env("CNI_ARGS", &args).json(&config).succeed().json
        };
        plugin(&json!({"type": "loopback"}), "lo");
        let result = plugin(&list["plugins"][0], "eth0");
        let mut portmap = list["plugins"][1].clone();
        portmap["prevResult"] = result.clone();
        let mapping = json!({"hostPort": 8080 + n, "containerPort": 80, "protocol": "tcp"});
        portmap["runtimeConfig"] = json!({"portMappings": [mapping]});
        plugin(&portmap, "eth0");
        let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        let port = result["interfaces"][1]["name"].as_str().unwrap().to_owned();
        Self { netns, port, address }
    }
}

/// What a person would type on the node, line by line; panics at the first that fails.
pub(super) fn sh(script: &str) {
    let out = std::process::Command::new("sh").args(["-ec", script]).output().expect("sh");
    assert!(out.status.success(), "`{script}`: {}", String::from_utf8_lossy(&out.stderr));
}
