//! Who reaches a pod by a port of its node: outside, the node by its addresses and by 127.0.0.1, a sibling, the pod itself.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Pod, ports, with};
use crate::lab::{self, NODE, NODE_V6, Node, Place, WORLD, WORLD_V6, ask_tcp, ask_udp};
use crate::sandbox::sandboxed;
use serde_json::json;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const BOTH: [bool; 2] = [false, true];

fn node(v6: bool) -> IpAddr {
    if v6 { NODE_V6 } else { NODE }
}

fn serve(pod: &Pod, token: &str) {
    for v6 in BOTH {
        lab::serve_tcp(&pod.netns, pod.at(v6, 80), token);
        lab::serve_udp(&pod.netns, pod.at(v6, 5353), token);
    }
}

fn reaches(from: &impl Place, to: IpAddr, token: &str) {
    let answer = ask_tcp(from, (to, 8080)).unwrap_or_else(|error| panic!("tcp {to}: {error}"));
    assert_eq!(answer.token, token);
    let answer = ask_udp(from, (to, 8053)).unwrap_or_else(|error| panic!("udp {to}: {error}"));
    assert_eq!(answer.token, token);
}

#[test]
fn outside_reaches_the_pod_by_the_nodes_port_and_keeps_its_address() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::mapped("web", ports(&[("tcp", 8080, 80)]));
        lab::serve_tcp(&pod.netns, pod.at(false, 80), "web");
        let answer = ask_tcp(&world, (NODE, 8080)).unwrap();
        assert_eq!((answer.token.as_str(), answer.seen_as), ("web", WORLD));
    });
}

/// All ways, with bridged packets seen by netfilter or not.
fn every_way(bridge_netfilter: &str) {
    let world = lab::world();
    let pod = Pod::mapped("web", ports(&[("tcp", 8080, 80), ("UDP", 8053, 5353)]));
    let sibling = Pod::attached("sibling");
    serve(&pod, "web");
    for file in ["iptables", "ip6tables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{file}");
        if std::path::Path::new(&path).exists() {
            std::fs::write(&path, bridge_netfilter).unwrap();
        } else {
            assert_eq!(bridge_netfilter, "0", "COULD NOT RUN: module br_netfilter is not loaded");
        }
    }
    for v6 in BOTH {
        let answer = ask_tcp(&world, (node(v6), 8080)).unwrap();
        assert_eq!(answer.seen_as, if v6 { WORLD_V6 } else { WORLD });
        let own = if v6 { "fd07::1" } else { "10.7.0.1" }.parse().unwrap();
        for address in [node(v6), own] {
            reaches(&Node, address, "web");
            reaches(&sibling.netns, address, "web");
            reaches(&pod.netns, address, "web");
        }
        reaches(&world, node(v6), "web");
        // Without a mapping in the way, pods see each other as they are.
        let direct = ask_tcp(&sibling.netns, pod.at(v6, 80)).unwrap();
        assert_eq!(direct.seen_as, sibling.address(v6));
    }
    reaches(&Node, LOCALHOST, "web");
    let there: IpAddr = "::1".parse().unwrap();
    let refused = ask_tcp(&Node, (there, 8080)).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "::1 is the node's own");
    pod.portmap("CHECK", ports(&[("tcp", 8080, 80), ("UDP", 8053, 5353)])).succeed();
}

#[test]
fn everybody_reaches_the_pod_by_the_nodes_port() {
    sandboxed(|| every_way("0"));
}

#[test]
fn everybody_reaches_the_pod_when_bridged_packets_are_filtered() {
    sandboxed(|| every_way("1"));
}

#[test]
fn an_address_that_the_node_got_a_moment_ago_works() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::mapped("web", ports(&[("tcp", 8080, 80), ("udp", 8053, 5353)]));
        serve(&pod, "web");
        reaches(&world, NODE, "web");
        Node.run("ip addr del 192.0.2.1/24 dev up0");
        Node.run("ip addr add 192.0.2.77/24 dev up0");
        Node.run("ip route replace default via 192.0.2.2");
        reaches(&world, "192.0.2.77".parse().unwrap(), "web");
        Node.run("ip link set up0 down");
        Node.run("ip link set up0 name wifi0");
        Node.run("ip link set wifi0 up");
        reaches(&world, "192.0.2.77".parse().unwrap(), "web");
    });
}

#[test]
fn a_host_ip_is_the_only_address_that_leads_there() {
    sandboxed(|| {
        let world = lab::world();
        Node.run("ip addr add 192.0.2.9/24 dev up0");
        let mapping = |ip: &str, port: u16| json!({"HostPort": port, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ip});
        let list = json!([
            mapping("192.0.2.9", 8080),
            mapping("127.0.0.1", 8081),
            mapping("::", 8082),
            mapping("2001:db8::1", 8083)
        ]);
        let pod = Pod::mapped("web", json!({"runtimeConfig": {"portMappings": list}}));
        serve(&pod, "web");
        let asked = |from: &dyn Fn(SocketAddr) -> bool, ip: &str, port| {
            from((ip.parse::<IpAddr>().unwrap(), port).into())
        };
        let outside = |at: SocketAddr| ask_tcp(&world, at).is_ok();
        let inside = |at: SocketAddr| ask_tcp(&Node, at).is_ok();
        assert!(asked(&outside, "192.0.2.9", 8080) && !asked(&outside, "192.0.2.1", 8080));
        assert!(!asked(&outside, "2001:db8::1", 8080));
        assert!(asked(&inside, "127.0.0.1", 8081) && !asked(&inside, "192.0.2.1", 8081));
        assert!(asked(&outside, "2001:db8::1", 8082) && !asked(&outside, "192.0.2.1", 8082));
        assert!(asked(&outside, "2001:db8::1", 8083) && !asked(&outside, "192.0.2.9", 8083));
        pod.gone(json!({}));
        assert_eq!(super::elements(), "");
    });
}

#[test]
fn without_snat_the_pod_sees_the_clients_own_addresses() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::mapped("web", with(ports(&[("tcp", 8080, 80)]), "snat", false.into()));
        lab::serve_tcp(&pod.netns, pod.at(false, 80), "web");
        assert_eq!(ask_tcp(&world, (NODE, 8080)).unwrap().seen_as, WORLD);
        assert_eq!(ask_tcp(&Node, (NODE, 8080)).unwrap().seen_as, NODE);
        assert_eq!(
            std::fs::read_to_string("/proc/sys/net/ipv4/conf/port0/route_localnet").unwrap().trim(),
            "0"
        );
        let all = Pod::mapped("all", with(ports(&[("tcp", 8081, 80)]), "masqAll", true.into()));
        lab::serve_tcp(&all.netns, all.at(false, 80), "all");
        let seen = ask_tcp(&world, (NODE, 8081)).unwrap().seen_as;
        assert_eq!(seen, "10.7.0.1".parse::<IpAddr>().unwrap(), "every client is the node");
    });
}

/// One-to-one SCTP sockets through python, which has the protocol's number and nothing else of it.
fn sctp(place: &impl Place, script: &str) -> std::process::Command {
    let mut command = place.command("python3 -c");
    command.arg(format!("import socket\ns=socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132)\n{script}"));
    command
}

#[test]
fn sctp_is_led_too() {
    sandboxed(|| {
        let world = lab::world();
        if !sctp(&Node, "").status().unwrap().success() {
            // Nothing that this machine could be made to do: the kernel lacks the protocol. The elements are there.
            eprintln!("this kernel has no SCTP sockets (CONFIG_IP_SCTP): only the mapping is tested");
            let _pod = Pod::mapped("sig", ports(&[("SCTP", 3868, 38)]));
            let listed = Node.run("nft list map ip smarter-cni hostports");
            assert!(listed.contains("sctp . 3868"), "{listed}");
            return;
        }
        let pod = Pod::mapped("sig", ports(&[("SCTP", 3868, 38)]));
        let serve =
            format!("s.bind(('{}',38)); s.listen(); c,_=s.accept(); c.send(b'sig')", pod.address(false));
        let mut server = sctp(&pod.netns, &serve).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(500));
        let ask = format!("s.settimeout(3); s.connect(('{NODE}',3868)); print(s.recv(9).decode())");
        let out = sctp(&world, &ask).output().unwrap();
        let _ = server.kill();
        let _ = server.wait();
        assert_eq!(
            String::from_utf8_lossy(&out.stdout).trim(),
            "sig",
            "{}",
            String::from_utf8_lossy(&out.stderr)
        );
    });
}

#[test]
fn traffic_through_the_node_is_not_captured() {
    sandboxed(|| {
        let world = lab::world();
        let lan = lab::Netns::new("lan");
        // A router before there were pods: what goes through it goes on.
        Node.run("sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        Node.run("ip link add lan0 type veth peer name eth0 netns lan");
        Node.run("ip addr add 198.51.100.1/24 dev lan0");
        Node.run("ip -6 addr add 2001:db8:1::1/64 dev lan0 nodad");
        Node.run("ip link set lan0 up");
        lan.run("ip addr add 198.51.100.2/24 dev eth0");
        lan.run("ip -6 addr add 2001:db8:1::2/64 dev eth0 nodad");
        lan.run("ip link set eth0 up");
        lan.run("ip route add default via 198.51.100.1");
        lan.run("ip -6 route add default via 2001:db8:1::1");
        world.run("ip route add 198.51.100.0/24 via 192.0.2.1");
        // A router before there were pods: a node that becomes one for its pods forwards for nobody else.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
        std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        world.run("ip -6 route add 2001:db8:1::/64 via 2001:db8::1");
        let dns = Pod::mapped("dns", ports(&[("udp", 53, 53), ("tcp", 53, 53)]));
        let other = Pod::attached("other");
        for v6 in BOTH {
            let resolver = if v6 { WORLD_V6 } else { WORLD };
            lab::serve_udp(&dns.netns, dns.at(v6, 53), "pod");
            lab::serve_tcp(&dns.netns, dns.at(v6, 53), "pod");
            lab::serve_udp(&world, (resolver, 53), "resolver");
            lab::serve_tcp(&world, (resolver, 53), "resolver");
            for (name, place) in [("other pod", &other.netns), ("lan", &lan), ("the pod", &dns.netns)] {
                let ask = |answer: std::io::Result<lab::Answer>| {
                    answer.unwrap_or_else(|error| panic!("{name}, IPv6 {v6}: {error}")).token
                };
                assert_eq!(ask(ask_udp(place, (resolver, 53))), "resolver");
                assert_eq!(ask(ask_tcp(place, (resolver, 53))), "resolver");
                assert_eq!(ask(ask_udp(place, (node(v6), 53))), "pod");
            }
        }
    });
}

#[test]
fn it_works_behind_a_plugin_of_somebody_else() {
    sandboxed(|| {
        let world = lab::world();
        let netns = lab::Netns::new("web");
        let mut config = super::bridge_config();
        config["ipMasq"] = false.into();
        let debian = lab::Plugin::new(lab::DEBIAN_PLUGINS, "bridge")
            .command("ADD")
            .container("web")
            .netns(&netns)
            .ifname("eth0")
            .json(&config);
        let result = debian.succeed().json;
        let pod = Pod { id: "web".into(), netns, result };
        let out = pod.portmap("ADD", ports(&[("tcp", 8080, 80)])).succeed();
        assert_eq!(out.json["ips"], pod.result["ips"]);
        lab::serve_tcp(&pod.netns, pod.at(false, 80), "web");
        assert_eq!(ask_tcp(&world, (NODE, 8080)).unwrap().token, "web");
        assert_eq!(ask_tcp(&Node, (LOCALHOST, 8080)).unwrap().token, "web");
        pod.portmap("CHECK", ports(&[("tcp", 8080, 80)])).succeed();
        pod.portmap("DEL", json!({})).succeed();
        assert_eq!(super::elements(), "");
    });
}
