//! Who has which MAC: neighbour entries of a link, and what a bridge learned about its ports.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteType;

use super::error::Result;
use super::netlink::{NLM_F_CREATE, NLM_F_REPLACE, Socket, encoded};
use crate::net::Mac;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;

/// `ip neigh replace <ip> lladdr <mac> dev <link> nud reachable`: the entry ages and is verified like a learned one.
pub fn replace(socket: &mut Socket, index: u32, ip: IpAddr, mac: Mac) -> Result<()> {
    let mut message = entry(index, ip);
    message.header.state = NeighbourState::Reachable;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    socket.change(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &encoded(&message), || {
        format!("ip neigh replace {ip} lladdr {mac} dev if{index} nud reachable")
    })
}

/// `ip neigh del <ip> dev <link>`; what is not there is fine.
pub fn remove(socket: &mut Socket, index: u32, ip: IpAddr) -> Result<()> {
    let removed = socket
        .change(RTM_DELNEIGH, 0, &encoded(&entry(index, ip)), || format!("ip neigh del {ip} dev if{index}"));
    match removed {
        // A kernel without the family has no entry of it.
        Err(error) if error.is_missing() || error.is_unsupported() => Ok(()),
        other => other,
    }
}

/// `bridge fdb del <mac> dev <port> master`: the port's bridge forgets the MAC; what is not there is fine.
pub fn fdb_remove(socket: &mut Socket, port_index: u32, mac: Mac) -> Result<()> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = port_index;
    message.header.flags = NeighbourFlags::Controller;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    let removed = socket.change(RTM_DELNEIGH, 0, &encoded(&message), || {
        format!("bridge fdb del {mac} dev if{port_index} master")
    });
    match removed {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

fn entry(index: u32, ip: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = index;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(NeighbourAttribute::Destination(ip.into()));
    message
}
