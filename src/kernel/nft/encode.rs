//! Instructions as attributes (`struct nft_expr`, linux/netfilter/nf_tables.h).
//!
//! The generated encoder has most instructions; the few it lacks are written here by number and nowhere else.

use netlink_bindings::nftables::{PushExprAttrs, PushExprListAttrs};
use netlink_bindings::utils::{Pusher, finalize_nested_header, push_header, push_nested_header};

use super::bytecode::Instruction;

type Statement<'a> = PushExprAttrs<PushExprListAttrs<&'a mut Vec<u8>>>;

fn statement(list: &mut Vec<u8>) -> Statement<'_> {
    PushExprListAttrs::new(list).nested_elem()
}

/// Appends one instruction to the list of a rule.
pub(super) fn instruction(list: &mut Vec<u8>, instruction: &Instruction) {
    match instruction {
        Instruction::Meta { key, register } => {
            statement(list).nested_data_meta().push_key(*key).push_dreg(*register);
        }
        Instruction::SetMeta { key, register } => {
            statement(list).nested_data_meta().push_key(*key).push_sreg(*register);
        }
        Instruction::Payload { base, offset, length, register } => {
            statement(list)
                .nested_data_payload()
                .push_dreg(*register)
                .push_base(*base)
                .push_offset(*offset)
                .push_len(*length);
        }
        Instruction::Bitwise { register, mask, xor } => {
            statement(list)
                .nested_data_bitwise()
                .push_sreg(*register)
                .push_dreg(*register)
                .push_len(u32::try_from(mask.len()).unwrap_or(u32::MAX))
                .nested_mask()
                .push_value(mask)
                .end_nested()
                .nested_xor()
                .push_value(xor);
        }
        Instruction::Compare { register, op, data } => {
            statement(list)
                .nested_data_cmp()
                .push_sreg(*register)
                .push_op(op.0)
                .nested_data()
                .push_value(data);
        }
        Instruction::Immediate { register, data } => {
            statement(list).nested_data_immediate().push_dreg(*register).nested_data().push_value(data);
        }
        Instruction::Verdict { code, chain } => verdict(list, *code, chain.as_deref()),
        Instruction::Fib { flags, result, register } => {
            statement(list).nested_data_fib().push_dreg(*register).push_result(*result).push_flags(*flags);
        }
        Instruction::Conntrack { key, register } => {
            statement(list).nested_data_ct().push_dreg(*register).push_key(*key);
        }
        Instruction::Dnat { family, address, port } => {
            const NFT_NAT_DNAT: u32 = 1;
            statement(list)
                .nested_data_nat()
                .push_type(NFT_NAT_DNAT)
                .push_family(*family)
                .push_reg_addr_min(*address)
                .push_reg_proto_min(*port);
        }
        Instruction::Counter => {
            statement(list).nested_data_counter().push_bytes(0).push_packets(0);
        }
        Instruction::XtMatch { name, revision, info } => {
            statement(list)
                .nested_data_match()
                .push_name_bytes(name.as_bytes())
                .push_rev(*revision)
                .push_info(info);
        }
        Instruction::Lookup { set, register, result, inverted } => {
            lookup(list, set, *register, *result, *inverted);
        }
        Instruction::Masquerade
        | Instruction::RouteMss { .. }
        | Instruction::ToNetworkOrder { .. }
        | Instruction::WriteMss { .. } => untyped(list, instruction),
        // Never ours, so never written.
        Instruction::Other { .. } => {}
    }
}

fn verdict(list: &mut Vec<u8>, code: u32, chain: Option<&str>) {
    const NFT_REG_VERDICT: u32 = 0;
    let verdict = statement(list)
        .nested_data_immediate()
        .push_dreg(NFT_REG_VERDICT)
        .nested_data()
        .nested_verdict()
        .push_code(code);
    if let Some(chain) = chain {
        drop(verdict.push_chain_bytes(chain.as_bytes()));
    }
}

const NFTA_EXPR_DATA: u16 = 2;

/// `enum nft_lookup_attributes` of linux/netfilter/nf_tables.h. The generated encoder numbers them in another order
/// (its register is the kernel's destination).
fn lookup(list: &mut Vec<u8>, set: &str, register: u32, result: Option<u32>, inverted: bool) {
    const NFTA_LOOKUP_SET: u16 = 1;
    const NFTA_LOOKUP_SREG: u16 = 2;
    const NFTA_LOOKUP_DREG: u16 = 3;
    const NFTA_LOOKUP_FLAGS: u16 = 5;
    const NFT_LOOKUP_F_INV: u32 = 1;
    let mut statement = statement(list).push_name(c"lookup");
    let buffer = statement.as_vec_mut();
    let data = push_nested_header(buffer, NFTA_EXPR_DATA);
    let name = [set.as_bytes(), &[0]].concat();
    push_header(buffer, NFTA_LOOKUP_SET, u16::try_from(name.len()).unwrap_or(u16::MAX));
    buffer.extend(name);
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
fn untyped(list: &mut Vec<u8>, instruction: &Instruction) {
    let (name, attributes): (&std::ffi::CStr, &[(u16, u32)]) = match instruction {
        Instruction::Masquerade => (c"masq", &[]),
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
    let mut statement = statement(list).push_name(name);
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
