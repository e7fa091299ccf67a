//! A client's question: what of it decides the answer, what the answer has to repeat, and how it is passed on.
//!
//! Owns the key under which answers are kept and joined, and the messages that leave for an upstream. Refuses messages
//! that are no question; which questions are answered at all was decided before.
//!
//! Pure.

use domain::base::Message;
use domain::base::iana::{Class, Opcode};
use domain::base::name::ToLabelIter as _;

/// The fixed part of every message, RFC 1035, section 4.1.1.
pub(crate) const HEADER: usize = 12;
/// Type and class behind the name.
pub(crate) const TYPE_AND_CLASS: usize = 4;
/// What passes every link without being cut into fragments (DNS flag day 2020).
pub(crate) const PAYLOAD: u16 = 1232;

/// RD, of the third byte.
const RECURSION_DESIRED: u8 = 0x01;
/// AD and CD, of the fourth.
const AUTHENTIC: u8 = 0x20;
const CHECKING_DISABLED: u8 = 0x10;
const TYPE_OPT: u16 = 41;

/// Whom a question goes to. The answers of one say nothing about the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Group {
    /// The name servers of the node's uplinks.
    #[default]
    Uplink,
    /// The name server of the cluster, for the names below its domain.
    Cluster,
}

/// What a client asks for beside the name: each combination is answered, and kept, by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wishes {
    /// DO: with signatures (RFC 3225).
    pub(crate) dnssec: bool,
    /// CD: also what cannot be validated (RFC 4035, section 3.2.2).
    pub(crate) unchecked: bool,
    /// AD: whether it was validated (RFC 6840, section 5.7).
    pub(crate) authentic: bool,
}

/// What decides the answer: group, wishes, type, and the name in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key(pub(crate) Box<[u8]>);

impl Key {
    pub(crate) fn new(group: Group, wishes: Wishes, question: &[u8]) -> Self {
        let group = match group {
            Group::Uplink => 0,
            Group::Cluster => 8,
        };
        let bit = |on: bool, bit: u8| if on { bit } else { 0 };
        let wishes = bit(wishes.dnssec, 4) | bit(wishes.unchecked, 2) | bit(wishes.authentic, 1);
        Self::of(group | wishes, question)
    }

    /// From what [`Self::bits`] said.
    pub(crate) fn of(bits: u8, question: &[u8]) -> Self {
        let mut key = Vec::with_capacity(1 + question.len());
        key.push(bits);
        key.extend_from_slice(question);
        // Lengths of labels are below every letter; type and class are numbers.
        let name = key.len().saturating_sub(TYPE_AND_CLASS);
        key.get_mut(1..name).unwrap_or_default().make_ascii_lowercase();
        Self(key.into())
    }

    /// Name, type and class.
    pub(crate) fn question(&self) -> &[u8] {
        self.0.get(1..).unwrap_or_default()
    }

    /// Group and wishes.
    pub(crate) fn bits(&self) -> u8 {
        self.0.first().copied().unwrap_or_default()
    }

    pub(crate) fn wishes(&self) -> Wishes {
        let bits = self.bits();
        Wishes { dnssec: bits & 4 != 0, unchecked: bits & 2 != 0, authentic: bits & 1 != 0 }
    }
}

/// A client's question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client<'a> {
    pub(crate) id: u16,
    /// RD: otherwise only what is known already is wanted.
    pub(crate) recursion: bool,
    /// Name, type and class, byte for byte.
    pub(crate) question: &'a [u8],
    pub(crate) wishes: Wishes,
    /// Whether it has an OPT record: only then the answer may have one.
    pub(crate) edns: bool,
}

impl<'a> Client<'a> {
    /// `None` where it is no question of class IN with one plain name.
    pub(crate) fn read(query: &'a [u8]) -> Option<Self> {
        let message = Message::from_octets(query).ok()?;
        let header = message.header();
        let asked = message.sole_question().ok()?;
        if header.qr() || header.opcode() != Opcode::QUERY || asked.qclass() != Class::IN {
            return None;
        }
        let end = HEADER + usize::from(asked.qname().compose_len()) + TYPE_AND_CLASS;
        let mut section = message.question();
        section.next()?.ok()?;
        // A pointer in the first name of a message leads nowhere.
        if section.pos() != end {
            return None;
        }
        let opt = message.opt();
        let dnssec = opt.as_ref().is_some_and(domain::base::opt::OptRecord::dnssec_ok);
        let wishes = Wishes { dnssec, unchecked: header.cd(), authentic: header.ad() };
        let question = query.get(HEADER..end)?;
        Some(Self { id: header.id(), recursion: header.rd(), question, wishes, edns: opt.is_some() })
    }
}

/// The message for an upstream.
pub(crate) fn query(id: u16, question: &[u8], wishes: Wishes, edns: bool) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + question.len() + OPT);
    message.extend(id.to_be_bytes());
    let wanted = [(wishes.authentic, AUTHENTIC), (wishes.unchecked, CHECKING_DISABLED)];
    message.push(RECURSION_DESIRED);
    message.push(wanted.iter().filter(|(wanted, _)| *wanted).map(|(_, bit)| bit).sum());
    message.extend([0, 1, 0, 0, 0, 0, 0, u8::from(edns)]);
    message.extend_from_slice(question);
    if edns {
        opt(&mut message, wishes.dnssec, &[]);
    }
    message
}

/// Length of an OPT record without options.
const OPT: usize = 11;

/// An OPT record (RFC 6891, section 6.1.2) with the given options behind it.
pub(super) fn opt(message: &mut Vec<u8>, dnssec: bool, options: &[u8]) {
    message.push(0);
    message.extend(TYPE_OPT.to_be_bytes());
    message.extend(PAYLOAD.to_be_bytes());
    message.extend([0, 0, u8::from(dnssec) << 7, 0]);
    message.extend(u16::try_from(options.len()).unwrap_or_default().to_be_bytes());
    message.extend_from_slice(options);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, type and class IN.
    fn asked(name: &str, kind: u16) -> Vec<u8> {
        crate::dns::forward::sample::question(name, kind)
    }

    #[test]
    fn a_question_is_read_as_it_is_passed_on() {
        let question = asked("WeB.example", 28);
        for (dnssec, unchecked, authentic, edns) in
            [(false, false, false, false), (true, false, true, true), (false, true, false, true)]
        {
            let wishes = Wishes { dnssec, unchecked, authentic };
            let message = query(0xbeef, &question, wishes, edns);
            let client = Client::read(&message).unwrap();
            assert_eq!(client, Client { id: 0xbeef, recursion: true, question: &question, wishes, edns });
            let key = Key::new(Group::Uplink, wishes, &question);
            assert_eq!((key.question(), key.wishes()), (&asked("web.example", 28)[..], wishes));
        }
    }

    #[test]
    fn what_differs_is_kept_apart() {
        let (plain, dnssec) = (Wishes::default(), Wishes { dnssec: true, ..Wishes::default() });
        let key = |group, wishes, name: &str, kind| Key::new(group, wishes, &asked(name, kind));
        let one = key(Group::Uplink, plain, "web.example", 1);
        assert_eq!(one, key(Group::Uplink, plain, "WEB.eXample", 1));
        assert_ne!(one, key(Group::Cluster, plain, "web.example", 1));
        assert_ne!(one, key(Group::Uplink, dnssec, "web.example", 1));
        assert_ne!(one, key(Group::Uplink, plain, "web.example", 28));
        // 65 is an A, and 97 an a.
        assert_ne!(key(Group::Uplink, plain, "web", 65), key(Group::Uplink, plain, "web", 97));
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let question = query(1, &asked("web.example", 1), Wishes::default(), false);
        assert!(Client::read(&question).is_some());
        for (at, value) in
            [(2, 0x81), (2, 0x21), (5, 0), (5, 2), (HEADER + 16, 3), (HEADER, 0xc0), (HEADER, 0x40)]
        {
            let mut wrong = question.clone();
            wrong[at] = value;
            assert_eq!(Client::read(&wrong), None, "{at}: {value}");
        }
        for length in 0..question.len() {
            assert_eq!(Client::read(&question[..length]), None, "{length}");
        }
        // A name that ends in a pointer to the header.
        let mut pointer = query(0, &[], Wishes::default(), false);
        pointer.extend([1, b'a', 0xc0, 4, 0, 1, 0, 1]);
        assert_eq!(Client::read(&pointer), None);
    }
}
