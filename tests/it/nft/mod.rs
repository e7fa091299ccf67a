//! Tables, sets and rules as the kernel and `nft` see them.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

mod elements;
mod iptables;
mod whole_table;

use std::fmt::Write;

use smarter_cni::kernel::NetfilterSocket;
use smarter_cni::kernel::nft::{
    self, Chain, Command, DataType, Datum, Element, Expr, Field, HookPoint, Kind, Op, Position, Rule, Set,
    Side, Table, TableFamily, Transaction, Way,
};

use smarter_cni::net::Family;

use crate::sandbox::{run, sandboxed};

fn ours(family: TableFamily) -> Table {
    Table::new(family, "smarter-cni")
}

fn commit(commands: impl IntoIterator<Item = Command>) {
    let transaction: Transaction = commands.into_iter().collect();
    nft::commit(&mut NetfilterSocket::open().unwrap(), &transaction).unwrap();
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

        let mut socket = NetfilterSocket::open().unwrap();
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

const PORTS: [DataType; 2] = [DataType::InetProto, DataType::InetService];

const TARGET: [DataType; 2] = [DataType::Ipv4Addr, DataType::InetService];

fn hostports() -> Set {
    Set::map("hostports", &PORTS, &TARGET)
}

fn hostports_at() -> Set {
    Set::map("hostports_at", &[DataType::Ipv4Addr, DataType::InetProto, DataType::InetService], &TARGET)
}

fn masq() -> Set {
    Set { interval: true, comment: Some("pod networks".into()), ..Set::new("masq", &[DataType::Ipv4Addr]) }
}

fn address(text: &str) -> Datum {
    Datum::Address(text.parse().unwrap())
}

fn hostport(protocol: u8, port: u16, to: &str, to_port: u16) -> Element {
    Element::mapping([Datum::Protocol(protocol), Datum::Port(port)], [address(to), Datum::Port(to_port)])
}

fn lookup(field: Field, op: Op, set: &str) -> Expr {
    Expr::Lookup { fields: vec![field], op, set: set.to_owned() }
}

#[test]
fn ipv6_is_the_same_with_longer_addresses() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip6);
        let subnet = "fd00:10::/64".parse().unwrap();
        let map = Set::map("hostports", &PORTS, &[DataType::Ipv6Addr, DataType::InetService]);
        commit([
            Command::CreateTable { table: table.clone(), comment: None },
            Command::AddSet { table: table.clone(), set: map.clone() },
            Command::AddChain {
                table: table.clone(),
                chain: Chain::base("prerouting", Kind::Nat, HookPoint::Prerouting, -100),
            },
            Command::AddChain {
                table: table.clone(),
                chain: Chain::base("postrouting", Kind::Nat, HookPoint::Postrouting, 100),
            },
            Command::AddElements {
                table: table.clone(),
                set: map,
                elements: vec![hostport(6, 80, "fd00:10::5", 8080)],
            },
            add_rule(
                &table,
                "prerouting",
                Rule::new([Expr::Dnat {
                    family: Family::V6,
                    fields: vec![Field::Protocol, Field::Port(Side::Destination)],
                    map: "hostports".to_owned(),
                }]),
            ),
            add_rule(
                &table,
                "postrouting",
                Rule::new([
                    Expr::from(subnet),
                    Expr::not_to(subnet),
                    Expr::not_to("ff00::/8".parse().unwrap()),
                    Expr::not_to("fd00:20::/60".parse().unwrap()),
                    Expr::not_to("fd00:20::1/128".parse().unwrap()),
                    Expr::Masquerade,
                ]),
            ),
        ]);
        assert_eq!(
            listed(&table),
            "table ip6 smarter-cni {
map hostports {
type inet_proto . inet_service : ipv6_addr . inet_service
elements = { tcp . 80 : fd00:10::5 . 8080 }
}
chain prerouting {
type nat hook prerouting priority dstnat; policy accept;
dnat ip6 to meta l4proto . th dport map @hostports
}
chain postrouting {
type nat hook postrouting priority srcnat; policy accept;
ip6 saddr fd00:10::/64 ip6 daddr != fd00:10::/64 ip6 daddr != ff00::/8 ip6 daddr != fd00:20::/60 ip6 daddr != fd00:20::1 masquerade
}
}
"
        );
    });
}

#[test]
fn tables_of_several_layers_ask_for_the_layer_first() {
    sandboxed(|| {
        for family in [TableFamily::Bridge, TableFamily::Inet] {
            let table = ours(family);
            commit([
                Command::CreateTable { table: table.clone(), comment: None },
                Command::AddChain {
                    table: table.clone(),
                    chain: Chain::base("forward", Kind::Filter, HookPoint::Forward, 0),
                },
                add_rule(
                    &table,
                    "forward",
                    Rule::new([Expr::from("10.0.0.0/8".parse().unwrap()), Expr::Accept]),
                ),
                add_rule(
                    &table,
                    "forward",
                    Rule::new([Expr::from("fd00::1/128".parse().unwrap()), Expr::Drop]),
                ),
            ]);
            let listing = listed(&table);
            assert!(listing.contains("\nip saddr 10.0.0.0/8 accept\nip6 saddr fd00::1 drop\n"), "{listing}");
        }
    });
}

#[test]
fn of_two_creators_one_wins_and_the_other_sees_that_it_lost() {
    sandboxed(|| {
        // A test's thread and its children have the sandbox's network.
        let outcomes: Vec<bool> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        let transaction: Transaction = nat_table().into_iter().collect();
                        match nft::commit(&mut NetfilterSocket::open().unwrap(), &transaction) {
                            Ok(()) => true,
                            Err(error) => {
                                assert!(error.is_exists(), "{error}");
                                false
                            }
                        }
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert_eq!(outcomes.iter().filter(|won| **won).count(), 1);
        let mut socket = NetfilterSocket::open().unwrap();
        assert_eq!(nft::rules(&mut socket, &ours(TableFamily::Ip), "postrouting").unwrap().len(), 1);
    });
}

#[test]
fn rules_are_placed_and_taken_away_one_by_one() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip);
        let chain = || "postrouting".to_owned();
        let mut socket = NetfilterSocket::open().unwrap();
        let order = |socket: &mut NetfilterSocket| -> Vec<String> {
            nft::rules(socket, &ours(TableFamily::Ip), "postrouting")
                .unwrap()
                .into_iter()
                .map(|rule| rule.comment.unwrap().as_str().to_owned())
                .collect()
        };
        commit(nat_table());
        let last = nft::rules(&mut socket, &table, "postrouting").unwrap()[0].handle;
        let insert = |position, name: &str| Command::InsertRule {
            table: table.clone(),
            chain: chain(),
            position,
            rule: masquerade("10.0.0.0/8", name),
        };
        commit([insert(Position::First, "first"), insert(Position::Before(last), "second")]);
        assert_eq!(order(&mut socket), ["first", "second", "smartnet"]);
        commit([Command::DeleteRule { table: table.clone(), chain: chain(), handle: last }]);
        assert_eq!(order(&mut socket), ["first", "second"]);
        commit([
            Command::FlushChain { table: table.clone(), chain: chain() },
            Command::DeleteChain { table: table.clone(), chain: chain() },
        ]);
        assert_eq!(nft::chains(&mut socket, None).unwrap(), []);
        commit([Command::DeleteTable { table: table.clone() }]);
        assert_eq!(nft::table(&mut socket, &table).unwrap(), None);
        let again = Transaction { commands: vec![Command::DeleteTable { table: table.clone() }] };
        let error = nft::commit(&mut socket, &again).unwrap_err();
        assert!(error.is_missing());
        assert_eq!(error.to_string(), "nft delete table ip smarter-cni: no such file or directory");
        nft::commit(&mut socket, &Transaction::default()).unwrap();
    });
}

#[test]
fn refusals_say_what_to_look_for() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip);
        let mut socket = NetfilterSocket::open().unwrap();
        let add =
            Transaction { commands: vec![add_rule(&table, "postrouting", masquerade("10.0.0.0/8", "x"))] };
        let error = nft::commit(&mut socket, &add).unwrap_err();
        assert!(error.is_missing());
        assert_eq!(
            error.to_string(),
            "nft add rule ip smarter-cni postrouting ip saddr 10.0.0.0/8 ip daddr != 10.0.0.0/8 \
             ip daddr != 224.0.0.0/4 masquerade comment \"x\": no such file or directory; the table, the chain or a \
             set is missing, or the kernel lacks one of the modules nft_masq"
        );
    });
}
