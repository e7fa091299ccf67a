//! Repair against the kernel: whatever others break comes back while pods run and flows go on, what nobody wants goes, and
//! nothing else is touched.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod faults;
mod remains;
mod repeat;
mod rights;
mod sandboxes;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};

use crate::flow::Flow;
use crate::lab::{self, Netns, Node, Output, Place, Plugin, eventually, our_plugins};

const BRIDGE: &str = "house0";
const LEASES: &str = "/run/cni/networks/house";
const RECORDS: &str = "/run/smarter-cni/attachments";

/// The network list of the tests, with what a test changes in the bridge's part.
fn network(changes: &Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "house", "type": "bridge", "bridge": BRIDGE, "isDefaultGateway": true,
        "ipMasq": true, "hairpinMode": true, "macspoofchk": true,
        "ipam": {"type": "host-local", "dataDir": "/run/cni/networks",
                 "ranges": [[{"subnet": "10.8.0.0/24"}], [{"subnet": "fd08::/64"}]]}
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    config
}

fn plugin(name: &str, verb: &str, pod: &Netns, config: &Value) -> Plugin {
    Plugin::new(our_plugins(), name)
        .command(verb)
        .container(pod.name())
        .netns(pod)
        .ifname("eth0")
        .env("CNI_ARGS", &format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={}", pod.name()))
        .json(config)
}

/// A pod after the chain of both plugins.
pub(crate) struct Pod {
    pub(crate) netns: Netns,
    config: Value,
    ports: Value,
    result: Value,
}

impl Pod {
    pub(crate) fn new(name: &str, ports: &[(&str, u16, u16)]) -> Self {
        Self::on(name, &network(&json!({})), ports)
    }

    fn on(name: &str, config: &Value, ports: &[(&str, u16, u16)]) -> Self {
        let netns = Netns::new(name);
        let result = plugin("bridge", "ADD", &netns, config).succeed().json;
        let mapped = |(protocol, host, pod): &(&str, u16, u16)| json!({"hostPort": host, "containerPort": pod, "protocol": protocol});
        let mappings: Vec<_> = ports.iter().map(mapped).collect();
        let ports = json!({
            "cniVersion": "1.0.0", "name": config["name"], "type": "portmap", "prevResult": result,
            "runtimeConfig": {"portMappings": mappings}
        });
        plugin("portmap", "ADD", &netns, &ports).succeed();
        Self { netns, config: config.clone(), ports, result }
    }

    pub(crate) fn check(&self) {
        let mut config = self.config.clone();
        config["prevResult"] = self.result.clone();
        plugin("bridge", "CHECK", &self.netns, &config).succeed();
        plugin("portmap", "CHECK", &self.netns, &self.ports).succeed();
    }

    pub(crate) fn del(&self) {
        plugin("portmap", "DEL", &self.netns, &self.ports).succeed();
        plugin("bridge", "DEL", &self.netns, &self.config).succeed();
    }

    fn address(&self, at: usize) -> IpAddr {
        let text = self.result["ips"][at]["address"].as_str().unwrap();
        text.split('/').next().unwrap().parse().unwrap()
    }

    fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(0), port)
    }

    /// The host end's name.
    pub(crate) fn port(&self) -> &str {
        self.result["interfaces"][1]["name"].as_str().unwrap()
    }
}

/// `smarter-cni <arguments>`.
fn command(arguments: &str) -> Output {
    let line = format!("{} {arguments}", lab::binary().display());
    let out = Node.command(&line).output().unwrap();
    let stdout = String::from_utf8(out.stdout).unwrap();
    Output {
        status: out.status.code().unwrap_or(-1),
        json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
        stdout,
        stderr: String::from_utf8(out.stderr).unwrap(),
    }
}

fn reconcile() -> Output {
    let out = command("reconcile --json");
    assert_eq!(out.status, 0, "{out}");
    out
}

/// The steps of a report, in their order.
fn steps(report: &Output) -> Vec<String> {
    let changes = report.json["changes"].as_array().unwrap_or_else(|| panic!("no report: {report}"));
    let steps = changes.iter().flat_map(|change| change["steps"].as_array().unwrap());
    steps.map(|step| step.as_str().unwrap().to_owned()).collect()
}

fn assert_idle() {
    let out = reconcile();
    assert_eq!(steps(&out), Vec::<String>::new(), "the second run had something to do");
    assert_eq!((&out.json["failures"], &out.json["notes"]), (&json!([]), &json!([])), "{out}");
}

/// A node with an uplink, two pods, and flows of every kind between them and the world.
pub(crate) struct House {
    world: Netns,
    pub(crate) web: Pod,
    pub(crate) client: Pod,
    pub(crate) flows: Vec<Flow>,
}

impl House {
    pub(crate) fn new() -> Self {
        let world = lab::world();
        let web = Pod::new("web", &[("tcp", 8080, 80), ("udp", 8053, 53)]);
        let client = Pod::new("client", &[]);
        eventually("the bridge has its IPv6 addresses", Duration::from_secs(10), || {
            Node.run(&format!("ip -6 addr show dev {BRIDGE} tentative")).trim().is_empty()
        });
        let mut house = Self { world, web, client, flows: Vec::new() };
        house.flows = house.begin();
        house
    }

    fn begin(&self) -> Vec<Flow> {
        let Self { world, web, client, .. } = self;
        let v6 = SocketAddr::new(web.address(1), 7000);
        let node = |port| SocketAddr::new(lab::NODE, port);
        let outside = |port| SocketAddr::new(lab::WORLD, port);
        vec![
            Flow::tcp(&client.netns, web.at(7000), &web.netns, web.at(7000)),
            Flow::udp(&client.netns, web.at(7000), &web.netns, web.at(7000)),
            Flow::tcp(&client.netns, v6, &web.netns, v6),
            Flow::tcp(world, node(8080), &web.netns, web.at(80)),
            Flow::udp(world, node(8053), &web.netns, web.at(53)),
            Flow::tcp(&client.netns, outside(7001), world, outside(7001)),
            Flow::udp(&client.netns, outside(7001), world, outside(7001)),
        ]
    }

    pub(crate) fn assert_flows(&self, when: &str) {
        self.flows.iter().for_each(|flow| flow.assert_alive(when));
    }

    /// Whether nothing that was promised is missing.
    pub(crate) fn is_whole() -> bool {
        let planned = command("reconcile --json --dry-run");
        planned.json["changes"] == json!([]) && planned.json["failures"] == json!([])
    }

    /// Plans, repairs, and finds nothing more to do; pods and flows are as they were. Returns the steps.
    fn repair(&self, fault: &str) -> Vec<String> {
        let planned = command("reconcile --json --dry-run");
        assert_eq!(planned.status, 0, "{fault}: {planned}");
        let repaired = reconcile();
        assert_eq!(repaired.json["failures"], json!([]), "{fault}: {repaired}");
        let made = steps(&repaired);
        assert!(!made.is_empty(), "{fault}: nothing was missed");
        assert_eq!(steps(&planned), made, "{fault}: a dry run says what a run does");
        assert_idle();
        self.web.check();
        self.client.check();
        made
    }
}
