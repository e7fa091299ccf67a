//! What this kernel can do, found out by having it done: links and rules in a throw-away namespace, one feature at a time.
//!
//! Names of configurations are not asked for: they are missing on kernels that can, and there on kernels that cannot.

use ipnetwork::IpNetwork;

use crate::kernel::link::{self, NewBridge, NewVeth, Peer};
use crate::kernel::nft::{
    self, Chain, Command, CtState, DataType, Expr, Field, HookPoint, Kind, Op, Rule, Set, Side, Table,
    TableFamily, Transaction,
};
use crate::kernel::{self, NetfilterSocket, RouteSocket, scratch};
use crate::net::{Family, IfName};

/// Something of the kernel that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    Veth,
    Bridge,
    VlanFiltering,
    PortIsolation,
    NfTables,
    /// Chains that rewrite addresses.
    Nat(Family),
    Masquerade(Family),
    /// Maps of several fields, and a `dnat` that asks one.
    Dnat(Family),
    Fib(Family),
    /// `ct status` and `ct state`.
    Conntrack,
    ClampMss,
    /// Tables of the bridge family.
    BridgeFilter,
    /// Matches of x_tables in chains of `iptables-nft`.
    Xtables,
}

impl Feature {
    pub const ALL: &[Self] = &[
        Self::Veth,
        Self::Bridge,
        Self::VlanFiltering,
        Self::PortIsolation,
        Self::NfTables,
        Self::Nat(Family::V4),
        Self::Nat(Family::V6),
        Self::Masquerade(Family::V4),
        Self::Masquerade(Family::V6),
        Self::Dnat(Family::V4),
        Self::Dnat(Family::V6),
        Self::Fib(Family::V4),
        Self::Fib(Family::V6),
        Self::Conntrack,
        Self::ClampMss,
        Self::BridgeFilter,
        Self::Xtables,
    ];
}

/// A feature, and the kernel's refusal when it lacks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    pub feature: Feature,
    pub outcome: Result<(), String>,
}

/// Tries everything. An error means that nothing could be tried.
pub fn all() -> kernel::Result<Vec<Trial>> {
    scratch::inside(|| {
        let mut route = RouteSocket::open()?;
        let mut netfilter = NetfilterSocket::open();
        let mut trials = Vec::new();
        for feature in Feature::ALL {
            let outcome = match (transaction(*feature), &mut netfilter) {
                (None, _) => try_link(&mut route, *feature).map_err(|error| error.to_string()),
                (Some(transaction), Ok(socket)) => {
                    nft::commit(socket, &transaction).map_err(|error| error.to_string())
                }
                (Some(_), Err(error)) => Err(error.to_string()),
            };
            trials.push(Trial { feature: *feature, outcome });
        }
        Ok(trials)
    })?
}

fn name(text: &str) -> IfName {
    text.parse().expect("a name written in this file")
}

fn try_link(socket: &mut RouteSocket, feature: Feature) -> kernel::Result<()> {
    let (bridge, plain) = (name("bridge0"), name("bridge1"));
    let new_bridge = |name, vlan_filtering| NewBridge { name, mac: None, mtu: None, vlan_filtering };
    match feature {
        Feature::Veth => {
            let (veth, other) = (name("veth0"), name("veth1"));
            let peer = Peer { name: &other, mac: None, mtu: None, netns: None };
            let veth = NewVeth { name: &veth, mtu: None, mac: None, up: false, master: None, peer };
            link::add_veth(socket, &veth)
        }
        Feature::Bridge => link::add_bridge(socket, &new_bridge(&plain, false)),
        Feature::VlanFiltering => link::add_bridge(socket, &new_bridge(&bridge, true)),
        _ => try_isolation(socket, &plain),
    }
}

/// A kernel that knows no isolation ignores the wish.
fn try_isolation(socket: &mut RouteSocket, bridge: &IfName) -> kernel::Result<()> {
    let lacking =
        || kernel::Error::new("bridge link set dev veth0 isolated on", rustix::io::Errno::OPNOTSUPP.into());
    let port = link::by_name(socket, "veth0")?.ok_or_else(lacking)?;
    let bridge = link::by_name(socket, bridge.as_str())?.ok_or_else(lacking)?;
    let join = link::Change { master: Some(bridge.index), ..link::Change::default() };
    link::change(socket, port.index, "veth0", &join)?;
    link::set_port(socket, port.index, "veth0", None, Some(true))?;
    let port = link::by_name(socket, "veth0")?;
    if port.and_then(|port| port.isolated) == Some(true) { Ok(()) } else { Err(lacking()) }
}

/// `None` for what is no matter of nf_tables. Each feature gets a table of its own: one that is refused takes no other along.
fn transaction(feature: Feature) -> Option<Transaction> {
    let filter = |family, rules| chain(feature, family, Kind::Filter, HookPoint::Forward, rules);
    let nat = |family, point, rules| chain(feature, ip_table(family), Kind::Nat, point, rules);
    Some(match feature {
        Feature::Veth | Feature::Bridge | Feature::VlanFiltering | Feature::PortIsolation => return None,
        Feature::NfTables => filter(TableFamily::Ip, vec![Rule::new([Expr::Counter, Expr::Accept])]),
        Feature::Nat(family) => nat(family, HookPoint::Prerouting, vec![]),
        Feature::Masquerade(family) => {
            let from = Expr::from(documentation(family));
            nat(family, HookPoint::Postrouting, vec![Rule::new([from, Expr::Masquerade])])
        }
        Feature::Fib(family) => {
            let rule = Rule::new([Expr::LocalDestination, Expr::Return]);
            chain(feature, ip_table(family), Kind::Filter, HookPoint::Prerouting, vec![rule])
        }
        Feature::Dnat(family) => dnat(feature, family),
        Feature::Conntrack => {
            let state = Expr::State(vec![CtState::Established, CtState::Related]);
            filter(TableFamily::Ip, vec![Rule::new([Expr::Dnatted, state, Expr::Accept])])
        }
        Feature::ClampMss => filter(TableFamily::Ip, vec![Rule::new([Expr::ClampMss])]),
        Feature::BridgeFilter => {
            let mac = Expr::Ether(Side::Source, Op::Ne, crate::net::Mac([2, 0, 0, 0, 0, 1]));
            let rule = Rule::new([mac, Expr::Drop]);
            chain(feature, TableFamily::Bridge, Kind::Filter, HookPoint::Prerouting, vec![rule])
        }
        Feature::Xtables => {
            let state = Expr::XtState(vec![CtState::Established, CtState::Related]);
            filter(TableFamily::Ip, vec![Rule::new([state, Expr::Accept])])
        }
    })
}

fn table(feature: Feature, family: TableFamily) -> Table {
    let name: String = format!("{feature:?}").chars().filter(char::is_ascii_alphanumeric).collect();
    Table::new(family, &name)
}

fn chain(
    feature: Feature,
    family: TableFamily,
    kind: Kind,
    point: HookPoint,
    rules: Vec<Rule>,
) -> Transaction {
    let table = table(feature, family);
    // Chains that rewrite sources stand behind all others; the kernel insists on an order only for these.
    let priority = if kind == Kind::Nat && point == HookPoint::Postrouting { 100 } else { -100 };
    let priority = if kind == Kind::Filter { 0 } else { priority };
    let mut commands = vec![
        Command::AddTable { table: table.clone(), comment: None },
        Command::AddChain { table: table.clone(), chain: Chain::base("trial", kind, point, priority) },
    ];
    let add = |rule| Command::AddRule { table: table.clone(), chain: "trial".to_owned(), rule };
    commands.extend(rules.into_iter().map(add));
    Transaction { commands }
}

fn dnat(feature: Feature, family: Family) -> Transaction {
    let address = if family == Family::V4 { DataType::Ipv4Addr } else { DataType::Ipv6Addr };
    let map =
        Set::map("ports", &[DataType::InetProto, DataType::InetService], &[address, DataType::InetService]);
    let fields = vec![Field::Protocol, Field::Port(Side::Destination)];
    let rule = Rule::new([Expr::Dnat { family, fields, map: map.name.clone() }]);
    let mut transaction = chain(feature, ip_table(family), Kind::Nat, HookPoint::Prerouting, vec![rule]);
    transaction.commands.insert(1, Command::AddSet { table: table(feature, ip_table(family)), set: map });
    transaction
}

fn ip_table(family: Family) -> TableFamily {
    if family == Family::V4 { TableFamily::Ip } else { TableFamily::Ip6 }
}

/// RFC 5737 and RFC 3849.
fn documentation(family: Family) -> IpNetwork {
    let text = if family == Family::V4 { "192.0.2.0/24" } else { "2001:db8::/32" };
    text.parse().expect("a network written in this line")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_of_the_packet_filter_is_tried_in_a_table_of_its_own() {
        let text = |feature| transaction(feature).unwrap().to_string();
        assert_eq!(
            text(Feature::Fib(Family::V6)),
            "add table ip6 FibV6\nadd chain ip6 FibV6 trial { type filter hook prerouting priority 0; policy accept; }\n\
             add rule ip6 FibV6 trial fib daddr type local return\n"
        );
        assert!(text(Feature::Dnat(Family::V4)).contains("dnat ip to meta l4proto . th dport map @ports"));
        let tables: std::collections::HashSet<_> = Feature::ALL
            .iter()
            .filter_map(|feature| transaction(*feature))
            .map(|transaction| transaction.to_string().lines().next().map(str::to_owned))
            .collect();
        assert_eq!(tables.len(), Feature::ALL.len() - 4);
    }
}
