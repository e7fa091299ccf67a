//! One look at the node and what it takes to have everything in place: what `install` does once and `install --watch`
//! does again and again.

use std::path::PathBuf;

use super::apply::{self, Lock};
use super::have::Have;
use super::installation::Installation;
use super::loaded;
use super::observe;
use super::plan::{self, Plan};
use super::program::Program;
use super::report::{Report, Result as Outcome};
use super::settings::Settings;
use super::watch;
use crate::datapath::claim;
use crate::host::asked;
use crate::host::resolver;
use crate::host::root::Root;
use crate::host::runtimes::{self, Found, Runtime};

/// What a person would look for in vain.
const HOST_PORTS: &str = "cri-o makes host ports itself and tells no plugin of them: settings of host ports, 127.0.0.1 and the \
                          ports in `status` do not apply to its pods";

#[derive(Debug)]
pub(super) struct Pass {
    pub(super) root: Root,
    pub(super) settings: Settings,
    pub(super) program: Program,
    /// Asked once: what is placed, watched and judged is about the same directories.
    found: Found,
}

impl Pass {
    /// The text of an error says what could not be read.
    pub(super) fn new(root: PathBuf, settings: Settings) -> Result<Self, String> {
        if !root.is_dir() {
            return Err(format!(
                "--root {}: there is no such directory; mount the host's / there",
                root.display()
            ));
        }
        let program = Program::own().map_err(|error| format!("cannot read this very program: {error}"))?;
        let root = Root::at(root);
        let found = asked::find(&root, loaded::PATIENCE);
        Ok(Self { root, settings, program, found })
    }

    /// As the host sees them; neither list is empty.
    pub(super) fn directories(&self) -> (Vec<PathBuf>, Vec<PathBuf>) {
        directories(&self.found, &self.settings.bin_dirs, &self.settings.conf_dirs)
    }

    pub(super) fn runtimes(&self) -> &[Runtime] {
        &self.found.runtimes
    }

    fn look(&self) -> Result<Have, String> {
        let (bin, conf) = self.directories();
        let network = &self.settings.network;
        let mut have = observe::observe(&self.root, &self.program, network.name.as_str(), &bin, &conf)?;
        if let Some(dns) = network.dns {
            let uses = claim::survey(dns);
            have.uses = uses.map_err(|error| format!("cannot look who uses {dns}: {error}"))?;
        }
        if self.settings.host_dns.is_some() {
            have.resolvers = Some(resolver::look(&self.root)?);
        }
        for dir in &mut have.conf_dirs {
            let reads = |runtime: &&Runtime| {
                runtime.may_look_in().any(|(conf_dir, _)| self.root.same(conf_dir, &dir.path))
            };
            dir.shared = self.found.runtimes.iter().filter(reads).count() > 1;
        }
        Ok(have)
    }

    /// What `install` does; asks the runtimes at the end.
    pub(super) fn run(&self, dry_run: bool) -> Report {
        let mut report = self.go(dry_run, false);
        if matches!(report.result, Outcome::Installed | Outcome::Unchanged) {
            loaded::ask(self, &mut report);
        }
        report
    }

    /// What `install --watch` does again and again: as [`Self::run`], but another build's installation is left alone.
    pub(super) fn repair(&self) -> Report {
        self.go(false, true)
    }

    /// Directories in which something of ours may get lost, as they are for us.
    pub(super) fn watched(&self) -> Vec<PathBuf> {
        let (bin, conf) = self.directories();
        let known = observe::installation(&self.root).ok().flatten().unwrap_or_default();
        let of_resolvers = known.resolver_files.iter().filter_map(|path| path.parent());
        let all = bin.iter().chain(&conf).map(PathBuf::as_path).chain(of_resolvers);
        let here = all.filter_map(|path| self.root.locate(path).ok());
        here.filter_map(|path| watch::nearest(&path)).collect()
    }

    /// Looks first without the lock: a node that needs nothing, and one that refuses, are not written to at all.
    fn go(&self, dry_run: bool, resident: bool) -> Report {
        let (plan, have, mut report) = match self.planned(resident) {
            Ok(planned) => planned,
            Err(report) => return *report,
        };
        if dry_run {
            report.steps = plan.steps.iter().map(ToString::to_string).collect();
            return report;
        }
        if plan.steps.is_empty() && have.installation.as_ref() == Some(&plan.installation) {
            report.result = Outcome::Unchanged;
            return report;
        }
        let lock = Lock::take(&self.root);
        let (plan, have, mut report) = match self.planned(resident) {
            Ok(planned) => planned,
            Err(report) => return *report,
        };
        self.carry_out(&plan, &have, lock.err(), &mut report);
        report
    }

    /// The plan and what it was made for, with a report that waits for its outcome; or why there is none.
    fn planned(&self, resident: bool) -> Result<(Plan, Have, Report), Box<Report>> {
        let unable = |outcome, errors| Box::new(Report { errors, ..Report::new(outcome) });
        let found = &self.found;
        let have = self.look().map_err(|error| unable(Outcome::Failed, vec![error]))?;
        if let Some(other) = have.installation.as_ref().filter(|known| resident && self.is_another(known)) {
            let note = format!(
                "version {} (build {}) was installed meanwhile: its plugins are left to it",
                other.program, other.digest
            );
            return Err(Box::new(Report { notes: vec![note], ..Report::new(Outcome::Superseded) }));
        }
        let plan = plan::plan(&self.settings, &have).map_err(|errors| unable(Outcome::Refused, errors))?;
        let mut report = Report {
            network: Some((&plan.network).into()),
            notes: plan.notes.clone(),
            warnings: plan.collisions.iter().chain(&plan.warnings).cloned().collect(),
            collisions: plan.collisions.clone(),
            ..Report::new(Outcome::Planned)
        };
        report.notes.splice(0..0, found.left_out.iter().map(ToString::to_string));
        let makes_ports = found.runtimes.iter().any(|runtime| runtime.kind.makes_host_ports());
        report
            .notes
            .extend((makes_ports && plan.network.host_ports.is_some()).then(|| HOST_PORTS.to_owned()));
        report.warnings.extend(found.problems.iter().map(ToString::to_string));
        report.runtimes = found.runtimes.iter().map(loaded::unasked).collect();
        Ok((plan, have, report))
    }

    fn is_another(&self, known: &Installation) -> bool {
        known.digest != self.program.identity.digest
    }

    /// `unlocked` says why there is no lock: a node where nothing is left to do need not be writable.
    fn carry_out(&self, plan: &Plan, have: &Have, unlocked: Option<std::io::Error>, report: &mut Report) {
        let written = if have.installation.as_ref() == Some(&plan.installation) {
            Ok(())
        } else {
            unlocked.map_or_else(|| apply::write_down(&self.root, &plan.installation), Err)
        };
        if let Err(error) = written {
            let file = super::installation::FILE;
            let text = format!("cannot write {file}: {error}{}", apply::next_move(&error));
            if !plan.steps.is_empty() {
                report.result = Outcome::Failed;
                report.errors.push(text);
                return;
            }
            report.warnings.push(format!("{text}; uninstall will only find what has our names"));
        }
        for step in &plan.steps {
            match apply::apply(&self.root, &self.program, step) {
                Ok(()) => report.steps.push(step.to_string()),
                Err(error) => {
                    report.result = Outcome::Failed;
                    report.errors.push(error);
                    return;
                }
            }
        }
        report.result = if plan.steps.is_empty() { Outcome::Unchanged } else { Outcome::Installed };
    }
}

/// Where plugins and configurations go, as the host sees it: what was said, else where the node's runtimes look, else
/// where runtimes look by default.
pub(super) fn directories(found: &Found, bin: &[PathBuf], conf: &[PathBuf]) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let or = |given: &[PathBuf], of_runtimes: Vec<PathBuf>, default: &str| {
        if !given.is_empty() {
            given.to_vec()
        } else if of_runtimes.is_empty() {
            vec![PathBuf::from(default)]
        } else {
            of_runtimes
        }
    };
    let places = || found.runtimes.iter().flat_map(Runtime::may_look_in);
    let conf_dirs = places().map(|(conf_dir, _)| conf_dir.to_owned());
    // A runtime takes a plugin from the first of its directories that has it.
    let bin_dirs = places().filter_map(|(_, bin_dirs)| bin_dirs.first().cloned());
    (
        or(bin, bin_dirs.collect(), runtimes::DEFAULT_BIN_DIR),
        or(conf, conf_dirs.collect(), runtimes::DEFAULT_CONF_DIR),
    )
}
