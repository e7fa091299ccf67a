//! Transactions as a script that `nft -f` accepts, a line per command.

use std::fmt;

use ipnetwork::IpNetwork;

use super::data::Datum;
use super::{
    Chain, Command, Element, Hook, HookPoint, Kind, Policy, Position, Rule, Set, Table, TableFamily,
    Transaction,
};

/// `a . b . c`
pub(super) fn dotted<T: fmt::Display>(fields: &[T]) -> String {
    fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" . ")
}

/// A network as `nft` prints it: without length when it is one address, without host bits.
pub(super) fn network(network: IpNetwork) -> String {
    let full = if network.is_ipv4() { 32 } else { 128 };
    if network.prefix() == full {
        network.ip().to_string()
    } else {
        format!("{}/{}", network.network(), network.prefix())
    }
}

/// One field of an interval: a plain value, a network, or `from-to`.
fn interval(start: &Datum, end: &Datum) -> String {
    if start == end {
        return start.to_string();
    }
    if let (Datum::Address(first), Datum::Address(last)) = (start, end) {
        let full = if first.is_ipv4() { 32 } else { 128 };
        let whole = (0..full)
            .filter_map(|prefix| IpNetwork::new(*first, prefix).ok())
            .find(|candidate| candidate.network() == *first && candidate.broadcast() == *last);
        if let Some(whole) = whole {
            return network(whole);
        }
    }
    format!("{start}-{end}")
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::Filter => "filter",
            Kind::Nat => "nat",
        };
        let point = match self.point {
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
        };
        let policy = match self.policy {
            Policy::Accept => "accept",
            Policy::Drop => "drop",
        };
        write!(f, "type {kind} hook {point} priority {}; policy {policy};", self.priority)
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        match (&self.hook, &self.comment) {
            (None, None) => Ok(()),
            (Some(hook), None) => write!(f, " {{ {hook} }}"),
            (None, Some(comment)) => write!(f, " {{ {comment}; }}"),
            (Some(hook), Some(comment)) => write!(f, " {{ {hook} {comment}; }}"),
        }
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |types: &[super::DataType]| dotted(&types.iter().map(|t| t.name()).collect::<Vec<_>>());
        write!(f, "{} {{ type {}", self.name, names(&self.key))?;
        if let Some(value) = &self.value {
            write!(f, " : {}", names(value))?;
        }
        f.write_str(";")?;
        if self.interval {
            f.write_str(" flags interval;")?;
        }
        if let Some(comment) = &self.comment {
            write!(f, " {comment};")?;
        }
        f.write_str(" }")
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match &self.key_end {
            Some(end) => {
                dotted(&self.key.iter().zip(end).map(|(from, to)| interval(from, to)).collect::<Vec<_>>())
            }
            None => dotted(&self.key),
        };
        f.write_str(&key)?;
        if let Some(comment) = &self.comment {
            write!(f, " {comment}")?;
        }
        if let Some(value) = &self.value {
            write!(f, " : {}", dotted(value))?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.expressions.iter().map(ToString::to_string).collect();
        f.write_str(&words.join(" "))?;
        match &self.comment {
            Some(comment) => write!(f, " {comment}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let elements = |list: &[Element]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Self::CreateTable { table, comment: None } => write!(f, "create table {table}"),
            Self::CreateTable { table, comment: Some(comment) } => {
                write!(f, "create table {table} {{ {comment}; }}")
            }
            Self::AddTable { table, comment: None } => write!(f, "add table {table}"),
            Self::AddTable { table, comment: Some(comment) } => {
                write!(f, "add table {table} {{ {comment}; }}")
            }
            Self::DeleteTable { table } => write!(f, "delete table {table}"),
            Self::AddChain { table, chain } => write!(f, "add chain {table} {chain}"),
            Self::FlushChain { table, chain } => write!(f, "flush chain {table} {chain}"),
            Self::DeleteChain { table, chain } => write!(f, "delete chain {table} {chain}"),
            Self::AddSet { table, set } if set.value.is_some() => write!(f, "add map {table} {set}"),
            Self::AddSet { table, set } => write!(f, "add set {table} {set}"),
            Self::DeleteSet { table, set } if set.value.is_some() => {
                write!(f, "delete map {table} {}", set.name)
            }
            Self::DeleteSet { table, set } => write!(f, "delete set {table} {}", set.name),
            Self::AddElements { table, set, elements: list } => {
                write!(f, "add element {table} {} {{ {} }}", set.name, elements(list))
            }
            Self::DeleteElements { table, set, elements: list } => {
                write!(f, "delete element {table} {} {{ {} }}", set.name, elements(list))
            }
            Self::AddRule { table, chain, rule } => write!(f, "add rule {table} {chain} {rule}"),
            Self::InsertRule { table, chain, position: Position::First, rule } => {
                write!(f, "insert rule {table} {chain} {rule}")
            }
            Self::InsertRule { table, chain, position: Position::Before(handle), rule } => {
                write!(f, "insert rule {table} {chain} handle {handle} {rule}")
            }
            Self::DeleteRule { table, chain, handle } => {
                write!(f, "delete rule {table} {chain} handle {handle}")
            }
        }
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.commands.iter().try_for_each(|command| writeln!(f, "{command}"))
    }
}
