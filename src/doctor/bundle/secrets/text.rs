//! Secrets in text of any kind. Pure.
//!
//! Each kind of look names the places of a line where it saw one, and what is left is put together once. Looks only forward,
//! so that a line of any length takes time in proportion to it.

mod announced;
mod assigned;
mod words;

use std::borrow::Cow;
use std::ops::Range;

use super::REMOVED;

/// Places in a line.
type Places = Vec<Range<usize>>;

/// The text without what is, or is announced as, a secret.
///
/// What is taken out changes how its neighbours look (`:AAA…0?/=` loses its tail, and what is left looks like a key), so it is
/// looked at until nothing is found.
pub(in crate::doctor::bundle) fn scrub_text(text: &str) -> String {
    let mut clean = look(text);
    // Twice is more than anybody has seen; no text keeps this busy for ever.
    for _ in 0..8 {
        let again = look(&clean);
        if again == clean {
            break;
        }
        clean = again;
    }
    clean
}

fn look(text: &str) -> String {
    let text = without_keys(text);
    let mut clean = String::with_capacity(text.len());
    // `- name: PASS`, and in one of the next lines `value: …`.
    let mut named = 0_u8;
    // A name at the end of a line, as where a paragraph is broken, and what it names in the next.
    let mut hanging = None;
    for written in text.split_inclusive('\n') {
        let line = &*with_blanks(written);
        if assigned::names_a_secret(line) {
            named = 3;
        }
        let mut places = assigned::places(line, named > 0);
        places.extend(hanging.map(|hanging| first(line, hanging)));
        hanging = assigned::hanging(line).or_else(|| announced::hanging(line));
        places.extend(announced::places(line));
        places.extend(words::places(line));
        clean.push_str(&without(written, places));
        named = named.saturating_sub(1);
    }
    clean
}

/// Ends of lines and tabs of a text that was quoted (`\\n`) are two blanks here, so that words are where they were.
fn with_blanks(line: &str) -> Cow<'_, str> {
    if !line.contains('\\') {
        return Cow::Borrowed(line);
    }
    Cow::Owned(line.replace("\\n", "  ").replace("\\r", "  ").replace("\\t", "  "))
}

fn without(line: &str, mut places: Places) -> String {
    places.retain(|place| !place.is_empty() && &line[place.clone()] != REMOVED);
    places.sort_unstable_by_key(|place| (place.start, place.end));
    let mut clean = String::with_capacity(line.len());
    let mut done = 0;
    for place in places {
        if place.start >= done {
            clean.push_str(&line[done..place.start]);
            clean.push_str(REMOVED);
        }
        done = done.max(place.end);
    }
    clean + &line[done..]
}

/// Keys and certificates in PEM, from the first line to the last; of one that was cut off, the lines that look like it.
fn without_keys(text: &str) -> String {
    const BEGIN: &str = "-----BEGIN";
    const END: &str = "-----END";
    const DASHES: &str = "-----";
    /// Longer than any key.
    const LONGEST: usize = 32 << 10;
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(BEGIN) {
        clean.push_str(&rest[..at]);
        clean.push_str(REMOVED);
        let key = &rest[at..];
        let within = &key[..key.floor_char_boundary(LONGEST)];
        let end = within.find(END).map(|end| end + END.len());
        rest = match end {
            Some(end) => {
                let tail = &key[end..];
                tail.split_once(DASHES).map_or_else(|| behind_line(tail), |(_, behind)| behind)
            }
            None => behind_body(behind_line(key)),
        };
    }
    clean + rest
}

fn behind_line(text: &str) -> &str {
    text.find('\n').map_or("", |end| &text[end..])
}

fn behind_body(mut text: &str) -> &str {
    let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    while let Some(line) = text.strip_prefix('\n').filter(|line| line.starts_with(is_base64)) {
        let behind = line.trim_start_matches(is_base64);
        if behind.starts_with(is_quote) {
            return behind;
        }
        if !behind.is_empty() && !behind.starts_with('\n') {
            break;
        }
        text = behind;
    }
    text
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'' | '`')
}

/// A quote that was opened, and how often it is itself quoted: the backslashes before it.
type Quote = (char, usize);

/// Where the next piece begins, behind quotes, blanks and what else stands between two pieces; and the quote that was opened
/// last.
fn skip(line: &str, from: usize, between: &[char]) -> (usize, Option<Quote>) {
    let (mut quote, mut backslashes) = (None, 0);
    for (at, c) in line[from..].char_indices() {
        match c {
            c if is_quote(c) => quote = Some((c, backslashes)),
            '\\' => {}
            c if between.contains(&c) || (c.is_whitespace() && c != '\n') => quote = None,
            _ => return (from + at, quote),
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
    }
    (line.len(), None)
}

/// Where a quoted piece ends: at a quote that is quoted no more often than the one that opened it.
fn closed(line: &str, from: usize, (quote, depth): Quote) -> usize {
    let mut backslashes = 0;
    for (at, c) in line[from..].char_indices() {
        if c == '\n' {
            return from + at;
        }
        if c == quote && backslashes <= depth {
            return from + at - backslashes;
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
    }
    line.len()
}

/// How much of the next line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hanging {
    Word,
    Line,
}

fn first(line: &str, hanging: Hanging) -> Range<usize> {
    let (start, quote) = skip(line, 0, &[]);
    match (hanging, quote) {
        (Hanging::Line, _) => start..line.trim_end().len().max(start),
        (Hanging::Word, Some(quote)) => start..closed(line, start, quote),
        (Hanging::Word, None) => start..word_end(line, start),
    }
}

/// Where a word ends.
fn word_end(line: &str, from: usize) -> usize {
    let ends = |c: char| c.is_whitespace() || is_quote(c);
    line[from..].find(ends).map_or(line.len(), |at| from + at)
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
