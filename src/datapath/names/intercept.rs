//! Leads what pods of a network ask of other name servers to the node's own: for networks that want it, because their
//! pods were told of others and cannot be told anew.
//!
//! At the gateway, and at a port of its own: what is asked at port 53 there is not tracked, and only a connection knows whom
//! the pod believes to have asked. What pods ask each other stays among them. Refuses to know who answers.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{broken, has_elements, stands, transaction};
use crate::datapath::hostports::tables::{PRIORITY_DSTNAT, address, table};
use crate::datapath::rules::lock;
use crate::kernel::nft::{
    self, Chain, Command, DataType, Datum, Element, Expr, Field, HookPoint, Kind, Listing, Op, Rule, Set,
    Side, Transaction, Way,
};
use crate::kernel::{self, NetfilterSocket};
use crate::net::{DNS_INTERCEPT_PORT, DNS_PORT, Family, IfName, network_of, overlap};
use crate::spec::Protocol;

const CHAIN: &str = "dns_intercept_prerouting";

/// Where what comes in by a link is led.
fn map(family: Family) -> Set {
    let key = [DataType::IfName, DataType::InetProto, DataType::InetService];
    Set::map("dns_intercept", &key, &[address(family), DataType::InetService])
}

/// Networks of pods.
fn inside(family: Family) -> Set {
    Set { interval: true, ..Set::new("dns_inside", &[address(family)]) }
}

fn chain(family: Family) -> (Chain, Vec<Rule>) {
    let to = Side::Destination;
    let elsewhere =
        Expr::Lookup { fields: vec![Field::Address(family, to)], op: Op::Ne, set: inside(family).name };
    let fields = vec![Field::Interface(Way::In), Field::Protocol, Field::Port(to)];
    let rule = Rule::new([elsewhere, Expr::Dnat { family, fields, map: map(family).name }]);
    // Before host ports: one with port 53 would get what pods ask of the node.
    (Chain::base(CHAIN, Kind::Nat, HookPoint::Prerouting, PRIORITY_DSTNAT - 1), vec![rule])
}

fn elements(link: &IfName, gateway: IpAddr) -> Vec<Element> {
    let of = |protocol: Protocol| {
        let key = [Datum::IfName(link.clone()), Datum::Protocol(protocol.number()), Datum::Port(DNS_PORT)];
        Element::mapping(key, [Datum::Address(gateway), Datum::Port(DNS_INTERCEPT_PORT)])
    };
    vec![of(Protocol::Udp), of(Protocol::Tcp)]
}

fn is_of(element: &Element, link: &IfName) -> bool {
    element.key.first() == Some(&Datum::IfName(link.clone()))
}

/// The network of an element of `inside`, where it is one.
fn network(element: &Element) -> Option<IpNetwork> {
    let (Some(Datum::Address(first)), Some([Datum::Address(last)])) =
        (element.key.first(), element.key_end.as_deref())
    else {
        return None;
    };
    let most = if first.is_ipv4() { 32 } else { 128 };
    (0..=most)
        .filter_map(|prefix| IpNetwork::new(*first, prefix).ok())
        .find(|network| network.network() == *first && network.broadcast() == *last)
}

/// Whether what pods behind the link ask elsewhere comes to this gateway, which has the prefix of their network.
pub(in crate::datapath) fn stands_for(
    socket: &mut NetfilterSocket,
    listing: &mut Listing,
    link: &IfName,
    gateway: IpNetwork,
) -> kernel::Result<bool> {
    let family = Family::of(gateway.ip());
    let (table, network) = (table(family), Element::network(network_of(gateway)));
    Ok(has_elements(socket, &table, &map(family), &elements(link, gateway.ip()))?
        && has_elements(socket, &table, &inside(family), &[network])?
        && stands(socket, listing, &table, &chain(family))?)
}

/// Under the node's lock. What stood there of an earlier gateway goes.
pub(in crate::datapath) fn intercept(
    socket: &mut NetfilterSocket,
    link: &IfName,
    gateway: IpNetwork,
) -> kernel::Result<()> {
    let _lock = lock()?;
    let family = Family::of(gateway.ip());
    let own = network_of(gateway);
    let mut commands =
        leaving(socket, family, |element| is_of(element, link), |other| other != own && overlap(other, own))?;
    let broken = broken(socket, &table(family), [chain(family)])?;
    commands.extend(intercepting(link, gateway, broken).commands);
    nft::commit(socket, &Transaction { commands })
}

fn intercepting(link: &IfName, gateway: IpNetwork, broken: Vec<(Chain, Vec<Rule>)>) -> Transaction {
    let family = Family::of(gateway.ip());
    let sets = vec![
        (inside(family), vec![Element::network(network_of(gateway))]),
        (map(family), elements(link, gateway.ip())),
    ];
    transaction(&table(family), sets, broken)
}

/// The deletion of those elements of the map and of those networks.
fn leaving(
    socket: &mut NetfilterSocket,
    family: Family,
    goes: impl Fn(&Element) -> bool,
    leaves: impl Fn(IpNetwork) -> bool,
) -> kernel::Result<Vec<Command>> {
    let mut found = nft::elements(socket, &table(family), &map(family))?;
    found.retain(goes);
    let mut networks = nft::elements(socket, &table(family), &inside(family))?;
    networks.retain(|element| network(element).is_some_and(&leaves));
    let sets = [(map(family), found), (inside(family), networks)];
    let some = sets.into_iter().filter(|(_, elements)| !elements.is_empty());
    Ok(some.map(|(set, elements)| Command::DeleteElements { table: table(family), set, elements }).collect())
}

/// Links whose pods do not ask whom they believe to ask.
pub(in crate::datapath) fn links(
    socket: &mut NetfilterSocket,
    family: Family,
) -> kernel::Result<Vec<IfName>> {
    let found = nft::elements(socket, &table(family), &map(family))?;
    let name = |element: &Element| match element.key.first() {
        Some(Datum::IfName(name)) => Some(name.clone()),
        _ => None,
    };
    let mut links: Vec<_> = found.iter().filter_map(name).collect();
    links.sort_unstable();
    links.dedup();
    Ok(links)
}

/// Whoever calls holds the node's lock.
pub(in crate::datapath) fn remove(
    socket: &mut NetfilterSocket,
    family: Family,
    link: &IfName,
) -> kernel::Result<()> {
    let found = nft::elements(socket, &table(family), &map(family))?;
    let gateways: Vec<IpAddr> = found
        .iter()
        .filter(|element| is_of(element, link))
        .filter_map(|element| match element.value.as_deref() {
            Some([Datum::Address(gateway), _]) => Some(*gateway),
            _ => None,
        })
        .collect();
    let commands = leaving(
        socket,
        family,
        |element| is_of(element, link),
        |network| gateways.iter().any(|gateway| network.contains(*gateway)),
    )?;
    nft::commit(socket, &Transaction { commands })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_to_others_are_led_to_the_gateway() {
        let text = |gateway: &str| {
            let gateway: IpNetwork = gateway.parse().unwrap();
            let chain = chain(Family::of(gateway.ip()));
            intercepting(&"smartnet0".parse().unwrap(), gateway, vec![chain]).to_string()
        };
        assert_eq!(
            text("10.38.0.1/16"),
            "add table ip smarter-cni\n\
             add set ip smarter-cni dns_inside { type ipv4_addr; flags interval; }\n\
             add element ip smarter-cni dns_inside { 10.38.0.0/16 }\n\
             add map ip smarter-cni dns_intercept { type ifname . inet_proto . inet_service : ipv4_addr . inet_service; }\n\
             add element ip smarter-cni dns_intercept { \"smartnet0\" . udp . 53 : 10.38.0.1 . 9053, \"smartnet0\" . tcp . 53 : \
             10.38.0.1 . 9053 }\n\
             add chain ip smarter-cni dns_intercept_prerouting { type nat hook prerouting priority -101; policy accept; }\n\
             flush chain ip smarter-cni dns_intercept_prerouting\n\
             add rule ip smarter-cni dns_intercept_prerouting ip daddr != @dns_inside dnat ip to iifname . meta l4proto . th \
             dport map @dns_intercept\n"
        );
        let v6 = text("fd00:38::1/64");
        assert!(v6.contains("dns_inside { fd00:38::/64 }") && v6.contains("dnat ip6 to iifname"), "{v6}");
    }

    #[test]
    fn a_network_is_read_back() {
        for text in ["10.38.0.0/16", "10.38.0.1/32", "fd00::/64", "0.0.0.0/0"] {
            let wanted: IpNetwork = text.parse().unwrap();
            assert_eq!(network(&Element::network(wanted)), Some(wanted));
        }
        assert_eq!(network(&Element::of([Datum::Port(1)])), None);
    }
}
