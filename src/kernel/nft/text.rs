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
            Self::Arp => "arp",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
            Self::Netdev => "netdev",
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
            Kind::Route => "route",
        };
        let point = match self.point {
            HookPoint::Ingress => "ingress",
            HookPoint::Prerouting => "prerouting",
            HookPoint::Input => "input",
            HookPoint::Forward => "forward",
            HookPoint::Output => "output",
            HookPoint::Postrouting => "postrouting",
            HookPoint::Egress => "egress",
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

#[cfg(test)]
mod tests {
    use super::super::{DataType, Expr, Field, Op, Side, Way};
    use super::*;

    fn assert_script(commands: Vec<Command>, script: &str) {
        assert_eq!(Transaction { commands }.to_string(), script.trim_start());
    }

    #[test]
    fn the_masquerade_table() {
        let table = Table::new(TableFamily::Ip, "smarter-cni");
        let subnet = "172.38.0.0/16".parse().unwrap();
        let rule = Rule::new([
            Expr::from(subnet),
            Expr::not_to(subnet),
            Expr::not_to("224.0.0.0/4".parse().unwrap()),
            Expr::Masquerade,
        ]);
        let postrouting = Chain::base("postrouting", Kind::Nat, HookPoint::Postrouting, 100);
        let chain = || "postrouting".to_owned();
        assert_script(
            vec![
                Command::CreateTable { table: table.clone(), comment: Some("schema 1".into()) },
                Command::AddChain { table: table.clone(), chain: postrouting },
                Command::AddRule { table: table.clone(), chain: chain(), rule: rule.comment("smartnet") },
                Command::DeleteRule { table: table.clone(), chain: chain(), handle: 7 },
                Command::FlushChain { table: table.clone(), chain: chain() },
                Command::DeleteChain { table: table.clone(), chain: chain() },
                Command::DeleteTable { table },
            ],
            "
create table ip smarter-cni { comment \"schema 1\"; }
add chain ip smarter-cni postrouting { type nat hook postrouting priority 100; policy accept; }
add rule ip smarter-cni postrouting ip saddr 172.38.0.0/16 ip daddr != 172.38.0.0/16 ip daddr != 224.0.0.0/4 masquerade comment \"smartnet\"
delete rule ip smarter-cni postrouting handle 7
flush chain ip smarter-cni postrouting
delete chain ip smarter-cni postrouting
delete table ip smarter-cni
",
        );
    }

    #[test]
    fn the_spoof_check() {
        let table = Table::new(TableFamily::Bridge, "smarter-cni");
        let allowed = Set::new("spoof_allowed", &[DataType::IfName, DataType::EtherAddr]);
        let element = Element::of([
            Datum::IfName("veth0a1b2c3d".parse().unwrap()),
            Datum::Ether("02:42:ac:26:00:05".parse().unwrap()),
        ]);
        let fields = vec![Field::Interface(Way::In), Field::Ether(Side::Source)];
        let rule =
            Rule::new([Expr::Lookup { fields, op: Op::Ne, set: "spoof_allowed".to_owned() }, Expr::Drop]);
        let position = Position::Before(4);
        assert_script(
            vec![
                Command::AddTable { table: table.clone(), comment: None },
                Command::AddSet { table: table.clone(), set: allowed.clone() },
                Command::AddElements {
                    table: table.clone(),
                    set: allowed.clone(),
                    elements: vec![element.clone()],
                },
                Command::InsertRule { table: table.clone(), chain: "prerouting".to_owned(), position, rule },
                Command::DeleteElements {
                    table: table.clone(),
                    set: allowed.clone(),
                    elements: vec![element],
                },
                Command::DeleteSet { table, set: allowed },
            ],
            "
add table bridge smarter-cni
add set bridge smarter-cni spoof_allowed { type ifname . ether_addr; }
add element bridge smarter-cni spoof_allowed { \"veth0a1b2c3d\" . 02:42:ac:26:00:05 }
insert rule bridge smarter-cni prerouting handle 4 iifname . ether saddr != @spoof_allowed drop
delete element bridge smarter-cni spoof_allowed { \"veth0a1b2c3d\" . 02:42:ac:26:00:05 }
delete set bridge smarter-cni spoof_allowed
",
        );
    }

    #[test]
    fn ranges_are_networks_where_they_can_be() {
        let of = |from: &str, to: &str| {
            let datum = |text: &str| vec![Datum::Address(text.parse().unwrap()), Datum::Port(80)];
            Element { key_end: Some(datum(to)), ..Element::of(datum(from)) }.to_string()
        };
        assert_eq!(of("10.0.0.0", "10.255.255.255"), "10.0.0.0/8 . 80");
        assert_eq!(of("10.0.0.0", "10.0.0.6"), "10.0.0.0-10.0.0.6 . 80");
        assert_eq!(of("10.0.0.1", "10.0.0.1"), "10.0.0.1 . 80");
        assert_eq!(of("fd00::", "fd00::ffff"), "fd00::/112 . 80");
        assert_eq!(of("0.0.0.0", "255.255.255.255"), "0.0.0.0/0 . 80");
    }
}
