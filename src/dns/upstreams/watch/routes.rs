//! Hears of new routes and addresses: an upstream that could not be reached may be reached now.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};
use rtnetlink::MulticastGroup;
use tokio::task::{JoinHandle, spawn_local};

use crate::dns::upstreams::Upstream;

/// What has become reachable, as far as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    To(IpNetwork),
    /// A new address of this node, of a family: questions can be sent from it.
    From {
        v6: bool,
    },
}

impl Way {
    pub(crate) fn leads_to(self, upstream: &Upstream) -> bool {
        match self {
            Self::To(network) => network.contains(upstream.address),
            Self::From { v6 } => v6 == upstream.address.is_ipv6(),
        }
    }
}

/// Ends the task that reads the socket.
struct Reader(JoinHandle<()>);

impl Drop for Reader {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Calls `new` for everything that is announced. Does not end.
pub(crate) async fn routes(new: impl Fn(Way)) {
    let groups = [
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    match rtnetlink::new_multicast_connection(&groups) {
        Ok((connection, _handle, mut messages)) => {
            let _reader = Reader(spawn_local(connection));
            let mut addresses = Addresses::default();
            while let Ok((message, _)) = messages.recv().await {
                if let Some(way) = way(&message, &mut addresses) {
                    new(way);
                }
            }
            tracing::warn!("the kernel says no more which routes are new: upstreams are tried again by time");
        }
        Err(error) => tracing::info!("upstreams are tried again by time, not by routes: {error}"),
    }
    pending::<()>().await;
}

/// Those that were announced: a router's advertisements announce an address again each time that they prolong it.
#[derive(Default)]
struct Addresses(BTreeSet<IpAddr>);

impl Addresses {
    /// More than any node has; whoever has more is heard each time.
    const MOST: usize = 1024;

    fn is_new(&mut self, address: IpAddr) -> bool {
        !self.0.contains(&address) && (self.0.len() >= Self::MOST || self.0.insert(address))
    }
}

fn way(message: &NetlinkMessage<RouteNetlinkMessage>, addresses: &mut Addresses) -> Option<Way> {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => route_of(route).map(Way::To),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => {
            let address = address_of(address)?;
            addresses.is_new(address).then_some(Way::From { v6: address.is_ipv6() })
        }
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(address)) => {
            addresses.0.remove(&address_of(address)?);
            None
        }
        _ => None,
    }
}

fn route_of(route: &RouteMessage) -> Option<IpNetwork> {
    let header = &route.header;
    if header.kind != RouteType::Unicast {
        return None;
    }
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::from(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::from(*address)),
        _ => None,
    });
    let everywhere = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    IpNetwork::new(destination.unwrap_or(everywhere), header.destination_prefix_length).ok()
}

/// One that is valid on a link only comes with every pod.
fn address_of(message: &AddressMessage) -> Option<IpAddr> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    address.filter(|_| message.header.scope == AddressScope::Universe)
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::address::AddressHeader;
    use netlink_packet_route::route::RouteHeader;

    use super::*;

    fn heard(inner: RouteNetlinkMessage, addresses: &mut Addresses) -> Option<Way> {
        way(&NetlinkMessage::from(inner), addresses)
    }

    fn address(text: &str, scope: AddressScope) -> AddressMessage {
        let mut message = AddressMessage::default();
        message.header = AddressHeader { scope, ..AddressHeader::default() };
        message.attributes.push(AddressAttribute::Address(text.parse().unwrap()));
        message
    }

    fn route(family: AddressFamily, to: Option<(&str, u8)>, kind: RouteType) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header = RouteHeader { address_family: family, kind, ..RouteHeader::default() };
        if let Some((to, length)) = to {
            message.header.destination_prefix_length = length;
            let to = to.parse::<IpAddr>().unwrap();
            message.attributes.push(RouteAttribute::Destination(to.into()));
        }
        message
    }

    #[test]
    fn a_route_leads_to_whom_it_covers() {
        let leads = |route: RouteMessage, to: &str| {
            let way = heard(RouteNetlinkMessage::NewRoute(route), &mut Addresses::default());
            way.is_some_and(|way| way.leads_to(&to.parse().unwrap()))
        };
        let (v4, v6) = (AddressFamily::Inet, AddressFamily::Inet6);
        assert!(leads(route(v4, None, RouteType::Unicast), "192.0.2.1"));
        assert!(!leads(route(v4, None, RouteType::Unicast), "2001:db8::1"));
        assert!(leads(route(v6, None, RouteType::Unicast), "2001:db8::1"));
        assert!(leads(route(v4, Some(("192.0.2.0", 24)), RouteType::Unicast), "192.0.2.1:5353"));
        assert!(!leads(route(v4, Some(("192.0.3.0", 24)), RouteType::Unicast), "192.0.2.1"));
        assert!(leads(route(v6, Some(("fe80::", 64)), RouteType::Unicast), "fe80::1%eth0"));
        assert!(!leads(route(v4, None, RouteType::Unreachable), "192.0.2.1"));
        assert!(!leads(route(v4, Some(("192.0.2.1", 32)), RouteType::Local), "192.0.2.1"));
    }

    #[test]
    fn an_address_is_new_once() {
        let mut addresses = Addresses::default();
        let new = |address| RouteNetlinkMessage::NewAddress(address);
        let one = || address("2001:db8::7", AddressScope::Universe);
        assert_eq!(heard(new(one()), &mut addresses), Some(Way::From { v6: true }));
        assert_eq!(heard(new(one()), &mut addresses), None, "prolonged");
        assert_eq!(heard(RouteNetlinkMessage::DelAddress(one()), &mut addresses), None);
        assert_eq!(heard(new(one()), &mut addresses), Some(Way::From { v6: true }));
        assert_eq!(heard(new(address("fe80::7", AddressScope::Link)), &mut addresses), None);
        assert_eq!(
            heard(new(address("192.0.2.7", AddressScope::Universe)), &mut addresses),
            Some(Way::From { v6: false })
        );
        for n in 0..5000_u32 {
            addresses.is_new(IpAddr::from(n.to_be_bytes()));
        }
        assert!(addresses.0.len() <= Addresses::MOST);
    }
}
