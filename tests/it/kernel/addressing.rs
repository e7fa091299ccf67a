//! Addresses, routes and neighbours.

use std::net::IpAddr;

use serde_json::Value;
use smarter_cni::kernel::route::{BOOT, MAIN, RouteEntry};
use smarter_cni::kernel::{RouteSocket, address, neighbour, route, sysctl};
use smarter_cni::net::Family;

use super::{HOST_MAC, POD_MAC, Pod, bridge, ip, json, veth};
use crate::sandbox::sandboxed;

#[test]
fn addresses_of_both_families_come_and_go() {
    sandboxed(|| {
        let mut socket = RouteSocket::open().unwrap();
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
        let (mut socket, pod) = (RouteSocket::open().unwrap(), Pod::new());
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
        let (mut socket, pod) = (RouteSocket::open().unwrap(), Pod::new());
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
        let (mut socket, pod) = (RouteSocket::open().unwrap(), Pod::new());
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
