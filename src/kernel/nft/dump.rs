//! Questions: which tables, chains, rules and elements the kernel has.
//!
//! What is missing is `None` or empty, never an error.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use netlink_bindings::nftables::{
    IterableChainAttrs, IterableDataAttrs, IterableRuleAttrs, IterableSetelemAttrs, OpGetchainDump,
    OpGetruleDump, OpGetsetelemDump, OpGettableDo, OpGettableDump, SetelemListElemAttrs,
};
use netlink_bindings::traits::NetlinkRequest;
use rustix::io::Errno;

use super::bytecode::{Instruction, compile};
use super::data::{Comment, DataType, Datum, split};
use super::message::{self, COMMENT};
use super::{
    Element, Hook, HookPoint, Kind, Policy, Rule, Set, Table, TableFamily, decode, lift, raw,
    without_nf_tables,
};
use crate::kernel::netlink::Answer;
use crate::kernel::{NetfilterSocket, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    /// Unique in the network namespace, never used again.
    pub handle: u64,
    pub comment: Option<Comment>,
    /// NFT_TABLE_F_OWNER: only the process that made it can change it.
    pub owned: bool,
    /// NFT_TABLE_F_DORMANT: its chains see no packet.
    pub dormant: bool,
}

const NFT_TABLE_F_DORMANT: u32 = 1;
const NFT_TABLE_F_OWNER: u32 = 2;

/// One table; `None` when it is missing.
pub fn table(socket: &mut NetfilterSocket, table: &Table) -> Result<Option<TableInfo>> {
    let read = |answer: Answer<'_>| {
        let (_, attributes) = OpGettableDo::decode_reply(answer.payload);
        let flags = attributes.get_flags().unwrap_or_default();
        Some(TableInfo {
            handle: attributes.get_handle().ok()?,
            comment: attributes.get_userdata().ok().and_then(comment),
            owned: flags & NFT_TABLE_F_OWNER != 0,
            dormant: flags & NFT_TABLE_F_DORMANT != 0,
        })
    };
    socket
        .get(
            message::GETTABLE,
            &message::table_message(table, None),
            || format!("nft list table {table}"),
            read,
        )
        .map_err(without_nf_tables)
}

/// Every table of the families that this program knows.
pub fn tables(socket: &mut NetfilterSocket) -> Result<Vec<Table>> {
    Ok(tables_with_info(socket)?.into_iter().map(|(table, _)| table).collect())
}

/// The same, with what else the kernel says of each.
pub fn tables_with_info(socket: &mut NetfilterSocket) -> Result<Vec<(Table, TableInfo)>> {
    let read = |answer: Answer<'_>| {
        let (header, attributes) = OpGettableDump::decode_reply(answer.payload);
        let name = attributes.get_name().ok()?.to_string_lossy().into_owned();
        let flags = attributes.get_flags().unwrap_or_default();
        let info = TableInfo {
            handle: attributes.get_handle().unwrap_or_default(),
            comment: attributes.get_userdata().ok().and_then(comment),
            owned: flags & NFT_TABLE_F_OWNER != 0,
            dormant: flags & NFT_TABLE_F_DORMANT != 0,
        };
        Some((Table { family: TableFamily::from_number(header.nfgen_family)?, name }, info))
    };
    let question = message::generic(0, 0);
    or_empty(socket.dump(message::GETTABLE, &question, || "nft list tables".to_owned(), read))
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    pub handle: u64,
    pub comment: Option<Comment>,
    /// Without the values of counters.
    pub instructions: Vec<Instruction>,
}

impl RuleInfo {
    /// As `nft` would say it, best effort: what is unknown stands in brackets.
    pub fn text(&self) -> String {
        lift::text(&self.instructions)
    }

    /// Whether the kernel's rule does what ours says and has the same comment.
    pub fn is(&self, family: TableFamily, rule: &Rule) -> bool {
        self.comment == rule.comment && self.instructions == compile(family, &rule.expressions)
    }
}

/// The rules of a chain in their order.
pub fn rules(socket: &mut NetfilterSocket, table: &Table, chain: &str) -> Result<Vec<RuleInfo>> {
    rules_as(socket, table, chain, |rule| rule)
}

/// What is made of each rule of a chain, in their order: of thousands nobody keeps more than he needs.
pub fn rules_as<T>(
    socket: &mut NetfilterSocket,
    table: &Table,
    chain: &str,
    mut keep: impl FnMut(RuleInfo) -> T,
) -> Result<Vec<T>> {
    let read = |answer: Answer<'_>| {
        let (header, attributes) = OpGetruleDump::decode_reply(answer.payload);
        // Older kernels ignore the names and give all rules of the family, or of all families.
        let same = header.nfgen_family == table.family.number()
            && attributes.get_table().is_ok_and(|name| name.to_bytes() == table.name.as_bytes())
            && attributes.get_chain().is_ok_and(|name| name.to_bytes() == chain.as_bytes());
        if !same {
            return None;
        }
        rule_info(&attributes).map(&mut keep)
    };
    let question = message::rule_message(table, chain, None, None);
    or_empty(socket.dump(message::GETRULE, &question, || format!("nft list chain {table} {chain}"), read))
}

/// One rule by its handle; `None` when it is gone.
pub fn rule(
    socket: &mut NetfilterSocket,
    table: &Table,
    chain: &str,
    handle: u64,
) -> Result<Option<RuleInfo>> {
    let read = |answer: Answer<'_>| {
        let (_, attributes) = OpGetruleDump::decode_reply(answer.payload);
        rule_info(&attributes)
    };
    let operation = || format!("nft list chain {table} {chain}");
    socket
        .get(message::GETRULE, &message::rule_question(table, chain, handle), operation, read)
        .map_err(without_nf_tables)
}

/// A rule and the chain that it stands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedRule {
    pub table: Table,
    pub chain: String,
    pub rule: RuleInfo,
}

/// The rules of all chains, those of one chain in their order.
pub fn all_rules(socket: &mut NetfilterSocket) -> Result<Vec<PlacedRule>> {
    rules_that(socket, |_| true)
}

/// The rules of all chains that somebody wants to keep.
pub fn rules_that(
    socket: &mut NetfilterSocket,
    wanted: impl Fn(&PlacedRule) -> bool,
) -> Result<Vec<PlacedRule>> {
    let read = |answer: Answer<'_>| {
        let (header, attributes) = OpGetruleDump::decode_reply(answer.payload);
        let name = attributes.get_table().ok()?.to_string_lossy().into_owned();
        let placed = PlacedRule {
            table: Table { family: TableFamily::from_number(header.nfgen_family)?, name },
            chain: attributes.get_chain().ok()?.to_string_lossy().into_owned(),
            rule: rule_info(&attributes)?,
        };
        Some(placed).filter(|placed| wanted(placed))
    };
    let question = message::generic(0, 0);
    or_empty(socket.dump(message::GETRULE, &question, || "nft list ruleset".to_owned(), read))
}

pub(super) fn rule_info(attributes: &IterableRuleAttrs<'_>) -> Option<RuleInfo> {
    Some(RuleInfo {
        handle: attributes.get_handle().ok()?,
        comment: attributes.get_userdata().ok().and_then(comment),
        instructions: attributes.get_expressions().map(decode::instructions).unwrap_or_default(),
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainInfo {
    pub table: Table,
    pub name: String,
    /// Unique in its table, never used again.
    pub handle: u64,
    /// Its rules, and whatever jumps to it.
    pub uses: usize,
    /// Of all chains of its table, their handles and uses; other than it was when any of them changed.
    pub table_print: u64,
    /// A hook of a kind that this program does not know is reported as none.
    pub hook: Option<Hook>,
    /// Of hooks of single devices.
    pub devices: Vec<String>,
}

/// The chains of all tables of a family, or of all families.
pub fn chains(socket: &mut NetfilterSocket, family: Option<TableFamily>) -> Result<Vec<ChainInfo>> {
    list_chains(socket, family, false)
}

/// The chains of all tables that stand on a hook. Of the others a node with iptables' many services has thousands, and
/// nothing of them is kept.
pub fn base_chains(socket: &mut NetfilterSocket) -> Result<Vec<ChainInfo>> {
    list_chains(socket, None, true)
}

fn list_chains(
    socket: &mut NetfilterSocket,
    family: Option<TableFamily>,
    on_hooks: bool,
) -> Result<Vec<ChainInfo>> {
    let read = |answer: Answer<'_>| {
        let (header, attributes) = OpGetchainDump::decode_reply(answer.payload);
        let family = TableFamily::from_number(header.nfgen_family)?;
        let (table, print) = (table_key(family, attributes.get_table().ok()?.to_bytes()), print(&attributes));
        if on_hooks && attributes.get_hook().is_err() {
            return Some((table, print, None));
        }
        let hook = || {
            let hook = attributes.get_hook().ok()?;
            Some(Hook {
                kind: match attributes.get_type().ok()?.to_bytes() {
                    b"filter" => Kind::Filter,
                    b"nat" => Kind::Nat,
                    b"route" => Kind::Route,
                    _ => return None,
                },
                point: point(family, hook.get_num().ok()?)?,
                priority: hook.get_priority().ok()?,
                policy: if attributes.get_policy().ok()? == 0 { Policy::Drop } else { Policy::Accept },
            })
        };
        let info = ChainInfo {
            table: Table { family, name: attributes.get_table().ok()?.to_string_lossy().into_owned() },
            name: attributes.get_name().ok()?.to_string_lossy().into_owned(),
            handle: attributes.get_handle().unwrap_or_default(),
            uses: attributes.get_use().ok().and_then(|uses| uses.try_into().ok()).unwrap_or_default(),
            table_print: 0,
            hook: hook(),
            devices: raw::hook_devices(attributes.get_buf()),
        };
        Some((table, print, Some(info)))
    };
    let question = message::generic(family.map_or(0, TableFamily::number), 0);
    let found = or_empty(socket.dump(message::GETCHAIN, &question, || "nft list chains".to_owned(), read))?;
    let mut prints = HashMap::<u64, u64>::new();
    for (table, print, _) in &found {
        *prints.entry(*table).or_default() ^= print;
    }
    let with_print = |(table, _, chain): (u64, u64, Option<ChainInfo>)| {
        chain.map(|chain| ChainInfo { table_print: prints.get(&table).copied().unwrap_or_default(), ..chain })
    };
    Ok(found.into_iter().filter_map(with_print).collect())
}

/// NF_INET_*, NF_ARP_* and NF_NETDEV_*, linux/netfilter.h, netfilter_arp.h: each family counts its own hooks.
fn point(family: TableFamily, number: u32) -> Option<HookPoint> {
    use HookPoint::{Egress, Forward, Ingress, Input, Output, Postrouting, Prerouting};
    let points: &[HookPoint] = match family {
        TableFamily::Netdev => &[Ingress, Egress],
        TableFamily::Arp => &[Input, Output, Forward],
        TableFamily::Inet => &[Prerouting, Input, Forward, Output, Postrouting, Ingress],
        TableFamily::Ip | TableFamily::Ip6 | TableFamily::Bridge => {
            &[Prerouting, Input, Forward, Output, Postrouting]
        }
    };
    points.get(usize::try_from(number).ok()?).copied()
}

fn table_key(family: TableFamily, name: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (family, name).hash(&mut hasher);
    hasher.finish()
}

/// One number of what a chain looks like from afar.
fn print(chain: &IterableChainAttrs<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    let name = chain.get_name().map(std::ffi::CStr::to_bytes).unwrap_or_default();
    (name, chain.get_handle().ok(), chain.get_use().ok(), chain.get_policy().ok()).hash(&mut hasher);
    hasher.finish()
}

/// The element with that key, or the range around it; costs the same however many there are. But for kernels before 4.15:
/// they answer EOPNOTSUPP to anything but a dump (nf_tables_getsetelem, net/netfilter/nf_tables_api.c).
pub fn element(
    socket: &mut NetfilterSocket,
    table: &Table,
    set: &Set,
    key: &[Datum],
) -> Result<Option<Element>> {
    match asked_for(socket, table, set, key) {
        Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => {
            let mut all = elements(socket, table, set)?.into_iter();
            Ok(all.find(|element| match &element.key_end {
                Some(end) => element.key.as_slice() <= key && key <= end.as_slice(),
                None => element.key == key,
            }))
        }
        answer => answer,
    }
}

fn asked_for(
    socket: &mut NetfilterSocket,
    table: &Table,
    set: &Set,
    key: &[Datum],
) -> Result<Option<Element>> {
    let operation = || format!("nft get element {table} {} {{ {} }}", set.name, super::text::dotted(key));
    let mut ask = |end| {
        let question = message::element_question(table, set, key, end);
        let read = |answer: Answer<'_>| parts(set, answer).into_iter().next();
        socket.get(message::GETSETELEM, &question, operation, read).map_err(without_nf_tables)
    };
    let Some(start) = ask(false)? else { return Ok(None) };
    if !ranges_of_one(set) {
        return Ok(Some(start.element));
    }
    let end = ask(true)?;
    Ok(joined(set, [Some(start), end].into_iter().flatten().collect()).into_iter().next())
}

/// All elements of a set, in no particular order.
pub fn elements(socket: &mut NetfilterSocket, table: &Table, set: &Set) -> Result<Vec<Element>> {
    let question = message::elements_message(table, set, &[]);
    let operation = || format!("nft list set {table} {}", set.name);
    let read = |answer: Answer<'_>| Some(parts(set, answer));
    let found: Vec<Part> = or_empty(socket.dump(message::GETSETELEM, &question, operation, read))?
        .into_iter()
        .flatten()
        .collect();
    if ranges_of_one(set) {
        return Ok(joined(set, found));
    }
    Ok(found.into_iter().map(|part| part.element).collect())
}

pub(super) fn or_empty<T>(answer: Result<Vec<T>>) -> Result<Vec<T>> {
    match answer {
        Err(error) if error.is_missing() => Ok(Vec::new()),
        other => other.map_err(without_nf_tables),
    }
}

/// `enum nftnl_udata_*_types`: type, length, text with a zero.
fn comment(mut remarks: &[u8]) -> Option<Comment> {
    while let [kind, length, rest @ ..] = remarks {
        let text = rest.get(..usize::from(*length))?;
        if *kind == COMMENT {
            return Some(Comment::new(&String::from_utf8_lossy(text.strip_suffix(&[0]).unwrap_or(text))));
        }
        remarks = &rest[text.len()..];
    }
    None
}

/// What the kernel calls an element: a range of one field is two of them, its start and the first value behind it.
struct Part {
    element: Element,
    behind: bool,
}

/// Whether it is the first value behind a range, and not itself in the set.
pub(super) fn is_behind(element: &IterableSetelemAttrs<'_>) -> bool {
    const NFT_SET_ELEM_INTERVAL_END: u8 = 1;
    element
        .get_flags()
        .is_ok_and(|flags| flags.last().is_some_and(|bits| bits & NFT_SET_ELEM_INTERVAL_END != 0))
}

fn ranges_of_one(set: &Set) -> bool {
    set.interval && set.key.len() == 1
}

fn parts(set: &Set, answer: Answer<'_>) -> Vec<Part> {
    let (_, attributes) = OpGetsetelemDump::decode_reply(answer.payload);
    let Ok(list) = attributes.get_elements() else { return Vec::new() };
    list.flatten().filter_map(|SetelemListElemAttrs::Elem(attributes)| part(set, &attributes)).collect()
}

fn part(set: &Set, attributes: &IterableSetelemAttrs<'_>) -> Option<Part> {
    let fields = |types: &[DataType], data: IterableDataAttrs<'_>| split(types, data.get_value().ok()?);
    let value = set.value.as_ref().zip(attributes.get_data().ok());
    Some(Part {
        behind: is_behind(attributes),
        element: Element {
            key: fields(&set.key, attributes.get_key().ok()?)?,
            key_end: raw::parse_key_end(attributes.get_buf()).and_then(|data| split(&set.key, data)),
            value: value.and_then(|(types, data)| fields(types, data)),
            comment: attributes.get_userdata().ok().and_then(comment),
        },
    })
}

/// Ranges from their starts and ends. Ranges of a set never overlap; the last may have no end.
fn joined(set: &Set, mut parts: Vec<Part>) -> Vec<Element> {
    // Where one range follows the other, the end of the first comes before the start of the second.
    parts.sort_by(|a, b| (&a.element.key, !a.behind).cmp(&(&b.element.key, !b.behind)));
    let mut ranges: Vec<Element> = Vec::new();
    for Part { element, behind } in parts {
        match ranges.last_mut() {
            Some(open) if behind && open.key_end.is_none() => {
                open.key_end = element.key.first().and_then(Datum::before).map(|last| vec![last]);
            }
            _ if behind => {}
            _ => ranges.push(element),
        }
    }
    for range in ranges.iter_mut().filter(|range| range.key_end.is_none()) {
        range.key_end = split(&set.key, &[0xff; 16]);
    }
    ranges
}
