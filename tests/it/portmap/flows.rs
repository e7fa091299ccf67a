//! What the flows of a busy node cost a pod with many ports, and the other pods of the node.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Pod, ports};
use crate::lab::{self, NODE, NODE_V6, Node, Place, Plugin, WORLD, WORLD_V6, eventually};
use crate::sandbox::sandboxed;

const TRACE: &str = "/run/trace";

fn many(protocol: &str, number: u16) -> Value {
    let list: Vec<_> = (0..number).map(|n| (protocol, 20_000 + n, 1_000 + n)).collect();
    ports(&list)
}

/// One packet to each of the ports: a flow each.
fn flows(from: &impl Place, source: SocketAddr, to: std::net::IpAddr, ports: std::ops::Range<u16>) {
    from.inside(|| {
        let socket = UdpSocket::bind(source).unwrap();
        // A refusal of an earlier one is reported here.
        ports.for_each(|port| drop(socket.send_to(b"?", (to, port))));
    });
}

/// Flows to the ports of [`many`].
fn stale() -> usize {
    let mut count = 0;
    for (family, at) in [("ipv4", NODE.to_string()), ("ipv6", NODE_V6.to_string())] {
        let listed = Node.run(&format!("conntrack -L -f {family} -p udp --orig-dst {at}"));
        let to = |line: &&str| {
            let port = line.split("dport=").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
            port.is_some_and(|port: u16| (20_000..20_200).contains(&port))
        };
        count += listed.lines().filter(to).count();
    }
    count
}

/// What the call says to the kernel about flows and about the node's lock, in order.
fn traced(call: Plugin) -> Vec<String> {
    call.under(&["strace", "-f", "-y", "-qq", "-o", TRACE, "-e", "trace=sendto,flock,close"]).succeed();
    let about = |line: &&str| line.contains("IPCTNL_MSG_CT_GET") || line.contains("/run/smarter-cni/lock>");
    fs::read_to_string(TRACE).unwrap().lines().filter(about).map(str::to_owned).collect()
}

fn walks(trace: &[String]) -> usize {
    trace.iter().filter(|line| line.contains("IPCTNL_MSG_CT_GET,")).count()
}

/// It is given back before the first question, and not taken again.
fn asks_without_the_lock(trace: &[String]) {
    let locked = |line: &String| line.contains("/run/smarter-cni/lock>");
    let last = trace.iter().rposition(locked).expect("the node's lock");
    let first = trace.iter().position(|line| line.contains("IPCTNL_MSG_CT_GET,")).expect("a walk");
    assert!(last < first && trace[last].contains("close("), "{trace:#?}");
}

#[test]
fn two_hundred_ports_ask_no_more_than_a_few() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::attached("dns");
        // More than are carried over when the table could be asked for less.
        flows(&world, (WORLD, 4000).into(), NODE, 1..16_000);
        flows(&world, (WORLD_V6, 4000).into(), NODE_V6, 1..2_000);
        let mut seen = Vec::new();
        for number in [8, 200] {
            let added = traced(pod.portmap("ADD", many("udp", number)));
            let deleted = traced(pod.portmap("DEL", json!({})));
            asks_without_the_lock(&added);
            asks_without_the_lock(&deleted);
            seen.push((walks(&added), walks(&deleted)));
        }
        assert!(seen[0].0 <= 24 && seen[0].1 <= 4, "{seen:?}");
        assert_eq!(seen[0], seen[1]);
        assert_eq!(walks(&traced(pod.portmap("ADD", many("tcp", 200)))), 0);
    });
}

#[test]
fn what_two_hundred_ports_leave_behind_goes_and_the_rest_stays() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::attached("dns");
        let client = Pod::attached("client");
        // However long the test takes.
        Node.run("sysctl -qw net.netfilter.nf_conntrack_udp_timeout=900");
        // Flows of others, so many that the table is asked for less.
        flows(&client.netns, client.at(false, 4000), WORLD, 1..16_000);
        let others =
            || Node.run(&format!("conntrack -L -f ipv4 -p udp --orig-src {}", client.address(false)));
        let before = others().lines().count();
        assert!(before >= 15_900, "{before}");
        // Nobody listens: the node remembers all the same that somebody asked.
        let ask = |port: u16| {
            flows(&world, (WORLD, port).into(), NODE, 20_000..20_200);
            flows(&world, (WORLD_V6, port).into(), NODE_V6, 20_000..20_200);
        };
        ask(4001);
        assert_eq!(stale(), 400);
        pod.portmap("ADD", many("udp", 200)).succeed();
        gone("after ADD");
        ask(4002);
        assert_eq!(stale(), 400);
        pod.portmap("DEL", json!({})).succeed();
        gone("after DEL");
        assert!(others().lines().count() > before - 100, "flows of another pod stay");
    });
}

/// More flows than a pod waits for, and one to each of 200 ports in both families.
fn crowd(world: &impl Place) {
    // However long the test takes.
    Node.run("sysctl -qw net.netfilter.nf_conntrack_udp_timeout=900");
    flows(world, (WORLD, 4000).into(), NODE, 1..20_000);
    flows(world, (WORLD, 4001).into(), NODE, 1..3_000);
    flows(world, (WORLD, 4002).into(), NODE, 20_000..20_200);
    flows(world, (WORLD_V6, 4002).into(), NODE_V6, 20_000..20_200);
    assert_eq!(stale(), 400);
}

/// What calls left to be done.
fn owed() -> usize {
    lab::files("/run/smarter-cni/flows").iter().filter(|name| *name != "lock").count()
}

fn gone(when: &str) {
    eventually(&format!("the flows are forgotten {when}"), Duration::from_secs(30), || stale() == 0);
    eventually(&format!("nothing is left to be done {when}"), Duration::from_secs(30), || owed() == 0);
}

/// The plugin alone, without the process that it leaves the flows to: its walks of the table.
fn walks_of(call: Plugin) -> usize {
    call.under(&["strace", "-y", "-qq", "-o", TRACE, "-e", "trace=sendto"]).succeed();
    let trace: Vec<_> = fs::read_to_string(TRACE).unwrap().lines().map(str::to_owned).collect();
    assert!(trace.iter().any(|line| line.contains("NFNL_SUBSYS_NFTABLES")), "nothing was traced");
    walks(&trace)
}

#[test]
fn nobody_waits_until_a_long_table_is_looked_through() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::attached("dns");
        crowd(&world);
        assert_eq!(walks_of(pod.portmap("ADD", many("udp", 200))), 0);
        gone("after ADD");
        let others = Node.run(&format!("conntrack -L -f ipv4 -p udp --orig-dst {NODE}")).lines().count();
        assert!(others > 20_000, "flows to other ports stay: {others}");
        crowd(&world);
        assert_eq!(walks_of(pod.portmap("DEL", json!({}))), 0);
        gone("after DEL");
    });
}

#[test]
fn flows_that_were_left_to_a_process_that_was_killed_go_with_whoever_comes_next() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::attached("dns");
        let reconcile = || Node.run(&format!("{} reconcile", lab::binary().display()));
        let gc = || {
            let mut config = pod.config(json!({"cniVersion": "1.1.0"}));
            config["cni.dev/valid-attachments"] = json!([{"containerID": "dns", "ifname": "eth0"}]);
            super::plugin("portmap", "GC", "", "", &config).env("CNI_IFNAME", "").succeed();
        };
        let add = || drop(pod.portmap("ADD", many("udp", 201)).succeed());
        let ways: [(&str, &dyn Fn()); 3] = [("reconcile", &|| drop(reconcile())), ("GC", &gc), ("ADD", &add)];
        for (who, comes) in ways {
            crowd(&world);
            fs::create_dir_all("/run/smarter-cni/flows").unwrap();
            let lock = fs::File::create("/run/smarter-cni/flows/lock").unwrap();
            // The process that ADD starts finds that another one works on it, and that one dies.
            lock.lock().unwrap();
            pod.portmap("ADD", many("udp", 200)).succeed();
            assert_eq!((owed(), stale()), (1, 400));
            std::thread::sleep(Duration::from_millis(200));
            drop(lock);
            assert_eq!((owed(), stale()), (1, 400), "nobody has come");
            comes();
            gone(&format!("by {who}"));
            pod.portmap("DEL", json!({})).succeed();
            gone("after DEL");
        }
    });
}
