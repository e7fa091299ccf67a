//! Which range the pods of this node get, and whether the node can spare it. Pure; what is in a range's way says
//! [`crate::datapath::ground`].
//!
//! Pure.

use std::net::Ipv4Addr;

use ipnetwork::{IpNetwork, Ipv4Network};

use super::settings::Wish;
use crate::conflist::{Network, Range, Ranges};
use crate::datapath::ground::{Ground, Taken};

/// What is known beside the wish.
#[derive(Clone, Debug, Default)]
pub(super) struct Before {
    /// What `auto` picked at an earlier installation.
    pub(super) automatic: Option<Range>,
    /// What the configuration of a predecessor says.
    pub(super) predecessor: Option<Ranges>,
    /// What an earlier installation of ours gives to pods.
    pub(super) installed: Vec<Range>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) ranges: Ranges,
    /// What `auto` picked, to be kept.
    pub(super) automatic: Option<Range>,
    /// Where the range came from, when nobody said, and whom pods hide.
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// What came into the way of a range that pods have already.
    pub(super) collisions: Vec<String>,
}

/// `bridge` is the name of the network's bridge: what it has is ours. The error names the interface and a free range.
pub(super) fn choose(wish: &Wish, before: &Before, ground: &Ground, bridge: &str) -> Result<Choice, String> {
    let (ranges, automatic, note) = wanted(wish, before, ground, bridge)?;
    let notes = note.into_iter().collect();
    let mut choice = Choice { ranges, automatic, notes, warnings: Vec::new(), collisions: Vec::new() };
    for range in choice.ranges.iter() {
        if let Some(taken) = collision(range.subnet(), ground, bridge) {
            let text = refusal(range, taken, ground, bridge);
            // Pods live there already: taking it away from under them would help nobody.
            if !before.installed.contains(range) && before.automatic != Some(*range) {
                return Err(text);
            }
            choice.collisions.push(format!("{text}; it stays, because pods have it"));
        }
        let ways = ground.hidden(range.subnet(), own(bridge));
        if let Some(way) = ways.max_by_key(|way| way.network.prefix()) {
            choice.notes.push(format!(
                "{} is a part of what lies beyond {way}: pods hide the hosts there that have these addresses",
                range.subnet()
            ));
        }
        if range.is_public() {
            choice.warnings.push(format!(
                "{} is public address space: hosts on the Internet with such addresses cannot be reached from this node",
                range.subnet()
            ));
        }
    }
    Ok(choice)
}

/// The ranges, the one of them that `auto` picked, and where they came from.
fn wanted(
    wish: &Wish,
    before: &Before,
    ground: &Ground,
    bridge: &str,
) -> Result<(Ranges, Option<Range>, Option<String>), String> {
    Ok(match (wish, before) {
        (Wish::Given(ranges), _) => (ranges.clone(), None, None),
        (Wish::Auto(v6), Before { automatic: Some(kept), .. }) => {
            let note = format!("auto: {} as at the earlier installation", kept.subnet());
            (with(*kept, *v6)?, Some(*kept), Some(note))
        }
        (Wish::Auto(v6), _) => {
            let picked =
                free(ground, bridge).ok_or("no private IPv4 range is free; give one with --subnet")?;
            let note =
                format!("auto: {} is free; it must be the cluster-cidr of the cluster", picked.subnet());
            (with(picked, *v6)?, Some(picked), Some(note))
        }
        (Wish::Default, Before { predecessor: Some(ranges), .. }) => {
            let note = "the range is that of the configuration which was there".to_owned();
            (ranges.clone(), None, Some(note))
        }
        (Wish::Default, _) => (Network::default().ranges, None, None),
    })
}

fn with(v4: Range, v6: Option<Range>) -> Result<Ranges, String> {
    Ranges::new(std::iter::once(v4).chain(v6).collect())
}

fn own(bridge: &str) -> impl Fn(&Taken) -> bool {
    move |taken: &Taken| taken.ours || taken.interface == bridge
}

fn collision<'a>(subnet: IpNetwork, ground: &'a Ground, bridge: &str) -> Option<&'a Taken> {
    ground.collisions(subnet, own(bridge)).next()
}

fn refusal(range: &Range, taken: &Taken, ground: &Ground, bridge: &str) -> String {
    let alternative = match (range.subnet().is_ipv4(), free(ground, bridge)) {
        (true, Some(free)) => {
            format!("; {} is free: use it here and as the cluster's cluster-cidr", free.subnet())
        }
        (true, None) => String::new(),
        (false, _) => "; use another prefix below fd00::/8".to_owned(),
    };
    format!(
        "{} overlaps with {taken}: whoever is there could not be reached any more{alternative}",
        range.subnet()
    )
}

/// 10.42 and 10.43 (k3s), 10.96 (kubeadm), 10.1 and 10.152 (microk8s), 10.88 (podman), 10.217 (Cilium) and 10.244 (flannel)
/// are what others take when nobody says otherwise, 10.0 what many routers do.
const DEFAULTS_OF_OTHERS: [u8; 9] = [0, 1, 42, 43, 88, 96, 152, 217, 244];

/// The first private range that nobody here uses: large ones first, in places where routers and other programs rarely are.
/// Better one beyond which nobody is, or where the way out is as wide as it can be.
fn free(ground: &Ground, bridge: &str) -> Option<Range> {
    let hides = |subnet: &IpNetwork| {
        ground.hidden(*subnet, own(bridge)).map(|way| way.network.prefix()).max().unwrap_or_default()
    };
    let free = candidates().filter(|subnet| collision(*subnet, ground, bridge).is_none());
    free.min_by_key(hides).and_then(|subnet| Range::new(subnet, None).ok())
}

fn candidates() -> impl Iterator<Item = IpNetwork> {
    let block = |a: u8, b: u8, c: u8, prefix: u8| Ipv4Network::new(Ipv4Addr::new(a, b, c, 0), prefix).ok();
    let large = (38..=254).chain(2..38).filter(|b| !DEFAULTS_OF_OTHERS.contains(b));
    let large = large.filter_map(move |b| block(10, b, 0, 16));
    // 172.17 to 172.20 are Docker's.
    let middle = (21..=31).filter_map(move |b| block(172, b, 0, 16));
    let small = (200..=254).filter_map(move |c| block(192, 168, c, 24));
    large.chain(middle).chain(small).map(IpNetwork::V4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::ground::By;
    use crate::net::network_of;

    fn addressed(address: &str, interface: &str) -> Taken {
        let own: IpNetwork = address.parse().unwrap();
        let interface = interface.into();
        Taken { network: network_of(own), interface, by: By::Address(own.ip()), tunnel: false, ours: false }
    }

    fn route(to: &str, interface: &str, table: u32) -> Taken {
        let by = By::Route { table, via: true };
        Taken { network: to.parse().unwrap(), interface: interface.into(), by, tunnel: false, ours: false }
    }

    fn ground(taken: Vec<Taken>) -> Ground {
        Ground { taken, bridges: vec![] }
    }

    fn given(subnet: &str) -> Wish {
        Wish::Given(Ranges::new(vec![range(subnet)]).unwrap())
    }

    fn range(subnet: &str) -> Range {
        Range::new(subnet.parse().unwrap(), None).unwrap()
    }

    fn chosen(wish: &Wish, before: &Before, ground: &Ground) -> Result<Choice, String> {
        choose(wish, before, ground, "smartnet0")
    }

    #[test]
    fn the_default_range_comes_with_one_warning() {
        let choice = chosen(&Wish::Default, &Before::default(), &ground(vec![])).unwrap();
        assert_eq!(choice.ranges, Network::default().ranges);
        assert_eq!(
            choice.warnings,
            [
                "172.38.0.0/16 is public address space: hosts on the Internet with such addresses cannot be reached from \
              this node"
            ]
        );
    }

    #[test]
    fn a_range_of_somebody_else_is_refused_with_his_interface_and_a_free_one() {
        let lan = ground(vec![
            addressed("10.38.7.9/24", "wlan0"),
            route("10.39.0.0/16", "", 254),
            route("10.40.0.0/16", "tun0", 100),
        ]);
        let refused = |subnet: &str| chosen(&given(subnet), &Before::default(), &lan).unwrap_err();
        assert_eq!(
            refused("10.38.0.0/16"),
            "10.38.0.0/16 overlaps with the network 10.38.7.0/24 of interface wlan0: whoever is there could not be \
             reached any more; 10.41.0.0/16 is free: use it here and as the cluster's cluster-cidr"
        );
        assert!(refused("10.39.1.0/24").contains("overlaps with the route to 10.39.0.0/16: "));
        assert!(refused("10.0.0.0/8").contains("10.38.7.0/24"));
        assert!(
            refused("10.40.0.0/30").contains("the route to 10.40.0.0/16 through interface tun0 (table 100)")
        );
        assert!(chosen(&given("10.44.0.0/16"), &Before::default(), &lan).unwrap().warnings.is_empty());
    }

    #[test]
    fn what_our_bridge_has_is_no_collision() {
        let mut own = ground(vec![addressed("10.38.0.1/16", "smartnet0")]);
        assert!(chosen(&given("10.38.0.0/16"), &Before::default(), &own).is_ok());
        own.taken[0].interface = "other0".into();
        assert!(chosen(&given("10.38.0.0/16"), &Before::default(), &own).is_err());
        own.taken[0].ours = true;
        assert!(chosen(&given("10.38.0.0/16"), &Before::default(), &own).is_ok());
    }

    #[test]
    fn auto_picks_what_is_free_and_keeps_it() {
        let lan = ground(vec![addressed("10.38.0.9/16", "eth0")]);
        let choice = chosen(&Wish::Auto(None), &Before::default(), &lan).unwrap();
        assert_eq!(choice.automatic, Some(range("10.39.0.0/16")));
        assert_eq!(choice.ranges.first(), range("10.39.0.0/16"));
        let kept = Before { automatic: choice.automatic, ..Before::default() };
        let later = ground(vec![addressed("10.39.0.9/24", "wwan0")]);
        let choice = chosen(&Wish::Auto(Some(range("fd00:38::/64"))), &kept, &later).unwrap();
        assert_eq!(choice.ranges.iter().count(), 2);
        assert_eq!(choice.ranges.first(), range("10.39.0.0/16"), "pods live there");
        assert!(choice.collisions[0].contains("interface wwan0"), "{:?}", choice.collisions);
        let all = ["10.0.0.9/8", "172.16.0.9/12", "192.168.0.9/16"];
        let full = ground(all.iter().map(|address| addressed(address, "eth0")).collect());
        assert!(
            chosen(&Wish::Auto(None), &Before::default(), &full)
                .unwrap_err()
                .contains("give one with --subnet")
        );
    }

    #[test]
    fn a_range_that_pods_have_stays_when_something_comes_into_its_way() {
        let lan = ground(vec![addressed("10.38.7.9/24", "wlan0")]);
        let before = Before { installed: vec![range("10.38.0.0/16")], ..Before::default() };
        let choice = chosen(&given("10.38.0.0/16"), &before, &lan).unwrap();
        assert!(choice.collisions[0].contains("10.38.7.0/24 of interface wlan0"), "{:?}", choice.collisions);
        assert!(choice.collisions[0].ends_with("it stays, because pods have it"), "{:?}", choice.collisions);
        let other = chosen(&given("10.38.0.0/20"), &before, &lan);
        assert!(other.is_err(), "nobody has that one");
    }

    #[test]
    fn a_vpn_takes_no_range_away() {
        let vpn = ["0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "::/1", "8000::/1", "2000::/3"];
        let vpn = ground(vpn.iter().map(|to| route(to, "tun0", 254)).collect());
        for subnet in ["10.38.0.0/16", "172.38.0.0/16", "fd00:38::/64"] {
            let choice = chosen(&given(subnet), &Before::default(), &vpn).unwrap();
            let [note] = choice.notes.as_slice() else { panic!("{:?}", choice.notes) };
            assert!(note.contains("beyond the route to") && note.contains("pods hide the hosts"), "{note}");
        }
        // Not beyond the company's route, as far as that goes.
        let company = ground(vec![route("10.0.0.0/8", "tun0", 254)]);
        let choice = chosen(&Wish::Auto(None), &Before::default(), &company).unwrap();
        assert_eq!(choice.automatic, Some(range("172.21.0.0/16")));
        let choice = chosen(&Wish::Auto(None), &Before::default(), &vpn).unwrap();
        assert_eq!(choice.automatic, Some(range("172.21.0.0/16")), "the halves are everywhere");
    }

    #[test]
    fn a_predecessors_range_stays_unless_another_is_wanted() {
        let ranges = Ranges::new(vec![range("172.39.0.0/16")]).unwrap();
        let before = Before { predecessor: Some(ranges.clone()), ..Before::default() };
        assert_eq!(chosen(&Wish::Default, &before, &ground(vec![])).unwrap().ranges, ranges);
        let other = chosen(&given("10.38.0.0/16"), &before, &ground(vec![])).unwrap();
        assert_eq!(other.ranges.first(), range("10.38.0.0/16"));
    }
}
