//! An answer as it is kept: what follows the question, in wire form, and what there is to know about it.
//!
//! Owns how it becomes a client's message again. The bytes are those that came: pointers in them lead to the question,
//! which is as long as it was and as the client has written it. Refuses to know where it came from.
//!
//! Pure.

use super::question::{Client, HEADER, opt};

/// The longest that an answer is believed without asking again; what names say beyond that is mostly a mistake.
pub(crate) const LONGEST: u32 = 86_400;
/// For what has expired, RFC 8767, section 4.
pub(crate) const STALE: u32 = 30;

pub(crate) const SERVFAIL: u8 = 2;
pub(crate) const NXDOMAIN: u8 = 3;
pub(crate) const REFUSED: u8 = 5;

const RESPONSE: u8 = 0x80;
const TRUNCATED: u8 = 0x02;
const RECURSION_DESIRED: u8 = 0x01;
const RECURSION_AVAILABLE: u8 = 0x80;
const AUTHENTIC: u8 = 0x20;
const CHECKING_DISABLED: u8 = 0x10;
/// Extended DNS errors, RFC 8914.
const OPTION_ERROR: u16 = 15;

/// Codes of RFC 8914, section 5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub(crate) struct Reason(pub(crate) u16);

impl Reason {
    pub(crate) const STALE: Self = Self(3);
    pub(crate) const NOT_READY: Self = Self(14);
    pub(crate) const STALE_NXDOMAIN: Self = Self(19);
    pub(crate) const NOT_AUTHORITATIVE: Self = Self(20);
    pub(crate) const NO_REACHABLE: Self = Self(22);
    pub(crate) const NETWORK: Self = Self(23);
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rcode: u8,
    /// Every record was validated by who said so (AD).
    pub(crate) authentic: bool,
    /// Records are missing at the end of it.
    pub(crate) truncated: bool,
    pub(crate) answers: u16,
    pub(crate) authorities: u16,
    /// All records, one behind the other.
    pub(crate) body: Box<[u8]>,
    /// Where in `body` times to live stand.
    pub(crate) ttls: Box<[u16]>,
    /// Seconds for which it may be repeated; `None` where it must not.
    pub(crate) lifetime: Option<u32>,
    /// What the upstream says about it.
    pub(crate) reason: Option<Reason>,
}

/// What becomes of the times to live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    /// So many seconds less.
    Seconds(u32),
    /// Expired.
    Stale,
}

impl Answer {
    /// An answer without records.
    pub(crate) fn failure(rcode: u8, reason: Reason) -> Self {
        Self {
            rcode,
            authentic: false,
            truncated: false,
            answers: 0,
            authorities: 0,
            body: Box::default(),
            ttls: Box::default(),
            lifetime: None,
            reason: Some(reason),
        }
    }

    /// The whole message for a client.
    pub(crate) fn message(&self, client: &Client<'_>, age: Age) -> Vec<u8> {
        let mut message = Vec::with_capacity(HEADER + client.question.len() + self.body.len() + 17);
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        // RFC 6840, section 5.8: only to whom has asked for it. What has expired nobody vouches for.
        let asked = client.wishes.authentic || client.wishes.dnssec;
        let authentic = self.authentic && asked && age != Age::Stale;
        message.extend(client.id.to_be_bytes());
        message.push(RESPONSE | flag(self.truncated, TRUNCATED) | flag(client.recursion, RECURSION_DESIRED));
        message.push(
            RECURSION_AVAILABLE
                | flag(authentic, AUTHENTIC)
                | flag(client.wishes.unchecked, CHECKING_DISABLED)
                | self.rcode & 0x0f,
        );
        for count in [1, self.answers, self.authorities, u16::from(client.edns)] {
            message.extend(count.to_be_bytes());
        }
        message.extend_from_slice(client.question);
        let body = message.len();
        message.extend_from_slice(&self.body);
        self.set_ttls(message.get_mut(body..).unwrap_or_default(), age);
        if client.edns {
            opt(&mut message, client.wishes.dnssec, &self.said_about(age));
        }
        message
    }

    fn set_ttls(&self, body: &mut [u8], age: Age) {
        for at in &self.ttls {
            let at = usize::from(*at);
            let Some(bytes) = body.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) else { continue };
            let ttl = seconds(u32::from_be_bytes(*bytes));
            *bytes = match age {
                Age::Seconds(age) => ttl.saturating_sub(age),
                Age::Stale => STALE,
            }
            .to_be_bytes();
        }
    }

    /// The option that says what is special about it.
    fn said_about(&self, age: Age) -> Vec<u8> {
        let reason = match age {
            Age::Stale if self.rcode == NXDOMAIN => Some(Reason::STALE_NXDOMAIN),
            Age::Stale => Some(Reason::STALE),
            Age::Seconds(_) => self.reason,
        };
        let option =
            |Reason(code)| [OPTION_ERROR.to_be_bytes(), 2_u16.to_be_bytes(), code.to_be_bytes()].concat();
        reason.map(option).unwrap_or_default()
    }
}

/// A time to live as it is meant: one with the highest bit set is none (RFC 2181, section 8).
pub(crate) fn seconds(ttl: u32) -> u32 {
    if ttl > i32::MAX.unsigned_abs() { 0 } else { ttl.min(LONGEST) }
}
