//! The kernel's languages against the real kernel, with `ip` as the second opinion.

#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::io::Read;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use smarter_cni::kernel::link::{Change, Link, NewBridge, NewVeth, OperState, Peer};
use smarter_cni::kernel::netns::OpenError;
use smarter_cni::kernel::route::{BOOT, MAIN, RouteEntry};
use smarter_cni::kernel::vlan::PortVlan;
use smarter_cni::kernel::{Netns, Socket, address, link, neighbour, route, sysctl, vlan};
use smarter_cni::net::{Family, IfName, Mac};

use crate::sandbox::sandboxed;

/// The highest, so that a bridge which chose by itself would show another one.
const BRIDGE_MAC: Mac = Mac([0x02, 0x42, 0, 0, 0, 9]);
const HOST_MAC: Mac = Mac([0x02, 0x42, 0, 0, 0, 2]);
const POD_MAC: Mac = Mac([0x02, 0x42, 0, 0, 0, 3]);

/// A namespace like a pod's: it exists as long as its one process.
struct Pod(Child);

impl Pod {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec sleep 600"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, from util-linux");
        child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).expect("the pod starts");
        Self(child)
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.0.id())
    }

    fn netns(&self) -> Netns {
        Netns::open(&self.path()).expect("the pod's namespace")
    }

    fn socket(&self) -> Socket {
        self.netns().visit(Socket::route).expect("visit").expect("socket")
    }

    fn ip(&self, arguments: &[&str]) -> Value {
        let net = format!("--net={}", self.path());
        let mut command = vec!["nsenter", &net, "ip", "-j", "-d"];
        command.extend(arguments);
        json(&command)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ip(arguments: &[&str]) -> Value {
    let mut command = vec!["ip", "-j", "-d"];
    command.extend(arguments);
    json(&command)
}

fn json(command: &[&str]) -> Value {
    let run = Command::new(command[0]).args(&command[1..]).output().expect(command[0]);
    let error = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{command:?}: {error}");
    if run.stdout.is_empty() {
        Value::Array(Vec::new())
    } else {
        serde_json::from_slice(&run.stdout).unwrap()
    }
}

fn name(text: &str) -> IfName {
    text.parse().unwrap()
}

fn named(socket: &mut Socket, name: &str) -> Link {
    link::by_name(socket, name).unwrap().unwrap_or_else(|| panic!("{name} is missing"))
}

fn bridge(socket: &mut Socket) -> Link {
    let cni0 = name("cni0");
    let new = NewBridge { name: &cni0, mac: Some(BRIDGE_MAC), mtu: Some(1400), vlan_filtering: false };
    link::add_bridge(socket, &new).unwrap();
    let bridge = named(socket, "cni0");
    let up = Change { up: Some(true), ..Change::default() };
    link::change(socket, bridge.index, "cni0", &up).unwrap();
    named(socket, "cni0")
}

/// `veth1`, up on the bridge, and `eth0` in the pod, down.
fn veth(socket: &mut Socket, bridge: &Link, pod: &Pod) -> Link {
    let (host, eth0, netns) = (name("veth1"), name("eth0"), pod.netns());
    let peer = Peer { name: &eth0, mac: Some(POD_MAC), mtu: Some(1300), netns: Some(netns.fd()) };
    let new = NewVeth {
        name: &host,
        mtu: Some(1300),
        mac: Some(HOST_MAC),
        up: true,
        master: Some(bridge.index),
        peer,
    };
    link::add_veth(socket, &new).unwrap();
    named(socket, "veth1")
}

/// What `ip -j -d link` says about the same link.
fn assert_same(ours: &Link, theirs: &Value) {
    assert_eq!(ours.name, theirs["ifname"]);
    assert_eq!(ours.index, theirs["ifindex"]);
    assert_eq!(ours.mtu, theirs["mtu"]);
    assert_eq!(ours.mac.map(|mac| mac.to_string()).as_deref(), theirs["address"].as_str());
    assert_eq!(ours.kind.as_deref(), theirs["linkinfo"]["info_kind"].as_str());
    assert_eq!(ours.alias.as_deref(), theirs["ifalias"].as_str());
    assert_eq!(ours.promiscuous, theirs["promiscuity"] != 0);
    let up = theirs["flags"].as_array().unwrap().contains(&"UP".into());
    assert_eq!(ours.up, up);
    let port = &theirs["linkinfo"]["info_slave_data"];
    assert_eq!(ours.hairpin, port["hairpin"].as_bool());
    assert_eq!(ours.isolated, port["isolated"].as_bool());
}

#[test]
fn bridge_and_veth_take_one_message_each() {
    sandboxed(|| {
        let (mut socket, pod) = (Socket::route().unwrap(), Pod::new());
        let bridge = bridge(&mut socket);
        assert_eq!((bridge.mac, bridge.mtu, bridge.up), (Some(BRIDGE_MAC), 1400, true));
        assert_eq!(bridge.kind.as_deref(), Some("bridge"));

        let host = veth(&mut socket, &bridge, &pod);
        let eth0 = named(&mut pod.socket(), "eth0");
        assert_eq!((host.mac, host.mtu, host.up), (Some(HOST_MAC), 1300, true));
        assert_eq!(host.master, Some(bridge.index), "the kernel takes the master at creation");
        assert_eq!((eth0.mac, eth0.mtu, eth0.up), (Some(POD_MAC), 1300, false));
        assert_eq!((host.peer, eth0.peer), (Some(eth0.index), Some(host.index)));

        assert_same(&named(&mut socket, "cni0"), &ip(&["link", "show", "dev", "cni0"])[0]);
        let theirs = &ip(&["link", "show", "dev", "veth1"])[0];
        assert_same(&host, theirs);
        assert_eq!(theirs["master"], "cni0");
        assert_eq!(theirs["txqlen"], Value::Null, "ip is silent about 0");
        assert_same(&eth0, &pod.ip(&["link", "show", "dev", "eth0"])[0]);
    });
}

#[test]
fn a_bridge_keeps_its_first_mac_but_not_its_first_mtu() {
    sandboxed(|| {
        let (mut socket, pod) = (Socket::route().unwrap(), Pod::new());
        let bridge = bridge(&mut socket);
        let port = veth(&mut socket, &bridge, &pod);
        let with_port = named(&mut socket, "cni0");
        assert_eq!((with_port.mac, with_port.mtu), (Some(BRIDGE_MAC), port.mtu));

        let wide = Change { mtu: Some(1400), ..Change::default() };
        link::change(&mut socket, bridge.index, "cni0", &wide).unwrap();
        let narrow = Change { mtu: Some(1280), ..Change::default() };
        link::change(&mut socket, port.index, "veth1", &narrow).unwrap();
        assert_eq!(named(&mut socket, "cni0").mtu, 1400, "set by hand it stays");
    });
}

#[test]
fn the_operational_state_follows_the_other_end() {
    sandboxed(|| {
        let (mut socket, pod) = (Socket::route().unwrap(), Pod::new());
        let bridge = bridge(&mut socket);
        veth(&mut socket, &bridge, &pod);
        let mut pod_socket = pod.socket();
        let eth0 = named(&mut pod_socket, "eth0");
        // Whether a lost carrier is `down` or `lowerlayerdown` depends on where the kernel looks for the other end.
        let without_carrier = [OperState::Down, OperState::LowerLayerDown];
        for (up, states) in [(true, &[OperState::Up][..]), (false, &without_carrier)] {
            let change = Change { up: Some(up), ..Change::default() };
            link::change(&mut pod_socket, eth0.index, "eth0", &change).unwrap();
            // The kernel's link watch runs after the change, at most once a second.
            let deadline = Instant::now() + Duration::from_secs(5);
            let state = loop {
                let state = named(&mut socket, "veth1").state;
                if states.contains(&state) {
                    break state;
                }
                assert!(Instant::now() < deadline, "still {state}");
                std::thread::sleep(Duration::from_millis(10));
            };
            let theirs = &ip(&["link", "show", "dev", "veth1"])[0]["operstate"];
            assert_eq!(*theirs, state.to_string().to_uppercase());
        }
    });
}

#[test]
fn both_ends_may_stay_and_the_peer_is_numbered_first() {
    sandboxed(|| {
        let mut socket = Socket::route().unwrap();
        let (gateway, port) = (name("cni0.100"), name("vethb"));
        let peer = Peer { name: &port, mac: None, mtu: None, netns: None };
        let new = NewVeth { name: &gateway, mtu: None, mac: None, up: false, master: None, peer };
        link::add_veth(&mut socket, &new).unwrap();
        let (gateway, port) = (named(&mut socket, "cni0.100"), named(&mut socket, "vethb"));
        assert_eq!(port.index + 1, gateway.index);
        assert_eq!((gateway.mtu, gateway.up), (1500, false));

        link::delete(&mut socket, gateway.index, "cni0.100").unwrap();
        assert_eq!(link::by_name(&mut socket, "vethb").unwrap(), None, "the other end goes too");
        let gone = link::delete(&mut socket, gateway.index, "cni0.100").unwrap_err();
        assert!(gone.is_missing(), "{gone}");
    });
}

#[test]
fn everything_about_a_link_changes_in_one_message() {
    sandboxed(|| {
        let (mut socket, pod) = (Socket::route().unwrap(), Pod::new());
        let bridge = bridge(&mut socket);
        let host = veth(&mut socket, &bridge, &pod);
        let leave = Change { master: Some(0), up: Some(false), ..Change::default() };
        link::change(&mut socket, host.index, "veth1", &leave).unwrap();
        let alone = named(&mut socket, "veth1");
        assert_eq!((alone.master, alone.up, alone.hairpin), (None, false, None));

        let change = Change {
            up: Some(true),
            master: Some(bridge.index),
            mtu: Some(1280),
            mac: Some(Mac([2, 0, 0, 0, 0, 9])),
            promiscuous: Some(true),
            alias: Some("x".repeat(255)),
        };
        link::change(&mut socket, host.index, "veth1", &change).unwrap();
        let changed = named(&mut socket, "veth1");
        assert_eq!((changed.up, changed.master, changed.mtu), (true, Some(bridge.index), 1280));
        assert_eq!((changed.mac, changed.promiscuous), (change.mac, true));
        assert_eq!(changed.alias, change.alias);
        assert_same(&changed, &ip(&["link", "show", "dev", "veth1"])[0]);

        let clear = Change { alias: Some(String::new()), promiscuous: Some(false), ..Change::default() };
        link::change(&mut socket, host.index, "veth1", &clear).unwrap();
        let cleared = named(&mut socket, "veth1");
        assert_eq!(cleared.alias, None);
        assert!(cleared.up, "what is not asked for stays");
        // A bridge port is promiscuous on the bridge's behalf; the flag of its own is gone.
        assert!(
            !ip(&["link", "show", "dev", "veth1"])[0]["flags"]
                .as_array()
                .unwrap()
                .contains(&"PROMISC".into())
        );

        let zero = Change { mac: Some(Mac([0; 6])), ..Change::default() };
        let refused = link::change(&mut socket, bridge.index, "cni0", &zero).unwrap_err().to_string();
        assert!(
            refused.starts_with(
                "ip link set dev cni0 address 00:00:00:00:00:00: cannot assign requested address"
            ),
            "{refused}"
        );
    });
}

#[test]
fn hairpin_and_isolation_change_together_and_alone() {
    sandboxed(|| {
        let (mut socket, pod) = (Socket::route().unwrap(), Pod::new());
        let bridge = bridge(&mut socket);
        let port = veth(&mut socket, &bridge, &pod);
        assert_eq!((port.hairpin, port.isolated), (Some(false), Some(false)));

        link::set_port(&mut socket, port.index, "veth1", Some(true), Some(true)).unwrap();
        let both = named(&mut socket, "veth1");
        assert_eq!((both.hairpin, both.isolated), (Some(true), Some(true)));
        assert_same(&both, &ip(&["link", "show", "dev", "veth1"])[0]);

        link::set_port(&mut socket, port.index, "veth1", Some(false), None).unwrap();
        let one = named(&mut socket, "veth1");
        assert_eq!((one.hairpin, one.isolated), (Some(false), Some(true)));

        let refused = link::set_port(&mut socket, bridge.index, "cni0", Some(true), None).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "bridge link set dev cni0 hairpin on: operation not supported; cni0 is not a port of a bridge"
        );
    });
}

#[test]
fn links_are_found_by_name_and_index_or_not_at_all() {
    sandboxed(|| {
        let mut socket = Socket::route().unwrap();
        let bridge = bridge(&mut socket);
        assert_eq!(link::by_index(&mut socket, bridge.index).unwrap().as_ref(), Some(&bridge));
        assert_eq!(link::by_index(&mut socket, 4711).unwrap(), None);
        assert_eq!(link::by_index(&mut socket, 0).unwrap(), None);
        for absent in ["", "nosuch", "fifteen-bytes-x", "more-than-fifteen-bytes"] {
            assert_eq!(link::by_name(&mut socket, absent).unwrap(), None, "{absent}");
        }
        let ours = link::all(&mut socket).unwrap();
        let theirs = ip(&["link", "show"]);
        assert_eq!(ours.len(), theirs.as_array().unwrap().len());
        for theirs in theirs.as_array().unwrap() {
            let ours = ours.iter().find(|link| link.index == theirs["ifindex"]).unwrap();
            // `ip` prints tunnel addresses in the address column too.
            if theirs["link_type"] == "ether" || theirs["link_type"] == "loopback" {
                assert_same(ours, theirs);
            }
        }
    });
}

#[test]
fn a_second_one_is_refused_by_name() {
    sandboxed(|| {
        let mut socket = Socket::route().unwrap();
        bridge(&mut socket);
        let cni0 = name("cni0");
        let again = NewBridge { name: &cni0, mac: None, mtu: None, vlan_filtering: false };
        let refused = link::add_bridge(&mut socket, &again).unwrap_err();
        assert!(refused.is_exists());
        assert!(refused.to_string().starts_with("ip link add cni0 type bridge: file exists"), "{refused}");

        let (veth1, peer) = (name("veth1"), Peer { name: &cni0, mac: None, mtu: None, netns: None });
        let new = NewVeth { name: &veth1, mtu: None, mac: None, up: false, master: None, peer };
        let refused = link::add_veth(&mut socket, &new).unwrap_err();
        assert!(refused.is_exists());
        let text = refused.to_string();
        assert!(text.starts_with("ip link add veth1 type veth peer name cni0: file exists"), "{text}");
        assert_eq!(link::by_name(&mut socket, "veth1").unwrap(), None, "all or nothing");
    });
}

/// Passes on kernels with VLAN filtering and on those without; each must say which it is.
#[test]
fn vlans_are_programmed_or_the_kernel_is_named() {
    sandboxed(|| {
        let (mut socket, pod) = (Socket::route().unwrap(), Pod::new());
        let cni0 = name("cni0");
        let new = NewBridge { name: &cni0, mac: None, mtu: None, vlan_filtering: true };
        if let Err(refused) = link::add_bridge(&mut socket, &new) {
            assert!(refused.hint().unwrap().contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{refused}");
            let bridge = bridge(&mut socket);
            let port = veth(&mut socket, &bridge, &pod);
            assert_eq!(vlan::of_port(&mut socket, port.index).unwrap(), []);
            let vlan = PortVlan { id: 100, pvid: true, untagged: true };
            let refused = vlan::add(&mut socket, port.index, "veth1", vlan).unwrap_err();
            assert!(refused.hint().unwrap().contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{refused}");
            let text = refused.to_string();
            assert!(text.starts_with("bridge vlan add dev veth1 vid 100 pvid untagged master: "), "{text}");
            return;
        }
        let bridge = named(&mut socket, "cni0");
        assert_eq!(bridge.vlan_filtering, Some(true));
        let port = veth(&mut socket, &bridge, &pod);
        let default = PortVlan { id: 1, pvid: true, untagged: true };
        let tagged = PortVlan { id: 200, pvid: false, untagged: false };
        let access = PortVlan { id: 100, pvid: true, untagged: true };
        assert_eq!(vlan::of_port(&mut socket, port.index).unwrap(), [default]);
        vlan::add(&mut socket, port.index, "veth1", access).unwrap();
        vlan::add(&mut socket, port.index, "veth1", tagged).unwrap();
        vlan::remove(&mut socket, port.index, "veth1", 1).unwrap();
        assert_eq!(vlan::of_port(&mut socket, port.index).unwrap(), [access, tagged]);
        let missing = vlan::remove(&mut socket, port.index, "veth1", 1).unwrap_err();
        assert!(missing.is_missing(), "{missing}");
    });
}

#[test]
fn addresses_of_both_families_come_and_go() {
    sandboxed(|| {
        let mut socket = Socket::route().unwrap();
        let bridge = bridge(&mut socket);
        let (v4, v6) = ("10.1.2.1/24".parse().unwrap(), "fd00:1::1/64".parse().unwrap());
        let narrow = "10.9.9.9/31".parse().unwrap();
        for address in [v4, narrow, v6] {
            address::add(&mut socket, bridge.index, "cni0", address).unwrap();
        }
        let found = address::of_link(&mut socket, bridge.index).unwrap();
        let global: Vec<_> = found.iter().filter(|a| a.scope == 0).map(|a| a.address).collect();
        assert_eq!(global, [v4, narrow, v6]);
        let ours = found.iter().find(|a| a.address == v6).unwrap();
        assert!(!ours.dad_failed);

        let theirs = &ip(&["addr", "show", "dev", "cni0"])[0]["addr_info"];
        assert_eq!(found.len(), theirs.as_array().unwrap().len());
        assert_eq!(theirs[0]["local"], "10.1.2.1");
        assert_eq!(theirs[0]["broadcast"], "10.1.2.255");
        assert_eq!(theirs[1]["broadcast"], Value::Null, "a /31 has none");
        assert_eq!(ours.tentative, theirs.as_array().unwrap().iter().any(|a| a["tentative"] == true));

        let again = address::add(&mut socket, bridge.index, "cni0", v4).unwrap_err();
        assert!(again.is_exists());
        assert!(again.to_string().starts_with("ip addr add 10.1.2.1/24 dev cni0: file exists"), "{again}");

        address::remove(&mut socket, bridge.index, "cni0", v4).unwrap();
        address::remove(&mut socket, bridge.index, "cni0", v6).unwrap();
        let missing = address::remove(&mut socket, bridge.index, "cni0", v4).unwrap_err();
        assert!(missing.is_missing(), "{missing}");
        assert!(address::all(&mut socket).unwrap().iter().all(|a| a.address != v4 && a.address != v6));

        assert_eq!(address::of_link(&mut socket, 4711).unwrap(), [], "a link that is gone has none");

        sysctl::write("net/ipv6/conf/cni0/disable_ipv6", "1").unwrap();
        let refused = address::add(&mut socket, bridge.index, "cni0", v6).unwrap_err().to_string();
        assert!(refused.ends_with("; IPv6 is switched off on cni0: disable_ipv6 is 1"), "{refused}");
    });
}

fn entry(dst: &str, gw: Option<&str>, index: u32) -> RouteEntry {
    RouteEntry {
        dst: dst.parse().unwrap(),
        gw: gw.map(|gw| gw.parse().unwrap()),
        index: Some(index),
        table: MAIN,
        priority: None,
        scope: 0,
        mtu: None,
        advmss: None,
        protocol: BOOT,
    }
}

#[test]
fn routes_are_read_back_as_written() {
    sandboxed(|| {
        let (mut socket, pod) = (Socket::route().unwrap(), Pod::new());
        let bridge = bridge(&mut socket);
        // A bridge has no carrier without a port, and IPv6 hides routes of links without.
        veth(&mut socket, &bridge, &pod);
        let index = bridge.index;
        address::add(&mut socket, index, "cni0", "10.1.2.1/24".parse().unwrap()).unwrap();
        address::add(&mut socket, index, "cni0", "fd00:1::1/64".parse().unwrap()).unwrap();

        let plain = entry("0.0.0.0/0", Some("10.1.2.254"), index);
        let device = RouteEntry { scope: 253, ..entry("10.8.0.0/16", None, index) };
        let odd = RouteEntry {
            table: 1000,
            priority: Some(5),
            mtu: Some(1300),
            advmss: Some(1260),
            ..entry("10.7.0.0/16", Some("10.1.2.2"), index)
        };
        let small_table = RouteEntry { table: 100, ..entry("10.6.0.0/16", Some("10.1.2.2"), index) };
        let mixed = entry("10.5.0.0/16", Some("fd00:1::2"), index);
        let v6 = RouteEntry { priority: Some(7), ..entry("fd02::/64", Some("fd00:1::2"), index) };
        let default_v6 = RouteEntry { priority: Some(1024), ..entry("::/0", Some("fd00:1::fe"), index) };
        for route in [&plain, &device, &odd, &small_table, &mixed, &v6, &default_v6] {
            route::add(&mut socket, route).unwrap();
        }
        let mut found = route::list(&mut socket, Family::V4).unwrap();
        found.extend(route::list(&mut socket, Family::V6).unwrap());
        for route in [&plain, &device, &odd, &small_table, &mixed, &v6, &default_v6] {
            assert!(found.contains(route), "{route} is not among\n{found:#?}");
        }
        let theirs = ip(&["route", "show", "table", "1000"]);
        assert_eq!(theirs[0]["dst"], "10.7.0.0/16");
        assert_eq!((&theirs[0]["gateway"], &theirs[0]["metric"]), (&"10.1.2.2".into(), &5.into()));
        assert_eq!(theirs[0]["protocol"], "boot");
        assert_eq!(theirs[0]["metrics"][0]["mtu"], 1300);

        let again = route::add(&mut socket, &odd).unwrap_err();
        assert!(again.is_exists(), "{again}");
        for route in [&plain, &device, &odd, &small_table, &mixed, &v6, &default_v6] {
            route::remove(&mut socket, route).unwrap_or_else(|e| panic!("{e}"));
        }
        let missing = route::remove(&mut socket, &odd).unwrap_err();
        assert!(missing.is_missing(), "{missing}");
        let text = missing.to_string();
        assert!(
            text.starts_with(&format!(
                "ip route del 10.7.0.0/16 via 10.1.2.2 dev if{index} metric 5 table 1000 mtu 1300 advmss 1260: no such process"
            )),
            "{text}"
        );
    });
}

#[test]
fn two_gateways_make_two_entries() {
    sandboxed(|| {
        let (mut socket, pod) = (Socket::route().unwrap(), Pod::new());
        let bridge = bridge(&mut socket);
        veth(&mut socket, &bridge, &pod);
        let index = bridge.index;
        for (address, dst, gateways) in [
            ("10.1.2.1/24", "10.7.0.0/16", ["10.1.2.2", "10.1.2.3"]),
            ("fd00:1::1/64", "fd07::/64", ["fd00:1::2", "fd00:1::3"]),
        ] {
            address::add(&mut socket, index, "cni0", address.parse().unwrap()).unwrap();
            for gw in gateways {
                route::add(&mut socket, &entry(dst, Some(gw), index)).unwrap();
            }
            let dst: ipnetwork::IpNetwork = dst.parse().unwrap();
            let found = route::list(&mut socket, Family::of(dst.ip())).unwrap();
            let mut found: Vec<_> = found.into_iter().filter(|r| r.dst == dst).filter_map(|r| r.gw).collect();
            found.sort();
            assert_eq!(found, gateways.map(|gw| gw.parse::<IpAddr>().unwrap()));
        }
        // One of two next hops can be taken away alone.
        let first = RouteEntry { priority: Some(1024), ..entry("fd07::/64", Some("fd00:1::2"), index) };
        route::remove(&mut socket, &first).unwrap();
        let found = route::list(&mut socket, Family::V6).unwrap();
        assert_eq!(found.iter().filter(|r| r.dst == first.dst).count(), 1);
    });
}

#[test]
fn neighbours_and_learned_macs_are_replaced_and_forgotten() {
    sandboxed(|| {
        let (mut socket, pod) = (Socket::route().unwrap(), Pod::new());
        let bridge = bridge(&mut socket);
        let port = veth(&mut socket, &bridge, &pod);
        address::add(&mut socket, bridge.index, "cni0", "10.1.2.1/24".parse().unwrap()).unwrap();
        for address in ["10.1.2.9", "fd00:1::9"] {
            let address: IpAddr = address.parse().unwrap();
            neighbour::replace(&mut socket, bridge.index, address, HOST_MAC).unwrap();
            neighbour::replace(&mut socket, bridge.index, address, POD_MAC).unwrap();
            let theirs = ip(&["neigh", "show", &address.to_string(), "dev", "cni0"]);
            assert_eq!(theirs[0]["lladdr"], POD_MAC.to_string(), "{theirs}");
            assert_eq!(theirs[0]["state"][0], "REACHABLE", "ages like a learned one");
            neighbour::remove(&mut socket, bridge.index, address).unwrap();
            neighbour::remove(&mut socket, bridge.index, address).unwrap();
        }
        let mac = POD_MAC.to_string();
        json(&["bridge", "fdb", "add", &mac, "dev", "veth1", "master", "static"]);
        neighbour::fdb_remove(&mut socket, port.index, POD_MAC).unwrap();
        let left = json(&["bridge", "-j", "fdb", "show", "br", "cni0"]);
        assert!(left.as_array().unwrap().iter().all(|entry| entry["mac"] != mac.as_str()), "{left}");
        neighbour::fdb_remove(&mut socket, port.index, POD_MAC).unwrap();
    });
}

#[test]
fn a_visit_ends_where_it_began() {
    sandboxed(|| {
        let pod = Pod::new();
        let (home, away) = (Netns::current().unwrap(), pod.netns());
        assert_ne!(home.identity().unwrap(), away.identity().unwrap());

        let seen: Result<(), _> = away
            .visit(|| {
                assert_eq!(Netns::current().unwrap().identity().unwrap(), away.identity().unwrap());
                sysctl::write("net/ipv4/ip_forward", "1").unwrap();
                Err("the closure's own trouble")
            })
            .unwrap();
        assert_eq!(seen, Err("the closure's own trouble"));
        assert_eq!(Netns::current().unwrap().identity().unwrap(), home.identity().unwrap());

        let here = sysctl::read("net/ipv4/ip_forward").unwrap();
        let there = away.visit(|| sysctl::read("net/ipv4/ip_forward").unwrap()).unwrap();
        assert_eq!((here.as_deref(), there.as_deref()), (Some("0"), Some("1")));

        home.visit(|| ()).expect("one's own namespace can be visited too");
    });
}

#[test]
fn a_namespace_outlives_its_path() {
    sandboxed(|| {
        let pod = Pod::new();
        let (path, netns) = (pod.path(), pod.netns());
        drop(pod);
        assert!(matches!(Netns::open(&path), Err(OpenError::Gone(_))));
        let links = netns.visit(|| link::all(&mut Socket::route().unwrap())).unwrap().unwrap();
        assert!(links.iter().any(|link| link.name == "lo"));
    });
}

#[test]
fn sysctls_of_links_with_dots_are_written_and_refusals_named() {
    sandboxed(|| {
        let mut socket = Socket::route().unwrap();
        let dotted = name("br.100");
        let new = NewBridge { name: &dotted, mac: None, mtu: None, vlan_filtering: false };
        link::add_bridge(&mut socket, &new).unwrap();
        sysctl::write("net/ipv4/conf/br.100/arp_notify", "1").unwrap();
        let value = sysctl::read("net/ipv4/conf/br.100/arp_notify").unwrap();
        assert_eq!(value.as_deref(), Some("1"));
        assert_eq!(
            sysctl::write("net/ipv4/conf/br.100/arp_notify", "x").unwrap_err().to_string(),
            "sysctl -w net.ipv4.conf.br/100.arp_notify=x: invalid argument"
        );
    });
}
