//! Addresses from somebody else's plugin, which is called when the pod's interface is there and up: a lease from the network
//! behind the bridge, as upstream's `dhcp` gets it, needs nothing less.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::pod::with_script;
use super::{Network, assert_nothing_remains, ping, refused};
use crate::lab::{self, Netns, Node, Place, Plugin, our_plugins};
use crate::sandbox::{sandboxed, sandboxed_daemons};

/// Where Debian's package `containernetworking-plugins` has them.
const THEIRS: &str = "/usr/lib/cni";
const SOCKET: &str = "/run/cni/dhcp.sock";

/// Our bridge plugin, and this one of theirs.
pub(super) fn beside_ours(theirs: &str) -> PathBuf {
    let dir = Path::new("/run/plugins");
    fs::create_dir_all(dir).expect("a directory for plugins");
    for (from, name) in [(our_plugins().to_owned(), "bridge"), (THEIRS.into(), theirs)] {
        let plugin = from.join(name);
        assert!(plugin.is_file(), "COULD NOT RUN: {} is missing", plugin.display());
        let _ = symlink(&plugin, dir.join(name));
    }
    dir.to_owned()
}

fn with_ipam(ipam: &Value, keys: &Value) -> Network {
    // Debian's 1.1.1 knows no later version.
    let network = Network::layer2(&json!({"cniVersion": "1.0.0", "ipam": ipam})).with(keys);
    let plugins = beside_ours(ipam["type"].as_str().expect("a type"));
    Network { plugins, ..network }
}

/// An address, a gateway and a route that are always the same.
pub(super) fn fixed() -> Network {
    of_addresses(&json!([{"address": "10.1.2.9/24", "gateway": "10.1.2.1"}]))
}

fn of_addresses(addresses: &Value) -> Network {
    let ipam = json!({"type": "static", "addresses": addresses, "routes": [{"dst": "10.7.0.0/16"}]});
    with_ipam(&ipam, &json!({"isDefaultGateway": true, "ipMasq": true, "macspoofchk": true}))
}

#[test]
fn fixed_addresses_make_a_whole_attachment() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let addresses =
            json!([{"address": "10.1.2.9/24", "gateway": "10.1.2.1"}, {"address": "fd00:1::9/64"}]);
        let attached = of_addresses(&addresses).add(&pod);
        attached.check();
        assert_eq!(pod.addresses("eth0"), ["10.1.2.9/24", "fd00:1::9/64"]);
        assert!(ping(&pod, "10.1.2.1"), "the pod does not reach its gateway");
        assert!(Node.run("nft list ruleset").contains("10.1.2.0/24"), "it is not masqueraded");
        attached.del();
        assert_nothing_remains();
    });
}

/// Says what it finds in the pod.
const LOOKS: &str = r#"#!/bin/sh
cat >/dev/null
echo "$CNI_COMMAND $(nsenter --net=$CNI_NETNS ip -br link show $CNI_IFNAME 2>&1)" >>/run/ipam.log
[ "$CNI_COMMAND" = ADD ] && { [ -e /run/broken ] && { echo '{"code": 11, "msg": "no lease"}'; exit 1; }
echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.7/24"}]}'; }
exit 0
"#;

#[test]
fn it_is_called_when_the_interface_is_up_and_its_failure_leaves_nothing() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let plugins = with_script("looks", LOOKS);
        let network =
            Network::layer2(&json!({"ipMasq": true, "macspoofchk": true, "ipam": {"type": "looks"}}));
        let network = Network { plugins: plugins.path().to_owned(), ..network };
        fs::write("/run/broken", "").expect("break it");
        let out = refused(&network.call("ADD", &pod), "no lease");
        assert_eq!(out.json["code"], 11, "{out}");
        assert_nothing_remains();
        assert!(pod.link("eth0").is_none());
        fs::remove_file("/run/broken").expect("mend it");
        let attached = network.add(&pod);
        let log = fs::read_to_string("/run/ipam.log").expect("the script's log");
        for line in log.lines().filter(|line| line.starts_with("ADD ")) {
            assert!(line.contains("UP") && line.contains("LOWER_UP"), "{log}");
        }
        // Somebody else's interface of that name: no address is asked for.
        let other = Netns::new("other");
        other.run("ip link add eth0 type veth peer name other0");
        refused(&network.call("ADD", &other), "already exists");
        assert_eq!(fs::read_to_string("/run/ipam.log").expect("the log"), log, "it was called in vain");
        attached.del();
        assert_nothing_remains();
    });
}

/// A process of the test's own that ends with it.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(quiet.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A host on the bridge that leases 10.1.2.100 to .199 and is the router.
fn server() -> (Netns, Daemon) {
    let server = Netns::new("server");
    Node.run("ip link add br0 type bridge");
    Node.run("ip link set br0 up");
    Node.run("ip link add serve0 type veth peer name eth0 netns server");
    Node.run("ip link set serve0 master br0 up");
    server.run("ip link set eth0 up");
    server.run("ip addr add 10.1.2.1/24 dev eth0");
    let config = "start 10.1.2.100\nend 10.1.2.199\ninterface eth0\nlease_file /run/udhcpd.leases\n\
                  pidfile /run/udhcpd.pid\nopt subnet 255.255.255.0\nopt router 10.1.2.1\nopt lease 600\n";
    fs::write("/run/udhcpd.conf", config).expect("the server's configuration");
    fs::write("/run/udhcpd.leases", "").expect("the server's leases");
    let daemon = Daemon::start(&mut server.command("busybox udhcpd -f /run/udhcpd.conf"));
    (server, daemon)
}

fn client() -> Daemon {
    fs::create_dir_all("/run/cni").expect("a directory for the socket");
    let _ = fs::remove_file(SOCKET);
    let daemon = Daemon::start(Command::new(format!("{THEIRS}/dhcp")).arg("daemon"));
    lab::eventually("the dhcp plugin's daemon listens", Duration::from_secs(10), || {
        Path::new(SOCKET).exists()
    });
    daemon
}

fn leased() -> Network {
    with_ipam(&json!({"type": "dhcp"}), &json!({}))
}

#[test]
fn a_lease_by_dhcp_comes_through_the_pods_interface() {
    sandboxed_daemons(|| {
        let (_server, _serves) = server();
        let pod = Netns::new("pod");
        let add: Plugin = leased().call("ADD", &pod);
        // Its daemon does not run: the interface that was made for it goes again.
        refused(&add, "dhcp.sock");
        assert!(pod.link("eth0").is_none() && left().is_empty(), "{:?}", left());
        let _client = client();
        let attached = leased().add(&pod);
        let address = attached.address(0).to_string();
        assert!(address.starts_with("10.1.2.1"), "{address} is not of the server's");
        assert_eq!(pod.addresses("eth0"), [format!("{address}/24")]);
        attached.check();
        assert!(ping(&pod, "10.1.2.1"), "the pod does not reach the server");
        attached.del();
        assert!(pod.link("eth0").is_none() && left().is_empty(), "{:?}", left());
    });
}

/// Of pods; the server's host end and neighbours are none.
fn left() -> Vec<String> {
    let mut left = super::remains();
    left.retain(|what| what != "link serve0" && !what.starts_with("neighbour "));
    left
}

/// Ended before some of its effects, with a lease or without: the next ADD gets one, DEL needs none. Every effect is tried with
/// addresses that cost no exchange with a server, in `killed`.
#[test]
fn a_killed_add_with_dhcp_is_finished_or_undone() {
    sandboxed_daemons(|| {
        let ((_server, _serves), _client) = (server(), client());
        let _plugins = leased();
        for n in (4..60).step_by(6) {
            let pod = Netns::new(&format!("pod{n}"));
            let inject = format!("inject=sendto:signal=KILL:when={n}");
            let strace = ["strace", "-qq", "-o", "/run/trace", "-e", "trace=sendto", "-e", &inject];
            let killed = leased().call("ADD", &pod).under(&strace).run();
            if n % 4 == 0 && killed.status != 0 {
                leased().add(&pod).check();
            }
            leased().call("DEL", &pod).succeed();
            assert!(pod.link("eth0").is_none() && left().is_empty(), "sendto {n}: {:?}", left());
            if killed.status == 0 {
                assert!(n > 10, "there are too few effects: {n}");
                return;
            }
        }
        panic!("the ADD has more than 60 messages for the kernel");
    });
}
