//! What has been collected, within bounds: no file and no bundle grows beyond what can be mailed, and what could not be had
//! is said in the bundle itself.
//!
//! Everything passes here on its way into the archive, so this is where secrets are taken out, and other names given when that
//! was asked for.
//!
//! Pure.

use std::fmt;

use serde_json::Value;

use super::pseudonyms::Pseudonyms;
use super::secrets;

/// Of one file. Less in unit tests: megabytes through the scrubber take an emulated processor minutes.
pub(super) const LARGEST: usize = if cfg!(test) { 16 << 10 } else { 512 << 10 };
/// Of all together; the archive adds less than 1 KiB for each.
const ALL: usize = 8 * LARGEST;
/// Kept free for the list of what is missing.
const ERRORS: usize = LARGEST / 8;
const BLOCK: usize = 512;

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) text: String,
}

#[derive(Debug, Default)]
pub(super) struct Collection {
    entries: Vec<Entry>,
    errors: String,
    missing: usize,
    size: usize,
    pseudonyms: Option<Pseudonyms>,
}

impl Collection {
    /// With `pseudonyms`, addresses, MACs and the host get those.
    pub(super) fn new(pseudonyms: Option<Pseudonyms>) -> Self {
        Self { pseudonyms, ..Self::default() }
    }

    pub(super) fn text(&mut self, name: &str, text: &str) {
        let text = self.shown(text);
        self.keep(name, text);
    }

    /// A document from a file, whoever wrote it.
    pub(super) fn json(&mut self, name: &str, mut value: Value) {
        secrets::scrub(&mut value);
        self.keep_document(name, value);
    }

    /// A document of ours that was rendered already.
    pub(super) fn document(&mut self, name: &str, text: &str) {
        match serde_json::from_str(text) {
            Ok(value) => self.ours(name, value),
            Err(error) => self.missing(name, error),
        }
    }

    /// A document of ours.
    pub(super) fn ours(&mut self, name: &str, mut value: Value) {
        secrets::scrub_ours(&mut value);
        self.keep_document(name, value);
    }

    fn keep_document(&mut self, name: &str, mut value: Value) {
        if let Some(pseudonyms) = &mut self.pseudonyms {
            pseudonyms.json(&mut value);
        }
        let mut text = format!("{value:#}");
        text.push('\n');
        self.keep(name, text);
    }

    /// One JSON object a line. Lines that are none, as after a power cut, are kept as text.
    pub(super) fn lines(&mut self, name: &str, text: &str) {
        let (mut clean, mut others) = (String::new(), String::new());
        for line in text.lines() {
            let Ok(mut value) = serde_json::from_str::<Value>(line) else {
                others.push_str(line);
                others.push('\n');
                continue;
            };
            clean.push_str(&self.shown(&std::mem::take(&mut others)));
            secrets::scrub(&mut value);
            if let Some(pseudonyms) = &mut self.pseudonyms {
                pseudonyms.json(&mut value);
            }
            clean.push_str(&value.to_string());
            clean.push('\n');
        }
        clean.push_str(&self.shown(&others));
        self.keep(name, clean);
    }

    /// As it may be seen by others.
    fn shown(&mut self, text: &str) -> String {
        let text = secrets::scrub_text(text);
        match &mut self.pseudonyms {
            Some(pseudonyms) => pseudonyms.text(&text),
            None => text,
        }
    }

    /// Text, or why there is none.
    pub(super) fn take(&mut self, name: &str, text: Result<String, impl fmt::Display>) {
        match text {
            Ok(text) => self.text(name, &text),
            Err(why) => self.missing(name, why),
        }
    }

    pub(super) fn missing(&mut self, what: &str, why: impl fmt::Display) {
        self.missing += 1;
        let line = self.shown(&format!("{what}: {why}\n"));
        if self.errors.len() + line.len() < ERRORS {
            self.errors.push_str(&line);
        }
    }

    fn keep(&mut self, name: &str, text: String) {
        let name = self.shown(name);
        let text = cut(text);
        // What is cut off is no JSON any more, and a reader should not try.
        let (name, text) = match text {
            Whole(text) => (name, text),
            Cut(text) => (format!("{name}.cut"), text),
        };
        let size = BLOCK + text.len().next_multiple_of(BLOCK);
        if self.size + size > ALL - ERRORS - 4 * BLOCK {
            return self.missing(
                &name,
                format_args!("left out: all files together would be larger than {ALL} bytes"),
            );
        }
        self.size += size;
        self.entries.push(Entry { name, text });
    }

    /// How many things could not be had.
    pub(super) fn missed(&self) -> usize {
        self.missing
    }

    /// All files, the list of what is missing last.
    pub(super) fn finish(mut self) -> Vec<Entry> {
        let text =
            if self.errors.is_empty() { "everything could be collected\n".to_owned() } else { self.errors };
        self.entries.push(Entry { name: "errors.txt".to_owned(), text });
        self.entries
    }
}

enum Length {
    Whole(String),
    Cut(String),
}
use Length::{Cut, Whole};

fn cut(mut text: String) -> Length {
    if text.len() <= LARGEST {
        return Whole(text);
    }
    let words = format!("\n(cut off here; {} bytes in all)\n", text.len());
    text.truncate(text.floor_char_boundary(LARGEST - words.len()));
    Cut(text + &words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_file_that_is_too_long_is_cut_off_and_says_so() {
        let mut collection = Collection::default();
        collection.text("long", &"ä".repeat(LARGEST));
        collection.json("long.json", json!("x".repeat(LARGEST)));
        collection.text("short", "x");
        let files = collection.finish();
        let names: Vec<_> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["long.cut", "long.json.cut", "short", "errors.txt"]);
        assert!(
            files[0].text.len() <= LARGEST
                && files[0].text.ends_with(&format!("(cut off here; {} bytes in all)\n", 2 * LARGEST))
        );
        assert_eq!(files[3].text, "everything could be collected\n");
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_named() {
        let mut collection = Collection::default();
        for number in 0..20 {
            collection.keep(&format!("file-{number}"), "x".repeat(LARGEST));
        }
        collection.missing("the moon", "too far");
        assert_eq!(collection.missed(), 14);
        let files = collection.finish();
        let size: usize = files.iter().map(|file| BLOCK + file.text.len().next_multiple_of(BLOCK)).sum();
        assert!(size + 3 * BLOCK <= ALL, "{size}");
        let errors = &files.last().unwrap().text;
        assert!(errors.contains("file-7: left out") && errors.ends_with("the moon: too far\n"), "{errors}");
    }

    #[test]
    fn names_are_hidden_everywhere() {
        let mut collection = Collection::new(Some(Pseudonyms::new(["edge-1"])));
        collection.text("a/10.7.0.1", "edge-1 has 10.7.0.1");
        collection.lines("log", "{\"msg\":\"\\b10.7.0.1\",\"token\":\"abc\"}\n10.7.0.1 \"cut\n");
        collection.missing("10.7.0.1", "gone from edge-1");
        let files = collection.finish();
        let all: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.text.as_str())).collect();
        assert_eq!(
            all,
            [
                ("a/ip4-1", "node has ip4-1"),
                ("log", "{\"msg\":\"\\bip4-1\",\"token\":\"(removed)\"}\nip4-1 \"cut\n"),
                ("errors.txt", "ip4-1: gone from node\n"),
            ]
        );
    }
}
