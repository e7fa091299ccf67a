//! The cache on its way to the process that takes over.
//!
//! Times are ages: a clock is nobody else's. Whoever sends it may be anybody: every answer is judged as if an upstream
//! had sent it, and what does not pass is left out.
//!
//! Pure.

use std::rc::Rc;
use std::time::Duration;

use super::super::forward::answer::{Age, LONGEST};
use super::super::forward::question::{Client, HEADER, Key};
use super::super::forward::reply::{Asked, Verdict, judge};
use super::{Cache, Kind};

/// Tells this form from later ones.
const FORM: &[u8] = b"smarter-cni dns cache 1\n";
/// The highest that a key begins with.
const MOST_BITS: u8 = 0x0f;

/// Before each message.
#[derive(Clone, Copy, Debug)]
struct Frame {
    /// Group and wishes of its key.
    bits: u8,
    /// Seconds since it came from an upstream.
    age: u32,
    /// Length of its question.
    question: u16,
    message: u16,
}

impl Frame {
    const LENGTH: usize = 9;

    fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(self.bits);
        bytes.extend(self.age.to_be_bytes());
        bytes.extend(self.question.to_be_bytes());
        bytes.extend(self.message.to_be_bytes());
    }

    fn read(bytes: [u8; Self::LENGTH]) -> Self {
        let [bits, age @ .., q, r, m, n] = bytes;
        let (question, message) = ([q, r], [m, n]);
        Self {
            bits,
            age: u32::from_be_bytes(age),
            question: u16::from_be_bytes(question),
            message: u16::from_be_bytes(message),
        }
    }
}

impl Cache {
    /// Every answer that may still be said.
    pub(crate) fn export(&self, now: Duration) -> Vec<u8> {
        let mut bytes = FORM.to_vec();
        for key in &self.hand {
            let Some(entry) = self.entries.get(key) else { continue };
            let over = now >= entry.expires && now.saturating_sub(entry.expires) >= self.stale;
            if entry.kind != Kind::Answer || over {
                continue;
            }
            let (question, wishes) = (key.question(), key.wishes());
            let client = Client { id: 0, recursion: true, question, wishes, edns: false };
            let message = entry.answer.message(&client, Age::Seconds(0));
            let age = u32::try_from(now.saturating_sub(entry.stored).as_secs()).unwrap_or(u32::MAX);
            let lengths = (u16::try_from(question.len()), u16::try_from(message.len()));
            if let (Ok(question), Ok(length)) = lengths {
                Frame { bits: key.bits(), age, question, message: length }.write(&mut bytes);
                bytes.extend(message);
            }
        }
        bytes
    }

    /// Takes over what another process has exported; what is here already stays.
    pub(crate) fn import(&mut self, bytes: &[u8], now: Duration) {
        let Some(mut rest) = bytes.strip_prefix(FORM) else { return };
        while let Some((frame, behind)) = rest.split_first_chunk() {
            let frame = Frame::read(*frame);
            let Some((message, behind)) = behind.split_at_checked(frame.message.into()) else { return };
            rest = behind;
            self.take(frame, message, now);
        }
    }

    fn take(&mut self, frame: Frame, message: &[u8], now: Duration) {
        let Some(question) = message.get(HEADER..HEADER + usize::from(frame.question)) else { return };
        let key = Key::of(frame.bits, question);
        let asked = Asked { id: 0, question, edns: false, dnssec: key.wishes().dnssec };
        let age = Duration::from_secs(frame.age.into());
        // Nothing is older than the longest life and what is allowed beyond it; and a clock began with the boot.
        let known = age < self.stale + Duration::from_secs(LONGEST.into()) && age <= now;
        if frame.bits > MOST_BITS || !known || self.entries.contains_key(&key) {
            return;
        }
        if let Verdict::Answer(answer) = judge(message, &asked) {
            self.keep_of(&key, Rc::new(answer), now, age);
        }
    }
}
