//! CHECK and STATUS: looking without changing anything.

use std::path::Path;

use super::add::held_by;
use super::config::Config;
use super::remove::data_dirs;
use super::{Ipam, PLUGIN};
use crate::cni::{Code, Context, Error, Request, Result};
use crate::plugins::next_move::CONFIGURATION;
use crate::state::lease::Glance;
use crate::state::{Holder, Lease, Record, Store};

/// Succeeds when the attachment has a lease, whichever.
pub fn check(request: &Request, ipam: &Ipam<'_>) -> Result<()> {
    Config::decode(request).hint(CONFIGURATION)?;
    let id = request.attachment_id()?;
    let holder = Holder::of(&id);
    let previous = ipam.previous(&id)?;
    for data_dir in data_dirs(request, previous.as_ref())? {
        let Some(mut store) = Store::existing(&data_dir, &id.network)? else { continue };
        let locked = store.lock()?;
        for address in previous.iter().flat_map(Record::ips) {
            if let Some(Lease::Held(found)) = locked.lease(address)?
                && found.covers(&holder)
            {
                return Ok(());
            }
        }
        if !held_by(&locked, &holder)?.is_empty() {
            return Ok(());
        }
    }
    Err(Error::internal(format_args!("{PLUGIN}: Failed to find address added by container {}", id.container)))
}

/// Refuses with code 50 when leases cannot be written here. Makes and locks nothing.
///
/// A full range is no such reason: to a runtime code 50 means that the node has no network, and pods that need no new
/// address would suffer, too. ADD says it, to the pod that comes too late.
pub fn status(request: &Request) -> Result<()> {
    let Some(config) = Config::decode_for_status(request).hint(CONFIGURATION)? else { return Ok(()) };
    let writable = match Store::glance(&config.data_dir, request.network.as_str())? {
        Some(glance) => glance.writable(),
        None => nearest(&config.data_dir),
    };
    writable.map_err(|error| Error::new(Code::PluginNotAvailable, error))
}

/// The closest directory above that exists must let us make the rest.
fn nearest(data_dir: &Path) -> crate::state::Result<()> {
    let existing = data_dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    Glance::at(existing)?.writable()
}
