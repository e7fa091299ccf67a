//! CHECK and STATUS: looking without changing anything.

use std::path::Path;

use super::add::held_by;
use super::config::Config;
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
