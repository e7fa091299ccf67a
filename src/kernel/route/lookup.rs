//! Which way would a packet take? The kernel's own answer, rules and all tables considered.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_route::route::{RouteAttribute, RouteMessage};
use rustix::io::Errno;

use super::{HEADER, RTA_GATEWAY, RTA_OIF, RTA_VIA, RTM_GETROUTE, address_family};
use crate::kernel::attribute::{attributes, ip_address, u8_at, u32_at};
use crate::kernel::error::Result;
use crate::kernel::netlink::{Answer, RouteSocket, encoded};
use crate::net::Family;

/// linux/rtnetlink.h
const RTN_LOCAL: u8 = 2;

/// A packet, as far as routes ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    pub to: IpAddr,
    pub from: Option<IpAddr>,
    /// The link it came in by; `None` for what the node sends itself.
    pub iif: Option<u32>,
    pub mark: u32,
}

impl Question {
    pub fn to(to: IpAddr) -> Self {
        Self { to, from: None, iif: None, mark: 0 }
    }

    /// What a person types to ask the same.
    pub fn typed(&self, iif: Option<&str>) -> String {
        let from = self.from.map(|from| format!(" from {from}")).unwrap_or_default();
        let iif = iif.map(|iif| format!(" iif {iif}")).unwrap_or_default();
        let mark = if self.mark == 0 { String::new() } else { format!(" mark {:#x}", self.mark) };
        format!("ip route get {}{from}{iif}{mark}", self.to)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the node itself, by that link.
    Local {
        index: u32,
    },
    /// `gw` is the router; without one the destination is on the link.
    Through {
        index: u32,
        gw: Option<IpAddr>,
    },
    Refused(Refusal),
}

impl Way {
    pub fn index(self) -> Option<u32> {
        match self {
            Self::Through { index, .. } => Some(index),
            Self::Local { .. } | Self::Refused(_) => None,
        }
    }
}

/// Why there is no way. Displays as the end of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoRoute,
    /// A route that says so, or a link that does not forward.
    Unreachable,
    Prohibited,
    /// A route that drops, or an address that cannot be.
    Dropped,
    /// The way back leaves by another link, and the reverse path filter is strict.
    ReversePath,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoRoute => "there is no route",
            Self::Unreachable => "a route says unreachable, or the link does not forward",
            Self::Prohibited => "a route or a rule says prohibit",
            Self::Dropped => "a route or a rule says blackhole",
            Self::ReversePath => "the reverse path filter refuses the packet",
        })
    }
}

fn refusal(errno: Errno) -> Option<Refusal> {
    Some(match errno {
        Errno::NETUNREACH => Refusal::NoRoute,
        Errno::HOSTUNREACH => Refusal::Unreachable,
        Errno::ACCESS => Refusal::Prohibited,
        Errno::INVAL => Refusal::Dropped,
        Errno::XDEV => Refusal::ReversePath,
        _ => return None,
    })
}

/// `ip route get …`
pub fn look_up(socket: &mut RouteSocket, question: &Question) -> Result<Way> {
    let operation = || {
        let iif = question.iif.map(|index| format!("if{index}"));
        question.typed(iif.as_deref())
    };
    match socket.get_answered(RTM_GETROUTE, &encoded(&body(question)), operation, parse) {
        Ok(way) => Ok(way.unwrap_or(Way::Refused(Refusal::NoRoute))),
        Err(error) => match error.errno().and_then(refusal) {
            Some(refusal) => Ok(Way::Refused(refusal)),
            None => Err(error),
        },
    }
}

/// The link by which the node sends to an address, `lo` for its own; `None` when there is no way.
pub fn link_towards(socket: &mut RouteSocket, address: IpAddr) -> Result<Option<u32>> {
    Ok(match look_up(socket, &Question::to(address))? {
        Way::Local { index } | Way::Through { index, .. } => Some(index),
        Way::Refused(_) => None,
    })
}

fn body(question: &Question) -> RouteMessage {
    let whole = if question.to.is_ipv4() { 32 } else { 128 };
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(Family::of(question.to));
    message.header.destination_prefix_length = whole;
    message.attributes.push(RouteAttribute::Destination(question.to.into()));
    if let Some(from) = question.from {
        message.header.source_prefix_length = whole;
        message.attributes.push(RouteAttribute::Source(from.into()));
    }
    message.attributes.extend(question.iif.map(RouteAttribute::Iif));
    if question.mark != 0 {
        message.attributes.push(RouteAttribute::Mark(question.mark));
    }
    message
}

fn parse(answer: Answer<'_>) -> Option<Way> {
    let bytes = answer.payload;
    let local = u8_at(bytes, 7)? == RTN_LOCAL;
    let (mut link, mut gw) = (None, None);
    for (kind, value) in attributes(bytes.get(HEADER..)?) {
        match kind {
            RTA_OIF => link = u32_at(value, 0),
            RTA_GATEWAY => gw = ip_address(value),
            // `struct rtvia`: a family in front of the address.
            RTA_VIA => gw = value.get(2..).and_then(ip_address),
            _ => {}
        }
    }
    link.map(|index| if local { Way::Local { index } } else { Way::Through { index, gw } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_reads_as_it_is_typed() {
        let question = Question {
            from: Some([10, 7, 0, 2].into()),
            iif: Some(4),
            mark: 1,
            ..Question::to([1; 4].into())
        };
        assert_eq!(
            question.typed(Some("smartnet0")),
            "ip route get 1.1.1.1 from 10.7.0.2 iif smartnet0 mark 0x1"
        );
        assert_eq!(Question::to([1; 4].into()).typed(None), "ip route get 1.1.1.1");
    }

    #[test]
    fn the_answer_is_a_link_a_router_or_the_node_itself() {
        let mut bytes = vec![2, 32, 0, 0, 254, 0, 0, 1, 0, 0, 0, 0];
        bytes.extend([8, 0, 4, 0, 4, 0, 0, 0, 8, 0, 5, 0, 10, 1, 2, 1]);
        let way = |bytes: &[u8]| parse(Answer { kind: 24, payload: bytes });
        assert_eq!(way(&bytes), Some(Way::Through { index: 4, gw: Some([10, 1, 2, 1].into()) }));
        bytes[7] = RTN_LOCAL;
        assert_eq!(way(&bytes), Some(Way::Local { index: 4 }));
        assert_eq!(way(&bytes[..7]), None);
    }
}
