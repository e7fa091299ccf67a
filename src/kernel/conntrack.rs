//! Connection tracking: which flows the kernel remembers, and making it forget them.
//!
//! A flow outlives the address translation that made it: packets of a UDP flow keep going to a pod that is gone until
//! its entry expires. Refuses to know pods; a kernel without connection tracking has no flows.

mod question;

use std::io;
use std::net::IpAddr;

use netlink_bindings::conntrack::{IterableTupleAttrs, OpGetDump, PushConntrackAttrs};
use netlink_bindings::traits::NetlinkRequest;
use netlink_bindings::utils::{find_attr, push_header};
use rustix::io::Errno;

pub use self::question::{Question, Sought};
use super::netlink::Answer;
use super::{Error, NetfilterSocket, Result, sysctl};
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

/// How many flows the network namespace of the calling thread has; `None` when connection tracking is not loaded.
pub fn count() -> Result<Option<usize>> {
    let Some(text) = sysctl::read("net/netfilter/nf_conntrack_count")? else { return Ok(None) };
    let broken = |_| Error::new("sysctl net.netfilter.nf_conntrack_count", io::ErrorKind::InvalidData.into());
    text.parse().map(Some).map_err(broken)
}

/// All flows of a family in the namespace of the socket.
pub fn flows(socket: &mut NetfilterSocket, family: Family) -> Result<Vec<Flow>> {
    let mut flows = Vec::new();
    walk(socket, &Question::all(family, None), |_, _| true, |flow| flows.push(flow))?;
    Ok(flows)
}

/// Removes every flow from, to or translated to the address; returns how many there were. Whoever calls has seen that there
/// are flows ([`count`]): the question alone would load connection tracking into a kernel that does without.
pub fn forget_address(socket: &mut NetfilterSocket, address: IpAddr) -> Result<usize> {
    let family = Family::of(address);
    let (src, dst) = (
        Sought { src: Some(address), ..Sought::default() },
        Sought { dst: Some(address), ..Sought::default() },
    );
    // The kernel joins what one question asks for with "and".
    let all = Question::all(family, None);
    let narrow = vec![
        Question { original: src, ..all.clone() },
        Question { original: dst, ..all.clone() },
        Question { reply: src, ..all.clone() },
        Question { reply: dst, ..all.clone() },
    ];
    let touches = |original: &Tuple, reply: &Tuple| {
        [original.src, original.dst, reply.src, reply.dst].contains(&address)
    };
    forget(socket, &all, &[narrow], touches)
}

/// Removes the flows of which `leaves` says so by their two directions; returns how many there were. `all` is the question that finds all of them,
/// and so does each of the `narrow` lists. The cheapest is asked: one walk per question, whatever is looked for, and what a
/// walk finds is removed while it goes on, so that a table of any size takes the memory of a few flows.
///
/// Removing is safe while walking: the kernel then walks the bucket where it was once more (ctnetlink_dump_table).
pub fn forget(
    socket: &mut NetfilterSocket,
    all: &Question,
    narrow: &[Vec<Question>],
    leaves: impl Fn(&Tuple, &Tuple) -> bool,
) -> Result<usize> {
    let everything = [all.clone()];
    let questions = match fill(socket)? {
        Some(Fill { entries: 0, .. }) => return Ok(0),
        Some(fill) => fill.cheapest(&everything, narrow),
        None => &everything,
    };
    let mut remover = Remover::default();
    for question in questions {
        let mut all_came = false;
        let sees = |original: &Tuple, reply: &Tuple| {
            all_came |= !question.fits(original, reply);
            leaves(original, reply)
        };
        let walked = walk(socket, question, sees, |flow| remover.take(flow));
        remover.flush();
        walked?;
        if all_came {
            // A kernel that does not read what it is asked for has shown everything.
            break;
        }
    }
    remover.forgotten()
}

/// Flows on their way out.
#[derive(Default)]
struct Remover {
    /// Of its own: the answers to a question still come through the other.
    socket: Option<NetfilterSocket>,
    waiting: Vec<Flow>,
    forgotten: usize,
    failure: Option<Error>,
}

impl Remover {
    /// So many wait: as many as one part of the kernel's answer holds, more or less.
    const BATCH: usize = 256;

    fn take(&mut self, flow: Flow) {
        self.waiting.push(flow);
        if self.waiting.len() >= Self::BATCH {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let mut waiting = std::mem::take(&mut self.waiting);
        for flow in waiting.drain(..) {
            if self.failure.is_some() {
                break;
            }
            match self.remove(&flow) {
                Ok(was_there) => self.forgotten += usize::from(was_there),
                Err(error) => self.failure = Some(error),
            }
        }
        self.waiting = waiting;
    }

    fn remove(&mut self, flow: &Flow) -> Result<bool> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(NetfilterSocket::open()?),
        };
        remove(socket, flow)
    }

    fn forgotten(self) -> Result<usize> {
        self.failure.map_or(Ok(self.forgotten), Err)
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

impl Fill {
    /// In units of 15 ns: a walk passes all buckets of the table and compares every flow in it, and a flow that is carried
    /// over here costs a hundred. There are as many buckets as there may be flows (nf_conntrack_init_start since 5.15, before
    /// that a quarter); how many flows a narrow question carries over is not known, but hardly all.
    fn cheapest<'a>(&self, all: &'a [Question], narrow: &'a [Vec<Question>]) -> &'a [Question] {
        // 0.15 to 0.6 µs, where memory is slow or shared.
        const COMPARED: u64 = 25;
        const CARRIED: u64 = 100;
        // A limit of none is no table of nothing.
        const FEWEST: u32 = 1 << 14;
        let entries = u64::from(self.entries);
        let walk = u64::from(self.limit.max(self.entries).max(FEWEST)) + COMPARED * entries;
        let walks = |questions: &[Question]| questions.len() as u64 * walk;
        let mut cheapest = (walk + CARRIED * entries, all);
        for questions in narrow {
            if walks(questions) < cheapest.0 {
                cheapest = (walks(questions), questions);
            }
        }
        cheapest.1
    }
}

/// How full the table of the socket's namespace is; `None` when the kernel does not say (before 4.18).
fn fill(socket: &mut NetfilterSocket) -> Result<Option<Fill>> {
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

/// Shows each flow of the answer that is wanted for its two directions; one may be shown twice. Of the others, which may be
/// nearly all of a large table, no more than those is read.
fn walk(
    socket: &mut NetfilterSocket,
    question: &Question,
    mut wanted: impl FnMut(&Tuple, &Tuple) -> bool,
    mut each: impl FnMut(Flow),
) -> Result<()> {
    let operation = || {
        let family = if question.family == Family::V4 { "ipv4" } else { "ipv6" };
        format!("conntrack --dump --family {family}")
    };
    let show = |answer: Answer<'_>| -> Option<()> {
        each(read(answer, &mut wanted)?);
        None
    };
    match socket.dump(CT_GET, &question.encode(), operation, show) {
        // nfnetlink answers EINVAL for a subsystem that it does not have.
        Err(error) if matches!(error.errno(), Some(Errno::INVAL | Errno::OPNOTSUPP)) => match count()? {
            None | Some(0) => Ok(()),
            Some(_) => Err(error.with_hint(
                "flows exist but cannot be listed: module nf_conntrack_netlink, CONFIG_NF_CT_NETLINK",
            )),
        },
        other => other.map(drop),
    }
}

/// Whether the flow was still there; that it ended meanwhile is fine. A successor between the same addresses and ports
/// normally stays, but the kernel may give it the same number (nf_ct_get_id is made of where it lies in memory).
fn remove(socket: &mut NetfilterSocket, flow: &Flow) -> Result<bool> {
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

fn read(answer: Answer<'_>, wanted: &mut impl FnMut(&Tuple, &Tuple) -> bool) -> Option<Flow> {
    let (_, attributes) = OpGetDump::decode_reply(answer.payload);
    let key = attributes.get_tuple_orig().ok()?;
    let (original, reply) = (tuple(key)?, tuple(attributes.get_tuple_reply().ok()?)?);
    wanted(&original, &reply).then_some(())?;
    Some(Flow {
        original,
        reply,
        status: attributes.get_status().unwrap_or(0),
        id: attributes.get_id().ok()?,
        zone: attributes.get_zone().ok(),
        key: key.get_buf().to_vec(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_question_is_asked() {
        let all = [Question::all(Family::V4, Some(17))];
        let many = |number: usize| vec![all[0].clone(); number];
        let narrow = [many(2), many(3)];
        let asked =
            |entries, narrow: &[Vec<Question>]| Fill { entries, limit: 262_144 }.cheapest(&all, narrow).len();
        assert_eq!(
            asked(100, &narrow),
            1,
            "few flows are carried over sooner than the table is walked twice"
        );
        assert_eq!(asked(262_144, &narrow), 2);
        assert_eq!(asked(262_144, &[many(1000), many(3)]), 3);
        assert_eq!(asked(262_144, &[many(1000), many(400)]), 1);
        assert_eq!(Fill { entries: 9, limit: 0 }.cheapest(&all, &[many(1000)]).len(), 1);
    }
}
