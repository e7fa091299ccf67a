use std::net::IpAddr;

use super::*;

const BRIDGE: u32 = 4;
const PORT: u32 = 5;
const UPLINK: u32 = 2;

fn bridge() -> Link {
    Link {
        index: BRIDGE,
        name: "smartnet0".into(),
        kind: Some("bridge".into()),
        mtu: 1500,
        up: true,
        state: OperState::Up,
        alias: Some("smarter-cni bridge 172.38.0.1/16".into()),
        ..Link::default()
    }
}

fn port() -> Link {
    Link {
        index: PORT,
        name: "veth0a1b2c3d".into(),
        kind: Some("veth".into()),
        mtu: 1500,
        up: true,
        state: OperState::Up,
        master: Some(BRIDGE),
        alias: Some("smarter-cni smartnet c1 eth0 172.38.0.5/16".into()),
        hairpin: Some(true),
        isolated: Some(false),
        ..Link::default()
    }
}

fn id() -> AttachmentId {
    AttachmentId { network: "smartnet".into(), container: "c1".into(), if_name: "eth0".parse().unwrap() }
}

fn foreign() -> Link {
    Link { index: 9, name: "vethdocker".into(), up: true, master: Some(8), ..Link::default() }
}

fn judge() -> Judge {
    let mut judge = Judge::new(|program| program == "smarter-portmap");
    let uplink = Link { index: UPLINK, name: "eth0".into(), up: true, ..Link::default() };
    // A port that comes before its bridge.
    judge.learn(vec![uplink, port(), bridge(), foreign()]);
    judge
}

fn link(link: Link) -> Event<'static> {
    Event::Link(Box::new(link))
}

/// What is suspected after these events.
fn after<'a>(events: impl IntoIterator<Item = Event<'a>>) -> Suspicion {
    let mut judge = judge();
    let mut heard = false;
    for event in events {
        heard |= judge.hear(event);
    }
    let suspicion = judge.suspicion();
    assert_eq!(heard, !suspicion.is_none());
    assert!(judge.suspicion().is_none(), "once");
    suspicion
}

fn certain() -> Suspicion {
    Suspicion { certain: true, attachments: Vec::new() }
}

fn of_the_pod() -> Suspicion {
    Suspicion { certain: false, attachments: vec![id()] }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A netlink message about rules has names as they are, with a zero at the end.
fn rules(what: Change, words: &str) -> Event<'_> {
    Event::Rules(RuleChange::new(what, words.as_bytes()))
}

fn commit(program: &str) -> Event<'static> {
    Event::Committed { program: Some(program.to_owned()) }
}

#[test]
fn losses_of_the_bridge_are_certain() {
    let down = Link { up: false, ..bridge() };
    let renamed = Link { name: "br1".into(), ..bridge() };
    let unmarked = Link { alias: None, ..bridge() };
    for lost in [down, renamed, unmarked] {
        assert_eq!(after([link(lost.clone())]), certain(), "{lost:?}");
    }
    assert_eq!(after([Event::LinkGone { index: BRIDGE }]), certain());
    assert_eq!(after([Event::AddressGone { index: BRIDGE, address: ip("172.38.0.1") }]), certain());
}

#[test]
fn losses_of_a_port_are_suspected_with_its_attachment() {
    for lost in [
        Link { master: None, ..port() },
        Link { master: Some(8), ..port() },
        Link { up: false, ..port() },
        Link { hairpin: Some(false), ..port() },
        Link { isolated: Some(true), ..port() },
        Link { mtu: 1400, ..port() },
        Link { alias: None, ..port() },
        // The pod's end is down.
        Link { state: OperState::LowerLayerDown, ..port() },
    ] {
        assert_eq!(after([link(lost.clone())]), of_the_pod(), "{lost:?}");
    }
    assert_eq!(after([Event::PortGone { index: PORT }]), of_the_pod());
    assert_eq!(
        after([Event::Port { index: PORT, hairpin: Some(false), isolated: Some(false) }]),
        of_the_pod()
    );
    assert_eq!(after([Event::PortGone { index: PORT }, Event::LinkGone { index: PORT }]), of_the_pod());
    assert_eq!(after([Event::Address { index: PORT, address: ip("169.254.7.8") }]), of_the_pod());
}

#[test]
fn what_an_add_does_is_no_reason_for_a_look() {
    let born = Link { index: 6, alias: None, hairpin: Some(false), state: OperState::Down, ..port() };
    let alias = || Some("smarter-cni smartnet c2 eth0 172.38.0.6/16".to_owned());
    let marked = Link { alias: alias(), ..born.clone() };
    let mut second = judge();
    for event in [
        // The bridge follows its ports with its MTU, and another network marks another gateway.
        link(Link {
            mtu: 1400,
            alias: Some("smarter-cni bridge 172.38.0.1/16,fd00::1/64".into()),
            ..bridge()
        }),
        link(born),
        link(marked.clone()),
        Event::Port { index: 6, hairpin: Some(true), isolated: Some(false) },
        Event::Address { index: 6, address: ip("fe80::1") },
        link(Link { hairpin: Some(true), state: OperState::Up, ..marked.clone() }),
        Event::Address { index: BRIDGE, address: ip("172.38.0.1") },
        Event::Forwarding { on: true },
        rules(Change::ForwardChain, "smarter-cni\0guard\0"),
        commit("smarter-bridge"),
    ] {
        assert!(!second.hear(event.clone()), "{event:?}");
    }
    assert!(second.suspicion().is_none());
    // From then on it is one of ours.
    assert!(second.hear(link(Link { master: None, ..marked })));
    assert_eq!(second.suspicion().attachments[0].container, "c2");
}

#[test]
fn what_is_not_ours_is_none_of_our_business() {
    assert!(
        after([
            link(Link { up: false, master: None, ..foreign() }),
            Event::PortGone { index: 9 },
            Event::LinkGone { index: 9 },
            Event::LinkGone { index: 77 },
            Event::AddressGone { index: UPLINK, address: ip("192.0.2.1") },
            Event::Address { index: UPLINK, address: ip("192.0.2.1") },
            Event::AddressGone { index: BRIDGE, address: ip("fe80::1") },
            rules(Change::Deleted, "kube-proxy\0services\0"),
            rules(Change::ElementsDeleted, "kube-proxy\0services\0"),
            commit("kube-proxy"),
        ])
        .is_none()
    );
}

#[test]
fn switched_off_forwarding_and_what_was_missed_are_certain() {
    assert_eq!(after([Event::Forwarding { on: false }]), certain());
    assert_eq!(after([Event::Missed]), certain());
}

#[test]
fn lost_rules_are_certain_and_elements_only_when_others_remove_them() {
    assert_eq!(after([rules(Change::Deleted, "smarter-cni\0")]), certain());
    assert_eq!(after([rules(Change::Deleted, "filter\0FORWARD\0smarter-cni smartnet0\0")]), certain());
    let elements = || rules(Change::ElementsDeleted, "smarter-cni\0hostports\0");
    assert!(after([elements(), commit("smarter-portmap")]).is_none());
    assert_eq!(after([elements(), commit("nft")]), certain());
    assert_eq!(after([elements(), Event::Committed { program: None }]), certain(), "before Linux 4.16");
    assert!(
        after([elements(), commit("smarter-portmap"), commit("nft")]).is_none(),
        "each answers for its own"
    );
}

#[test]
fn somebody_elses_new_chain_may_drop_what_pods_send() {
    let chain = || rules(Change::ForwardChain, "filter\0FORWARD\0");
    assert_eq!(after([chain()]), certain());
    let mut nobody = Judge::new(|_| false);
    assert!(!nobody.hear(chain()), "where nothing of ours is, nothing is dropped");
}

#[test]
fn a_vlan_gateway_is_watched_like_a_bridge_and_its_port_like_a_guest() {
    let gateway = Link { index: 20, name: "smartnet0.42".into(), up: true, ..Link::default() };
    let guest = Link { index: 21, name: "veth42".into(), up: true, master: Some(BRIDGE), ..Link::default() };
    let added = || [link(gateway.clone()), link(guest.clone())];
    assert!(after(added()).is_none());
    for lost in [
        Event::AddressGone { index: 20, address: ip("172.38.0.1") },
        Event::LinkGone { index: 21 },
        link(Link { master: None, ..guest.clone() }),
    ] {
        assert_eq!(after(added().into_iter().chain([lost])), certain());
    }
}
