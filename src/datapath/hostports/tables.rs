//! What host ports look like in nf_tables: the tables `ip smarter-cni` and `ip6 smarter-cni`.
//!
//! Maps from (protocol, port) and (address, protocol, port) to the pod, sets of pods whose clients are masqueraded, and a
//! few rules that never change. Pure. Keys are never ranges, so that kernels before 5.6 have them too.

use std::net::Ipv6Addr;

use ipnetwork::IpNetwork;

use super::limits::{Condition, Match, Pattern};
use super::{Entry, Limits, Mapping, Protocol};
use crate::datapath::mark::OWNER;
use crate::kernel::nft::{
    Chain, Command, Comment, DataType, Datum, Element, Expr, Field, HookPoint, Kind, NamePattern, Op, Rule,
    Set, Side, Table, TableFamily, Way,
};
use crate::net::{Family, IfName};

pub(super) const TO_PODS: &str = "to_pods";
pub(super) const PREROUTING: &str = "prerouting";
pub(super) const OUTPUT: &str = "output";
pub(super) const POSTROUTING: &str = "postrouting";
const GUARD: &str = "guard";
/// linux/netfilter_ipv4.h: `NF_IP_PRI_NAT_DST`, `NF_IP_PRI_NAT_SRC`, `NF_IP_PRI_RAW`.
pub const PRIORITY_DSTNAT: i32 = -100;
const PRIORITY_SRCNAT: i32 = 100;
const PRIORITY_RAW: i32 = -300;

pub fn table(family: Family) -> Table {
    Table::new(if family == Family::V4 { TableFamily::Ip } else { TableFamily::Ip6 }, OWNER)
}

pub fn address(family: Family) -> DataType {
    if family == Family::V4 { DataType::Ipv4Addr } else { DataType::Ipv6Addr }
}

pub(super) const PORT: [DataType; 2] = [DataType::InetProto, DataType::InetService];

pub(super) fn port_at(family: Family) -> [DataType; 3] {
    [address(family), DataType::InetProto, DataType::InetService]
}

pub fn hostports(family: Family) -> Set {
    Set::map("hostports", &PORT, &[address(family), DataType::InetService])
}

pub fn hostports_at(family: Family) -> Set {
    Set::map("hostports_at", &port_at(family), &[address(family), DataType::InetService])
}

/// Interfaces that lead to pods.
pub fn pod_links() -> Set {
    Set::new("pod_links", &[DataType::IfName])
}

/// The set that an entry is in.
pub fn set_of(entry: &Entry) -> Set {
    let family = entry.family();
    let name = entry.set();
    match entry {
        Entry::Port(Mapping { host_ip: None, .. }) => hostports(family),
        Entry::Port(_) => hostports_at(family),
        Entry::PortAt(..) | Entry::Limited(_, Mapping { host_ip: None, .. }) => Set::new(&name, &PORT),
        Entry::Limited(..) => Set::new(&name, &port_at(family)),
        Entry::LocalClients(_) | Entry::AllClients(_) => Set::new(&name, &[address(family)]),
        Entry::Hairpin(_) => Set::new(&name, &[address(family), address(family)]),
    }
}

pub fn key_of(entry: &Entry) -> Vec<Datum> {
    match entry {
        Entry::Port(mapping) | Entry::Limited(_, mapping) => {
            let mut key: Vec<Datum> = mapping.host_ip.map(Datum::Address).into_iter().collect();
            key.extend([Datum::Protocol(mapping.protocol.number()), Datum::Port(mapping.host_port)]);
            key
        }
        Entry::PortAt(_, protocol, port) => vec![Datum::Protocol(protocol.number()), Datum::Port(*port)],
        Entry::LocalClients(address) | Entry::AllClients(address) => vec![Datum::Address(*address)],
        Entry::Hairpin(address) => vec![Datum::Address(*address), Datum::Address(*address)],
    }
}

pub fn element(entry: &Entry, comment: &str) -> Element {
    let mut element = Element::of(key_of(entry));
    if let Entry::Port(mapping) = entry {
        element.value = Some(vec![Datum::Address(mapping.pod), Datum::Port(mapping.pod_port)]);
    }
    element.comment = (!comment.is_empty()).then(|| Comment::new(comment));
    element
}

/// The mapping that an element of `hostports` or `hostports_at` says.
pub fn mapping_of(element: &Element) -> Option<Mapping> {
    let (host_ip, protocol, host_port) = match element.key.as_slice() {
        [Datum::Protocol(protocol), Datum::Port(port)] => (None, *protocol, *port),
        [Datum::Address(ip), Datum::Protocol(protocol), Datum::Port(port)] => (Some(*ip), *protocol, *port),
        _ => return None,
    };
    let Some([Datum::Address(pod), Datum::Port(pod_port)]) = element.value.as_deref() else { return None };
    let protocol = Protocol::ALL.into_iter().find(|known| known.number() == protocol)?;
    Some(Mapping { protocol, host_ip, host_port, pod: *pod, pod_port: *pod_port })
}

fn loopback() -> IpNetwork {
    "127.0.0.0/8".parse().expect("a network written in this line")
}

/// Every chain and the rules that are always in it.
pub(super) fn skeleton(family: Family) -> Vec<(Chain, Vec<Rule>)> {
    let (src, dst) = (Field::Address(family, Side::Source), Field::Address(family, Side::Destination));
    let port = Field::Port(Side::Destination);
    let dnat = |fields: &[Field], map: Set| {
        Rule::new([Expr::Dnat { family, fields: fields.to_vec(), map: map.name }])
    };
    let lookup = |fields: &[Field], set: &str| Expr::Lookup {
        fields: fields.to_vec(),
        op: Op::Eq,
        set: set.to_owned(),
    };
    let local = || vec![Expr::LocalDestination, Expr::Jump(TO_PODS.to_owned())];
    let mut output = local();
    let mut postrouting = vec![
        Rule::new([Expr::Dnatted, lookup(&[dst], "all_clients"), Expr::Masquerade]),
        Rule::new([Expr::Dnatted, lookup(&[src, dst], "hairpin"), Expr::Masquerade]),
    ];
    if family == Family::V4 {
        let rule = [Expr::Dnatted, Expr::from(loopback()), lookup(&[dst], "local_clients"), Expr::Masquerade];
        postrouting.push(Rule::new(rule));
    } else {
        // A packet from ::1 cannot leave the node: who asks there had better reach a process of the node, or nobody.
        output.insert(0, Expr::not_to(IpNetwork::V6(Ipv6Addr::LOCALHOST.into())));
    }
    let nat = |name, point, priority| Chain::base(name, Kind::Nat, point, priority);
    let mut chains = vec![
        (
            Chain::regular(TO_PODS),
            vec![
                dnat(&[dst, Field::Protocol, port], hostports_at(family)),
                dnat(&[Field::Protocol, port], hostports(family)),
            ],
        ),
        (nat(PREROUTING, HookPoint::Prerouting, PRIORITY_DSTNAT), vec![Rule::new(local())]),
        (nat(OUTPUT, HookPoint::Output, PRIORITY_DSTNAT), vec![Rule::new(output)]),
        (nat(POSTROUTING, HookPoint::Postrouting, PRIORITY_SRCNAT), postrouting),
    ];
    if family == Family::V4 {
        let outside = || Expr::Interface(Way::In, Op::Ne, NamePattern::Exact(lo()));
        let from_or_to = |side| Rule::new([outside(), Expr::Address(side, Op::Eq, loopback()), Expr::Drop]);
        chains.push((
            Chain::base(GUARD, Kind::Filter, HookPoint::Prerouting, PRIORITY_RAW),
            vec![from_or_to(Side::Destination), from_or_to(Side::Source)],
        ));
    }
    chains
}

fn lo() -> IfName {
    "lo".parse().expect("a name written in this line")
}

fn sets(family: Family) -> Vec<Set> {
    let one = address(family);
    vec![
        hostports(family),
        hostports_at(family),
        Set::new("hostports_at_ports", &PORT),
        Set::new("local_clients", &[one]),
        Set::new("all_clients", &[one]),
        Set::new("hairpin", &[one, one]),
        pod_links(),
    ]
}

/// Table, sets and chains: declaring what is there already is nothing.
pub(super) fn declarations(family: Family) -> Vec<Command> {
    let table = table(family);
    let mut commands = vec![Command::AddTable { table: table.clone(), comment: None }];
    commands.extend(sets(family).into_iter().map(|set| Command::AddSet { table: table.clone(), set }));
    let chains = skeleton(family).into_iter();
    commands.extend(chains.map(|(chain, _)| Command::AddChain { table: table.clone(), chain }));
    commands
}

pub(super) fn add_rule(table: &Table, chain: &str, rule: Rule) -> Command {
    Command::AddRule { table: table.clone(), chain: chain.to_owned(), rule }
}

/// Pods of one subnet answer each other directly, past the node that knows the translation; with the node's address as
/// client they cannot.
pub(super) fn siblings_rule(subnet: IpNetwork) -> Rule {
    let dst = Field::Address(Family::of(subnet.ip()), Side::Destination);
    Rule::new([
        Expr::Dnatted,
        Expr::from(subnet),
        Expr::Address(Side::Destination, Op::Eq, subnet),
        Expr::Lookup { fields: vec![dst], op: Op::Eq, set: "local_clients".to_owned() },
        Expr::Masquerade,
    ])
}

fn name_pattern(pattern: &Pattern) -> NamePattern {
    let name = pattern.name().clone();
    if pattern.is_prefix() { NamePattern::Prefix(name) } else { NamePattern::Exact(name) }
}

/// A packet for which the condition does not hold leaves the hook: that of none of the networks, in one rule, or that of
/// any network which must not be, in a rule each.
fn unless(condition: &Condition) -> Vec<Rule> {
    let op = if condition.negated { Op::Eq } else { Op::Ne };
    let broken: Vec<Expr> = match &condition.matches {
        Match::Interface(pattern) => vec![Expr::Interface(Way::In, op, name_pattern(pattern))],
        Match::From(from) => from.iter().map(|from| Expr::Address(Side::Source, op, *from)).collect(),
        Match::To(to) => to.iter().map(|to| Expr::Address(Side::Destination, op, *to)).collect(),
    };
    if condition.negated {
        return broken.into_iter().map(|broken| Rule::new([broken, Expr::Accept])).collect();
    }
    let every_one: Vec<Expr> = broken.into_iter().chain([Expr::Accept]).collect();
    vec![Rule::new(every_one)]
}

/// Who may not use a limited port leaves the hook (`accept` ends it) before the maps are asked; who may, returns to them.
pub(super) fn limit_rules(limits: &Limits, family: Family) -> Vec<Rule> {
    let from = |pattern: &Pattern| Expr::Interface(Way::In, Op::Eq, name_pattern(pattern));
    let mut rules: Vec<_> = limits.conditions(family).iter().flat_map(unless).collect();
    if !limits.allowed.is_empty() || !limits.denied.is_empty() {
        let fields = vec![Field::Interface(Way::In)];
        let pods = Expr::Lookup { fields, op: Op::Eq, set: pod_links().name };
        rules.push(Rule::new([pods, Expr::Return]));
    }
    rules.extend(limits.denied.iter().map(|pattern| Rule::new([from(pattern), Expr::Accept])));
    if !limits.allowed.is_empty() {
        rules.extend(limits.allowed.iter().map(|pattern| Rule::new([from(pattern), Expr::Return])));
        rules.push(Rule::new([Expr::Accept]));
    }
    rules
}

/// The node's own packets come in nowhere: what asks for an interface never holds for them, what refuses one always does.
pub(super) fn local_limit_rules(limits: &Limits, family: Family) -> Vec<Rule> {
    let rules = limits.conditions(family).iter().flat_map(|condition| match condition {
        Condition { matches: Match::Interface(_), negated: true } => Vec::new(),
        Condition { matches: Match::Interface(_), negated: false } => vec![Rule::new([Expr::Accept])],
        other => unless(other),
    });
    rules.collect()
}

pub(super) fn ways_to(family: Family, set: &str, set_at: &str, chain: &str) -> [Rule; 2] {
    let port = [Field::Protocol, Field::Port(Side::Destination)];
    let at = [Field::Address(family, Side::Destination), port[0], port[1]];
    let way = |fields: &[Field], set: &str| {
        let lookup = Expr::Lookup { fields: fields.to_vec(), op: Op::Eq, set: set.to_owned() };
        Rule::new([lookup, Expr::Jump(chain.to_owned())])
    };
    [way(&port, set), way(&at, set_at)]
}

#[cfg(test)]
mod tests {
    use super::super::missing;
    use super::*;
    use crate::kernel::nft::Transaction;

    fn text(commands: Vec<Command>) -> String {
        Transaction { commands }.to_string()
    }

    fn base(family: Family) -> Vec<Command> {
        missing::base(&mut |_| Ok(Vec::new()), family).unwrap()
    }

    #[test]
    fn the_tables_are_complete_in_one_transaction() {
        assert_eq!(
            text(base(Family::V4)),
            "add table ip smarter-cni\n\
             add map ip smarter-cni hostports { type inet_proto . inet_service : ipv4_addr . inet_service; }\n\
             add map ip smarter-cni hostports_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }\n\
             add set ip smarter-cni hostports_at_ports { type inet_proto . inet_service; }\n\
             add set ip smarter-cni local_clients { type ipv4_addr; }\n\
             add set ip smarter-cni all_clients { type ipv4_addr; }\n\
             add set ip smarter-cni hairpin { type ipv4_addr . ipv4_addr; }\n\
             add set ip smarter-cni pod_links { type ifname; }\n\
             add chain ip smarter-cni to_pods\n\
             add chain ip smarter-cni prerouting { type nat hook prerouting priority -100; policy accept; }\n\
             add chain ip smarter-cni output { type nat hook output priority -100; policy accept; }\n\
             add chain ip smarter-cni postrouting { type nat hook postrouting priority 100; policy accept; }\n\
             add chain ip smarter-cni guard { type filter hook prerouting priority -300; policy accept; }\n\
             add rule ip smarter-cni to_pods dnat ip to ip daddr . meta l4proto . th dport map @hostports_at\n\
             add rule ip smarter-cni to_pods dnat ip to meta l4proto . th dport map @hostports\n\
             add rule ip smarter-cni prerouting fib daddr type local jump to_pods\n\
             add rule ip smarter-cni output fib daddr type local jump to_pods\n\
             add rule ip smarter-cni postrouting ct status dnat ip daddr @all_clients masquerade\n\
             add rule ip smarter-cni postrouting ct status dnat ip saddr . ip daddr @hairpin masquerade\n\
             add rule ip smarter-cni postrouting ct status dnat ip saddr 127.0.0.0/8 ip daddr @local_clients masquerade\n\
             add rule ip smarter-cni guard iifname != \"lo\" ip daddr 127.0.0.0/8 drop\n\
             add rule ip smarter-cni guard iifname != \"lo\" ip saddr 127.0.0.0/8 drop\n"
        );
        let v6 = text(base(Family::V6));
        assert!(v6.contains("output ip6 daddr != ::1 fib daddr type local jump to_pods\n"), "{v6}");
        assert!(!v6.contains("guard") && !v6.contains("127.0.0"), "{v6}");
    }

    #[test]
    fn limits_leave_the_hook_before_the_maps_are_asked() {
        let pattern = |text| Pattern::parse(text, '*').unwrap();
        let limits = Limits {
            allowed: vec![pattern("eth0"), pattern("lan*")],
            denied: vec![pattern("wwan*")],
            v4: vec![
                Condition {
                    negated: false,
                    matches: Match::From(vec![
                        "10.0.0.0/8".parse().unwrap(),
                        "192.168.0.0/16".parse().unwrap(),
                    ]),
                },
                Condition {
                    negated: true,
                    matches: Match::To(vec![
                        "192.0.2.8/32".parse().unwrap(),
                        "192.0.2.9/32".parse().unwrap(),
                    ]),
                },
                Condition { negated: true, matches: Match::Interface(pattern("ppp*")) },
            ],
            v6: vec![],
        };
        let text =
            |rules: Vec<Rule>| rules.iter().fold(String::new(), |text, rule| text + &format!("{rule}\n"));
        assert_eq!(
            text(limit_rules(&limits, Family::V4)),
            "ip saddr != 10.0.0.0/8 ip saddr != 192.168.0.0/16 accept\nip daddr 192.0.2.8 accept\n\
             ip daddr 192.0.2.9 accept\niifname \"ppp*\" accept\niifname @pod_links return\niifname \"wwan*\" accept\n\
             iifname \"eth0\" return\niifname \"lan*\" return\naccept\n"
        );
        assert_eq!(
            text(local_limit_rules(&limits, Family::V4)),
            "ip saddr != 10.0.0.0/8 ip saddr != 192.168.0.0/16 accept\nip daddr 192.0.2.8 accept\nip daddr 192.0.2.9 accept\n"
        );
        assert_eq!(text(local_limit_rules(&limits, Family::V6)), "");
    }

    #[test]
    fn an_element_reads_back_as_its_mapping() {
        for host_ip in [None, Some("192.0.2.1".parse().unwrap())] {
            let mapping = Mapping {
                protocol: Protocol::Udp,
                host_ip,
                host_port: 5353,
                pod: "10.1.2.5".parse().unwrap(),
                pod_port: 53,
            };
            assert_eq!(mapping_of(&element(&Entry::Port(mapping), "shop/dns c1")), Some(mapping));
        }
    }
}
