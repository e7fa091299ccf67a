//! Sets between the braces of a rule, `ct state { established, related }` and `ct state vmap { invalid : drop }`: the kernel keeps
//! them apart from the rule, under a number. They are the rule's alone and never change.
//!
//! Reads bytes and leaves it to others what they mean. Only sets of one field: of several nobody here compares anything.

use netlink_bindings::nftables::{IterableSetelemAttrs, OpGetsetelemDump, SetelemListElemAttrs};
use netlink_bindings::traits::NetlinkRequest;

use super::bytecode::{Instruction, Listed};
use super::dump::{RuleInfo, or_empty};
use super::message;
use super::{Set, Table};
use crate::kernel::netlink::Answer;
use crate::kernel::{NetfilterSocket, Result};

/// Of one set: more is a list of addresses, and takes some packets whatever they are.
const MOST_ELEMENTS: usize = 256;
/// Of the rules that are read at once, so that a foreign rule set of thousands costs an ADD a handful of questions.
const MOST_SETS: usize = 64;

/// What `nft` and `iptables-nft` call such sets before the kernel puts the number in.
fn is_anonymous(set: &str) -> bool {
    ["__set", "__map"].iter().any(|beginning| set.starts_with(beginning))
}

impl RuleInfo {
    /// Whether there is more to read before it is known what it says.
    pub fn has_braces(&self) -> bool {
        self.instructions
            .iter()
            .any(|word| matches!(word, Instruction::Lookup { set, among: None, .. } if is_anonymous(set)))
    }
}

/// Reads what stands between the braces of these rules, which are of the table.
pub fn fill_braces<'a>(
    socket: &mut NetfilterSocket,
    table: &Table,
    rules: impl Iterator<Item = &'a mut RuleInfo>,
) -> Result<()> {
    let words = rules.flat_map(|rule| &mut rule.instructions).filter_map(|word| match word {
        Instruction::Lookup { set, among, .. } if is_anonymous(set) => Some((set.as_str(), among)),
        _ => None,
    });
    for (set, among) in words.take(MOST_SETS) {
        *among = listed(socket, table, set)?;
    }
    Ok(())
}

struct Part {
    listed: Listed,
    /// The first value behind a range.
    behind: bool,
}

fn listed(socket: &mut NetfilterSocket, table: &Table, set: &str) -> Result<Option<Vec<Listed>>> {
    let question = message::elements_message(table, &Set::new(set, &[]), &[]);
    let operation = || format!("nft list set {table} {set}");
    let read = |answer: Answer<'_>| Some(parts(answer));
    let found = or_empty(socket.dump(message::GETSETELEM, &question, operation, read))?;
    Ok(joined(found.into_iter().flatten().collect()))
}

fn parts(answer: Answer<'_>) -> Vec<Part> {
    let (_, attributes) = OpGetsetelemDump::decode_reply(answer.payload);
    let Ok(list) = attributes.get_elements() else { return Vec::new() };
    list.flatten().filter_map(|SetelemListElemAttrs::Elem(attributes)| part(&attributes)).collect()
}

fn part(attributes: &IterableSetelemAttrs<'_>) -> Option<Part> {
    let key = attributes.get_key().ok()?.get_value().ok()?.to_vec();
    let verdict = attributes.get_data().ok().and_then(|data| data.get_verdict().ok());
    let verdict = verdict.and_then(|verdict| {
        let chain = verdict.get_chain().ok().map(|name| name.to_string_lossy().into_owned());
        Some((verdict.get_code().ok()?, chain))
    });
    Some(Part {
        behind: super::dump::is_behind(attributes),
        listed: Listed { last: key.clone(), first: key, verdict },
    })
}

/// Single values, or ranges from their starts and what is behind them; `None` where it cannot be told which.
fn joined(mut parts: Vec<Part>) -> Option<Vec<Listed>> {
    let has_ranges = parts.iter().any(|part| part.behind);
    let is_zero = |part: &Part| part.listed.first.iter().all(|byte| *byte == 0);
    // The range of everything has nothing behind it.
    let may_be_all = !has_ranges && parts.first().is_some_and(is_zero) && parts.len() == 1;
    if parts.len() > MOST_ELEMENTS || may_be_all {
        return None;
    }
    if !has_ranges {
        return Some(parts.into_iter().map(|part| part.listed).collect());
    }
    // Where one range follows the other, the end of the first comes before the start of the second.
    parts.sort_by(|a, b| (&a.listed.first, !a.behind).cmp(&(&b.listed.first, !b.behind)));
    let mut ranges: Vec<Listed> = Vec::new();
    let mut is_open = false;
    for Part { listed, behind } in parts {
        match ranges.last_mut() {
            Some(range) if behind && is_open => range.last = before(&listed.first),
            _ if behind => {}
            _ => ranges.push(listed),
        }
        is_open = !behind;
    }
    if let Some(range) = ranges.last_mut().filter(|_| is_open) {
        range.last.fill(0xff);
    }
    Some(ranges)
}

/// The value before, in network order; zero has none and stays.
fn before(value: &[u8]) -> Vec<u8> {
    let mut before = value.to_vec();
    if value.iter().any(|byte| *byte != 0) {
        for byte in before.iter_mut().rev() {
            let (less, borrowed) = byte.overflowing_sub(1);
            *byte = less;
            if !borrowed {
                break;
            }
        }
    }
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(value: &[u8], behind: bool) -> Part {
        Part { behind, listed: Listed { first: value.to_vec(), last: value.to_vec(), verdict: None } }
    }

    fn ranges(parts: Vec<Part>) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        Some(joined(parts)?.into_iter().map(|listed| (listed.first, listed.last)).collect())
    }

    #[test]
    fn single_values_and_ranges_are_told_apart() {
        assert_eq!(
            ranges(vec![part(&[2, 0], false), part(&[4, 0], false)]).unwrap(),
            [(vec![2, 0], vec![2, 0]), (vec![4, 0], vec![4, 0])]
        );
        // As nft sends `{ 0x0100-0x01ff, 0x0200, 0xff00-0xffff }`, in no order.
        let sent = vec![
            part(&[0xff, 0], false),
            part(&[2, 1], true),
            part(&[2, 0], false),
            part(&[2, 0], true),
            part(&[1, 0], false),
            part(&[0, 0], true),
        ];
        let expected =
            [(vec![1, 0], vec![1, 0xff]), (vec![2, 0], vec![2, 0]), (vec![0xff, 0], vec![0xff, 0xff])];
        assert_eq!(ranges(sent).unwrap(), expected);
    }

    #[test]
    fn what_cannot_be_told_stays_unknown() {
        assert_eq!(ranges(vec![part(&[0, 0], false)]), None);
        let many = (0..=255).flat_map(|high| [0, 1].map(|low| part(&[high, low], false)));
        assert_eq!(ranges(many.collect()), None);
    }
}
