//! What a reconcile found and did, as a value, as text for a person and as JSON for a machine. Pure.

use std::fmt::{self, Write as _};

use serde::{Serialize, Serializer};

use super::step::{Obstacle, Step};
use crate::host::root::Root;
use crate::log::Entry;
use crate::net::AttachmentId;
use crate::state::Record;

/// What the report is about. Displays as `smartnet: default/web-0 (eth0)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Attachment {
        id: AttachmentId,
        /// `namespace/name`.
        pod: Option<String>,
    },
    /// What pods share.
    Node,
}

impl Subject {
    pub(super) fn of(record: &Record) -> Self {
        let name = record.display_name();
        Self::named(&record.id, Some(name).filter(|name| *name != record.id.container))
    }

    pub(super) fn named(id: &AttachmentId, pod: Option<String>) -> Self {
        Self::Attachment { id: id.clone(), pod }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Named<'a> {
            network: &'a str,
            container: &'a str,
            interface: &'a str,
            pod: Option<&'a str>,
        }
        let Self::Attachment { id, pod } = self else { return to.serialize_none() };
        let AttachmentId { network, container, if_name } = id;
        Named { network, container, interface: if_name.as_str(), pod: pod.as_deref() }.serialize(to)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("node"),
            Self::Attachment { id: AttachmentId { network, container, if_name }, pod } => {
                // A container's ID has 64 digits, of which people use twelve.
                let short = container.get(..12).unwrap_or(container);
                write!(f, "{network}: {} ({if_name})", pod.as_deref().unwrap_or(short))
            }
        }
    }
}

/// Why steps are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Something promised was missing.
    Repair,
    /// No attachment wants it.
    Remove,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub subject: Subject,
    pub action: Action,
    /// Shown as the commands a person would type.
    pub steps: Vec<Step>,
}

/// Something that could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub subject: Subject,
    pub step: Option<Step>,
    pub reason: String,
    /// For whoever explains it.
    #[serde(skip)]
    pub obstacle: Obstacle,
}

/// Something to know that is neither done nor failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    pub subject: Subject,
    pub text: String,
    /// For whoever explains it: no runtime knows the pod any more, and it goes if that stays so.
    #[serde(skip)]
    pub abandoned: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The steps were only planned.
    pub dry_run: bool,
    /// Living attachments that were looked at.
    pub attachments: usize,
    pub changes: Vec<Change>,
    pub failures: Vec<Failure>,
    pub notes: Vec<Note>,
}

impl Report {
    /// With the paths of files as the host has them, of which this process sees the `/` there.
    #[must_use]
    pub(super) fn with_paths_of_the_host(mut self, root: &Root) -> Self {
        for step in self.changes.iter_mut().flat_map(|change| &mut change.steps) {
            if let Step::Lease(file) | Step::Release(file) = step {
                *file = root.as_the_host_sees(file);
            }
        }
        for failure in &mut self.failures {
            if let Obstacle::LeaseTaken(file) | Obstacle::Dangling(file) = &mut failure.obstacle {
                *file = root.as_the_host_sees(file);
            }
        }
        self
    }

    /// Whether everything promised is there, or was brought back.
    pub fn is_whole(&self) -> bool {
        self.failures.is_empty()
    }

    /// Nothing was missing and nothing too much.
    pub fn is_idle(&self) -> bool {
        self.changes.is_empty() && self.failures.is_empty()
    }

    pub(super) fn change(&mut self, subject: &Subject, action: Action, steps: Vec<Step>) {
        if steps.is_empty() {
            return;
        }
        match self.changes.last_mut() {
            Some(last) if last.subject == *subject && last.action == action => last.steps.extend(steps),
            _ => self.changes.push(Change { subject: subject.clone(), action, steps }),
        }
    }

    pub(super) fn failure(
        &mut self,
        subject: &Subject,
        step: Option<Step>,
        obstacle: Obstacle,
        reason: impl fmt::Display,
    ) {
        let failure = Failure { subject: subject.clone(), step, reason: reason.to_string(), obstacle };
        if !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }

    pub(super) fn abandoned(&mut self, subject: &Subject) {
        let text = "no runtime lists its sandbox, and no process lives in its namespace: what is left of it goes when that \
                    is still so in a minute";
        self.notes.push(Note { subject: subject.clone(), text: text.to_owned(), abandoned: true });
    }

    pub(super) fn note(&mut self, subject: &Subject, text: impl Into<String>) {
        self.notes.push(Note { subject: subject.clone(), text: text.into(), abandoned: false });
    }

    /// How many were made, or are to be made.
    pub fn steps(&self) -> usize {
        self.changes.iter().map(|change| change.steps.len()).sum()
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        for Change { subject, action, steps } in &self.changes {
            let why = if *action == Action::Remove { ", wanted by nobody" } else { "" };
            let _ = writeln!(text, "{subject}{why}");
            for step in steps {
                let _ = writeln!(text, "  {step}");
            }
        }
        text + &self.ending()
    }

    /// The text without the steps: what failed, what is to be known, and how much was done.
    pub fn ending(&self) -> String {
        let mut text = String::new();
        for Failure { subject, step, reason, .. } in &self.failures {
            let step = step.as_ref().map(|step| format!(": {step}")).unwrap_or_default();
            let _ = writeln!(text, "FAILED {subject}{step}: {reason}");
        }
        for Note { subject, text: note, .. } in &self.notes {
            let _ = writeln!(text, "note   {subject}: {note}");
        }
        let looked = counted(self.attachments, "attachment");
        let _ = match (self.steps(), self.dry_run, self.failures.len()) {
            (0, _, 0) => writeln!(text, "reconcile: {looked}, nothing to do"),
            (steps, true, failed) => {
                let failed = failures(failed, "cannot be planned");
                writeln!(
                    text,
                    "reconcile: {looked}, {} to make{failed}; nothing was changed",
                    counted(steps, "step")
                )
            }
            (steps, false, failed) => {
                let failed = failures(failed, "failed");
                writeln!(text, "reconcile: {looked}, {} made{failed}", counted(steps, "step"))
            }
        };
        text
    }

    /// For the log; `None` when nothing was done and nothing failed.
    pub fn entry(&self) -> Option<Entry> {
        if self.dry_run {
            return None;
        }
        let step = |change: &Change| {
            let subject = change.subject.to_string();
            change.steps.iter().map(move |step| format!("{subject}: {step}")).collect::<Vec<_>>()
        };
        let failure = |Failure { subject, step, reason, .. }: &Failure| {
            let step = step.as_ref().map(|step| format!("{step}: ")).unwrap_or_default();
            format!("{subject}: {step}{reason}")
        };
        let changes = self.changes.iter().flat_map(step).collect();
        Entry::of_command("reconcile", changes, &self.failures.iter().map(failure).collect::<Vec<_>>())
    }

    /// One object; the schema is in docs/reconcile.md.
    pub fn json(&self) -> String {
        let document = serde_json::to_string(&Document { version: 1, report: self });
        format!("{}\n", document.expect("strings and numbers have a JSON form"))
    }

    /// The same, to stand in the document of somebody else.
    pub fn document(&self) -> serde_json::Value {
        let document = serde_json::to_value(Document { version: 1, report: self });
        document.expect("strings and numbers have a JSON form")
    }
}

#[derive(Serialize)]
struct Document<'a> {
    version: u32,
    #[serde(flatten)]
    report: &'a Report,
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn failures(number: usize, what: &str) -> String {
    if number == 0 { String::new() } else { format!(", {number} {what}") }
}

#[cfg(test)]
mod tests;
