//! What an upstream's message is: the answer to our question, a refusal, or nothing of ours.
//!
//! Whoever can put a message on our socket says what they like, an upstream too. What is taken answers exactly what was
//! asked: the same question, and in the answer nothing but the name's records and those of the names that it is an alias for.
//! What answers more is not taken at all, so that nobody has to rely on clients to overlook it. The additional section is left
//! out, and so is an authority section that says nothing about this answer (as with unbound's `minimal-responses`).
//!
//! Pure.

use domain::base::iana::{Class, Opcode, Rtype};
use domain::base::opt::{ExtendedError, OptRecord};
use domain::base::wire::ParseError;
use domain::base::{Message, ParsedName, ParsedRecord, RecordSection};
use domain::rdata::{A, Aaaa, Cname, Dname, Mx, Ns, Ptr, Soa, Srv};

use super::answer::{Answer, NXDOMAIN, Reason, seconds};
use super::question::{HEADER, TYPE_AND_CLASS};

/// Names that stand for names; a longer chain is a circle.
const LONGEST_CHAIN: usize = 16;
/// Seconds that a name which does not exist is believed not to; RFC 2308 recommends hours, a node in the field waits for names
/// that appear.
const LONGEST_ABSENCE: u32 = 300;

type Name<'a> = ParsedName<&'a [u8]>;
type Section<'a> = RecordSection<'a, &'a [u8]>;

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) id: u16,
    /// Name, type and class.
    pub(crate) question: &'a [u8],
    pub(crate) edns: bool,
    pub(crate) dnssec: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answer(Answer),
    /// There is more of it than fitted.
    Truncated(Option<Answer>),
    /// The server does not answer this.
    Refused(u8, Option<Reason>),
    /// The server does not know EDNS.
    OnlyPlain,
    /// It answers something else, or cannot be read. Who can say so could also have answered.
    Wrong(&'static str),
    /// It belongs to no question of this socket.
    Foreign,
}

/// Reads one message.
pub(crate) fn judge(bytes: &[u8], asked: &Asked<'_>) -> Verdict {
    let Ok(message) = Message::from_octets(bytes) else { return Verdict::Foreign };
    let header = message.header();
    if header.id() != asked.id || !header.qr() || header.opcode() != Opcode::QUERY {
        return Verdict::Foreign;
    }
    let rcode = header.rcode().to_int();
    // Old servers refuse with nothing but the header.
    let bare = message.header_counts().qdcount() == 0 && matches!(rcode, 1 | 2 | 4 | 5);
    if !bare && !repeats(bytes, message.header_counts().qdcount(), asked.question) {
        return Verdict::Foreign;
    }
    let opt = message.opt();
    if asked.edns && opt.is_none() && matches!(rcode, 1 | 4) {
        return Verdict::OnlyPlain;
    }
    if let Some(opt) = &opt
        && opt.rcode(header).to_int() > 0x0f
    {
        // BADVERS, and what else only EDNS can say.
        return Verdict::OnlyPlain;
    }
    let reason = opt.as_ref().and_then(reason);
    if !matches!(rcode, 0 | NXDOMAIN) {
        return Verdict::Refused(rcode, reason);
    }
    match read(&message, bytes, asked) {
        Ok(answer) if header.tc() => Verdict::Truncated(Some(Answer {
            truncated: true,
            lifetime: None,
            authentic: false,
            reason,
            ..answer
        })),
        // A server may cut wherever it likes.
        Err(_) if header.tc() => Verdict::Truncated(None),
        Ok(answer) => Verdict::Answer(Answer { reason, ..answer }),
        Err(Unfit::Lame) => Verdict::Refused(rcode, reason),
        Err(Unfit::Wrong(why)) => Verdict::Wrong(why),
    }
}

/// The question comes back: names in any case, type and class as they are (type 65 differs from type 97 by the bit that makes
/// a small letter).
fn repeats(bytes: &[u8], count: u16, question: &[u8]) -> bool {
    let echoed = bytes.get(HEADER..HEADER + question.len()).unwrap_or_default();
    let split = question.len().saturating_sub(TYPE_AND_CLASS);
    let (name, kind) = question.split_at(split);
    count == 1
        && echoed.get(split..) == Some(kind)
        && echoed.get(..split).is_some_and(|echoed| echoed.eq_ignore_ascii_case(name))
}

fn reason(opt: &OptRecord<&[u8]>) -> Option<Reason> {
    let error = opt.opt().iter::<ExtendedError<_>>().next()?.ok()?;
    Some(Reason(error.code().to_int()))
}

/// Why an answer is not taken.
enum Unfit {
    /// A referral: the server does not do what it is asked for.
    Lame,
    Wrong(&'static str),
}

impl From<ParseError> for Unfit {
    fn from(_: ParseError) -> Self {
        Self::Wrong("cannot be read")
    }
}

/// A record, and where its time to live stands in the message.
struct Seen<'a> {
    owner: Name<'a>,
    kind: Rtype,
    ttl: u32,
    ttl_at: usize,
    end: usize,
    /// The name that it makes of the one asked for.
    alias: Option<Name<'a>>,
}

fn read(message: &Message<&[u8]>, bytes: &[u8], asked: &Asked<'_>) -> Result<Answer, Unfit> {
    let mut section = message.question();
    let question = section.next().ok_or(Unfit::Wrong("has no question"))??;
    let begin = HEADER + asked.question.len();
    // Whoever hands over a cache may say that it is longer or shorter.
    if section.pos() != begin {
        return Err(Unfit::Wrong("cannot be read"));
    }
    let mut section = message.answer()?;
    let answers = all(&mut section)?;
    let mut section = section.next_section()?.ok_or(Unfit::Wrong("has no sections"))?;

    let chain = chain(question.qname(), &answers);
    if answers.iter().any(|record| !belongs(record, &chain)) {
        return Err(Unfit::Wrong("answers what was not asked"));
    }
    let last = chain.last().unwrap_or(question.qname());
    let wanted = |kind: Rtype| kind == question.qtype() || question.qtype() == Rtype::ANY;
    let exists = answers.iter().any(|record| wanted(record.kind));

    let authority =
        if exists && !asked.dnssec { Authority::default() } else { authority(&mut section, &chain)? };
    let rcode = message.header().rcode().to_int();
    let header = message.header();
    if rcode == 0 && answers.is_empty() && authority.absence.is_none() && authority.refers && !header.aa() {
        return Err(Unfit::Lame);
    }
    let kept = || answers.iter().chain(&authority.records);
    let shortest = kept().map(|record| seconds(record.ttl)).min();
    let lifetime = match authority.absence {
        _ if exists && rcode != NXDOMAIN => shortest,
        // RFC 2308, section 5: without SOA nobody knows for how long.
        Some((owner, most)) if last.ends_with(&owner) => shortest.map(|shortest| shortest.min(most)),
        _ => None,
    };
    let end = kept().last().map_or(begin, |record| record.end);
    let at = |record: &Seen<'_>| u16::try_from(record.ttl_at - begin);
    let ttls = kept().map(at).collect::<Result<Vec<_>, _>>().map_err(|_| Unfit::Wrong("is too long"))?;
    Ok(Answer {
        rcode,
        authentic: header.ad(),
        truncated: false,
        answers: u16::try_from(answers.len()).unwrap_or(u16::MAX),
        authorities: u16::try_from(authority.records.len()).unwrap_or(u16::MAX),
        body: bytes.get(begin..end).unwrap_or_default().into(),
        ttls: ttls.into(),
        // Zero is for whoever waits for it now.
        lifetime: lifetime.filter(|lifetime| *lifetime > 0),
        reason: None,
    })
}

fn all<'a>(section: &mut Section<'a>) -> Result<Vec<Seen<'a>>, Unfit> {
    let mut records = Vec::new();
    while let Some(record) = section.next() {
        records.push(seen(&record?, section.pos())?);
    }
    Ok(records)
}

/// Data is looked into where names in it may be compressed, and where its length is fixed: clients rely on both.
fn seen<'a>(record: &ParsedRecord<'a, &'a [u8]>, end: usize) -> Result<Seen<'a>, Unfit> {
    let wrong = Err(Unfit::Wrong("cannot be read"));
    let mut alias = None;
    let whole = match record.rtype() {
        Rtype::A => record.to_record::<A>()?.is_some(),
        Rtype::AAAA => record.to_record::<Aaaa>()?.is_some(),
        Rtype::CNAME => {
            alias = record.to_record::<Cname<_>>()?.map(|record| record.into_data().into_cname());
            alias.is_some()
        }
        Rtype::DNAME => record.to_record::<Dname<_>>()?.is_some(),
        Rtype::MX => record.to_record::<Mx<_>>()?.is_some(),
        Rtype::NS => record.to_record::<Ns<_>>()?.is_some(),
        Rtype::PTR => record.to_record::<Ptr<_>>()?.is_some(),
        Rtype::SOA => record.to_record::<Soa<_>>()?.is_some(),
        Rtype::SRV => record.to_record::<Srv<_>>()?.is_some(),
        _ => true,
    };
    if !whole || record.class() != Class::IN {
        return wrong;
    }
    // Behind it stand the length of the data and the data.
    let Some(ttl_at) = end.checked_sub(usize::from(record.rdlen()) + 6) else { return wrong };
    let ttl = record.ttl().as_secs();
    Ok(Seen { owner: record.owner().deref_octets(), kind: record.rtype(), ttl, ttl_at, end, alias })
}

/// The name asked for and those that it is an alias for, in whatever order the records stand.
fn chain<'a>(name: &Name<'a>, answers: &[Seen<'a>]) -> Vec<Name<'a>> {
    let mut chain = vec![*name];
    while let Some(last) = chain.last()
        && chain.len() < LONGEST_CHAIN
    {
        let next = answers.iter().filter(|record| record.owner == *last).find_map(|record| record.alias);
        match next {
            Some(next) if !chain.contains(&next) => chain.push(next),
            _ => break,
        }
    }
    chain
}

/// DNAME stands at a name above (RFC 6672), with its signature.
fn belongs(record: &Seen<'_>, chain: &[Name<'_>]) -> bool {
    let above = matches!(record.kind, Rtype::DNAME | Rtype::RRSIG);
    chain.iter().any(|name| *name == record.owner || above && name.ends_with(&record.owner))
}

#[derive(Default)]
struct Authority<'a> {
    records: Vec<Seen<'a>>,
    /// Where the zone begins that does not have it, and for how many seconds that is so.
    absence: Option<(Name<'a>, u32)>,
    /// It names servers.
    refers: bool,
}

/// As far as it says something about the names in question: the rest is left out from the first record on that does not. What
/// stands behind can be left out, as pointers only lead back.
fn authority<'a>(section: &mut Section<'a>, chain: &[Name<'a>]) -> Result<Authority<'a>, Unfit> {
    let mut authority = Authority::default();
    while let Some(record) = section.next() {
        let record = record?;
        let about = chain.iter().any(|name| name.ends_with(&record.owner()));
        let kept = match record.rtype() {
            Rtype::SOA | Rtype::NS | Rtype::DS => about,
            Rtype::NSEC | Rtype::NSEC3 | Rtype::RRSIG => true,
            _ => false,
        };
        if !kept {
            break;
        }
        authority.refers |= record.rtype() == Rtype::NS;
        if let Some(soa) = record.to_record::<Soa<Name<'a>>>()? {
            let least = seconds(soa.data().minimum().as_secs()).min(seconds(soa.ttl().as_secs()));
            authority.absence = Some((*soa.owner(), least.min(LONGEST_ABSENCE)));
        }
        authority.records.push(seen(&record, section.pos())?);
    }
    Ok(authority)
}

#[cfg(test)]
mod tests;
