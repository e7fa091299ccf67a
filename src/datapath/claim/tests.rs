use super::*;

const OWN: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 2);

fn used(network: &str, interface: &str, how: How) -> Use {
    Use { network: network.parse().unwrap(), interface: interface.into(), how, ours: false }
}

fn route(to: &str, interface: &str) -> Use {
    used(to, interface, How::Route { table: 254 })
}

fn words(uses: &[Use]) -> Option<String> {
    taken(OWN, "smartnet0", uses).map(|taken| taken.to_string())
}

#[test]
fn whoever_uses_the_address_is_named() {
    for (other, expected) in [
        (used("169.254.0.2/32", "usb0", How::Address), "interface usb0 has it"),
        (route("169.254.0.2/32", "ens3"), "there is a route to 169.254.0.2/32 through interface ens3"),
        (route("169.254.0.0/24", ""), "there is a route to 169.254.0.0/24"),
        (
            used("169.254.0.2/32", "ib0", How::Route { table: 100 }),
            "there is a route to 169.254.0.2/32 through interface ib0 (table 100)",
        ),
        (used("169.254.0.2/32", "ens3", How::Neighbour), "a neighbour behind interface ens3 has it"),
        (used("169.254.0.2/32", "", How::Connection { port: 3260 }), "a connection to its port 3260 is open"),
    ] {
        let expected = format!("169.254.0.2 is used by somebody else: {expected}");
        assert_eq!(words(std::slice::from_ref(&other)), Some(expected));
        assert_eq!(words(&[Use { ours: true, ..other }]), None, "ours");
    }
}

#[test]
fn what_is_about_other_addresses_or_about_all_of_them_is_nobodys_use() {
    let others = [
        used("169.254.0.3/32", "usb0", How::Address),
        used("169.254.169.254/32", "ens3", How::Neighbour),
        used("169.254.169.254/32", "", How::Connection { port: 80 }),
        route("169.254.0.0/16", "ens3"),
        route("0.0.0.0/0", "ens3"),
        route("169.254.169.254/32", "ens3"),
        route("169.254.128.0/17", "ens3"),
    ];
    assert_eq!(words(&others), None);
}

#[test]
fn our_own_interface_may_have_it_in_every_way() {
    let own = [
        used("169.254.0.2/32", "smartnet0", How::Address),
        route("169.254.0.2/32", "smartnet0"),
        used("169.254.0.2/32", "smartnet0", How::Neighbour),
    ];
    assert_eq!(words(&own), None);
    assert!(taken(OWN, "other0", &own).is_some());
}

#[test]
fn another_network_of_ours_shares_it() {
    let other = Use { ours: true, ..used("169.254.0.2/32", "other0", How::Address) };
    assert!(is_shared(OWN, "smartnet0", std::slice::from_ref(&other)));
    assert!(!is_shared(OWN, "other0", std::slice::from_ref(&other)));
    assert!(!is_shared(OWN, "smartnet0", &[Use { ours: false, ..other }]));
}

#[test]
fn all_of_them_are_named_once_and_not_too_many() {
    let mut uses = vec![used("169.254.0.2/32", "ens3", How::Neighbour); 2];
    uses.push(used("169.254.0.2/32", "", How::Connection { port: 3260 }));
    assert_eq!(
        words(&uses).unwrap(),
        "169.254.0.2 is used by somebody else: a neighbour behind interface ens3 has it, a connection to its port 3260 is \
         open"
    );
    uses.extend((1..4).map(|port| used("169.254.0.2/32", "", How::Connection { port })));
    assert!(words(&uses).unwrap().ends_with("a connection to its port 1 is open, and 2 more"));
}

#[test]
fn another_address_is_one_that_nobody_uses() {
    assert_eq!(free("smartnet0", &[]), Some(Ipv4Addr::new(169, 254, 53, 53)));
    let lan = [route("169.254.53.0/24", "usb0"), used("169.254.54.53/32", "ens3", How::Neighbour)];
    assert_eq!(free("smartnet0", &lan), Some(Ipv4Addr::new(169, 254, 55, 53)));
    assert_eq!(free("smartnet0", &[route("169.254.0.0/17", "usb0")]), None);
}

mod of_the_kernel {
    use super::*;
    use crate::datapath::hostports::listeners::Connection;

    fn connection(local: &str, peer: &str) -> Connection {
        Connection { local: local.parse().unwrap(), peer: peer.parse().unwrap() }
    }

    fn is_taken(connections: &[Connection]) -> bool {
        taken(OWN, "smartnet0", &of(&[], &[], &[], &[], connections)).is_some()
    }

    #[test]
    fn a_connection_counts_unless_its_other_end_is_here() {
        let out = connection("10.0.0.7:40000", "169.254.0.2:3260");
        assert!(is_taken(&[out]));
        // A process that asked our server; and a pod that did.
        let back = connection("169.254.0.2:3260", "10.0.0.7:40000");
        assert!(!is_taken(&[out, back]));
        assert!(!is_taken(&[connection("169.254.0.2:53", "10.38.0.7:40000")]));
    }
}
