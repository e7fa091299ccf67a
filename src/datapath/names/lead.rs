//! Leads what is asked at port 53 of an address of ours to the port that the name server has instead, while somebody else
//! has port 53 of all addresses.
//!
//! A translation of the destination port, of these packets alone: so they are tracked, which nothing else that is asked
//! here is. Nothing but the port changes, so that no answer comes from another address. The chains come before those of host
//! ports: a pod with host port 53 gets none of it. Refuses to know who serves at which port.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use super::{are_among, broken, ip, service_elements, stands, tracked, transaction};
use crate::datapath::hostports::tables::PRIORITY_DSTNAT;
use crate::datapath::rules::lock;
use crate::kernel::nft::{
    self, Chain, Command, DataType, Datum, Element, Expr, Field, HookPoint, Kind, Listing, Rule, Set, Side,
    Transaction,
};
use crate::kernel::{self, NetfilterSocket};
use crate::net::Family;

const PREROUTING: &str = "dns_lead_prerouting";
const OUTPUT: &str = "dns_lead_output";

pub(super) fn map() -> Set {
    let service = [DataType::Ipv4Addr, DataType::InetProto, DataType::InetService];
    Set::map("dns_lead", &service, &[DataType::Ipv4Addr, DataType::InetService])
}

fn elements(address: Ipv4Addr, port: u16) -> Vec<Element> {
    let to = [Datum::Address(IpAddr::V4(address)), Datum::Port(port)];
    service_elements(&[address]).into_iter().map(|from| Element::mapping(from.key, to.clone())).collect()
}

fn chains() -> [(Chain, Vec<Rule>); 2] {
    let to = Side::Destination;
    let fields = || vec![Field::Address(Family::V4, to), Field::Protocol, Field::Port(to)];
    let rule = || Rule::new([Expr::Dnat { family: Family::V4, fields: fields(), map: map().name }]);
    let nat = |name, point| Chain::base(name, Kind::Nat, point, PRIORITY_DSTNAT - 1);
    [(nat(PREROUTING, HookPoint::Prerouting), vec![rule()]), (nat(OUTPUT, HookPoint::Output), vec![rule()])]
}

/// The addresses whose questions are led elsewhere, with the port. One whose rules are gone is not among them.
pub(in crate::datapath) fn led(socket: &mut NetfilterSocket) -> kernel::Result<BTreeMap<Ipv4Addr, u16>> {
    let found = nft::elements(socket, &ip(), &map())?;
    if found.is_empty() {
        return Ok(BTreeMap::new());
    }
    let whole = nft::elements(socket, &ip(), &tracked())?;
    let listing = &mut Listing::default();
    for chain in chains() {
        if !stands(socket, listing, &ip(), &chain)? {
            return Ok(BTreeMap::new());
        }
    }
    let led = |address: Ipv4Addr, port| {
        are_among(&elements(address, port), &found) && are_among(&service_elements(&[address]), &whole)
    };
    let of = |element: &Element| match (element.key.first(), element.value.as_deref()) {
        (Some(Datum::Address(IpAddr::V4(address))), Some([Datum::Address(_), Datum::Port(port)])) => {
            Some((*address, *port))
        }
        _ => None,
    };
    Ok(found.iter().filter_map(of).filter(|(address, port)| led(*address, *port)).collect())
}

/// The same, for whoever has no conversation with the kernel yet.
pub fn led_here() -> kernel::Result<BTreeMap<Ipv4Addr, u16>> {
    led(&mut NetfilterSocket::open()?)
}

/// What is asked of the address is led to the port, or no longer anywhere.
pub(in crate::datapath) fn lead(
    socket: &mut NetfilterSocket,
    address: Ipv4Addr,
    port: Option<u16>,
) -> kernel::Result<()> {
    let _lock = lock()?;
    let is_about = |element: &Element| element.key.first() == Some(&Datum::Address(IpAddr::V4(address)));
    let mut commands = Vec::new();
    for set in [tracked(), map()] {
        let mut elements = nft::elements(socket, &ip(), &set)?;
        elements.retain(is_about);
        if !elements.is_empty() {
            commands.push(Command::DeleteElements { table: ip(), set, elements });
        }
    }
    if let Some(port) = port {
        let broken = broken(socket, &ip(), chains())?;
        commands.extend(leading(address, port, broken).commands);
    }
    nft::commit(socket, &Transaction { commands })
}

fn leading(address: Ipv4Addr, port: u16, broken: Vec<(Chain, Vec<Rule>)>) -> Transaction {
    let sets = vec![(tracked(), service_elements(&[address])), (map(), elements(address, port))];
    transaction(&ip(), sets, broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_led_to_another_port_of_the_same_address() {
        let text = leading(Ipv4Addr::new(169, 254, 0, 2), 9053, chains().into()).to_string();
        assert_eq!(
            text,
            "add table ip smarter-cni\n\
             add set ip smarter-cni dns_tracked { type ipv4_addr . inet_proto . inet_service; }\n\
             add element ip smarter-cni dns_tracked { 169.254.0.2 . udp . 53, 169.254.0.2 . tcp . 53 }\n\
             add map ip smarter-cni dns_lead { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }\n\
             add element ip smarter-cni dns_lead { 169.254.0.2 . udp . 53 : 169.254.0.2 . 9053, 169.254.0.2 . tcp . 53 : \
             169.254.0.2 . 9053 }\n\
             add chain ip smarter-cni dns_lead_prerouting { type nat hook prerouting priority -101; policy accept; }\n\
             flush chain ip smarter-cni dns_lead_prerouting\n\
             add rule ip smarter-cni dns_lead_prerouting dnat ip to ip daddr . meta l4proto . th dport map @dns_lead\n\
             add chain ip smarter-cni dns_lead_output { type nat hook output priority -101; policy accept; }\n\
             flush chain ip smarter-cni dns_lead_output\n\
             add rule ip smarter-cni dns_lead_output dnat ip to ip daddr . meta l4proto . th dport map @dns_lead\n"
        );
    }
}
