//! nf_tables: tables, chains, sets and rules as values, shown as `nft` text, committed at once.
//!
//! Owns the values and the transaction. `expression` has the words of a rule, `data` what they compare with, `text` the
//! script; `bytecode` the kernel's instructions, `anonymous` what stands between their braces, `lift` the way back to words; `encode`, `decode` and `raw` their bytes;
//! `message`, `batch` `dump` and `listing` the messages, `loss` those that the kernel sends by itself. Refuses to know what the rules are for.

mod anonymous;
mod batch;
mod bytecode;
mod data;
mod decode;
mod dump;
mod encode;
mod expression;
mod lift;
mod listing;
mod loss;
mod message;
pub(crate) mod number;
mod raw;
mod text;
mod xt;

use super::{Error, NetfilterSocket, Result};

pub use anonymous::fill_braces;
#[cfg(test)]
pub(crate) use bytecode::compile as compiled;
pub use bytecode::{Comparison, Instruction, Listed};
pub use data::{Comment, DataType, Datum};
pub use dump::{
    ChainInfo, PlacedRule, RuleInfo, TableInfo, all_rules, base_chains, chains, element, elements, rule,
    rules, rules_as, rules_that, table, tables, tables_with_info,
};
pub use expression::{CtState, Expr, Field, NamePattern, Op, Side, Way};
pub use listing::Listing;
pub(super) use loss::{GENERIC_HEADER, NEWGEN, loss};

/// Which packets a table sees. NAT chains stand in `ip` and `ip6` (in `inet` only since Linux 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TableFamily {
    Inet,
    Ip,
    Arp,
    Bridge,
    Ip6,
    /// Chains of single devices. Only read.
    Netdev,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    pub family: TableFamily,
    pub name: String,
}

impl Table {
    pub fn new(family: TableFamily, name: &str) -> Self {
        Self { family, name: name.to_owned() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Filter,
    Nat,
    /// Of `output`: the route is looked up again behind it. Only read.
    Route,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookPoint {
    /// Of single devices, as is `Egress`. Only read.
    Ingress,
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
    Egress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Accept,
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    pub kind: Kind,
    pub point: HookPoint,
    pub priority: i32,
    pub policy: Policy,
}

/// A base chain when it has a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    pub name: String,
    pub hook: Option<Hook>,
    pub comment: Option<Comment>,
}

impl Chain {
    /// A chain that others jump to.
    pub fn regular(name: &str) -> Self {
        Self { name: name.to_owned(), hook: None, comment: None }
    }

    /// A base chain whose policy is to accept.
    pub fn base(name: &str, kind: Kind, point: HookPoint, priority: i32) -> Self {
        let hook = Hook { kind, point, priority, policy: Policy::Accept };
        Self { name: name.to_owned(), hook: Some(hook), comment: None }
    }
}

/// A set, or a map when it has values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub name: String,
    /// The fields of the key.
    pub key: Vec<DataType>,
    /// The fields of the value.
    pub value: Option<Vec<DataType>>,
    /// Keys are ranges. Several fields need Linux 5.6.
    pub interval: bool,
    pub comment: Option<Comment>,
}

impl Set {
    pub fn new(name: &str, key: &[DataType]) -> Self {
        Self { name: name.to_owned(), key: key.to_vec(), value: None, interval: false, comment: None }
    }

    pub fn map(name: &str, key: &[DataType], value: &[DataType]) -> Self {
        Self { value: Some(value.to_vec()), ..Self::new(name, key) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    pub key: Vec<Datum>,
    /// The last value that belongs to it, field by field; for sets of intervals.
    pub key_end: Option<Vec<Datum>>,
    pub value: Option<Vec<Datum>>,
    pub comment: Option<Comment>,
}

impl Element {
    pub fn of(key: impl Into<Vec<Datum>>) -> Self {
        Self { key: key.into(), key_end: None, value: None, comment: None }
    }

    pub fn mapping(key: impl Into<Vec<Datum>>, value: impl Into<Vec<Datum>>) -> Self {
        Self { value: Some(value.into()), ..Self::of(key) }
    }

    /// All addresses of the network, for a set of intervals.
    pub fn network(network: ipnetwork::IpNetwork) -> Self {
        let end = vec![Datum::Address(network.broadcast())];
        Self { key_end: Some(end), ..Self::of([Datum::Address(network.network())]) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub expressions: Vec<Expr>,
    pub comment: Option<Comment>,
}

impl Rule {
    pub fn new(expressions: impl Into<Vec<Expr>>) -> Self {
        Self { expressions: expressions.into(), comment: None }
    }

    #[must_use]
    pub fn comment(self, text: &str) -> Self {
        Self { comment: Some(Comment::new(text)), ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    First,
    /// The handle of a rule in the same chain.
    Before(u64),
}

/// One line of an `nft` script. `Add…` of a table, chain, set or element that is already there succeeds; of a rule it
/// makes a second one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Refused with EEXIST when the table is there: of two racing creators one wins.
    CreateTable {
        table: Table,
        comment: Option<Comment>,
    },
    AddTable {
        table: Table,
        comment: Option<Comment>,
    },
    /// With everything in it.
    DeleteTable {
        table: Table,
    },
    AddChain {
        table: Table,
        chain: Chain,
    },
    /// Deletes the rules of a chain.
    FlushChain {
        table: Table,
        chain: String,
    },
    /// Refused with EBUSY while something jumps to it, and while it has rules.
    DeleteChain {
        table: Table,
        chain: String,
    },
    AddSet {
        table: Table,
        set: Set,
    },
    DeleteSet {
        table: Table,
        set: Set,
    },
    AddElements {
        table: Table,
        set: Set,
        elements: Vec<Element>,
    },
    /// Refused with ENOENT when one of them is missing.
    DeleteElements {
        table: Table,
        set: Set,
        elements: Vec<Element>,
    },
    /// Behind the last rule of the chain.
    AddRule {
        table: Table,
        chain: String,
        rule: Rule,
    },
    InsertRule {
        table: Table,
        chain: String,
        position: Position,
        rule: Rule,
    },
    DeleteRule {
        table: Table,
        chain: String,
        handle: u64,
    },
}

/// All of it happens or nothing. Displays as a script for `nft -f`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transaction {
    pub commands: Vec<Command>,
}

impl FromIterator<Command> for Transaction {
    fn from_iter<T: IntoIterator<Item = Command>>(commands: T) -> Self {
        Self { commands: commands.into_iter().collect() }
    }
}

/// Asks the kernel to make the changes; the socket is a `NetfilterSocket` of the namespace meant.
///
/// The error names the first refused command as an `nft` line. `Error::is_exists` after a `CreateTable` means that
/// somebody else has created it meanwhile.
pub fn commit(socket: &mut NetfilterSocket, transaction: &Transaction) -> Result<()> {
    if transaction.commands.is_empty() {
        return Ok(());
    }
    batch::send(socket, &transaction.commands)
}

/// The kernel answers EOPNOTSUPP to a batch and EINVAL to a question of a subsystem that it does not have
/// (net/netfilter/nfnetlink.c).
fn without_nf_tables(error: Error) -> Error {
    use rustix::io::Errno;
    if matches!(error.errno(), Some(Errno::OPNOTSUPP | Errno::INVAL | Errno::PROTONOSUPPORT)) {
        return error.with_hint("does this kernel have nf_tables? module nf_tables, CONFIG_NF_TABLES");
    }
    error
}
