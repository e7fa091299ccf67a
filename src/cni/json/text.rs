//! Writing JSON exactly as the reference plugins do: 4 spaces per level, no newline at the end, and `<`, `>`,
//! `&` and the two Unicode line separators escaped inside strings (the default of Go's `encoding/json`).
//!
//! Pure.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Renders a value made of strings, integers, lists and structures; nothing else can fail to become JSON.
pub(in crate::cni) fn indented(value: &impl Serialize) -> String {
    let mut out = Vec::with_capacity(512);
    let layout = Layout(PrettyFormatter::with_indent(b"    "));
    match value.serialize(&mut Serializer::with_formatter(&mut out, layout)) {
        Ok(()) => String::from_utf8(out).unwrap_or_default(),
        Err(_) => String::new(),
    }
}

struct Layout(PrettyFormatter<'static>);

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_array(out)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array(out)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_array_value(out)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object(out)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object(out)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.begin_object_value(out)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.0.end_object_value(out)
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            out.write_all(plain.as_bytes())?;
            let mut letters = special.chars();
            if let Some(letter) = letters.next() {
                write!(out, "\\u{:04x}", u32::from(letter))?;
            }
            rest = letters.as_str();
        }
        out.write_all(rest.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped_as_go_escapes_them() {
        assert_eq!(
            indented(&"<a>&b\u{2028}\u{2029}\"\\\n\u{8}\u{1}\u{7f}é"),
            "\"\\u003ca\\u003e\\u0026b\\u2028\\u2029\\\"\\\\\\n\\b\\u0001\u{7f}é\""
        );
    }

    #[test]
    fn levels_are_four_spaces_and_the_end_has_no_newline() {
        assert_eq!(indented(&[vec![1], vec![]]), "[\n    [\n        1\n    ],\n    []\n]");
    }
}
