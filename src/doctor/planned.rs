//! What `reconcile` would do, explained: one exhaustive match from each kind of step to the check it belongs to, the object,
//! what is wrong, and the fix. Pure.
//!
//! About what is ours nothing is decided here: a finding is a step of the plan, and where the plan is empty nothing of ours
//! is wrong. A step that only follows from another one of the plan (a port joins the bridge that is made anew) is left
//! unnamed, because its cause is named.

mod follows;
mod links;
mod ports;
mod remains;
#[cfg(test)]
mod tests;

use super::check::{Finding, Pass, Verdict};
use super::checks::{RECONCILE, RESTART};
use super::evidence::Evidence;
use crate::net::{AttachmentId, Family};
use crate::reconcile::{Action, Change, Failure, Obstacle, Report, Step, Subject};
use crate::text::typed;

/// One thing that is wrong, and the check that says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) id: &'static str,
    pub(super) object: String,
    pub(super) found: String,
    pub(super) fix: String,
}

impl Fault {
    fn new(id: &'static str, object: impl Into<String>, found: impl Into<String>) -> Self {
        Self { id, object: object.into(), found: found.into(), fix: RECONCILE.to_owned() }
    }

    fn with_fix(self, fix: impl Into<String>) -> Self {
        Self { fix: fix.into(), ..self }
    }

    /// Where a whole table of ours is gone, that is what is wrong with everything that should stand in it.
    fn in_table(self, family: Family, gone: &[Family]) -> Self {
        if !gone.contains(&family) {
            return self;
        }
        let found = "it is missing: pods reach nothing beyond the node, and host ports lead nowhere";
        Self::new("table-missing", table(family), found)
    }
}

/// What a check that explains the plan finds.
pub(super) fn verdict(evidence: &Evidence, id: &str) -> Verdict {
    let plan = evidence.plan()?;
    let findings = findings(evidence, id)?;
    if findings.is_empty() && plan.attachments == 0 {
        return Err(Pass::skipped("no pod is attached"));
    }
    Ok(findings)
}

/// The findings of the plan that belong to a check; one for each object.
pub(super) fn findings(evidence: &Evidence, id: &str) -> Verdict {
    let plan = evidence.plan()?;
    let without_table = |family: &Family| evidence.filter().is_ok_and(|filter| !filter.has_table(*family));
    let gone: Vec<Family> = Family::BOTH.into_iter().filter(without_table).collect();
    let mut findings = merged(faults(plan, &gone).into_iter().filter(|fault| fault.id == id));
    if id == BLOCKED {
        findings.extend(plan.failures.iter().filter_map(unknown));
    }
    Ok(findings)
}

/// What cannot be brought back, for a reason that no other check names.
const BLOCKED: &str = "pod-repair";

/// Everything that the plan says is wrong. `gone` are the families in which our table is missing as a whole.
pub(super) fn faults(plan: &Report, gone: &[Family]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for change in &plan.changes {
        for step in change.steps.iter().filter(|step| !follows::from_another(step, change, plan)) {
            explain(step, change, gone, &mut faults);
        }
    }
    for failure in &plan.failures {
        faults.extend(obstacle(failure, gone));
    }
    let abandoned = plan.notes.iter().filter(|note| note.abandoned);
    faults.extend(abandoned.map(|note| remains::abandoned(&note.subject)));
    faults
}

fn explain(step: &Step, change: &Change, gone: &[Family], faults: &mut Vec<Fault>) {
    let (subject, action) = (&change.subject, change.action);
    match step {
        Step::Link(step) if action == Action::Remove => faults.extend(remains::link(step, subject)),
        Step::Link(step) => links::explain(step, subject, gone, faults),
        Step::Port(step) if action == Action::Remove => faults.extend(remains::port(step, subject)),
        Step::Port(step) => faults.extend(ports::explain(step, subject, gone)),
        Step::Surplus(removal) => faults.push(remains::surplus(removal)),
        Step::Lease(file) => faults.push(Fault::new(
            "lease-missing",
            lease(file),
            format!("{} has this address, and no lease says so: the next pod may be given it", who(subject)),
        )),
        Step::Recall { plugin, .. } => faults.push(
            Fault::new(
                "pod-record",
                who(subject),
                format!("it lives, and its {plugin} record is gone: nothing knows what it was promised"),
            )
            .with_fix(format!("{RECONCILE}\nwrites it again, from what the kernel still carries of the pod")),
        ),
        Step::Release(_) | Step::Forget { .. } => faults.push(remains::memory(step, subject)),
    }
}

/// What stands in the way of a repair.
fn obstacle(failure: &Failure, gone: &[Family]) -> Option<Fault> {
    let Failure { subject, step, reason, obstacle } = failure;
    let fault = |id, object: String| Fault::new(id, object, reason.clone()).with_fix(RESTART);
    match obstacle {
        // Nothing could be looked at, which is not the same as a problem: see `unknown`. A bridge that is none has a check
        // that knows more.
        Obstacle::Refused | Obstacle::NoBridge(_) => None,
        Obstacle::NoPromise => Some(fault(BLOCKED, who(subject))),
        Obstacle::LinkTaken(link) => Some(fault("pod-port", who(subject)).with_fix(format!(
            "{RESTART}\nor remove that link, if nobody needs it: ip link del {} && {RECONCILE}",
            typed(link)
        ))),
        Obstacle::OutOfReach => {
            let change = Change { subject: subject.clone(), action: Action::Repair, steps: Vec::new() };
            let mut faults = Vec::new();
            if let Some(step) = step {
                explain(step, &change, gone, &mut faults);
            }
            let fix = format!("{RECONCILE}\non the node, outside of any container: {reason}");
            faults.into_iter().next().map(|fault| fault.with_fix(fix))
        }
        Obstacle::Dangling(link) => {
            let object = format!("directory {}", link.display());
            let command = format!("rm {} && {RECONCILE}", typed(link.display()));
            Some(fault("lease-missing", object).with_fix(command))
        }
        Obstacle::LeaseTaken(file) => Some(fault("lease-missing", lease(file))),
        Obstacle::PortTaken(port) => Some(fault("hostport-missing", format!("port {port}"))),
    }
}

/// What the plan could not look at.
fn unknown(failure: &Failure) -> Option<Finding> {
    let why = failure.reason.clone();
    (failure.obstacle == Obstacle::Refused).then(|| Finding::Unknown { object: who(&failure.subject), why })
}

/// One finding for each object, with what was found about it in the order of the plan.
fn merged(faults: impl Iterator<Item = Fault>) -> Vec<Finding> {
    /// More than that nobody reads.
    const MOST: usize = 3;
    let mut objects: Vec<(Fault, Vec<String>)> = Vec::new();
    for fault in faults {
        match objects.iter_mut().find(|(first, _)| first.object == fault.object) {
            Some((_, found)) if found.contains(&fault.found) => {}
            Some((_, found)) => found.push(fault.found),
            None => {
                let found = vec![fault.found.clone()];
                objects.push((fault, found));
            }
        }
    }
    let finding = |(fault, mut found): (Fault, Vec<String>)| {
        let more = found.len().saturating_sub(MOST);
        found.truncate(MOST);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        Finding::problem(fault.object, found.join("; ") + &more, fault.fix)
    };
    objects.into_iter().map(finding).collect()
}

/// `pod default/web-0`, or `container 3f1c2a9b07dd`.
fn who(subject: &Subject) -> String {
    match subject {
        Subject::Node => "the node".to_owned(),
        Subject::Attachment { pod: Some(pod), .. } => format!("pod {pod}"),
        Subject::Attachment { id: AttachmentId { container, .. }, .. } => {
            format!("container {}", container.get(..12).unwrap_or(container))
        }
    }
}

fn table(family: Family) -> String {
    format!("table {} smarter-cni", if family == Family::V4 { "ip" } else { "ip6" })
}

fn lease(file: &std::path::Path) -> String {
    format!("lease {}", file.display())
}
