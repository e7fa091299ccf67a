//! Tables, sets and rules as the kernel and `nft` see them.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fmt::Write;

use smarter_cni::kernel::Socket;
use smarter_cni::kernel::nft::{
    self, Chain, Command, CtState, DataType, Datum, Element, Expr, Field, HookPoint, Kind, NamePattern, Op,
    Position, Rule, Set, Side, Table, TableFamily, Transaction, Way,
};

use smarter_cni::net::Family;

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

/// Every object and word that the program has use for, in one table.
fn whole_table() -> Vec<Command> {
    let table = ours(TableFamily::Ip);
    let source = Field::Address(Family::V4, Side::Source);
    let destination = Field::Address(Family::V4, Side::Destination);
    let chain = |chain| Command::AddChain { table: table.clone(), chain };
    let set = |set| Command::AddSet { table: table.clone(), set };
    let rule = |chain, rule: Vec<Expr>| add_rule(&table, chain, Rule::new(rule));
    let dnat = |fields: &[Field], map: &str| {
        vec![Expr::Dnat { family: Family::V4, fields: fields.to_vec(), map: map.to_owned() }]
    };
    let port = Field::Port(Side::Destination);
    let loopback = "127.0.0.0/8".parse().unwrap();
    let local = || vec![Expr::LocalDestination, Expr::Jump("to_pods".to_owned())];
    vec![
        Command::CreateTable { table: table.clone(), comment: Some("schema 1".into()) },
        set(masq()),
        set(hostports()),
        set(hostports_at()),
        chain(Chain::regular("to_pods")),
        chain(Chain {
            comment: Some("from outside".into()),
            ..Chain::base("prerouting", Kind::Nat, HookPoint::Prerouting, -100)
        }),
        chain(Chain::base("output", Kind::Nat, HookPoint::Output, -100)),
        chain(Chain::base("postrouting", Kind::Nat, HookPoint::Postrouting, 100)),
        chain(Chain::base("guard", Kind::Filter, HookPoint::Prerouting, -300)),
        chain(Chain::base("mss", Kind::Filter, HookPoint::Forward, -150)),
        Command::AddElements {
            table: table.clone(),
            set: masq(),
            elements: vec![Element::network("172.38.0.0/16".parse().unwrap())],
        },
        Command::AddElements {
            table: table.clone(),
            set: hostports(),
            elements: vec![
                Element { comment: Some("shop/web".into()), ..hostport(6, 8080, "172.38.0.5", 80) },
                hostport(17, 53, "172.38.0.6", 5353),
            ],
        },
        Command::AddElements {
            table: table.clone(),
            set: hostports_at(),
            elements: vec![Element::mapping(
                [address("192.0.2.1"), Datum::Protocol(6), Datum::Port(8081)],
                [address("172.38.0.5"), Datum::Port(80)],
            )],
        },
        rule("to_pods", dnat(&[destination, Field::Protocol, port], "hostports_at")),
        rule("to_pods", dnat(&[Field::Protocol, port], "hostports")),
        rule("prerouting", local()),
        rule("output", local()),
        rule(
            "postrouting",
            vec![
                lookup(source, Op::Eq, "masq"),
                lookup(destination, Op::Ne, "masq"),
                Expr::not_to("224.0.0.0/4".parse().unwrap()),
                Expr::Masquerade,
            ],
        ),
        rule(
            "postrouting",
            vec![Expr::from(loopback), lookup(destination, Op::Eq, "masq"), Expr::Masquerade],
        ),
        rule("postrouting", vec![Expr::Dnatted, lookup(source, Op::Eq, "masq"), Expr::Masquerade]),
        rule(
            "guard",
            vec![
                Expr::Interface(Way::In, Op::Ne, NamePattern::Exact("lo".parse().unwrap())),
                Expr::Address(Side::Destination, Op::Eq, loopback),
                Expr::Drop,
            ],
        ),
        rule(
            "guard",
            vec![
                Expr::Interface(Way::In, Op::Eq, NamePattern::Prefix("wwan".parse().unwrap())),
                Expr::Protocol(Op::Eq, 6),
                Expr::Port(Side::Destination, Op::Eq, 22),
                Expr::Counter,
                Expr::Return,
            ],
        ),
        rule(
            "guard",
            vec![
                Expr::State(vec![CtState::Established, CtState::Related]),
                Expr::Mark { mask: 0x2000, op: Op::Eq, value: 0x2000 },
                Expr::SetMark { mask: 0x2000, value: 0 },
                Expr::Accept,
            ],
        ),
        rule("guard", vec![Expr::SetMark { mask: 0x2000, value: 0x2000 }]),
        rule(
            "guard",
            vec![
                Expr::Mark { mask: u32::MAX, op: Op::Ne, value: 0x10 },
                Expr::SetMark { mask: u32::MAX, value: 1 },
            ],
        ),
        rule("mss", vec![Expr::ClampMss]),
    ]
}

const WHOLE_TABLE: &str = "table ip smarter-cni {
comment \"schema 1\"
set masq {
type ipv4_addr
flags interval
comment \"pod networks\"
elements = { 172.38.0.0/16 }
}
map hostports {
type inet_proto . inet_service : ipv4_addr . inet_service
elements = { tcp . 8080 comment \"shop/web\" : 172.38.0.5 . 80,
udp . 53 : 172.38.0.6 . 5353 }
}
map hostports_at {
type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
elements = { 192.0.2.1 . tcp . 8081 : 172.38.0.5 . 80 }
}
chain to_pods {
dnat ip to ip daddr . meta l4proto . th dport map @hostports_at
dnat ip to meta l4proto . th dport map @hostports
}
chain prerouting {
comment \"from outside\"
type nat hook prerouting priority dstnat; policy accept;
fib daddr type local jump to_pods
}
chain output {
type nat hook output priority -100; policy accept;
fib daddr type local jump to_pods
}
chain postrouting {
type nat hook postrouting priority srcnat; policy accept;
ip saddr @masq ip daddr != @masq ip daddr != 224.0.0.0/4 masquerade
ip saddr 127.0.0.0/8 ip daddr @masq masquerade
ct status dnat ip saddr @masq masquerade
}
chain guard {
type filter hook prerouting priority raw; policy accept;
iifname != \"lo\" ip daddr 127.0.0.0/8 drop
iifname \"wwan*\" tcp dport 22 counter packets 0 bytes 0 return
ct state established,related meta mark & 0x00002000 == 0x00002000 meta mark set meta mark & 0xffffdfff accept
meta mark set meta mark | 0x00002000
meta mark != 0x00000010 meta mark set 0x00000001
}
chain mss {
type filter hook forward priority mangle; policy accept;
tcp flags syn tcp option maxseg size set rt mtu
}
}
";

/// The kernel does not keep the order of elements.
fn in_order(listing: &str) -> Vec<&str> {
    let mut lines: Vec<_> = listing
        .split(['\n', ','])
        .map(|line| line.trim_start_matches("elements = { ").trim_end_matches(" }"))
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn every_word_means_to_nft_what_it_means_to_us() {
    sandboxed(|| {
        let commands = whole_table();
        commit(commands.clone());
        let table = ours(TableFamily::Ip);
        assert_eq!(in_order(&listed(&table)), in_order(WHOLE_TABLE), "{}", listed(&table));

        // The kernel gives back what we said.
        let mut socket = Socket::netfilter().unwrap();
        for name in ["to_pods", "prerouting", "output", "postrouting", "guard", "mss"] {
            let said: Vec<&Rule> = commands
                .iter()
                .filter_map(|command| match command {
                    Command::AddRule { chain, rule, .. } if chain == name => Some(rule),
                    _ => None,
                })
                .collect();
            let kept = nft::rules(&mut socket, &table, name).unwrap();
            assert_eq!(kept.len(), said.len());
            for (kept, said) in kept.iter().zip(said) {
                assert!(kept.is(TableFamily::Ip, said), "{said}: {kept:?}");
            }
        }
        let chains = nft::chains(&mut socket, None).unwrap();
        assert_eq!(chains.len(), 6);
        assert_eq!(chains[3].name, "postrouting");
        assert_eq!(chains[3].hook, Chain::base("", Kind::Nat, HookPoint::Postrouting, 100).hook);
        assert_eq!(nft::chains(&mut socket, Some(TableFamily::Bridge)).unwrap(), []);
    });
}

#[test]
fn nft_loads_our_script_and_the_kernel_then_has_what_we_would_have_made() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip);
        let script: Transaction = whole_table().into_iter().collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), script.to_string()).unwrap();
        run("nft", &["-f", file.path().to_str().unwrap()]);
        assert_eq!(in_order(&listed(&table)), in_order(WHOLE_TABLE), "{script}");
    });
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
fn a_thousand_elements_go_in_one_transaction() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip);
        let many = |from: u16, to: u16| -> Vec<Element> {
            (from..to)
                .map(|port| Element {
                    comment: Some("a comment that takes some space, as namespace/name of a pod would".into()),
                    ..hostport(6, port, "172.38.0.5", port)
                })
                .collect()
        };
        commit([
            Command::CreateTable { table: table.clone(), comment: None },
            Command::AddSet { table: table.clone(), set: hostports() },
            Command::AddElements { table: table.clone(), set: hostports(), elements: many(1, 1001) },
        ]);
        let mut socket = Socket::netfilter().unwrap();
        assert_eq!(nft::elements(&mut socket, &table, &hostports()).unwrap().len(), 1000);

        // More than the socket's default send buffer.
        let add = Command::AddElements { table: table.clone(), set: hostports(), elements: many(1001, 6001) };
        match nft::commit(&mut socket, &Transaction { commands: vec![add] }) {
            Ok(()) => {}
            // Enlarging the buffer takes a privilege that a user namespace does not give.
            Err(error) => assert_eq!(error.errno(), Some(rustix::io::Errno::MSGSIZE), "{error}"),
        }

        // A refusal in the middle undoes everything, also what came before it.
        let mut wrong = many(7001, 7101);
        wrong.push(hostport(6, 1, "172.38.0.99", 1));
        let add = Command::AddElements { table: table.clone(), set: hostports(), elements: wrong };
        let error = nft::commit(&mut socket, &Transaction { commands: vec![add] }).unwrap_err();
        assert!(error.is_exists(), "{error}");
        assert!(
            error.to_string().starts_with("nft add element ip smarter-cni hostports { tcp . 7001"),
            "{error}"
        );
        let key = [Datum::Protocol(6), Datum::Port(7001)];
        assert_eq!(nft::element(&mut socket, &table, &hostports(), &key).unwrap(), None);
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
                        match nft::commit(&mut Socket::netfilter().unwrap(), &transaction) {
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
        let mut socket = Socket::netfilter().unwrap();
        assert_eq!(nft::rules(&mut socket, &ours(TableFamily::Ip), "postrouting").unwrap().len(), 1);
    });
}

#[test]
fn elements_are_found_changed_and_deleted() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip);
        let ranges =
            Set { interval: true, ..Set::new("ranges", &[DataType::Ipv4Addr, DataType::InetService]) };
        let range = Element {
            key_end: Some(vec![address("10.1.255.255"), Datum::Port(90)]),
            ..Element::of([address("10.1.0.0"), Datum::Port(80)])
        };
        commit(whole_table());
        commit([
            Command::AddSet { table: table.clone(), set: ranges.clone() },
            Command::AddElements { table: table.clone(), set: ranges.clone(), elements: vec![range.clone()] },
            Command::AddElements {
                table: table.clone(),
                set: masq(),
                elements: ["172.39.0.0/16", "10.0.0.0/8", "255.0.0.0/8"]
                    .map(|network| Element::network(network.parse().unwrap()))
                    .to_vec(),
            },
        ]);
        let mut socket = Socket::netfilter().unwrap();
        let key = [Datum::Protocol(6), Datum::Port(8080)];
        let web = Element { comment: Some("shop/web".into()), ..hostport(6, 8080, "172.38.0.5", 80) };
        assert_eq!(nft::element(&mut socket, &table, &hostports(), &key).unwrap(), Some(web.clone()));
        let absent = [Datum::Protocol(17), Datum::Port(8080)];
        assert_eq!(nft::element(&mut socket, &table, &hostports(), &absent).unwrap(), None);
        let missing = Set::new("missing", &[DataType::IfName]);
        assert_eq!(nft::elements(&mut socket, &table, &missing).unwrap(), []);
        assert_eq!(
            nft::element(&mut socket, &table, &missing, &[Datum::IfName("lo".parse().unwrap())]).unwrap(),
            None
        );
        assert_eq!(nft::elements(&mut socket, &ours(TableFamily::Bridge), &missing).unwrap(), []);

        // Ranges, also adjacent ones and the one without an end.
        for (inside, network) in
            [("172.38.1.2", "172.38.0.0/16"), ("172.39.0.0", "172.39.0.0/16"), ("255.1.1.1", "255.0.0.0/8")]
        {
            let found = nft::element(&mut socket, &table, &masq(), &[address(inside)]).unwrap();
            assert_eq!(found, Some(Element::network(network.parse().unwrap())));
        }
        assert_eq!(nft::element(&mut socket, &table, &masq(), &[address("172.40.0.0")]).unwrap(), None);
        assert_eq!(
            nft::elements(&mut socket, &table, &masq()).unwrap(),
            ["10.0.0.0/8", "172.38.0.0/16", "172.39.0.0/16", "255.0.0.0/8"]
                .map(|network| Element::network(network.parse().unwrap()))
        );
        assert_eq!(nft::elements(&mut socket, &table, &ranges).unwrap(), std::slice::from_ref(&range));
        let inside = [address("10.1.2.3"), Datum::Port(85)];
        assert_eq!(nft::element(&mut socket, &table, &ranges, &inside).unwrap(), Some(range.clone()));

        // Adding again is fine, another value is not; deleting twice is not.
        let add = |element| Command::AddElements {
            table: table.clone(),
            set: hostports(),
            elements: vec![element],
        };
        commit([add(web.clone())]);
        let other = Transaction { commands: vec![add(hostport(6, 8080, "172.38.0.9", 80))] };
        assert!(nft::commit(&mut socket, &other).unwrap_err().is_exists());
        let delete = |set: Set, element| Command::DeleteElements {
            table: table.clone(),
            set,
            elements: vec![element],
        };
        commit([
            delete(hostports(), Element::of(key)),
            delete(ranges.clone(), range),
            delete(masq(), Element::network("172.38.0.0/16".parse().unwrap())),
        ]);
        let again = Transaction { commands: vec![delete(hostports(), web)] };
        assert!(nft::commit(&mut socket, &again).unwrap_err().is_missing());
        assert_eq!(nft::elements(&mut socket, &table, &ranges).unwrap(), []);
        assert_eq!(nft::element(&mut socket, &table, &masq(), &[address("172.38.1.2")]).unwrap(), None);
    });
}

#[test]
fn rules_are_placed_and_taken_away_one_by_one() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip);
        let chain = || "postrouting".to_owned();
        let mut socket = Socket::netfilter().unwrap();
        let order = |socket: &mut Socket| -> Vec<String> {
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

/// `-i smartnet0 -j ACCEPT` with counters, in the chain of somebody else.
fn narrow_accept(way: Way) -> Vec<Expr> {
    vec![
        Expr::Interface(way, Op::Eq, NamePattern::Exact("smartnet0".parse().unwrap())),
        Expr::Counter,
        Expr::Accept,
    ]
}

#[test]
fn iptables_reads_the_rules_we_put_into_its_chains() {
    sandboxed(|| {
        let filter = Table::new(TableFamily::Ip, "filter");
        let insert = |rule| Command::InsertRule {
            table: filter.clone(),
            chain: "FORWARD".to_owned(),
            position: Position::First,
            rule,
        };
        run("iptables-nft", &["-P", "FORWARD", "DROP"]);
        run("iptables-nft", &["-A", "FORWARD", "-i", "docker0", "-j", "DROP"]);
        let mut with_match = narrow_accept(Way::Out);
        with_match.insert(1, Expr::XtComment("smarter-cni".to_owned()));
        commit([
            insert(Rule::new(with_match.clone())),
            insert(Rule::new(narrow_accept(Way::In)).comment("smarter-cni")),
        ]);
        assert_eq!(
            run("iptables-nft", &["-S", "FORWARD"]),
            "-P FORWARD DROP
-A FORWARD -i smartnet0 -m comment --comment smarter-cni -j ACCEPT
-A FORWARD -o smartnet0 -m comment --comment smarter-cni -j ACCEPT
-A FORWARD -i docker0 -j DROP
"
        );

        // What iptables writes is the same to us.
        let mut socket = Socket::netfilter().unwrap();
        run(
            "iptables-nft",
            &[
                "-I",
                "FORWARD",
                "-o",
                "smartnet0",
                "-m",
                "comment",
                "--comment",
                "smarter-cni",
                "-j",
                "ACCEPT",
            ],
        );
        let rules = nft::rules(&mut socket, &filter, "FORWARD").unwrap();
        assert!(rules[0].is(TableFamily::Ip, &Rule::new(with_match)), "{:?}", rules[0]);
        assert_eq!(rules[0].text, "oifname \"smartnet0\" comment \"smarter-cni\" counter accept");
        assert_eq!(rules[3].text, "iifname \"docker0\" counter drop");

        run(
            "iptables-nft",
            &[
                "-A",
                "FORWARD",
                "-o",
                "smartnet0",
                "-m",
                "conntrack",
                "--ctstate",
                "RELATED,ESTABLISHED",
                "-j",
                "ACCEPT",
            ],
        );
        let mut answers = narrow_accept(Way::Out);
        answers.insert(1, Expr::XtState(vec![CtState::Established, CtState::Related]));
        let rules = nft::rules(&mut socket, &filter, "FORWARD").unwrap();
        assert!(rules[4].is(TableFamily::Ip, &Rule::new(answers.clone())), "{:?}", rules[4]);
        commit([
            Command::DeleteRule {
                table: filter.clone(),
                chain: "FORWARD".to_owned(),
                handle: rules[4].handle,
            },
            insert(Rule::new(answers)),
        ]);
        run(
            "iptables-nft",
            &[
                "-D",
                "FORWARD",
                "-o",
                "smartnet0",
                "-m",
                "conntrack",
                "--ctstate",
                "RELATED,ESTABLISHED",
                "-j",
                "ACCEPT",
            ],
        );

        // And iptables can delete ours.
        for (way, interface) in [("-i", "smartnet0"), ("-o", "smartnet0"), ("-o", "smartnet0")] {
            run(
                "iptables-nft",
                &[
                    "-D",
                    "FORWARD",
                    way,
                    interface,
                    "-m",
                    "comment",
                    "--comment",
                    "smarter-cni",
                    "-j",
                    "ACCEPT",
                ],
            );
        }
        assert_eq!(nft::rules(&mut socket, &filter, "FORWARD").unwrap().len(), 1);
    });
}

#[test]
fn refusals_say_what_to_look_for() {
    sandboxed(|| {
        let table = ours(TableFamily::Ip);
        let mut socket = Socket::netfilter().unwrap();
        let add =
            Transaction { commands: vec![add_rule(&table, "postrouting", masquerade("10.0.0.0/8", "x"))] };
        let error = nft::commit(&mut socket, &add).unwrap_err();
        assert!(error.is_missing());
        assert_eq!(
            error.to_string(),
            "nft add rule ip smarter-cni postrouting ip saddr 10.0.0.0/8 ip daddr != 10.0.0.0/8 \
             ip daddr != 224.0.0.0/4 masquerade comment \"x\": no such file or directory (the table, the chain or a \
             set is missing, or the kernel lacks one of the modules nf_tables nft_masq)"
        );
    });
}
