//! Firewalls and switches that belong to the node's owner, with real packets.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod foreign;
mod guard;
mod locks;
mod passage;
mod path_mtu;
mod switches;

use std::fs;
use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};

use crate::lab::{self, Netns, Node, Place, Plugin};

const BRIDGE: &str = "smartnet0";
const PORT: u16 = 7000;

/// A bridge network that masquerades, with what a test changes in it.
fn network(changes: &Value) -> Value {
    let mut config = json!({
        "cniVersion": "1.0.0", "name": "smartnet", "type": "bridge", "bridge": BRIDGE, "isDefaultGateway": true,
        "ipMasq": true, "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/24"}]]}
    });
    let changes = changes.as_object().into_iter().flatten();
    config
        .as_object_mut()
        .expect("an object")
        .extend(changes.map(|(key, value)| (key.clone(), value.clone())));
    config
}

fn plugin(pod: &Netns, id: &str, config: &Value) -> Plugin {
    Plugin::new(lab::our_plugins(), "bridge").container(id).netns(pod).ifname("eth0").json(config)
}

fn add(pod: &Netns, id: &str, config: &Value) -> Value {
    let output = plugin(pod, id, config).command("ADD").succeed();
    assert!(!output.stderr.contains("WARN"), "{output}");
    output.json
}

fn check(pod: &Netns, id: &str, config: &Value, result: &Value) -> lab::Output {
    let mut config = config.clone();
    config["prevResult"] = result.clone();
    plugin(pod, id, &config).command("CHECK").run()
}

/// A pod in that network.
fn pod(name: &str, config: &Value) -> Netns {
    let pod = Netns::new(name);
    add(&pod, name, config);
    pod
}

fn forwarding(on: bool) {
    set("net/ipv4/ip_forward", if on { "1" } else { "0" });
}

fn set(key: &str, value: &str) {
    fs::write(format!("/proc/sys/{key}"), value).unwrap_or_else(|e| panic!("{key}: {e}"));
}

fn get(key: &str) -> String {
    fs::read_to_string(format!("/proc/sys/{key}")).unwrap_or_else(|e| panic!("{key}: {e}")).trim().to_owned()
}

/// Somebody on a second uplink, whose way to the world leads through the node and back.
fn stranger(world: &Netns) -> Netns {
    let stranger = Netns::new("stranger");
    Node.run("ip link add up1 type veth peer name str0 netns stranger");
    Node.run("ip addr add 198.51.100.1/24 dev up1");
    Node.run("ip link set up1 up");
    stranger.run("ip addr add 198.51.100.2/24 dev str0");
    stranger.run("ip link set str0 up");
    stranger.run("ip route add default via 198.51.100.1");
    world.run(&format!("ip route add 198.51.100.0/24 via {}", lab::NODE));
    // What makes it an uplink, as a modem beside a cable is one.
    Node.run("ip route add default via 198.51.100.2 dev up1 metric 900");
    stranger
}

fn reaches(from: &impl Place, to: IpAddr) -> bool {
    lab::ask_tcp(from, SocketAddr::new(to, PORT)).is_ok()
}

fn serve(at: &impl Place, address: IpAddr) {
    lab::serve_tcp(at, SocketAddr::new(address, PORT), "t");
}
