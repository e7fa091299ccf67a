//! An entry in words: one JSON object in one line for machines, one sentence for the system's log.
//!
//! Whatever comes from outside is escaped and cut, so a line is valid JSON and at most [`LONGEST`] bytes long. What the
//! line says stands between `"level"` and `"ms"`, what is different every time before and behind.
//!
//! Pure.

use std::fmt::Write as _;
use std::time::Duration;

use rustix::time::Timespec;

use super::clock::Measured;
use super::entry::Entry;
use super::level::Level;

/// In bytes, with the newline.
pub(super) const LONGEST: usize = 16 * 1024;
/// Of a name, of a text and of a list, escaped. Together they leave room for the steps.
const NAME: usize = 256;
const TEXT: usize = 2048;
const LIST: usize = 2048;
/// The kernel's log refuses lines of more than 1024 bytes with its own prefix.
const SENTENCE: usize = 900;
/// So long the same words are not repeated by whoever only looks; in seconds since the boot.
const SILENCE: u64 = 600;

/// What a line is stamped with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) time: Timespec,
    /// Boards without a clock that counts have at least this one.
    pub(super) uptime: Timespec,
    pub(super) severity: Level,
}

pub(super) fn render(entry: &Entry, measured: &Measured, stamp: &Stamp) -> String {
    let mut line = Line(String::with_capacity(512));
    line.plain("time", &seconds(stamp.time));
    line.plain("uptime", &seconds(stamp.uptime));
    line.name("level", stamp.severity.as_str());
    line.name("plugin", entry.plugin);
    line.name("verb", &entry.verb);
    line.name("network", &entry.network);
    line.name("container", &entry.container);
    line.name("interface", &entry.interface);
    line.name("pod", &entry.pod);
    line.list("addresses", entry.addresses.iter().map(|address| quoted(address, NAME)), NAME);
    line.name("result", if entry.failure.is_some() { "failed" } else { "ok" });
    if let Some(failure) = &entry.failure {
        if let Some(code) = failure.code {
            line.plain("code", &code.to_string());
        }
        line.text("msg", &failure.msg);
        line.text("details", &failure.details);
    }
    line.list("changes", entry.changes.iter().map(|change| quoted(change, TEXT)), 2 * LIST);
    line.list("warnings", measured.warnings.iter().map(|warning| quoted(warning, TEXT)), LIST);
    line.plain("ms", &milliseconds(measured.total));
    let lap = |words: &str, took: Duration| format!("[{},{}]", quoted(words, TEXT), milliseconds(took));
    line.list("steps", measured.stages.iter().map(|(name, took)| lap(name, *took)), LIST);
    let room = LONGEST.saturating_sub(line.0.len() + 16);
    line.list("trace", measured.steps.iter().map(|(words, took)| lap(words, *took)), room);
    line.0.push_str("}\n");
    line.0
}

/// An object whose last brace is still missing.
struct Line(String);

impl Line {
    fn key(&mut self, key: &str) {
        let before = if self.0.is_empty() { '{' } else { ',' };
        let _ = write!(self.0, "{before}\"{key}\":");
    }

    fn plain(&mut self, key: &str, value: &str) {
        self.key(key);
        self.0.push_str(value);
    }

    fn name(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.plain(key, &quoted(value, NAME));
        }
    }

    fn text(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.plain(key, &quoted(value, TEXT));
        }
    }

    /// As many of the elements as have room, and how many more there are.
    fn list(&mut self, key: &str, elements: impl Iterator<Item = String>, room: usize) {
        const MORE: usize = "\"… and 4294967295 more\"".len();
        let (mut list, mut left) = (String::new(), 0_u32);
        for element in elements {
            if left > 0 || list.len() + element.len() + MORE + 8 + key.len() > room {
                left += 1;
                continue;
            }
            list.push_str(if list.is_empty() { "" } else { "," });
            list.push_str(&element);
        }
        if left > 0 {
            let _ = write!(list, "{}\"… and {left} more\"", if list.is_empty() { "" } else { "," });
        }
        if !list.is_empty() {
            self.plain(key, &format!("[{list}]"));
        }
    }
}

/// A JSON string of at most so many bytes.
fn quoted(text: &str, most: usize) -> String {
    serde_json::to_string(&cut(text, most)).unwrap_or_default()
}

/// The beginning, when the whole would take more bytes than that between quotes.
fn cut(text: &str, most: usize) -> String {
    let width = |c: char| match c {
        '"' | '\\' => 2,
        '\0'..='\x1f' => 6,
        other => other.len_utf8(),
    };
    let mut shown = String::new();
    let mut room = most.saturating_sub("\"…\"".len());
    for c in text.chars() {
        if width(c) > room {
            shown.push('…');
            break;
        }
        room -= width(c);
        shown.push(c);
    }
    shown
}

fn seconds(time: Timespec) -> String {
    format!("{}.{:03}", time.tv_sec, time.tv_nsec / 1_000_000)
}

fn milliseconds(took: Duration) -> String {
    let micros = took.as_micros();
    format!("{}.{:03}", micros / 1000, micros % 1000)
}

/// Whether the log ends with the same words, not long ago. `tail` may begin in the middle of a line.
pub(super) fn is_known(tail: &str, line: &str) -> bool {
    let now = uptime(line).unwrap_or(0);
    let words = said(line);
    words.is_some()
        && tail.lines().any(|old| {
            said(old) == words && uptime(old).is_some_and(|then| then <= now && now - then < SILENCE)
        })
}

/// Quotes within strings are escaped: these keys stand nowhere else.
fn said(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once(",\"level\":")?;
    rest.split_once(",\"ms\":").map(|(words, _)| words)
}

fn uptime(line: &str) -> Option<u64> {
    line.split_once("\"uptime\":")?.1.split_once('.')?.0.parse().ok()
}

/// For the system's log: who, what, and how it went.
pub(super) fn sentence(entry: &Entry, measured: &Measured) -> String {
    let mut words = if entry.plugin.is_empty() { String::new() } else { format!("{} ", entry.plugin) };
    words.push_str(&entry.verb);
    // A container's ID has 64 digits, of which people use twelve.
    let container = entry.container.get(..12).unwrap_or(&entry.container);
    let pod = if entry.pod.is_empty() { container } else { &entry.pod };
    for name in [entry.network.as_str(), pod].into_iter().chain([entry.interface.as_str()]) {
        if !name.is_empty() {
            let _ = write!(words, " {name}");
        }
    }
    for address in &entry.addresses {
        let _ = write!(words, " {address}");
    }
    if let Some(failure) = &entry.failure {
        let code = failure.code.map(|code| format!(" with code {code}")).unwrap_or_default();
        let _ = write!(words, " failed{code}: {}", failure.msg);
        if !failure.details.is_empty() {
            let _ = write!(words, "; {}", failure.details);
        }
    } else {
        let _ = write!(words, ": ok in {} ms", milliseconds(measured.total));
    }
    if !entry.changes.is_empty() {
        let _ = write!(words, "; did: {}", entry.changes.join("; "));
    }
    let words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&words, SENTENCE)
}

#[cfg(test)]
mod tests;
