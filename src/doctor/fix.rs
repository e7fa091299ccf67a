//! `doctor --fix`: what is wrong, what `reconcile` would do about it, that done, and what is wrong afterwards.
//!
//! Decides no repair of its own: reconcile has all of them, and whatever it leaves is left to a person and named. The plan
//! is out before the first step is made, so that whoever loses the connection has read it.

use std::fmt::Write as _;
use std::io::{self, Write};

use super::cli::Options;
use super::report::{COLOURS, Report, Style};
use super::{Look, blindness, refused};
use crate::Outcome;
use crate::log::Entry;
use crate::reconcile::{self, Scope};
use crate::text::{printable, printable_with};

pub(super) fn run(options: &Options, look: &Look, style: Style, out: &mut impl Write) -> Outcome {
    if let Err(why) = allowed(options) {
        return refused(format_args!("smarter-cni doctor: {why}\n"));
    }
    let before = look.report();
    let plan = match reconcile::plan_all(&look.given.root) {
        Ok(plan) => plan,
        Err(error) => return unable(&before, (!options.json).then_some(style), &error),
    };
    // One document says everything at its end.
    if !options.json
        && let Err(error) = show(out, style, &before.text(style), &plan)
    {
        return refused(format_args!(
            "smarter-cni doctor: nothing was repaired, because the plan could not be shown: {error}\n"
        ));
    }
    if plan.is_idle() {
        let stdout =
            if options.json { before.json_after(&before, &plan) } else { ending(&before, &before, 0) };
        let status = before.status(options.strict);
        let stderr = blindness(&before, status);
        return Outcome { stdout, stderr, status, ..Outcome::default() };
    }
    let repair = match reconcile::pass(&Scope::default()) {
        Ok(repair) => repair,
        Err(error) => return refused(format_args!("smarter-cni doctor: nothing was repaired: {error}\n")),
    };
    let after = look.report();
    let stdout = if options.json {
        after.json_after(&before, &repair)
    } else {
        // What was planned has been read already.
        let made = if repair.changes == plan.changes { repair.ending() } else { repair.text() };
        format!("{made}\nafterwards\n{}{}", after.text(style), ending(&before, &after, repair.steps()))
    };
    let entry = repair.entry().map(|entry| Entry { verb: "doctor --fix".to_owned(), ..entry });
    let status = after.status(options.strict);
    let stderr = blindness(&after, status);
    Outcome { stdout, stderr, status, ..Outcome::default() }.logged(entry)
}

fn allowed(options: &Options) -> Result<(), String> {
    if !options.is_at_home() {
        return Err(format!(
            "--fix repairs the node whose files this program sees as /, and cannot do that below {0}. On the node, as \
             root: smarter-cni doctor --fix; from a privileged container with hostPID, if it has nsenter: nsenter -t 1 \
             -m -n /opt/cni/bin/smarter-cni doctor --fix",
            options.root.display()
        ));
    }
    if !rustix::process::geteuid().is_root() {
        return Err("only root can repair; run it with sudo".to_owned());
    }
    Ok(())
}

fn unable(before: &Report, style: Option<Style>, error: &reconcile::Unable) -> Outcome {
    let stderr = format!("smarter-cni doctor: nothing was repaired: {error}\n");
    let stdout = style.map_or_else(|| before.json(), |style| before.text(style));
    Outcome { stdout, ..refused(stderr) }
}

fn show(out: &mut impl Write, style: Style, findings: &str, plan: &reconcile::Report) -> io::Result<()> {
    let own: &[&str] = if style.screen.colour { &COLOURS } else { &[] };
    write!(out, "{}\nplan\n{}\n", printable_with(findings, own), printable(&plan.text()))?;
    out.flush()
}

/// What is repaired and what is left to a person, in a line or two.
fn ending(before: &Report, after: &Report, steps: usize) -> String {
    let (was, is) = (before.problems(), after.problems());
    let repaired = was.iter().filter(|problem| !is.contains(problem)).count();
    let mut text = match (was.len(), repaired) {
        (0, _) if steps > 0 => format!("repaired: {steps} steps, for what no check names\n"),
        (0, _) => "nothing was wrong\n".to_owned(),
        (was, repaired) => format!("repaired: {repaired} of {was}\n"),
    };
    if !is.is_empty() {
        let left: Vec<_> = is.iter().map(|(id, object)| format!("{id} ({object})")).collect();
        let _ = writeln!(text, "left to you: {}; what to do stands behind \"fix:\" above", left.join(", "));
    }
    text
}
