//! The record of an attachment whose ADD nobody but host-local keeps in mind.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::config::Config;
use super::range::RangeSet;
use super::{Ipam, PLUGIN};
use crate::cni::args::Args;
use crate::cni::{IpConfig, Request, Result};
use crate::state::Record;
use crate::state::record::{Leases, Pod, Want};

/// Our own record of the attachment, when no plugin of this program keeps one. Written before the first lease.
pub(super) struct Journal<'a> {
    ipam: &'a Ipam<'a>,
    /// From before this call, unless it is void.
    previous: Option<Record>,
    record: Option<Record>,
}

impl<'a> Journal<'a> {
    pub(super) fn new(ipam: &'a Ipam<'a>, previous: Option<Record>) -> Self {
        Self { ipam, previous, record: None }
    }

    /// `held` is what the attachment has; with `more`, addresses are added to an attachment that is not in question.
    pub(super) fn begin(
        &mut self,
        request: &Request,
        config: &Config,
        held: &[IpAddr],
        more: bool,
    ) -> Result<()> {
        if !self.ipam.keeps_record() {
            return Ok(());
        }
        let target = request.attachment()?;
        let own = self.previous.take().filter(|record| record.plugin == PLUGIN);
        let mut record = match &own {
            // More addresses for an attachment that is there.
            Some(own) if more => own.clone(),
            _ => Record::begin(self.ipam.records, PLUGIN, &request.attachment_id()?, target.netns.as_deref()),
        };
        self.previous = own;
        let pod = Args::parse_lenient(&request.args).pod().clone();
        record.pod = Some(Pod { namespace: pod.namespace, name: pod.name, uid: pod.uid });
        record.leases = Leases {
            ipam: Some(PLUGIN.to_owned()),
            data_dir: Some(config.data_dir.display().to_string()),
            pools: config.sets.iter().map(RangeSet::pool).collect(),
        };
        let asked = held.iter().chain(&config.requested).map(|address| IpNetwork::from(*address));
        remember(&mut record, |_| true, asked);
        self.ipam.records.write(&record)?;
        self.record = Some(record);
        Ok(())
    }

    pub(super) fn finish(&mut self, ips: &[IpConfig], held: &[IpAddr]) -> Result<()> {
        let Some(record) = &mut self.record else { return Ok(()) };
        // Requested ones that were refused would have failed the call.
        remember(record, |known| held.contains(&known), ips.iter().map(|ip| ip.address));
        record.complete = true;
        Ok(self.ipam.records.write(record)?)
    }

    pub(super) fn abandon(self) {
        let Some(record) = self.record else { return };
        let outcome = match &self.previous {
            Some(previous) => self.ipam.records.write(previous),
            None => self.ipam.records.remove(&record.id, PLUGIN),
        };
        if let Err(error) = outcome {
            tracing::warn!("the record of a failed ADD stays: {error}");
        }
    }
}

/// Of the addresses that were promised before those that shall stay, and these.
fn remember(record: &mut Record, stays: impl Fn(IpAddr) -> bool, these: impl Iterator<Item = IpNetwork>) {
    let mut addresses = record.addresses().to_vec();
    addresses.retain(|known| stays(known.ip()));
    for address in these {
        addresses.retain(|known| known.ip() != address.ip());
        addresses.push(address);
    }
    record.want = Some(Want::Addresses(addresses));
}
