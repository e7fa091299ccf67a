//! ADD: one address of each range set.
//!
//! Everything happens under the lock of the network's leases. What this call reserved, and nothing else, is given back
//! when it fails.

use std::net::IpAddr;

use super::allocate::{Ledger, assign, first_free};
use super::config::Config;
use super::journal::Journal;
use super::judge::{Judge, Verdict, reclaim};
use super::range::RangeSet;
use super::{Ipam, resolv};
use crate::cni::{AddResult, Context, Dns, Error, IpConfig, Request, Result};
use crate::net::AttachmentId;
use crate::plugins::next_move::{ADDRESS, CONFIGURATION};
use crate::state::holders::{self, NetnsId};
use crate::state::lease::Entered;
use crate::state::record::Pool;
use crate::state::{Holder, Lease, Liveness, Locked, Record, Store};

/// What ADD leased.
#[derive(Clone, Debug)]
pub struct Leased {
    pub result: AddResult,
    /// The last holder of an address may have left without cleaning up behind itself: the Go plugin was here, or a lease
    /// was taken from a pod that died.
    pub unclean: bool,
    /// What the addresses were taken from, in the order of the sets.
    pub pools: Vec<Pool>,
}

pub fn add(request: &Request, ipam: &Ipam<'_>) -> Result<Leased> {
    let config = Config::decode(request).hint(CONFIGURATION)?;
    let dns = config.resolv_conf.as_deref().map_or_else(|| Ok(Dns::default()), resolv::load)?;
    let target = request.attachment()?;
    let id = request.attachment_id()?;
    let network = id.network.as_str();

    let _lock = ipam.hold(&id);
    let mut store = Store::open(&config.data_dir, network)?;
    let locked = store.lock()?;
    let previous = ipam.previous(&id)?;
    let Prepared { told, alone } = prepare(&locked, ipam, network)?;
    let holder = Holder::of(&id);
    let mut held = if previous.is_some() || !told { held_by(&locked, &holder)? } else { Vec::new() };
    let standing = standing(previous.as_ref(), target.netns.as_deref());
    if standing == Standing::Gone {
        for address in held.drain(..) {
            locked.release(address)?;
        }
    }
    let (assigned, left) = assign(&config.sets, &config.requested);
    if standing == Standing::Present {
        refuse_duplicates(&config.sets, &assigned, &held, &id.container)?;
    }

    let mut journal = Journal::new(ipam, previous.filter(|_| standing != Standing::Gone));
    journal.begin(request, &config, &held, standing == Standing::Present)?;
    let unclean = !alone || standing == Standing::Gone;
    let mut hand =
        Hand { locked: &locked, ipam, network, holder, held, standing, reserved: Vec::new(), unclean };
    match hand.deal(&config.sets, &assigned, &left).and_then(|ips| {
        journal.finish(&ips, &hand.held)?;
        Ok(ips)
    }) {
        Ok(ips) => {
            let result = AddResult { interfaces: Vec::new(), ips, routes: config.routes, dns };
            Ok(Leased {
                result,
                unclean: hand.unclean,
                pools: config.sets.iter().map(RangeSet::pool).collect(),
            })
        }
        Err(error) => {
            hand.give_back();
            journal.abandon();
            Err(error)
        }
    }
}

struct Prepared {
    /// The records tell whatever is to be known about the leases, so that no file has to be read; of very many leases
    /// that is taken for granted.
    told: bool,
    /// Nobody but this program has changed the leases since it did so last.
    alone: bool,
}

/// Brings the directory into a state in which its files tell the truth.
fn prepare(locked: &Locked<'_>, ipam: &Ipam<'_>, network: &str) -> Result<Prepared> {
    let entered = locked.enter(ipam.records.boot(), |_, holder| {
        holders::of_cache(ipam.libcni_results, network, holder) == Liveness::Alive
    })?;
    if let Entered::OtherBoot(_) = entered
        && let Err(error) = ipam.records.forget_other_boots()
    {
        tracing::warn!("records of another boot stay: {error}");
    }
    if entered == Entered::SameBoot {
        let survey = locked.survey()?;
        if !survey.whole || locked.is_sealed(&survey)? {
            return Ok(Prepared { told: true, alone: survey.whole });
        }
    }
    // Somebody else was here: the Go plugin, or a person who deleted files.
    locked.rebuild(&ipam.evidence.carried(network))?;
    if !locked.survey()?.whole {
        return Ok(Prepared { told: true, alone: false });
    }
    let names = ipam.records.names()?;
    let mut recorded = true;
    for (address, lease) in locked.leases()? {
        match lease {
            Lease::Damaged => {
                tracing::warn!("{network}: the lease of {address} names nobody, it is free");
                locked.release(address)?;
            }
            Lease::Held(Holder { container, if_name: Some(if_name) }) => {
                recorded &= names.contains(&AttachmentId { network: network.to_owned(), container, if_name });
            }
            Lease::Held(Holder { if_name: None, .. }) => recorded = false,
        }
    }
    if recorded {
        locked.seal(&locked.survey()?);
    }
    Ok(Prepared { told: recorded, alone: false })
}

/// The addresses whose files name the holder, or its container in the old format.
pub(super) fn held_by(locked: &Locked<'_>, holder: &Holder) -> Result<Vec<IpAddr>> {
    let leases = locked.leases()?.into_iter();
    let held = leases.filter(|(_, lease)| matches!(lease, Lease::Held(found) if found.covers(holder)));
    Ok(held.map(|(address, _)| address).collect())
}

/// What an earlier ADD of the same attachment means for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It succeeded, as far as we know: a second one is refused, as the Go plugin does.
    Present,
    /// It was killed half way, for the same namespace: this one carries on with its addresses.
    Unfinished,
    /// Its namespace is gone, and what it held with it.
    Gone,
}

fn standing(previous: Option<&Record>, netns: Option<&str>) -> Standing {
    // A lease without record is the Go plugin's.
    let Some(record) = previous else { return Standing::Present };
    let same = record.netns.as_deref() == netns && record.netns_id == netns.and_then(NetnsId::of);
    match record {
        Record { complete: false, .. } if same => Standing::Unfinished,
        record if holders::is_gone(record) => Standing::Gone,
        _ => Standing::Present,
    }
}

/// A requested address is not looked at, so a container can get more of them.
fn refuse_duplicates(
    sets: &[RangeSet],
    assigned: &[Option<IpAddr>],
    held: &[IpAddr],
    container: &str,
) -> Result<()> {
    for (at, (set, _)) in sets.iter().zip(assigned).enumerate().filter(|(_, (_, asked))| asked.is_none()) {
        if let Some(address) = held.iter().find(|address| set.contains(**address)) {
            return Err(Error::internal(format_args!(
                "failed to allocate for range {at}: {address} has been allocated to {container}, duplicate allocation \
                 is not allowed"
            )));
        }
    }
    Ok(())
}

/// The making of the leases.
struct Hand<'a> {
    locked: &'a Locked<'a>,
    ipam: &'a Ipam<'a>,
    network: &'a str,
    holder: Holder,
    /// From before this call.
    held: Vec<IpAddr>,
    standing: Standing,
    /// By this call.
    reserved: Vec<IpAddr>,
    unclean: bool,
}

impl Hand<'_> {
    fn deal(
        &mut self,
        sets: &[RangeSet],
        assigned: &[Option<IpAddr>],
        left: &[IpAddr],
    ) -> Result<Vec<IpConfig>> {
        let mut ips = Vec::with_capacity(sets.len());
        for (at, (set, asked)) in sets.iter().zip(assigned).enumerate() {
            let address = match asked {
                Some(address) => self.requested(at, set, *address),
                None => self.next(at, set),
            }
            .context(format_args!("failed to allocate for range {at}"))?;
            let range = set.range_of(address).ok_or_else(|| not_in(address, set))?;
            let gateway = Some(range.gateway());
            ips.push(IpConfig { interface: None, address: range.with_prefix(address), gateway });
        }
        if left.is_empty() {
            return Ok(ips);
        }
        let left: Vec<String> = left.iter().map(ToString::to_string).collect();
        Err(Error::internal(format_args!("failed to allocate all requested IPs: {}", left.join(" ")))
            .with_details(ADDRESS))
    }

    fn requested(&mut self, at: usize, set: &RangeSet, address: IpAddr) -> Result<IpAddr> {
        let range = set.range_of(address).ok_or_else(|| not_in(address, set))?;
        if range.gateway() == address {
            return Err(Error::internal(format_args!("requested ip {address} is subnet's gateway"))
                .with_details(ADDRESS));
        }
        if self.standing == Standing::Unfinished && self.held.contains(&address) {
            return Ok(address);
        }
        if self.reserve(at, address)? || (self.free_if_dead(address)? && self.reserve(at, address)?) {
            return Ok(address);
        }
        Err(Error::internal(format_args!(
            "requested IP address {address} is not available in range set {set}"
        ))
        .with_details(ADDRESS))
    }

    fn next(&mut self, at: usize, set: &RangeSet) -> Result<IpAddr> {
        if let Some(address) = self.held.iter().find(|address| set.contains(**address)) {
            return Ok(*address);
        }
        let (locked, ipam, network) = (self.locked, self.ipam, self.network);
        let last = locked.last_reserved(at);
        for _ in 0..2 {
            if let Some(address) = first_free(set.candidates(last), &mut OfSet { hand: self, at })? {
                return Ok(address);
            }
            if let Err(exhausted) = reclaim(locked, set, ipam, network)? {
                return Err(Error::internal(exhausted));
            }
            self.unclean = true;
        }
        // Another process took what was just freed, which the lock does not allow.
        Err(Error::internal(format_args!("no IP addresses available in range set: {set}")))
    }

    fn reserve(&mut self, at: usize, address: IpAddr) -> Result<bool> {
        let reserved = self.locked.reserve(address, &self.holder)?;
        if reserved {
            self.reserved.push(address);
            self.locked.set_last_reserved(at, address);
        }
        Ok(reserved)
    }

    fn free_if_dead(&mut self, address: IpAddr) -> Result<bool> {
        let Some(Lease::Held(holder)) = self.locked.lease(address)? else { return Ok(false) };
        let dead = Judge::load(self.ipam, self.network)?.verdict(address, &holder) == Verdict::Dead;
        if dead {
            self.locked.release(address)?;
            self.unclean = true;
        }
        Ok(dead)
    }

    fn give_back(&self) {
        for address in &self.reserved {
            if let Err(error) = self.locked.release(*address) {
                tracing::warn!("the lease of {address} stays until DEL: {error}");
            }
        }
    }
}

/// The hand, on one range set.
struct OfSet<'a, 'b> {
    hand: &'a mut Hand<'b>,
    at: usize,
}

impl Ledger for OfSet<'_, '_> {
    type Error = Error;

    fn reserve(&mut self, address: IpAddr) -> Result<bool> {
        self.hand.reserve(self.at, address)
    }

    fn is_taken(&self, address: IpAddr) -> Result<bool> {
        Ok(self.hand.locked.is_taken(address)?)
    }

    fn few(&self) -> Result<Option<Vec<IpAddr>>> {
        let survey = self.hand.locked.survey()?;
        Ok(survey.whole.then_some(survey.addresses))
    }

    fn all(&self) -> Result<Vec<IpAddr>> {
        Ok(self.hand.locked.addresses()?)
    }
}

fn not_in(address: IpAddr, set: &RangeSet) -> Error {
    Error::internal(format_args!("{address} not in range set {set}")).with_details(ADDRESS)
}
