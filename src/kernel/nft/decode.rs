//! Instructions from the kernel's attributes, the reverse of `encode`.
//!
//! What this program never writes comes out as `Instruction::Other`; nothing is an error.

use netlink_bindings::nftables::{
    ExprAttrs, ExprOps, IterableDataAttrs, IterableExprAttrs, IterableExprListAttrs,
};
use netlink_bindings::utils::find_attr;

use super::bytecode::{Comparison, Instruction};
use super::raw;

pub(super) fn instructions(list: IterableExprListAttrs<'_>) -> Vec<Instruction> {
    let mut found = Vec::new();
    for element in list.flatten() {
        let netlink_bindings::nftables::ExprListAttrs::Elem(expression) = element;
        found.extend(instruction(expression));
    }
    found
}

fn instruction(expression: IterableExprAttrs<'_>) -> Option<Instruction> {
    let name = expression.get_name().ok()?.to_string_lossy().into_owned();
    let data = find_attr(expression.get_buf(), raw::NFTA_EXPR_DATA).unwrap_or_default();
    let typed = expression.flatten().find_map(|attribute| match attribute {
        ExprAttrs::Data(operation) => Some(operation),
        ExprAttrs::Name(_) => None,
    });
    typed
        .and_then(|operation| typed_instruction(&operation))
        .or_else(|| raw::parse(&name, data))
        .or_else(|| Some(Instruction::Other { name, data: data.to_vec() }))
}

fn typed_instruction(operation: &ExprOps<'_>) -> Option<Instruction> {
    Some(match operation {
        ExprOps::Meta(meta) => {
            let key = meta.get_key().ok()?;
            match (meta.get_dreg(), meta.get_sreg()) {
                (Ok(register), _) => Instruction::Meta { key, register },
                (_, Ok(register)) => Instruction::SetMeta { key, register },
                _ => return None,
            }
        }
        ExprOps::Payload(payload) => Instruction::Payload {
            base: payload.get_base().ok()?,
            offset: payload.get_offset().ok()?,
            length: payload.get_len().ok()?,
            register: payload.get_dreg().ok()?,
        },
        ExprOps::Bitwise(bitwise) => Instruction::Bitwise {
            register: bitwise.get_dreg().ok().filter(|to| bitwise.get_sreg().ok() == Some(*to))?,
            mask: value(&bitwise.get_mask().ok()?)?,
            xor: value(&bitwise.get_xor().ok()?)?,
        },
        ExprOps::Cmp(compare) => Instruction::Compare {
            register: compare.get_sreg().ok()?,
            op: Comparison(compare.get_op().ok()?),
            data: value(&compare.get_data().ok()?)?,
        },
        ExprOps::Immediate(immediate) => {
            let data = immediate.get_data().ok()?;
            match data.get_verdict() {
                Ok(verdict) => Instruction::Verdict {
                    code: verdict.get_code().ok()?,
                    chain: verdict.get_chain().ok().map(|name| name.to_string_lossy().into_owned()),
                },
                Err(_) => {
                    Instruction::Immediate { register: immediate.get_dreg().ok()?, data: value(&data)? }
                }
            }
        }
        ExprOps::Fib(fib) => Instruction::Fib {
            flags: fib.get_flags().ok()?,
            result: fib.get_result().ok()?,
            register: fib.get_dreg().ok()?,
        },
        // A key of one direction, or a change, is not ours.
        ExprOps::Ct(ct) if ct.get_direction().is_err() => {
            Instruction::Conntrack { key: ct.get_key().ok()?, register: ct.get_dreg().ok()? }
        }
        ExprOps::Nat(nat) => {
            // NFT_NAT_DNAT. The kernel adds NF_NAT_RANGE_MAP_IPS and _PROTO_SPECIFIED by itself; other flags, and
            // ranges of addresses or ports, are not ours.
            let plain = nat.get_type().ok() == Some(1) && matches!(nat.get_flags(), Err(_) | Ok(3));
            let (address, port) = (nat.get_reg_addr_min().ok()?, nat.get_reg_proto_min().ok()?);
            let single = nat.get_reg_addr_max().is_ok_and(|max| max == address)
                && nat.get_reg_proto_max().is_ok_and(|max| max == port);
            Instruction::Dnat { family: nat.get_family().ok().filter(|_| plain && single)?, address, port }
        }
        ExprOps::Counter(_) => Instruction::Counter,
        ExprOps::Match(xt) => Instruction::XtMatch {
            name: xt.get_name().ok()?.to_string_lossy().into_owned(),
            revision: xt.get_rev().ok()?,
            info: xt.get_info().ok()?.to_vec(),
        },
        _ => return None,
    })
}

fn value(data: &IterableDataAttrs<'_>) -> Option<Vec<u8>> {
    data.get_value().ok().map(<[u8]>::to_vec)
}
