//! The bridge plugin against the kernel: what every key does to links, addresses, routes and packets, what every verb
//! leaves behind, and what a run that was killed on the way leaves for the next.
//!
//! VLANs need another kernel and have a file of their own.

mod check;
mod cost;
mod crowd;
mod egress;
mod foreign_ipam;
mod gateway;
mod killed;
mod name_server;
mod node;
mod pod;
mod port;
mod refusal;
mod removal;
mod reply;
mod taken;
mod turnover;

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{self, Foreign, Netns, Node, Output, Place, Plugin, our_plugins};

const LEASES: &str = "/var/lib/cni/networks";
const RECORDS: &str = "/run/smarter-cni/attachments";

/// One network, as its administrator configured it.
#[derive(Clone)]
struct Network {
    config: Value,
    plugins: std::path::PathBuf,
}

impl Network {
    /// A bridge `br0` without addresses, and `keys` on top. A key that is null is taken away.
    fn layer2(keys: &Value) -> Self {
        let config = json!({"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0"});
        Self { config, plugins: our_plugins().to_owned() }.with(keys)
    }

    /// A bridge `br0` that is the gateway of 10.1.2.0/24, and `keys` on top.
    fn gateway(keys: &Value) -> Self {
        let ipam = json!({"type": "host-local", "subnet": "10.1.2.0/24"});
        Self::layer2(&json!({"isGateway": true, "ipam": ipam})).with(keys)
    }

    /// A bridge `br0` that is the default gateway of 10.1.2.0/24 and fd00:1::/64, and `keys` on top.
    fn dual(keys: &Value) -> Self {
        let ranges = json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00:1::/64"}]]);
        let ipam = json!({"type": "host-local", "ranges": ranges});
        Self::layer2(&json!({"isDefaultGateway": true, "ipam": ipam})).with(keys)
    }

    fn with(mut self, keys: &Value) -> Self {
        for (key, value) in keys.as_object().expect("an object of keys") {
            self.config[key] = value.clone();
            if value.is_null() {
                self.config.as_object_mut().expect("an object").remove(key);
            }
        }
        self
    }

    /// With the keys of `ipam` on top of those that are there.
    fn ipam(mut self, keys: &Value) -> Self {
        for (key, value) in keys.as_object().expect("an object of keys") {
            self.config["ipam"][key] = value.clone();
        }
        self
    }

    /// A call about the interface `eth0` of a pod; the container has the name of the namespace.
    fn call(&self, verb: &str, pod: &Netns) -> Plugin {
        let bridge = Plugin::new(&self.plugins, "bridge").command(verb).json(&self.config);
        bridge.container(pod.name()).netns(pod).ifname("eth0")
    }

    /// A call about the whole network.
    fn call_all(&self, verb: &str) -> Plugin {
        Plugin::new(&self.plugins, "bridge").command(verb).json(&self.config)
    }

    fn add(&self, pod: &Netns) -> Attached {
        self.attached(pod, self.call("ADD", pod).succeed())
    }

    fn attached(&self, pod: &Netns, added: Output) -> Attached {
        let network = self.clone().with(&json!({"prevResult": added.json}));
        Attached { call: network.call("CHECK", pod), pod: Foreign(pod.path()), result: added.json }
    }
}

/// A pod's interface after a successful ADD.
struct Attached {
    /// With the result as the previous one.
    call: Plugin,
    pod: Foreign,
    result: Value,
}

impl Attached {
    fn call(&self, verb: &str) -> Plugin {
        self.call.clone().command(verb)
    }

    fn check(&self) {
        self.call("CHECK").succeed();
    }

    /// CHECK fails and says these words.
    fn check_fails(&self, words: &str) {
        let out = self.call("CHECK").run();
        assert!(out.status == 1 && out.stdout.contains(words), "CHECK does not say {words:?}: {out}");
    }

    fn del(&self) {
        self.call("DEL").succeed();
    }

    /// Of the address at that place in the result.
    fn address(&self, at: usize) -> IpAddr {
        let text = self.result["ips"][at]["address"].as_str().expect("an address");
        text.split('/').next().and_then(|a| a.parse().ok()).expect("an address with prefix")
    }

    /// The host end's name.
    fn port(&self) -> &str {
        self.result["interfaces"][1]["name"].as_str().expect("a host interface")
    }

    fn mac(&self) -> &str {
        self.result["interfaces"][2]["mac"].as_str().expect("a MAC")
    }

    /// A flag of its port on the bridge.
    fn port_flag(&self, flag: &str) -> Value {
        Node.link(self.port()).expect("the host end")["linkinfo"]["info_slave_data"][flag].clone()
    }

    /// The pod's interface.
    fn eth0(&self) -> Value {
        self.pod.link("eth0").expect("eth0")
    }
}

/// A call that fails, with these words in its message.
fn refused(call: &Plugin, words: &str) -> Output {
    let out = call.run();
    let msg = out.json["msg"].as_str().unwrap_or_default();
    assert!(out.status == 1 && msg.contains(words), "does not say {words:?}: {out}");
    out
}

fn sysctl(place: &impl Place, name: &str) -> String {
    let read = place.inside(|| fs::read_to_string(format!("/proc/sys/{name}")));
    read.unwrap_or_else(|e| panic!("{name}: {e}")).trim().to_owned()
}

fn flags(link: &Value) -> Vec<&str> {
    link["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// Two seconds, because a neighbour that missed the first question is asked again after one.
fn ping(from: &impl Place, to: impl std::fmt::Display) -> bool {
    from.command(&format!("ping -c 1 -W 2 {to}")).output().is_ok_and(|out| out.status.success())
}

/// The gateway's IPv6 address can be used once the kernel has looked for duplicates.
fn settle() {
    lab::eventually("br0 has no tentative address", Duration::from_secs(5), || {
        Node.run("ip -6 addr show dev br0 tentative").trim().is_empty()
    });
}

/// Whatever of pods is left on the node: host ends, leases, records, filter elements, neighbours. Shared things that
/// stay (the bridge, its address, forwarding, the masquerade rule) are not in it.
fn remains() -> Vec<String> {
    let mut found = Vec::new();
    for link in Node.ip("link show type veth").as_array().into_iter().flatten() {
        let name = link["ifname"].as_str().unwrap_or_default();
        if name != "up0" {
            found.push(format!("link {name}"));
        }
    }
    for network in lab::files(LEASES) {
        let kept = |name: &str| name == "lock" || name == ".boot_id" || name.starts_with("last_reserved_ip.");
        let files = lab::files(Path::new(LEASES).join(&network));
        found.extend(files.into_iter().filter(|f| !kept(f)).map(|f| format!("lease {network}/{f}")));
    }
    for dir in [RECORDS, "/run/smarter-cni/suspects"] {
        found.extend(lab::files(dir).into_iter().map(|name| format!("record {name}")));
    }
    found.extend(lab::files("/run/smarter-cni/locks").into_iter().map(|name| format!("lock {name}")));
    let rules = Node.run("nft list ruleset");
    found.extend(rules.lines().filter(|line| line.contains("\"veth")).map(|line| format!("rule {line}")));
    for entry in Node.ip("neigh show").as_array().into_iter().flatten() {
        let dst = entry["dst"].as_str().unwrap_or_default();
        if entry["dev"] != "up0" && !dst.starts_with("fe80") {
            found.push(format!("neighbour {dst}"));
        }
    }
    found
}

fn assert_nothing_remains() {
    assert_eq!(remains(), Vec::<String>::new(), "something of a pod is left on the node");
}
