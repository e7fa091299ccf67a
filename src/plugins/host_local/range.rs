//! What addresses there are to hand out: ranges and sets of ranges that cannot be wrong, and the order in which their
//! addresses are tried. Pure; does not know which addresses are taken.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::net::Family;
use crate::state::record::Pool;

/// What a configuration says about one range.
#[derive(Clone, Debug, Default)]
pub struct RangeText {
    /// Host part kept.
    pub subnet: Option<IpNetwork>,
    pub start: Option<IpAddr>,
    pub end: Option<IpAddr>,
    pub gateway: Option<IpAddr>,
}

/// A piece of one subnet, start and end inclusive. Displays as `10.1.2.1-10.1.2.254`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    subnet: IpNetwork,
    start: IpAddr,
    end: IpAddr,
    gateway: IpAddr,
}

impl Range {
    /// The texts are those of the Go plugin.
    pub fn parse(text: &RangeText) -> Result<Self, String> {
        let subnet = text.subnet.ok_or("IP <nil> not v4 nor v6")?;
        let bits = match subnet {
            IpNetwork::V4(_) => 32,
            IpNetwork::V6(_) => 128,
        };
        let (length, network) = (subnet.prefix(), subnet.network());
        if length > bits - 2 {
            return Err(format!("Network {subnet} too small to allocate from"));
        }
        if subnet.ip() != network {
            return Err(format!(
                "Network has host bits set. For a subnet mask of length {length} the network address is {network}"
            ));
        }
        // The last address of an IPv4 subnet is its broadcast address; IPv6 has none.
        let last = if bits == 32 { number(subnet.broadcast()) - 1 } else { number(subnet.broadcast()) };
        let first = nth(network, number(network) + 1);
        let outside = |name, address| Err(format!("{name} {address} not in network {subnet}"));
        let start = text.start.unwrap_or(first);
        if !subnet.contains(start) || text.end.is_some_and(|end| text.start.is_some() && start > end) {
            return outside("RangeStart", start);
        }
        let end = text.end.unwrap_or(nth(network, last));
        if !subnet.contains(end) || (text.end.is_some() && end < start) {
            return outside("RangeEnd", end);
        }
        // An explicit start on the broadcast address, which the default end leaves out.
        if end < start {
            return outside("RangeStart", start);
        }
        Ok(Self { subnet, start, end, gateway: text.gateway.unwrap_or(first) })
    }

    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    /// The address as the pod gets it, with the prefix of the subnet.
    pub fn with_prefix(&self, address: IpAddr) -> IpNetwork {
        IpNetwork::new(address, self.subnet.prefix()).expect("the prefix came from a subnet of the family")
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == Family::of(self.start) && (self.start..=self.end).contains(&address)
    }

    fn overlaps(&self, other: &Self) -> bool {
        Family::of(self.start) == Family::of(other.start)
            && self.start <= other.end
            && other.start <= self.end
    }

    /// Without the gateway, which is never handed out. One less than there are if the range is all of IPv6.
    fn size(&self) -> u128 {
        let all = (number(self.end) - number(self.start)).saturating_add(1);
        all - u128::from(self.contains(self.gateway))
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// Ranges of one family of which a pod gets one address; not empty, without overlap. Displays as its ranges joined by
/// `,`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(Vec<Range>);

impl RangeSet {
    /// The texts are those of the Go plugin.
    pub fn parse(texts: &[RangeText]) -> Result<Self, String> {
        let mut ranges: Vec<Range> = Vec::with_capacity(texts.len());
        for text in texts {
            let range = Range::parse(text)?;
            if ranges.first().is_some_and(|first| Family::of(first.start) != Family::of(range.start)) {
                return Err("mixed address families".to_owned());
            }
            ranges.push(range);
        }
        for (at, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges[at + 1..].iter().find(|other| one.overlaps(other)) {
                return Err(format!("subnets {one} and {other} overlap"));
            }
        }
        if ranges.is_empty() { Err("empty range set".to_owned()) } else { Ok(Self(ranges)) }
    }

    pub fn family(&self) -> Family {
        Family::of(self.0[0].start)
    }

    /// The range an address belongs to.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        self.range_of(address).is_some()
    }

    /// The subnets that its ranges are pieces of.
    pub fn subnets(&self) -> impl Iterator<Item = IpNetwork> {
        self.0.iter().map(|range| range.subnet)
    }

    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|two| one.overlaps(two)))
    }

    /// How many addresses can be handed out.
    pub fn size(&self) -> u128 {
        self.0.iter().fold(0, |sum, range| sum.saturating_add(range.size()))
    }

    /// For the record.
    pub fn pool(&self) -> Pool {
        Pool { ranges: self.to_string(), size: u64::try_from(self.size()).unwrap_or(u64::MAX) }
    }

    /// Every address that may be handed out, each once: first those behind `last`, the one handed out last, then from
    /// the beginning. So an address comes back as late as possible, and traffic meant for its last holder dies out.
    pub fn candidates(&self, last: Option<IpAddr>) -> impl Iterator<Item = IpAddr> + Clone {
        let place = last.and_then(|last| {
            let at = self.0.iter().position(|range| range.contains(last))?;
            Some((at, number(last)))
        });
        let (at, last) = place.unwrap_or((0, number(self.0[0].start)));
        let whole = |range: &Range| (number(range.start), number(range.end));
        let first = &self.0[at];
        let (behind, until) = match place {
            // Nothing is behind the end of a range; then `1..=0` is the empty interval.
            Some(_) if last == number(first.end) => ((1, 0), whole(first)),
            Some(_) => ((last + 1, number(first.end)), (number(first.start), last)),
            None => (whole(first), (1, 0)),
        };
        let others = self.0[at + 1..].iter().chain(&self.0[..at]);
        let pieces = std::iter::once((first, behind))
            .chain(others.map(move |range| (range, whole(range))))
            .chain(std::iter::once((first, until)));
        pieces.flat_map(|(range, (from, to))| {
            (from..=to).map(|n| nth(range.start, n)).filter(|address| *address != range.gateway)
        })
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{range}")?;
        }
        Ok(())
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address with this number, of the family of `like`.
fn nth(like: IpAddr, number: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from_bits(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        IpAddr::V6(_) => Ipv6Addr::from_bits(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn text(subnet: &str, start: &str, end: &str, gateway: &str) -> RangeText {
        let address = |text: &str| (!text.is_empty()).then(|| text.parse().unwrap());
        RangeText {
            subnet: Some(subnet.parse().unwrap()),
            start: address(start),
            end: address(end),
            gateway: address(gateway),
        }
    }

    fn set(texts: &[RangeText]) -> RangeSet {
        RangeSet::parse(texts).unwrap()
    }

    fn order(set: &RangeSet, last: Option<&str>) -> Vec<String> {
        set.candidates(last.map(|last| last.parse().unwrap())).map(|ip| ip.to_string()).collect()
    }

    #[test]
    fn defaults_leave_out_network_and_broadcast() {
        let shown = |subnet| Range::parse(&text(subnet, "", "", "")).unwrap().to_string();
        assert_eq!(shown("10.1.2.0/24"), "10.1.2.1-10.1.2.254");
        assert_eq!(shown("10.1.2.0/30"), "10.1.2.1-10.1.2.2");
        assert_eq!(shown("0.0.0.0/0"), "0.0.0.1-255.255.255.254");
        assert_eq!(shown("2001:db8:1::/126"), "2001:db8:1::1-2001:db8:1::3");
        assert_eq!(shown("::/0"), "::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        let whole = Range::parse(&text("10.1.2.0/30", "10.1.2.0", "10.1.2.3", "192.168.0.1")).unwrap();
        assert_eq!((whole.to_string().as_str(), whole.size()), ("10.1.2.0-10.1.2.3", 4));
    }

    #[test]
    fn what_is_wrong_with_a_range_is_said_as_upstream_says_it() {
        let nothing = RangeText::default();
        assert_eq!(Range::parse(&nothing).unwrap_err(), "IP <nil> not v4 nor v6");
        for (subnet, start, end, why) in [
            ("10.9.0.0/31", "", "", "Network 10.9.0.0/31 too small to allocate from"),
            ("10.9.0.0/32", "", "", "Network 10.9.0.0/32 too small to allocate from"),
            ("fd00::/127", "", "", "Network fd00::/127 too small to allocate from"),
            (
                "10.9.0.1/24",
                "",
                "",
                "Network has host bits set. For a subnet mask of length 24 the network address is 10.9.0.0",
            ),
            ("192.0.2.0/24", "192.0.3.0", "", "RangeStart 192.0.3.0 not in network 192.0.2.0/24"),
            ("192.0.2.0/24", "fd00::1", "", "RangeStart fd00::1 not in network 192.0.2.0/24"),
            ("192.0.2.0/24", "192.0.2.50", "192.0.2.40", "RangeStart 192.0.2.50 not in network 192.0.2.0/24"),
            ("192.0.2.0/24", "192.0.2.255", "", "RangeStart 192.0.2.255 not in network 192.0.2.0/24"),
            ("192.0.2.0/24", "", "192.0.4.40", "RangeEnd 192.0.4.40 not in network 192.0.2.0/24"),
            ("192.0.2.0/24", "", "192.0.2.0", "RangeEnd 192.0.2.0 not in network 192.0.2.0/24"),
        ] {
            assert_eq!(Range::parse(&text(subnet, start, end, "")).unwrap_err(), why);
        }
    }

    #[test]
    fn what_is_wrong_with_a_set_is_said_as_upstream_says_it() {
        assert_eq!(RangeSet::parse(&[]).unwrap_err(), "empty range set");
        let mixed = [text("10.1.0.0/22", "", "", ""), text("fd00::/64", "", "", "")];
        assert_eq!(RangeSet::parse(&mixed).unwrap_err(), "mixed address families");
        let twice = [text("10.1.0.0/22", "", "", ""), text("10.1.2.0/24", "", "10.1.2.254", "")];
        assert_eq!(
            RangeSet::parse(&twice).unwrap_err(),
            "subnets 10.1.0.1-10.1.3.254 and 10.1.2.1-10.1.2.254 overlap"
        );
        let halves = [text("10.1.0.0/24", "", "10.1.0.100", ""), text("10.1.0.0/24", "10.1.0.101", "", "")];
        let halves = set(&halves);
        assert_eq!(halves.to_string(), "10.1.0.1-10.1.0.100,10.1.0.101-10.1.0.254");
        assert_eq!(halves.size(), 253);
        assert!(!halves.overlaps(&set(&twice[1..])) && set(&twice[..1]).overlaps(&set(&twice[1..])));
    }

    #[test]
    fn addresses_follow_the_last_one_and_wrap() {
        let one = set(&[text("10.0.0.0/29", "", "", "")]);
        assert_eq!(order(&one, None), ["10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(
            order(&one, Some("10.0.0.4")),
            ["10.0.0.5", "10.0.0.6", "10.0.0.2", "10.0.0.3", "10.0.0.4"]
        );
        assert_eq!(order(&one, Some("10.0.0.6"))[0], "10.0.0.2");
        for elsewhere in ["10.0.0.7", "10.0.1.1", "fd00::1", "0.0.0.0"] {
            assert_eq!(order(&one, Some(elsewhere)), order(&one, None));
        }
    }

    #[test]
    fn a_set_is_walked_range_by_range() {
        let two = set(&[text("10.0.0.0/30", "", "", ""), text("10.1.0.0/30", "", "", "10.1.0.2")]);
        assert_eq!(order(&two, None), ["10.0.0.2", "10.1.0.1"]);
        assert_eq!(order(&two, Some("10.0.0.2")), ["10.1.0.1", "10.0.0.2"]);
        assert_eq!(order(&two, Some("10.1.0.2")), ["10.0.0.2", "10.1.0.1"]);
        let ends = set(&[text("255.255.255.252/30", "", "255.255.255.255", "")]);
        assert_eq!(order(&ends, Some("255.255.255.255")), ["255.255.255.254", "255.255.255.255"]);
        let ends = set(&[text("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126", "", "", "")]);
        assert_eq!(order(&ends, None).len(), 2);
    }

    fn any_set() -> impl Strategy<Value = (RangeSet, Option<IpAddr>)> {
        let ranges = proptest::collection::vec((0_u8..64, 0_u8..64, 0_u8..64), 1..4);
        (ranges, any::<bool>(), proptest::option::of((0_u8..4, 0_u8..64))).prop_map(|(ranges, v6, last)| {
            let address = |at: usize, host: u8| -> IpAddr {
                let at = u8::try_from(at).unwrap();
                if v6 {
                    format!("fd00:{at}::{host:x}").parse().unwrap()
                } else {
                    IpAddr::from([10, at, 0, host])
                }
            };
            let texts = ranges.iter().enumerate().map(|(at, (one, two, gateway))| RangeText {
                subnet: Some(IpNetwork::new(address(at, 0), if v6 { 122 } else { 26 }).unwrap()),
                start: Some(address(at, *one.min(two))),
                end: Some(address(at, *one.max(two))),
                gateway: Some(address(at, *gateway)),
            });
            (set(&texts.collect::<Vec<_>>()), last.map(|(at, host)| address(usize::from(at), host)))
        })
    }

    proptest! {
        #[test]
        fn every_address_is_tried_once_and_no_other((set, last) in any_set()) {
            let tried: Vec<IpAddr> = set.candidates(last).collect();
            let unique: HashSet<_> = tried.iter().collect();
            prop_assert_eq!(unique.len(), tried.len());
            prop_assert_eq!(tried.len() as u128, set.size());
            for address in &tried {
                prop_assert!(set.range_of(*address).is_some_and(|range| range.gateway() != *address));
            }
            if let Some(last) = last.filter(|last| tried.contains(last)) {
                prop_assert_eq!(*tried.last().unwrap(), last);
            }
        }

        #[test]
        fn no_range_makes_parsing_panic(
            subnet in proptest::option::of((any::<IpAddr>(), 0_u8..=32)),
            start in any::<Option<IpAddr>>(), end in any::<Option<IpAddr>>(), gateway in any::<Option<IpAddr>>(),
        ) {
            let subnet = subnet.and_then(|(ip, prefix)| IpNetwork::new(ip, prefix).ok());
            if let Ok(range) = Range::parse(&RangeText { subnet, start, end, gateway }) {
                prop_assert!(range.start <= range.end && range.contains(range.start));
                let set = RangeSet(vec![range]);
                prop_assert!(set.candidates(start).take(1000).all(|address| set.contains(address)));
            }
        }
    }
}
