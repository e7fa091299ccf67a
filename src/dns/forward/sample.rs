//! Messages for tests, written byte by byte: not with the code under test, nor with the crate that it reads them with.

pub(crate) const A: u16 = 1;
pub(crate) const NS: u16 = 2;
pub(crate) const CNAME: u16 = 5;
pub(crate) const SOA: u16 = 6;
pub(crate) const TXT: u16 = 16;
pub(crate) const AAAA: u16 = 28;
pub(crate) const DNAME: u16 = 39;
pub(crate) const OPT: u16 = 41;
pub(crate) const RRSIG: u16 = 46;
pub(crate) const NSEC: u16 = 47;

pub(crate) fn name(text: &str) -> Vec<u8> {
    let mut wire = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        wire.push(u8::try_from(label.len()).unwrap());
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire
}

/// Name, type and class IN.
pub(crate) fn question(text: &str, kind: u16) -> Vec<u8> {
    [name(text), kind.to_be_bytes().to_vec(), vec![0, 1]].concat()
}

/// A record of class IN; `owner` in wire form, so that it can be a pointer.
pub(crate) fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap();
    [owner, &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

/// Points at the name of the question.
pub(crate) const ASKED: &[u8] = &[0xc0, 12];

pub(crate) fn soa(owner: &str, ttl: u32, minimum: u32) -> Vec<u8> {
    let numbers = [1, 7200, 900, 604_800, minimum].map(u32::to_be_bytes).concat();
    record(&name(owner), SOA, ttl, &[name("ns.example"), name("admin.example"), numbers].concat())
}

/// A message with the flags of the third and fourth byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) flags: [u8; 2],
    pub(crate) question: Vec<u8>,
    pub(crate) answer: Vec<Vec<u8>>,
    pub(crate) authority: Vec<Vec<u8>>,
    pub(crate) additional: Vec<Vec<u8>>,
}

impl Message {
    /// An upstream's, with RD and RA.
    pub(crate) fn reply(id: u16, question: Vec<u8>, rcode: u8) -> Self {
        Self { id, flags: [0x81, 0x80 | rcode], question, ..Self::default() }
    }

    pub(crate) fn wire(&self) -> Vec<u8> {
        let mut wire = [self.id.to_be_bytes(), self.flags].concat();
        let sections = [&self.answer, &self.authority, &self.additional];
        for count in [usize::from(!self.question.is_empty())].into_iter().chain(sections.map(Vec::len)) {
            wire.extend(u16::try_from(count).unwrap().to_be_bytes());
        }
        wire.extend(&self.question);
        sections.into_iter().flatten().for_each(|record| wire.extend(record));
        wire
    }
}

/// An OPT record with one extended error (RFC 8914) where there is a code.
pub(crate) fn opt(dnssec: bool, code: Option<u16>) -> Vec<u8> {
    let option = code.map(|code| [&[0, 15, 0, 2][..], &code.to_be_bytes()].concat()).unwrap_or_default();
    let ttl = if dnssec { 0x8000 } else { 0 };
    let mut wire = record(&[0], OPT, ttl, &option);
    // The class is the size of messages.
    wire[3..5].copy_from_slice(&1232_u16.to_be_bytes());
    wire
}
