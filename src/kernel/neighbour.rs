//! Who has which MAC: neighbour entries of a link, and what a bridge learned about its ports.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState};
use netlink_packet_route::route::RouteType;

use super::attribute::{attributes, ip_address, u16_at, u32_at};
use super::error::Result;
use super::netlink::{Answer, NLM_F_CREATE, NLM_F_REPLACE, RouteSocket, encoded};
use crate::net::Mac;

const RTM_NEWNEIGH: u16 = 28;
const RTM_DELNEIGH: u16 = 29;
const RTM_GETNEIGH: u16 = 30;

/// `struct ndmsg` and its attributes, linux/neighbour.h.
const HEADER: usize = 12;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_INCOMPLETE: u16 = 0x01;
const NUD_FAILED: u16 = 0x20;
/// The namespace's own addresses, broadcast and multicast: nobody is asked, and the MAC (zeros, or a group's) is nobody's.
const NUD_NOARP: u16 = 0x40;
const NUD_PERMANENT: u16 = 0x80;

/// Whom the kernel asked for an IP address, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub index: u32,
    pub ip: IpAddr,
    /// `None` while nobody has answered, and where nobody is asked.
    pub mac: Option<Mac>,
    /// Set by hand, and never verified.
    pub permanent: bool,
    /// Somebody has answered, or it was set by hand. Not what a link without neighbours makes up.
    pub exists: bool,
}

/// `ip neigh show`, of both families.
pub fn all(socket: &mut RouteSocket) -> Result<Vec<Neighbour>> {
    let question = NeighbourMessage::default();
    socket.dump(RTM_GETNEIGH, &encoded(&question), || "ip neigh show".to_owned(), parse)
}

fn parse(answer: Answer<'_>) -> Option<Neighbour> {
    let bytes = answer.payload;
    if answer.kind != RTM_NEWNEIGH {
        return None;
    }
    let (index, state) = (u32_at(bytes, 4)?, u16_at(bytes, 8)?);
    let (mut ip, mut mac) = (None, None);
    for (kind, value) in attributes(bytes.get(HEADER..)?) {
        match kind {
            NDA_DST => ip = ip_address(value),
            NDA_LLADDR => mac = value.try_into().ok().map(Mac),
            _ => {}
        }
    }
    // An entry that failed keeps the address that it had.
    let exists = state != 0 && state & (NUD_INCOMPLETE | NUD_FAILED | NUD_NOARP) == 0;
    let mac = mac.filter(|_| exists);
    Some(Neighbour { index, ip: ip?, mac, permanent: state & NUD_PERMANENT != 0, exists })
}

/// `ip neigh replace <ip> lladdr <mac> dev <link> nud reachable`: the entry ages and is verified like a learned one.
pub fn replace(socket: &mut RouteSocket, index: u32, ip: IpAddr, mac: Mac) -> Result<()> {
    let mut message = entry(index, ip);
    message.header.state = NeighbourState::Reachable;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
    socket.change(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &encoded(&message), || {
        format!("ip neigh replace {ip} lladdr {mac} dev if{index} nud reachable")
    })
}

/// `ip neigh del <ip> dev <link>`; what is not there is fine.
pub fn remove(socket: &mut RouteSocket, index: u32, ip: IpAddr) -> Result<()> {
    let removed = socket
        .change(RTM_DELNEIGH, 0, &encoded(&entry(index, ip)), || format!("ip neigh del {ip} dev if{index}"));
    match removed {
        // A kernel without the family has no entry of it.
        Err(error) if error.is_missing() || error.is_unsupported() => Ok(()),
        other => other,
    }
}

/// `bridge fdb del <mac> dev <port> master`: the port's bridge forgets the MAC; what is not there is fine.
pub fn fdb_remove(socket: &mut RouteSocket, port_index: u32, mac: Mac) -> Result<()> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_without_an_answer_has_no_mac() {
        let entry = |state: u16| {
            let mut bytes = vec![2, 0, 0, 0];
            bytes.extend(7u32.to_ne_bytes());
            bytes.extend(state.to_ne_bytes());
            bytes.extend([0, 1]);
            bytes.extend([8, 0, 1, 0, 10, 1, 2, 5, 10, 0, 2, 0, 2, 0, 0, 0, 0, 9, 0, 0]);
            parse(Answer { kind: RTM_NEWNEIGH, payload: &bytes }).unwrap()
        };
        let mac = Some(Mac([2, 0, 0, 0, 0, 9]));
        let known = Neighbour { index: 7, ip: [10, 1, 2, 5].into(), mac, permanent: false, exists: true };
        assert_eq!(entry(0x04), known);
        assert_eq!(entry(NUD_PERMANENT), Neighbour { permanent: true, ..known.clone() });
        for state in [NUD_FAILED, NUD_NOARP, 0] {
            assert_eq!(entry(state), Neighbour { mac: None, exists: false, ..known.clone() });
        }
        assert_eq!(parse(Answer { kind: RTM_NEWNEIGH, payload: &[0; 8] }), None);
    }
}
