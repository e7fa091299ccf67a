//! Rules for the node's name server: which of its packets are not tracked, and who does not learn of its address.
//!
//! Questions to it are neither tracked nor translated. So there is no entry for each of them, and a pod that has port 53 of
//! the node gets what is sent to the node's other addresses, not what is sent to the name server's. Its own address is the
//! same on every node: whoever is not behind a link of ours neither reaches it nor learns where it is. Rules never change;
//! what a network adds are elements of their sets. Everything is made in one transaction for each family.
//!
//! Where somebody else has port 53, questions are led to the port that the server has instead (`lead`); what pods ask of other
//! servers comes here where their network wants that (`intercept`).

pub mod intercept;
pub mod lead;

use std::net::{IpAddr, Ipv4Addr};

use super::claim;
use super::mark::OWNER;
use super::plan::NamesHave;
use super::rules::lock;
use super::session::Session;
use crate::kernel::nft::{
    self, Chain, Command, DataType, Datum, Element, Expr, Field, HookPoint, Kind, Listing, Op, Rule, Set,
    Side, Table, TableFamily, Transaction, Way,
};
use crate::kernel::{self, NetfilterSocket};
use crate::net::{DNS_PORT, Family, IfName};
use crate::spec::{Attachment, Protocol};

const PREROUTING: &str = "dns_prerouting";
const OUTPUT: &str = "dns_output";
const GUARD: &str = "dns_guard";
/// `NF_IP_PRI_RAW`, linux/netfilter_ipv4.h: before connections are tracked.
const PRIORITY_RAW: i32 = -300;
const PRIORITY_FILTER: i32 = 0;

fn ip() -> Table {
    Table::new(TableFamily::Ip, OWNER)
}

fn arp() -> Table {
    Table::new(TableFamily::Arp, OWNER)
}

/// Where it is asked.
fn services() -> Set {
    Set::new("dns_services", &[DataType::Ipv4Addr, DataType::InetProto, DataType::InetService])
}

/// Where it is asked, and what is asked there is led elsewhere: that takes a connection.
fn tracked() -> Set {
    Set { name: "dns_tracked".to_owned(), ..services() }
}

/// Addresses that every node has.
fn addresses() -> Set {
    Set::new("dns_addresses", &[DataType::Ipv4Addr])
}

/// Through which links such an address is asked for.
fn links() -> Set {
    Set::new("dns_links", &[DataType::Ipv4Addr, DataType::IfName])
}

fn service_elements(at: &[Ipv4Addr]) -> Vec<Element> {
    let of = |at: &Ipv4Addr, protocol: Protocol| {
        Element::of([
            Datum::Address(IpAddr::V4(*at)),
            Datum::Protocol(protocol.number()),
            Datum::Port(DNS_PORT),
        ])
    };
    at.iter().flat_map(|at| [of(at, Protocol::Udp), of(at, Protocol::Tcp)]).collect()
}

fn address_elements(address: Ipv4Addr) -> Vec<Element> {
    vec![Element::of([Datum::Address(IpAddr::V4(address))])]
}

fn link_elements(address: Ipv4Addr, names: &[IfName]) -> Vec<Element> {
    let of = |name: &IfName| Element::of([Datum::Address(IpAddr::V4(address)), Datum::IfName(name.clone())]);
    names.iter().map(of).collect()
}

fn with_loopback(link: &IfName) -> Vec<IfName> {
    vec!["lo".parse().expect("a name written in this line"), link.clone()]
}

/// Drops what is about such an address and comes in elsewhere.
fn guard_rule(target: Field) -> Rule {
    let lookup = |fields: Vec<Field>, op, set: Set| Expr::Lookup { fields, op, set: set.name };
    Rule::new([
        lookup(vec![target], Op::Eq, addresses()),
        lookup(vec![target, Field::Interface(Way::In)], Op::Ne, links()),
        Expr::Drop,
    ])
}

/// Of a packet to or from one of them.
fn is_in(set: Set, side: Side) -> Expr {
    let fields = vec![Field::Address(Family::V4, side), Field::Protocol, Field::Port(side)];
    Expr::Lookup { fields, op: Op::Eq, set: set.name }
}

/// The chains of `ip` with their rules.
fn chains() -> [(Chain, Vec<Rule>); 2] {
    let raw = |name, point| Chain::base(name, Kind::Filter, point, PRIORITY_RAW);
    let both = || {
        let untracked = |side| Rule::new([is_in(services(), side), Expr::NoTrack]);
        let led = Rule::new([is_in(tracked(), Side::Destination), Expr::Accept]);
        [led, untracked(Side::Destination), untracked(Side::Source)]
    };
    let guard = guard_rule(Field::Address(Family::V4, Side::Destination));
    [
        (raw(PREROUTING, HookPoint::Prerouting), std::iter::once(guard).chain(both()).collect()),
        (raw(OUTPUT, HookPoint::Output), both().into()),
    ]
}

fn guard_chain() -> (Chain, Vec<Rule>) {
    let chain = Chain::base(GUARD, Kind::Filter, HookPoint::Input, PRIORITY_FILTER);
    (chain, vec![guard_rule(Field::ArpTarget)])
}

/// Table, sets with these elements, and the chains that do not stand, whole.
fn transaction(
    table: &Table,
    sets: Vec<(Set, Vec<Element>)>,
    broken: Vec<(Chain, Vec<Rule>)>,
) -> Transaction {
    let mut commands = vec![Command::AddTable { table: table.clone(), comment: None }];
    for (set, elements) in sets {
        commands.push(Command::AddSet { table: table.clone(), set: set.clone() });
        if !elements.is_empty() {
            commands.push(Command::AddElements { table: table.clone(), set, elements });
        }
    }
    for (chain, rules) in broken {
        let name = chain.name.clone();
        commands.push(Command::AddChain { table: table.clone(), chain });
        commands.push(Command::FlushChain { table: table.clone(), chain: name.clone() });
        let add = |rule| Command::AddRule { table: table.clone(), chain: name.clone(), rule };
        commands.extend(rules.into_iter().map(add));
    }
    Transaction { commands }
}

/// All sets, because the rules look into all of them.
fn rules_transaction(
    link: &IfName,
    own: Option<Ipv4Addr>,
    gateways: &[Ipv4Addr],
    broken: Vec<(Chain, Vec<Rule>)>,
) -> Transaction {
    let at: Vec<_> = own.iter().chain(gateways).copied().collect();
    let of_links = own.map(|own| link_elements(own, &with_loopback(link)));
    let sets = vec![
        (services(), service_elements(&at)),
        (tracked(), Vec::new()),
        (addresses(), own.map(address_elements).unwrap_or_default()),
        (links(), of_links.unwrap_or_default()),
    ];
    transaction(&ip(), sets, broken)
}

fn guard_transaction(link: &IfName, address: Ipv4Addr, broken: Vec<(Chain, Vec<Rule>)>) -> Transaction {
    let links_of = link_elements(address, std::slice::from_ref(link));
    transaction(&arp(), vec![(addresses(), address_elements(address)), (links(), links_of)], broken)
}

/// Whether the chain has these rules and no other.
fn stands(
    socket: &mut NetfilterSocket,
    listing: &mut Listing,
    table: &Table,
    (chain, rules): &(Chain, Vec<Rule>),
) -> kernel::Result<bool> {
    let has = listing.rules(socket, table, &chain.name)?;
    Ok(has.len() == rules.len() && has.iter().zip(rules).all(|(has, rule)| has.is(table.family, rule)))
}

/// Those that do not stand: a rule that is added twice is there twice.
fn broken(
    socket: &mut NetfilterSocket,
    table: &Table,
    chains: impl IntoIterator<Item = (Chain, Vec<Rule>)>,
) -> kernel::Result<Vec<(Chain, Vec<Rule>)>> {
    let mut broken = Vec::new();
    for chain in chains {
        if !stands(socket, &mut Listing::default(), table, &chain)? {
            broken.push(chain);
        }
    }
    Ok(broken)
}

fn has_elements(
    socket: &mut NetfilterSocket,
    table: &Table,
    set: &Set,
    wanted: &[Element],
) -> kernel::Result<bool> {
    Ok(are_among(wanted, &nft::elements(socket, table, set)?))
}

/// Remarks do not count.
fn are_among(wanted: &[Element], has: &[Element]) -> bool {
    let is = |has: &Element, wanted: &Element| {
        (&has.key, &has.key_end, &has.value) == (&wanted.key, &wanted.key_end, &wanted.value)
    };
    wanted.iter().all(|wanted| has.iter().any(|has| is(has, wanted)))
}

/// What stands of the rules that `want` needs. A kernel without a family has nothing to guard there.
///
/// Whether somebody else uses the address is asked only where the link has it not: what a pod finds is not taken away from it,
/// and the usual ADD need not look around.
pub(super) fn observe(
    session: &mut Session,
    listing: &mut Listing,
    want: &Attachment,
    dns: Ipv4Addr,
    is_there: bool,
) -> kernel::Result<NamesHave> {
    let Some(gateway) = &want.gateway else { return Ok(NamesHave::default()) };
    let link = gateway.link(&want.bridge);
    let uses = if is_there { Vec::new() } else { claim::around(session, dns)? };
    let taken = claim::taken(dns, link.as_str(), &uses);
    // The address that nobody else has, where there is one.
    let own = Some(dns).filter(|_| taken.is_none());
    let gateways = gateway.addresses.iter().filter_map(|address| match address.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let at: Vec<_> = own.into_iter().chain(gateways).collect();
    let socket = session.netfilter()?;
    let (ip, arp) = (ip(), arp());
    let mut rules = has_elements(socket, &ip, &services(), &service_elements(&at))?;
    if own.is_some() {
        rules = rules
            && has_elements(socket, &ip, &addresses(), &address_elements(dns))?
            && has_elements(socket, &ip, &links(), &link_elements(dns, &with_loopback(link)))?;
    }
    // Without an address there is nothing that rules would be for.
    for chain in chains().into_iter().filter(|_| !at.is_empty()) {
        rules = rules && stands(socket, listing, &ip, &chain)?;
    }
    if taken.is_some() {
        let is_shared = claim::is_shared(dns, link.as_str(), &uses);
        let kept_from_others = !is_shared && !released(socket, dns)?.is_empty();
        return Ok(NamesHave { rules, taken, kept_from_others, ..NamesHave::default() });
    }
    let guard = has_elements(socket, &arp, &addresses(), &address_elements(dns))?
        && has_elements(socket, &arp, &links(), &link_elements(dns, std::slice::from_ref(link)))?
        && stands(socket, listing, &arp, &guard_chain())?;
    Ok(NamesHave { rules, guard, ..NamesHave::default() })
}

/// What has to go so that whoever else uses the address is let alone: all that is about it, also of a link that is gone.
fn released(socket: &mut NetfilterSocket, address: Ipv4Addr) -> kernel::Result<Vec<Command>> {
    let is_about = |element: &Element| element.key.first() == Some(&Datum::Address(IpAddr::V4(address)));
    let mut commands = Vec::new();
    for table in [ip(), arp()] {
        for set in [addresses(), links(), services(), tracked(), lead::map()] {
            let mut elements = nft::elements(socket, &table, &set)?;
            elements.retain(is_about);
            if !elements.is_empty() {
                commands.push(Command::DeleteElements { table: table.clone(), set, elements });
            }
        }
    }
    Ok(commands)
}

/// Nothing is dropped any more that is for whoever else uses the address.
pub(super) fn release(socket: &mut NetfilterSocket, address: Ipv4Addr) -> kernel::Result<()> {
    let _lock = lock()?;
    let commands = released(socket, address)?;
    nft::commit(socket, &Transaction { commands })
}

/// Under the node's lock, after another look.
pub(super) fn add_rules(
    socket: &mut NetfilterSocket,
    link: &IfName,
    own: Option<Ipv4Addr>,
    gateways: &[Ipv4Addr],
) -> kernel::Result<()> {
    let _lock = lock()?;
    let broken = broken(socket, &ip(), chains())?;
    nft::commit(socket, &rules_transaction(link, own, gateways, broken))
}

/// The same for neighbours.
pub(super) fn add_guard(
    socket: &mut NetfilterSocket,
    link: &IfName,
    address: Ipv4Addr,
) -> kernel::Result<()> {
    let _lock = lock()?;
    let broken = broken(socket, &arp(), [guard_chain()])?;
    nft::commit(socket, &guard_transaction(link, address, broken))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 2);

    #[test]
    fn questions_are_not_tracked_and_nobody_else_reaches_the_address() {
        let gateways = [Ipv4Addr::new(10, 38, 0, 1)];
        let link = "smartnet0".parse().unwrap();
        let text = rules_transaction(&link, Some(OWN), &gateways, chains().into()).to_string();
        assert_eq!(
            text,
            "add table ip smarter-cni\n\
             add set ip smarter-cni dns_services { type ipv4_addr . inet_proto . inet_service; }\n\
             add element ip smarter-cni dns_services { 169.254.0.2 . udp . 53, 169.254.0.2 . tcp . 53, 10.38.0.1 . udp . 53, \
             10.38.0.1 . tcp . 53 }\n\
             add set ip smarter-cni dns_tracked { type ipv4_addr . inet_proto . inet_service; }\n\
             add set ip smarter-cni dns_addresses { type ipv4_addr; }\n\
             add element ip smarter-cni dns_addresses { 169.254.0.2 }\n\
             add set ip smarter-cni dns_links { type ipv4_addr . ifname; }\n\
             add element ip smarter-cni dns_links { 169.254.0.2 . \"lo\", 169.254.0.2 . \"smartnet0\" }\n\
             add chain ip smarter-cni dns_prerouting { type filter hook prerouting priority -300; policy accept; }\n\
             flush chain ip smarter-cni dns_prerouting\n\
             add rule ip smarter-cni dns_prerouting ip daddr @dns_addresses ip daddr . iifname != @dns_links drop\n\
             add rule ip smarter-cni dns_prerouting ip daddr . meta l4proto . th dport @dns_tracked accept\n\
             add rule ip smarter-cni dns_prerouting ip daddr . meta l4proto . th dport @dns_services notrack\n\
             add rule ip smarter-cni dns_prerouting ip saddr . meta l4proto . th sport @dns_services notrack\n\
             add chain ip smarter-cni dns_output { type filter hook output priority -300; policy accept; }\n\
             flush chain ip smarter-cni dns_output\n\
             add rule ip smarter-cni dns_output ip daddr . meta l4proto . th dport @dns_tracked accept\n\
             add rule ip smarter-cni dns_output ip daddr . meta l4proto . th dport @dns_services notrack\n\
             add rule ip smarter-cni dns_output ip saddr . meta l4proto . th sport @dns_services notrack\n"
        );
    }

    #[test]
    fn nothing_is_kept_from_whoever_else_uses_the_address() {
        let link = "smartnet0".parse().unwrap();
        let text =
            rules_transaction(&link, None, &[Ipv4Addr::new(10, 38, 0, 1)], chains().into()).to_string();
        assert!(text.contains("dns_services { 10.38.0.1 . udp . 53, 10.38.0.1 . tcp . 53 }\n"), "{text}");
        assert!(text.contains("add set ip smarter-cni dns_links"), "the rules look into it: {text}");
        assert!(!text.contains("169.254"), "{text}");
    }

    #[test]
    fn neighbours_elsewhere_get_no_answer() {
        let text = guard_transaction(&"smartnet0".parse().unwrap(), OWN, vec![guard_chain()]).to_string();
        assert!(
            text.ends_with(
                "add chain arp smarter-cni dns_guard { type filter hook input priority 0; policy accept; }\n\
                 flush chain arp smarter-cni dns_guard\n\
                 add rule arp smarter-cni dns_guard arp daddr ip @dns_addresses arp daddr ip . iifname != @dns_links drop\n"
            ),
            "{text}"
        );
    }
}
