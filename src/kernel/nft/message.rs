//! Commands and questions as netlink messages of linux/netfilter/nf_tables.h.
//!
//! Refuses to know what instructions look like inside (`encode`) and how messages are sent (`batch`).

use netlink_bindings::nftables::{
    PushChainAttrs, PushRuleAttrs, PushSetAttrs, PushSetelemListAttrs, PushTableAttrs,
};
use netlink_bindings::utils::Pusher;

use super::bytecode::{Instruction, compile};
use super::data::{Comment, DataType, Datum, concatenate, padded};
use super::{
    Chain, Command, Element, HookPoint, Kind, Policy, Position, Rule, Set, Table, TableFamily, encode, raw,
};
use crate::kernel::netlink::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};

/// NFNL_SUBSYS_NFTABLES, and the messages of `enum nf_tables_msg_types` with it in the upper byte.
pub(super) const SUBSYSTEM: u16 = 10;
pub(super) const NEWTABLE: u16 = SUBSYSTEM << 8;
pub(super) const GETTABLE: u16 = NEWTABLE + 1;
pub(super) const DELTABLE: u16 = NEWTABLE + 2;
pub(super) const NEWCHAIN: u16 = NEWTABLE + 3;
pub(super) const GETCHAIN: u16 = NEWTABLE + 4;
pub(super) const DELCHAIN: u16 = NEWTABLE + 5;
const NEWRULE: u16 = NEWTABLE + 6;
pub(super) const GETRULE: u16 = NEWTABLE + 7;
pub(super) const DELRULE: u16 = NEWTABLE + 8;
const NEWSET: u16 = NEWTABLE + 9;
pub(super) const DELSET: u16 = NEWTABLE + 11;
const NEWSETELEM: u16 = NEWTABLE + 12;
pub(super) const GETSETELEM: u16 = NEWTABLE + 13;
pub(super) const DELSETELEM: u16 = NEWTABLE + 14;

const NFT_SET_ELEM_INTERVAL_END: u32 = 1;

/// The list of elements is one attribute, whose length is 16 bits; an element with a comment takes about 250 bytes.
const ELEMENTS_PER_MESSAGE: usize = 128;

impl TableFamily {
    /// NFPROTO_*, linux/netfilter.h.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Netdev => 5,
            Self::Bridge => 7,
            Self::Ip6 => 10,
        }
    }

    pub(super) fn from_number(number: u8) -> Option<Self> {
        let all = [Self::Inet, Self::Ip, Self::Bridge, Self::Ip6, Self::Arp, Self::Netdev];
        all.into_iter().find(|family| family.number() == number)
    }
}

/// `struct nfgenmsg`, linux/netfilter/nfnetlink.h: family, version, resource in network order.
pub(super) fn generic(family: u8, resource: u16) -> Vec<u8> {
    let [high, low] = resource.to_be_bytes();
    vec![family, 0, high, low]
}

/// Gives `add` the type, flags and payload of each message of a command.
pub(super) fn encode_command(command: &Command, mut add: impl FnMut(u16, u16, Vec<u8>)) {
    match command {
        Command::CreateTable { table, comment } => {
            add(NEWTABLE, NLM_F_CREATE | NLM_F_EXCL, table_message(table, comment.as_ref()));
        }
        Command::AddTable { table, comment } => {
            add(NEWTABLE, NLM_F_CREATE, table_message(table, comment.as_ref()));
        }
        Command::DeleteTable { table } => add(DELTABLE, 0, table_message(table, None)),
        Command::AddChain { table, chain } => add(NEWCHAIN, NLM_F_CREATE, chain_message(table, chain)),
        Command::DeleteChain { table, chain } => {
            add(DELCHAIN, 0, chain_message(table, &Chain::regular(chain)));
        }
        Command::FlushChain { table, chain } => add(DELRULE, 0, rule_message(table, chain, None, None)),
        Command::AddSet { table, set } => add(NEWSET, NLM_F_CREATE, set_message(table, set)),
        Command::DeleteSet { table, set } => {
            let attributes = PushSetAttrs::new(generic(table.family.number(), 0))
                .push_table_bytes(table.name.as_bytes())
                .push_name_bytes(set.name.as_bytes());
            add(DELSET, 0, attributes.end_nested());
        }
        Command::AddElements { table, set, elements } => {
            for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
                add(NEWSETELEM, NLM_F_CREATE, elements_message(table, set, part));
            }
        }
        Command::DeleteElements { table, set, elements } => {
            for part in elements.chunks(ELEMENTS_PER_MESSAGE) {
                add(DELSETELEM, 0, elements_message(table, set, part));
            }
        }
        Command::AddRule { table, chain, rule } => {
            add(NEWRULE, NLM_F_CREATE | NLM_F_APPEND, rule_message(table, chain, Some(rule), None));
        }
        Command::InsertRule { table, chain, position, rule } => {
            let before = match position {
                Position::First => None,
                Position::Before(handle) => Some(*handle),
            };
            add(NEWRULE, NLM_F_CREATE, rule_message(table, chain, Some(rule), before));
        }
        Command::DeleteRule { table, chain, handle } => {
            let names = rule_message(table, chain, None, None);
            add(DELRULE, 0, PushRuleAttrs::new(names).push_handle(*handle).end_nested());
        }
    }
}

/// `enum nftnl_udata_*_types` of libnftnl: type, length, text with a zero.
fn remark(comment: &Comment, kind: u8) -> Vec<u8> {
    let text = comment.as_str().as_bytes();
    // A comment has at most 127 bytes.
    let mut bytes = vec![kind, u8::try_from(text.len() + 1).unwrap_or(u8::MAX)];
    bytes.extend_from_slice(text);
    bytes.push(0);
    bytes
}

/// Of tables, chains, rules and elements; sets number it differently.
pub(super) const COMMENT: u8 = 0;

pub(super) fn table_message(table: &Table, comment: Option<&Comment>) -> Vec<u8> {
    let mut attributes =
        PushTableAttrs::new(generic(table.family.number(), 0)).push_name_bytes(table.name.as_bytes());
    if let Some(comment) = comment {
        attributes = attributes.push_userdata(&remark(comment, COMMENT));
    }
    attributes.end_nested()
}

fn chain_message(table: &Table, chain: &Chain) -> Vec<u8> {
    let mut attributes = PushChainAttrs::new(generic(table.family.number(), 0))
        .push_table_bytes(table.name.as_bytes())
        .push_name_bytes(chain.name.as_bytes());
    if let Some(hook) = &chain.hook {
        attributes = attributes
            .nested_hook()
            .push_num(match hook.point {
                // NF_NETDEV_INGRESS and NF_INET_PRE_ROUTING.
                HookPoint::Ingress | HookPoint::Prerouting => 0,
                // NF_ARP_IN, linux/netfilter_arp.h: this family numbers hooks of its own.
                HookPoint::Input if table.family == TableFamily::Arp => 0,
                HookPoint::Input | HookPoint::Egress => 1,
                HookPoint::Forward => 2,
                HookPoint::Output => 3,
                HookPoint::Postrouting => 4,
            })
            .push_priority(hook.priority)
            .end_nested()
            .push_policy(u32::from(hook.policy == Policy::Accept))
            .push_type(match hook.kind {
                Kind::Filter => c"filter",
                Kind::Nat => c"nat",
                Kind::Route => c"route",
            });
    }
    if let Some(comment) = &chain.comment {
        raw::chain_userdata(attributes.as_vec_mut(), &remark(comment, COMMENT));
    }
    attributes.end_nested()
}

/// Asks for one rule.
pub(super) fn rule_question(table: &Table, chain: &str, handle: u64) -> Vec<u8> {
    PushRuleAttrs::new(rule_message(table, chain, None, None)).push_handle(handle).end_nested()
}

/// Asks for the rules of all chains of the table.
pub(super) fn rules_message(table: &Table) -> Vec<u8> {
    PushRuleAttrs::new(generic(table.family.number(), 0)).push_table_bytes(table.name.as_bytes()).end_nested()
}

/// Names of the chain; the instructions of a rule and the rule it goes before, where there are any.
pub(super) fn rule_message(table: &Table, chain: &str, rule: Option<&Rule>, before: Option<u64>) -> Vec<u8> {
    let mut attributes = PushRuleAttrs::new(generic(table.family.number(), 0))
        .push_table_bytes(table.name.as_bytes())
        .push_chain_bytes(chain.as_bytes());
    if let Some(handle) = before {
        attributes = attributes.push_position(handle);
    }
    let Some(rule) = rule else { return attributes.end_nested() };
    let instructions = compile(table.family, &rule.expressions);
    let mut list = attributes.nested_expressions();
    for instruction in &instructions {
        encode::instruction(list.as_vec_mut(), instruction);
    }
    let mut attributes = list.end_nested();
    if instructions.iter().any(|i| matches!(i, Instruction::XtMatch { .. })) {
        // x_tables checks its matches against the protocol of the rule: none.
        attributes = attributes.nested_compat().push_proto(0).push_flags(0).end_nested();
    }
    if let Some(comment) = &rule.comment {
        attributes = attributes.push_userdata(&remark(comment, COMMENT));
    }
    attributes.end_nested()
}

/// The types of several fields share one number, six bits each.
fn type_id(types: &[DataType]) -> u32 {
    types.iter().fold(0, |id, data_type| (id << 6) | data_type.id())
}

/// `nft` keeps the byte order of keys and values beside the set: 0 mixed, 1 host, 2 network.
fn byte_order(types: &[DataType]) -> u32 {
    match types {
        [only] => {
            if only.is_host_order() {
                1
            } else {
                2
            }
        }
        _ => 0,
    }
}

fn set_message(table: &Table, set: &Set) -> Vec<u8> {
    /// `enum nftnl_udata_set_types`.
    const KEY_BYTE_ORDER: u8 = 0;
    const DATA_BYTE_ORDER: u8 = 1;
    const SET_COMMENT: u8 = 7;
    const NFT_SET_INTERVAL: u32 = 4;
    const NFT_SET_MAP: u32 = 8;
    const NFT_SET_CONCAT: u32 = 0x80;
    let ranges_of_several = set.interval && set.key.len() > 1;
    let mut flags = 0;
    for (wanted, flag) in [
        (set.interval, NFT_SET_INTERVAL),
        (set.value.is_some(), NFT_SET_MAP),
        (ranges_of_several, NFT_SET_CONCAT),
    ] {
        flags |= if wanted { flag } else { 0 };
    }
    let length = |types: &[DataType]| u32::try_from(padded(types)).unwrap_or(u32::MAX);
    let order = |kind, types: &[DataType]| [&[kind, 4][..], &byte_order(types).to_ne_bytes()].concat();
    let mut remarks = order(KEY_BYTE_ORDER, &set.key);

    let mut attributes = PushSetAttrs::new(generic(table.family.number(), 0))
        .push_table_bytes(table.name.as_bytes())
        .push_name_bytes(set.name.as_bytes())
        .push_flags(flags)
        .push_key_type(type_id(&set.key))
        .push_key_len(length(&set.key))
        // The kernel insists on a number (nf_tables_newset); sets are addressed by name here.
        .push_id(1);
    if let Some(value) = &set.value {
        attributes = attributes.push_data_type(type_id(value)).push_data_len(length(value));
        remarks.extend(order(DATA_BYTE_ORDER, value));
    }
    if ranges_of_several {
        let mut fields = attributes.nested_desc().nested_concat();
        for data_type in &set.key {
            fields = fields.nested_elem().push_len(u32::try_from(data_type.size()).unwrap_or(0)).end_nested();
        }
        attributes = fields.end_nested().end_nested();
    }
    if let Some(comment) = &set.comment {
        remarks.extend(remark(comment, SET_COMMENT));
    }
    attributes.push_userdata(&remarks).end_nested()
}

/// A range of one field is two elements, the second marked as the end and no longer part of it; the kernel keeps
/// ranges of several fields in one element with the last values.
pub(super) fn elements_message(table: &Table, set: &Set, elements: &[Element]) -> Vec<u8> {
    let mut list = PushSetelemListAttrs::new(generic(table.family.number(), 0))
        .push_table_bytes(table.name.as_bytes())
        .push_set_bytes(set.name.as_bytes())
        .nested_elements();
    for element in elements {
        let mut attributes =
            list.nested_elem().nested_key().push_value(&concatenate(&element.key)).end_nested();
        if let (Some(end), true) = (&element.key_end, set.key.len() > 1) {
            raw::key_end(attributes.as_vec_mut(), &concatenate(end));
        }
        if let Some(value) = &element.value {
            attributes = attributes.nested_data().push_value(&concatenate(value)).end_nested();
        }
        if let Some(comment) = &element.comment {
            attributes = attributes.push_userdata(&remark(comment, COMMENT));
        }
        list = attributes.end_nested();
        let ends_with = element.key_end.as_deref().unwrap_or(&element.key);
        if let (true, [only]) = (set.interval, ends_with)
            && let Some(next) = only.behind()
        {
            list = list
                .nested_elem()
                .push_flags(&NFT_SET_ELEM_INTERVAL_END.to_be_bytes())
                .nested_key()
                .push_value(&next)
                .end_nested()
                .end_nested();
        }
    }
    list.end_nested().end_nested()
}

/// Asks for the element with a key, or for the one that ends the range around it.
pub(super) fn element_question(table: &Table, set: &Set, key: &[Datum], end: bool) -> Vec<u8> {
    let mut element = PushSetelemListAttrs::new(generic(table.family.number(), 0))
        .push_table_bytes(table.name.as_bytes())
        .push_set_bytes(set.name.as_bytes())
        .nested_elements()
        .nested_elem()
        .nested_key()
        .push_value(&concatenate(key))
        .end_nested();
    if set.interval && set.key.len() > 1 {
        raw::key_end(element.as_vec_mut(), &concatenate(key));
    }
    if end {
        element = element.push_flags(&NFT_SET_ELEM_INTERVAL_END.to_be_bytes());
    }
    element.end_nested().end_nested().end_nested()
}
