//! Our nftables: which tables, chains, sets and rules there are, and what an attachment adds to them.
//!
//! Masquerading is one rule per network and subnet, nothing per pod: pods cannot leak rules, and the cost of a pod does not
//! grow with their number. The spoof check is two set elements per pod. What one pod adds is added in one transaction.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::mark::OWNER;
use crate::kernel::nft::{
    self, Chain, Command, DataType, Datum, Element, Expr, Field, HookPoint, Kind, Listing, Op, Rule, Set,
    Side, Table, TableFamily, Transaction, Way,
};
use crate::kernel::{self, NetfilterSocket};
use crate::net::{IfName, Mac, stable_hash};
use crate::state::lock::NodeLock;

/// Not `masquerade`: that is a word of nft's language, and `nft -f` would not read back what `nft list` prints.
pub(super) const MASQUERADE: &str = "egress";
pub(super) const SPOOF_CHECK: &str = "spoof_check";
/// `NF_IP_PRI_NAT_SRC`, linux/netfilter_ipv4.h: where source addresses are rewritten.
const PRIORITY_SRCNAT: i32 = 100;
/// `NF_BR_PRI_NAT_DST_BRIDGED`, linux/netfilter_bridge.h: before anything else looks at a pod's frame.
const PRIORITY_FIRST: i32 = -300;
/// So often the rules are looked at again when they vanish while they are changed.
const ATTEMPTS: usize = 3;
/// A comment has 127 bytes; a subnet takes up to 43.
const NETWORK_WORDS: usize = 80;

/// `ip saddr <subnet> ip daddr != <subnet> ip daddr != <multicast> masquerade`: packets within the subnet, and those for
/// groups, keep the pod's address.
pub fn masquerade_rule(network: &str, subnet: IpNetwork) -> Rule {
    let multicast = if subnet.is_ipv4() { "224.0.0.0/4" } else { "ff00::/8" };
    let multicast = multicast.parse().expect("a network written in this line");
    Rule::new([Expr::from(subnet), Expr::not_to(subnet), Expr::not_to(multicast), Expr::Masquerade])
        .comment(&masquerade_comment(network))
}

/// Whether a flow should be masqueraded by the rule for the subnet and is not: `from` is where it began, `to` who answers,
/// `answers_to` whom they answer.
pub fn lacks_masquerade(subnet: IpNetwork, from: IpAddr, to: IpAddr, answers_to: IpAddr) -> bool {
    let multicast = to.is_multicast() || matches!(to, IpAddr::V4(to) if to.is_broadcast());
    subnet.contains(from) && !subnet.contains(to) && !multicast && answers_to == from
}

/// The network's name, or what still tells it apart.
pub fn masquerade_comment(network: &str) -> String {
    if network.len() <= NETWORK_WORDS {
        return network.to_owned();
    }
    format!("{}~{:016x}", &network[..NETWORK_WORDS - 17], stable_hash(&[network]))
}

fn masquerade_table(subnet: IpNetwork) -> Table {
    Table::new(if subnet.is_ipv4() { TableFamily::Ip } else { TableFamily::Ip6 }, OWNER)
}

/// The whole of what `add_masquerade` commits. Adding what is there already is nothing, but for the rule.
pub fn masquerade_transaction(network: &str, subnet: IpNetwork) -> Transaction {
    let table = masquerade_table(subnet);
    let chain = Chain::base(MASQUERADE, Kind::Nat, HookPoint::Postrouting, PRIORITY_SRCNAT);
    Transaction {
        commands: vec![
            Command::AddTable { table: table.clone(), comment: None },
            Command::AddChain { table: table.clone(), chain },
            Command::AddRule { table, chain: MASQUERADE.to_owned(), rule: masquerade_rule(network, subnet) },
        ],
    }
}

pub fn has_masquerade(
    socket: &mut NetfilterSocket,
    listing: &mut Listing,
    network: &str,
    subnet: IpNetwork,
) -> kernel::Result<bool> {
    let table = masquerade_table(subnet);
    let rule = masquerade_rule(network, subnet);
    Ok(listing.rules(socket, &table, MASQUERADE)?.iter().any(|has| has.is(table.family, &rule)))
}

/// A rule that is added twice is there twice, so two first pods of a network must not both add it.
pub fn add_masquerade(socket: &mut NetfilterSocket, network: &str, subnet: IpNetwork) -> kernel::Result<()> {
    let _lock = lock()?;
    if has_masquerade(socket, &mut Listing::default(), network, subnet)? {
        return Ok(());
    }
    nft::commit(socket, &masquerade_transaction(network, subnet))
}

pub(super) fn lock() -> kernel::Result<NodeLock> {
    NodeLock::take().map_err(|error| {
        let (operation, cause) = error.into_parts();
        // Whatever its number is, it is about a file and not about what the kernel was asked.
        let kind = if cause.kind() == std::io::ErrorKind::TimedOut {
            cause.kind()
        } else {
            std::io::ErrorKind::Other
        };
        kernel::Error::new(operation, std::io::Error::new(kind, cause))
    })
}

pub(super) fn spoof_table() -> Table {
    Table::new(TableFamily::Bridge, OWNER)
}

/// Ports whose frames are checked.
fn spoof_ports() -> Set {
    Set::new("spoof_ports", &[DataType::IfName])
}

/// The source MACs that such a port may use.
pub(super) fn spoof_allowed() -> Set {
    Set::new("spoof_allowed", &[DataType::IfName, DataType::EtherAddr])
}

pub(super) fn spoof_rule() -> Rule {
    let port = Field::Interface(Way::In);
    Rule::new([
        Expr::Lookup { fields: vec![port], op: Op::Eq, set: spoof_ports().name },
        Expr::Lookup {
            fields: vec![port, Field::Ether(Side::Source)],
            op: Op::Ne,
            set: spoof_allowed().name,
        },
        Expr::Drop,
    ])
}

/// Table, sets, chain and rule for all ports.
pub fn spoof_base_transaction() -> Transaction {
    let table = spoof_table();
    let chain = Chain::base(SPOOF_CHECK, Kind::Filter, HookPoint::Prerouting, PRIORITY_FIRST);
    Transaction {
        commands: vec![
            Command::AddTable { table: table.clone(), comment: None },
            Command::AddSet { table: table.clone(), set: spoof_ports() },
            Command::AddSet { table: table.clone(), set: spoof_allowed() },
            Command::AddChain { table: table.clone(), chain },
            Command::AddRule { table, chain: SPOOF_CHECK.to_owned(), rule: spoof_rule() },
        ],
    }
}

fn port_key(port: &IfName) -> Vec<Datum> {
    vec![Datum::IfName(port.clone())]
}

fn allowed_key(port: &IfName, mac: Mac) -> Vec<Datum> {
    vec![Datum::IfName(port.clone()), Datum::Ether(mac)]
}

pub fn has_spoof_rule(socket: &mut NetfilterSocket) -> kernel::Result<bool> {
    let rule = spoof_rule();
    Ok(nft::rules(socket, &spoof_table(), SPOOF_CHECK)?.iter().any(|has| has.is(TableFamily::Bridge, &rule)))
}

pub fn has_spoof_check(socket: &mut NetfilterSocket, port: &IfName, mac: Mac) -> kernel::Result<bool> {
    let table = spoof_table();
    Ok(nft::element(socket, &table, &spoof_ports(), &port_key(port))?.is_some()
        && nft::element(socket, &table, &spoof_allowed(), &allowed_key(port, mac))?.is_some())
}

/// A rule that is added twice is there twice, so two first pods must not both add it.
pub fn add_spoof_rule(socket: &mut NetfilterSocket) -> kernel::Result<()> {
    let _lock = lock()?;
    if has_spoof_rule(socket)? {
        return Ok(());
    }
    nft::commit(socket, &spoof_base_transaction())
}

/// The allowed MAC first: a port that is checked without one could say nothing. Under the node's lock, so that whoever
/// removes what nobody wants sees either no element or the record that wants it.
pub fn add_spoof_check(socket: &mut NetfilterSocket, port: &IfName, mac: Mac) -> kernel::Result<()> {
    let _lock = lock()?;
    let table = spoof_table();
    let allowed = Element::of(allowed_key(port, mac));
    let elements = [
        Command::AddElements { table: table.clone(), set: spoof_allowed(), elements: vec![allowed] },
        Command::AddElements { table, set: spoof_ports(), elements: vec![Element::of(port_key(port))] },
    ];
    let mut attempt = 0;
    loop {
        let base = if has_spoof_rule(socket)? { Vec::new() } else { spoof_base_transaction().commands };
        match nft::commit(socket, &base.into_iter().chain(elements.clone()).collect()) {
            // Somebody flushed the rule set between the look and the change.
            Err(error) if error.is_missing() && attempt < ATTEMPTS => attempt += 1,
            other => return other,
        }
    }
}

/// Every port that stands in one of the two sets.
pub fn checked_ports(socket: &mut NetfilterSocket) -> kernel::Result<BTreeSet<IfName>> {
    let mut ports = BTreeSet::new();
    for set in [spoof_ports(), spoof_allowed()] {
        for element in nft::elements(socket, &spoof_table(), &set)? {
            if let Some(Datum::IfName(port)) = element.key.first() {
                ports.insert(port.clone());
            }
        }
    }
    Ok(ports)
}

/// Whatever MAC the port was allowed; nothing when it never was.
pub fn remove_spoof_check(socket: &mut NetfilterSocket, port: &IfName) -> kernel::Result<()> {
    let table = spoof_table();
    let is_ports = |element: &Element| element.key.first() == Some(&Datum::IfName(port.clone()));
    let mut commands = Vec::new();
    for set in [spoof_ports(), spoof_allowed()] {
        let elements = nft::elements(socket, &table, &set)?.into_iter().filter(is_ports).collect::<Vec<_>>();
        if !elements.is_empty() {
            commands.push(Command::DeleteElements { table: table.clone(), set, elements });
        }
    }
    nft::commit(socket, &Transaction { commands })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_masqueraded_by_one_rule_per_subnet() {
        assert_eq!(
            masquerade_transaction("smartnet", "172.38.0.0/16".parse().unwrap()).to_string(),
            "add table ip smarter-cni\n\
             add chain ip smarter-cni egress { type nat hook postrouting priority 100; policy accept; }\n\
             add rule ip smarter-cni egress ip saddr 172.38.0.0/16 ip daddr != 172.38.0.0/16 ip daddr != 224.0.0.0/4 \
             masquerade comment \"smartnet\"\n"
        );
        assert_eq!(
            masquerade_transaction("smartnet", "fd00:26::/64".parse().unwrap()).to_string().lines().last(),
            Some(
                "add rule ip6 smarter-cni egress ip6 saddr fd00:26::/64 ip6 daddr != fd00:26::/64 ip6 daddr != ff00::/8 \
                 masquerade comment \"smartnet\""
            )
        );
    }

    #[test]
    fn a_flow_that_should_have_another_source_is_told_from_those_that_need_none() {
        let lacks = |from: &str, to: &str, answers_to: &str| {
            let ip = |text: &str| text.parse().unwrap();
            lacks_masquerade("10.1.2.0/24".parse().unwrap(), ip(from), ip(to), ip(answers_to))
        };
        assert!(lacks("10.1.2.5", "192.0.2.2", "10.1.2.5"));
        assert!(!lacks("10.1.2.5", "192.0.2.2", "192.0.2.1"), "it is masqueraded");
        assert!(!lacks("10.1.2.5", "10.1.2.6", "10.1.2.5"), "a neighbour sees the pod itself");
        assert!(!lacks("192.0.2.2", "10.1.2.5", "192.0.2.2"), "it came from outside");
        assert!(!lacks("10.1.2.5", "224.0.0.251", "10.1.2.5"));
    }

    #[test]
    fn long_network_names_stay_apart_in_comments() {
        let (a, b) = (format!("{}a", "x".repeat(200)), format!("{}b", "x".repeat(200)));
        assert_eq!(masquerade_comment(&a).len(), NETWORK_WORDS);
        assert_ne!(masquerade_comment(&a), masquerade_comment(&b));
    }

    #[test]
    fn frames_with_a_foreign_source_are_dropped_at_checked_ports() {
        assert_eq!(
            spoof_base_transaction().to_string(),
            "add table bridge smarter-cni\n\
             add set bridge smarter-cni spoof_ports { type ifname; }\n\
             add set bridge smarter-cni spoof_allowed { type ifname . ether_addr; }\n\
             add chain bridge smarter-cni spoof_check { type filter hook prerouting priority -300; policy accept; }\n\
             add rule bridge smarter-cni spoof_check iifname @spoof_ports iifname . ether saddr != @spoof_allowed drop\n"
        );
    }
}
