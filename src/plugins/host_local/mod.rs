//! `host-local` and `smarter-ipam`: which address a pod gets, from ranges in the configuration and leases on this node.
//!
//! The same functions serve as a plugin of its own and inside the bridge plugin, with the same configuration, locking
//! and files as the Go plugin. Refuses to touch links: what the kernel carries is told by [`Evidence`].

mod add;
mod allocate;
mod config;
mod journal;
mod judge;
mod look;
mod range;
mod remove;
mod resolv;
mod restore;

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::cni::{Error, Result};
use crate::net::AttachmentId;
use crate::state::lock::RecordLock;
use crate::state::{self, Carried, Record, Records};

pub use add::{Leased, add};
pub use config::Config;
pub use look::{check, status};
pub use range::{Range, RangeSet};
pub use remove::{data_dir_of, del, del_recorded, gc, held_addresses, held_recorded};
pub use restore::{Lost, lost, restore};

/// The name in the records of a call as a plugin of its own.
pub const PLUGIN: &str = "host-local";

/// What the kernel knows about addresses. It is asked only when the files do not tell, because asking costs
/// milliseconds.
pub trait Evidence {
    /// The attachments of `network` whose links are there, with their addresses.
    fn carried(&self, network: &str) -> Vec<Carried>;

    /// Does any namespace carry the address? `None` when that cannot be found out.
    fn carries(&self, address: IpAddr) -> Option<bool>;
}

/// For a caller that cannot ask the kernel: everything may be alive.
#[derive(Clone, Copy, Debug)]
pub struct NoEvidence;

impl Evidence for NoEvidence {
    fn carried(&self, _: &str) -> Vec<Carried> {
        Vec::new()
    }

    fn carries(&self, _: IpAddr) -> Option<bool> {
        None
    }
}

/// Who calls, which decides who keeps the attachment's record.
#[derive(Clone, Copy, Debug)]
pub enum Caller<'a> {
    /// The runtime or a foreign plugin: the record is ours.
    Runtime,
    /// A plugin of this program, which keeps a record itself and has written it before an ADD. `previous` is the one
    /// it found before that.
    Plugin { previous: Option<&'a Record> },
}

/// The world around the leases.
#[derive(Clone, Copy)]
#[allow(missing_debug_implementations, reason = "the evidence need not be printable")]
pub struct Ipam<'a> {
    /// [`state::record::ROOT`] on a node.
    pub records: &'a Records,
    /// [`state::holders::LIBCNI_RESULTS`] on a node.
    pub libcni_results: &'a Path,
    /// CLOCK_BOOTTIME.
    pub now: Duration,
    pub evidence: &'a dyn Evidence,
    pub caller: Caller<'a>,
}

impl Ipam<'_> {
    /// What is recorded of the attachment from before this call.
    fn previous(&self, id: &AttachmentId) -> Result<Option<Record>> {
        match self.caller {
            Caller::Plugin { previous } => Ok(previous.cloned()),
            Caller::Runtime => {
                let mut records = self.records.of_attachment(id)?;
                // Ours first; then any that tells of addresses, such as the one of our bridge plugin.
                records.retain(|record| record.plugin == PLUGIN || !record.addresses().is_empty());
                records.sort_by_key(|record| record.plugin != PLUGIN);
                Ok(records.into_iter().next())
            }
        }
    }

    fn keeps_record(&self) -> bool {
        matches!(self.caller, Caller::Runtime)
    }

    /// The lock of the attachment's record, where it is ours.
    fn hold(&self, id: &AttachmentId) -> Option<RecordLock> {
        self.keeps_record().then(|| super::hold(self.records, id, PLUGIN)).flatten()
    }
}

/// Everything the state cannot do is an internal error to a runtime, as any plain error of the Go plugin.
impl From<state::Error> for Error {
    fn from(error: state::Error) -> Self {
        Error::internal(error)
    }
}

/// For fuzz targets: a file in the format of resolv.conf(5).
#[cfg(fuzzing)]
pub fn parse_resolv_conf(text: &str) -> Result<crate::cni::Dns> {
    resolv::parse(text)
}

#[cfg(test)]
mod tests;
