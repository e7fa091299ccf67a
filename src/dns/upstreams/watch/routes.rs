//! Hears of new routes and addresses: an upstream that could not be reached may be reached now.

use std::future::pending;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressMessage, AddressScope};
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
            while let Ok((message, _)) = messages.recv().await {
                if let Some(way) = way(&message) {
                    new(way);
                }
            }
            tracing::warn!("the kernel says no more which routes are new: upstreams are tried again by time");
        }
        Err(error) => tracing::info!("upstreams are tried again by time, not by routes: {error}"),
    }
    pending::<()>().await;
}

fn way(message: &NetlinkMessage<RouteNetlinkMessage>) -> Option<Way> {
    match &message.payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(route)) => route_of(route).map(Way::To),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(address)) => address_of(address),
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
fn address_of(address: &AddressMessage) -> Option<Way> {
    let v6 = address.header.family == AddressFamily::Inet6;
    (address.header.scope == AddressScope::Universe).then_some(Way::From { v6 })
}
