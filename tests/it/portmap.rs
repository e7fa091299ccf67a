//! Host ports with real packets: who reaches a pod by a port of its node, who must not, and what stays behind.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]
#![expect(clippy::needless_pass_by_value, reason = "configurations are written where they are used")]

mod changes;
mod conflicts;
mod exposure;
mod flows;
mod paths;
mod removal;
mod scale;

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Netns, Node, Output, Place, Plugin, eventually, our_plugins};

/// A pod on a bridge of ours with gateway, masquerading and hairpin mode, and its address in each family.
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) netns: Netns,
    pub(crate) result: Value,
}

pub(crate) const NETWORK: &str = "portnet";

pub(crate) fn bridge_config() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": NETWORK, "type": "bridge", "bridge": "port0", "isDefaultGateway": true,
        "ipMasq": true, "hairpinMode": true,
        "ipam": {"type": "host-local", "dataDir": "/run/leases",
                 "ranges": [[{"subnet": "10.7.0.0/20"}], [{"subnet": "fd07::/64"}]]}
    })
}

pub(crate) fn plugin(name: &str, verb: &str, id: &str, netns: &str, config: &Value) -> Plugin {
    Plugin::new(our_plugins(), name)
        .command(verb)
        .container(id)
        .env("CNI_NETNS", netns)
        .env("CNI_ARGS", &format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={id}"))
        .ifname("eth0")
        .json(config)
}

impl Pod {
    /// Attached, without mappings.
    pub(crate) fn attached(id: &str) -> Self {
        Self::with_keys(id, &json!({}))
    }

    /// The same with more keys in the bridge's configuration.
    pub(crate) fn with_keys(id: &str, keys: &Value) -> Self {
        let netns = Netns::new(id);
        let mut config = bridge_config();
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        let result = plugin("bridge", "ADD", id, &netns.path(), &config).succeed().json;
        // A new bridge asks for a second or two whether somebody has its IPv6 addresses; until then it knows no neighbours.
        eventually("the bridge has its IPv6 addresses", Duration::from_secs(10), || {
            Node.run("ip -6 addr show dev port0 tentative").trim().is_empty()
        });
        Self { id: id.to_owned(), netns, result }
    }

    pub(crate) fn mapped(id: &str, changes: Value) -> Self {
        let pod = Self::attached(id);
        pod.portmap("ADD", changes).succeed();
        pod
    }

    pub(crate) fn config(&self, changes: Value) -> Value {
        let mut config =
            json!({"cniVersion": "1.0.0", "name": NETWORK, "type": "portmap", "prevResult": self.result});
        for (key, value) in changes.as_object().unwrap() {
            config[key] = value.clone();
        }
        config
    }

    pub(crate) fn portmap(&self, verb: &str, changes: Value) -> Plugin {
        plugin("portmap", verb, &self.id, &self.netns.path(), &self.config(changes))
    }

    /// DEL as a runtime does it: the chain backwards.
    pub(crate) fn gone(self, changes: Value) {
        self.portmap("DEL", changes).succeed();
        let mut config = bridge_config();
        config["prevResult"] = self.result.clone();
        plugin("bridge", "DEL", &self.id, &self.netns.path(), &config).succeed();
    }

    pub(crate) fn address(&self, v6: bool) -> IpAddr {
        let text = self.result["ips"][usize::from(v6)]["address"].as_str().unwrap();
        text.split('/').next().unwrap().parse().unwrap()
    }

    pub(crate) fn at(&self, v6: bool, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(v6), port)
    }
}

/// `runtimeConfig` with these ports: (protocol, host port, container port).
pub(crate) fn ports(list: &[(&str, u16, u16)]) -> Value {
    let list: Vec<_> = list
        .iter()
        .map(|(protocol, host, pod)| json!({"hostPort": host, "containerPort": pod, "protocol": protocol}))
        .collect();
    json!({"runtimeConfig": {"portMappings": list}})
}

pub(crate) fn with(mut config: Value, key: &str, value: Value) -> Value {
    config[key] = value;
    config
}

/// The elements of our maps and sets that belong to pods, as `nft` lists them.
pub(crate) fn elements() -> String {
    let mut all = String::new();
    for family in ["ip", "ip6"] {
        let table = Node.command(&format!("nft list table {family} smarter-cni")).output().unwrap();
        let table = String::from_utf8(table.stdout).unwrap();
        let mut set = "";
        for line in table.lines().map(str::trim) {
            let mut words = line.split_whitespace();
            match (words.next(), words.next()) {
                (Some("set" | "map"), Some(name)) => {
                    let of_bridges = ["pod_links", "bridges", "clamped"].contains(&name);
                    set = if of_bridges { "" } else { name };
                }
                (Some("chain"), _) => set = "",
                (Some("type" | "}" | "flags") | None, _) => {}
                _ if !set.is_empty() => writeln!(all, "{family} {set} {line}").unwrap(),
                _ => {}
            }
        }
    }
    all
}

pub(crate) fn fails_with(out: &Output, words: &str) {
    assert_ne!(out.status, 0, "{out}");
    assert!(out.json["msg"].as_str().unwrap().contains(words), "{out}");
}
