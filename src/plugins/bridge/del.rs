//! DEL: nothing of the attachment stays, whatever is left of pod, configuration and memory.
//!
//! Needs only the network's name, the container and the interface. Goes on when one part fails, reports all failures at
//! the end, and forgets the record last, so that a repeated DEL finds what is still to do.

use std::net::IpAddr;

use super::config::RemovalConfig;
use super::ipam::Ipam;
use crate::applet::{Plugin, plugin};
use crate::cni::error::{Error, Result};
use crate::cni::request::Request;
use crate::datapath::apply::apply_all;
use crate::datapath::firewall::guard;
use crate::datapath::mark::host_veth;
use crate::datapath::observe::observe_remains;
use crate::datapath::removal::{Remains, plan_removal};
use crate::datapath::session::{Netns, OpenError, Session};
use crate::datapath::step::Step;
use crate::net::{AttachmentId, IfName};
use crate::plugins::{CallContext, forget, hold, host_local, netns_error, portmap};
use crate::state::lock::RecordLock;
use crate::state::record::Kept;
use crate::state::{NetnsId, Record, Records};

pub fn del(request: &Request) -> Result<()> {
    let target = request.attachment()?;
    let id = request.attachment_id()?;
    let _record = tracing::info_span!("record").entered();
    let CallContext { records, mut session } = CallContext::new()?;
    let lock = hold_known(&records, &id);
    // All of the container's at once: this one, that of its ports, and those under another name of the network.
    let known = records.kept_of(&id.container).map_err(Error::internal)?;
    let is_this = |record: &&Record| record.plugin == super::PLUGIN && record.id == id;
    let record = known.records.iter().find(is_this);
    let netns = match target.netns.as_deref().map(Netns::open) {
        None | Some(Err(OpenError::Gone(_) | OpenError::NotNamespace(_))) => None,
        Some(Ok(netns)) => Some(netns),
        Some(Err(error)) => return Err(netns_error(error)),
    };
    let netns = netns.filter(|netns| is_its_own(netns, record));
    session.turn_to(netns).map_err(Error::internal)?;
    remove_attachment(request, &records, &mut session, &id, record, Some(&known))?;
    forget(lock);
    crate::plugins::sweep(&records, known.leftovers);
    // The same container under another name of the network: the configuration was renamed while the pod ran.
    for renamed in &known.records {
        if renamed.plugin == super::PLUGIN
            && renamed.id.if_name == id.if_name
            && renamed.id.network != id.network
        {
            let lock = hold_known(&records, &renamed.id);
            // As it is now that nobody else works on it.
            if let Some(renamed) = super::record_of(&records, &renamed.id)? {
                session.turn_to(None).map_err(Error::internal)?;
                remove_attachment(request, &records, &mut session, &renamed.id, Some(&renamed), None)?;
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
pub(super) fn hold_known(records: &Records, id: &AttachmentId) -> Option<RecordLock> {
    records.exist().then(|| hold(records, id, super::PLUGIN)).flatten()
}

/// What a removal knows of the attachment beside what the kernel tells.
pub(super) struct Remembered<'a> {
    id: &'a AttachmentId,
    /// `ipam.type`.
    ipam: Option<String>,
    bridge: Option<IfName>,
    /// The host end.
    port: Option<IfName>,
    addresses: Vec<IpAddr>,
    spoof_check: bool,
    has_gateway: bool,
}

impl<'a> Remembered<'a> {
    pub(super) fn of_record(record: &'a Record) -> Self {
        let want = record.attachment();
        Self {
            id: &record.id,
            ipam: record.leases.ipam.clone(),
            bridge: want.map(|want| want.bridge.name.clone()),
            port: want.map(|want| want.port.name.clone()),
            addresses: record.ips().collect(),
            spoof_check: want.is_some_and(|want| want.spoof_check),
            has_gateway: !record.gateways().is_empty(),
        }
    }

    /// Where the record was lost, or never made.
    fn of_config(id: &'a AttachmentId, config: RemovalConfig) -> Self {
        let RemovalConfig { bridge, ipam, spoof_check, .. } = config;
        Self { id, ipam, bridge, port: None, addresses: Vec::new(), spoof_check, has_gateway: false }
    }
}

/// Links, then rules, then the lease, then the record. Whoever calls holds the record's lock. `known` are the container's
/// records, where they were read already. The session sees the pod, if anything is to be done there.
pub(super) fn remove_attachment(
    request: &Request,
    records: &Records,
    session: &mut Session,
    id: &AttachmentId,
    record: Option<&Record>,
    known: Option<&Kept>,
) -> Result<()> {
    let remembered = match record {
        Some(record) => Remembered::of_record(record),
        None => Remembered::of_config(id, RemovalConfig::read(&request.config)),
    };
    let request = &super::on_behalf_of(request, id)?;
    let ipam = remembered.ipam.as_deref().map(|name| Ipam::new(request, name, records));
    let held = ipam.as_ref().and_then(|ipam| ipam.held(record));
    let unmap = |session: &mut Session| {
        // Memory was lost: then the tables are asked for the container.
        if known.is_some_and(|known| known.records.is_empty()) {
            portmap::remove_claimed(records, session, &id.container, &[])?;
        }
        match known {
            Some(known) => portmap::remove_known(records, session, known, id),
            None => portmap::remove_recorded(records, session, id),
        }
    };
    let give_back = || ipam.map_or(Ok(()), |ipam| ipam.del(record));
    remove(records, session, &remembered, held.as_deref(), unmap, give_back)
}

/// As [`remove_attachment`], for whoever has no request and knows that the pod's namespace is gone. What a foreign plugin
/// for addresses leased can only be given back by a DEL, which needs the record: then it stays.
pub fn remove_recorded(records: &Records, session: &mut Session, record: &Record) -> Result<()> {
    let held = host_local::held_recorded(record)?;
    let remembered = Remembered::of_record(record);
    if is_foreign(record) {
        remove_links(session, &remembered, Some(&[]), true)?;
        return portmap::remove_recorded(records, session, &record.id).map(drop);
    }
    let unmap = |session: &mut Session| portmap::remove_recorded(records, session, &record.id);
    remove(records, session, &remembered, Some(&held), unmap, || host_local::del_recorded(records, record))
}

/// Whether only a DEL can give the addresses back.
pub fn is_foreign(record: &Record) -> bool {
    record.leases.ipam.as_deref().is_some_and(|name| plugin(name) != Some(Plugin::HostLocal))
}

/// What [`remove_recorded`] would tell the kernel about the attachment's links.
pub fn planned_removal(session: &mut Session, record: &Record) -> Result<Vec<Step>> {
    let held = if is_foreign(record) { Vec::new() } else { host_local::held_recorded(record)? };
    let remains = remains(session, &Remembered::of_record(record), Some(&held))?;
    Ok(plan_removal(&remains))
}

fn remove(
    records: &Records,
    session: &mut Session,
    remembered: &Remembered<'_>,
    held: Option<&[IpAddr]>,
    unmap: impl FnOnce(&mut Session) -> Result<bool>,
    give_back: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let _links = tracing::info_span!("links").entered();
    let mut failures = Vec::new();
    if let Err(error) = remove_links(session, remembered, held, true) {
        failures.push(error);
    }
    let _ports = tracing::info_span!("ports").entered();
    // The chained plugin for ports may be gone from the configuration; its mappings must not outlive the address.
    failures.extend(unmap(session).err());
    if failures.is_empty() {
        let _lease = tracing::info_span!("lease").entered();
        failures.extend(give_back().err());
    }
    let _record = tracing::info_span!("record").entered();
    if failures.is_empty()
        && let Err(error) = records.remove(remembered.id, super::PLUGIN)
    {
        // A disk that takes no changes has no memory worth keeping: the record is void with the next boot.
        tracing::warn!(%error, "could not forget the attachment");
    }
    if failures.is_empty() && remembered.has_gateway {
        release(records, session);
    }
    match failures.into_iter().reduce(|first, next| join(first, &next)) {
        None => Ok(()),
        Some(error) => Err(error),
    }
}

/// The node is a router for pods no longer than it has any. What cannot be given back now is with the next last pod.
pub(super) fn release(records: &Records, session: &mut Session) {
    // One that cannot be read may be promised anything.
    let is_needed = || records.any(|record| !record.gateways().is_empty()).unwrap_or(true);
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
    remembered: &Remembered<'_>,
    held: Option<&[IpAddr]>,
    pod_side: bool,
) -> Result<()> {
    let mut remains = remains(session, remembered, held)?;
    if !pod_side {
        remains.pod = None;
    }
    let failures = apply_all(session, &plan_removal(&remains));
    let Some(first) = failures.first() else { return Ok(()) };
    let all: Vec<_> = failures.iter().map(|failure| failure.error.to_string()).collect();
    Err(Error::internal(format!("failed to delete \"{}\": {}", remembered.id.if_name, all.join("; ")))
        .with_details(format!("failed at: {}; DEL again when the cause is gone", first.step)))
}

fn remains(session: &mut Session, remembered: &Remembered<'_>, held: Option<&[IpAddr]>) -> Result<Remains> {
    let mut ports: Vec<IfName> = remembered.port.iter().cloned().collect();
    // Without a record the derived name still finds it.
    ports.push(host_veth(remembered.id, 0));
    ports.dedup();
    let mut remains = observe_remains(session, remembered.id, &ports).map_err(Error::internal)?;
    remains.bridge = remains.bridge.or_else(|| remembered.bridge.clone());
    let attached = remains.port.is_some() || remains.pod.is_some();
    let promised = remembered.addresses.iter().copied();
    match held {
        // A late DEL: what was promised may by now belong to another pod, whose connections are not ours to cut.
        Some(held) if !attached => remains.addresses = held.to_vec(),
        held => remains.addresses.extend(promised.chain(held.into_iter().flatten().copied())),
    }
    remains.addresses.sort_unstable();
    remains.addresses.dedup();
    if remembered.spoof_check {
        remains.spoof_check = ports.into_iter().next();
    }
    Ok(remains)
}
