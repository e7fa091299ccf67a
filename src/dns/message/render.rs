//! Answers of our own, as bytes.
//!
//! Pure.

use std::net::IpAddr;

use domain::base::iana::{OptRcode, Rcode};
use domain::base::message_builder::{AnswerBuilder, PushError};
use domain::base::{self, MessageBuilder, Serial, StaticCompressor, Ttl};
use domain::rdata::{A, Aaaa, Ns, Ptr, Soa};

use super::super::name::Name;
use super::super::zone::{Answer, Records};
use super::{DATAGRAM, Edns, Fault, HEADER, Query};

/// Bytes of an OPT record without options.
const OPT: usize = 11;
/// What a secondary server would go by (RFC 1912 section 2.2); there is none.
const REFRESH: u32 = 7200;
const RETRY: u32 = 1800;
const EXPIRE: u32 = 86400;

type Target = StaticCompressor<Vec<u8>>;

/// What stands in every answer of a zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'z> {
    /// Its name server, and whom to write to.
    pub(crate) authority: (&'z Name, &'z Name),
    pub(crate) serial: u32,
    /// Seconds, also of the news that there is nothing.
    pub(crate) ttl: u32,
}

/// The answer to a question about a name of ours, of at most `limit` bytes: what does not fit is left out in whole records,
/// and the client is told (TC). `out` is room that is used again.
pub(crate) fn local(
    query: &Query<'_>,
    answer: &Answer<'_>,
    told: &Told<'_>,
    limit: usize,
    out: Vec<u8>,
) -> Vec<u8> {
    let rcode = if answer.exists { Rcode::NOERROR } else { Rcode::NXDOMAIN };
    let mut room = out;
    if let Some(mut builder) = begun(query, rcode, std::mem::take(&mut room)) {
        builder.header_mut().set_aa(true);
        let opt = if query.edns.is_some() { OPT } else { 0 };
        builder.set_push_limit(limit.saturating_sub(opt));
        return completed(builder, query, answer, told);
    }
    room
}

fn completed(
    mut builder: AnswerBuilder<Target>,
    query: &Query<'_>,
    answer: &Answer<'_>,
    told: &Told<'_>,
) -> Vec<u8> {
    let whole = answers(&mut builder, query, answer, told).is_ok();
    builder.header_mut().set_tc(!whole);
    let mut authority = builder.authority();
    if answer.records == Records::None {
        // One that does not fit is left out: it only says how long the news is true.
        let _ = negative(query, answer.apex, told).map(|soa| authority.push(soa));
    }
    let mut additional = authority.additional();
    additional.clear_push_limit();
    if let Some(edns) = query.edns {
        let _ = options(&mut additional, edns, None);
    }
    additional.finish().into_target()
}

fn answers(
    builder: &mut AnswerBuilder<Target>,
    query: &Query<'_>,
    answer: &Answer<'_>,
    told: &Told<'_>,
) -> Result<(), PushError> {
    let (owner, ttl) = (query.question.qname(), Ttl::from_secs(told.ttl));
    match &answer.records {
        Records::None => {}
        Records::Addresses(addresses) => {
            for address in addresses.iter() {
                match address {
                    IpAddr::V4(address) => builder.push((owner, ttl, A::new(address)))?,
                    IpAddr::V6(address) => builder.push((owner, ttl, Aaaa::new(address)))?,
                }
            }
        }
        Records::Pointers(names) => {
            for name in names.iter().filter_map(wire) {
                builder.push((owner, ttl, Ptr::new(name)))?;
            }
        }
        Records::Soa => {
            if let Some(soa) = soa(told) {
                builder.push((owner, ttl, soa))?;
            }
        }
        Records::Ns => {
            if let Some(server) = wire(told.authority.0) {
                builder.push((owner, ttl, Ns::new(server)))?;
            }
        }
    }
    Ok(())
}

type WireName<'z> = &'z base::Name<[u8]>;

fn negative<'a>(
    query: &'a Query<'_>,
    apex: usize,
    told: &Told<'a>,
) -> Option<(WireName<'a>, Ttl, Soa<WireName<'a>>)> {
    let owner = base::Name::from_slice(query.name().get(apex..)?).ok()?;
    Some((owner, Ttl::from_secs(told.ttl), soa(told)?))
}

fn soa<'z>(told: &Told<'z>) -> Option<Soa<WireName<'z>>> {
    let (server, mailbox) = told.authority;
    let [refresh, retry, expire, minimum] = [REFRESH, RETRY, EXPIRE, told.ttl].map(Ttl::from_secs);
    Some(Soa::new(wire(server)?, wire(mailbox)?, Serial(told.serial), refresh, retry, expire, minimum))
}

fn wire(name: &Name) -> Option<WireName<'_>> {
    base::Name::from_slice(name.as_wire()).ok()
}

/// With the header and the question of the query.
fn begun(query: &Query<'_>, rcode: Rcode, out: Vec<u8>) -> Option<AnswerBuilder<Target>> {
    let mut builder = MessageBuilder::from_target(StaticCompressor::new(out)).ok()?;
    let asked = query.message.header();
    let header = builder.header_mut();
    header.set_id(asked.id());
    header.set_qr(true);
    header.set_rd(asked.rd());
    header.set_cd(asked.cd());
    header.set_ra(true);
    header.set_rcode(rcode);
    let mut questions = builder.question();
    let question = &query.question;
    questions.push((question.qname(), question.qtype(), question.qclass())).ok()?;
    Some(questions.answer())
}

fn options(
    additional: &mut base::message_builder::AdditionalBuilder<Target>,
    edns: Edns,
    rcode: Option<OptRcode>,
) -> Result<(), PushError> {
    additional.opt(|opt| {
        opt.set_udp_payload_size(u16::try_from(DATAGRAM).unwrap_or(u16::MAX));
        opt.set_version(0);
        // As the client has it (RFC 3225 section 3).
        opt.set_dnssec_ok(edns.dnssec_ok);
        if let Some(rcode) = rcode {
            opt.set_rcode(rcode);
        }
        Ok(())
    })
}

/// What is said to a message that has no question; `None` when nothing is.
pub(crate) fn bare(packet: &[u8], fault: Fault) -> Option<Vec<u8>> {
    let Fault::Bare(rcode) = fault else { return None };
    let mut header = [0; HEADER];
    header.get_mut(..4)?.copy_from_slice(packet.get(..4)?);
    let told = base::Header::for_message_slice_mut(&mut header);
    told.set_qr(true);
    told.set_aa(false);
    told.set_tc(false);
    told.set_ra(true);
    told.set_z(false);
    told.set_ad(false);
    told.set_rcode(rcode);
    Some(header.into())
}

/// Why there is no answer to a question.
pub(crate) fn refusal(query: &Query<'_>, rcode: OptRcode) -> Option<Vec<u8>> {
    let mut additional = begun(query, rcode.rcode(), Vec::new())?.additional();
    if let Some(edns) = query.edns {
        options(&mut additional, edns, Some(rcode)).ok()?;
    }
    Some(additional.finish().into_target())
}

/// That nothing could be found out.
pub(crate) fn failure(query: &Query<'_>) -> Option<Vec<u8>> {
    refusal(query, OptRcode::SERVFAIL)
}
