//! What we turn on the host outside our links and tables is written down, and given back.

use std::time::Duration;

use serde_json::{Value, json};

use smarter_cni::datapath::switches;
use smarter_cni::state::BootId;

use super::{get, network, pod, set};
use crate::lab::{self, Netns, Node, Place};
use crate::sandbox::sandboxed;

fn remembered() -> Vec<(String, String, String)> {
    let text = std::fs::read_to_string("/run/smarter-cni/host.json").unwrap();
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["version"], 1);
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let changes = document["changes"].as_array().unwrap().iter();
    changes.map(|change| (word(&change["key"]), word(&change["old"]), word(&change["new"]))).collect()
}

fn dual_stack() -> Value {
    network(&json!({"ipam": {"type": "host-local", "ranges": [
        [{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]
    ]}}))
}

fn change(key: &str, old: &str, new: &str) -> (String, String, String) {
    (key.to_owned(), old.to_owned(), new.to_owned())
}

#[test]
fn an_uplink_that_listened_to_its_router_keeps_listening() {
    sandboxed(|| {
        set("net/ipv4/ip_forward", "0");
        set("net/ipv6/conf/all/forwarding", "0");
        let _world = lab::world();
        Node.run("ip link add off0 up type bridge");
        set("net/ipv6/conf/up0/accept_ra", "1");
        set("net/ipv6/conf/off0/accept_ra", "0");
        // The mark of a route that the kernel learned: becoming a router takes those of uplinks that stop listening.
        Node.run("ip -6 route replace default via fe80::1 dev up0 proto ra metric 1024 expires 600");
        let _pod = pod("pod", &dual_stack());
        assert_eq!(get("net/ipv6/conf/all/forwarding"), "1");
        assert_eq!(
            (get("net/ipv6/conf/up0/accept_ra"), get("net/ipv6/conf/off0/accept_ra")),
            ("2".into(), "0".into())
        );
        assert!(Node.run("ip -6 route show default").contains("via fe80::1 dev up0"));
        assert_eq!(get(&format!("net/ipv6/conf/{}/accept_ra", super::BRIDGE)), "0");
        let changes = remembered();
        for expected in [
            change("net/ipv4/ip_forward", "0", "1"),
            change("net/ipv6/conf/up0/accept_ra", "1", "2"),
            change("net/ipv6/conf/all/forwarding", "0", "1"),
        ] {
            assert!(changes.contains(&expected), "{changes:?}");
        }
        let at = |key: &str| changes.iter().position(|(known, ..)| known == key);
        assert!(at("net/ipv6/conf/up0/accept_ra") < at("net/ipv6/conf/all/forwarding"));
    });
}

/// A router that speaks for itself, so that the route is one the kernel really learned.
#[test]
fn a_default_route_learned_from_a_router_survives_the_first_pod() {
    sandboxed(|| {
        set("net/ipv6/conf/all/forwarding", "0");
        let router = Netns::new("router");
        Node.run("ip link add up0 type veth peer name rt0 netns router");
        router.run("ip link set rt0 up");
        set("net/ipv6/conf/up0/accept_ra", "1");
        Node.run("ip link set up0 up");
        lab::eventually("the router has its address", Duration::from_secs(10), || {
            let text = router.run("ip -6 addr show dev rt0 scope link");
            text.contains("fe80") && !text.contains("tentative")
        });
        let learned = || Node.run("ip -6 route show default").contains("proto ra");
        lab::eventually("a default route is learned", Duration::from_secs(20), || {
            advertise(&router);
            learned()
        });
        let _pod = pod("pod", &dual_stack());
        assert_eq!(get("net/ipv6/conf/all/forwarding"), "1");
        assert!(learned(), "{}", Node.run("ip -6 route"));
        Node.run("ip -6 route flush default proto ra");
        lab::eventually("it is learned again", Duration::from_secs(20), || {
            advertise(&router);
            learned()
        });
    });
}

/// An unsolicited Router Advertisement (RFC 4861 4.2) for half an hour, without options.
fn advertise(router: &Netns) {
    let link = router.ip("link show rt0")[0]["ifindex"].as_u64().unwrap();
    router.inside(|| {
        use rustix::net::{AddressFamily, SocketType, ipproto, sockopt};
        let socket =
            rustix::net::socket(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6)).unwrap();
        sockopt::set_ipv6_multicast_hops(&socket, 255).unwrap();
        let link = u32::try_from(link).unwrap();
        let all_nodes = std::net::SocketAddrV6::new("ff02::1".parse().unwrap(), 0, 0, link);
        let message = [134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        rustix::net::sendto(&socket, &message, rustix::net::SendFlags::empty(), &all_nodes).unwrap();
    });
}

#[test]
fn everything_is_given_back_but_what_somebody_turned_since() {
    sandboxed(|| {
        set("net/ipv4/ip_forward", "0");
        set("net/ipv6/conf/all/forwarding", "0");
        let _world = lab::world();
        set("net/ipv6/conf/up0/accept_ra", "1");
        let _pod = pod("pod", &dual_stack());
        assert_eq!(get("net/ipv4/ip_forward"), "1");
        set("net/ipv6/conf/up0/accept_ra", "0");
        switches::undo(&BootId::current().unwrap()).unwrap();
        assert_eq!(get("net/ipv4/ip_forward"), "0");
        assert_eq!(get("net/ipv6/conf/all/forwarding"), "0");
        assert_eq!(get("net/ipv6/conf/up0/accept_ra"), "0");
        assert!(!std::path::Path::new("/run/smarter-cni/host.json").exists());
        switches::undo(&BootId::current().unwrap()).unwrap();
    });
}

#[test]
fn what_was_on_is_not_ours_to_switch_off() {
    sandboxed(|| {
        set("net/ipv4/ip_forward", "1");
        let _pod = pod("pod", &network(&json!({})));
        switches::undo(&BootId::current().unwrap()).unwrap();
        assert_eq!(get("net/ipv4/ip_forward"), "1");
    });
}
