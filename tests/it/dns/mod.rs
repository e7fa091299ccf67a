//! The name server as pods and programs of the node meet it: real sockets, real records, Debian's `dig`.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

pub(crate) mod ask;
mod forward;
mod host_network;
mod intercept;
mod many;
mod names;
mod resolved;
mod resolvers;
mod restart;
mod sockets;
mod tool;

use std::io::Read as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{self, Netns, Node, Output, Place, Plugin, eventually, our_plugins};

const GATEWAY: &str = "10.77.0.1";
/// What every node has, in a network with a name server.
const OWN: &str = "169.254.0.2";
const SOCKET: &str = "/run/smarter-cni/dns.sock";
/// More than a loaded machine needs; only failures wait for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A network with both families, on the bridge `lab0`.
fn network() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "lab", "type": "bridge", "bridge": "lab0", "isDefaultGateway": true,
        "ipam": {"type": "host-local", "dataDir": "/run/cni/networks", "ranges": [[{"subnet": "10.77.0.0/24"}]]}
    })
}

/// One pod, attached as a runtime does it.
struct Pod {
    netns: Netns,
    arguments: String,
    address: String,
    host_if: String,
}

impl Pod {
    fn new(namespace: &str, name: &str) -> Self {
        Self::in_container(namespace, name, name)
    }

    fn in_container(namespace: &str, name: &str, container: &str) -> Self {
        Self::of_network(&network(), namespace, name, container)
    }

    /// Of a network that has the name server's own address besides.
    fn with_name_server(namespace: &str, name: &str) -> Self {
        let mut network = network();
        network["nodeDns"] = OWN.into();
        Self::of_network(&network, namespace, name, name)
    }

    fn of_network(network: &Value, namespace: &str, name: &str, container: &str) -> Self {
        let netns = Netns::new(container);
        let arguments = format!("K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
        let result = call("ADD", network, &netns, &arguments).succeed().json;
        let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap();
        let host_if = result["interfaces"][1]["name"].as_str().unwrap();
        Self { netns, arguments, address: address.to_owned(), host_if: host_if.to_owned() }
    }

    fn detach(&self) {
        call("DEL", &network(), &self.netns, &self.arguments).succeed();
    }
}

fn call(verb: &str, network: &Value, netns: &Netns, arguments: &str) -> Plugin {
    Plugin::new(our_plugins(), "bridge")
        .command(verb)
        .container(netns.name())
        .netns(netns)
        .ifname("eth0")
        .env("CNI_ARGS", &format!("IgnoreUnknown=1;{arguments}"))
        .json(network)
}

/// A running name server; it is ended with the test.
#[derive(Debug)]
pub(crate) struct Role {
    child: Child,
}

impl Role {
    /// Serves when this returns.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let before = counted("queries").is_some();
        let mut role = Self::spawn(&lab::binary().display().to_string(), variables);
        if before {
            return role;
        }
        eventually("the name server serves", PATIENCE, || {
            assert!(role.child.try_wait().unwrap().is_none(), "it ended: {}", role.words());
            counted("queries").is_some()
        });
        role
    }

    fn spawn(program: &str, variables: &[(&str, &str)]) -> Self {
        let mut command = Node.command(&format!("{program} dns"));
        command.envs(variables.iter().copied()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap() }
    }

    pub(crate) fn signal(&self, signal: &str) {
        Node.run(&format!("kill -{signal} {}", self.child.id()));
    }

    /// What it printed until its end.
    fn words(&mut self) -> String {
        let mut words = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        words
    }

    /// Ends it with SIGTERM, and returns what it printed.
    fn end(mut self) -> String {
        self.signal("TERM");
        assert!(self.child.wait().unwrap().success());
        self.words()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `smarter-cni <words>`.
fn run(words: &str) -> Output {
    let out = Node.command(&format!("{} {words}", lab::binary().display())).output().unwrap();
    let stdout = String::from_utf8(out.stdout).unwrap();
    Output {
        status: out.status.code().unwrap_or(-1),
        json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
        stdout,
        stderr: String::from_utf8(out.stderr).unwrap(),
    }
}

fn succeeds(words: &str) -> Output {
    let out = run(words);
    assert_eq!(out.status, 0, "{words}: {out}");
    out
}

/// One of the counters of the server that runs; `None` when none does.
fn counted(name: &str) -> Option<u64> {
    run("status --json").json["dns"]["counters"][name].as_u64()
}

/// What `dig` prints of an answer.
fn dig(place: &impl Place, words: &str) -> String {
    let words = if words.contains('@') { words.to_owned() } else { format!("@{GATEWAY} {words}") };
    let out =
        place.command(&format!("dig +time=2 +tries=1 {words}")).output().expect("dig, from bind9-dnsutils");
    String::from_utf8(out.stdout).unwrap()
}

/// The data of its records, sorted; or the status, if there are none.
pub(crate) fn answer(place: &impl Place, words: &str) -> String {
    let text = dig(place, &format!("+noall +answer +comments {words}"));
    let is_record = |line: &&str| !line.is_empty() && !line.starts_with(';');
    let mut data: Vec<_> =
        text.lines().filter(is_record).filter_map(|line| line.split_whitespace().nth(4)).collect();
    data.sort_unstable();
    if !data.is_empty() {
        return data.join(" ");
    }
    let status = text.split("status: ").nth(1).and_then(|rest| rest.split(',').next());
    status.unwrap_or("silence").to_owned()
}
