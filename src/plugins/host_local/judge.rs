//! Whose lease may be taken away, and what to say when none may.
//!
//! Asked only when a range set is exhausted. A lease is taken away when its record, or libcni's file, proves that the
//! namespace is gone; where neither exists, when no namespace carries the address, seen twice with the grace time in
//! between, because the Go plugin may be just about to configure it.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use super::Ipam;
use super::range::RangeSet;
use crate::cni::Result;
use crate::net::AttachmentId;
use crate::state::holders::{self, GRACE};
use crate::state::record::Want;
use crate::state::{Holder, Lease, Liveness, Locked, Record};

/// The name of the records kept about suspects.
const SUSPECT: &str = "lease";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Alive,
    Dead,
    /// Nobody remembers the holder, and no namespace carries the address.
    Unclaimed,
}

pub(super) struct Judge<'a> {
    ipam: &'a Ipam<'a>,
    network: &'a str,
    /// By container.
    records: HashMap<String, Vec<Record>>,
}

impl<'a> Judge<'a> {
    pub(super) fn load(ipam: &'a Ipam<'a>, network: &'a str) -> Result<Self> {
        let mut records: HashMap<String, Vec<Record>> = HashMap::new();
        for record in ipam.records.all()? {
            if record.id.network == network {
                records.entry(record.id.container.clone()).or_default().push(record);
            }
        }
        Ok(Self { ipam, network, records })
    }

    fn records(&self, holder: &Holder) -> impl Iterator<Item = &Record> {
        let records = self.records.get(&holder.container).into_iter().flatten();
        records.filter(|record| holder.if_name.as_ref().is_none_or(|if_name| *if_name == record.id.if_name))
    }

    pub(super) fn verdict(&self, address: IpAddr, holder: &Holder) -> Verdict {
        let now = self.ipam.now;
        let by_record = self.records(holder).map(|record| holders::of_record(record, now));
        let liveness = by_record
            .reduce(|one, other| if one == Liveness::Alive { one } else { other })
            .unwrap_or_else(|| holders::of_cache(self.ipam.libcni_results, self.network, holder));
        if liveness == Liveness::Alive {
            return Verdict::Alive;
        }
        match (liveness, self.ipam.evidence.carries(address)) {
            // The path is gone, but some process still lives in the namespace.
            (_, Some(true)) | (Liveness::Unknown, None) => Verdict::Alive,
            (Liveness::Unknown, Some(false)) => Verdict::Unclaimed,
            _ => Verdict::Dead,
        }
    }

    /// May an unclaimed lease be taken now? If not, it is remembered as a suspect.
    fn grace_is_over(&self, address: IpAddr, holder: &Holder) -> Result<bool> {
        // Host-local that writes no interface name is of 2018 at the latest; none of it runs beside us.
        let Some(if_name) = &holder.if_name else { return Ok(true) };
        let suspects = self.ipam.records.suspects();
        let (network, container) = (self.network.to_owned(), holder.container.clone());
        let id = AttachmentId { network, container, if_name: if_name.clone() };
        let known = suspects.read(&id, SUSPECT)?;
        if let Some(known) = known.filter(|known| known.ips().any(|known| known == address)) {
            return Ok(self.ipam.now >= known.created() + GRACE);
        }
        let mut suspect = Record::begin(&suspects, SUSPECT, &id, None);
        suspect.want = Some(Want::Addresses(vec![address.into()]));
        suspects.write(&suspect)?;
        Ok(false)
    }

    fn name(&self, holder: &Holder) -> String {
        self.records(holder).next().map_or_else(|| holder.container.clone(), Record::display_name)
    }
}

/// Takes away what may be taken of a set that has no free address. `Err` of the inner result is what to tell when that
/// is nothing.
pub(super) fn reclaim(
    locked: &Locked<'_>,
    set: &RangeSet,
    ipam: &Ipam<'_>,
    network: &str,
) -> Result<Result<(), Exhausted>> {
    let judge = Judge::load(ipam, network)?;
    let (mut freed, mut leased, mut soon) = (0_usize, 0, 0);
    let mut holders: HashMap<String, usize> = HashMap::new();
    for (address, lease) in locked.leases()?.into_iter().filter(|(address, _)| set.contains(*address)) {
        let dead = match &lease {
            Lease::Damaged => true,
            Lease::Held(holder) => match judge.verdict(address, holder) {
                Verdict::Alive => false,
                Verdict::Dead => true,
                Verdict::Unclaimed => {
                    let over = judge.grace_is_over(address, holder)?;
                    soon += usize::from(!over);
                    over
                }
            },
        };
        if dead {
            tracing::info!("{network}: {address} is free again, its holder is gone ({lease:?})");
            locked.release(address)?;
            freed += 1;
        } else if let Lease::Held(holder) = &lease {
            leased += 1;
            *holders.entry(judge.name(holder)).or_default() += 1;
        }
    }
    if freed > 0 {
        return Ok(Ok(()));
    }
    let mut holders: Vec<_> = holders.into_iter().collect();
    holders.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let place = locked.path().display().to_string();
    Ok(Err(Exhausted { set: set.to_string(), size: set.size(), leased, soon, holders, place }))
}

/// No address is left. Begins with the Go plugin's words, which people search for.
#[derive(Debug)]
pub(super) struct Exhausted {
    set: String,
    size: u128,
    leased: usize,
    /// Leases that are suspected to be abandoned.
    soon: usize,
    /// With their numbers of leases, most first.
    holders: Vec<(String, usize)>,
    place: String,
}

impl fmt::Display for Exhausted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 5;
        let Self { set, size, leased, soon, holders, place } = self;
        write!(f, "no IP addresses available in range set: {set}: {size} addresses, {leased} leased, ")?;
        f.write_str("0 of them reclaimable now")?;
        for (at, (name, leases)) in holders.iter().take(SHOWN).enumerate() {
            f.write_str(if at == 0 { "; held by " } else { ", " })?;
            f.write_str(name)?;
            if *leases > 1 {
                write!(f, " ({leases})")?;
            }
        }
        if let Some(more @ 1..) = holders.len().checked_sub(SHOWN) {
            write!(f, " and {more} more")?;
        }
        if *soon > 0 {
            return write!(f, "; {soon} seem abandoned, try again in {} seconds", GRACE.as_secs());
        }
        write!(f, "; stop pods or widen the range in the network's configuration (leases are in {place})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_who_has_the_addresses_and_what_to_do() {
        let mut exhausted = Exhausted {
            set: "10.1.2.1-10.1.2.6".into(),
            size: 5,
            leased: 5,
            soon: 0,
            holders: vec![("ns/a".into(), 3), ("ns/b".into(), 1), ("ns/c".into(), 1)],
            place: "/run/x/net".into(),
        };
        assert_eq!(
            exhausted.to_string(),
            "no IP addresses available in range set: 10.1.2.1-10.1.2.6: 5 addresses, 5 leased, 0 of them reclaimable \
             now; held by ns/a (3), ns/b, ns/c; stop pods or widen the range in the network's configuration \
             (leases are in /run/x/net)"
        );
        exhausted.holders = (0..7).map(|n| (format!("p{n}"), 1)).collect();
        exhausted.soon = 2;
        assert_eq!(
            exhausted.to_string(),
            "no IP addresses available in range set: 10.1.2.1-10.1.2.6: 5 addresses, 5 leased, 0 of them reclaimable \
             now; held by p0, p1, p2, p3, p4 and 2 more; 2 seem abandoned, try again in 5 seconds"
        );
    }
}
