//! Matches and targets of x_tables, which `iptables-nft` hangs into rules of nf_tables. Layouts are those of the headers named.

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
    if TARGETS_THAT_GO_ON.iter().any(|name| is(name)) { None } else { Some(Verdict::Undecided) }
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
        (name, _) if NARROW_MODULES.contains(&name) => Some(Condition::Narrow),
        _ => Some(Condition::Obscure),
    }
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
