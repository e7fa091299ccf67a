//! The batch that makes messages one transaction (net/netfilter/nfnetlink.c), and what its refusals mean.

use std::cell::Cell;

use rustix::io::Errno;

use super::expression::Expr;
use super::message::{SUBSYSTEM, encode_command, generic};
use super::{Chain, Command, Kind, TableFamily};
use crate::kernel::netlink::{NLM_F_ACK, NLM_F_REQUEST, push_header};
use crate::kernel::{Error, NetfilterSocket, Result};

const NFNL_MSG_BATCH_BEGIN: u16 = 16;
const NFNL_MSG_BATCH_END: u16 = 17;

struct Message {
    kind: u16,
    flags: u16,
    payload: Vec<u8>,
    /// Index of the command it belongs to.
    command: usize,
}

pub(super) fn send(socket: &mut NetfilterSocket, commands: &[Command]) -> Result<()> {
    let mut messages = Vec::with_capacity(commands.len());
    for (index, command) in commands.iter().enumerate() {
        encode_command(command, |kind, flags, payload| {
            messages.push(Message { kind, flags, payload, command: index });
        });
    }
    // One acknowledgement is enough: refusals are reported without being asked for. Adding no elements is no message.
    let Some(last) = messages.last_mut() else { return Ok(()) };
    last.flags |= NLM_F_ACK;

    let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
    let refused = Cell::new(None);
    socket
        .batch(
            |begin| (batch(begin, &messages), begin..=begin + count),
            |position| {
                // Position 0 is the beginning of the batch: the kernel refuses the whole.
                let command = position.checked_sub(1).and_then(|at| messages.get(at)).map(|m| m.command);
                refused.set(command);
                operation(&commands[command.unwrap_or(0)])
            },
        )
        .map_err(|error| explain(error, refused.get().map(|index| &commands[index])))
}

/// What a person would type, short enough for one line of a log.
fn operation(command: &Command) -> String {
    const ENOUGH: usize = 300;
    let mut text = format!("nft {command}");
    if let Some((end, _)) = text.char_indices().nth(ENOUGH) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The kernel has one number for several reasons; says which are possible and where to look.
fn explain(error: Error, refused: Option<&Command>) -> Error {
    match (error.errno(), refused) {
        (Some(Errno::PERM), _) => {
            error.with_hint("this needs CAP_NET_ADMIN in the user namespace that owns the network")
        }
        (_, None) => super::without_nf_tables(error),
        (
            Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT),
            Some(Command::AddTable { table, .. } | Command::CreateTable { table, .. }),
        ) => error.with_hint(without_family(table.family)),
        (Some(Errno::NOENT), Some(Command::AddRule { rule, .. } | Command::InsertRule { rule, .. })) => {
            let modules = modules(&rule.expressions);
            let or = if modules.is_empty() { "" } else { ", or the kernel lacks one of the modules " };
            error.with_hint(format!("the table, the chain or a set is missing{or}{}", modules.join(", ")))
        }
        (Some(Errno::NOENT), Some(Command::AddChain { chain: Chain { hook: Some(hook), .. }, .. }))
            if hook.kind == Kind::Nat =>
        {
            error.with_hint(
                "the table is missing, or the kernel lacks NAT: module nft_chain_nat, CONFIG_NFT_NAT",
            )
        }
        _ => error,
    }
}

/// What a person can do about a kernel whose nf_tables does not know a family (nft_supported_family, net/netfilter/nf_tables_api.c).
fn without_family(family: TableFamily) -> &'static str {
    match family {
        TableFamily::Bridge => {
            "this kernel lacks CONFIG_NF_TABLES_BRIDGE: another kernel, or a network without macspoofchk"
        }
        TableFamily::Arp => {
            "this kernel lacks CONFIG_NF_TABLES_ARP: another kernel, or a network without nodeDns"
        }
        TableFamily::Ip6 => {
            "this kernel lacks CONFIG_NF_TABLES_IPV6: another kernel, or a network without IPv6 addresses"
        }
        TableFamily::Ip | TableFamily::Inet | TableFamily::Netdev => {
            "this kernel lacks CONFIG_NF_TABLES_IPV4 or CONFIG_NF_TABLES_INET: another kernel"
        }
    }
}

/// Modules that a kernel configuration may lack; the others are part of nf_tables.
fn modules(expressions: &[Expr]) -> Vec<&'static str> {
    let mut modules: Vec<_> = expressions
        .iter()
        .filter_map(|expression| {
            Some(match expression {
                Expr::LocalDestination => "nft_fib_ipv4/nft_fib_ipv6",
                Expr::Dnatted | Expr::State(_) | Expr::NoTrack => "nft_ct",
                Expr::Dnat { .. } => "nft_nat",
                Expr::Masquerade => "nft_masq",
                Expr::XtComment(_) => "nft_compat, xt_comment",
                Expr::XtState(_) | Expr::XtDnatted => "nft_compat, xt_conntrack",
                _ => return None,
            })
        })
        .collect();
    modules.dedup();
    modules
}

fn batch(begin: u32, messages: &[Message]) -> Vec<u8> {
    // The subsystem of the whole batch stands where other messages have zero.
    let frame = generic(0, SUBSYSTEM);
    let mut bytes = Vec::with_capacity(messages.iter().map(|m| m.payload.len() + 16).sum::<usize>() + 40);
    let mut sequence = begin;
    let mut push = |kind, flags, payload: &[u8]| {
        push_header(&mut bytes, kind, flags | NLM_F_REQUEST, sequence, payload.len());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        sequence += 1;
    };
    push(NFNL_MSG_BATCH_BEGIN, 0, &frame);
    for message in messages {
        push(message.kind, message.flags, &message.payload);
    }
    push(NFNL_MSG_BATCH_END, 0, &frame);
    bytes
}

#[cfg(test)]
mod tests {
    use super::super::{Rule, Table};
    use super::*;

    fn refusal(errno: Errno, command: Option<&Command>) -> String {
        let cause = std::io::Error::from_raw_os_error(errno.raw_os_error());
        explain(Error::new("nft …", cause), command).to_string()
    }

    #[test]
    fn a_refusal_says_what_the_kernel_may_lack() {
        // The words for EOPNOTSUPP are the C library's.
        let words = if cfg!(target_env = "musl") { "not supported" } else { "operation not supported" };
        assert_eq!(
            refusal(Errno::OPNOTSUPP, None),
            format!("nft …: {words}; does this kernel have nf_tables? module nf_tables, CONFIG_NF_TABLES")
        );
        assert_eq!(
            refusal(Errno::PERM, None),
            "nft …: operation not permitted; this needs CAP_NET_ADMIN in the user namespace that owns the network"
        );
        let table = Table::new(TableFamily::Ip, "t");
        let rule = Rule::new([Expr::LocalDestination, Expr::Dnatted, Expr::State(vec![]), Expr::Masquerade]);
        let add = Command::AddRule { table: table.clone(), chain: "c".to_owned(), rule };
        assert!(
            refusal(Errno::NOENT, Some(&add))
                .ends_with("modules nft_fib_ipv4/nft_fib_ipv6, nft_ct, nft_masq")
        );
        assert_eq!(refusal(Errno::EXIST, Some(&add)), "nft …: file exists");
        let table = Table::new(TableFamily::Bridge, "t");
        let refused = refusal(Errno::OPNOTSUPP, Some(&Command::AddTable { table, comment: None }));
        assert!(refused.ends_with("another kernel, or a network without macspoofchk"), "{refused}");
    }

    #[test]
    fn operations_fit_into_a_line() {
        let rule = Rule::new(vec![Expr::Counter; 100]);
        let table = Table::new(TableFamily::Ip, "t");
        let text = operation(&Command::AddRule { table, chain: "c".to_owned(), rule });
        assert_eq!(text.chars().count(), 301);
        assert!(text.ends_with('…'));
    }
}
