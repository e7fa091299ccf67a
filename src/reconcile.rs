//! `reconcile`: what attachments were promised comes back without a pod being restarted, and what no attachment wants goes.
//!
//! The plan of all living attachments, made of their records: a repair has no configuration. Looks first, without a lock
//! and without writing anything; where something is to be done it takes the record's lock (or, for what pods share, the
//! node's), reads the record again, looks again, and only then acts. So it neither makes again what a DEL removes nor
//! removes what an ADD makes. Touches nothing without our mark.

mod links;
mod memory;
mod ports;
mod remains;
mod report;
mod sandboxes;
mod step;

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use report::{Action, Change, Failure, Note, Report, Subject};
pub use step::{Obstacle, Step};

use rustix::io::Errno;
use sandboxes::Sandboxes;

use crate::Outcome;
use crate::datapath::census;
use crate::datapath::hostports::flows::Stale;
use crate::datapath::session::Session;
use crate::host::enter::enter;
use crate::host::root::Root;
use crate::log::Entry;
use crate::plugins::{bridge, host_local, portmap};
use crate::state::elsewhere::{COME_HERE, is_elsewhere};
use crate::state::holders::{self, GRACE, Whereabouts};
use crate::state::lock::{NodeLock, RecordLock};
use crate::state::{BootId, Record, Records, boot, record};

#[derive(Debug, clap::Parser)]
#[command(
    name = "smarter-cni reconcile",
    about = "Bring back what attached pods were promised, and remove what no pod wants",
    long_about = "Compares what every attached pod was promised with what the kernel has, and makes the difference: bridge, \
                  gateway address, ports of the bridge, addresses and routes in pods, forwarding, rules, host ports, leases. \
                  No pod is restarted; open connections go on. Removes links, elements, leases and records of pods that are \
                  gone. Prints every step as the command a person would type. Exit code 0: all is there, or was brought \
                  back, or with --dry-run would be; 1: something cannot be done or looked at, and is named; 2: could not run: \
                  not root, or wrong options."
)]
struct Options {
    /// Print the steps and make none of them
    #[arg(long)]
    dry_run: bool,
    /// Only the attachments of this network; what pods of all networks share is then not swept
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Where the host's / is, in a container that has it mounted
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Print one JSON object: {"version":1,"dry_run",…,"changes":[…],"failures":[…],"notes":[…]}
    #[arg(long)]
    json: bool,
    /// What an ADD or DEL starts on a node with many flows: forget those of their host ports, and do nothing else
    #[arg(long = portmap::ONLY_FLOWS.trim_start_matches('-'), hide = true, exclusive = true)]
    only_flows: bool,
}

/// The options, for whoever describes them.
pub(crate) fn command() -> clap::Command {
    <Options as clap::CommandFactory>::command()
}

/// Which attachments, and whether anything is to be changed.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub dry_run: bool,
    /// All networks when there is none.
    pub network: Option<String>,
}

/// Why a reconcile could not run at all.
#[derive(Debug)]
pub enum Unable {
    /// It may not, or the kernel cannot.
    Run(String),
    /// What is remembered is not what it has to be: no ADD works either.
    Damaged(String),
}

impl Unable {
    fn status(&self) -> u8 {
        match self {
            Self::Run(_) => COULD_NOT_RUN,
            Self::Damaged(_) => 1,
        }
    }
}

impl fmt::Display for Unable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Run(why) => f.write_str(why),
            Self::Damaged(why) => write!(f, "{why}; smarter-cni doctor says more"),
        }
    }
}

impl std::error::Error for Unable {}

const BUSY: &str = "an ADD or a DEL of it runs right now; left to that";

/// Wrong words on the command line, and what could not run.
const COULD_NOT_RUN: u8 = 2;

/// The command.
pub fn run(arguments: &[OsString]) -> Outcome {
    let name = std::iter::once(OsString::from("smarter-cni reconcile"));
    let options = match <Options as clap::Parser>::try_parse_from(name.chain(arguments.iter().cloned())) {
        Ok(options) => options,
        Err(error) if error.use_stderr() => return unable(&error),
        Err(help) => return Outcome::printed(help.to_string()),
    };
    if !rustix::process::geteuid().is_root() {
        return unable(&"smarter-cni reconcile: only root can look into pods; run it with sudo\n");
    }
    if options.only_flows {
        return only_flows();
    }
    if let Err(why) = enter(&options.root) {
        return unable(&format_args!("smarter-cni reconcile: {why}\n"));
    }
    let scope = Scope { dry_run: options.dry_run, network: options.network };
    match pass(&scope) {
        Ok(report) => {
            let text = if options.json { report.json() } else { report.text() };
            let outcome = if report.is_whole() { Outcome::printed(text) } else { Outcome::failed(text) };
            outcome.logged(report.entry())
        }
        Err(error) => {
            let entry = Entry::of_command("reconcile", Vec::new(), &[error.to_string()]);
            let outcome = unable(&format_args!("smarter-cni reconcile: {error}\n"));
            Outcome { status: error.status(), ..outcome }.logged(entry)
        }
    }
}

/// Behind whatever else the node has to do.
fn only_flows() -> Outcome {
    let _ = rustix::process::nice(10);
    match boot() {
        Ok(boot) => portmap::settle(&Records::at(Path::new(record::ROOT), boot)),
        Err(error) => return unable(&format_args!("smarter-cni reconcile: {error}\n")),
    }
    Outcome::default()
}

fn unable(words: &dyn fmt::Display) -> Outcome {
    Outcome { stderr: words.to_string(), status: COULD_NOT_RUN, ..Outcome::default() }
}

/// What a reconcile would do now on the node whose `/` is there. Changes nothing and takes no lock.
pub fn plan_all(root: &Root) -> Result<Report, Unable> {
    let scope = Scope { dry_run: true, network: None };
    if *root == Root::at("/") {
        return pass(&scope);
    }
    let failed = |error: std::io::Error| Unable::Run(format!("{}: {error}", record::ROOT));
    let directory = root.locate(Path::new(record::ROOT)).map_err(failed)?;
    let below = root.clone();
    let seen = move |path: &str| {
        let located = below.locate(Path::new(path));
        located.map_or_else(|_| path.to_owned(), |here| here.to_string_lossy().into_owned())
    };
    let records = Records::at(&directory, boot()?).seen(seen);
    Ok(pass_over(&scope, &records, root)?.with_paths_of_the_host(root))
}

/// One reconcile, for the command line and for whoever watches. Needs CAP_NET_ADMIN; without the right to enter pods'
/// namespaces (CAP_SYS_ADMIN) their side is not looked at, and a note says so.
pub fn pass(scope: &Scope) -> Result<Report, Unable> {
    if is_elsewhere() {
        return Err(Unable::Run(format!("nothing is done from here: {COME_HERE} reconcile")));
    }
    pass_over(scope, &Records::at(Path::new(record::ROOT), boot()?), &Root::at("/"))
}

fn boot() -> Result<BootId, Unable> {
    BootId::current().map_err(|error| Unable::Run(format!("which boot is this? {error}")))
}

fn pass_over(scope: &Scope, records: &Records, root: &Root) -> Result<Report, Unable> {
    let session = Session::open(None).map_err(|error| Unable::Run(error.to_string()))?;
    let mut session = session.of_boot(records.boot());
    let all = records.all().map_err(|error| match error.errno() {
        Some(Errno::ACCESS | Errno::PERM) => Unable::Run(error.to_string()),
        _ => Unable::Damaged(error.to_string()),
    })?;
    if let Some(network) = &scope.network {
        is_known(network, &all, &mut session)?;
    }
    let report = Report { dry_run: scope.dry_run, ..Report::default() };
    let mut pass = Pass {
        scope,
        records,
        session,
        now: boot::boottime(),
        report,
        said: HashSet::new(),
        alone: None,
        recalled: Vec::new(),
        beside: false,
        stale: Stale::default(),
        root: root.clone(),
        sandboxes: Sandboxes::default(),
    };
    pass.walk(all);
    pass.forget_flows();
    Ok(pass.report)
}

/// A network of which there is neither a record nor a link is a slip of the pen.
fn is_known(network: &str, all: &[Record], session: &mut Session) -> Result<(), Unable> {
    let marks = census::marked_attachments(session).map_err(|error| Unable::Run(error.to_string()))?;
    let recorded = all.iter().map(|record| record.id.network.clone());
    let known: BTreeSet<String> = recorded.chain(marks.into_iter().map(|mark| mark.id.network)).collect();
    if known.contains(network) {
        return Ok(());
    }
    let known = if known.is_empty() {
        "no pod is attached".to_owned()
    } else {
        format!("there are {}", known.into_iter().collect::<Vec<_>>().join(", "))
    };
    Err(Unable::Run(format!("no pod is attached to a network {network:?}; {known}")))
}

/// One walk over all attachments.
struct Pass<'a> {
    scope: &'a Scope,
    records: &'a Records,
    session: Session,
    /// CLOCK_BOOTTIME.
    now: Duration,
    report: Report,
    /// Steps that a dry run has listed: what pods share is missing once, however many pods miss it.
    said: HashSet<String>,
    /// Held from the first change on.
    alone: Option<NodeLock>,
    /// Records that a dry run would write again: they are not on the disk yet.
    recalled: Vec<Record>,
    /// Another one has it, and does not end.
    beside: bool,
    /// Of ports that were opened again.
    stale: Stale,
    /// Where the host's `/` is, and with it its runtimes.
    root: Root,
    sandboxes: Sandboxes,
}

/// What an attachment is to a repair.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Living,
    Dead,
    /// Its ADD runs, or was interrupted: the runtime was never told of it, and will send another ADD or a DEL.
    Unfinished,
    /// No runtime knows it: if that is still so at a later look, it is dead.
    Abandoned,
    /// Left alone, and why.
    Unclear(String),
}

impl Pass<'_> {
    fn walk(&mut self, mut all: Vec<Record>) {
        self.recall(&mut all);
        if let Some(network) = &self.scope.network {
            all.retain(|record| record.id.network == *network);
        }
        let (mut living, mut dead) = (Vec::new(), Vec::new());
        for record in all {
            match self.standing(&record) {
                Standing::Living => living.push(record),
                Standing::Dead => dead.push(record),
                Standing::Unfinished => self.note_interrupted(&record),
                Standing::Abandoned => self.report.abandoned(&Subject::of(&record)),
                Standing::Unclear(why) => {
                    self.report.note(&Subject::of(&record), format!("left alone: {why}"));
                }
            }
        }
        // Ports first, as in a DEL; the removal of links would take them along without a word.
        dead.sort_by_key(|record| record.plugin != portmap::PLUGIN);
        for record in &dead {
            self.bury(record);
        }
        let attachments: HashSet<_> = living.iter().map(|record| &record.id).collect();
        self.report.attachments = attachments.len();
        let of = |plugin: &'static str| living.iter().filter(move |record| record.plugin == plugin);
        for record in of(bridge::PLUGIN) {
            self.mend_links(record);
        }
        for record in living.iter().filter(|record| leases_here(record)) {
            self.mend_leases(record);
        }
        for record in of(portmap::PLUGIN) {
            self.mend_ports(record);
        }
        self.sweep_links();
        if self.scope.network.is_none() {
            self.sweep_rules();
            self.sweep_locks();
        }
    }

    fn standing(&mut self, record: &Record) -> Standing {
        match holders::whereabouts(record) {
            Whereabouts::Here => self.abandoned(record).unwrap_or(if record.complete {
                Standing::Living
            } else {
                Standing::Unfinished
            }),
            Whereabouts::Unclear(_) if !record.complete => Standing::Unfinished,
            Whereabouts::Unclear(why) => Standing::Unclear(why),
            Whereabouts::Gone if self.now < record.created() + GRACE => Standing::Unfinished,
            Whereabouts::Gone => match self.is_haunted(record) {
                Ok(None) => Standing::Dead,
                Ok(Some(why)) => Standing::Unclear(why),
                Err(error) => Standing::Unclear(error.to_string()),
            },
        }
    }

    /// A first look, without a lock: false when there is nothing to do and nothing to say. What it finds wrong may be what a
    /// DEL does just now: it is forgotten, and counts only if it is still so with the record's lock and the record read again,
    /// or in a dry run [`Self::beside_verbs`].
    fn glance<T>(&mut self, look: impl FnOnce(&mut Self) -> Option<Vec<T>>) -> bool {
        let known = self.report.failures.len();
        let found = look(self);
        let is_troubled = self.report.failures.len() > known;
        self.report.failures.truncate(known);
        is_troubled || found.is_some_and(|steps| !steps.is_empty())
    }

    /// The second look of a dry run, which holds no lock: `None` when a verb works on the attachment, or did since the first
    /// one. What verbs change under the record's lock is not theirs any more if after the look nobody has that lock and the
    /// record is still there: a DEL forgets it last. Ports are changed under the node's lock alone, which is waited for.
    fn beside_verbs<T>(
        &mut self,
        record: &Record,
        standing: &Standing,
        look: impl FnOnce(&mut Self, &Record) -> Option<Vec<T>>,
    ) -> Option<Vec<T>> {
        let _node = match (record.plugin == portmap::PLUGIN).then(|| self.records.beside_node()) {
            Some(Err(_)) => {
                self.report.note(&Subject::of(record), BUSY);
                return None;
            }
            held => held,
        };
        let again = self.read_again(record, standing)?;
        let known = self.report.failures.len();
        let found = look(self, &again);
        let busy = self.records.is_locked(&again.id, &again.plugin);
        if busy || self.read_again(&again, standing).is_none() {
            self.report.failures.truncate(known);
            if busy {
                self.report.note(&Subject::of(record), BUSY);
            }
            return None;
        }
        found
    }

    /// The record's lock and the record as it is then, for a change. `None` when there is nothing to change any more, or a
    /// verb runs that makes or removes the attachment itself.
    fn lock(&mut self, record: &Record, standing: &Standing) -> Option<(RecordLock, Record)> {
        if !self.be_alone() {
            return None;
        }
        let subject = Subject::of(record);
        let lock = match self.records.try_lock(&record.id, &record.plugin) {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                self.report.note(&subject, BUSY);
                return None;
            }
            Err(error) => {
                self.report.failure(&subject, None, Obstacle::Refused, error);
                return None;
            }
        };
        let again = self.read_again(record, standing)?;
        Some((lock, again))
    }

    /// The record as it is now, if it still stands as it did.
    fn read_again(&mut self, record: &Record, standing: &Standing) -> Option<Record> {
        let again = self.records.read(&record.id, &record.plugin).ok().flatten();
        let recalled = || {
            let is_it = |known: &&Record| known.id == record.id && known.plugin == record.plugin;
            self.recalled.iter().find(is_it).cloned()
        };
        let again = again.or_else(recalled)?;
        (self.standing(&again) == *standing).then_some(again)
    }

    fn note_interrupted(&mut self, record: &Record) {
        if self.now >= record.created() + GRACE {
            let text = "its ADD was interrupted; the next ADD or DEL finishes it";
            self.report.note(&Subject::of(record), text);
        }
    }

    /// From the first change on no other reconcile runs beside this one: it would see half of the work.
    ///
    /// False where another one does not end: what it does to the node is then left to it.
    fn be_alone(&mut self) -> bool {
        if self.alone.is_none() && !self.beside {
            match NodeLock::of_reconcile() {
                Ok(lock) => self.alone = Some(lock),
                Err(error) if error.is_busy() => {
                    self.beside = true;
                    self.report.failure(
                        &Subject::Node,
                        None,
                        Obstacle::Refused,
                        format!("another reconcile does not end: {error}"),
                    );
                }
                Err(error) => tracing::warn!(%error, "another reconcile may run at the same time"),
            }
        }
        !self.beside
    }

    /// Of all ports together, and without a lock; with what ADDs and DELs left to be done.
    fn forget_flows(&mut self) {
        if !self.scope.dry_run {
            self.alone = None;
            std::mem::take(&mut self.stale).forget();
            portmap::settle(self.records);
        }
    }

    /// Steps of a dry run; what was listed for another attachment already is left out.
    fn plan(&mut self, subject: &Subject, action: Action, mut steps: Vec<Step>) {
        steps.retain(|step| !step.is_of_the_node() || self.said.insert(step.to_string()));
        self.report.change(subject, action, steps);
    }
}

/// Whether the record's leases are in our own address management's files.
fn leases_here(record: &Record) -> bool {
    match record.plugin.as_str() {
        bridge::PLUGIN => record.leases.ipam.is_some() && !bridge::is_foreign(record),
        host_local::PLUGIN => true,
        _ => false,
    }
}
