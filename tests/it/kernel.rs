//! The kernel's languages against the real kernel, with `ip` as the second opinion.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::io::Read;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use smarter_cni::kernel::link::{Change, Link, NewBridge, NewVeth, Peer};
use smarter_cni::kernel::{Netns, RouteSocket, link};
use smarter_cni::net::{IfName, Mac};

mod addressing;
mod links;
mod surroundings;

/// The highest, so that a bridge which chose by itself would show another one.
const BRIDGE_MAC: Mac = Mac([0x02, 0x42, 0, 0, 0, 9]);
const HOST_MAC: Mac = Mac([0x02, 0x42, 0, 0, 0, 2]);
const POD_MAC: Mac = Mac([0x02, 0x42, 0, 0, 0, 3]);

/// A namespace like a pod's: it exists as long as its one process.
struct Pod(Child);

impl Pod {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, from util-linux");
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).expect("the pod starts");
        Self(child)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn netns(&self) -> Netns {
        Netns::open(&self.path()).expect("the pod's namespace")
    }

    fn socket(&self) -> RouteSocket {
        self.netns().visit(RouteSocket::open).expect("visit").expect("socket")
    }

    fn ip(&self, arguments: &[&str]) -> Value {
        let net = format!("--net={}", self.path());
        let mut command = vec!["nsenter", &net, "ip", "-j", "-d"];
        command.extend(arguments);
        json(&command)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &[&str]) -> Value {
    let mut command = vec!["ip", "-j", "-d"];
    command.extend(arguments);
    json(&command)
}

fn json(command: &[&str]) -> Value {
    let run = Command::new(command[0]).args(&command[1..]).output().expect(command[0]);
    let error = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{command:?}: {error}");
    if run.stdout.is_empty() {
        Value::Array(Vec::new())
    } else {
        serde_json::from_slice(&run.stdout).unwrap()
    }
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn named(socket: &mut RouteSocket, name: &str) -> Link {
    link::by_name(socket, name).unwrap().unwrap_or_else(|| panic!("{name} is missing"))
}

fn bridge(socket: &mut RouteSocket) -> Link {
    let cni0 = name("cni0");
    let new = NewBridge { name: &cni0, mac: Some(BRIDGE_MAC), mtu: Some(1400), vlan_filtering: false };
    link::add_bridge(socket, &new).unwrap();
    let bridge = named(socket, "cni0");
    let up = Change { up: Some(true), ..Change::default() };
    link::change(socket, bridge.index, "cni0", &up).unwrap();
    named(socket, "cni0")
}

/// `veth1`, up on the bridge, and `eth0` in the pod, down.
fn veth(socket: &mut RouteSocket, bridge: &Link, pod: &Pod) -> Link {
    let (host, eth0, netns) = (name("veth1"), name("eth0"), pod.netns());
    let peer = Peer { name: &eth0, mac: Some(POD_MAC), mtu: Some(1300), netns: Some(netns.fd()) };
    let new = NewVeth {
        name: &host,
        mtu: Some(1300),
        mac: Some(HOST_MAC),
        up: true,
        master: Some(bridge.index),
        peer,
    };
    link::add_veth(socket, &new).unwrap();
    named(socket, "veth1")
}

/// What `ip -j -d link` says about the same link.
fn assert_same(ours: &Link, theirs: &Value) {
    assert_eq!(ours.name, theirs["ifname"]);
    assert_eq!(ours.index, theirs["ifindex"]);
    assert_eq!(ours.mtu, theirs["mtu"]);
    assert_eq!(ours.mac.map(|mac| mac.to_string()).as_deref(), theirs["address"].as_str());
    assert_eq!(ours.kind.as_deref(), theirs["linkinfo"]["info_kind"].as_str());
    assert_eq!(ours.alias.as_deref(), theirs["ifalias"].as_str());
    assert_eq!(ours.promiscuous, theirs["promiscuity"] != 0);
    let up = theirs["flags"].as_array().unwrap().contains(&"UP".into());
    assert_eq!(ours.up, up);
    let port = &theirs["linkinfo"]["info_slave_data"];
    assert_eq!(ours.hairpin, port["hairpin"].as_bool());
    assert_eq!(ours.isolated, port["isolated"].as_bool());
}
