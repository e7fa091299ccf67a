//! Uplinks that carry less than the pods' links.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::{add, check, forwarding, network, plugin, pod};
use crate::lab::{self, Netns, Node, Place, WORLD};
use crate::sandbox::{run, sandboxed};

const MIB: usize = 1024 * 1024;

/// The world behind a router whose far side carries 1400 bytes and who never says so: `world — router — node`.
fn narrow_world() -> Netns {
    let router = lab::world();
    // What the node's own uplink carries is what its route says, as PPPoE and LTE interfaces do.
    Node.run("ip link set up0 mtu 1400");
    router.run("ip link set world0 mtu 1400");
    // Too-big messages are filtered everywhere, as cheap routers do.
    run("nft", &["add", "table", "ip", "mute"]);
    for (hook, rule) in [
        ("output", "icmp type destination-unreachable drop"),
        ("forward", "icmp type destination-unreachable drop"),
    ] {
        let chain = format!("add chain ip mute {hook} {{ type filter hook {hook} priority 0; }}");
        run("nft", &[&chain]);
        run("nft", &[&format!("add rule ip mute {hook} {rule}")]);
    }
    router
}

/// Whether 1 MiB gets from the pod to the world within a few seconds.
fn uploads(pod: &Netns, world: &Netns) -> bool {
    let at = SocketAddr::new(WORLD, 7100);
    let listener = world.inside(|| TcpListener::bind(at)).unwrap();
    let received = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(4))).unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes.len()
    });
    pod.inside(|| {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(2)).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(4))).unwrap();
        let _ = stream.write_all(&vec![7; MIB]);
        drop(stream);
    });
    received.join().unwrap() == MIB
}

/// A black hole needs segments that do not fit: the world's own link must not announce that they do not.
fn wide_ends(world: &Netns) {
    // Announces 1460 although its link carries 1400.
    world.run(&format!("ip route replace {}/32 dev world0 advmss 1460", lab::NODE));
}

#[test]
fn a_narrow_uplink_that_tells_nobody_carries_a_mebibyte() {
    sandboxed(|| {
        forwarding(true);
        let world = narrow_world();
        wide_ends(&world);
        let pod = pod("pod", &network(&json!({})));
        assert!(uploads(&pod, &world));
        let table = run("nft", &["list", "table", "ip", "smarter-cni"]);
        assert!(
            table.contains(
                "\tchain mss_clamp {
\t\ttype filter hook forward priority mangle; policy accept;
\t\tiifname @clamped tcp flags syn tcp option maxseg size set rt mtu
\t\toifname @clamped tcp flags syn tcp option maxseg size set rt mtu
\t}
"
            ),
            "{table}"
        );
    });
}

#[test]
fn without_the_clamp_it_does_not() {
    sandboxed(|| {
        forwarding(true);
        let world = narrow_world();
        wide_ends(&world);
        let pod = pod("pod", &network(&json!({"mssClamp": false})));
        assert!(!uploads(&pod, &world), "the clamp would not be needed");
    });
}

#[test]
fn an_automatic_mtu_is_that_of_the_uplink() {
    sandboxed(|| {
        let _world = lab::world();
        Node.run("ip link set up0 mtu 1380");
        let config = network(&json!({"mtu": "auto"}));
        let netns = Netns::new("pod");
        let result = add(&netns, "pod", &config);
        assert_eq!(netns.link("eth0").unwrap()["mtu"], 1380);
        assert_eq!(Node.link(super::BRIDGE).unwrap()["mtu"], 1380);
        // The uplink changes; this pod keeps what it was given, the next one gets what is true then.
        Node.run("ip link set up0 mtu 1300");
        let still = check(&netns, "pod", &config, &result);
        assert_eq!(still.status, 0, "{still}");
        assert_eq!(pod("next", &config).link("eth0").unwrap()["mtu"], 1300);
        Node.run("ip route del default");
        Node.run("ip -6 route del default");
        assert_eq!(pod("alone", &config).link("eth0").unwrap()["mtu"], 1500);
    });
}

#[test]
fn the_default_route_with_the_lowest_metric_decides() {
    sandboxed(|| {
        let _world = lab::world();
        Node.run("ip route replace default via 192.0.2.2 metric 500");
        Node.run("ip route del default metric 0");
        Node.run("ip link add wwan0 mtu 1420 up type bridge");
        Node.run("ip addr add 198.18.0.1/24 dev wwan0");
        Node.run("ip route add default via 198.18.0.2 metric 100");
        assert_eq!(pod("pod", &network(&json!({"mtu": "auto"}))).link("eth0").unwrap()["mtu"], 1420);
    });
}

#[test]
fn other_words_are_refused() {
    sandboxed(|| {
        let netns = Netns::new("pod");
        let out = plugin(&netns, "pod", &network(&json!({"mtu": "automatic"}))).command("ADD").run();
        assert_eq!(out.status, 1);
        assert_eq!(out.json["code"], 999);
        assert_eq!(out.json["msg"], "failed to load netconf: mtu: \"automatic\" is not known", "{out}");
    });
}
