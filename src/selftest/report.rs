//! What happened, step by step, as text for a person or JSON for a machine.

use std::fmt::Write as _;
use std::time::Instant;

use serde::Serialize;

use super::{Result, milliseconds};

#[derive(Debug, Default)]
pub(super) struct Report {
    steps: Vec<Step>,
}

#[derive(Debug, Serialize)]
struct Step {
    name: String,
    passed: bool,
    /// What was found, or why it failed.
    detail: String,
    milliseconds: f64,
}

impl Report {
    /// Runs one step and remembers how it went. `run` returns a value for the next steps and words for the report.
    pub(super) fn step<T>(&mut self, name: &str, run: impl FnOnce() -> Result<(T, String)>) -> Result<T, ()> {
        let begun = Instant::now();
        let (value, passed, detail) = match run() {
            Ok((value, detail)) => (Ok(value), true, detail),
            Err(reason) => (Err(()), false, reason),
        };
        self.steps.push(Step { name: name.to_owned(), passed, detail, milliseconds: milliseconds(begun) });
        value
    }

    pub(super) fn text(&self, passed: bool) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let mark = if step.passed { "ok  " } else { "FAIL" };
            let _ = write!(text, "{mark} {:>8.1} ms  {}", step.milliseconds, step.name);
            let _ = if step.detail.is_empty() { writeln!(text) } else { writeln!(text, ": {}", step.detail) };
        }
        text.push_str(if passed {
            "selftest passed: pods reach each other, also by name, the gateway and the outside, and nothing is left behind\n"
        } else {
            "selftest FAILED at the last line above; SMARTER_CNI_LOG=debug shows every step of the plugins\n"
        });
        text
    }

    pub(super) fn json(&self, passed: bool) -> String {
        let value = serde_json::json!({ "version": 1, "passed": passed, "steps": self.steps });
        format!("{value}\n")
    }
}
