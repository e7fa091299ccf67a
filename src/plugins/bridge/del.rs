//! DEL: nothing of the attachment stays, whatever is left of pod, configuration and memory.
//!
//! Needs only the network's name, the container and the interface. Goes on when one part fails, reports all failures at
//! the end, and forgets the record last, so that a repeated DEL finds what is still to do.

use std::net::IpAddr;

use super::ipam::Ipam;
use crate::applet::{Plugin, plugin};
use crate::cni::error::{Error, Result};
use crate::cni::request::Request;
use crate::datapath::apply::apply_all;
use crate::datapath::firewall::guard;
use crate::datapath::mark::Identity;
use crate::datapath::observe::observe_remains;
use crate::datapath::removal::{Remains, plan_removal};
use crate::datapath::session::{Netns, OpenError, Session};
use crate::datapath::step::Step;
use crate::log;
use crate::net::IfName;
use crate::plugins::{forget, hold, host_local, netns_error, node_records, portmap};
use crate::state::lock::RecordLock;
use crate::state::record::Kept;
use crate::state::{NetnsId, Record, Records};

pub fn del(request: &Request) -> Result<()> {
    let target = request.attachment()?;
    let identity = super::identity(request, target);
    log::stage("record");
    let records = node_records()?;
    let lock = hold_known(&records, &identity);
    // All of the container's at once: this one, that of its ports, and those under another name of the network.
    let known = records.kept_of(&identity.container).map_err(Error::internal)?;
    let is_this = |record: &&Record| record.plugin == super::PLUGIN && super::identity_of(record) == identity;
    let record = known.records.iter().find(is_this);
    let netns = match target.netns.as_deref().map(Netns::open) {
        None | Some(Err(OpenError::Gone(_) | OpenError::NotNamespace(_))) => None,
        Some(Ok(netns)) => Some(netns),
        Some(Err(error)) => return Err(netns_error(error)),
    };
    let netns = netns.filter(|netns| is_its_own(netns, record));
    remove_attachment(request, &records, &identity, record, Some(&known), netns)?;
    forget(lock);
    crate::plugins::sweep(&records, known.leftovers);
    // The same container under another name of the network: the configuration was renamed while the pod ran.
    for renamed in &known.records {
        if renamed.plugin == super::PLUGIN
            && renamed.if_name == identity.if_name
            && renamed.network != identity.network
        {
            let identity = super::identity_of(renamed);
            let lock = hold_known(&records, &identity);
            // As it is now that nobody else works on it.
            if let Some(renamed) = super::record_of(&records, &identity)? {
                remove_attachment(request, &records, &identity, Some(&renamed), None, None)?;
            }
            forget(lock);
        }
    }
    Ok(())
}

/// The path may lead to another pod by now, which has an interface of that name, too.
fn is_its_own(netns: &Netns, record: Option<&Record>) -> bool {
    let (dev, ino) = netns.identity();
    let recorded = record.and_then(|record| record.netns_id);
    let own = recorded.is_none_or(|id| id == NetnsId { dev, ino });
    if !own {
        tracing::warn!("CNI_NETNS leads to another namespace than at the ADD: nothing is touched there");
    }
    own
}

/// Where nothing was ever recorded nothing is repaired either, and a DEL makes no files.
pub(super) fn hold_known(records: &Records, identity: &Identity) -> Option<RecordLock> {
    records.exist().then(|| hold(records, &super::attachment_of(identity), super::PLUGIN)).flatten()
}

/// Links, then rules, then the lease, then the record. Whoever calls holds the record's lock. `known` are the container's
/// records, where they were read already.
pub(super) fn remove_attachment(
    request: &Request,
    records: &Records,
    identity: &Identity,
    record: Option<&Record>,
    known: Option<&Kept>,
    netns: Option<Netns>,
) -> Result<()> {
    let remembered = record.cloned().unwrap_or_else(|| super::lost_record(request, records, identity));
    let request = &super::on_behalf_of(request, identity)?;
    let ipam = remembered.promised.ipam.as_deref().map(|name| Ipam::new(request, name, records));
    let held = ipam.as_ref().and_then(|ipam| ipam.held(record));
    let unmap = || {
        let (container, if_name) = (&identity.container, &identity.if_name);
        match known {
            // Memory was lost: then the tables are asked for the container.
            Some(known) if known.records.is_empty() => {
                portmap::remove_claimed(records, container, &[])?;
                portmap::remove_known(records, known, container, if_name)
            }
            Some(known) => portmap::remove_known(records, known, container, if_name),
            None => portmap::remove_recorded(records, container, if_name),
        }
    };
    let give_back = || ipam.map_or(Ok(()), |ipam| ipam.del(record));
    remove(records, &remembered, netns, held.as_deref(), unmap, give_back)
}

/// As [`remove_attachment`], for whoever has no request and knows that the pod's namespace is gone. What a foreign plugin
/// for addresses leased can only be given back by a DEL, which needs the record: then it stays.
pub fn remove_recorded(records: &Records, record: &Record) -> Result<()> {
    let held = host_local::held_recorded(record)?;
    if is_foreign(record) {
        let mut session = Session::open(None).map_err(Error::internal)?;
        remove_links(&mut session, &super::identity_of(record), record, Some(&[]), true)?;
        return portmap::remove_recorded(records, &record.container_id, &record.if_name).map(drop);
    }
    let unmap = || portmap::remove_recorded(records, &record.container_id, &record.if_name);
    remove(records, record, None, Some(&held), unmap, || host_local::del_recorded(records, record))
}

/// Whether only a DEL can give the addresses back.
pub fn is_foreign(record: &Record) -> bool {
    record.promised.ipam.as_deref().is_some_and(|name| plugin(name) != Some(Plugin::HostLocal))
}

/// What [`remove_recorded`] would tell the kernel about the attachment's links.
pub fn planned_removal(record: &Record) -> Result<Vec<Step>> {
    let held = if is_foreign(record) { Vec::new() } else { host_local::held_recorded(record)? };
    let mut session = Session::open(None).map_err(Error::internal)?;
    let remains = remains(&mut session, &super::identity_of(record), record, Some(&held))?;
    Ok(plan_removal(&remains))
}

fn remove(
    records: &Records,
    remembered: &Record,
    netns: Option<Netns>,
    held: Option<&[IpAddr]>,
    unmap: impl FnOnce() -> Result<bool>,
    give_back: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let identity = &super::identity_of(remembered);
    log::stage("links");
    let mut session = Session::open(netns).map_err(Error::internal)?;
    let mut failures = Vec::new();
    if let Err(error) = remove_links(&mut session, identity, remembered, held, true) {
        failures.push(error);
    }
    log::stage("ports");
    // The chained plugin for ports may be gone from the configuration; its mappings must not outlive the address.
    failures.extend(unmap().err());
    if failures.is_empty() {
        log::stage("lease");
        failures.extend(give_back().err());
    }
    log::stage("record");
    if failures.is_empty()
        && let Err(error) = records.remove(&super::attachment_of(identity), super::PLUGIN)
    {
        // A disk that takes no changes has no memory worth keeping: the record is void with the next boot.
        tracing::warn!(%error, "could not forget the attachment");
    }
    if failures.is_empty() && !remembered.promised.gateways.is_empty() {
        release(records, &mut session);
    }
    match failures.into_iter().reduce(|first, next| join(first, &next)) {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// The node is a router for pods no longer than it has any. What cannot be given back now is with the next last pod.
pub(super) fn release(records: &Records, session: &mut Session) {
    // One that cannot be read may be promised anything.
    let is_needed = || records.any(|record| !record.promised.gateways.is_empty()).unwrap_or(true);
    if let Err(error) = guard::release(session, &is_needed) {
        tracing::warn!(%error, "the node still forwards as it did for its last pod");
    }
}

fn join(mut first: Error, next: &Error) -> Error {
    first.msg = format!("{}; {}", first.msg, next.msg);
    first
}

/// Links, spoof check, neighbour entries and connections. `held` are the addresses that are leased to the attachment now,
/// as far as is known. `pod_side` also removes what has the interface's name in the pod, whoever made it, because that is
/// what DEL asks for; a failed ADD must not.
pub(super) fn remove_links(
    session: &mut Session,
    identity: &Identity,
    record: &Record,
    held: Option<&[IpAddr]>,
    pod_side: bool,
) -> Result<()> {
    let mut remains = remains(session, identity, record, held)?;
    if !pod_side {
        remains.pod = None;
    }
    let failures = apply_all(session, &plan_removal(&remains));
    let Some(first) = failures.first() else { return Ok(()) };
    let all: Vec<_> = failures.iter().map(|failure| failure.error.to_string()).collect();
    Err(Error::internal(format!("failed to delete \"{}\": {}", identity.if_name, all.join("; ")))
        .with_details(format!("failed at: {}; DEL again when the cause is gone", first.step)))
}

fn remains(
    session: &mut Session,
    identity: &Identity,
    record: &Record,
    held: Option<&[IpAddr]>,
) -> Result<Remains> {
    let mut ports: Vec<IfName> = record.promised.host_if.iter().cloned().collect();
    // Without a record the derived name still finds it.
    ports.push(identity.host_veth(0));
    ports.dedup();
    let mut remains = observe_remains(session, identity, &ports).map_err(Error::internal)?;
    remains.bridge = remains.bridge.or_else(|| record.promised.bridge.clone());
    let attached = remains.port.is_some() || remains.pod.is_some();
    let promised = record.promised.addresses.iter().map(|promised| promised.address.ip());
    match held {
        // A late DEL: what was promised may by now belong to another pod, whose connections are not ours to cut.
        Some(held) if !attached => remains.addresses = held.to_vec(),
        held => remains.addresses.extend(promised.chain(held.into_iter().flatten().copied())),
    }
    remains.addresses.sort_unstable();
    remains.addresses.dedup();
    if record.promised.flags.mac_spoof_check {
        remains.spoof_check = ports.into_iter().next();
    }
    Ok(remains)
}
