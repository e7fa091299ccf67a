//! DEL and GC: giving addresses back.
//!
//! Works with whatever is left: without namespace, with a configuration that became wrong, on a full or read-only disk.
//! A file that cannot be removed is logged and passed over.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::add::held_by;
use super::config::data_dir;
use super::{Ipam, PLUGIN};
use crate::cni::config::NetConf;
use crate::cni::{Code, Context, Error, Request, Result};
use crate::net::IfName;
use crate::plugins::forget;
use crate::plugins::next_move::CONFIGURATION;
use crate::state::holders::GRACE;
use crate::state::lease::DATA_DIR;
use crate::state::{Holder, Lease, Locked, Record, Records, Store};

/// The addresses that are leased to the attachment now, without changing anything or waiting for anybody: nobody else gives
/// or takes what is this attachment's.
pub fn held_addresses(request: &Request, ipam: &Ipam<'_>) -> Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    each_held(request, ipam, Store::beside, |_, address| addresses.push(address), |_| {})?;
    Ok(addresses)
}

/// Removes the leases of the attachment. One that is unknown is fine.
pub fn del(request: &Request, ipam: &Ipam<'_>) -> Result<()> {
    let id = request.attachment_id()?;
    let lock = ipam.hold(&id);
    each_held(request, ipam, Store::existing, release, sweep)?;
    if ipam.keeps_record() {
        ipam.records.remove(&id, PLUGIN)?;
        forget(lock);
    }
    Ok(())
}

/// As DEL, for whoever has no request: the addresses that the record promises, as far as they are still leased to it, and
/// the record itself when it is `host-local`'s own.
pub fn del_recorded(records: &Records, record: &Record) -> Result<()> {
    release_promised(record)?;
    if record.plugin == PLUGIN {
        records.remove(&record.id, PLUGIN)?;
    }
    Ok(())
}

/// The directory that an ADD of the record leased in.
pub fn data_dir_of(record: &Record) -> PathBuf {
    let said = record.leases.data_dir.as_ref().filter(|text| !text.is_empty());
    said.map_or_else(|| DATA_DIR.into(), PathBuf::from)
}

/// The addresses of the record that are leased to it now, whoever keeps the record.
pub fn held_recorded(record: &Record) -> Result<Vec<IpAddr>> {
    let Some(glance) = Store::glance(&data_dir_of(record), &record.id.network)? else {
        return Ok(Vec::new());
    };
    let holder = Holder::of(&record.id);
    let mut held = Vec::new();
    for address in record.ips() {
        if names(glance.lease(address)?.as_ref(), &holder) {
            held.push(address);
        }
    }
    Ok(held)
}

fn release_promised(record: &Record) -> Result<()> {
    let Some(mut store) = Store::existing(&data_dir_of(record), &record.id.network)? else { return Ok(()) };
    let locked = store.lock()?;
    let holder = Holder::of(&record.id);
    for address in record.ips() {
        if names(locked.lease(address)?.as_ref(), &holder) {
            release(&locked, address);
        }
    }
    Ok(())
}

/// Every lease of the attachment, under the lock that `open` takes; then `after`, once per directory.
fn each_held(
    request: &Request,
    ipam: &Ipam<'_>,
    open: fn(&Path, &str) -> crate::state::Result<Option<Store>>,
    mut each: impl FnMut(&Locked<'_>, IpAddr),
    after: impl Fn(&Locked<'_>),
) -> Result<()> {
    let id = request.attachment_id()?;
    let previous = ipam.previous(&id)?;
    let holder = Holder::of(&id);
    for data_dir in data_dirs(request, previous.as_ref())? {
        let Some(mut store) = open(&data_dir, &id.network)? else { continue };
        let locked = store.lock()?;
        for address in held(&locked, &holder, previous.as_ref())? {
            each(&locked, address);
        }
        after(&locked);
    }
    Ok(())
}

/// Where the configuration says, and where an ADD under an older configuration has put them.
pub(super) fn data_dirs(request: &Request, previous: Option<&Record>) -> Result<Vec<PathBuf>> {
    let configured = data_dir(&request.config)?;
    let recorded = previous.and_then(|record| record.leases.data_dir.as_ref()).map(PathBuf::from);
    let mut dirs: Vec<PathBuf> = configured.into_iter().chain(recorded).collect();
    dirs.dedup();
    if dirs.is_empty() {
        dirs.push(DATA_DIR.into());
    }
    Ok(dirs)
}

/// Whether a promised address is still its holder's. A file of the old format names the container alone.
fn names(lease: Option<&Lease>, holder: &Holder) -> bool {
    matches!(lease, Some(Lease::Held(found)) if found.covers(holder))
}

/// The addresses that the holder has: those in files that name exactly this interface, and of those that name its container
/// alone what it was promised. Where neither is known, all of the latter.
fn held(locked: &Locked<'_>, holder: &Holder, previous: Option<&Record>) -> Result<Vec<IpAddr>> {
    let promised: Vec<IpAddr> = previous.into_iter().flat_map(Record::ips).collect();
    let is_held = |address: &IpAddr| match locked.lease(*address) {
        Ok(Some(Lease::Held(found))) => {
            found == *holder || promised.contains(address) && found.covers(holder)
        }
        _ => false,
    };
    // What a complete record tells need not be searched for, as long as nobody else makes leases here.
    if previous.is_some_and(|record| record.complete) && !promised.is_empty() && tells_all(locked)? {
        return Ok(promised.iter().copied().filter(is_held).collect());
    }
    let all = held_by(locked, holder)?;
    let exact: Vec<IpAddr> = all.iter().copied().filter(is_held).collect();
    Ok(if exact.is_empty() { all } else { exact })
}

fn tells_all(locked: &Locked<'_>) -> Result<bool> {
    let survey = locked.survey()?;
    Ok(!survey.whole || locked.is_sealed(&survey)?)
}

fn sweep(locked: &Locked<'_>) {
    locked.sweep();
}

fn release(locked: &Locked<'_>, address: IpAddr) {
    if let Err(error) = locked.release(address) {
        tracing::warn!("the lease of {address} stays: {error}");
    }
}

/// Removes the leases of this network whose attachments the runtime does not know, and the records that belong to them.
pub fn gc(request: &Request, ipam: &Ipam<'_>) -> Result<()> {
    let Some(valid) = NetConf::decode(&request.config).hint(CONFIGURATION)?.valid_attachments else {
        return Err(Error::new(
            Code::InvalidNetworkConfig,
            "cni.dev/valid-attachments is missing: without the list of living attachments GC would free the addresses \
             of running pods; send it, empty if there are none",
        ));
    };
    let network = request.network.as_str();
    let data_dir = data_dir(&request.config)?.unwrap_or_else(|| DATA_DIR.into());
    let young = young(ipam, network)?;
    let is_valid = |container: &str, if_name: Option<&IfName>| {
        let fits =
            |(id, name): &(String, String)| id == container && if_name.is_none_or(|it| it.as_str() == name);
        valid.iter().any(fits)
            || young.iter().any(|(id, name)| id == container && if_name.is_none_or(|it| it == name))
    };
    if ipam.keeps_record() {
        crate::plugins::sweep(ipam.records, true);
        for record in ipam.records.all()? {
            let ours = record.plugin == PLUGIN && record.id.network == network;
            if ours && !is_valid(&record.id.container, Some(&record.id.if_name)) {
                let lock = ipam.hold(&record.id);
                del_recorded(ipam.records, &record)?;
                forget(lock);
            }
        }
    }
    collect_leases(&data_dir, network, is_valid)
}

/// An ADD that runs beside this GC is not yet on the runtime's list.
fn young(ipam: &Ipam<'_>, network: &str) -> Result<Vec<(String, IfName)>> {
    let running = |record: &Record| {
        record.id.network == network && !record.complete && ipam.now < record.created() + GRACE
    };
    let records = ipam.records.all()?.into_iter().filter(running);
    Ok(records.map(|record| (record.id.container, record.id.if_name)).collect())
}

fn collect_leases(
    data_dir: &Path,
    network: &str,
    is_valid: impl Fn(&str, Option<&IfName>) -> bool,
) -> Result<()> {
    let Some(mut store) = Store::existing(data_dir, network)? else { return Ok(()) };
    let locked = store.lock()?;
    for (address, lease) in locked.leases()? {
        let valid = match &lease {
            Lease::Held(holder) => is_valid(&holder.container, holder.if_name.as_ref()),
            Lease::Damaged => false,
        };
        if !valid {
            tracing::info!("{network}: {address} belongs to no attachment of the runtime ({lease:?}), freed");
            release(&locked, address);
        }
    }
    locked.sweep();
    Ok(())
}
