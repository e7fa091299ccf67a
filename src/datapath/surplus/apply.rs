//! Takes away what nobody wants. Whoever calls holds the node's lock, under which what is to go was also looked for.

use super::observe::set_of;
use super::{Member, Removal};
use crate::datapath::hostports::tables;
use crate::datapath::session::Session;
use crate::datapath::{firewall, names, rules};
use crate::kernel;
use crate::kernel::nft::{self, Command, Datum, Element, Transaction};

/// What is gone already is fine.
pub fn apply(session: &mut Session, removal: &Removal) -> kernel::Result<()> {
    tracing::debug!("{removal}");
    let socket = session.netfilter()?;
    let command = match removal {
        Removal::SpoofCheck(port) => return rules::remove_spoof_check(socket, port),
        Removal::Accepts(chain, interface) => {
            return firewall::accepts::remove_accepts(socket, chain, interface);
        }
        Removal::Intercept(family, link) => return names::intercept::remove(socket, *family, link),
        Removal::Masquerade(rule) => Command::DeleteRule {
            table: tables::table(rule.family),
            chain: rules::MASQUERADE.to_owned(),
            handle: rule.handle,
        },
        Removal::Member(Member { family, set, interface }) => Command::DeleteElements {
            table: tables::table(*family),
            set: set_of(*set),
            elements: vec![Element::of([Datum::IfName(interface.clone())])],
        },
        Removal::Entry(entry) => Command::DeleteElements {
            table: tables::table(entry.family()),
            set: tables::set_of(entry),
            elements: vec![Element::of(tables::key_of(entry))],
        },
    };
    match nft::commit(socket, &Transaction { commands: vec![command] }) {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}
