//! The container that watches brings back what pods were promised, with the rights and the mounts of its manifest and no
//! others.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::{Conversation, PATIENCE, bare_node, manifest};
use crate::containerd::{Containerd, Release, on_each};
use crate::cri::{HostPort, Pod, Sandbox};
use crate::kubelet::{DaemonSet, Deployed, NotReady};
use crate::lab::{self, Node, Place, eventually};
use crate::reconcile::House;
use crate::sandbox::{run, sandboxed_daemons};

on_each!(
    the_plain_manifests_container_repairs_the_nodes_side,
    a_variants_container_does_so_with_less_of_the_host,
);

const MAIN: &str = "smarter-cni";
/// From the damage to the end of its repair, as it is promised.
const PROMISED: Duration = Duration::from_secs(5);

fn host_port_answers(pod: &Sandbox) -> bool {
    let asked = lab::ask_tcp(&Node, SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080));
    asked.is_ok_and(|answer| answer.token == pod.id)
}

/// The host end of some pod.
fn port() -> String {
    let links = Node.ip("link show master smartnet0");
    links[0]["ifname"].as_str().expect("a port").to_owned()
}

fn heals_everything(containerd: &Containerd, deployed: &Deployed) {
    let host_port = HostPort { udp: false, host: 8080, container: 80, address: String::new() };
    let one = containerd.run_pod(&Pod { host_ports: vec![host_port], ..Pod::new("one") });
    let two = containerd.run_pod(&Pod::new("two"));
    let address: IpAddr = one.addresses[0].parse().expect("an address");
    lab::serve_tcp(&one.network, SocketAddr::new(address, 80), &one.id);
    assert!(host_port_answers(&one));
    let conversation = Conversation::between(&one, &two);
    for fault in [
        "nft flush ruleset".to_owned(),
        "ip link del smartnet0".to_owned(),
        format!("ip link set {} nomaster", port()),
        "ip addr flush dev smartnet0".to_owned(),
        "sysctl -qw net.ipv4.ip_forward=0".to_owned(),
        "nft flush ruleset; ip link del smartnet0; sysctl -qw net.ipv4.ip_forward=0".to_owned(),
    ] {
        // What a burst of repairs spent comes back.
        thread::sleep(Duration::from_secs(3));
        let said = deployed.main_log(MAIN).matches("repaired").count();
        let begun = Instant::now();
        run("sh", &["-ec", &fault]);
        eventually(&fault, PROMISED, || {
            House::is_whole() && deployed.main_log(MAIN).matches("repaired").count() > said
        });
        eprintln!("{:>5} ms  {fault}", begun.elapsed().as_millis());
        let started = conversation.said();
        eventually("they go on talking", PATIENCE, || conversation.said() > started + 20);
        eventually("the host port answers", PATIENCE, || host_port_answers(&one));
    }
    conversation.end();
    let said = deployed.main_log(MAIN);
    for line in [
        "repaired smartnet: default/one (eth0): node: nft add element ip smarter-cni hostports",
        ": node: ip link add smartnet0",
        ": node: ip addr add 172.38.0.1/16 dev smartnet0",
        ": node: sysctl -w net.ipv4.ip_forward=1",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    assert_eq!(said.matches("note     pods are not looked into").count(), 1, "{said}");
    assert!(!said.contains("trouble") && !said.contains("removed"), "{said}");
    containerd.remove_pod(&one);
    containerd.remove_pod(&two);
}

fn deploys(release: Release, set: impl FnOnce() -> DaemonSet) {
    let containerd = bare_node(release);
    let deployed = containerd.deploy(&set(), "smarter-cni").unwrap_or_else(|NotReady(why)| panic!("{why}"));
    eventually("containerd has the network", PATIENCE, || containerd.cri.ready());
    heals_everything(&containerd, &deployed);
    assert_eq!(containerd.undeploy(&deployed), 0, "the watch ends as it should");
}

fn the_plain_manifests_container_repairs_the_nodes_side(release: Release) {
    deploys(release, || DaemonSet::of(&manifest("smartercni_ds.yaml")));
}

/// With single directories of the host and a /proc that it can only read, but for the switches of the network.
fn a_variants_container_does_so_with_less_of_the_host(release: Release) {
    deploys(release, || {
        fs::create_dir_all("/var/lib/rancher/k3s/agent/etc").expect("a directory of k3s");
        DaemonSet::of(&manifest("smartercni_ds.yaml")).patched(&manifest("k3s/mounts.yaml"))
    });
}

/// What the variant is for: with all of /proc/sys a container needs no capability to become root of the host.
#[test]
fn a_variants_container_can_write_the_networks_switches_alone() {
    sandboxed_daemons(|| {
        Node.run("mount --bind /proc /mnt");
        Node.run("mount -o remount,ro,bind /mnt");
        Node.run("mount --bind /proc/sys/net /mnt/sys/net");
        let switch = Path::new("/mnt/sys/net/ipv4/ip_forward");
        fs::write(switch, "1").expect("the switch of forwarding");
        assert_eq!(Node.run("sysctl -n net.ipv4.ip_forward").trim(), "1", "of this namespace");
        assert!(fs::write("/mnt/sys/kernel/core_pattern", "core").is_err());
    });
}
