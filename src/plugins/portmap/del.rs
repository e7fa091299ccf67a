//! DEL: no port leads to the pod any more, whatever is left of its configuration.
//!
//! What is to be removed is known from the attachment's record. Without one, the ports that the request still lists are
//! looked at, and those that name the container go; where nothing else is known of it either, or its record cannot be read,
//! all elements are.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::want::mappings;
use super::{PLUGIN, config, flows, lock};
use crate::cni::error::{Error, Result};
use crate::cni::request::Request;
use crate::datapath::hostports::flows::Stale;
use crate::datapath::hostports::plan::{Step, plan_removal};
use crate::datapath::hostports::{apply, observe};
use crate::datapath::session::Session;
use crate::net::AttachmentId;
use crate::plugins::{CallContext, sweep};
use crate::spec::Mapping;
use crate::state::record::Kept;
use crate::state::{Record, Records};

pub fn del(request: &Request) -> Result<()> {
    let id = request.attachment_id()?;
    let CallContext { records, mut session } = CallContext::new()?;
    let kept = records.kept_of(&id.container).map_err(Error::internal)?;
    sweep(&records, kept.leftovers);
    if remove_known(&records, &mut session, &kept, &id)? {
        return Ok(());
    }
    let ports = config::ports_leniently(&request.config);
    if ports.is_empty() {
        let is_forgotten = kept.records.is_empty();
        return if is_forgotten {
            remove_claimed(&records, &mut session, &id.container, &[])
        } else {
            Ok(())
        };
    }
    // Keys of elements do not say where they lead.
    let anywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let listed = mappings(&ports, &anywhere.map(IpNetwork::from));
    let _lock = tracing::info_span!("lock").entered();
    let lock = lock()?;
    let _ports = tracing::info_span!("ports").entered();
    let stale = remove(&mut session, &id.container, &listed, &[])?;
    drop(lock);
    flows::forget(&records, stale);
    Ok(())
}

/// Removes what the container's records for that interface promise, in whatever network they were made; whether there were
/// any. Also for the plugin that made the interface: a configuration may have lost this one meanwhile.
pub fn remove_recorded(records: &Records, session: &mut Session, id: &AttachmentId) -> Result<bool> {
    let kept = records.kept_of(&id.container).map_err(Error::internal)?;
    remove_known(records, session, &kept, id)
}

/// As [`remove_recorded`], for whoever has read what is kept of the container. Where some of it cannot be read, the tables
/// say what is the container's.
pub fn remove_known(
    records: &Records,
    session: &mut Session,
    kept: &Kept,
    id: &AttachmentId,
) -> Result<bool> {
    let ours = |record: &&Record| record.plugin == PLUGIN;
    let (these, others): (Vec<_>, Vec<_>) =
        kept.records.iter().filter(ours).partition(|record| record.id.if_name == id.if_name);
    let known = remove_records(records, session, these)?;
    let unread: Vec<_> = kept.unread.iter().filter(|unread| unread.plugin() == PLUGIN).collect();
    if !unread.is_empty() {
        let spared = others.iter().flat_map(|record| record.ips());
        remove_claimed(records, session, &id.container, &spared.collect::<Vec<_>>())?;
    }
    for unread in &unread {
        if let Err(error) = records.remove_unread(unread) {
            tracing::warn!(%error, "could not forget the port mappings");
        }
    }
    Ok(known || !unread.is_empty())
}

/// Removes all that names the container, but for what leads to the `spared` addresses. Reads every element there is: for
/// containers that nothing is remembered of.
pub fn remove_claimed(
    records: &Records,
    session: &mut Session,
    container: &str,
    spared: &[IpAddr],
) -> Result<()> {
    let claimed = |session: &mut Session| {
        observe::observe_claimed(session, container, spared).map_err(|error| failed(&error))
    };
    let _ports = tracing::info_span!("ports").entered();
    if claimed(session)?.elements.is_empty() {
        return Ok(());
    }
    let _lock = tracing::info_span!("lock").entered();
    let lock = lock()?;
    let _ports = tracing::info_span!("ports").entered();
    let steps = plan_removal(&claimed(session)?);
    let stale = apply::apply_removal(session, &steps).map_err(|error| failed(&error))?;
    drop(lock);
    flows::forget(records, stale);
    Ok(())
}

fn failed(error: &crate::datapath::session::Error) -> Error {
    Error::internal(format!("error deleting nftables rules: {error}"))
        .with_details("DEL again when the cause is gone")
}

/// What [`remove_record`] would tell the kernel.
pub fn planned_removal(session: &mut Session, record: &Record) -> Result<Vec<Step>> {
    let addresses: Vec<_> = record.ips().collect();
    let remains = observe::observe_remains(session, &record.id.container, record.mappings(), &addresses)
        .map_err(Error::internal)?;
    Ok(plan_removal(&remains))
}

pub fn remove_record(records: &Records, session: &mut Session, record: &Record) -> Result<()> {
    remove_records(records, session, [record]).map(drop)
}

/// Of several attachments: goes on after a failure, and returns the first one. Flows are looked for when all ports are closed.
pub(super) fn remove_records<'a>(
    records: &Records,
    session: &mut Session,
    these: impl IntoIterator<Item = &'a Record>,
) -> Result<bool> {
    let (mut any, mut failure, mut stale) = (false, None, Stale::default());
    for record in these {
        any = true;
        let _lock = tracing::info_span!("lock").entered();
        let removed = lock().and_then(|_lock| {
            let _ports = tracing::info_span!("ports").entered();
            remove_locked(records, session, record)
        });
        match removed {
            Ok(left) => stale.join(left),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    flows::forget(records, stale);
    failure.map_or(Ok(any), Err)
}

/// Elements first, the record last: a removal that fails is repeated. Flows come behind the record, and without the lock: a
/// repair that finds the record would open the ports again, and what is left of flows when this is killed goes with the
/// pod's address, or with the next pod that gets the port.
pub(super) fn remove_locked(records: &Records, session: &mut Session, record: &Record) -> Result<Stale> {
    let addresses: Vec<_> = record.ips().collect();
    let stale = remove(session, &record.id.container, record.mappings(), &addresses)?;
    if let Err(error) = records.remove(&record.id, PLUGIN) {
        // A disk that takes no changes has no memory worth keeping: the record is void with the next boot.
        tracing::warn!(%error, "could not forget the port mappings");
    }
    Ok(stale)
}

fn remove(
    session: &mut Session,
    container: &str,
    mappings: &[Mapping],
    addresses: &[IpAddr],
) -> Result<Stale> {
    if mappings.is_empty() {
        return Ok(Stale::default());
    }
    let remains =
        observe::observe_remains(session, container, mappings, addresses).map_err(|error| failed(&error))?;
    apply::apply_removal(session, &plan_removal(&remains)).map_err(|error| failed(&error))
}
