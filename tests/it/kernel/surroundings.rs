//! Namespaces, sysctls and batches.

use smarter_cni::kernel::link::NewBridge;
use smarter_cni::kernel::netlink::{NLM_F_ACK, NLM_F_REQUEST, push_header};
use smarter_cni::kernel::netns::OpenError;
use smarter_cni::kernel::{NetfilterSocket, Netns, RouteSocket, link, sysctl};

use super::{Pod, name};
use crate::sandbox::sandboxed;

#[test]
fn a_visit_ends_where_it_began() {
    sandboxed(|| {
        let pod = Pod::new();
        let (home, away) = (Netns::current().unwrap(), pod.netns());
        assert_ne!(home.identity(), away.identity());

        let seen: Result<(), _> = away
            .visit(|| {
                assert_eq!(Netns::current().unwrap().identity(), away.identity());
                sysctl::write("net/ipv4/ip_forward", "1").unwrap();
                Err("the closure's own trouble")
            })
            .unwrap();
        assert_eq!(seen, Err("the closure's own trouble"));
        assert_eq!(Netns::current().unwrap().identity(), home.identity());

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
        let links = netns.visit(|| link::all(&mut RouteSocket::open().unwrap())).unwrap().unwrap();
        assert!(links.iter().any(|link| link.name == "lo"));
    });
}

#[test]
fn sysctls_of_links_with_dots_are_written_and_refusals_named() {
    sandboxed(|| {
        let mut socket = RouteSocket::open().unwrap();
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

/// The kernel blames the message that begins a batch when nobody can take it, although that one asked for no answer.
#[test]
fn a_batch_for_nobody_is_refused_and_not_waited_for() {
    sandboxed(|| {
        const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
        const NFNL_MSG_BATCH_END: u16 = 0x11;
        const NFNL_SUBSYS_CTNETLINK: u16 = 1;
        let mut socket = NetfilterSocket::open().unwrap();
        let encode = |first: u32| {
            // `struct nfgenmsg`: family, version, subsystem in network order. Conntrack takes no batches.
            let [high, low] = NFNL_SUBSYS_CTNETLINK.to_be_bytes();
            let mut bytes = Vec::new();
            let messages = [NFNL_MSG_BATCH_BEGIN, NFNL_SUBSYS_CTNETLINK << 8, NFNL_MSG_BATCH_END];
            for (sequence, kind) in (first..).zip(messages) {
                let flags = NLM_F_REQUEST | if sequence == first + 1 { NLM_F_ACK } else { 0 };
                push_header(&mut bytes, kind, flags, sequence, 4);
                bytes.extend([0, 0, high, low]);
            }
            (bytes, first..=first + 1)
        };
        let refused = socket.batch(encode, |_| "nft -f -".to_owned()).unwrap_err();
        assert!(refused.is_unsupported(), "{refused}");
    });
}
