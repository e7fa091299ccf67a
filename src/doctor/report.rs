//! What the checks found, as text for a person or JSON for a machine. Pure: colours are a parameter.
//!
//! The JSON is described in docs/doctor.md and docs/doctor.schema.json; its version changes when a reader would have to.
//!
//! Pure.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use super::check::{Check, Finding, Group, Pass, Severity, Verdict};
use crate::reconcile;
use crate::text::{WIDTH, printable, wrapped};

/// The version of the JSON.
const VERSION: u32 = 1;

/// The outcome of every check that was chosen.
#[derive(Debug)]
pub struct Report {
    entries: Vec<(&'static Check, Verdict)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Checks that found nothing.
    pub ok: usize,
    /// Problems of severity `broken`.
    pub broken: usize,
    /// Problems of severity `warning`.
    pub warnings: usize,
    /// What is no problem, and to be known.
    pub notes: usize,
    /// Checks that do not apply.
    pub skipped: usize,
    /// Checks that could not look, and objects that a check could not look at.
    pub unknown: usize,
}

/// What the text is shown on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    pub colour: bool,
    /// It has letters beyond ASCII.
    pub utf8: bool,
    /// Columns.
    pub width: usize,
}

/// A file, or a terminal of which nothing is known.
impl Default for Screen {
    fn default() -> Self {
        Self { colour: false, utf8: true, width: WIDTH }
    }
}

/// How the text is to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    pub screen: Screen,
    /// Also what is fine and what does not apply.
    pub verbose: bool,
}

#[derive(Serialize)]
struct Row<'a> {
    id: &'a str,
    group: &'a str,
    title: &'a str,
    severity: &'a str,
    status: &'a str,
    object: &'a str,
    found: &'a str,
    fix: &'a str,
}

impl Report {
    pub fn new(entries: Vec<(&'static Check, Verdict)>) -> Self {
        Self { entries }
    }

    /// Whether something is wrong or could not be looked at.
    pub fn is_in_doubt(&self) -> bool {
        self.rows().iter().any(|row| matches!(row.status, "problem" | "unknown"))
    }

    /// Without what an earlier look did not see: same check, same object and, where pods and their ports are concerned, the same words.
    /// Those have the names of links and addresses, by which a pod is told from the next one of its name. A namespace that
    /// ends while it is looked into cannot be read, and neither can a table that changes all the time: that, too, must be
    /// so twice.
    #[must_use]
    pub fn confirming(self, earlier: &Self) -> Self {
        let key = |check: &Check, finding: &Finding| match finding {
            Finding::Problem { object, found, .. } => {
                let of_pods = matches!(check.group, Group::Bridge | Group::Pods | Group::Rules);
                (check.id, object.clone(), of_pods.then(|| found.clone()))
            }
            Finding::Unknown { object, .. } => (check.id, object.clone(), None),
        };
        let findings = |(check, verdict): &(&'static Check, Verdict)| {
            verdict.iter().flatten().map(|finding| key(check, finding)).collect::<Vec<_>>()
        };
        let seen: BTreeSet<_> = earlier.entries.iter().flat_map(findings).collect();
        let healthy = |check: &Check| {
            earlier
                .entries
                .iter()
                .any(|(known, verdict)| known.id == check.id && verdict.as_ref().is_ok_and(Vec::is_empty))
        };
        let entries = self.entries.into_iter().map(|(check, verdict)| {
            let kept = match verdict {
                Err(Pass::Unknown(_)) if healthy(check) => Ok(Vec::new()),
                verdict => verdict.map(|mut findings| {
                    findings.retain(|finding| seen.contains(&key(check, finding)));
                    findings
                }),
            };
            (check, kept)
        });
        Self { entries: entries.collect() }
    }

    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for row in self.rows() {
            match (row.status, row.severity) {
                ("ok", _) => summary.ok += 1,
                ("skipped", _) => summary.skipped += 1,
                ("unknown", _) => summary.unknown += 1,
                ("note", _) => summary.notes += 1,
                (_, "broken") => summary.broken += 1,
                _ => summary.warnings += 1,
            }
        }
        summary
    }

    /// 0 nothing is broken, 1 something is, 2 too little was seen to say so. Warnings count when `strict`.
    pub fn status(&self, strict: bool) -> u8 {
        let summary = self.summary();
        if summary.broken > 0 || strict && summary.warnings > 0 {
            1
        } else if self.blindness().is_some() {
            2
        } else {
            0
        }
    }

    /// How many checks could not look and how many looked, when it is more than those: what was seen is then no word about
    /// the node.
    pub fn blindness(&self) -> Option<(usize, usize)> {
        let is_unknown = |finding: &Finding| matches!(finding, Finding::Unknown { .. });
        let (mut blind, mut looked) = (0, 0);
        for (_, verdict) in &self.entries {
            match verdict {
                Err(Pass::Unknown(_)) => blind += 1,
                Ok(findings) if !findings.is_empty() && findings.iter().all(is_unknown) => blind += 1,
                Ok(_) => looked += 1,
                Err(Pass::Skipped(_)) => {}
            }
        }
        (blind > looked).then_some((blind, looked))
    }

    fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        for (check, verdict) in &self.entries {
            let row = |status, object, found, fix| Row {
                id: check.id,
                group: check.group.word(),
                title: check.title,
                severity: check.severity.word(),
                status,
                object,
                found,
                fix,
            };
            match verdict {
                Err(Pass::Skipped(why)) => rows.push(row("skipped", "", why, "")),
                Err(Pass::Unknown(why)) => rows.push(row("unknown", "", why, "")),
                Ok(findings) if findings.is_empty() => rows.push(row("ok", "", "", "")),
                Ok(findings) => rows.extend(findings.iter().map(|finding| match finding {
                    Finding::Problem { object, found, fix } => {
                        let status = if check.severity == Severity::Info { "note" } else { "problem" };
                        // What is so on a healthy node would say the opposite here.
                        Row { title: found, ..row(status, object, found, fix) }
                    }
                    Finding::Unknown { object, why } => row("unknown", object, why, ""),
                })),
            }
        }
        rows
    }

    /// What is wrong: check and object.
    pub fn problems(&self) -> BTreeSet<(&'static str, &str)> {
        let wrong = self.entries.iter().filter(|(check, _)| check.severity != Severity::Info);
        let findings = wrong.filter_map(|(check, verdict)| Some((check.id, verdict.as_ref().ok()?)));
        let problems = findings.flat_map(|(id, findings)| {
            findings.iter().filter_map(move |finding| match finding {
                Finding::Problem { object, .. } => Some((id, object.as_str())),
                Finding::Unknown { .. } => None,
            })
        });
        problems.collect()
    }

    pub fn json(&self) -> String {
        format!("{}\n", self.document())
    }

    /// This report as that of the node after a repair: with what was wrong before, and what was done about it.
    pub fn json_after(&self, before: &Self, repair: &reconcile::Report) -> String {
        let mut document = self.document();
        document["before"] =
            serde_json::json!(before.rows().iter().filter(|row| row.status == "problem").collect::<Vec<_>>());
        document["repair"] = repair.document();
        format!("{document}\n")
    }

    fn document(&self) -> serde_json::Value {
        serde_json::json!({
            "version": VERSION,
            "findings": self.rows(),
            "summary": self.summary(),
        })
    }

    pub fn text(&self, style: Style) -> String {
        let mut text = String::new();
        for group in Group::ALL {
            let rows = self.rows().into_iter().filter(|row| row.group == group.word());
            let rows: Vec<_> = rows
                .filter(|row| style.verbose || matches!(row.status, "problem" | "unknown" | "note"))
                .collect();
            if rows.is_empty() {
                continue;
            }
            let _ = writeln!(text, "{}", style.paint(group.title(), BOLD));
            let width = rows.iter().map(|row| row.id.len()).max().unwrap_or(0);
            for row in rows {
                style.write(&mut text, &row, width);
            }
            text.push('\n');
        }
        style.write_summary(&mut text, self.summary());
        text
    }
}

/// What colours are made of; nothing else of the kind comes from here.
pub const COLOURS: [&str; 7] =
    ["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"];
const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const BLUE: &str = "36";
const GREY: &str = "2";

impl Style {
    fn paint(self, text: &str, code: &str) -> String {
        if self.screen.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// One column each. A font without these marks would say the opposite of some.
    fn mark(self, status: &str, severity: &str) -> String {
        let (mark, ascii, colour) = match (status, severity) {
            ("ok", _) => ("✓", "+", GREEN),
            ("skipped", _) => ("-", "-", GREY),
            ("unknown", _) => ("?", "?", BLUE),
            ("note", _) => ("i", "i", BLUE),
            (_, "broken") => ("✗", "X", RED),
            _ => ("!", "!", YELLOW),
        };
        self.paint(if self.screen.utf8 { mark } else { ascii }, colour)
    }

    /// What is wrong stands where the title of a check that is fine would stand.
    fn write(self, text: &mut String, row: &Row<'_>, width: usize) {
        let object = if row.object.is_empty() { String::new() } else { format!("{}: ", row.object) };
        let said = match row.status {
            "skipped" => format!("{} (does not apply: {})", row.title, row.found),
            "unknown" => format!("{object}could not look: {}", row.found),
            "ok" => row.title.to_owned(),
            _ => format!("{object}{}", row.found),
        };
        let said = wrapped(&printable(&said), self.screen.width, INDENT + width, NESTED);
        let _ = writeln!(text, "  {} {:width$}  {said}", self.mark(row.status, row.severity), row.id);
        if matches!(row.status, "problem" | "note") {
            let lines = printable(row.fix);
            let folded = |line: &str| {
                if is_command(line) {
                    line.to_owned()
                } else {
                    wrapped(line, self.screen.width, BEHIND_FIX, BEHIND_FIX)
                }
            };
            let lines: Vec<_> = lines.split('\n').map(folded).collect();
            let _ = writeln!(text, "      fix:   {}", lines.join(&format!("\n{:BEHIND_FIX$}", "")));
        }
    }

    fn write_summary(self, text: &mut String, summary: Summary) {
        let Summary { ok, broken, warnings, notes, skipped, unknown } = summary;
        let mut parts = Vec::new();
        let mut count = |number: usize, one: &str, many: &str| {
            if number > 0 {
                parts.push(format!("{number} {}", if number == 1 { one } else { many }));
            }
        };
        count(broken, "thing is broken", "things are broken");
        count(warnings, "warning", "warnings");
        count(unknown, "could not be looked at", "could not be looked at");
        count(notes, "thing to know", "things to know");
        count(ok, "check fine", "checks fine");
        count(skipped, "does not apply", "do not apply");
        let mark = match summary {
            Summary { broken: 1.., .. } => self.mark("problem", "broken"),
            Summary { warnings: 1.., .. } => self.mark("problem", "warning"),
            Summary { unknown: 1.., .. } => self.mark("unknown", ""),
            _ => self.mark("ok", ""),
        };
        let hint = match summary {
            Summary { broken: 1.., .. } | Summary { warnings: 1.., .. } => " (--explain ID says more)",
            _ if !self.verbose => " (--verbose lists them)",
            _ => "",
        };
        let said = format!("{}{hint}", parts.join(", "));
        let _ = writeln!(text, "{mark} {}", wrapped(&said, self.screen.width, 2, 2));
    }
}

/// Columns in front of the id, with those behind it.
const INDENT: usize = 6;
/// Where what is said of an object goes on.
const NESTED: usize = 6;
/// Where a fix begins.
const BEHIND_FIX: usize = 13;

/// Whether somebody types it: such a line stays whole, because a shell would take its parts for two.
fn is_command(line: &str) -> bool {
    const PROGRAMS: &[&str] = &[
        "smarter-cni",
        "ip",
        "bridge",
        "nft",
        "iptables",
        "ip6tables",
        "iptables-nft",
        "ip6tables-nft",
        "iptables-legacy",
        "ip6tables-legacy",
        "nsenter",
        "sysctl",
        "modprobe",
        "echo",
        "mv",
        "rm",
        "chmod",
        "mount",
        "ln",
        "cat",
        "crictl",
        "systemctl",
        "journalctl",
        "firewall-cmd",
        "denyinterfaces",
        "networkctl",
    ];
    let begins = |part: &str| part.split(' ').next().is_some_and(|word| PROGRAMS.contains(&word));
    line.split(": ").any(begins)
}

/// One id and title per line.
pub fn list<'a>(checks: impl Iterator<Item = &'a Check> + Clone) -> String {
    let width = checks.clone().map(|check| check.id.len()).max().unwrap_or(0);
    checks.fold(String::new(), |mut text, check| {
        let _ = writeln!(text, "{:width$}  {}", check.id, check.title);
        text
    })
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
