//! DEL: no port leads to the pod any more, whatever is left of its configuration.
//!
//! What is to be removed is known from the attachment's record. Without one, the ports that the request still lists are
//! looked at, and those that name the container go.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::promise::{mappings, mappings_of};
use super::{PLUGIN, attachment, config, lock};
use crate::cni::error::{Error, Result};
use crate::cni::request::Request;
use crate::datapath::hostports::flows::Stale;
use crate::datapath::hostports::plan::{Step, plan_removal};
use crate::datapath::hostports::{Mapping, apply, observe};
use crate::datapath::session::Session;
use crate::log;
use crate::net::IfName;
use crate::plugins::node_records;
use crate::state::{Record, Records};

pub fn del(request: &Request) -> Result<()> {
    let target = request.attachment()?;
    let container = target.container.as_str();
    let records = node_records()?;
    // Its name is known; a search among all records grows with the pods of the node.
    if let Some(record) = records.read(&attachment(request, target), PLUGIN).map_err(Error::internal)? {
        return remove_record(&records, &record);
    }
    if remove_recorded(&records, container, &target.if_name)? {
        return Ok(());
    }
    let ports = config::ports_leniently(&request.config);
    if ports.is_empty() {
        return Ok(());
    }
    // Keys of elements do not say where they lead.
    let anywhere: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let listed = mappings(&ports, &anywhere.map(IpNetwork::from));
    log::stage("lock");
    let lock = lock()?;
    log::stage("ports");
    let stale = remove(container, &listed, &[])?;
    drop(lock);
    forget(stale);
    Ok(())
}

/// Removes what the container's records for that interface promise, in whatever network they were made; whether there were
/// any. Also for the plugin that made the interface: a configuration may have lost this one meanwhile.
pub fn remove_recorded(records: &Records, container: &str, if_name: &IfName) -> Result<bool> {
    remove_known(records, &records.of_container(container).map_err(Error::internal)?, if_name)
}

/// As [`remove_recorded`], for whoever has read the container's records.
pub fn remove_known(records: &Records, known: &[Record], if_name: &IfName) -> Result<bool> {
    let of_interface = known.iter().filter(|record| record.plugin == PLUGIN && record.if_name == *if_name);
    remove_records(records, of_interface)
}

/// What [`remove_record`] would tell the kernel.
pub fn planned_removal(record: &Record) -> Result<Vec<Step>> {
    let (mappings, addresses) = mappings_of(record);
    let mut session = Session::open(None).map_err(Error::internal)?;
    let remains = observe::observe_remains(&mut session, &record.container_id, &mappings, &addresses)
        .map_err(Error::internal)?;
    Ok(plan_removal(&remains))
}

pub fn remove_record(records: &Records, record: &Record) -> Result<()> {
    remove_records(records, [record]).map(drop)
}

/// Of several attachments: goes on after a failure, and returns the first one. Flows are looked for when all ports are closed.
pub(super) fn remove_records<'a>(
    records: &Records,
    these: impl IntoIterator<Item = &'a Record>,
) -> Result<bool> {
    let (mut any, mut failure, mut stale) = (false, None, Stale::default());
    for record in these {
        any = true;
        log::stage("lock");
        let removed = lock().and_then(|_lock| {
            log::stage("ports");
            remove_locked(records, record)
        });
        match removed {
            Ok(left) => stale.join(left),
            Err(error) => failure = failure.or(Some(error)),
        }
    }
    forget(stale);
    failure.map_or(Ok(any), Err)
}

/// Elements first, the record last: a removal that fails is repeated. Flows come behind the record, and without the lock: a
/// repair that finds the record would open the ports again, and what is left of flows when this is killed goes with the
/// pod's address, or with the next pod that gets the port.
pub(super) fn remove_locked(records: &Records, record: &Record) -> Result<Stale> {
    let (mappings, addresses) = mappings_of(record);
    let stale = remove(&record.container_id, &mappings, &addresses)?;
    if let Err(error) = records.remove(&record.attachment(), PLUGIN) {
        // A disk that takes no changes has no memory worth keeping: the record is void with the next boot.
        tracing::warn!(%error, "could not forget the port mappings");
    }
    Ok(stale)
}

/// After the lock was given back.
pub(super) fn forget(stale: Stale) {
    log::stage("flows");
    stale.forget();
}

fn remove(container: &str, mappings: &[Mapping], addresses: &[IpAddr]) -> Result<Stale> {
    if mappings.is_empty() {
        return Ok(Stale::default());
    }
    let failed = |error: crate::datapath::session::Error| {
        Error::internal(format!("error deleting nftables rules: {error}"))
            .with_details("DEL again when the cause is gone")
    };
    let mut session = Session::open(None).map_err(failed)?;
    let remains = observe::observe_remains(&mut session, container, mappings, addresses).map_err(failed)?;
    apply::apply_removal(&mut session, &plan_removal(&remains)).map_err(failed)
}
