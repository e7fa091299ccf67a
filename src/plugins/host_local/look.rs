//! CHECK and STATUS: looking without changing anything.

use std::collections::HashSet;
use std::path::Path;

use super::add::held_by;
use super::allocate::leap;
use super::config::Config;
use super::judge::{Judge, Verdict};
use super::range::RangeSet;
use super::{Ipam, PLUGIN};
use crate::cni::{Code, Context, Error, Request, Result};
use crate::plugins::next_move::CONFIGURATION;
use crate::state::lease::Glance;
use crate::state::record::Attachment;
use crate::state::{Holder, Lease, Store};

/// Succeeds when the attachment has a lease, whichever.
pub fn check(request: &Request, ipam: &Ipam<'_>) -> Result<()> {
    let config = Config::decode(request).hint(CONFIGURATION)?;
    let target = request.attachment()?;
    let network = request.network.as_str();
    let attachment = Attachment { network, container: target.container.as_str(), if_name: &target.if_name };
    let holder = Holder::new(attachment.container, attachment.if_name);
    let previous = ipam.previous(&attachment)?;
    if let Some(mut store) = Store::existing(&config.data_dir, network)? {
        let locked = store.lock()?;
        for promised in previous.iter().flat_map(|record| &record.promised.addresses) {
            if let Some(Lease::Held(found)) = locked.lease(promised.address.ip())?
                && found.covers(&holder)
            {
                return Ok(());
            }
        }
        if !held_by(&locked, &holder)?.is_empty() {
            return Ok(());
        }
    }
    Err(Error::internal(format_args!(
        "{PLUGIN}: Failed to find address added by container {}",
        attachment.container
    )))
}

/// Refuses with code 50 when an ADD would fail. Makes and locks nothing.
pub fn status(request: &Request, ipam: &Ipam<'_>) -> Result<()> {
    let unavailable = |why: &dyn std::fmt::Display| Error::new(Code::PluginNotAvailable, why);
    let Some(config) = Config::decode_for_status(request).hint(CONFIGURATION)? else { return Ok(()) };
    let network = request.network.as_str();
    let Some(glance) = Store::glance(&config.data_dir, network)? else {
        return nearest(&config.data_dir).map_err(|error| unavailable(&error));
    };
    glance.writable().map_err(|error| unavailable(&error))?;
    if glance.is_void(ipam.records.boot())? {
        return Ok(());
    }
    for (at, set) in config.sets.iter().enumerate() {
        if !has_free(&glance, at, set)? && !has_reclaimable(&glance, set, ipam, network)? {
            return Err(unavailable(&format_args!(
                "no IP addresses available in range set: {set}: all {} addresses are leased to living pods; stop pods \
                 or widen the range in the network's configuration (leases are in {})",
                set.size(),
                glance.path().display()
            )));
        }
    }
    Ok(())
}

/// The closest directory above that exists must let us make the rest.
fn nearest(data_dir: &Path) -> crate::state::Result<()> {
    let existing = data_dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    Glance::at(existing)?.writable()
}

fn has_free(glance: &Glance, at: usize, set: &RangeSet) -> Result<bool> {
    let candidates = || set.candidates(glance.last_reserved(at));
    if leap(candidates(), |address| Ok::<_, Error>(!glance.is_taken(address)?))?.is_some() {
        return Ok(true);
    }
    let taken: HashSet<_> = glance.addresses()?.into_iter().collect();
    Ok(candidates().any(|address| !taken.contains(&address)))
}

fn has_reclaimable(glance: &Glance, set: &RangeSet, ipam: &Ipam<'_>, network: &str) -> Result<bool> {
    let judge = Judge::load(ipam, network)?;
    for address in glance.addresses()?.into_iter().filter(|address| set.contains(*address)) {
        match glance.lease(address) {
            Ok(Some(Lease::Held(holder))) if judge.verdict(address, &holder) == Verdict::Alive => {}
            // Cannot be read, so it cannot be handed out.
            Err(_) => {}
            _ => return Ok(true),
        }
    }
    Ok(false)
}
