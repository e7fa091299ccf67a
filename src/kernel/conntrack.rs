//! Connection tracking: which flows the kernel remembers, and making it forget them.
//!
//! A flow outlives the address translation that made it: packets of a UDP flow keep going to a pod that is gone until
//! its entry expires. Refuses to know pods; a kernel without connection tracking has no flows.

use std::io;
use std::net::IpAddr;

use netlink_bindings::conntrack::{IterableTupleAttrs, OpGetDump, PushConntrackAttrs, PushTupleIpAttrs};
use netlink_bindings::traits::NetlinkRequest;
use netlink_bindings::utils::{Pusher, find_attr, push_header};
use rustix::io::Errno;

use super::netlink::Answer;
use super::{Error, Result, Socket, sysctl};
use crate::net::Family;

/// NFNL_SUBSYS_CTNETLINK in the upper byte, `enum cntl_msg_types` in the lower (nfnetlink_conntrack.h).
const CT_GET: u16 = (1 << 8) | 1;
const CT_DELETE: u16 = (1 << 8) | 2;
const CT_GET_STATS: u16 = (1 << 8) | 5;

/// One direction of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub src: IpAddr,
    pub dst: IpAddr,
    /// IANA number.
    pub protocol: u8,
    /// None for protocols without ports.
    pub src_port: Option<u16>,
    pub dst_port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// As the first packet came.
    pub original: Tuple,
    /// As answers come: after address translation.
    pub reply: Tuple,
    /// IPS_* bits, linux/netfilter/nf_conntrack_common.h.
    pub status: u32,
    id: u32,
    zone: Option<u16>,
    /// CTA_TUPLE_ORIG as the kernel wrote it, the key of the flow.
    key: Vec<u8>,
}

impl Flow {
    fn touches(&self, address: IpAddr) -> bool {
        [self.original.src, self.original.dst, self.reply.src, self.reply.dst].contains(&address)
    }
}

/// How many flows the network namespace of the calling thread has; `None` when connection tracking is not loaded.
pub fn count() -> Result<Option<usize>> {
    let Some(text) = sysctl::read("net/netfilter/nf_conntrack_count")? else { return Ok(None) };
    let broken = |_| Error::new("sysctl net.netfilter.nf_conntrack_count", io::ErrorKind::InvalidData.into());
    text.parse().map(Some).map_err(broken)
}

/// All flows of a family in the namespace of the socket.
pub fn flows(socket: &mut Socket, family: Family) -> Result<Vec<Flow>> {
    dump(socket, family, &generic(family), Some)
}

/// Removes one flow; that it ended meanwhile is fine. A successor between the same addresses and ports normally stays, but
/// the kernel may give it the same number (nf_ct_get_id is made of where it lies in memory).
pub fn forget(socket: &mut Socket, flow: &Flow) -> Result<()> {
    remove(socket, flow).map(|_| ())
}

/// The flows of a family that use the port on the side that did not begin: those whose first packet went to it, and those
/// whose answers do.
pub fn flows_at_port(socket: &mut Socket, family: Family, protocol: u8, port: u16) -> Result<Vec<Flow>> {
    // CTA_FILTER_F_CTA_PROTO_NUM and _PROTO_DST_PORT, net/netfilter/nf_conntrack_netlink.c.
    const PROTOCOL: u32 = 1 << 3;
    const DST_PORT: u32 = 1 << 5;
    let at_port = |tuple: &Tuple| (tuple.protocol, tuple.dst_port) == (protocol, Some(port));
    let mut found = Vec::new();
    for original in [true, false] {
        let attributes = PushConntrackAttrs::new(generic(family));
        let tuple = if original { attributes.nested_tuple_orig() } else { attributes.nested_tuple_reply() };
        let tuple = tuple.nested_tuple_proto().push_proto_num(protocol).push_proto_dst_port(port);
        let filter = tuple.end_nested().end_nested().nested_filter();
        let flags = PROTOCOL | DST_PORT;
        let filter = if original { filter.push_orig_flags(flags) } else { filter.push_reply_flags(flags) };
        // Kernels before 5.8 ignore the filter.
        let asked = |flow: Flow| at_port(if original { &flow.original } else { &flow.reply }).then_some(flow);
        found.extend(dump(socket, family, &filter.end_nested().end_nested(), asked)?);
    }
    Ok(found)
}

/// Removes every flow from, to or translated to the address; returns how many there were. Whoever calls has seen that there
/// are flows ([`count`]): the question alone would load connection tracking into a kernel that does without.
pub fn forget_address(socket: &mut Socket, address: IpAddr) -> Result<usize> {
    let family = Family::of(address);
    let questions = match fill(socket)? {
        Some(Fill { entries: 0, .. }) => return Ok(0),
        // Every question walks all buckets of the table, 4 ms for 262,144 of them, and every flow that is carried over
        // here costs 1.5 µs: four questions with an answer of almost nothing are cheaper than one with everything
        // when a fair part of the table is in use.
        Some(Fill { entries, limit }) if entries > limit / 32 => {
            Position::ALL.map(|position| position.question(address)).to_vec()
        }
        _ => vec![generic(family)],
    };
    let mut forgotten = 0;
    for question in questions {
        // Kernels before 5.8 ignore the filter.
        let ours = |flow: Flow| flow.touches(address).then_some(flow);
        for flow in dump(socket, family, &question, ours)? {
            forgotten += usize::from(remove(socket, &flow)?);
        }
    }
    Ok(forgotten)
}

/// Where an address can stand in a flow. The kernel joins filters with "and", so each is a question of its own.
#[derive(Clone, Copy)]
enum Position {
    OriginalSource,
    OriginalDestination,
    ReplySource,
    ReplyDestination,
}

impl Position {
    const ALL: [Self; 4] =
        [Self::OriginalSource, Self::OriginalDestination, Self::ReplySource, Self::ReplyDestination];

    fn question(self, address: IpAddr) -> Vec<u8> {
        // CTA_FILTER_F_CTA_IP_SRC and _DST: bits of the kernel's own order, net/netfilter/nf_conntrack_netlink.c.
        const SOURCE: u32 = 1;
        const DESTINATION: u32 = 2;
        let (original, source) = match self {
            Self::OriginalSource => (true, true),
            Self::OriginalDestination => (true, false),
            Self::ReplySource => (false, true),
            Self::ReplyDestination => (false, false),
        };
        let attributes = PushConntrackAttrs::new(generic(Family::of(address)));
        let tuple = if original { attributes.nested_tuple_orig() } else { attributes.nested_tuple_reply() };
        let attributes = ip(tuple.nested_tuple_ip(), address, source).end_nested().end_nested();
        let flags = if source { SOURCE } else { DESTINATION };
        let filter = attributes.nested_filter();
        let filter = if original { filter.push_orig_flags(flags) } else { filter.push_reply_flags(flags) };
        filter.end_nested().end_nested()
    }
}

fn ip<Outer: Pusher>(
    tuple: PushTupleIpAttrs<Outer>,
    address: IpAddr,
    source: bool,
) -> PushTupleIpAttrs<Outer> {
    match (address, source) {
        (IpAddr::V4(address), true) => tuple.push_ip_v4_src(address),
        (IpAddr::V4(address), false) => tuple.push_ip_v4_dst(address),
        (IpAddr::V6(address), true) => tuple.push_ip_v6_src(address),
        (IpAddr::V6(address), false) => tuple.push_ip_v6_dst(address),
    }
}

/// `struct nfgenmsg`, linux/netfilter/nfnetlink.h.
fn generic(family: Family) -> Vec<u8> {
    const NFPROTO_IPV4: u8 = 2;
    const NFPROTO_IPV6: u8 = 10;
    vec![if family == Family::V4 { NFPROTO_IPV4 } else { NFPROTO_IPV6 }, 0, 0, 0]
}

struct Fill {
    entries: u32,
    limit: u32,
}

/// How full the table of the socket's namespace is; `None` when the kernel does not say (before 4.18).
fn fill(socket: &mut Socket) -> Result<Option<Fill>> {
    // `enum ctattr_stats_global`.
    const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
    const CTA_STATS_GLOBAL_MAX_ENTRIES: u16 = 2;
    let read = |answer: Answer<'_>| {
        let attributes = answer.payload.get(4..)?;
        let number = |kind| Some(u32::from_be_bytes(*find_attr(attributes, kind)?.first_chunk()?));
        Some(Fill {
            entries: number(CTA_STATS_GLOBAL_ENTRIES)?,
            limit: number(CTA_STATS_GLOBAL_MAX_ENTRIES)?,
        })
    };
    socket
        .get_answered(CT_GET_STATS, &[0; 4], || "conntrack --stats".to_owned(), read)
        .or_else(|error| if error.errno() == Some(Errno::INVAL) { Ok(None) } else { Err(error) })
}

fn dump(
    socket: &mut Socket,
    family: Family,
    question: &[u8],
    keep: impl Fn(Flow) -> Option<Flow>,
) -> Result<Vec<Flow>> {
    let operation = || {
        let family = if family == Family::V4 { "ipv4" } else { "ipv6" };
        format!("conntrack --dump --family {family}")
    };
    match socket.dump(CT_GET, question, operation, |answer| read(answer).and_then(&keep)) {
        // nfnetlink answers EINVAL for a subsystem that it does not have.
        Err(error) if matches!(error.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP)) => match count()? {
            None | Some(0) => Ok(Vec::new()),
            Some(_) => Err(error.with_hint(
                "flows exist but cannot be listed: module nf_conntrack_netlink, CONFIG_NF_CT_NETLINK",
            )),
        },
        other => other,
    }
}

/// Whether the flow was still there.
fn remove(socket: &mut Socket, flow: &Flow) -> Result<bool> {
    const CTA_TUPLE_ORIG: u16 = 1;
    const NESTED: u16 = 1 << 15;
    let mut question = generic(Family::of(flow.original.src));
    push_header(&mut question, CTA_TUPLE_ORIG | NESTED, u16::try_from(flow.key.len()).unwrap_or(u16::MAX));
    question.extend_from_slice(&flow.key);
    let mut attributes = PushConntrackAttrs::new(question).push_id(flow.id);
    if let Some(zone) = flow.zone {
        attributes = attributes.push_zone(zone);
    }
    let operation = || {
        let Tuple { src, dst, protocol, .. } = &flow.original;
        format!("conntrack --delete --orig-src {src} --orig-dst {dst} --proto {protocol}")
    };
    match socket.change(CT_DELETE, 0, &attributes.end_nested(), operation) {
        Ok(()) => Ok(true),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    }
}

fn read(answer: Answer<'_>) -> Option<Flow> {
    let (_, attributes) = OpGetDump::decode_reply(answer.payload);
    let original = attributes.get_tuple_orig().ok()?;
    Some(Flow {
        original: tuple(original)?,
        reply: tuple(attributes.get_tuple_reply().ok()?)?,
        status: attributes.get_status().unwrap_or(0),
        id: attributes.get_id().ok()?,
        zone: attributes.get_zone().ok(),
        key: original.get_buf().to_vec(),
    })
}

fn tuple(attributes: IterableTupleAttrs<'_>) -> Option<Tuple> {
    let ip = attributes.get_tuple_ip().ok()?;
    let proto = attributes.get_tuple_proto().ok()?;
    let (src, dst) = match (ip.get_ip_v4_src(), ip.get_ip_v4_dst()) {
        (Ok(src), Ok(dst)) => (IpAddr::V4(src), IpAddr::V4(dst)),
        _ => (IpAddr::V6(ip.get_ip_v6_src().ok()?), IpAddr::V6(ip.get_ip_v6_dst().ok()?)),
    };
    Some(Tuple {
        src,
        dst,
        protocol: proto.get_proto_num().ok()?,
        src_port: proto.get_proto_src_port().ok(),
        dst_port: proto.get_proto_dst_port().ok(),
    })
}
