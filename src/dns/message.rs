//! What clients send and what they get back, as bytes of a message (RFC 1035, RFC 6891).
//!
//! Owns what is a question that can be answered, and how an answer is written and cut to size. Refuses to know who asked
//! and what is in the zone. Pure: never panics, whatever comes, and answers nothing that is longer than what it was asked
//! for by more than the answer.
//!
//! Pure.

mod cut;
mod render;

use domain::base::iana::{Class, Opcode, OptRcode, Rcode};
use domain::base::name::ParsedName;
use domain::base::{Message, Question, Rtype};

pub(crate) use cut::cut;
pub(crate) use render::{Told, bare, failure, local, refusal};

use super::name::LONGEST;

/// Bytes of a datagram to a client that does not say what it can take (RFC 1035 section 4.2.1).
const PLAIN: usize = 512;
/// What passes every path without being cut in pieces (RFC 9715), whatever the client says.
pub(crate) const DATAGRAM: usize = 1232;
/// Over TCP.
pub(crate) const STREAM: usize = u16::MAX as usize;
const HEADER: usize = 12;

/// What the client says with its OPT record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edns {
    pub(crate) size: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
}

/// The one question of a message that is what it says.
#[derive(Debug)]
pub(crate) struct Query<'q> {
    message: &'q Message<[u8]>,
    question: Question<ParsedName<&'q [u8]>>,
    lower: [u8; LONGEST],
    length: usize,
    edns: Option<Edns>,
}

/// What is said to a message that has no question which could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: it is no question, and an answer would only be an echo.
    Silence,
    /// The header alone, because what follows it cannot be trusted.
    Bare(Rcode),
}

impl<'q> Query<'q> {
    /// The name that is asked for, in lower case.
    pub(crate) fn name(&self) -> &[u8] {
        self.lower.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> Rtype {
        self.question.qtype()
    }

    /// Bytes of the longest answer that the client takes in one datagram.
    pub(crate) fn datagram(&self) -> usize {
        self.edns.map_or(PLAIN, |edns| usize::from(edns.size).clamp(PLAIN, DATAGRAM))
    }

    pub(crate) fn parse(packet: &'q [u8]) -> Result<Self, Fault> {
        let message = Message::from_slice(packet).map_err(|_| Fault::Silence)?;
        let header = message.header();
        if header.qr() {
            return Err(Fault::Silence);
        }
        if header.opcode() != Opcode::QUERY {
            return Err(Fault::Bare(Rcode::NOTIMP));
        }
        let read = || {
            let question = message.sole_question().ok().filter(|question| question.qtype() != Rtype::OPT)?;
            let mut lower = [0; LONGEST];
            let length = lower_case(packet.get(HEADER..)?, &mut lower)?;
            Some(Self { message, question, lower, length, edns: edns(message).ok()? })
        };
        read().ok_or(Fault::Bare(Rcode::FORMERR))
    }

    /// Why it is not answered, if it is not.
    pub(crate) fn refused(&self) -> Option<OptRcode> {
        if self.edns.is_some_and(|edns| edns.version > 0) {
            return Some(OptRcode::BADVERS);
        }
        // Types that are none (RFC 6895 section 3.1): whole zones, keys, signatures of messages.
        let is_meta = (128..255).contains(&self.kind().to_int());
        (is_meta || self.question.qclass() != Class::IN).then_some(OptRcode::REFUSED)
    }
}

/// The name at the beginning of the bytes; `None` if it is none, or a pointer: to what, in the first name?
fn lower_case(bytes: &[u8], lower: &mut [u8; LONGEST]) -> Option<usize> {
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        if length > 63 {
            return None;
        }
        let label = bytes.get(at..=at + length)?;
        let room = lower.get_mut(at..=at + length)?;
        room.copy_from_slice(label);
        room.make_ascii_lowercase();
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
}

/// What RFC 6891 section 6.1.1 calls an error of form: two of them, one that is not the root's, records that are none.
struct NoForm;

fn edns(message: &Message<[u8]>) -> Result<Option<Edns>, NoForm> {
    let mut found = None;
    for record in message.additional().map_err(|_| NoForm)? {
        let record = record.map_err(|_| NoForm)?;
        if record.rtype() != Rtype::OPT {
            continue;
        }
        let [_, version, flags, _] = record.ttl().as_secs().to_be_bytes();
        let edns = Edns { size: record.class().to_int(), version, dnssec_ok: flags & 0x80 != 0 };
        if !record.owner().is_root() || found.replace(edns).is_some() {
            return Err(NoForm);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
