//! Address management for the bridge: in process for our own plugin, by execution for everybody else's.
//!
//! In process means the same configuration, locking and files as when it is executed, without a second process.

use std::net::IpAddr;
use std::path::Path;

use crate::applet::{Plugin, plugin};
use crate::cni::delegate;
use crate::cni::error::Result;
use crate::cni::request::{Request, Verb};
use crate::plugins::evidence::Kernel;
use crate::plugins::host_local::{self, Caller, Leased};
use crate::state::holders::LIBCNI_RESULTS;
use crate::state::{Record, Records, boot};

/// The IPAM plugin of one request.
#[derive(Debug)]
pub(super) struct Ipam<'a> {
    request: &'a Request,
    name: &'a str,
    records: &'a Records,
    in_process: bool,
}

impl<'a> Ipam<'a> {
    pub(super) fn new(request: &'a Request, name: &'a str, records: &'a Records) -> Self {
        let in_process = plugin(name) == Some(Plugin::HostLocal);
        Self { request, name, records, in_process }
    }

    /// Somebody else's plugin may speak through the pod's interface, as dhcp does: it is called when that is there and up.
    /// Our own needs none, and an address that cannot be had costs no links.
    pub(super) fn needs_interface(&self) -> bool {
        !self.in_process
    }

    /// Before anything is made for it: is there such a plugin?
    pub(super) fn find(&self) -> Result<()> {
        if self.in_process { Ok(()) } else { delegate::find(self.name, &self.request.path).map(drop) }
    }

    /// Addresses for a new attachment. `previous` is what was recorded of it before this ADD.
    pub(super) fn add(&self, previous: Option<&Record>) -> Result<Leased> {
        if self.in_process {
            // What it reserved before it failed, it has given back itself.
            return self.local(previous, |ipam| host_local::add(self.request, ipam));
        }
        let result = delegate::add(self.request, self.name).inspect_err(|because| {
            // The specification asks for DEL after a failed ADD, but not for taking away what a living pod has.
            if !because.msg.contains("duplicate allocation") {
                let _ = self
                    .del(None)
                    .inspect_err(|error| tracing::warn!("IPAM DEL after a failed ADD: {}", error.msg));
            }
        })?;
        // What happens to addresses that somebody else gives out, nobody tells us.
        Ok(Leased { result, unclean: true, pools: Vec::new() })
    }

    /// The addresses that are leased to the attachment now; `None` when only a foreign plugin knows.
    pub(super) fn held(&self, record: Option<&Record>) -> Option<Vec<IpAddr>> {
        if !self.in_process {
            return None;
        }
        self.local(record, |ipam| host_local::held_addresses(self.request, ipam)).ok()
    }

    pub(super) fn del(&self, record: Option<&Record>) -> Result<()> {
        if self.in_process {
            return self.local(record, |ipam| host_local::del(self.request, ipam));
        }
        delegate::call(self.request, self.name, Verb::Del)
    }

    pub(super) fn check(&self, record: Option<&Record>) -> Result<()> {
        if self.in_process {
            return self.local(record, |ipam| host_local::check(self.request, ipam));
        }
        delegate::call(self.request, self.name, Verb::Check)
    }

    pub(super) fn status(&self) -> Result<()> {
        if self.in_process {
            return host_local::status(self.request);
        }
        delegate::call(self.request, self.name, Verb::Status)
    }

    pub(super) fn gc(&self) -> Result<()> {
        if self.in_process {
            return self.local(None, |ipam| host_local::gc(self.request, ipam));
        }
        delegate::call(self.request, self.name, Verb::Gc)
    }

    fn local<T>(
        &self,
        previous: Option<&Record>,
        call: impl FnOnce(&host_local::Ipam<'_>) -> Result<T>,
    ) -> Result<T> {
        call(&host_local::Ipam {
            records: self.records,
            libcni_results: Path::new(LIBCNI_RESULTS),
            now: boot::boottime(),
            evidence: &Kernel::default(),
            caller: Caller::Plugin { previous },
        })
    }
}

/// `ipam.dataDir`, for whoever looks for the leases later.
pub(super) fn data_dir(request: &Request) -> Option<String> {
    request.config.object("ipam").ok().flatten()?.string("dataDir").ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_plugin_runs_in_process() {
        for (name, ours) in [("host-local", true), ("smarter-ipam", true), ("dhcp", false), ("bridge", false)]
        {
            assert_eq!(plugin(name) == Some(Plugin::HostLocal), ours, "{name}");
        }
    }
}
