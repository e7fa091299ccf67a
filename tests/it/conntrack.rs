//! Flows of real packets between two network namespaces.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use smarter_cni::kernel::{NetfilterSocket, conntrack};
use smarter_cni::net::Family;

use crate::sandbox::{run, sandboxed};

/// The kernel tracks connections only for somebody: a rule that asks for their state.
fn track() {
    run("nft", &["add table inet t"]);
    run("nft", &["add chain inet t in { type filter hook input priority 0; }"]);
    run("nft", &["add rule inet t in ct state new counter"]);
    run("ip", &["link", "set", "lo", "up"]);
    for address in ["10.9.0.1/32", "10.9.0.2/32", "10.9.0.3/32", "fd09::1/128", "fd09::2/128"] {
        run("ip", &["address", "add", address, "dev", "lo", "nodad"]);
    }
}

fn udp(from: &str, to: &str) -> (UdpSocket, UdpSocket) {
    let here = UdpSocket::bind(from.parse::<SocketAddr>().unwrap()).unwrap();
    let there = UdpSocket::bind(to.parse::<SocketAddr>().unwrap()).unwrap();
    // The first packet to an address of IPv6 that was added a moment ago may be lost (one of twenty on a busy machine).
    there.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let heard = (0..50).find_map(|_| {
        here.send_to(b"?", there.local_addr().unwrap()).unwrap();
        there.recv_from(&mut [0; 8]).ok()
    });
    let (_, asker) = heard.expect("the other end hears it");
    there.send_to(b"!", asker).unwrap();
    here.recv_from(&mut [0; 8]).unwrap();
    (here, there)
}

fn addresses(socket: &mut NetfilterSocket, family: Family) -> Vec<(IpAddr, IpAddr, u8, Option<u16>)> {
    let mut flows: Vec<_> = conntrack::flows(socket, family)
        .unwrap()
        .into_iter()
        .map(|flow| (flow.original.src, flow.original.dst, flow.original.protocol, flow.original.dst_port))
        .collect();
    flows.sort_unstable();
    flows
}

#[test]
fn the_flows_of_an_address_are_forgotten_and_others_stay() {
    sandboxed(|| {
        let mut socket = NetfilterSocket::open().unwrap();
        let pod: IpAddr = "10.9.0.2".parse().unwrap();
        assert_eq!(conntrack::forget_address(&mut socket, pod).unwrap(), 0);
        track();
        assert_eq!(addresses(&mut socket, Family::V4), []);

        let _to_pod = udp("10.9.0.1:4001", "10.9.0.2:53");
        let _from_pod = udp("10.9.0.2:4002", "10.9.0.3:53");
        let _other = udp("10.9.0.1:4003", "10.9.0.3:54");
        let _ipv6 = udp("[fd09::1]:4004", "[fd09::2]:53");
        let listener = TcpListener::bind("10.9.0.2:80").unwrap();
        let mut client = TcpStream::connect("10.9.0.2:80").unwrap();
        client.write_all(b"?").unwrap();
        listener.accept().unwrap().0.read_exact(&mut [0]).unwrap();

        let before = addresses(&mut socket, Family::V4);
        assert_eq!(before.len(), 4);
        let other = ("10.9.0.1".parse().unwrap(), "10.9.0.3".parse().unwrap(), 17, Some(54));
        assert!(before.contains(&other));
        assert_eq!(conntrack::count().unwrap(), Some(5));

        assert_eq!(conntrack::forget_address(&mut socket, pod).unwrap(), 3);
        assert_eq!(addresses(&mut socket, Family::V4), [other]);
        assert_eq!(addresses(&mut socket, Family::V6).len(), 1);
        assert_eq!(conntrack::forget_address(&mut socket, pod).unwrap(), 0);
        assert_eq!(conntrack::forget_address(&mut socket, "fd09::2".parse().unwrap()).unwrap(), 1);
        assert_eq!(addresses(&mut socket, Family::V6), []);
    });
}

#[test]
fn a_translated_flow_is_found_by_the_address_behind_the_translation() {
    sandboxed(|| {
        track();
        run("nft", &["add chain inet t out { type nat hook output priority -100; }"]);
        run("nft", &["add rule inet t out ip daddr 10.9.0.1 udp dport 8053 dnat ip to 10.9.0.2:53"]);
        let mut socket = NetfilterSocket::open().unwrap();
        let here = UdpSocket::bind("10.9.0.3:4001").unwrap();
        let pod = UdpSocket::bind("10.9.0.2:53").unwrap();
        here.send_to(b"?", "10.9.0.1:8053").unwrap();
        pod.recv_from(&mut [0; 8]).unwrap();

        let flows = conntrack::flows(&mut socket, Family::V4).unwrap();
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].original.dst_port, Some(8053));
        assert_eq!(flows[0].reply.src, "10.9.0.2".parse::<IpAddr>().unwrap());
        assert_eq!(flows[0].reply.src_port, Some(53));

        assert_eq!(conntrack::forget_address(&mut socket, "10.9.0.2".parse().unwrap()).unwrap(), 1);
        assert_eq!(addresses(&mut socket, Family::V4), []);
        // Forgetting what is gone is fine.
        assert_eq!(conntrack::forget_address(&mut socket, "10.9.0.2".parse().unwrap()).unwrap(), 0);
    });
}

#[test]
fn a_fuller_table_is_asked_for_the_address_alone() {
    sandboxed(|| {
        track();
        let mut socket = NetfilterSocket::open().unwrap();
        let (_flow, there) = udp("10.9.0.1:4001", "10.9.0.2:53");
        let limit: u16 = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_max")
            .unwrap()
            .trim()
            .parse::<u32>()
            .map(|limit| u16::try_from(limit / 32 + 100).expect("a machine with less than 2,000,000 flows"))
            .unwrap();
        for port in 0..limit {
            let here = UdpSocket::bind(("10.9.0.1", 5000 + port)).unwrap();
            here.send_to(b"?", "10.9.0.3:9").unwrap();
        }
        drop(there);
        let all = addresses(&mut socket, Family::V4).len();
        assert!(all > usize::from(limit));
        let pod = "10.9.0.2".parse().unwrap();
        assert_eq!(conntrack::forget_address(&mut socket, pod).unwrap(), 1);
        assert_eq!(addresses(&mut socket, Family::V4).len(), all - 1);
    });
}
