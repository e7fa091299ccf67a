//! What the kernel says about leases, for IPAM: asked only when the files do not tell.

use std::cell::OnceCell;
use std::collections::HashSet;
use std::net::IpAddr;

use crate::datapath::census;
use crate::datapath::session::Session;
use crate::plugins::host_local::Evidence;
use crate::state::{Carried, Holder};

/// Looks at most once per run: a look into every namespace takes milliseconds.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    carried: OnceCell<HashSet<IpAddr>>,
}

impl Evidence for Kernel {
    fn carried(&self, network: &str) -> Vec<Carried> {
        let marks = Session::open(None).and_then(|mut session| census::marked_attachments(&mut session));
        let marks = marks.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot ask the kernel which pods are attached");
            Vec::new()
        });
        let ours = marks.into_iter().filter(|mark| mark.id.network == network);
        ours.map(|mark| Carried {
            holder: Holder::of(&mark.id),
            addresses: mark.addresses.iter().map(ipnetwork::IpNetwork::ip).collect(),
        })
        .collect()
    }

    fn carries(&self, address: IpAddr) -> Option<bool> {
        Some(self.carried.get_or_init(census::carried_addresses).contains(&address))
    }
}
