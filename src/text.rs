//! Words on their way out: to a terminal, or to a line that somebody will type. One function for each.
//!
//! Names of links, files, networks and pods come from strangers: one may hold a blank, a `;`, or what a terminal obeys. Every
//! command prints through here; the one who asks for colours names them, and nothing else passes.
//!
//! Pure.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};

/// Columns of a terminal that does not say how wide it is.
pub const WIDTH: usize = 80;

/// A word as a shell reads it back, whatever is in it: between quotes where it has to be.
pub fn typed(word: impl Display) -> String {
    let word = word.to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+,=".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word;
    }
    if !word.contains('\n') && !word.chars().any(is_obeyed) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    // Only these quotes (POSIX.1-2024) have names for what cannot be shown.
    let mut quoted = String::from("$'");
    for c in word.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if is_obeyed(c) => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                let _ = write!(quoted, "\\{byte:03o}");
            }),
            c => quoted.push(c),
        }
    }
    quoted + "'"
}

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

/// C0 without tab and line feed, DEL, C1, marks of direction (UAX #9), separators of lines, and what is not seen.
fn is_obeyed(c: char) -> bool {
    let unseen = matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !matches!(c, '\n' | '\t') && (c.is_control() || unseen)
}

/// The text in lines of at most `width` columns, as far as its words allow it. The first line has `taken` columns before it;
/// those behind it begin with `indent` blanks.
pub fn wrapped(text: &str, width: usize, taken: usize, indent: usize) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut column = taken;
    for (at, line) in text.split('\n').enumerate() {
        if at > 0 {
            let _ = write!(out, "\n{:indent$}", "");
            column = indent;
        }
        for (at, word) in line.split(' ').enumerate() {
            let length = word.chars().count();
            if at > 0 && column + 1 + length > width && column > indent {
                let _ = write!(out, "\n{:indent$}", "");
                column = indent;
            } else if at > 0 {
                out.push(' ');
                column += 1;
            }
            out.push_str(word);
            column += length;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        for word in [
            "eth0",
            "",
            "a b",
            "id>hack",
            "x;reboot",
            "$(reboot)",
            "`reboot`",
            "it's",
            "~root",
            "*",
            "a\\b",
            "!x",
            "#x",
            "-rf",
            "é",
            "/etc/cni/net.d/my net.conflist",
        ] {
            let out =
                Command::new("sh").args(["-c", &format!("printf %s {}", typed(word))]).output().unwrap();
            let want = if word == "-rf" { None } else { Some(word) };
            if let Some(want) = want {
                assert_eq!(String::from_utf8(out.stdout).unwrap(), want, "{}", typed(word));
            }
        }
        assert_eq!(typed("net\x1b[2J'"), r"$'net\033[2J\''");
        assert_eq!(typed("veth1"), "veth1");
    }

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

    #[test]
    fn lines_end_at_the_width() {
        assert_eq!(wrapped("one two three", 9, 0, 2), "one two\n  three");
        assert_eq!(wrapped("one two", 9, 6, 2), "one\n  two");
        assert_eq!(wrapped("averylongwordindeed x", 9, 0, 2), "averylongwordindeed\n  x");
        assert_eq!(wrapped("a\nb c", 80, 0, 4), "a\n    b c");
    }
}
