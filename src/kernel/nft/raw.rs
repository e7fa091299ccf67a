//! Attributes by number: those that the generated encoder lacks, and those that it numbers in another order than
//! linux/netfilter/nf_tables.h (it leaves out the padding attributes, which count). Nowhere else.

use std::ffi::CStr;

use netlink_bindings::utils::{Pusher, finalize_nested_header, find_attr, push_header, push_nested_header};

use super::bytecode::Instruction;
use super::encode::Statement;
use crate::kernel::attribute::{attributes, string};

pub(super) const NFTA_EXPR_DATA: u16 = 2;
/// The generated encoder says 11.
const NFTA_CHAIN_USERDATA: u16 = 12;
/// The generated encoder says 9.
const NFTA_SET_ELEM_KEY_END: u16 = 10;
const NFTA_DATA_VALUE: u16 = 1;

pub(super) fn chain_userdata(buffer: &mut Vec<u8>, data: &[u8]) {
    push_bytes(buffer, NFTA_CHAIN_USERDATA, data);
}

pub(super) fn key_end(buffer: &mut Vec<u8>, value: &[u8]) {
    let nest = push_nested_header(buffer, NFTA_SET_ELEM_KEY_END);
    push_bytes(buffer, NFTA_DATA_VALUE, value);
    finalize_nested_header(buffer, nest);
}

pub(super) fn parse_key_end(element: &[u8]) -> Option<&[u8]> {
    find_attr(find_attr(element, NFTA_SET_ELEM_KEY_END)?, NFTA_DATA_VALUE)
}

/// The devices of a hook: NFTA_HOOK_DEV, or since Linux 5.5 NFTA_HOOK_DEVS, a list of NFTA_DEVICE_NAME.
pub(super) fn hook_devices(chain: &[u8]) -> Vec<String> {
    const NFTA_CHAIN_HOOK: u16 = 4;
    const NFTA_HOOK_DEV: u16 = 3;
    const NFTA_HOOK_DEVS: u16 = 4;
    const NFTA_DEVICE_NAME: u16 = 1;
    let Some(hook) = find_attr(chain, NFTA_CHAIN_HOOK) else { return Vec::new() };
    let listed = find_attr(hook, NFTA_HOOK_DEVS).unwrap_or_default();
    let listed = attributes(listed).filter(|(kind, _)| *kind == NFTA_DEVICE_NAME).map(|(_, name)| name);
    let mut names: Vec<String> =
        find_attr(hook, NFTA_HOOK_DEV).into_iter().chain(listed).map(string).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn push_bytes(buffer: &mut Vec<u8>, kind: u16, value: &[u8]) {
    push_header(buffer, kind, u16::try_from(value.len()).unwrap_or(u16::MAX));
    buffer.extend_from_slice(value);
}

/// `enum nft_lookup_attributes` of linux/netfilter/nf_tables.h. The generated encoder numbers them in another order
/// (its register is the kernel's destination).
pub(super) fn lookup(
    mut statement: Statement<'_>,
    set: &str,
    register: u32,
    result: Option<u32>,
    inverted: bool,
) {
    const NFTA_LOOKUP_SET: u16 = 1;
    const NFTA_LOOKUP_SREG: u16 = 2;
    const NFTA_LOOKUP_DREG: u16 = 3;
    const NFTA_LOOKUP_FLAGS: u16 = 5;
    const NFT_LOOKUP_F_INV: u32 = 1;
    statement = statement.push_name(c"lookup");
    let buffer = statement.as_vec_mut();
    let data = push_nested_header(buffer, NFTA_EXPR_DATA);
    let name = [set.as_bytes(), &[0]].concat();
    push_bytes(buffer, NFTA_LOOKUP_SET, &name);
    push_number(buffer, NFTA_LOOKUP_SREG, register);
    if let Some(result) = result {
        push_number(buffer, NFTA_LOOKUP_DREG, result);
    }
    if inverted {
        push_number(buffer, NFTA_LOOKUP_FLAGS, NFT_LOOKUP_F_INV);
    }
    finalize_nested_header(buffer, data);
}

fn push_number(buffer: &mut Vec<u8>, kind: u16, value: u32) {
    push_header(buffer, kind, 4);
    buffer.extend(value.to_be_bytes());
}

/// `enum nft_masq_attributes`, `nft_rt_attributes`, `nft_byteorder_attributes` and `nft_exthdr_attributes` of
/// linux/netfilter/nf_tables.h: the encoder's list of instructions does not have them.
pub(super) fn instruction(mut statement: Statement<'_>, instruction: &Instruction) {
    let (name, attributes): (&CStr, &[(u16, u32)]) = match instruction {
        Instruction::Masquerade => (c"masq", &[]),
        Instruction::NoTrack => (c"notrack", &[]),
        // NFTA_RT_DREG, NFTA_RT_KEY: NFT_RT_TCPMSS.
        Instruction::RouteMss { register } => (c"rt", &[(1, *register), (2, 3)]),
        // NFTA_BYTEORDER_SREG, _DREG, _OP: NFT_BYTEORDER_HTON, _LEN, _SIZE.
        Instruction::ToNetworkOrder { register } => {
            (c"byteorder", &[(1, *register), (2, *register), (3, 1), (4, 2), (5, 2)])
        }
        // NFTA_EXTHDR_OFFSET, _LEN, _OP: NFT_EXTHDR_OP_TCPOPT, _SREG; the type is one byte and follows.
        Instruction::WriteMss { register } => (c"exthdr", &[(3, 2), (4, 2), (6, 1), (7, *register)]),
        _ => return,
    };
    statement = statement.push_name(name);
    let buffer = statement.as_vec_mut();
    let data = push_nested_header(buffer, NFTA_EXPR_DATA);
    for (kind, value) in attributes {
        push_number(buffer, *kind, *value);
    }
    if matches!(instruction, Instruction::WriteMss { .. }) {
        const NFTA_EXTHDR_TYPE: u16 = 2;
        const TCPOPT_MAXSEG: u8 = 2;
        push_header(buffer, NFTA_EXTHDR_TYPE, 1);
        buffer.push(TCPOPT_MAXSEG);
    }
    finalize_nested_header(buffer, data);
}

/// The counterpart of `lookup` and `instruction`, where the numbers are explained.
pub(super) fn parse(name: &str, data: &[u8]) -> Option<Instruction> {
    let number =
        |kind| find_attr(data, kind).and_then(|bytes| bytes.first_chunk()).map(|b| u32::from_be_bytes(*b));
    Some(match name {
        "lookup" => Instruction::Lookup {
            set: CStr::from_bytes_until_nul(find_attr(data, 1)?).ok()?.to_string_lossy().into_owned(),
            register: number(2)?,
            result: number(3),
            inverted: number(5).is_some_and(|flags| flags & 1 != 0),
            among: None,
        },
        "masq" if data.is_empty() => Instruction::Masquerade,
        "notrack" => Instruction::NoTrack,
        "rt" if number(2) == Some(3) => Instruction::RouteMss { register: number(1)? },
        "byteorder" if [number(3), number(4), number(5)] == [Some(1), Some(2), Some(2)] => {
            Instruction::ToNetworkOrder { register: number(2).filter(|to| number(1) == Some(*to))? }
        }
        "exthdr"
            if [number(3), number(4), number(6)] == [Some(2), Some(2), Some(1)]
                && find_attr(data, 2) == Some(&[2]) =>
        {
            Instruction::WriteMss { register: number(7)? }
        }
        _ => return None,
    })
}
