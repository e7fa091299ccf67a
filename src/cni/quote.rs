//! Text between quotation marks as Go's `%q` writes it, because runtimes and tests compare such messages.
//!
//! Pure.

use std::fmt::Write;

/// `strconv.Quote`: bytes that are not UTF-8 become `\xNN`.
pub(super) fn quoted(bytes: impl AsRef<[u8]>) -> String {
    let bytes = bytes.as_ref();
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|letter| escape(&mut out, letter));
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// `["a" "b"]`, a quoted slice.
pub(super) fn quoted_list<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let items: Vec<_> = items.into_iter().map(quoted).collect();
    format!("[{}]", items.join(" "))
}

fn escape(out: &mut String, letter: char) {
    let _ = match letter {
        '"' | '\\' => write!(out, "\\{letter}"),
        '\u{7}' => write!(out, "\\a"),
        '\u{8}' => write!(out, "\\b"),
        '\u{c}' => write!(out, "\\f"),
        '\n' => write!(out, "\\n"),
        '\r' => write!(out, "\\r"),
        '\t' => write!(out, "\\t"),
        '\u{b}' => write!(out, "\\v"),
        '\0'..='\x1f' | '\x7f' => write!(out, "\\x{:02x}", u32::from(letter)),
        ' '..='~' => write!(out, "{letter}"),
        // A printable letter is the one that Rust's own escaping leaves alone.
        _ if letter.escape_debug().len() == 1 => write!(out, "{letter}"),
        '\u{10000}'.. => write!(out, "\\U{:08x}", u32::from(letter)),
        _ => write!(out, "\\u{:04x}", u32::from(letter)),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_is_go_s() {
        assert_eq!(quoted("boom\n"), r#""boom\n""#);
        assert_eq!(quoted("a\"b\\c'd\0\u{7f}é\u{a0}\u{fffd}"), "\"a\\\"b\\\\c'd\\x00\\x7fé\\u00a0\u{fffd}\"");
        assert_eq!(quoted(b"\xff\xe2\x82"), r#""\xff\xe2\x82""#);
        assert_eq!(quoted("\u{e0001}"), r#""\U000e0001""#);
        assert_eq!(quoted_list(["a", "b\tc"]), r#"["a" "b\tc"]"#);
        assert_eq!(quoted_list([]), "[]");
    }
}
