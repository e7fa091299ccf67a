//! Instructions as attributes (`struct nft_expr`, linux/netfilter/nf_tables.h).
//!
//! The generated encoder has most instructions; `raw` has the others.

use netlink_bindings::nftables::{PushExprAttrs, PushExprListAttrs};

use super::bytecode::Instruction;
use super::number::VERDICT_REGISTER;
use super::raw;

pub(super) type Statement<'a> = PushExprAttrs<PushExprListAttrs<&'a mut Vec<u8>>>;

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
        Instruction::Lookup { set, register, result, inverted, among: _ } => {
            raw::lookup(statement(list), set, *register, *result, *inverted);
        }
        Instruction::Masquerade
        | Instruction::NoTrack
        | Instruction::RouteMss { .. }
        | Instruction::ToNetworkOrder { .. }
        | Instruction::WriteMss { .. } => raw::instruction(statement(list), instruction),
        // Never ours, so never written.
        Instruction::Other { .. } => {}
    }
}

fn verdict(list: &mut Vec<u8>, code: u32, chain: Option<&str>) {
    let verdict = statement(list)
        .nested_data_immediate()
        .push_dreg(VERDICT_REGISTER)
        .nested_data()
        .nested_verdict()
        .push_code(code);
    if let Some(chain) = chain {
        drop(verdict.push_chain_bytes(chain.as_bytes()));
    }
}
