//! Tables, sets and rules as the kernel and `nft` see them.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fmt::Write;

use smarter_cni::kernel::Socket;
use smarter_cni::kernel::nft::{
    self, Chain, Command, DataType, Datum, Element, Expr, Field, HookPoint, Kind, Op, Rule, Set, Side, Table,
    TableFamily, Transaction, Way,
};

use crate::sandbox::{run, sandboxed};

fn ours(family: TableFamily) -> Table {
    Table::new(family, "smarter-cni")
}

fn commit(commands: impl IntoIterator<Item = Command>) {
    let transaction: Transaction = commands.into_iter().collect();
    nft::commit(&mut Socket::netfilter().unwrap(), &transaction).unwrap();
}

/// What `nft` lists, without the indentation.
fn listed(table: &Table) -> String {
    let text = run("nft", &["list", "table", &table.family.to_string(), &table.name]);
    text.lines().map(str::trim).filter(|line| !line.is_empty()).fold(String::new(), |mut all, line| {
        writeln!(all, "{line}").unwrap();
        all
    })
}

fn add_rule(table: &Table, chain: &str, rule: Rule) -> Command {
    Command::AddRule { table: table.clone(), chain: chain.to_owned(), rule }
}

fn masquerade(subnet: &str, network: &str) -> Rule {
    let subnet = subnet.parse().unwrap();
    Rule::new([
        Expr::from(subnet),
        Expr::not_to(subnet),
        Expr::not_to("224.0.0.0/4".parse().unwrap()),
        Expr::Masquerade,
    ])
    .comment(network)
}

fn nat_table() -> Vec<Command> {
    let table = ours(TableFamily::Ip);
    vec![
        Command::CreateTable { table: table.clone(), comment: Some("schema 1".into()) },
        Command::AddChain {
            table: table.clone(),
            chain: Chain::base("postrouting", Kind::Nat, HookPoint::Postrouting, 100),
        },
        add_rule(&table, "postrouting", masquerade("172.38.0.0/16", "smartnet")),
    ]
}

#[test]
fn masquerading_is_listed_as_it_was_meant() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip);
        commit(nat_table());
        assert_eq!(
            listed(&table),
            "table ip smarter-cni {
comment \"schema 1\"
chain postrouting {
type nat hook postrouting priority srcnat; policy accept;
ip saddr 172.38.0.0/16 ip daddr != 172.38.0.0/16 ip daddr != 224.0.0.0/4 masquerade comment \"smartnet\"
}
}
"
        );

        let mut socket = Socket::netfilter().unwrap();
        assert_eq!(nft::table(&mut socket, &table).unwrap().unwrap().comment.unwrap().as_str(), "schema 1");
        assert_eq!(nft::table(&mut socket, &ours(TableFamily::Ip6)).unwrap(), None);
        let rules = nft::rules(&mut socket, &table, "postrouting").unwrap();
        assert_eq!(rules.len(), 1);
        assert!(rules[0].is(TableFamily::Ip, &masquerade("172.38.0.0/16", "smartnet")));
        assert!(!rules[0].is(TableFamily::Ip, &masquerade("172.38.0.0/16", "other")));
        assert!(!rules[0].is(TableFamily::Ip, &masquerade("172.38.0.0/15", "smartnet")));
        assert_eq!(nft::rules(&mut socket, &table, "missing").unwrap(), []);
    });
}

const ETHER: [DataType; 2] = [DataType::IfName, DataType::EtherAddr];

fn spoof_table() -> Vec<Command> {
    let table = ours(TableFamily::Bridge);
    let source = [Field::Interface(Way::In), Field::Ether(Side::Source)];
    vec![
        Command::CreateTable { table: table.clone(), comment: None },
        Command::AddSet { table: table.clone(), set: Set::new("spoof_ports", &[DataType::IfName]) },
        Command::AddSet { table: table.clone(), set: Set::new("spoof_allowed", &ETHER) },
        Command::AddChain {
            table: table.clone(),
            chain: Chain::base("prerouting", Kind::Filter, HookPoint::Prerouting, -300),
        },
        add_rule(
            &table,
            "prerouting",
            Rule::new([
                Expr::Lookup { fields: source[..1].to_vec(), op: Op::Eq, set: "spoof_ports".to_owned() },
                Expr::Lookup { fields: source.to_vec(), op: Op::Ne, set: "spoof_allowed".to_owned() },
                Expr::Drop,
            ]),
        ),
        Command::AddElements {
            table: table.clone(),
            set: Set::new("spoof_ports", &[DataType::IfName]),
            elements: vec![Element::of([Datum::IfName("veth0a1b2c3d".parse().unwrap())])],
        },
        Command::AddElements {
            table,
            set: Set::new("spoof_allowed", &ETHER),
            elements: vec![Element::of([
                Datum::IfName("veth0a1b2c3d".parse().unwrap()),
                Datum::Ether("02:42:ac:26:00:05".parse().unwrap()),
            ])],
        },
    ]
}

#[test]
fn the_spoof_check_is_listed_as_it_was_meant() {
    sandboxed(|| {
        commit(spoof_table());
        assert_eq!(
            listed(&ours(TableFamily::Bridge)),
            "table bridge smarter-cni {
set spoof_ports {
type ifname
elements = { \"veth0a1b2c3d\" }
}
set spoof_allowed {
type ifname . ether_addr
elements = { \"veth0a1b2c3d\" . 02:42:ac:26:00:05 }
}
chain prerouting {
type filter hook prerouting priority dstnat; policy accept;
iifname @spoof_ports iifname . ether saddr != @spoof_allowed drop
}
}
"
        );
    });
}
