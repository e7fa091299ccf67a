//! Which interfaces lead out of the node, and between which of them nothing is forwarded.
//!
//! The guard is about uplinks alone: what comes in by one and leaves by another. Bridges with pods behind them, tunnels and
//! VPNs, other container networks and whatever else forwards on the node are not ours to refuse.
//!
//! Pure.

use std::collections::BTreeSet;

use crate::net::IfName;

/// Kinds of links through which other nodes or networks are reached by way of an uplink: none themselves, also where a
/// default route leads through them.
const TUNNELS: [&str; 20] = [
    "tun",
    "wireguard",
    "ovpn",
    "ipip",
    "sit",
    "gre",
    "gretap",
    "erspan",
    "ip6tnl",
    "ip6gre",
    "ip6gretap",
    "ip6erspan",
    "vti",
    "vti6",
    "xfrm",
    "vxlan",
    "geneve",
    "l2tp",
    "gtp",
    "bareudp",
];
/// Links that are hardware, or several pieces of it taken together: those without a kind, and these.
const HARDWARE: [&str; 3] = ["bond", "team", "wwan"];

/// An interface with an address or a default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    pub name: IfName,
    /// The driver's word for the link, then for the one below it where it is a VLAN, and so on. Hardware has none.
    pub kinds: Vec<Option<String>>,
    /// It carries our mark, or leads to pods of ours.
    pub ours: bool,
    pub has_default_route: bool,
    /// Of more than its link.
    pub has_address: bool,
}

impl Candidate {
    pub fn is_uplink(&self) -> bool {
        let kind = self.kinds.first().and_then(Option::as_deref);
        let is_tunnel = kind.is_some_and(|kind| TUNNELS.contains(&kind));
        !self.ours
            && self.name.as_str() != "lo"
            && !is_tunnel
            && (self.has_default_route || self.has_address && self.is_physical())
    }

    fn is_physical(&self) -> bool {
        let mut below = self.kinds.iter().skip_while(|kind| kind.as_deref() == Some("vlan"));
        match below.next() {
            Some(None) => true,
            Some(Some(kind)) => HARDWARE.contains(&kind.as_str()),
            None => false,
        }
    }
}

/// In by the first, out by the second.
pub type Pair = (IfName, IfName);

/// Each uplink with each other one.
pub fn pairs(uplinks: &BTreeSet<IfName>) -> BTreeSet<Pair> {
    let others = |one: &IfName| {
        let one = one.clone();
        uplinks.iter().filter(move |other| **other != one).cloned()
    };
    uplinks.iter().flat_map(|one| others(one).map(|other| (one.clone(), other))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(kinds: &[&str]) -> Candidate {
        let kinds = kinds.iter().map(|kind| Some((*kind).to_owned()).filter(|kind| !kind.is_empty()));
        Candidate {
            name: "eth0".parse().unwrap(),
            kinds: kinds.collect(),
            ours: false,
            has_default_route: false,
            has_address: true,
        }
    }

    #[test]
    fn hardware_with_an_address_is_an_uplink_and_so_are_its_vlans_and_bonds() {
        for kinds in [
            &[""][..],
            &["vlan", ""],
            &["vlan", "vlan", ""],
            &["bond"],
            &["vlan", "bond"],
            &["team"],
            &["wwan"],
        ] {
            assert!(link(kinds).is_uplink(), "{kinds:?}");
            assert!(!Candidate { has_address: false, ..link(kinds) }.is_uplink(), "{kinds:?}");
        }
        for kinds in [&["bridge"][..], &["veth"], &["vlan", "bridge"], &["macvlan"], &["dummy"], &["vlan"]] {
            assert!(!link(kinds).is_uplink(), "{kinds:?}");
        }
    }

    #[test]
    fn a_default_route_makes_an_uplink_but_of_tunnels() {
        for kinds in [&["bridge"][..], &["veth"], &["ppp"], &["macvlan"]] {
            let link = Candidate { has_default_route: true, has_address: false, ..link(kinds) };
            assert!(link.is_uplink(), "{kinds:?}");
            assert!(!Candidate { ours: true, ..link }.is_uplink(), "{kinds:?}");
        }
        for kind in ["wireguard", "tun", "gre", "vxlan"] {
            assert!(!Candidate { has_default_route: true, ..link(&[kind]) }.is_uplink(), "{kind}");
        }
    }

    #[test]
    fn each_uplink_is_kept_from_each_other() {
        let names =
            |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect::<BTreeSet<IfName>>();
        assert_eq!(pairs(&names(&["eth0"])).len(), 0);
        assert_eq!(pairs(&names(&["eth0", "wwan0"])).len(), 2);
        assert_eq!(pairs(&names(&["eth0", "wlan0", "wwan0"])).len(), 6);
    }
}
