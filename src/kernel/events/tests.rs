use super::*;

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `struct ifinfomsg` of link 7, and attributes.
fn link_message(family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![family, 0, 1, 0];
    bytes.extend(7u32.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(attributes.concat());
    bytes
}

#[test]
fn a_port_that_leaves_its_bridge_is_no_link_that_goes() {
    let bridge = link_message(AF_BRIDGE, &[]);
    assert_eq!(parse_route(RTM_DELLINK, &bridge), Some(Event::PortGone { index: 7 }));
    assert_eq!(parse_route(RTM_DELLINK, &link_message(0, &[])), Some(Event::LinkGone { index: 7 }));
    let flags = [attribute(IFLA_BRPORT_MODE, &[1]), attribute(IFLA_BRPORT_ISOLATED, &[0])].concat();
    let port = link_message(AF_BRIDGE, &[attribute(IFLA_PROTINFO | 0x8000, &flags)]);
    assert_eq!(
        parse_route(RTM_NEWLINK, &port),
        Some(Event::Port { index: 7, hairpin: Some(true), isolated: Some(false) })
    );
    let link = link_message(0, &[attribute(3, b"veth1\0")]);
    let Some(Event::Link(link)) = parse_route(RTM_NEWLINK, &link) else { panic!("a link") };
    assert_eq!((link.index, link.name.as_str()), (7, "veth1"));
}

#[test]
fn only_the_switch_of_the_whole_node_is_forwarding() {
    let netconf = |index: u32, forwarding: Option<u32>| {
        let mut bytes = vec![2, 0, 0, 0];
        bytes.extend(attribute(NETCONFA_IFINDEX, &index.to_ne_bytes()));
        bytes.extend(
            forwarding.map(|on| attribute(NETCONFA_FORWARDING, &on.to_ne_bytes())).unwrap_or_default(),
        );
        let event = parse_route(RTM_NEWNETCONF, &bytes);
        event.map(|event| event == Event::Forwarding { on: true })
    };
    assert_eq!(netconf(u32::MAX, Some(0)), Some(false));
    assert_eq!(netconf(u32::MAX, Some(1)), Some(true));
    assert_eq!(netconf(7, Some(0)), None, "of one link");
    assert_eq!(netconf(u32::MAX, None), None, "another switch");
}

#[test]
fn addresses_come_and_go() {
    let message = [vec![2, 24, 0, 0], 7u32.to_ne_bytes().to_vec(), attribute(2, &[10, 0, 0, 1])].concat();
    let (index, address) = (7, IpAddr::from([10, 0, 0, 1]));
    assert_eq!(parse_route(address::RTM_NEWADDR, &message), Some(Event::Address { index, address }));
    assert_eq!(parse_route(address::RTM_DELADDR, &message), Some(Event::AddressGone { index, address }));
    assert_eq!(parse_route(24, &message), None, "a route");
    assert_eq!(parse_route(address::RTM_DELADDR, &message[..7]), None, "cut short");
}

#[test]
fn of_rules_only_losses_and_forward_chains_count() {
    const NFT: u16 = 10 << 8;
    let message = |attributes: &[Vec<u8>]| [vec![2, 0, 0, 0], attributes.concat()].concat();
    let what = |kind: u16, attributes: &[Vec<u8>]| {
        let message = message(attributes);
        match parse_rules(NFT + kind, &message) {
            Some(Event::Rules(change)) => Some((change.what, change.mentions("smarter-cni"))),
            other => {
                assert_eq!(other, None);
                None
            }
        }
    };
    let ours = || vec![attribute(1, b"smarter-cni\0")];
    for deleted in [2, 5, 8, 11] {
        assert_eq!(what(deleted, &ours()), Some((Change::Deleted, true)));
    }
    assert_eq!(what(14, &ours()), Some((Change::ElementsDeleted, true)));
    assert_eq!(what(14, &[attribute(1, b"smarter\0")]), Some((Change::ElementsDeleted, false)));
    for added in [0, 6, 9, 12] {
        assert_eq!(what(added, &ours()), None);
    }
    let hooked =
        |hook: u8| [attribute(1, b"filter\0"), attribute(4 | 0x8000, &attribute(1, &[0, 0, 0, hook]))];
    assert_eq!(what(3, &hooked(2)), Some((Change::ForwardChain, false)));
    assert_eq!(what(3, &hooked(1)), None, "input");
    assert_eq!(what(3, &ours()), None, "no base chain");

    let committed = message(&[attribute(1, &[0; 4]), attribute(3, b"nft\0")]);
    assert_eq!(parse_rules(NFT + 15, &committed), Some(Event::Committed { program: Some("nft".into()) }));
    assert_eq!(parse_rules(NFT + 15, &message(&[])), Some(Event::Committed { program: None }));
}

fn feed(protocol: isize, groups: &[u32]) -> Feed {
    Feed { protocol, socket: None, missing: groups.to_vec(), parse: parse_route }
}

/// Kernels lack protocols and groups, and do not let everybody hear everything.
#[test]
fn what_a_kernel_does_not_announce_is_missing_and_nothing_else() {
    let mut some = feed(protocols::NETLINK_ROUTE, &[1, 4_000_000]);
    assert!(some.subscribe().is_err());
    assert_eq!(some.missing, [4_000_000]);
    let mut none = feed(31, &[1]);
    assert!(none.subscribe().is_err());
    assert_eq!((none.missing.as_slice(), none.socket.is_none()), (&[1][..], true));
    none.read(&mut Vec::with_capacity(64), &mut |event| panic!("{event:?}"));
}
