//! `doctor`: looks at a node and says what is wrong, with the object and what to do about it. Works with nothing but this
//! binary, and changes nothing.
//!
//! [`evidence`] observes everything once; [`checks`] are pure functions of it, one table of them; [`report`] renders.
//! A new check is an entry in its group's table, a function, and a heading in docs/doctor.md.

pub mod check;
pub mod checks;
pub mod evidence;
pub mod explain;
pub mod report;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use ipnetwork::IpNetwork;

use self::check::{Check, Group, Need};
use self::evidence::lookups::lookups;
use self::evidence::{Evidence, Given};
use self::report::{Report, Style};
use crate::Outcome;
use crate::host::root::Root;
use crate::host::runtimes;

/// Between two looks. Pods come and go while we look, and one that is half gone looks broken: only what is there at both
/// looks is a finding. A DEL takes tens of milliseconds.
const A_MOMENT: Duration = Duration::from_millis(300);
/// Nothing could be looked at, or the words on the command line are wrong.
const COULD_NOT_RUN: u8 = 2;

#[derive(Debug, clap::Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[command(
    name = "smarter-cni doctor",
    about = "Say what is wrong with this node's pod network, and what to do about it; changes nothing",
    long_about = "Looks at the kernel, the host, bridges, addresses, rules, leases, pods, configuration and container \
                  runtimes, and names what is wrong, with the object and the fix. Needs no other program, no network and no \
                  API server. Changes nothing.\n\n\
                  Run it as root, in the host's network namespace: /proc/sys/net and netlink show the namespace \
                  of whoever asks, so in a container it needs hostNetwork and hostPID, and --root where the \
                  host's / is mounted.\n\n\
                  Exit code 0: nothing is broken; 1: something is; 2: nothing could be looked at, or wrong usage.\n\
                  Every check is explained in docs/doctor.md and by --explain."
)]
struct Options {
    /// Also list what is fine and what does not apply
    #[arg(short, long)]
    verbose: bool,
    /// Print one JSON object (docs/doctor.md describes it)
    #[arg(long)]
    json: bool,
    /// List the checks, one id and title per line
    #[arg(long)]
    list: bool,
    /// Say what a check means, how it comes about and how to fix it
    #[arg(long, value_name = "ID")]
    explain: Option<String>,
    /// Run these checks only: ids or groups, separated by commas
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    only: Vec<String>,
    /// Leave these checks out: ids or groups, separated by commas
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    skip: Vec<String>,
    /// Exit with 1 for warnings, too
    #[arg(long)]
    strict: bool,
    /// Where the host's / is
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Where network configurations are; otherwise where this node's container runtimes read them
    #[arg(long, value_name = "DIR")]
    conf_dir: Option<PathBuf>,
    /// Where plugins are, as often as there are places; otherwise where the runtimes look for them
    #[arg(long, value_name = "DIR")]
    bin_dir: Vec<PathBuf>,
    /// Also send packets from inside the pods: do their gateways answer, and packets that fill the MTU?
    #[arg(long)]
    probe: bool,
    /// The range that the cluster gave this node (podCIDR)
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pod_cidr: Vec<IpNetwork>,
}

/// `colour`: standard output is a terminal whose owner likes colours.
pub fn run(arguments: &[OsString], colour: bool) -> Outcome {
    let name = std::iter::once(OsString::from("smarter-cni doctor"));
    let options = match <Options as clap::Parser>::try_parse_from(name.chain(arguments.iter().cloned())) {
        Ok(options) => options,
        Err(error) if error.use_stderr() => return refused(error.to_string()),
        Err(help) => return Outcome::printed(help.to_string()),
    };
    if options.list {
        return Outcome::printed(report::list(checks::all().collect::<Vec<_>>().into_iter()));
    }
    if let Some(id) = &options.explain {
        return match explain::section(id) {
            Some(text) => Outcome::printed(format!("{text}\n")),
            None => refused(unknown(id)),
        };
    }
    match chosen(&options.only, &options.skip) {
        Ok(checks) => look(&options, &checks, colour),
        Err(word) => refused(unknown(&word)),
    }
}

fn refused(text: String) -> Outcome {
    Outcome { stderr: text, status: COULD_NOT_RUN, ..Outcome::default() }
}

fn unknown(word: &str) -> String {
    format!("smarter-cni doctor: there is no check and no group {word:?}; --list lists the checks\n")
}

/// All checks, or those that were asked for; the first word that is neither a check nor a group is refused.
fn chosen(only: &[String], skip: &[String]) -> Result<Vec<&'static Check>, String> {
    let names = |check: &Check, words: &[String]| {
        words.iter().any(|word| word == check.id || word == check.group.word())
    };
    let is_known = |word: &&String| {
        checks::all().any(|check| check.id == **word) || Group::ALL.iter().any(|group| group.word() == **word)
    };
    if let Some(word) = only.iter().chain(skip).find(|word| !is_known(word)) {
        return Err(word.clone());
    }
    let wanted = checks::all().filter(|check| only.is_empty() || names(check, only));
    Ok(wanted.filter(|check| !names(check, skip)).collect())
}

fn look(options: &Options, checks: &[&'static Check], colour: bool) -> Outcome {
    let root = Root::at(&options.root);
    let runtimes = runtimes::find(&root).used(&root);
    let given = Given {
        root,
        lookups: lookups(&runtimes.runtimes, options.conf_dir.as_deref(), &options.bin_dir),
        runtimes,
        pod_cidr: options.pod_cidr.clone(),
        probe: options.probe,
    };
    let needs: Vec<Need> =
        Need::ALL.into_iter().filter(|need| checks.iter().any(|check| check.needs.contains(need))).collect();
    let look = |earlier: Option<&Evidence>| {
        let evidence = Evidence::gather(&needs, &given, earlier);
        let entries = checks.iter().map(|check| (*check, (check.run)(&evidence))).collect();
        (Report::new(entries), evidence)
    };
    let (mut report, evidence) = look(None);
    if report.has_problems() {
        std::thread::sleep(A_MOMENT);
        report = look(Some(&evidence)).0.confirming(&report);
    }
    let stdout =
        if options.json { report.json() } else { report.text(Style { colour, verbose: options.verbose }) };
    Outcome { stdout, status: report.status(options.strict), ..Outcome::default() }
}

#[cfg(test)]
mod tests;
