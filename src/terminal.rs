//! What may be printed: nothing that a terminal would obey.
//!
//! Names, aliases, conditions and messages come from others, and a terminal does what escape sequences in them say. Every
//! command prints through here; the one who asks for colours names them, and nothing else passes.

use std::borrow::Cow;
use std::fmt::Write as _;

/// The text with control characters, and characters that turn the order of others around, written as JSON writes them
/// (`\u001b`): within a document of JSON it stays the same text. Ends of lines and tabs stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_obeyed(c) {
            // All of them have four digits.
            let _ = write!(clean, "\\u{:04x}", u32::from(c));
        } else {
            clean.push(c);
        }
    }
    Cow::Owned(clean)
}

/// The same, for a text whose writer put the given sequences into it, such as colours.
pub fn printable_with(text: &str, own: &[&str]) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, sequence)) = first(rest, own) {
        clean.push_str(&printable(&rest[..at]));
        clean.push_str(sequence);
        rest = &rest[at + sequence.len()..];
    }
    clean.push_str(&printable(rest));
    clean
}

fn first<'a>(text: &str, own: &[&'a str]) -> Option<(usize, &'a str)> {
    own.iter().filter_map(|sequence| Some((text.find(sequence)?, *sequence))).min_by_key(|(at, _)| *at)
}

/// C0 without tab and line feed, DEL, C1, marks of direction (UAX #9), separators of lines.
fn is_obeyed(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(
            printable("a\x1b[2J\x07\r\u{9b}31m\u{202e}b"),
            "a\\u001b[2J\\u0007\\u000d\\u009b31m\\u202eb"
        );
        assert!(matches!(printable("✓ pod ä/ü\n\tfine"), Cow::Borrowed(_)));
    }

    #[test]
    fn a_document_stays_the_same() {
        let text = serde_json::json!({"alias": "a\x1b[2J\u{9b}\u{202e}b"}).to_string();
        let printed: serde_json::Value = serde_json::from_str(&printable(&text)).unwrap();
        assert_eq!(printed["alias"], "a\x1b[2J\u{9b}\u{202e}b");
    }

    #[test]
    fn only_colours_of_our_own_pass() {
        let text = "\x1b[31m✗\x1b[0m pod \x1b[8mhidden\x1b[0m";
        assert_eq!(
            printable_with(text, &["\x1b[31m", "\x1b[0m"]),
            "\x1b[31m✗\x1b[0m pod \\u001b[8mhidden\x1b[0m"
        );
        assert_eq!(printable_with("x\x1b[31m", &[]), "x\\u001b[31m");
    }
}
