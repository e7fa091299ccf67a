//! Every object and word that the program has use for, in one table, said by us and by `nft`.

use smarter_cni::kernel::NetfilterSocket;
use smarter_cni::kernel::nft::{
    self, Chain, Command, CtState, Datum, Element, Expr, Field, HookPoint, Kind, NamePattern, Op, Rule, Side,
    Table, TableFamily, Transaction, Way,
};
use smarter_cni::net::Family;

use super::{add_rule, address, commit, hostport, hostports, hostports_at, listed, lookup, masq, ours};
use crate::sandbox::{run, sandboxed};

pub(super) fn whole_table() -> Vec<Command> {
    let table = ours(TableFamily::Ip);
    let chain = |chain| Command::AddChain { table: table.clone(), chain };
    let set = |set| Command::AddSet { table: table.clone(), set };
    let mut commands = vec![
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
    ];
    commands.extend(rules(&table));
    commands
}

fn rules(table: &Table) -> Vec<Command> {
    let source = Field::Address(Family::V4, Side::Source);
    let destination = Field::Address(Family::V4, Side::Destination);
    let rule = |chain, rule: Vec<Expr>| add_rule(table, chain, Rule::new(rule));
    let dnat = |fields: &[Field], map: &str| {
        vec![Expr::Dnat { family: Family::V4, fields: fields.to_vec(), map: map.to_owned() }]
    };
    let port = Field::Port(Side::Destination);
    let loopback = "127.0.0.0/8".parse().unwrap();
    let local = || vec![Expr::LocalDestination, Expr::Jump("to_pods".to_owned())];
    vec![
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
        let mut socket = NetfilterSocket::open().unwrap();
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
                // Where a match needs another first, `nft` does not say it and the kernel does.
                assert!(kept.text().ends_with(&said.to_string()), "{said}: {}", kept.text());
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
