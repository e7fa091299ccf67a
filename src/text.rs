//! Words on their way out: to a terminal, or to a line that somebody will type. One function for each. Pure.
//!
//! Names of links, files, networks and pods come from strangers: one may hold a blank, a `;`, or what drives a terminal.

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
    if !word.contains('\n') && !word.chars().any(drives) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    // Only these quotes (POSIX.1-2024) have names for what cannot be shown.
    let mut quoted = String::from("$'");
    for c in word.chars() {
        match c {
            '\'' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c if drives(c) => c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| {
                let _ = write!(quoted, "\\{byte:03o}");
            }),
            c => quoted.push(c),
        }
    }
    quoted + "'"
}

/// The text as a terminal may show it: what would drive it is spelled out, lines stay lines.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.chars().any(drives) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if drives(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    Cow::Owned(shown)
}

/// Control characters but the end of a line and a tab, and those that turn the direction of what follows or are not seen.
fn drives(c: char) -> bool {
    let unseen =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
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
    fn nothing_drives_the_terminal() {
        assert_eq!(shown("plain\nlines é"), "plain\nlines é");
        assert_eq!(shown("a\x1b[31mb\r\x07\u{202e}"), "a\\u{1b}[31mb\\r\\u{7}\\u{202e}");
    }

    #[test]
    fn lines_end_at_the_width() {
        assert_eq!(wrapped("one two three", 9, 0, 2), "one two\n  three");
        assert_eq!(wrapped("one two", 9, 6, 2), "one\n  two");
        assert_eq!(wrapped("averylongwordindeed x", 9, 0, 2), "averylongwordindeed\n  x");
        assert_eq!(wrapped("a\nb c", 80, 0, 4), "a\n    b c");
    }
}
