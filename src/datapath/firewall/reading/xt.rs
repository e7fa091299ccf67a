//! Matches and targets of x_tables, which `iptables-nft` hangs into rules of nf_tables. Layouts are those of the headers named.
//!
//! Pure.

use crate::datapath::firewall::legacy::{NARROW_MODULES, TARGETS_THAT_GO_ON};
use crate::datapath::firewall::way::{Condition, Verdict};

/// A target of x_tables; NFTA_TARGET_NAME comes with its zero.
pub(super) fn target(data: &[u8]) -> Option<Verdict> {
    let is = |name: &str| {
        let name = [name.as_bytes(), &[0]].concat();
        data.windows(name.len()).any(|word| word == name)
    };
    if is("REJECT") {
        return Some(Verdict::Drop);
    }
    if attribute(data, NFTA_TARGET_NAME) == Some(b"MARK\0") {
        return attribute(data, NFTA_TARGET_INFO).and_then(mark_target);
    }
    if TARGETS_THAT_GO_ON.iter().any(|name| is(name)) { None } else { Some(Verdict::Undecided) }
}

/// `struct xt_mark_tginfo2`, linux/netfilter/xt_mark.h: `mark & !mask ^ value`.
fn mark_target(info: &[u8]) -> Option<Verdict> {
    Some(Verdict::Mark { value: word(info, 0)?, mask: word(info, 4)? })
}

fn word(info: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(info.get(at..at + 4)?.try_into().ok()?))
}

/// `enum nft_target_attributes`, linux/netfilter/nf_tables.h.
const NFTA_TARGET_NAME: u16 = 1;
const NFTA_TARGET_INFO: u16 = 3;

/// One of the attributes of an expression, as the kernel gave them.
fn attribute(mut data: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let half = |at: usize| Some(u16::from_ne_bytes(data.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(half(0)?), half(2)?);
        let value = data.get(4..length)?;
        if kind & 0x3fff == wanted {
            return Some(value);
        }
        data = data.get(length.next_multiple_of(4)..)?;
    }
}

/// What a match of x_tables asks.
pub(super) fn condition(name: &str, revision: u32, info: &[u8]) -> Option<Condition> {
    match (name, revision) {
        ("comment", _) => None,
        ("conntrack", 2..) => Some(conntrack(info).unwrap_or(Condition::Obscure)),
        // `struct xt_state_info`, linux/netfilter/xt_state.h.
        ("state", _) => Some(match info.first_chunk() {
            Some(bits) => Condition::Track { bits: u32::from_ne_bytes(*bits), negated: false },
            None => Condition::Obscure,
        }),
        ("mark", 1) => Some(mark(info).unwrap_or(Condition::Obscure)),
        ("addrtype", 1) => Some(destination_type(info).unwrap_or(Condition::Obscure)),
        (name, _) if NARROW_MODULES.contains(&name) => Some(Condition::Narrow),
        _ => Some(Condition::Obscure),
    }
}

/// `struct xt_mark_mtinfo1`, linux/netfilter/xt_mark.h.
fn mark(info: &[u8]) -> Option<Condition> {
    Some(Condition::Mark { value: word(info, 0)?, mask: word(info, 4)?, negated: *info.get(8)? != 0 })
}

/// `struct xt_addrtype_info_v1`, linux/netfilter/xt_addrtype.h, where only a local destination is asked for.
fn destination_type(info: &[u8]) -> Option<Condition> {
    const LOCAL: u16 = 1 << 2;
    const INVERT_DEST: u32 = 2;
    let half = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
    let flags = word(info, 4)?;
    let only = half(0)? == 0 && half(2)? == LOCAL && flags & !INVERT_DEST == 0;
    only.then_some(Condition::LocalDestination { negated: flags & INVERT_DEST != 0 })
}

/// `struct xt_conntrack_mtinfo2` and `3`, linux/netfilter/xt_conntrack.h, where the state alone is asked.
fn conntrack(info: &[u8]) -> Option<Condition> {
    const MATCH_FLAGS: usize = 8 * 16 + 2 * 4 + 2 + 4 * 2;
    const XT_CONNTRACK_STATE: u16 = 1;
    let word = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
    if word(MATCH_FLAGS)? != XT_CONNTRACK_STATE {
        return None;
    }
    let negated = word(MATCH_FLAGS + 2)? & XT_CONNTRACK_STATE != 0;
    Some(Condition::Track { bits: word(MATCH_FLAGS + 4)?.into(), negated })
}
