//! Answers as a person reads them, and as JSON.
//!
//! Pure.

use std::fmt::Write as _;

use domain::base::name::ParsedName;
use domain::base::record::ParsedRecord;
use domain::base::{Message, Rtype, UnknownRecordData};
use domain::rdata::{A, Aaaa, Cname, Mx, Ns, Ptr, Soa, Srv, Txt};
use serde::Serialize;

use super::super::name::Name;

#[derive(Debug, Serialize)]
pub(super) struct Shown {
    version: u32,
    name: String,
    server: String,
    /// `NOERROR`, `NXDOMAIN`, `SERVFAIL` …; that of the last answer.
    status: String,
    /// The server's own word, not that of somebody it asked.
    authoritative: bool,
    answers: Vec<Record>,
}

#[derive(Debug, Serialize)]
struct Record {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    ttl: u32,
    data: String,
}

impl Shown {
    pub(super) fn new(name: &Name, server: &str) -> Self {
        Self {
            version: 1,
            name: name.to_string(),
            server: server.to_owned(),
            status: String::new(),
            authoritative: false,
            answers: Vec::new(),
        }
    }

    /// Takes the records of one answer. What cannot be read is said.
    pub(super) fn add(&mut self, answer: &[u8], kind: Rtype) -> Result<(), String> {
        let unreadable =
            || format!("what {} answered to the question for {kind} cannot be read", self.server);
        let message = Message::from_octets(answer).map_err(|_| unreadable())?;
        let header = message.header();
        self.status = header.rcode().to_string();
        self.authoritative = header.aa();
        for record in message.answer().map_err(|_| unreadable())? {
            let record = record.map_err(|_| unreadable())?;
            self.answers.push(Record {
                name: format!("{}.", record.owner()),
                kind: record.rtype().to_string(),
                ttl: record.ttl().as_secs(),
                data: data(&record).unwrap_or_default(),
            });
        }
        Ok(())
    }

    pub(super) fn has_records(&self) -> bool {
        !self.answers.is_empty()
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for Record { name, kind, ttl, data } in &self.answers {
            let _ = writeln!(text, "{name}  {ttl}  {kind}  {data}");
        }
        let word = match self.status.as_str() {
            "NOERROR" if self.answers.is_empty() => "there are no such records",
            "NXDOMAIN" => "there is no such name",
            _ => self.status.as_str(),
        };
        let origin = if self.authoritative { "" } else { ", which asked others" };
        let _ = if self.answers.is_empty() {
            writeln!(text, "{}  {word}, says {}{origin}", self.name, self.server)
        } else {
            writeln!(text, "from {}{origin}", self.server)
        };
        text
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).map(|text| text + "\n").unwrap_or_default()
    }
}

type Found<'a> = ParsedRecord<'a, &'a [u8]>;

/// The data of the types that people ask for; any other as RFC 3597 writes it.
fn data(record: &Found<'_>) -> Option<String> {
    macro_rules! shown {
        ($type:ty) => {
            record.to_record::<$type>().ok()??.data().to_string()
        };
    }
    Some(match record.rtype() {
        Rtype::A => shown!(A),
        Rtype::AAAA => shown!(Aaaa),
        Rtype::CNAME => shown!(Cname<ParsedName<_>>),
        Rtype::NS => shown!(Ns<ParsedName<_>>),
        Rtype::PTR => shown!(Ptr<ParsedName<_>>),
        Rtype::MX => shown!(Mx<ParsedName<_>>),
        Rtype::SRV => shown!(Srv<ParsedName<_>>),
        Rtype::SOA => shown!(Soa<ParsedName<_>>),
        Rtype::TXT => shown!(Txt<_>),
        _ => shown!(UnknownRecordData<_>),
    })
}
