//! `name=value`, `name: value`, `"name": "value"`, `name = value`, `name => value`: the value goes where the name says that it
//! is secret.

use super::super::forms::is_long_hex;
use super::super::names::{is_identity, is_secret};
use super::{Hanging, Places, Quote, closed, is_quote, skip, word_end};

/// What stands between a name and its value.
const SEPARATORS: [char; 3] = ['=', ':', '>'];
/// Names of names, and of values, in lists of both.
const NAMES: [&str; 7] = ["name", "key", "k", "option", "field", "variable", "var"];
const VALUES: [&str; 6] = ["value", "val", "v", "data", "content", "default"];
/// Before `:`, also a few words earlier: `password for the lab: …`.
const NOUNS: [&str; 13] = [
    "community",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "psk",
    "secret",
    "token",
    "pin",
    "puk",
    "credential",
    "credentials",
    "passwort",
];
/// So far back such a word may stand.
const EARLIER: usize = 48;

pub(super) fn places(line: &str, named: bool) -> Places {
    let mut places = Places::new();
    let mut quotes = Quotes::default();
    let mut done = 0;
    for (at, length) in separators(line) {
        if at < done {
            continue;
        }
        quotes.read(line, at);
        let name = Name::before(line, at);
        if let Some(user) = after_user(line, at + length, name.text) {
            places.push(user);
        }
        let secret = is_secret(name.text)
            || is_token(line, at, &name)
            || (named && VALUES.iter().any(|word| word.eq_ignore_ascii_case(name.text)))
            || is_announced(line, at, length);
        if !secret {
            continue;
        }
        let value = value(line, at + length, &name, &quotes);
        if !is_said(&line[value.clone()]) {
            continue;
        }
        done = value.end;
        places.push(value);
    }
    places.extend(elements(line));
    places
}

/// Whether the value of the line's last name begins in the next one.
pub(super) fn hanging(line: &str) -> Option<Hanging> {
    let end = line.trim_end();
    // As YAML begins a text of several lines.
    let bare = end.trim_end_matches(['|', '>', '-']).trim_end();
    let at = bare.len().checked_sub(1).filter(|_| bare.ends_with([':', '=']))?;
    let secret = is_secret(Name::before(bare, at).text) || is_announced(&format!("{bare} "), at, 1);
    secret.then_some(if bare.len() < end.len() { Hanging::Line } else { Hanging::Word })
}

/// Whether the line names something secret whose value stands elsewhere.
pub(super) fn names_a_secret(line: &str) -> bool {
    separators(line).any(|(at, length)| {
        let is_name = NAMES.iter().any(|name| name.eq_ignore_ascii_case(Name::before(line, at).text));
        is_name && {
            let (start, _) = skip(line, at + length, &SEPARATORS);
            let word =
                line[start..].split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.'))).next();
            word.is_some_and(is_secret)
        }
    })
}

/// `=`, `:`, and the same in URLs.
fn separators(line: &str) -> impl Iterator<Item = (usize, usize)> {
    line.bytes().enumerate().filter_map(|(at, byte)| match byte {
        b'=' | b':' => Some((at, 1)),
        b'%' => {
            let code = line.get(at..at + 3)?;
            (code.eq_ignore_ascii_case("%3d") || code.eq_ignore_ascii_case("%3a")).then_some((at, 3))
        }
        _ => None,
    })
}

struct Name<'a> {
    text: &'a str,
    /// `name=`, without blanks, and not at the beginning of the line: the value is one word.
    tight: bool,
}

impl<'a> Name<'a> {
    fn before(line: &'a str, at: usize) -> Self {
        let blank = |c: char| c.is_whitespace() || is_quote(c) || matches!(c, '\\' | ']');
        let head = line[..at].trim_end_matches(blank);
        let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '[');
        let text = head.rsplit(|c| !part(c)).next().unwrap_or_default();
        // `err:token=`, `--from-literal=password=`: the nearest name counts.
        let first = head[..head.len() - text.len()].trim().is_empty();
        let blanks =
            line[..at].ends_with(char::is_whitespace) || line[at + 1..].starts_with(char::is_whitespace);
        Self { text, tight: line[at..].starts_with('=') && !blanks && !first }
    }

    /// Whose value is a list with blanks: to the end of the line.
    fn is_header(&self) -> bool {
        let lower = self.text.to_ascii_lowercase();
        lower.contains("authoriz") || lower.contains("cookie") || lower.starts_with("at+")
    }
}

/// `x=9f86d081884c7d65…`, where the name does not say what is identified.
fn is_token(line: &str, at: usize, name: &Name<'_>) -> bool {
    let (start, _) = skip(line, at + 1, &[]);
    line[at..].starts_with('=') && is_long_hex(&line[start..word_end(line, start)]) && !is_identity(name.text)
}

/// `user=me:…`
fn after_user(line: &str, from: usize, name: &str) -> Option<std::ops::Range<usize>> {
    if !["user", "username", "login", "account", "userpwd"].iter().any(|word| word.eq_ignore_ascii_case(name))
    {
        return None;
    }
    let (start, _) = skip(line, from, &[]);
    let end = word_end(line, start);
    let colon = line[start..end].find(':').filter(|colon| *colon > 0)?;
    Some(start + colon + 1..end)
}

fn is_announced(line: &str, at: usize, length: usize) -> bool {
    if !line[at..].starts_with(':') || !line[at + length..].starts_with([' ', '\t', '"', '\'']) {
        return false;
    }
    let from = line.ceil_char_boundary(at.saturating_sub(EARLIER));
    let clause = line[from..at].rsplit([';', ',', '.', '|', '{', '(', ':', '=']).next().unwrap_or_default();
    let mut words = clause.split(|c: char| !c.is_alphanumeric());
    words.any(|word| NOUNS.iter().any(|noun| noun.eq_ignore_ascii_case(word)))
}

/// Which quotes are open.
#[derive(Default)]
struct Quotes {
    read: usize,
    backslashes: usize,
    open: Vec<Quote>,
}

impl Quotes {
    fn read(&mut self, line: &str, to: usize) {
        for (at, c) in line[self.read..to].char_indices() {
            let at = self.read + at;
            let letter = |c: Option<char>| c.is_some_and(char::is_alphabetic);
            // An apostrophe is none.
            let within =
                letter(line[..at].chars().next_back()) && letter(line[at + c.len_utf8()..].chars().next());
            let quote = (c, std::mem::take(&mut self.backslashes));
            if c == '\\' {
                self.backslashes = quote.1 + 1;
            }
            if !is_quote(c) || (c == '\'' && within) {
                continue;
            }
            match self.open.iter().position(|open| *open == quote) {
                Some(position) => drop(self.open.remove(position)),
                None => self.open.push(quote),
            }
        }
        self.read = to;
    }
}

fn value(line: &str, from: usize, name: &Name<'_>, quotes: &Quotes) -> std::ops::Range<usize> {
    let (mut start, mut quote) = skip(line, from, &SEPARATORS);
    // A text of several lines in YAML, in a text that was quoted.
    if line[start..].starts_with("| ") || line[start..].starts_with("|- ") {
        (start, quote) = skip(line, start, &['|', '-']);
    }
    // `b'…'`, `s:"…"`, `$'…'`
    let mark = line[start..].find(|c: char| !(matches!(c, 'b' | 'u' | 'r' | 's' | '$' | ':')));
    if let Some(mark @ 1..=2) = mark.filter(|_| quote.is_none())
        && let Some(opened) = line[start + mark..].chars().next().filter(|c| is_quote(*c))
    {
        start += mark + 1;
        quote = Some((opened, 0));
    }
    if let Some(quote) = quote {
        return start..closed(line, start, quote);
    }
    if let Some(open @ ('[' | '{' | '(')) = line[start..].chars().next() {
        return start..bracketed(line, start, open);
    }
    start..bare(line, start, name, quotes)
}

fn bracketed(line: &str, from: usize, open: char) -> usize {
    let close = match open {
        '[' => ']',
        '{' => '}',
        _ => ')',
    };
    let mut depth = 0;
    for (at, c) in line[from..].char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth -= 1;
        }
        if depth == 0 {
            return from + at + 1;
        }
    }
    line.trim_end().len().max(from)
}

/// The end of a value without quotes: where the next name, option or sentence begins.
fn bare(line: &str, from: usize, name: &Name<'_>, quotes: &Quotes) -> usize {
    let mut backslashes = 0;
    for (at, c) in line[from..].char_indices() {
        let at = from + at;
        let rest = &line[at + c.len_utf8()..];
        let depth = std::mem::take(&mut backslashes);
        if c == '\\' {
            backslashes = depth + 1;
        }
        let ends = match c {
            '\n' => true,
            c if is_quote(c) => quotes.open.contains(&(c, depth)),
            _ if name.is_header() => false,
            ',' | ';' | '&' | '|' => {
                rest.is_empty()
                    || rest.starts_with(|c: char| c.is_whitespace() || is_quote(c))
                    || is_assignment(rest)
            }
            ')' | ']' | '}' | '<' => {
                let after = |c: char| {
                    c.is_whitespace() || is_quote(c) || matches!(c, ',' | ';' | ')' | ']' | '}' | '/')
                };
                rest.is_empty() || rest.starts_with(after)
            }
            c if c.is_whitespace() => {
                let next = rest.trim_start();
                name.tight
                    || next.is_empty()
                    || next.starts_with(['|', '>', '-'])
                    || next.starts_with("&&")
                    || is_assignment(next)
            }
            _ => false,
        };
        if ends {
            return line[..at].trim_end_matches('\\').len().max(from);
        }
    }
    line.len()
}

fn is_assignment(text: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let end = text.find(|c| !part(c)).unwrap_or(text.len());
    end > 0 && text[end..].starts_with(['=', ':'])
}

/// What says nothing stays, so that a reader sees that it is not set.
fn is_said(value: &str) -> bool {
    let value = value.trim();
    !value.is_empty()
        && !["true", "false", "null", "none", "yes", "no", "(removed)"]
            .iter()
            .any(|word| word.eq_ignore_ascii_case(value))
}

/// `<password>…</password>` and `<string name="token">…</string>`.
fn elements(line: &str) -> Places {
    let mut places = Places::new();
    for (at, _) in line.match_indices('<') {
        let Some(end) = line[at..].find('>').map(|end| at + end) else { break };
        let tag = &line[at + 1..end];
        if tag.starts_with('/') || tag.len() > 128 {
            continue;
        }
        let mut parts = tag.split(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')));
        if parts.any(is_secret) {
            let close = line[end..].find('<').map_or(line.trim_end().len().max(end + 1), |close| end + close);
            places.push(end + 1..close);
        }
    }
    places
}
