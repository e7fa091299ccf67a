//! Matches of x_tables, for chains that `iptables-nft` owns: what it could not read makes it refuse the whole table.
//! Layouts are those of the headers named; Arm and x86-64 align them to eight bytes (XT_ALIGN).

use super::bytecode::Instruction;

/// `struct xt_comment_info`, linux/netfilter/xt_comment.h: 256 bytes with a zero at the end.
pub(super) fn comment(text: &str) -> Instruction {
    let mut info = text.as_bytes().to_vec();
    info.truncate(255);
    info.resize(256, 0);
    Instruction::XtMatch { name: "comment".to_owned(), revision: 0, info }
}

/// XT_CONNTRACK_STATE_DNAT, linux/netfilter/xt_conntrack.h.
pub(super) const STATE_DNAT: u32 = 1 << 7;

/// `struct xt_conntrack_mtinfo3`, linux/netfilter/xt_conntrack.h, with the state alone: eight addresses and two times come
/// before the protocol and four ports. The bits of a state are those of `ct state`.
pub(super) fn state(bits: u32) -> Instruction {
    const MATCH_FLAGS: usize = 8 * 16 + 2 * 4 + 2 + 4 * 2;
    const STATE_MASK: usize = MATCH_FLAGS + 4;
    const XT_CONNTRACK_STATE: u16 = 1;
    let mut info = vec![0; 168];
    info[MATCH_FLAGS..MATCH_FLAGS + 2].copy_from_slice(&XT_CONNTRACK_STATE.to_ne_bytes());
    let mask = u16::try_from(bits).unwrap_or(u16::MAX);
    info[STATE_MASK..STATE_MASK + 2].copy_from_slice(&mask.to_ne_bytes());
    Instruction::XtMatch { name: "conntrack".to_owned(), revision: 3, info }
}
