//! Which of the changes that the kernel announces can be a loss to somebody.
//!
//! Refuses to know whose: what a change is about is in its attributes, whatever the kind of object.

use super::message::{DELCHAIN, DELRULE, DELSET, DELSETELEM, DELTABLE, NEWCHAIN, NEWTABLE};
use crate::kernel::attribute::attributes;
use crate::kernel::events::Change;

/// Ends what one transaction changed.
pub(in crate::kernel) const NEWGEN: u16 = NEWTABLE + 15;
/// `struct nfgenmsg`.
pub(in crate::kernel) const GENERIC_HEADER: usize = 4;
/// linux/netfilter/nf_tables.h; NF_INET_FORWARD and NF_BR_FORWARD have the same number, linux/netfilter.h.
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_HOOK_HOOKNUM: u16 = 1;
const FORWARD: [u8; 4] = [0, 0, 0, 2];

/// `body` stands behind the header.
pub(in crate::kernel) fn loss(kind: u16, body: &[u8]) -> Option<Change> {
    match kind {
        DELTABLE | DELCHAIN | DELRULE | DELSET => Some(Change::Deleted),
        DELSETELEM => Some(Change::ElementsDeleted),
        NEWCHAIN if is_hooked_to_forward(body) => Some(Change::ForwardChain),
        _ => None,
    }
}

fn is_hooked_to_forward(body: &[u8]) -> bool {
    let mut hooks = attributes(body).filter(|(kind, _)| *kind == NFTA_CHAIN_HOOK);
    hooks.any(|(_, hook)| attributes(hook).any(|(kind, value)| kind == NFTA_HOOK_HOOKNUM && value == FORWARD))
}
