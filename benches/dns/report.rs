//! The table: a row per work, a column per contestant, and what there are promises for.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Result;
use crate::contestant::{Contestant, Kind, Memory};
use crate::machine;

/// What the project promises itself.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Promise {
    /// At most so many times what dnsmasq takes.
    Ratio(f64),
    Bytes(u64),
}

pub(crate) const LOCAL: Promise = Promise::Ratio(0.9);
pub(crate) const KEPT: Promise = Promise::Ratio(0.9);
pub(crate) const IDLE: Promise = Promise::Bytes(3 << 20);
pub(crate) const MANY: Promise = Promise::Bytes(9 << 20);

/// Ours is the first.
#[derive(Debug)]
pub(crate) struct Report {
    titles: Vec<String>,
    dnsmasq: Option<usize>,
    rows: String,
}

impl Report {
    pub(crate) fn new(contestants: &[Contestant]) -> Self {
        Self {
            titles: contestants.iter().map(|contestant| contestant.title.clone()).collect(),
            dnsmasq: contestants.iter().position(|contestant| contestant.kind == Kind::Dnsmasq),
            rows: String::new(),
        }
    }

    /// Medians, in the order of the contestants.
    pub(crate) fn times(
        &mut self,
        what: &str,
        turns: Vec<Vec<Duration>>,
        promise: Option<Promise>,
    ) -> Result<()> {
        let medians: Vec<f64> = turns.into_iter().map(|turns| median(turns).as_secs_f64() * 1e6).collect();
        let cells: Vec<String> = medians.iter().map(|median| format!("{median:.2} µs")).collect();
        self.row(what, &cells, &medians, promise)
    }

    pub(crate) fn memory(
        &mut self,
        what: &str,
        memories: &[Memory],
        pick: fn(&Memory) -> u64,
        promise: Option<Promise>,
    ) -> Result<()> {
        let bytes: Vec<u64> = memories.iter().map(pick).collect();
        #[expect(clippy::cast_precision_loss, reason = "megabytes with one digit")]
        let mebibytes: Vec<f64> = bytes.iter().map(|bytes| *bytes as f64 / f64::from(1 << 20)).collect();
        let cells: Vec<String> = mebibytes.iter().map(|size| format!("{size:.1} MiB")).collect();
        self.row(what, &cells, &mebibytes, promise)
    }

    /// What is counted of ours alone.
    pub(crate) fn ours(&mut self, what: &str, count: u64) {
        // A column and a ratio for each of the others, and what is promised.
        let others = " |".repeat(2 * self.titles.len() - 1);
        let _ = writeln!(self.rows, "| {what} | {count} |{others}");
    }

    fn row(&mut self, what: &str, cells: &[String], values: &[f64], promise: Option<Promise>) -> Result<()> {
        let (ours, others) = values.split_first().ok_or("nobody takes part")?;
        let ratios: Vec<String> = others.iter().map(|other| format!("{:.2}", ours / other)).collect();
        let promised = match promise {
            None => String::new(),
            Some(Promise::Ratio(most)) => {
                let dnsmasq =
                    self.dnsmasq.and_then(|at| values.get(at)).ok_or("dnsmasq does not take part")?;
                format!("≤ {most} × dnsmasq{}", missed(ours / dnsmasq <= most))
            }
            Some(Promise::Bytes(most)) => {
                let most = most >> 20;
                format!("≤ {most} MiB{}", missed(*ours <= f64::from(u32::try_from(most)?)))
            }
        };
        let (cells, ratios) = (cells.join(" | "), ratios.join(" | "));
        writeln!(self.rows, "| {what} | {cells} | {ratios} | {promised} |")?;
        Ok(())
    }

    pub(crate) fn text(&self, rounds: u32, questions: u32) -> Result<String> {
        let ratios: Vec<_> = self.titles.iter().skip(1).map(|other| format!("ours / {other}")).collect();
        let columns = self.titles.len() + ratios.len() + 2;
        Ok(format!(
            "{}; medians of {rounds} turns of {questions} questions\n\n| | {} | {} | promised |\n|{}\n{}",
            machine::describe()?,
            self.titles.join(" | "),
            ratios.join(" | "),
            "---|".repeat(columns),
            self.rows
        ))
    }
}

fn missed(is_kept: bool) -> &'static str {
    if is_kept { "" } else { " missed" }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
