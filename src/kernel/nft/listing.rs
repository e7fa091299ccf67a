//! The rules of whole tables, each asked for once: whoever looks at several chains of a table asks one question, not one for
//! each.
//!
//! Keeps the kernel's own bytes and takes apart only the rules of a chain that somebody looks at. Good for one look: what
//! was changed since is not in it.

use netlink_bindings::nftables::OpGetruleDump;
use netlink_bindings::traits::NetlinkRequest;

use super::dump::{or_empty, rule_info};
use super::{RuleInfo, Table, message};
use crate::kernel::netlink::Answer;
use crate::kernel::{NetfilterSocket, Result};

#[derive(Debug, Default)]
pub struct Listing {
    /// The messages of a table's rules, in their order.
    tables: Vec<(Table, Vec<Vec<u8>>)>,
}

impl Listing {
    /// The rules of a chain in their order; none where the chain or its table is missing.
    pub fn rules(
        &mut self,
        socket: &mut NetfilterSocket,
        table: &Table,
        chain: &str,
    ) -> Result<Vec<RuleInfo>> {
        if !self.tables.iter().any(|(known, _)| known == table) {
            self.tables.push((table.clone(), ask(socket, table)?));
        }
        let of_table = self.tables.iter().filter(|(known, _)| known == table);
        let rules = of_table.flat_map(|(_, rules)| rules).filter_map(|rule| {
            let (_, attributes) = OpGetruleDump::decode_reply(rule);
            let same = attributes.get_chain().is_ok_and(|name| name.to_bytes() == chain.as_bytes());
            if same { rule_info(&attributes) } else { None }
        });
        Ok(rules.collect())
    }
}

fn ask(socket: &mut NetfilterSocket, table: &Table) -> Result<Vec<Vec<u8>>> {
    let read = |answer: Answer<'_>| {
        let (header, attributes) = OpGetruleDump::decode_reply(answer.payload);
        // Older kernels ignore the name and give all rules of the family, or of all families.
        let same = header.nfgen_family == table.family.number()
            && attributes.get_table().is_ok_and(|name| name.to_bytes() == table.name.as_bytes());
        same.then(|| answer.payload.to_vec())
    };
    let question = message::rules_message(table);
    or_empty(socket.dump(message::GETRULE, &question, || format!("nft list table {table}"), read))
}
