//! `--token …`, `-u me:…`, `-p…`, `password …`, `Bearer …`: the next word is what the one before says.

use super::super::names::is_secret;
use super::{Hanging, Places, closed, is_quote, skip, word_end};

/// Whatever follows is one.
const ALWAYS: [&str; 17] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "psk",
    "pwd",
    "passwort",
    "wpa-psk",
    "wpa-passphrase",
    "wireless-key",
    "private-key",
    "preshared-key",
    "wep-key",
    "rocommunity",
    "rwcommunity",
    "rocommunity6",
    "rwcommunity6",
];
/// What follows is one when it looks like a value.
const SOMETIMES: [&str; 14] = [
    "token",
    "secret",
    "bearer",
    "basic",
    "digest",
    "negotiate",
    "apikey",
    "api-key",
    "pin",
    "puk",
    "key",
    "keys",
    "community",
    "credential",
];
/// Between the two.
const LINKS: [&str; 7] = ["is", "was", "to", "set", "be", "as", "="];
/// Words of sentences about secrets.
const SENTENCE: [&str; 40] = [
    "a",
    "an",
    "and",
    "are",
    "at",
    "authentication",
    "but",
    "by",
    "cannot",
    "changed",
    "does",
    "expired",
    "failed",
    "file",
    "for",
    "from",
    "has",
    "in",
    "into",
    "invalid",
    "is",
    "it",
    "mismatch",
    "missing",
    "must",
    "not",
    "of",
    "on",
    "or",
    "policy",
    "prompt",
    "required",
    "that",
    "the",
    "too",
    "was",
    "which",
    "will",
    "with",
    "wrong",
];
/// What `-p` says where it is no password.
const PROTOCOLS: [&str; 10] =
    ["tcp", "udp", "sctp", "icmp", "icmpv6", "ipv6-icmp", "all", "esp", "gre", "udplite"];
/// Words that begin with `-p`.
const OPTIONS: [&str; 21] = [
    "path", "print", "print0", "pretty", "pid", "port", "ports", "proto", "protocol", "profile", "plugin",
    "prefix", "preserve", "parents", "parallel", "poll", "priority", "project", "proxy", "perm", "period",
];

pub(super) fn places(line: &str) -> Places {
    let mut places = Places::new();
    let between = |c: char| {
        c.is_whitespace() || is_quote(c) || matches!(c, ',' | '[' | ']' | '{' | '}' | '(' | ')' | '\\')
    };
    let mut at = 0;
    for word in line.split(between) {
        let (start, end) = (at, at + word.len());
        at = end + line[end..].chars().next().map_or(0, char::len_utf8);
        if word.is_empty() {
            continue;
        }
        if let Some(option) = word.strip_prefix('-') {
            places.extend(of_option(line, option, start, end));
        } else {
            places.extend(of_word(line, word, end));
        }
    }
    places
}

/// Whether the line's last word announces the first one of the next.
pub(super) fn hanging(line: &str) -> Option<Hanging> {
    let last = line.split_whitespace().next_back()?.trim_matches(is_quote);
    let option = last.starts_with("--") && !last.contains(['=', ':']) && is_secret(last);
    (option || ALWAYS.iter().any(|word| word.eq_ignore_ascii_case(last))).then_some(Hanging::Word)
}

fn next(line: &str, end: usize) -> std::ops::Range<usize> {
    let (start, quote) = skip(line, end, &[',']);
    match quote {
        Some(quote) => start..closed(line, start, quote),
        None => start..word_end(line, start),
    }
}

fn of_option(line: &str, option: &str, start: usize, end: usize) -> Option<std::ops::Range<usize>> {
    let value = next(line, end);
    let text = &line[value.clone()];
    let name = option.trim_start_matches('-');
    if name.contains(['=', ':']) && !name.starts_with(['p', 'u']) {
        return None;
    }
    if name.len() > 2 && is_secret(name) && !name.contains(['=', ':']) {
        return (!text.starts_with("--")).then_some(value);
    }
    if name.len() > 1 && ["user", "proxy-user", "login"].contains(&name) && text.contains(':') {
        return Some(value);
    }
    let attached = option.get(1..).unwrap_or_default();
    match (option.chars().next()?, attached) {
        ('p' | 'P', "") => (!is_harmless(text)).then_some(value),
        ('w', "") if line.contains("ldap") => Some(value),
        ('a', "") if line.contains("redis") => Some(value),
        ('c', "") if line.contains("snmp") => Some(value),
        ('u' | 'U', "") => text.contains([':', '%']).then_some(value),
        ('p', attached)
            if !is_harmless(attached) && !OPTIONS.iter().any(|word| attached_is(option, word)) =>
        {
            Some(start + 2..end)
        }
        ('u' | 'U', attached) if attached.contains(':') && !attached.contains("//") => Some(start + 2..end),
        _ => None,
    }
}

/// Also `-proto=…` and `-ports`.
fn attached_is(option: &str, word: &str) -> bool {
    option.split(['=', ':']).next().is_some_and(|name| name == word)
}

/// A number, ports, a protocol, a path, another option.
fn is_harmless(text: &str) -> bool {
    text.is_empty()
        || text.starts_with(['-', '/', '.', '!'])
        || text.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | ',' | '.' | '/'))
        || PROTOCOLS.iter().any(|protocol| protocol.eq_ignore_ascii_case(text))
}

fn of_word(line: &str, word: &str, end: usize) -> Option<std::ops::Range<usize>> {
    let is = |words: &[&str], word: &str| words.iter().any(|other| other.eq_ignore_ascii_case(word));
    // With `:` or `=` behind it, it is a name.
    let (always, sometimes) = (is(&ALWAYS, word), is(&SOMETIMES, word));
    if !always && !sometimes {
        return None;
    }
    let mut value = next(line, end);
    while is(&LINKS, &line[value.clone()]) {
        value = next(line, value.end);
    }
    let text = &line[value.clone()];
    let scheme = is(&["bearer", "basic", "negotiate"], word);
    let telling = text.len() >= 16 || text.bytes().any(|byte| byte.is_ascii_digit());
    let taken = !text.is_empty()
        && !text.starts_with(['=', ':'])
        && !is(&SENTENCE, text.trim_end_matches(['.', ',', ':', ';']))
        && !is(&ALWAYS, text)
        && !is(&SOMETIMES, text)
        && (always || scheme || telling);
    taken.then_some(value)
}
