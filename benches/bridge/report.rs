//! The table: a row per work, a column per contestant, and the two ratios that there are budgets for.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Result;
use crate::contestant::{Contestant, Kind};
use crate::contestants;
use crate::machine;
use crate::race::Turn;

/// What the project promises itself. A ratio, so that it holds on every machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// Ours takes at most so many times what the floor takes.
    pub(crate) floor: f64,
    /// Debian's newest Go plugins take at least so many times what ours takes.
    pub(crate) go: Option<f64>,
}

pub(crate) type Pick<T> = fn(&Turn) -> T;

#[derive(Debug)]
pub(crate) struct Report {
    titles: Vec<String>,
    ours: usize,
    floor: usize,
    go: Option<usize>,
    /// Whether these are the ones that budgets speak of.
    newest: bool,
    rows: String,
}

impl Report {
    pub(crate) fn new(contestants: &[Contestant]) -> Result<Self> {
        let place = |kind| contestants.iter().position(|contestant| contestant.kind == kind);
        Ok(Self {
            titles: contestants.iter().map(|contestant| contestant.title.clone()).collect(),
            ours: place(Kind::Ours).ok_or("we do not take part")?,
            floor: place(Kind::Floor).ok_or("the floor does not take part")?,
            go: place(Kind::GoIptables),
            newest: place(Kind::GoIptables).is_some_and(|go| contestants[go].name == contestants::NEWEST),
            rows: String::new(),
        })
    }

    pub(crate) fn times(
        &mut self,
        what: &str,
        turns: &[Vec<Turn>],
        pick: Pick<Duration>,
        budget: Option<Budget>,
    ) -> Result<()> {
        let medians: Vec<f64> = turns.iter().map(|turns| milliseconds(percentile(turns, pick, 50))).collect();
        let cells: Vec<String> = medians.iter().map(|time| format!("{time:.1} ms")).collect();
        let floor = medians[self.ours] / medians[self.floor];
        let go = self.go.map(|go| medians[go] / medians[self.ours]);
        let budget = budget.map_or_else(String::new, |budget| {
            let at_most = format!("≤ {}{}", budget.floor, missed(floor <= budget.floor));
            match (budget.go, go) {
                (Some(least), Some(go)) if self.newest => {
                    format!("{at_most}, ≥ {least}{}", missed(go >= least))
                }
                _ => at_most,
            }
        });
        let go = go.map_or_else(String::new, |go| format!("{go:.1}"));
        self.row(what, &cells, &[format!("{floor:.2}"), go, budget])
    }

    /// Medians of something that is no time.
    pub(crate) fn counts(
        &mut self,
        what: &str,
        turns: &[Vec<Turn>],
        pick: Pick<i64>,
        render: fn(i64) -> String,
    ) -> Result<()> {
        let cells: Vec<String> = turns.iter().map(|turns| render(percentile(turns, pick, 50))).collect();
        self.cells(what, &cells)
    }

    pub(crate) fn cells(&mut self, what: &str, cells: &[String]) -> Result<()> {
        self.row(what, cells, &[String::new(), String::new(), String::new()])
    }

    /// How much longer it takes among many than among few. The two were measured a minute apart: what the machine did meanwhile
    /// shows least in the faster rounds.
    pub(crate) fn growth(
        &mut self,
        what: &str,
        few: &[Vec<Turn>],
        many: &[Vec<Turn>],
        pick: Pick<Duration>,
    ) -> Result<()> {
        let quick = |turns: &[Turn]| milliseconds(percentile(turns, pick, 25));
        let cells: Vec<String> =
            few.iter().zip(many).map(|(few, many)| format!("{:.2}", quick(many) / quick(few))).collect();
        self.cells(what, &cells)
    }

    fn row(&mut self, what: &str, cells: &[String], ratios: &[String; 3]) -> Result<()> {
        let all: Vec<&str> = cells.iter().chain(ratios).map(String::as_str).collect();
        Ok(writeln!(self.rows, "| {what} | {} |", all.join(" | "))?)
    }

    pub(crate) fn finish(self, measured: &str) -> Result<String> {
        let go = self.go.map_or("Go", |go| &self.titles[go]);
        let ratios = ["ours / floor".to_owned(), format!("{go} / ours"), "budget".to_owned()];
        let columns: Vec<&str> = self.titles.iter().chain(&ratios).map(String::as_str).collect();
        Ok(format!(
            "{}; {measured}\n\n| | {} |\n|---|{}\n{}",
            machine::describe()?,
            columns.join(" | "),
            "---|".repeat(columns.len()),
            self.rows
        ))
    }
}

/// For whoever waits for the table, or does not.
pub(crate) fn glance(contestants: &[Contestant], turns: &[Vec<Turn>]) -> String {
    let one = |(who, turns): (&Contestant, &Vec<Turn>)| {
        let [add, del] = [|turn: &Turn| turn.add.time, |turn: &Turn| turn.del.time]
            .map(|pick| milliseconds(percentile(turns, pick, 50)));
        format!("{} {add:.1} and {del:.1}", who.title)
    };
    format!("ADD and DEL in ms: {}", contestants.iter().zip(turns).map(one).collect::<Vec<_>>().join(", "))
}

fn missed(met: bool) -> &'static str {
    if met { "" } else { " (missed)" }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn percentile<T: Ord + Copy + Default>(turns: &[Turn], pick: Pick<T>, percent: usize) -> T {
    let mut all: Vec<T> = turns.iter().map(pick).collect();
    all.sort_unstable();
    all.get(all.len() * percent / 100).copied().unwrap_or_default()
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{}.{} MiB", bytes >> 20, (bytes >> 10) % 1024 * 10 / 1024)
}
