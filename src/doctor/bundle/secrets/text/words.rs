//! Words that are secret by their form, and URLs, of which only the place is kept.

use super::super::forms::{is_random, marked};
use super::Places;

pub(super) fn places(line: &str) -> Places {
    let between = |c: char| {
        c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>' | '(' | ')' | '[' | ']' | '\\')
    };
    let mut places = Places::new();
    let (mut at, mut assigned) = (0, false);
    for word in line.split(between) {
        let start = at;
        at += word.len() + line[at + word.len()..].chars().next().map_or(0, char::len_utf8);
        if word.is_empty() {
            continue;
        }
        of_word(word, start, assigned, &mut places);
        assigned = word.ends_with(['=', ':']);
    }
    places.extend(of_wifi(line));
    places
}

fn of_word(word: &str, start: usize, assigned: bool, places: &mut Places) {
    if let Some(at) = marked(word) {
        places.push(start + at..start + word.trim_end_matches(['.', ',', ';']).len());
    }
    if let Some(begin) = word.find("{SSHA").or_else(|| word.find("{SHA")).or_else(|| word.find("{CRYPT")) {
        places.push(start + begin..start + word.len());
    }
    if let Some(end) = user(word) {
        let begin = word.find("://").filter(|at| *at < end).map_or(0, |at| at + 3);
        places.push(start + begin..start + end);
    }
    // Where a service is told something by whoever knows the way.
    if let Some(hook) = word.find("://hooks.").or_else(|| word.find("/webhook"))
        && let Some(path) = word[hook + 3..].find('/')
    {
        places.push(start + hook + 3 + path + 1..start + word.len());
    }
    if let Some(query) = word.find(['?', '#']).filter(|at| word[*at..].contains('=')) {
        places.push(start + query + 1..start + word.trim_end_matches([',', ';', '.']).len());
    }
    let mut at = start;
    for (position, part) in word.split(['=', ';', '&', ',', '{', '}']).enumerate() {
        let behind = word[at - start + part.len()..].bytes().take_while(|byte| *byte == b'=').count();
        // The signs that base64 ends with are no separators.
        let padded = &word[at - start..at - start + part.len() + behind.min(2)];
        if is_random(padded, assigned || position > 0) || is_random(part, assigned || position > 0) {
            places.push(at..at + padded.len());
        } else {
            behind_colon(part, at, places);
        }
        at += part.len() + 1;
    }
}

fn behind_colon(part: &str, start: usize, places: &mut Places) {
    // Of an address every part is short.
    if let Some((name, value)) = part.split_once(':')
        && is_random(value, true)
        && !value.contains("://")
        && !part.contains("://")
    {
        places.push(start + name.len() + 1..start + part.len());
    }
}

/// Where a user with a password ends: `me:…@`, with or without a scheme, and `scott/tiger@`. A digest also stands behind `@`.
fn user(word: &str) -> Option<usize> {
    let begin = word.find("://").map_or(0, |at| at + 3);
    let rest = &word[begin..];
    let at = rest.rfind('@')?;
    let (head, tail) = (&rest[..at], &rest[at + 1..]);
    if ["sha256:", "sha384:", "sha512:"].iter().any(|digest| tail.starts_with(digest)) {
        return None;
    }
    let credentials =
        if begin > 0 { !head.is_empty() } else { head.trim_end_matches(':').contains([':', '/']) };
    credentials.then_some(begin + at)
}

/// `WIFI:S:net;T:WPA;P:…;;`, as phones read it.
fn of_wifi(line: &str) -> Places {
    let begins = line.match_indices("WIFI:").map(|(at, word)| at + word.len());
    begins.map(|at| at..line[at..].find(";;").map_or(line.trim_end().len().max(at), |end| at + end)).collect()
}
