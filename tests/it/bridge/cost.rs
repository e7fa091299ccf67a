//! What a call costs a node, in numbers that are the same on every machine and whatever else it does: system calls and
//! pages that it touches. Times are `cargo bench`'s business.
//!
//! On the most usual node: the bridge and another pod are there, the pod gets an IPv4 address and is masqueraded, and has
//! one port in the chain.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::{IpAddr, UdpSocket};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::{Value, json};

use super::Network;
use crate::lab::{Netns, Node, Place as _, Plugin, our_plugins};
use crate::sandbox::sandboxed;

const TRACE: &str = "/run/trace";

/// Most that a call may cost.
struct Budget {
    system_calls: usize,
    page_faults: u64,
}

/// In the order in which a runtime makes them.
const BRIDGE_ADD: Budget = Budget { system_calls: 220, page_faults: 80 };
const PORTMAP_ADD: Budget = Budget { system_calls: 130, page_faults: 80 };
const PORTMAP_DEL: Budget = Budget { system_calls: 120, page_faults: 80 };
const BRIDGE_DEL: Budget = Budget { system_calls: 190, page_faults: 80 };

/// A binary without optimisation is five times as large, and its code is spread as wide.
const UNOPTIMISED: u64 = 5;

struct Pod {
    netns: Netns,
    network: Network,
}

impl Pod {
    fn new(name: &'static str) -> Self {
        let network = Network::gateway(&json!({"isDefaultGateway": true, "ipMasq": true}));
        Self { netns: Netns::new(name), network }
    }

    fn bridge(&self, verb: &str, previous: &Value) -> Plugin {
        self.network.clone().with(&json!({"prevResult": previous})).call(verb, &self.netns)
    }

    fn portmap(&self, verb: &str, port: u16, previous: &Value) -> Plugin {
        let mapping = json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"});
        let config = json!({
            "cniVersion": "1.1.0", "name": "net", "type": "portmap", "capabilities": {"portMappings": true},
            "runtimeConfig": {"portMappings": [mapping]}, "prevResult": previous,
        });
        let portmap = Plugin::new(our_plugins(), "portmap").command(verb).json(&config);
        portmap.container(self.netns.name()).netns(&self.netns).ifname("eth0")
    }

    /// The four calls of a pod's life. Each is shown to `see` before it is over, and made by it.
    fn live(&self, port: u16, mut see: impl FnMut(&str, &Budget, Plugin) -> Value) {
        let attached = see("bridge ADD", &BRIDGE_ADD, self.bridge("ADD", &Value::Null));
        let mapped = see("portmap ADD", &PORTMAP_ADD, self.portmap("ADD", port, &attached));
        see("portmap DEL", &PORTMAP_DEL, self.portmap("DEL", port, &mapped));
        see("bridge DEL", &BRIDGE_DEL, self.bridge("DEL", &attached));
    }
}

/// Another pod that stays, and what the first pod of a node makes.
fn inhabited() -> Pod {
    let resident = Pod::new("resident");
    let attached = resident.bridge("ADD", &Value::Null).succeed().json;
    resident.portmap("ADD", 18_002, &attached).succeed();
    resident
}

fn system_calls(call: Plugin) -> (Value, BTreeMap<String, usize>) {
    let answer = call.under(&["strace", "-f", "-qq", "-o", TRACE]).succeed().json;
    let trace = fs::read_to_string(TRACE).expect("strace's file");
    let mut calls = BTreeMap::new();
    for line in trace.lines() {
        // `<pid> <call>(…`; a call that was interrupted has a second line, which is none of its own.
        let name = line.split_whitespace().nth(1).and_then(|text| text.split_once('('));
        if let Some((name, _)) = name {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    (answer, calls)
}

/// What the kernel counted for the process, from its beginning to its end.
fn page_faults(call: &Plugin) -> (Value, u64) {
    let mut child = call.start();
    let mut answer = Vec::new();
    child.stdout.take().expect("a pipe").read_to_end(&mut answer).expect("an answer");
    let id = Pid::from_child(&child);
    // It has ended, and is remembered until it is waited for again.
    waitid(WaitId::Pid(id), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).expect("the plugin ends");
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("what is left of the process");
    assert!(child.wait().expect("the plugin ends").success(), "{}", String::from_utf8_lossy(&answer));
    // proc_pid_stat(5): the tenth field, and the second may have blanks in it.
    let fields = stat.rsplit_once(')').expect("a name in brackets").1;
    let faults = fields.split_whitespace().nth(7).and_then(|field| field.parse().ok());
    (serde_json::from_slice(&answer).unwrap_or(Value::Null), faults.expect("a number of faults"))
}

#[test]
fn a_pod_takes_few_system_calls() {
    sandboxed(|| {
        let _resident = inhabited();
        let mut over = Vec::new();
        let mut see = |what: &str, budget: &Budget, call: Plugin| {
            let (answer, calls) = system_calls(call);
            let sum: usize = calls.values().sum();
            assert!(calls.contains_key("exit_group") && calls.contains_key("sendto"), "{what}: {calls:?}");
            if sum > budget.system_calls {
                over.push(format!(
                    "{what} makes {sum} system calls, at most {}: {calls:?}",
                    budget.system_calls
                ));
            }
            answer
        };
        let pod = Pod::new("pod");
        // The second time everything is there that the first one made.
        pod.live(18_003, |_, _, call| call.succeed().json);
        pod.live(18_003, &mut see);
        assert!(over.is_empty(), "{}", over.join("\n"));
    });
}

/// What a call has found out once it knows: which boot this is, and who holds the leases.
#[test]
fn a_call_asks_for_the_boot_once_and_locks_the_leases_once() {
    sandboxed(|| {
        let resident = inhabited();
        let mut see = |what: &str, _: &Budget, call: Plugin| {
            let (answer, _) = system_calls(call);
            let trace = fs::read_to_string(TRACE).expect("strace's file");
            let count = |words: &str| trace.lines().filter(|line| line.contains(words)).count();
            assert_eq!(count("\"/proc/sys/kernel/random/boot_id\""), 1, "{what}:\n{trace}");
            // That of the leases is everybody's to read, the node's is not.
            let locks =
                trace.lines().filter(|line| line.contains("\"lock\", O_RD") && line.contains(", 0750)"));
            assert_eq!(locks.count(), usize::from(what.starts_with("bridge")), "{what}:\n{trace}");
            answer
        };
        let pod = Pod::new("pod");
        pod.live(18_003, &mut see);
        // The last one of the node, behind which forwarding is given back.
        let attached = pod.bridge("ADD", &Value::Null).succeed().json;
        let mapped = pod.portmap("ADD", 18_003, &attached).succeed().json;
        see("bridge CHECK", &BRIDGE_ADD, pod.bridge("CHECK", &attached));
        see("portmap CHECK", &PORTMAP_ADD, pod.portmap("CHECK", 18_003, &mapped));
        pod.network.call("DEL", &resident.netns).succeed();
        see("bridge DEL", &BRIDGE_DEL, pod.bridge("DEL", &attached));
    });
}

/// The budget is that of the binary that is shipped; of what `cargo test` built for itself, a multiple of it.
#[test]
fn a_pod_touches_few_pages() {
    let factor = if crate::lab::is_released() { 1 } else { UNOPTIMISED };
    sandboxed(|| {
        let _resident = inhabited();
        let mut over = Vec::new();
        let mut see = |what: &str, budget: &Budget, call: Plugin| {
            let (answer, faults) = page_faults(&call);
            assert!(faults > 10, "{what}: nothing was counted");
            if faults > budget.page_faults * factor {
                over.push(format!(
                    "{what} touches {faults} pages, at most {}: `perf trace -F all` names them",
                    budget.page_faults * factor
                ));
            }
            answer
        };
        let pod = Pod::new("pod");
        pod.live(18_003, |_, _, call| call.succeed().json);
        pod.live(18_003, &mut see);
        assert!(over.is_empty(), "{}", over.join("\n"));
    });
}

/// Flows are forgotten while they are listed: what a pod leaves in the table is no matter of memory.
#[test]
fn a_pod_with_many_flows_takes_no_more_memory() {
    const FLOWS: u16 = 50_000;
    sandboxed(|| {
        let _resident = inhabited();
        let pod = Pod::new("pod");
        let faults_with = |flows: u16| {
            let attached = pod.bridge("ADD", &Value::Null).succeed().json;
            let gateway: IpAddr =
                attached["ips"][0]["gateway"].as_str().expect("a gateway").parse().expect("an address");
            pod.netns.inside(|| {
                let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
                // That nobody listens on the last one is reported here.
                (1..=flows).for_each(|port| drop(socket.send_to(b"?", (gateway, port))));
            });
            let listed = Node.run("conntrack -C");
            assert!(listed.trim().parse::<u16>().expect("a number") > flows / 2, "{listed}");
            let faults = page_faults(&pod.bridge("DEL", &attached)).1;
            assert!(Node.run("conntrack -C").trim().parse::<u16>().expect("a number") < 100);
            faults
        };
        let (few, many) = (faults_with(10), faults_with(FLOWS));
        // A list of them would have 3,000 pages.
        assert!(many < few + 200, "{few} pages with few flows, {many} with {FLOWS}");
    });
}
