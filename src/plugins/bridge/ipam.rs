//! Address management: in process for our own plugin, by execution for everybody else's.

use crate::cni::delegate;
use crate::cni::error::{Error, Result};
use crate::cni::request::{Request, Verb};
use crate::cni::result::AddResult;
use crate::state::{Record, Records};

/// The IPAM plugin of one request.
#[derive(Debug)]
pub(super) struct Ipam<'a> {
    request: &'a Request,
    name: &'a str,
}

impl<'a> Ipam<'a> {
    pub(super) fn new(request: &'a Request, name: &'a str) -> Self {
        Self { request, name }
    }

    /// Addresses for a new attachment.
    pub(super) fn add(&mut self, _record: &Record, _records: &Records) -> Result<AddResult> {
        delegate::add(self.request, self.name).inspect_err(|error| self.clean_up(error))
    }

    /// The specification asks for DEL after a failed ADD. Not when the address belongs to an attachment that lives.
    fn clean_up(&self, because: &Error) {
        if because.msg.contains("duplicate allocation") {
            return;
        }
        if let Err(error) = delegate::call(self.request, self.name, Verb::Del) {
            tracing::warn!("IPAM DEL after a failed ADD: {}", error.msg);
        }
    }

    /// After an ADD that failed later on.
    pub(super) fn take_back(&mut self, _record: &Record, _because: &Error) -> Result<()> {
        delegate::call(self.request, self.name, Verb::Del)
    }

    pub(super) fn del(&self, _record: &Record) -> Result<()> {
        delegate::call(self.request, self.name, Verb::Del)
    }

    pub(super) fn check(&self) -> Result<()> {
        delegate::call(self.request, self.name, Verb::Check)
    }

    pub(super) fn status(&self) -> Result<()> {
        delegate::call(self.request, self.name, Verb::Status)
    }

    pub(super) fn gc(&self) -> Result<()> {
        delegate::call(self.request, self.name, Verb::Gc)
    }
}

/// `ipam.dataDir`, for whoever looks for the leases later.
pub(super) fn data_dir(request: &Request) -> Option<String> {
    request.config.object("ipam").ok().flatten()?.string("dataDir").ok().flatten()
}
