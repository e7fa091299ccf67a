//! Leases that vanished while their holders live: which, and making them again.
//!
//! Without them the next ADD would hand the addresses out a second time.

use std::net::IpAddr;
use std::path::Path;

use super::remove::data_dir_of;
use crate::cni::Result;
use crate::state::holders::{self, LIBCNI_RESULTS};
use crate::state::{BootId, Holder, Lease, Liveness, Record, Store};

/// A promised address that is not leased to the attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lost {
    /// Nobody has it.
    Free(IpAddr),
    /// Somebody else does: two pods have the same address.
    Taken(IpAddr, Holder),
}

/// What is lost of the leases of a record. Locks and makes nothing.
pub fn lost(record: &Record) -> Result<Vec<Lost>> {
    let glance = Store::glance(&data_dir_of(record), &record.id.network)?;
    let mut lost = Vec::new();
    for address in record.ips() {
        let lease = match &glance {
            Some(glance) => glance.lease(address)?,
            None => None,
        };
        lost.extend(judged(record, address, lease));
    }
    Ok(lost)
}

fn judged(record: &Record, address: IpAddr, lease: Option<Lease>) -> Option<Lost> {
    match lease {
        Some(Lease::Held(found)) if found.covers(&Holder::of(&record.id)) => None,
        Some(Lease::Held(found)) => Some(Lost::Taken(address, found)),
        None | Some(Lease::Damaged) => Some(Lost::Free(address)),
    }
}

/// Makes the leases of the record again that nobody has; returns which. Whoever calls holds the record's lock.
pub fn restore(record: &Record, boot: &BootId) -> Result<Vec<IpAddr>> {
    let mut store = Store::open(&data_dir_of(record), &record.id.network)?;
    let locked = store.lock()?;
    locked.enter(boot, |_, holder| {
        holders::of_cache(Path::new(LIBCNI_RESULTS), &record.id.network, holder) == Liveness::Alive
    })?;
    let mut made = Vec::new();
    for address in record.ips() {
        if let Some(Lost::Free(_)) = judged(record, address, locked.lease(address)?)
            && locked.reserve(address, &Holder::of(&record.id))?
        {
            made.push(address);
        }
    }
    Ok(made)
}
