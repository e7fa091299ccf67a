//! Answers of others, cut to what a client takes in one datagram.
//!
//! Pure.

use super::HEADER;

const TRUNCATED: u8 = 0x02;
const OPT: u16 = 41;
/// Type, class, TTL and length of a record, behind its name.
const FIXED: usize = 10;

/// An OPT record with more than this loses its options: they are about an answer that the client does not get.
const LONGEST_OPT: usize = 128;

/// Makes an answer no longer than `limit`: whole records at the end are left out, but not the OPT record, and the client is
/// told (TC), who asks over TCP then. Names are compressed backwards only, so what is left stays readable. One that cannot
/// be read keeps its header.
pub(crate) fn cut(answer: &mut Vec<u8>, limit: usize) {
    if answer.len() <= limit {
        return;
    }
    let opt = opt_record(answer).unwrap_or_default();
    let room = limit.saturating_sub(opt.len());
    let (end, answers) = whole_answers(answer, room).unwrap_or((HEADER, 0));
    answer.truncate(end);
    if let Some(flags) = answer.get_mut(2) {
        *flags |= TRUNCATED;
    }
    let has_question = u16::from(end > HEADER);
    let has_opt = u16::from(!opt.is_empty());
    for (at, count) in [(4, has_question), (6, answers), (8, 0), (10, has_opt)] {
        if let Some(bytes) = answer.get_mut(at..at + 2) {
            bytes.copy_from_slice(&count.to_be_bytes());
        }
    }
    answer.extend(opt);
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

/// Behind the name that begins here.
fn after_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            0xc0.. => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

fn after_questions(bytes: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    for _ in 0..number(bytes, 4)? {
        at = after_name(bytes, at)? + 4;
    }
    (at <= bytes.len()).then_some(at)
}

/// Type of the record that begins here, and where the next one does.
fn record(bytes: &[u8], at: usize) -> Option<(u16, usize)> {
    let fixed = after_name(bytes, at)?;
    let end = fixed + FIXED + usize::from(number(bytes, fixed + 8)?);
    (end <= bytes.len()).then_some((number(bytes, fixed)?, end))
}

/// Where the answers end that fit, and how many they are.
fn whole_answers(bytes: &[u8], limit: usize) -> Option<(usize, u16)> {
    let mut end = after_questions(bytes).filter(|end| *end <= limit)?;
    for count in 0..number(bytes, 6)? {
        match record(bytes, end) {
            Some((_, next)) if next <= limit => end = next,
            _ => return Some((end, count)),
        }
    }
    Some((end, number(bytes, 6)?))
}

/// Only one of the root's, which needs no other name, can be moved.
fn opt_record(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut at = after_questions(bytes)?;
    let records = [6, 8, 10].iter().try_fold(0, |sum, at| Some(sum + u32::from(number(bytes, *at)?)))?;
    for _ in 0..records {
        let (kind, end) = record(bytes, at)?;
        if kind == OPT && bytes.get(at) == Some(&0) {
            let mut record = bytes.get(at..end)?.to_vec();
            if record.len() > LONGEST_OPT {
                record.truncate(1 + FIXED);
                record.get_mut(9..)?.fill(0);
            }
            return Some(record);
        }
        at = end;
    }
    None
}
