//! Unicast routes: list, add, remove.
//!
//! A route with several next hops is several entries here, as IPv6 treats it anyway: each can be looked for and removed
//! alone. Refuses to know blackholes, multicast and cached routes.

mod lookup;

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteType, RouteVia,
};

use super::address::NO_IPV6;
use super::attribute::{attributes, ip_address, u8_at, u16_at, u32_at};
use super::error::Result;
use super::netlink::{Answer, NLM_F_CREATE, RouteSocket, encoded};
use crate::net::Family;

pub use lookup::{Question, Refusal, Way, link_towards, look_up};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

/// `struct rtmsg` and its attributes, linux/rtnetlink.h.
const HEADER: usize = 12;
const RTN_UNICAST: u8 = 1;
const RTM_F_CLONED: u32 = 0x200;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
const RTA_VIA: u16 = 18;
const RTAX_MTU: u16 = 2;
const RTAX_ADVMSS: u16 = 8;

/// The table that `ip route` shows.
pub const MAIN: u32 = 254;
/// RTPROT_BOOT: what `ip route add` and the reference CNI plugins write.
pub const BOOT: u8 = 3;

/// One next hop of one route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteEntry {
    /// Without host bits; prefix 0 is the default route.
    pub dst: IpNetwork,
    /// May be of the other family (IPv4 through an IPv6 router).
    pub gw: Option<IpAddr>,
    /// The link it leaves through.
    pub index: Option<u32>,
    pub table: u32,
    /// The metric. IPv6 writes 1024 where none was given.
    pub priority: Option<u32>,
    /// 0 universe, 200 site, 253 link, 254 host (rtnetlink(7)).
    pub scope: u8,
    /// Bytes.
    pub mtu: Option<u32>,
    /// Bytes of TCP payload.
    pub advmss: Option<u32>,
    /// Who wrote it, RTPROT_*.
    pub protocol: u8,
}

/// As the arguments of `ip route add`. A link is shown by its index (`if4`), which `ip` takes as a name too.
impl fmt::Display for RouteEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.dst.fmt(f)?;
        match self.gw {
            Some(gw) if gw.is_ipv6() && self.dst.is_ipv4() => write!(f, " via inet6 {gw}")?,
            Some(gw) => write!(f, " via {gw}")?,
            None => {}
        }
        if let Some(index) = self.index {
            write!(f, " dev if{index}")?;
        }
        if let Some(priority) = self.priority {
            write!(f, " metric {priority}")?;
        }
        if self.table != MAIN {
            write!(f, " table {}", self.table)?;
        }
        if self.scope != 0 {
            write!(f, " scope {}", self.scope)?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(advmss) = self.advmss {
            write!(f, " advmss {advmss}")?;
        }
        Ok(())
    }
}

/// The unicast routes of all tables, one entry per next hop. A kernel without the family has none.
pub fn list(socket: &mut RouteSocket, family: Family) -> Result<Vec<RouteEntry>> {
    let mut question = RouteMessage::default();
    question.header.address_family = address_family(family);
    let operation = || match family {
        Family::V4 => "ip -4 route show table all".to_owned(),
        Family::V6 => "ip -6 route show table all".to_owned(),
    };
    // Asked for a family it does not have, the kernel answers with all others (rtnl_dump_all).
    let parts = socket.dump(RTM_GETROUTE, &encoded(&question), operation, |answer| parse(answer, family));
    match parts {
        Ok(parts) => Ok(parts.into_iter().flatten().collect()),
        Err(error) if error.is_unsupported() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// `ip route add …` without its exclusive flag, as protocol `boot` whatever the entry says.
///
/// To the same destination through another gateway this makes a second IPv4 route that is preferred, and one more next
/// hop of an IPv6 route. The identical route: `is_exists`.
pub fn add(socket: &mut RouteSocket, route: &RouteEntry) -> Result<()> {
    let message = body(&RouteEntry { protocol: BOOT, ..route.clone() });
    let added =
        socket.change(RTM_NEWROUTE, NLM_F_CREATE, &encoded(&message), || format!("ip route add {route}"));
    added.map_err(|error| {
        if error.is_unsupported() && route.dst.is_ipv6() { error.with_hint(NO_IPV6) } else { error }
    })
}

/// `ip route del …`; protocol 0 is any. It is not there: `is_missing`.
pub fn remove(socket: &mut RouteSocket, route: &RouteEntry) -> Result<()> {
    socket.change(RTM_DELROUTE, 0, &encoded(&body(route)), || format!("ip route del {route}"))
}

fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn body(route: &RouteEntry) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = address_family(Family::of(route.dst.ip()));
    message.header.destination_prefix_length = route.dst.prefix();
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.scope = route.scope.into();
    message.header.kind = RouteType::Unicast;
    let attributes = &mut message.attributes;
    if route.dst.prefix() != 0 {
        attributes.push(RouteAttribute::Destination(route.dst.ip().into()));
    }
    // The header has one byte for it; 0 says that the attribute counts.
    message.header.table = u8::try_from(route.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    if message.header.table == RouteHeader::RT_TABLE_UNSPEC {
        attributes.push(RouteAttribute::Table(route.table));
    }
    match (route.gw, route.dst) {
        (Some(IpAddr::V6(gw)), IpNetwork::V4(_)) => attributes.push(RouteAttribute::Via(RouteVia::Inet6(gw))),
        (Some(gw), _) => attributes.push(RouteAttribute::Gateway(gw.into())),
        (None, _) => {}
    }
    attributes.extend(route.index.map(RouteAttribute::Oif));
    attributes.extend(route.priority.map(RouteAttribute::Priority));
    let metrics: Vec<_> =
        route.mtu.map(RouteMetric::Mtu).into_iter().chain(route.advmss.map(RouteMetric::Advmss)).collect();
    if !metrics.is_empty() {
        attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}

fn parse(answer: Answer<'_>, family: Family) -> Option<Vec<RouteEntry>> {
    let bytes = answer.payload;
    let ours = u8_at(bytes, 0)? == u8::from(address_family(family));
    let unicast = u8_at(bytes, 7)? == RTN_UNICAST && u32_at(bytes, 8)? & RTM_F_CLONED == 0;
    if answer.kind != RTM_NEWROUTE || !ours || !unicast {
        return None;
    }
    let mut dst = family.default_route().ip();
    let mut entry = RouteEntry {
        dst: family.default_route(),
        gw: None,
        index: None,
        table: u32::from(u8_at(bytes, 4)?),
        priority: None,
        scope: u8_at(bytes, 6)?,
        mtu: None,
        advmss: None,
        protocol: u8_at(bytes, 5)?,
    };
    let mut hops = None;
    for (kind, value) in attributes(bytes.get(HEADER..)?) {
        match kind {
            RTA_DST => dst = ip_address(value)?,
            RTA_TABLE => entry.table = u32_at(value, 0)?,
            RTA_PRIORITY => entry.priority = u32_at(value, 0),
            RTA_METRICS => {
                for (metric, value) in attributes(value) {
                    match metric {
                        RTAX_MTU => entry.mtu = u32_at(value, 0),
                        RTAX_ADVMSS => entry.advmss = u32_at(value, 0),
                        _ => {}
                    }
                }
            }
            RTA_MULTIPATH => hops = Some(value),
            _ => read_hop(&mut entry, kind, value),
        }
    }
    entry.dst = IpNetwork::new(dst, u8_at(bytes, 1)?).ok()?;
    Some(hops.map_or_else(|| vec![entry.clone()], |hops| next_hops(&entry, hops)))
}

/// What a next hop says for itself, and a route with only one says for it.
fn read_hop(entry: &mut RouteEntry, kind: u16, value: &[u8]) {
    match kind {
        RTA_OIF => entry.index = u32_at(value, 0),
        RTA_GATEWAY => entry.gw = ip_address(value),
        // `struct rtvia`: a family in front of the address.
        RTA_VIA => entry.gw = value.get(2..).and_then(ip_address),
        _ => {}
    }
}

/// RTA_MULTIPATH is a row of `struct rtnexthop` (length, flags, weight, link), each with attributes of its own.
fn next_hops(route: &RouteEntry, mut bytes: &[u8]) -> Vec<RouteEntry> {
    const RTNEXTHOP: usize = 8;
    let mut entries = Vec::new();
    while let (Some(length), Some(index)) = (u16_at(bytes, 0).map(usize::from), u32_at(bytes, 4)) {
        let Some(own) = bytes.get(RTNEXTHOP..length) else { break };
        let mut entry = RouteEntry { index: Some(index), ..route.clone() };
        for (kind, value) in attributes(own) {
            read_hop(&mut entry, kind, value);
        }
        entries.push(entry);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(dst: &str, gw: Option<&str>) -> RouteEntry {
        RouteEntry {
            dst: dst.parse().unwrap(),
            gw: gw.map(|gw| gw.parse().unwrap()),
            index: Some(4),
            table: MAIN,
            priority: None,
            scope: 0,
            mtu: None,
            advmss: None,
            protocol: BOOT,
        }
    }

    fn round_trip(route: &RouteEntry) -> Option<Vec<RouteEntry>> {
        let payload = encoded(&body(route));
        parse(Answer { kind: RTM_NEWROUTE, payload: &payload }, Family::of(route.dst.ip()))
    }

    #[test]
    fn what_is_written_is_read_back() {
        for route in [
            entry("0.0.0.0/0", Some("10.1.2.1")),
            entry("10.7.0.0/16", None),
            entry("10.7.0.0/16", Some("fd00::1")),
            entry("::/0", Some("fd00::1")),
            RouteEntry {
                table: 1000,
                priority: Some(5),
                scope: 253,
                mtu: Some(1400),
                advmss: Some(1360),
                ..entry("fd01::/64", None)
            },
        ] {
            assert_eq!(round_trip(&route), Some(vec![route.clone()]), "{route}");
        }
    }

    #[test]
    fn each_next_hop_is_an_entry() {
        let mut bytes = vec![2, 16, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0, 8, 0, 1, 0, 10, 7, 0, 0, 36, 0, 9, 0];
        for last in [1, 2] {
            bytes.extend([16, 0, 0, 0]);
            bytes.extend(4u32.to_ne_bytes());
            bytes.extend([8, 0, 5, 0, 10, 1, 2, last]);
        }
        let found = parse(Answer { kind: RTM_NEWROUTE, payload: &bytes }, Family::V4).unwrap();
        assert_eq!(found, [entry("10.7.0.0/16", Some("10.1.2.1")), entry("10.7.0.0/16", Some("10.1.2.2"))]);
    }

    #[test]
    fn other_families_and_types_are_skipped() {
        let mut message = body(&entry("10.7.0.0/16", None));
        message.header.kind = RouteType::Local;
        let payload = encoded(&message);
        assert_eq!(parse(Answer { kind: RTM_NEWROUTE, payload: &payload }, Family::V4), None);
        let payload = encoded(&body(&entry("10.7.0.0/16", None)));
        assert_eq!(parse(Answer { kind: RTM_NEWROUTE, payload: &payload }, Family::V6), None);
        assert_eq!(parse(Answer { kind: RTM_NEWROUTE, payload: &payload[..9] }, Family::V4), None);
    }

    #[test]
    fn reads_like_the_arguments_of_ip() {
        assert_eq!(entry("0.0.0.0/0", Some("10.1.2.1")).to_string(), "0.0.0.0/0 via 10.1.2.1 dev if4");
        let route = RouteEntry { table: 100, scope: 253, priority: Some(7), ..entry("10.7.0.0/16", None) };
        assert_eq!(route.to_string(), "10.7.0.0/16 dev if4 metric 7 table 100 scope 253");
    }
}
