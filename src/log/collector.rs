//! Listens to `tracing`: to standard error goes what the environment asks for, to the line of the run what is worth it. Spans
//! are the stages of the run, whatever its level.
//!
//! Instead of `tracing-subscriber`: a span here has a name and nothing else, so that its registry would be for nothing.

use std::fmt::{self, Write as _};
use std::io::{self, Write as _};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

use super::level::Level;
use super::{RUN, Run};
use crate::text;

#[derive(Debug)]
pub(super) struct Collector;

/// What SMARTER_CNI_LOG asks for on standard error: warnings, unless it says something else.
pub(super) fn stderr_level(environment: Option<&str>) -> tracing::Level {
    match environment {
        Some("debug") => tracing::Level::DEBUG,
        Some("info") => tracing::Level::INFO,
        Some("error") => tracing::Level::ERROR,
        _ => tracing::Level::WARN,
    }
}

impl Run {
    /// Whether the line of the run has a place for it.
    fn keeps(&self, level: tracing::Level) -> bool {
        level <= tracing::Level::WARN || level <= tracing::Level::DEBUG && self.level() == Level::Debug
    }
}

impl Subscriber for Collector {
    /// The level may change when the configuration has been read.
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        RUN.get().is_some_and(|run| {
            metadata.is_span() || *metadata.level() <= run.stderr || run.keeps(*metadata.level())
        })
    }

    fn event(&self, event: &Event<'_>) {
        let Some(run) = RUN.get() else { return };
        let level = *event.metadata().level();
        let mut words = Words(String::new());
        event.record(&mut words);
        let Words(words) = words;
        if level <= run.stderr {
            // Without a time: boards have no clock that is worth printing before the network is up.
            let line = format!("{:>5} {words}\n", level.as_str());
            let _ = io::stderr().write_all(line.as_bytes());
        }
        if run.keeps(level) {
            let mut clock = run.clock();
            if level <= tracing::Level::WARN {
                clock.warn(words);
            } else {
                clock.step(words, Instant::now());
            }
        }
    }

    /// All of one name are one.
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let name = attributes.metadata().name();
        Id::from_u64(RUN.get().map_or(0, |run| run.clock().number_of(name)) + 1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, span: &Id) {
        if let Some(run) = RUN.get() {
            let mut clock = run.clock();
            let stage = clock.stage_of(span.into_u64() - 1);
            clock.enter(stage, Instant::now());
        }
    }
    fn exit(&self, _: &Id) {
        if let Some(run) = RUN.get() {
            run.clock().exit(Instant::now());
        }
    }
}

/// The message, then ` name=value` for each of the other fields.
struct Words(String);

impl Visit for Words {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        if field.name() != "message" {
            self.0.push_str(field.name());
            self.0.push('=');
        }
        let _ = write!(Plain(&mut self.0), "{value:?}");
    }
}

/// Somebody reads this on a terminal: what strangers named must not drive it.
struct Plain<'a>(&'a mut String);

impl fmt::Write for Plain<'_> {
    fn write_str(&mut self, words: &str) -> fmt::Result {
        self.0.push_str(&text::printable(words));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stranger_cannot_drive_the_terminal() {
        let mut text = String::new();
        write!(Plain(&mut text), "a\u{1b}[31m\u{9b}b\u{7f}\nc\té").unwrap();
        assert_eq!(text, "a\\u001b[31m\\u009bb\\u007f\nc\té");
    }

    #[test]
    fn standard_error_gets_warnings_unless_told_otherwise() {
        for (word, level) in [
            (None, tracing::Level::WARN),
            (Some("loud"), tracing::Level::WARN),
            (Some("off"), tracing::Level::WARN),
            (Some("error"), tracing::Level::ERROR),
            (Some("debug"), tracing::Level::DEBUG),
        ] {
            assert_eq!(stderr_level(word), level, "{word:?}");
        }
    }
}
