//! `doctor`: looks at a node and says what is wrong, with the object and what to do about it. Works with nothing but this
//! binary, and changes nothing; with `--fix` it has `reconcile` bring back what can be brought back.
//!
//! [`evidence`] observes everything once; [`checks`] are pure functions of it, one table of them; [`report`] renders. What
//! is ours is not judged here: those checks explain what `reconcile` would do ([`planned`]).
//! A new check is an entry in its group's table, a function, and a heading in docs/doctor.md. [`bundle`] collects for
//! somebody who cannot look at the node.

mod bundle;
pub mod check;
pub mod checks;
mod cli;
pub mod evidence;
pub mod explain;
mod fix;
mod planned;
pub mod report;

use std::ffi::OsString;
use std::fmt;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

use self::check::{Check, Need};
use self::cli::Options;
pub(crate) use self::cli::command;
use self::evidence::lookups::lookups;
use self::evidence::{Evidence, Given};
use self::report::{Report, Screen, Style};
use crate::Outcome;
use crate::host::root::Root;
use crate::host::runtimes;

/// Between two looks. Pods come and go while we look, and one that is half gone looks broken: only what is there at both
/// looks is a finding. A DEL takes tens of milliseconds, on a node with no processor to spare some seconds.
const A_MOMENT: Duration = Duration::from_millis(300);
/// How often it is looked while verbs are under way. One that hangs must not hide what it has broken.
const LOOKS: usize = 10;
/// Too little could be looked at, or the words on the command line are wrong.
const COULD_NOT_RUN: u8 = 2;

/// `screen` is what standard output is shown on. `out` is written to before the end only where
/// something has to be seen before it is done, or is no text.
pub fn run(arguments: &[OsString], screen: Screen, out: &mut (impl Write + IsTerminal)) -> Outcome {
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) if error.use_stderr() => return refused(error),
        Err(help) => return Outcome::printed(help.to_string()),
    };
    if options.list {
        return Outcome::printed(report::list(checks::all().collect::<Vec<_>>().into_iter()));
    }
    if let Some(id) = &options.explain {
        return match explain::section(id) {
            Some(text) => Outcome::printed(format!("{text}\n")),
            None => refused(cli::unknown(id)),
        };
    }
    let look = match cli::chosen(&options.only, &options.skip) {
        Ok(checks) => Look::new(&options, checks),
        Err(word) => return refused(cli::unknown(&word)),
    };
    if let Err(why) = is_a_host(&options.root) {
        return refused(format_args!(
            "smarter-cni doctor: --root {}: {why}; it names where the host's / is, as in: docker run -v /:/host … \
             smarter-cni doctor --root /host\n",
            options.root.display()
        ));
    }
    let style = Style { screen, verbose: options.verbose };
    if options.fix {
        return fix::run(&options, &look, style, out);
    }
    let report = look.report();
    if let Some(file) = &options.bundle {
        return bundle::run(&options, file, &bundle::Subject { given: &look.given, report: &report }, out);
    }
    let stdout = if options.json { report.json() } else { report.text(style) };
    let status = report.status(options.strict);
    Outcome { stdout, stderr: blindness(&report, status), status, ..Outcome::default() }
}

/// An empty directory is no node on which all is missing.
fn is_a_host(root: &Path) -> Result<(), String> {
    std::fs::read_dir(root).map_err(|error| error.to_string())?;
    let parts = ["etc", "usr", "run", "var", "opt", "bin"];
    let any = parts.iter().any(|part| root.join(part).exists());
    any.then_some(()).ok_or_else(|| "nothing of a host is there, neither etc nor usr nor run".to_owned())
}

/// What to say when most could not be seen; nothing otherwise.
fn blindness(report: &Report, status: u8) -> String {
    let Some((blind, looked)) = report.blindness().filter(|_| status == COULD_NOT_RUN) else {
        return String::new();
    };
    let next = if rustix::process::geteuid().is_root() {
        "the report says why for each; in a container it takes --privileged, the host's network and its PIDs"
    } else {
        "only root can: sudo smarter-cni doctor"
    };
    format!(
        "smarter-cni doctor: {blind} checks could not look and {looked} did, which says nothing about this node; {next}\n"
    )
}

fn refused(words: impl fmt::Display) -> Outcome {
    Outcome { stderr: words.to_string(), status: COULD_NOT_RUN, ..Outcome::default() }
}

/// What is to be looked at, with which checks.
struct Look {
    given: Given,
    checks: Vec<&'static Check>,
    needs: Vec<Need>,
}

impl Look {
    fn new(options: &Options, checks: Vec<&'static Check>) -> Self {
        let root = Root::at(&options.root);
        let runtimes = runtimes::find(&root).used(&root);
        let given = Given {
            root,
            lookups: lookups(&runtimes.runtimes, options.conf_dir.as_deref(), &options.bin_dir),
            runtimes,
            pod_cidr: options.pod_cidr.clone(),
            probe: options.probe,
        };
        let needed = |need: &Need| checks.iter().any(|check| check.needs.contains(need));
        let needs = Need::ALL.into_iter().filter(needed).collect();
        Self { given, checks, needs }
    }

    fn report(&self) -> Report {
        let (mut report, mut evidence) = self.once(None);
        for _ in 1..LOOKS {
            if !report.is_in_doubt() {
                break;
            }
            std::thread::sleep(A_MOMENT);
            let (later, seen) = self.once(Some(&evidence));
            report = later.confirming(&report);
            evidence = seen;
            if !evidence.is_under_way() {
                break;
            }
        }
        report
    }

    fn once(&self, earlier: Option<&Evidence>) -> (Report, Evidence) {
        let evidence = Evidence::gather(&self.needs, &self.given, earlier);
        let entries = self.checks.iter().map(|check| (*check, check.verdict(&evidence))).collect();
        (Report::new(entries), evidence)
    }
}

#[cfg(test)]
mod tests;
