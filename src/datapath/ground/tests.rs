use super::*;

fn network(text: &str) -> IpNetwork {
    text.parse().unwrap()
}

fn taken(to: &str, interface: &str, by: By) -> Taken {
    let tunnel = interface.starts_with("tun");
    Taken { network: network(to), interface: interface.into(), by, tunnel, ours: false }
}

fn routed(to: &str, interface: &str, via: bool) -> Taken {
    taken(to, interface, By::Route { table: 254, via })
}

fn addressed(address: &str, interface: &str) -> Taken {
    let own = network(address);
    taken(&crate::net::network_of(own).to_string(), interface, By::Address(own.ip()))
}

#[test]
fn a_way_out_is_not_a_network() {
    for (route, range) in [
        ("0.0.0.0/1", "10.38.0.0/16"),
        ("128.0.0.0/1", "172.38.0.0/16"),
        ("0.0.0.0/2", "10.38.0.0/16"),
        ("8.0.0.0/5", "10.38.0.0/16"),
        ("10.0.0.0/8", "10.38.0.0/16"),
        ("172.16.0.0/12", "172.20.0.0/16"),
        ("172.32.0.0/11", "172.38.0.0/16"),
        ("192.168.0.0/16", "192.168.77.0/24"),
        ("100.64.0.0/10", "100.80.0.0/16"),
        ("::/1", "2001:db8:38::/64"),
        ("8000::/1", "fd00:38::/64"),
        ("2000::/3", "2001:db8:38::/64"),
        ("fc00::/7", "fd00:38::/64"),
        ("fd00::/8", "fd00:38::/64"),
    ] {
        for (interface, via) in [("tun0", false), ("lan0", true), ("", true)] {
            let route = routed(route, interface, via);
            assert_eq!(route.overlap(network(range)), Some(Overlap::Hidden), "{route}");
        }
    }
    // Also on a link without routers, where nobody could mean so much by one network.
    assert_eq!(routed("0.0.0.0/1", "ppp0", false).overlap(network("10.38.0.0/16")), Some(Overlap::Hidden));
}

#[test]
fn a_network_behind_a_router_or_a_tunnel_is_one() {
    for (route, range) in [
        ("10.38.0.0/16", "10.38.4.0/24"),
        ("10.38.4.0/24", "10.38.0.0/16"),
        ("10.38.0.0/16", "10.38.0.0/16"),
        ("192.168.0.0/17", "192.168.77.0/24"),
        // As wide as the range, or narrower: it would take packets for pods.
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.32.0.0/11", "10.0.0.0/8"),
        ("fd00:38::/48", "fd00:38::/64"),
    ] {
        for (interface, via) in [("tun0", false), ("lan0", true)] {
            let route = routed(route, interface, via);
            assert_eq!(route.overlap(network(range)), Some(Overlap::Collision), "{route}");
        }
    }
    // Neighbours can be many.
    let link = routed("10.32.0.0/11", "lan0", false);
    assert_eq!(link.overlap(network("10.38.0.0/16")), Some(Overlap::Collision));
}

#[test]
fn addresses_of_the_node_and_its_routers_are_in_the_way() {
    let range = network("10.38.0.0/16");
    for address in ["10.38.7.9/24", "10.0.0.5/8", "10.38.0.9/32"] {
        assert_eq!(addressed(address, "lan0").overlap(range), Some(Overlap::Collision), "{address}");
    }
    // What a VPN gives with its address is as far away as what it routes.
    assert_eq!(addressed("10.8.0.2/8", "tun0").overlap(range), Some(Overlap::Hidden));
    assert_eq!(addressed("10.38.0.2/8", "tun0").overlap(range), Some(Overlap::Collision));
    assert_eq!(taken("10.38.0.1/32", "lan0", By::Router).overlap(range), Some(Overlap::Collision));
    assert_eq!(taken("10.39.0.1/32", "lan0", By::Router).overlap(range), None);
    assert_eq!(addressed("fd00::1/64", "lan0").overlap(range), None);
}

#[test]
fn what_is_the_ranges_own_does_not_count() {
    let ground = Ground {
        taken: vec![addressed("10.38.0.1/16", "smartnet0"), routed("10.0.0.0/8", "tun0", false)],
        ..Ground::default()
    };
    let range = network("10.38.0.0/16");
    let own = |taken: &Taken| taken.interface == "smartnet0";
    assert_eq!(ground.collisions(range, own).count(), 0);
    assert_eq!(ground.hidden(range, own).count(), 1);
    assert_eq!(ground.collisions(range, |_| false).count(), 1);
}

#[test]
fn a_person_reads_what_it_is_and_where() {
    assert_eq!(addressed("10.38.7.9/24", "lan0").to_string(), "the network 10.38.7.0/24 of interface lan0");
    assert_eq!(routed("10.39.0.0/16", "", true).to_string(), "the route to 10.39.0.0/16");
    let by = By::Route { table: 100, via: false };
    let route = taken("10.40.0.0/16", "tun0", by);
    assert_eq!(route.to_string(), "the route to 10.40.0.0/16 through interface tun0 (table 100)");
    let router = taken("10.38.0.1/32", "lan0", By::Router);
    assert_eq!(router.to_string(), "the router 10.38.0.1 behind interface lan0");
}
