//! A node as an installer leaves it, with pods that a runtime has started: configuration in /etc/cni/net.d, plugins in
//! /opt/cni/bin, nothing else in /etc.

use std::cell::RefCell;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};

use crate::dns::Role;
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
    pub(super) dual: bool,
    /// Somebody beyond the uplink.
    pub(super) world: Netns,
    /// Where pods are told to ask one.
    names: RefCell<Option<Role>>,
}

#[derive(Debug)]
pub(super) struct Pod {
    n: usize,
    pub(super) netns: Netns,
    /// The interface on the node.
    pub(super) port: String,
    /// Without prefix; the first, of IPv4.
    pub(super) address: String,
    addresses: Vec<IpAddr>,
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
        let attach = |n| Pod::attach(kind, n, &format!("web-{n}"));
        // A few get their addresses in order; of many, some at a time.
        let few = pods.min(10);
        let mut attached: Vec<_> = (0..few).map(attach).collect();
        for part in (few..pods).collect::<Vec<_>>().chunks(10) {
            thread::scope(|scope| {
                let calls: Vec<_> = part.iter().map(|n| scope.spawn(move || attach(*n))).collect();
                attached.extend(calls.into_iter().map(|call| call.join().expect("the pod is attached")));
            });
        }
        if kind.dual {
            lab::eventually("no address is tentative", Duration::from_secs(10), || {
                Node.run("ip -6 addr show tentative").trim().is_empty()
            });
        }
        let lab = Self { pods: attached, dual: kind.dual, world, names: RefCell::default() };
        if kind.keys["nodeDns"].is_string() {
            write("/etc/resolv.conf", &format!("nameserver {}\n", lab::WORLD));
            lab.serve_names(&[]);
        }
        lab
    }

    /// As on the node of somebody who reads the documentation.
    pub(super) fn serve_names(&self, variables: &[(&str, &str)]) {
        *self.names.borrow_mut() = Some(Role::start(variables));
    }

    pub(super) fn end_names(&self) {
        *self.names.borrow_mut() = None;
    }

    /// The pod's interface on the node.
    pub(super) fn port(&self, pod: usize) -> &str {
        &self.pods[pod].port
    }

    pub(super) fn addresses_of(&self, pod: usize) -> Vec<IpAddr> {
        self.pods[pod].addresses.clone()
    }
}

impl Pod {
    /// As containerd does it: loopback first, then the list.
    pub(super) fn attach(kind: &Kind, n: usize, container: &str) -> Self {
        let netns = Netns::new(container);
        let call = |verb, config: &Value, ifname| call(verb, config, &netns, n, ifname);
        call("ADD", &json!({"type": "loopback"}), "lo");
        let list = conflist(kind);
        let result = call("ADD", &list["plugins"][0], "eth0");
        call("ADD", &ports(&list["plugins"][1], &result, n), "eth0");
        let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        let addresses = result["ips"].as_array().unwrap().iter();
        let addresses =
            addresses.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap());
        let addresses = addresses.collect();
        let port = result["interfaces"][1]["name"].as_str().unwrap().to_owned();
        Self { n, netns, port, address, addresses }
    }

    pub(super) fn detach(self, kind: &Kind) {
        let list = conflist(kind);
        call("DEL", &list["plugins"][1], &self.netns, self.n, "eth0");
        call("DEL", &list["plugins"][0], &self.netns, self.n, "eth0");
    }
}

fn ports(portmap: &Value, result: &Value, n: usize) -> Value {
    let mut portmap = portmap.clone();
    portmap["prevResult"] = result.clone();
    let mapping = json!({"hostPort": 8080 + n, "containerPort": 80, "protocol": "tcp"});
    portmap["runtimeConfig"] = json!({"portMappings": [mapping]});
    portmap
}

/// A call about the container that is called as its namespace, of pod `default/web-<n>`.
fn call(verb: &str, config: &Value, netns: &Netns, n: usize, ifname: &str) -> Value {
    let mut config = config.clone();
    (config["name"], config["cniVersion"]) = ("smartnet".into(), "1.0.0".into());
    let plugin = config["type"].as_str().unwrap().to_owned();
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-{n}");
    let call = Plugin::new(BIN, &plugin).command(verb).container(netns.name()).netns(netns).ifname(ifname);
    call.env("CNI_ARGS", &args).json(&config).succeed().json
}

/// What a person would type on the node, line by line; panics at the first that fails.
pub(super) fn sh(script: &str) {
    let out = std::process::Command::new("sh").args(["-ec", script]).output().expect("sh");
    assert!(out.status.success(), "`{script}`: {}", String::from_utf8_lossy(&out.stderr));
}
