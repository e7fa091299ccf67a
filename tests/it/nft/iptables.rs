//! Rules in chains that belong to `iptables-nft`.

use smarter_cni::kernel::NetfilterSocket;
use smarter_cni::kernel::nft::{
    self, Command, CtState, Expr, NamePattern, Op, Position, Rule, Table, TableFamily, Way,
};

use super::commit;
use crate::sandbox::{run, sandboxed};

fn filter() -> Table {
    Table::new(TableFamily::Ip, "filter")
}

fn insert(rule: Rule) -> Command {
    Command::InsertRule { table: filter(), chain: "FORWARD".to_owned(), position: Position::First, rule }
}

fn iptables(arguments: &str) -> String {
    run("iptables-nft", &arguments.split(' ').collect::<Vec<_>>())
}

/// `-i smartnet0 … -j ACCEPT` as iptables writes it, with a counter.
fn narrow_accept(way: Way, matches: Option<Expr>) -> Rule {
    let interface = Expr::Interface(way, Op::Eq, NamePattern::Exact("smartnet0".parse().unwrap()));
    let expressions: Vec<_> =
        [interface].into_iter().chain(matches).chain([Expr::Counter, Expr::Accept]).collect();
    Rule::new(expressions)
}

#[test]
fn iptables_reads_and_deletes_the_rules_we_put_into_its_chains() {
    sandboxed(|| {
        iptables("-P FORWARD DROP");
        iptables("-A FORWARD -i docker0 -j DROP");
        let replies = Expr::XtState(vec![CtState::Established, CtState::Related]);
        commit([
            insert(narrow_accept(Way::Out, Some(replies))),
            insert(narrow_accept(Way::Out, Some(Expr::XtComment("smarter-cni".to_owned())))),
            insert(narrow_accept(Way::In, None).comment("smarter-cni")),
        ]);
        assert_eq!(
            iptables("-S FORWARD"),
            "-P FORWARD DROP
-A FORWARD -i smartnet0 -m comment --comment smarter-cni -j ACCEPT
-A FORWARD -o smartnet0 -m comment --comment smarter-cni -j ACCEPT
-A FORWARD -o smartnet0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -i docker0 -j DROP
"
        );
        iptables("-D FORWARD -i smartnet0 -m comment --comment smarter-cni -j ACCEPT");
        iptables("-D FORWARD -o smartnet0 -m comment --comment smarter-cni -j ACCEPT");
        iptables("-D FORWARD -o smartnet0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        assert_eq!(iptables("-S FORWARD"), "-P FORWARD DROP\n-A FORWARD -i docker0 -j DROP\n");
    });
}

#[test]
fn what_iptables_writes_is_what_we_would_have_written() {
    sandboxed(|| {
        iptables("-A FORWARD -i smartnet0 -j ACCEPT");
        iptables("-A FORWARD -o smartnet0 -m comment --comment smarter-cni -j ACCEPT");
        iptables("-A FORWARD -o smartnet0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
        iptables("-A FORWARD -s 10.0.0.0/12 -i wwan+ -j DROP");
        let rules = nft::rules(&mut NetfilterSocket::open().unwrap(), &filter(), "FORWARD").unwrap();
        let replies = Expr::XtState(vec![CtState::Established, CtState::Related]);
        let ours = [
            narrow_accept(Way::In, None),
            narrow_accept(Way::Out, Some(Expr::XtComment("smarter-cni".to_owned()))),
            narrow_accept(Way::Out, Some(replies)),
        ];
        for (theirs, ours) in rules.iter().zip(&ours) {
            assert!(theirs.is(TableFamily::Ip, ours), "{ours}: {theirs:?}");
        }
        let text: Vec<_> = rules.iter().map(nft::RuleInfo::text).collect();
        assert_eq!(
            text,
            [
                "iifname \"smartnet0\" counter accept",
                "oifname \"smartnet0\" comment \"smarter-cni\" counter accept",
                "oifname \"smartnet0\" [xt match conntrack] counter accept",
                "iifname \"wwan*\" ip saddr 10.0.0.0/12 counter drop",
            ]
        );
    });
}
