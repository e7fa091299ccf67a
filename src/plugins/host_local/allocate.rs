//! The choice of an address. Pure: what is taken and how an address is reserved are handed in.

use std::collections::HashSet;
use std::net::IpAddr;

use super::range::RangeSet;

/// So many addresses are tried for reservation before the names of all leases are put into a set: the next address is
/// nearly always free, and then the set would have been made for nothing.
const PROBES: usize = 16;

/// Reserves the first candidate that `reserve` gives. Ends for any set: after the probes, only addresses outside `taken`
/// are tried, so of an IPv6 range no more are looked at than there are leases.
pub(super) fn first_free<E>(
    candidates: impl Iterator<Item = IpAddr>,
    taken: impl Fn() -> Result<Vec<IpAddr>, E>,
    mut reserve: impl FnMut(IpAddr) -> Result<bool, E>,
) -> Result<Option<IpAddr>, E> {
    let mut set: HashSet<IpAddr> = HashSet::new();
    for (tried, address) in candidates.enumerate() {
        if tried == PROBES {
            set.extend(taken()?);
        }
        if !set.contains(&address) && reserve(address)? {
            return Ok(Some(address));
        }
    }
    Ok(None)
}

/// Which requested address goes to which set, in the order they were requested; and those that fit nowhere.
pub(super) fn assign(sets: &[RangeSet], requested: &[IpAddr]) -> (Vec<Option<IpAddr>>, Vec<IpAddr>) {
    let mut left = requested.to_vec();
    let assigned = sets.iter().map(|set| {
        let at = left.iter().position(|address| set.contains(*address))?;
        Some(left.remove(at))
    });
    (assigned.collect(), left)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::super::range::RangeText;
    use super::*;

    fn set(subnet: &str) -> RangeSet {
        let subnet = Some(subnet.parse().unwrap());
        RangeSet::parse(&[RangeText { subnet, ..RangeText::default() }]).unwrap()
    }

    #[test]
    fn requested_addresses_go_to_sets_in_their_order() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let sets = [set("10.1.0.0/24"), set("fd00::/64"), set("10.2.0.0/24")];
        let requested = [ip("10.2.0.9"), ip("10.1.0.8"), ip("10.1.0.7"), ip("10.3.0.1")];
        let (assigned, left) = assign(&sets, &requested);
        assert_eq!(assigned, [Some(ip("10.1.0.8")), None, Some(ip("10.2.0.9"))]);
        assert_eq!(left, [ip("10.1.0.7"), ip("10.3.0.1")]);
    }

    #[test]
    fn a_huge_range_is_not_walked() {
        let set = set("fd00::/8");
        let taken: Vec<IpAddr> = set.candidates(None).take(5000).collect();
        let tries = Cell::new(0);
        let found = first_free(
            set.candidates(None),
            || Ok(taken.clone()),
            |address| {
                tries.set(tries.get() + 1);
                Ok::<_, Infallible>(!taken.contains(&address))
            },
        );
        assert_eq!(found, Ok(Some("fd00::138a".parse().unwrap())));
        assert_eq!(tries.get(), PROBES + 1);
    }

    proptest! {
        #[test]
        fn the_first_free_address_is_found_if_there_is_one(
            taken in proptest::collection::hash_set(1_u8..=62, 0..62), last in proptest::option::of(0_u8..64),
        ) {
            let set = set("10.0.0.0/26");
            let taken: Vec<IpAddr> = taken.into_iter().map(|host| IpAddr::from([10, 0, 0, host])).collect();
            let last = last.map(|host| IpAddr::from([10, 0, 0, host]));
            let found = first_free(set.candidates(last), || Ok(taken.clone()), |address| {
                Ok::<_, Infallible>(!taken.contains(&address))
            });
            let expected = set.candidates(last).find(|address| !taken.contains(address));
            prop_assert_eq!(found, Ok(expected));
        }
    }
}
