//! Links and the VLANs of bridge ports.

use std::time::{Duration, Instant};

use serde_json::Value;
use smarter_cni::kernel::link::{Change, NewBridge, NewVeth, OperState, Peer};
use smarter_cni::kernel::vlan::PortVlan;
use smarter_cni::kernel::{RouteSocket, link, netconf, sysctl, vlan};
use smarter_cni::net::{Family, Mac};

use super::{BRIDGE_MAC, HOST_MAC, POD_MAC, Pod, assert_same, bridge, ip, name, named, veth};
use crate::sandbox::sandboxed;

#[test]
fn bridge_and_veth_take_one_message_each() {
    sandboxed(|| {
        let (mut socket, pod) = (RouteSocket::open().unwrap(), Pod::new());
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
        let (mut socket, pod) = (RouteSocket::open().unwrap(), Pod::new());
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
        let (mut socket, pod) = (RouteSocket::open().unwrap(), Pod::new());
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
        let mut socket = RouteSocket::open().unwrap();
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
        let (mut socket, pod) = (RouteSocket::open().unwrap(), Pod::new());
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
            name: None,
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
        let (mut socket, pod) = (RouteSocket::open().unwrap(), Pod::new());
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
        let mut socket = RouteSocket::open().unwrap();
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
        let mut socket = RouteSocket::open().unwrap();
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
        let (mut socket, pod) = (RouteSocket::open().unwrap(), Pod::new());
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
fn switches_read_and_turned_by_netlink_are_those_of_proc_sys() {
    sandboxed(|| {
        let (mut socket, pod) = (RouteSocket::open().unwrap(), Pod::new());
        let sysctl = |key: &str| sysctl::read(key).unwrap().expect("this kernel has the switch");
        for (family, key) in
            [(Family::V4, "net/ipv4/ip_forward"), (Family::V6, "net/ipv6/conf/all/forwarding")]
        {
            for value in ["1", "0", "1"] {
                sysctl::write(key, value).unwrap();
                assert_eq!(netconf::forwards(&mut socket, family).unwrap(), value == "1", "{key}={value}");
            }
        }
        let bridge = bridge(&mut socket);
        for accepts in [0, 2, 1] {
            sysctl::write("net/ipv6/conf/cni0/accept_ra", &accepts.to_string()).unwrap();
            assert_eq!(named(&mut socket, "cni0").accept_ra, Some(accepts));
        }

        let port = veth(&mut socket, &bridge, &pod);
        let mut within = pod.socket();
        let eth0 = named(&mut within, "eth0");
        netconf::notify_arp(&mut within, eth0.index, "eth0").unwrap();
        let notifies = || sysctl::read("net/ipv4/conf/eth0/arp_notify").unwrap();
        assert_eq!(pod.netns().visit(notifies).unwrap().as_deref(), Some("1"));
        assert_eq!(sysctl("net/ipv4/conf/veth1/arp_notify"), "0", "of {} and no other", eth0.name);
        assert!(netconf::notify_arp(&mut within, port.index + 900, "none").unwrap_err().is_missing());
    });
}
