//! A node with pods that ask for everything, from the first ADD to the last DEL, with a rule set that somebody flushes in
//! between: what one kernel does for us, older and newer ones must do, too. tests/vm/run boots those.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};

use crate::lab::{
    self, Answer, NODE, NODE_V6, Netns, Node, Place, Plugin, WORLD, WORLD_V6, ask_tcp, ask_udp, serve_tcp,
    serve_udp,
};
use crate::sandbox::sandboxed;

const BIN: &str = "/opt/cni/bin";
const BRIDGE: &str = "smartnet0";
/// Of the node, to 80 and 53 of the pod.
const TCP: u16 = 8080;
const UDP: u16 = 8053;

fn conflist() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "smartnet",
        "plugins": [
            {
                "type": "smarter-bridge", "bridge": BRIDGE, "isDefaultGateway": true, "ipMasq": true,
                "hairpinMode": true, "macspoofchk": true, "portIsolation": true, "mtu": 1400,
                "ipam": {
                    "type": "smarter-ipam", "dataDir": "/run/cni/networks",
                    "ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd07::/64"}]],
                },
            },
            {"type": "smarter-portmap", "capabilities": {"portMappings": true}, "snat": true},
        ],
    })
}

/// Makes the sandbox a node as an installer leaves it, and returns its neighbour.
fn node() -> Netns {
    for directory in ["/etc", "/opt"] {
        fs::create_dir_all(directory).unwrap_or_else(|e| panic!("{directory}: {e}"));
        mount("tmpfs", directory, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")
            .unwrap_or_else(|e| panic!("{directory}: {e}"));
    }
    for directory in [BIN, "/etc/cni/net.d"] {
        fs::create_dir_all(directory).unwrap_or_else(|e| panic!("{directory}: {e}"));
    }
    for name in ["smarter-bridge", "smarter-ipam", "smarter-portmap", "smarter-loopback", "loopback"] {
        symlink(lab::binary(), Path::new(BIN).join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    // As whoever sets up a node for Kubernetes does; doctor asks for it.
    Node.run("modprobe br_netfilter");
    fs::write("/etc/cni/net.d/0-smarter.conflist", conflist().to_string()).expect("the configuration");
    lab::world()
}

struct Pod {
    netns: Netns,
    mapped: bool,
    result: Value,
}

impl Pod {
    fn new(name: &str, mapped: bool) -> Self {
        let mut pod = Self { netns: Netns::new(name), mapped, result: Value::Null };
        let loopback = json!({"cniVersion": "1.0.0", "name": "cni-loopback", "type": "loopback"});
        let call = Plugin::new(BIN, "loopback").command("ADD").container(name).netns(&pod.netns);
        call.ifname("lo").json(&loopback).succeed();
        pod.call("ADD");
        pod
    }

    /// One plugin of the list, as a runtime calls it.
    fn one(&mut self, verb: &str, plugin: usize) {
        let mut config = conflist()["plugins"][plugin].clone();
        (config["name"], config["cniVersion"]) = ("smartnet".into(), "1.0.0".into());
        if !self.result.is_null() {
            config["prevResult"] = self.result.clone();
        }
        if plugin == 1 && self.mapped {
            config["runtimeConfig"] = json!({"portMappings": [
                {"hostPort": TCP, "containerPort": 80, "protocol": "tcp"},
                {"hostPort": UDP, "containerPort": 53, "protocol": "udp"},
            ]});
        }
        let name = config["type"].as_str().expect("a type").to_owned();
        let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", self.netns.name());
        let call = Plugin::new(BIN, &name).command(verb).container(self.netns.name()).netns(&self.netns);
        let answer = call.ifname("eth0").env("CNI_ARGS", &args).json(&config).succeed();
        if verb == "ADD" {
            self.result = answer.json;
        }
    }

    fn call(&mut self, verb: &str) {
        let plugins = if verb == "DEL" { [1, 0] } else { [0, 1] };
        for plugin in plugins {
            self.one(verb, plugin);
        }
    }

    fn address(&self, v6: bool) -> IpAddr {
        let text = self.result["ips"][usize::from(v6)]["address"].as_str().expect("an address");
        text.split('/').next().and_then(|text| text.parse().ok()).expect("an address")
    }

    fn serve(&self) {
        for v6 in [false, true] {
            serve_tcp(&self.netns, SocketAddr::new(self.address(v6), 80), self.netns.name());
            serve_udp(&self.netns, SocketAddr::new(self.address(v6), 53), self.netns.name());
        }
    }
}

/// What pods are promised, in both families and with both protocols.
fn assert_works(world: &Netns, client: &Pod, outside: [SocketAddr; 2]) {
    for (to, seen_as) in [(NODE, WORLD), (NODE_V6, WORLD_V6)] {
        let wanted = Answer { token: "web".to_owned(), seen_as };
        assert_eq!(ask_tcp(world, (to, TCP)).unwrap_or_else(|e| panic!("tcp {to}: {e}")), wanted);
        assert_eq!(ask_udp(world, (to, UDP)).unwrap_or_else(|e| panic!("udp {to}: {e}")), wanted);
    }
    for (to, seen_as) in outside.into_iter().zip([NODE, NODE_V6]) {
        let answer = ask_udp(&client.netns, to).unwrap_or_else(|e| panic!("udp {to}: {e}"));
        assert_eq!((answer.token.as_str(), answer.seen_as), ("world", seen_as));
    }
}

fn ours(arguments: &str) -> (i32, Value) {
    let out = Node.command(&format!("{} {arguments}", lab::binary().display())).output().expect("it runs");
    let text = String::from_utf8_lossy(&out.stdout);
    let json = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{arguments}: {e}: {out:?}"));
    (out.status.code().unwrap_or(-1), json)
}

/// What `doctor` finds.
fn findings() -> BTreeSet<String> {
    let (_, diagnosis) = ours("doctor --json --strict");
    let rows = diagnosis["findings"].as_array().unwrap_or_else(|| panic!("{diagnosis}"));
    let strange = rows.iter().filter(|row| row["status"] != "ok" && row["status"] != "skipped");
    strange
        .map(|row| {
            [&row["status"], &row["id"], &row["object"], &row["detail"]].map(Value::to_string).join(" ")
        })
        .collect()
}

/// `reconcile`, and how many steps it took.
fn steps() -> usize {
    let (status, report) = ours("reconcile --json");
    assert_eq!((status, &report["failures"]), (0, &json!([])), "{report:#}");
    let changes = report["changes"].as_array().unwrap_or_else(|| panic!("{report}"));
    changes.iter().filter_map(|change| change["steps"].as_array()).map(Vec::len).sum()
}

/// Links, leases, records, and elements of our tables that name a pod.
fn remains() -> Vec<String> {
    let links = Node.ip("link show type veth");
    let names = links.as_array().into_iter().flatten().filter_map(|link| link["ifname"].as_str());
    let mut left: Vec<String> = names.filter(|name| *name != "up0").map(str::to_owned).collect();
    let leases = lab::files("/run/cni/networks/smartnet").into_iter();
    left.extend(leases.filter(|name| name.parse::<IpAddr>().is_ok()));
    left.extend(lab::files("/run/smarter-cni/attachments").into_iter().filter(|name| name.contains(".json")));
    let rules = Node.run("nft list ruleset");
    let of_pods =
        rules.lines().filter(|line| ["default/", "10.7.0.2", "fd07::2"].iter().any(|w| line.contains(w)));
    left.extend(of_pods.map(str::to_owned));
    left
}

#[test]
#[ignore = "needs another kernel: run by tests/vm/run"]
fn pods_of_both_families_live_through_a_flushed_rule_set() {
    sandboxed(|| {
        let world = node();
        let outside = [WORLD, WORLD_V6].map(|address| serve_udp(&world, (address, 7000), "world"));
        let (mut web, mut client) = (Pod::new("web", true), Pod::new("client", false));
        lab::eventually("no address is tentative", Duration::from_secs(30), || {
            Node.run("ip -6 addr show tentative").trim().is_empty()
        });
        web.serve();
        for pod in [&mut web, &mut client] {
            pod.call("CHECK");
        }
        assert_works(&world, &client, outside);
        let isolated = ask_tcp(&client.netns, (web.address(false), 80));
        assert!(isolated.is_err(), "{isolated:?}");
        assert_eq!(findings(), BTreeSet::new());
        assert_eq!(steps(), 0, "nothing is missing yet");

        Node.run("nft flush ruleset");
        assert!(ask_tcp(&world, (NODE, TCP)).is_err(), "the rules were what led to the pod");
        assert!(!findings().is_empty(), "doctor sees that they are gone");
        assert_ne!(steps(), 0, "they were missed");
        assert_eq!(steps(), 0, "and they are back");
        assert_works(&world, &client, outside);
        assert_eq!(findings(), BTreeSet::new());

        for pod in [&mut web, &mut client] {
            pod.call("CHECK");
            pod.call("DEL");
        }
        assert_eq!(remains(), Vec::<String>::new());
    });
}

#[test]
#[ignore = "needs another kernel: run by tests/vm/run"]
fn the_self_test_passes() {
    sandboxed(|| {
        let (status, report) = ours("selftest --json");
        assert_eq!((status, &report["passed"]), (0, &json!(true)), "{report:#}");
    });
}
