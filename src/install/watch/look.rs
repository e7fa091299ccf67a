//! What one look did and saw. Made by a process of its own and read by the one that stays.

use std::path::{Path, PathBuf};

use rustix::thread::CapabilitySet;
use serde::{Deserialize, Serialize};

use crate::host::enter::enter;
use crate::host::root::Root;
use crate::install::apply::Lock;
use crate::install::pass::Pass;
use crate::install::report::{Report as InstallReport, Result as Outcome};
use crate::log::Entry;
use crate::reconcile::{self, Action, Report, Scope};
use crate::state::{BootId, Records, record};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::install) struct Look {
    pub(super) files: Option<Files>,
    pub(super) network: Option<Network>,
    /// What the log is to say of the repair of the network.
    #[serde(skip)]
    pub(in crate::install) entry: Option<Entry>,
}

/// The installation: plugins, names, configuration.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Files {
    /// Directories in which something may get lost, as they are for us.
    pub(super) watched: Vec<PathBuf>,
    pub(super) repaired: Vec<String>,
    pub(super) troubles: Vec<String>,
    /// Another build's installation is on the node.
    pub(super) superseded: bool,
}

/// What attached pods were promised.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Network {
    pub(super) repaired: Vec<String>,
    /// Of pods that are gone.
    pub(super) removed: Vec<String>,
    pub(super) troubles: Vec<String>,
    /// To know, once.
    pub(super) notes: Vec<String>,
    /// Something failed that may succeed later.
    pub(super) unfinished: bool,
}

impl Look {
    pub(in crate::install) fn of_files(pass: &Pass, report: InstallReport) -> Self {
        let superseded = matches!(report.result, Outcome::Superseded);
        let troubles = match report.result {
            Outcome::Refused | Outcome::Failed => report.errors,
            Outcome::Superseded => report.notes,
            _ => report.collisions,
        };
        let files = Files { watched: pass.watched(), repaired: report.steps, troubles, superseded };
        Self { files: Some(files), ..Self::default() }
    }

    pub(in crate::install) fn of_network(root: &Path) -> Self {
        Self::default().with_network(root)
    }

    /// What another build installed is its own to repair.
    pub(in crate::install) fn with_network(self, root: &Path) -> Self {
        if self.files.as_ref().is_some_and(|files| files.superseded) {
            return self;
        }
        let (network, entry) = Network::look(root);
        Self { network: Some(network), entry, ..self }
    }

    pub(in crate::install) fn render(&self) -> String {
        serde_json::to_string(self).expect("texts and paths")
    }
}

impl Network {
    fn look(root: &Path) -> (Self, Option<Entry>) {
        match rights().and_then(|notes| Ok((notes, reconcile(root)?))) {
            Ok((notes, Some(report))) => (Self { notes, ..Self::of(&report) }, report.entry()),
            Ok((notes, None)) => (Self { notes, ..Self::default() }, None),
            Err(why) => {
                let trouble = format!("what pods were promised is not repaired: {why}");
                (Self { troubles: vec![trouble], ..Self::default() }, None)
            }
        }
    }

    fn of(report: &Report) -> Self {
        let made = |wanted: Action| {
            let changes = report.changes.iter().filter(move |change| change.action == wanted);
            changes
                .flat_map(|change| change.steps.iter().map(|step| format!("{}: {step}", change.subject)))
                .collect()
        };
        let failures = report.failures.iter();
        let troubles = failures.map(|failure| {
            let step = failure.step.as_ref().map(|step| format!(": {step}")).unwrap_or_default();
            format!("{}{step}: {}", failure.subject, failure.reason)
        });
        Self {
            repaired: made(Action::Repair),
            removed: made(Action::Remove),
            troubles: troubles.collect(),
            notes: Vec::new(),
            unfinished: !report.is_whole(),
        }
    }
}

/// Why nothing can be repaired, or what should be known about the rest.
fn rights() -> Result<Vec<String>, String> {
    let own =
        rustix::thread::capabilities(None).map_err(|error| format!("which rights are ours? {error}"))?;
    if !own.effective.contains(CapabilitySet::NET_ADMIN) {
        return Err("that needs the capability NET_ADMIN".to_owned());
    }
    if own.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(Vec::new());
    }
    Ok(vec![
        "pods are not looked into, which needs the capability SYS_ADMIN; everything on the node's side is repaired"
            .to_owned(),
    ])
}

/// `None` where no pod was ever attached since the boot: what is there is then not to be judged, and where the records are
/// out of sight nothing would be wanted by anybody.
fn reconcile(root: &Path) -> Result<Option<Report>, String> {
    enter(root)?;
    // An uninstallation takes away what a repair would bring back.
    let _lock =
        Lock::take_if_installed(&Root::at("/")).map_err(|error| format!("lock the installation: {error}"))?;
    let boot = BootId::current().map_err(|error| format!("which boot is this? {error}"))?;
    if !Records::at(Path::new(record::ROOT), boot).exist() {
        return Ok(None);
    }
    reconcile::pass(&Scope::default()).map(Some).map_err(|error| error.to_string())
}
