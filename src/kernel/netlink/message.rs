//! The bytes of netlink messages: headers, where an answer of several parts ends, and the kernel's own words about a refusal
//! (extended acknowledgement).
//!
//! Pure.

use std::io;

use netlink_packet_core::Emitable;

use crate::kernel::attribute::{attributes, string, u16_at, u32_at};
use crate::kernel::error::Error;

/// `struct nlmsghdr`, linux/netlink.h.
pub(super) const HEADER: usize = 16;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

pub const NLM_F_REQUEST: u16 = 0x01;
pub const NLM_F_MULTI: u16 = 0x02;
pub const NLM_F_ACK: u16 = 0x04;
const NLM_F_DUMP_INTR: u16 = 0x10;
pub const NLM_F_DUMP: u16 = 0x300;
pub const NLM_F_REPLACE: u16 = 0x100;
pub const NLM_F_EXCL: u16 = 0x200;
pub const NLM_F_CREATE: u16 = 0x400;
pub const NLM_F_APPEND: u16 = 0x800;

/// What has been heard of the answer to one question.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hearing {
    sequence: u32,
    /// A list, which only NLMSG_DONE ends.
    is_dump: bool,
    /// Nothing changed while the kernel went through its list.
    pub(super) whole: bool,
}

/// What a message is to whoever waits for an answer.
pub(super) enum Heard {
    /// None of it.
    Other,
    Part,
    End(Result<bool, Refusal>),
}

impl Hearing {
    pub(super) fn of(sequence: u32, is_dump: bool) -> Self {
        Self { sequence, is_dump, whole: true }
    }

    pub(super) fn hear(&mut self, message: &Message<'_>) -> Heard {
        if message.sequence != self.sequence {
            return Heard::Other;
        }
        self.whole &= message.flags & NLM_F_DUMP_INTR == 0;
        if !matches!(message.kind, NLMSG_DONE | NLMSG_ERROR) {
            return Heard::Part;
        }
        let refusal = Refusal::parse(message);
        // The end of a list carries the error that broke it off.
        if refusal.errno != 0 {
            return Heard::End(Err(refusal));
        }
        self.whole &= !self.is_dump || message.kind == NLMSG_DONE;
        Heard::End(Ok(self.whole))
    }
}

/// Appends a `struct nlmsghdr` for a payload of that many bytes.
pub fn push_header(buffer: &mut Vec<u8>, kind: u16, flags: u16, sequence: u32, payload: usize) {
    let length = u32::try_from(HEADER + payload).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_ne_bytes());
    buffer.extend_from_slice(&kind.to_ne_bytes());
    buffer.extend_from_slice(&flags.to_ne_bytes());
    buffer.extend_from_slice(&sequence.to_ne_bytes());
    buffer.extend_from_slice(&0u32.to_ne_bytes());
}

/// The bytes of a message body.
pub(in crate::kernel) fn encoded(message: &impl Emitable) -> Vec<u8> {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes
}

pub(in crate::kernel) struct Message<'a> {
    pub(in crate::kernel) kind: u16,
    flags: u16,
    pub(super) sequence: u32,
    pub(in crate::kernel) payload: &'a [u8],
}

/// The messages of one datagram.
pub(in crate::kernel) struct Messages<'a>(pub(in crate::kernel) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(u32_at(self.0, 0)?).ok()?;
        let payload = self.0.get(HEADER..length)?;
        let message = Message {
            kind: u16_at(self.0, 4)?,
            flags: u16_at(self.0, 6)?,
            sequence: u32_at(self.0, 8)?,
            payload,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// NLMSG_ERROR or NLMSG_DONE: an errno (0 is success) and, where the kernel has them, its own words.
pub(super) struct Refusal {
    pub(super) errno: i32,
    pub(super) words: Option<String>,
    io: Option<io::Error>,
}

impl Refusal {
    pub(super) fn parse(message: &Message<'_>) -> Self {
        let errno = u32_at(message.payload, 0).map_or(0, u32::cast_signed).wrapping_neg();
        Self { errno, words: (errno != 0).then(|| extended_words(message)).flatten(), io: None }
    }

    pub(super) fn into_error(self, operation: String) -> Error {
        let cause = self.io.unwrap_or_else(|| io::Error::from_raw_os_error(self.errno));
        Error::with_words(operation, cause, self.words)
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error().unwrap_or(0), words: None, io: Some(error) }
    }
}

/// NLMSGERR_ATTR_MSG, present when NLM_F_ACK_TLVS is set. It stands behind the errno and, unless NLM_F_CAPPED is set,
/// behind a copy of the refused message.
fn extended_words(message: &Message<'_>) -> Option<String> {
    const NLM_F_CAPPED: u16 = 0x100;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    if message.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let echoed = if message.kind == NLMSG_DONE {
        0
    } else if message.flags & NLM_F_CAPPED != 0 {
        HEADER
    } else {
        // Any number of 32 bits: rounding it up may go beyond what a 32-bit processor counts to.
        usize::try_from(u32_at(message.payload, 4)?).ok()?.checked_next_multiple_of(4)?
    };
    attributes(message.payload.get(echoed.checked_add(4)?..)?)
        .find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG)
        .map(|(_, value)| string(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        push_header(&mut bytes, kind, flags, sequence, payload.len());
        bytes.extend_from_slice(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn words(kind: u16, flags: u16, payload: &[u8]) -> Option<String> {
        let bytes = message(kind, flags, 1, payload);
        let message = Messages(&bytes).next().unwrap();
        Refusal::parse(&message).words
    }

    #[test]
    fn a_datagram_is_walked_until_it_breaks() {
        let mut datagram = message(16, 2, 7, &[1, 2, 3]);
        datagram.extend(message(3, 2, 8, &[0; 4]));
        let seen: Vec<_> = Messages(&datagram).map(|m| (m.kind, m.sequence, m.payload.to_vec())).collect();
        assert_eq!(seen, [(16, 7, vec![1, 2, 3]), (3, 8, vec![0; 4])]);
        assert_eq!(Messages(&datagram[..datagram.len() - 1]).count(), 1);
        assert_eq!(Messages(&[0; 16]).count(), 0, "shorter than its own header");
    }

    /// `None` while more is to come.
    fn heard(is_dump: bool, messages: &[Vec<u8>]) -> Option<Result<bool, i32>> {
        let mut hearing = Hearing::of(7, is_dump);
        messages.iter().find_map(|bytes| match hearing.hear(&Messages(bytes).next().unwrap()) {
            Heard::End(end) => Some(end.map_err(|refusal| refusal.errno)),
            _ => None,
        })
    }

    #[test]
    fn only_a_list_that_ends_well_is_an_answer() {
        let part = message(16, NLM_F_MULTI, 7, &[0; 16]);
        let done = |errno: i32| message(NLMSG_DONE, NLM_F_MULTI, 7, &errno.to_ne_bytes());
        let ack = message(NLMSG_ERROR, 0, 7, &[0; 20]);
        assert_eq!(heard(true, &[part.clone(), done(0)]), Some(Ok(true)));
        assert_eq!(heard(true, std::slice::from_ref(&part)), None, "its end is to come");
        let interrupted = message(16, NLM_F_MULTI | NLM_F_DUMP_INTR, 7, &[0; 16]);
        assert_eq!(heard(true, &[interrupted, part.clone(), done(0)]), Some(Ok(false)));
        let late = message(NLMSG_DONE, NLM_F_MULTI | NLM_F_DUMP_INTR, 7, &[0; 4]);
        assert_eq!(heard(true, &[part.clone(), late]), Some(Ok(false)));
        // As of a port whose VLANs do not fit.
        assert_eq!(heard(true, &[part.clone(), done(-90)]), Some(Err(90)));
        assert_eq!(heard(true, &[part, ack.clone()]), Some(Ok(false)), "an end of something else");
        assert_eq!(heard(false, &[ack]), Some(Ok(true)));
        assert_eq!(heard(true, &[message(NLMSG_DONE, 0, 6, &[0; 4])]), None, "of another question");
    }

    #[test]
    fn the_kernels_words_stand_behind_what_it_echoes() {
        let errno = (-17i32).to_ne_bytes();
        let echo = message(16, 5, 1, &[9; 8]);
        let text = [9, 0, 1, 0, b'b', b'u', b's', b'y', 0];
        let whole = [&errno[..], &echo, &text].concat();
        assert_eq!(words(NLMSG_ERROR, 0x200, &whole).as_deref(), Some("busy"));
        let capped = [&errno[..], &echo[..HEADER], &text].concat();
        assert_eq!(words(NLMSG_ERROR, 0x300, &capped).as_deref(), Some("busy"));
        let done = [&errno[..], &text].concat();
        assert_eq!(words(NLMSG_DONE, 0x202, &done).as_deref(), Some("busy"));

        for absurd in [u32::MAX, u32::MAX - 3] {
            let broken = [&errno[..], &absurd.to_ne_bytes(), &text].concat();
            assert_eq!(words(NLMSG_ERROR, 0x200, &broken), None, "an echo of {absurd} bytes");
        }

        assert_eq!(words(NLMSG_ERROR, 0, &whole), None, "an old kernel says nothing");
        assert_eq!(words(NLMSG_ERROR, 0x200, &errno), None);
        let warning = [&[0; 4][..], &echo, &text].concat();
        assert_eq!(words(NLMSG_ERROR, 0x200, &warning), None, "no refusal, no words");
    }
}
