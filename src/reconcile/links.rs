//! An attachment's links, addresses, routes and rules, and its leases.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use super::{Action, Obstacle, Pass, Standing, Step, Subject};
use crate::datapath::apply::repair;
use crate::datapath::observe;
use crate::datapath::plan::{Have, plan};
use crate::datapath::session::{Error, Netns, OpenError};
use crate::datapath::step::Step as LinkStep;
use crate::plugins::bridge;
use crate::plugins::host_local::{self, Lost};
use crate::spec::{Attachment, Bridge};
use crate::state::{NetnsId, Record, fallback, record};

impl Pass<'_> {
    /// The kernel comes to carry what the record promises.
    pub(super) fn mend_links(&mut self, record: &Record) {
        let subject = Subject::of(record);
        if !self.glance(|pass| pass.missing(&subject, record)) {
            return;
        }
        if self.scope.dry_run {
            let look = |pass: &mut Self, record: &Record| pass.missing(&subject, record);
            let steps = self.beside_verbs(record, &Standing::Living, look).unwrap_or_default();
            return self.plan(&subject, Action::Repair, steps.into_iter().map(Step::Link).collect());
        }
        let Some((_lock, record)) = self.lock(record, &Standing::Living) else { return };
        let Some(steps) = self.missing(&subject, &record) else { return };
        let (mut made, mut failures) = repair::apply_repair(&mut self.session, steps);
        // Of a link that had another name only now is seen what else somebody did to it.
        if failures.is_empty()
            && made.iter().any(|step| matches!(step, LinkStep::Rename { .. }))
            && let Some(rest) = self.missing(&subject, &record).filter(|rest| !rest.is_empty())
        {
            let (more, failed) = repair::apply_repair(&mut self.session, rest);
            made.extend(more);
            failures = failed;
        }
        self.report.change(&subject, Action::Repair, made.into_iter().map(Step::Link).collect());
        for failure in failures {
            let step = Step::Link(*failure.step);
            self.report.failure(&subject, Some(step), Obstacle::Refused, failure.error);
        }
    }

    /// The steps that an attachment misses. `None` when that cannot be told; then the report says why.
    fn missing(&mut self, subject: &Subject, record: &Record) -> Option<Vec<LinkStep>> {
        let Some(want) = record.attachment() else {
            let reason = "its record does not say what was promised; restart the pod";
            self.report.failure(subject, None, Obstacle::NoPromise, reason);
            return None;
        };
        match self.enter(record) {
            Ok(true) => {}
            // It went a moment ago: the next reconcile buries it.
            Ok(false) => return None,
            Err(error) => self.note_blind(subject, &error),
        }
        let have = match self.look(want) {
            Ok(have) => have,
            Err((obstacle, reason)) => {
                self.report.failure(subject, None, obstacle, reason);
                return None;
            }
        };
        let mut steps = plan(want, &have);
        if self.session.pod.is_none()
            && let Some(step) = steps.iter().find(|step| step.needs_pod())
        {
            let reason = "this can only be done by whoever may enter the pod's network namespace: run smarter-cni \
                          reconcile on the node, or restart the pod";
            let step = Step::Link(step.clone());
            self.report.failure(subject, Some(step), Obstacle::OutOfReach, reason);
            steps.retain(|step| !step.needs_pod() && !step.is_about(&want.port.name));
        }
        // What is left then is the end of something that the kernel does by itself.
        Some(if steps.iter().all(LinkStep::is_transient) { Vec::new() } else { steps })
    }

    fn look(&mut self, want: &Attachment) -> Result<Have, (Obstacle, String)> {
        let words = |error: Error| (Obstacle::Refused, error.to_string());
        if observe::repair::is_taken(&mut self.session, want).map_err(words)? {
            let name = &want.port.name;
            let reason = format!("{name} is somebody else's link now; remove it, or restart the pod");
            return Err((Obstacle::LinkTaken(name.clone()), reason));
        }
        let needed = bridge::host_needs(self.records, want);
        let have = observe::observe(&mut self.session, want, true, &needed).map_err(words)?;
        let mut have = have.map_err(|_| {
            let bridge = &want.bridge.name;
            let reason = format!("{bridge} exists but is not a bridge; remove that link");
            (Obstacle::NoBridge(bridge.clone()), reason)
        })?;
        if let Some(bridge) = have.bridge.as_mut() {
            // The MAC that we derive is ours to keep. That of a bridge which somebody else made may be changed by them, and
            // then records disagree.
            let derived = want.bridge.mac == Bridge::derived_mac(&want.bridge.name);
            bridge.mac_changed = derived && want.gateway.is_some() && bridge.mac != Some(want.bridge.mac);
        }
        if let Some(port) = have.port.as_mut().filter(|port| port.connected) {
            port.strange =
                observe::repair::observe_strange(&mut self.session, &want.port.name).map_err(words)?;
        }
        if want.gateway.as_ref().is_some_and(|gateway| gateway.dns.is_some()) {
            let said = self.fallback();
            observe::repair::observe_ports(&mut self.session, said, &mut have.names).map_err(words)?;
        }
        Ok(have)
    }

    /// Ports that the node's name server says it has instead of port 53.
    fn fallback(&self) -> BTreeMap<Ipv4Addr, u16> {
        let said = self.root.locate(Path::new(record::ROOT)).map_err(|error| error.to_string());
        let said = said.and_then(|here| fallback::read(&here).map_err(|error| error.to_string()));
        said.unwrap_or_else(|error| {
            tracing::info!("where the name server is asked cannot be read: {error}");
            BTreeMap::new()
        })
    }

    /// Turns to the pod; `false` when its namespace is gone. The error is why it cannot be entered: then the session sees the
    /// node alone.
    fn enter(&mut self, record: &Record) -> Result<bool, Error> {
        let entered = match record.netns.as_deref().map(Netns::open) {
            Some(Ok(netns)) => {
                let (dev, ino) = netns.identity();
                if record.netns_id != Some(NetnsId { dev, ino }) {
                    return Ok(false);
                }
                self.session.turn_to(Some(netns))
            }
            Some(Err(OpenError::Other(error))) => Err(error),
            Some(Err(OpenError::Gone(_) | OpenError::NotNamespace(_))) | None => return Ok(false),
        };
        if entered.is_err() {
            self.session.turn_to(None)?;
        }
        entered.map(|()| true)
    }

    fn note_blind(&mut self, subject: &Subject, error: &Error) {
        let text = format!("the pod's side was not looked at: {}", error.reason());
        if !self.report.notes.iter().any(|note| note.subject == *subject && note.text == text) {
            self.report.note(subject, text);
        }
    }

    /// The leases of a living attachment that vanished. `None` when nothing can be done; then the report says why.
    fn lost(&mut self, subject: &Subject, record: &Record) -> Option<Vec<IpAddr>> {
        let lost = match host_local::lost(record) {
            Ok(lost) => lost,
            Err(error) => {
                self.report.failure(subject, None, Obstacle::Refused, error.msg);
                return None;
            }
        };
        let place = host_local::data_dir_of(record).join(&record.id.network);
        let mut free = Vec::new();
        for lost in lost {
            match lost {
                Lost::Free(address) => free.push(address),
                Lost::Taken(address, holder) => {
                    let other = &holder.container;
                    let reason =
                        format!("{address} is leased to container {other} too; restart one of the two");
                    let file = place.join(address.to_string());
                    self.report.failure(subject, None, Obstacle::LeaseTaken(file), reason);
                }
            }
        }
        if let Some(link) = dangling(&place).filter(|_| !free.is_empty()) {
            let reason =
                format!("{} is a link that leads nowhere: no lease can be made there", link.display());
            self.report.failure(subject, None, Obstacle::Dangling(link), reason);
            return None;
        }
        Some(free)
    }

    /// They are made again.
    pub(super) fn mend_leases(&mut self, record: &Record) {
        let subject = Subject::of(record);
        if !self.glance(|pass| pass.lost(&subject, record)) {
            return;
        }
        let place = host_local::data_dir_of(record).join(&record.id.network);
        let file = |address: &IpAddr| -> PathBuf { place.join(address.to_string()) };
        let leases =
            |addresses: &[IpAddr]| addresses.iter().map(|address| Step::Lease(file(address))).collect();
        if self.scope.dry_run {
            let look = |pass: &mut Self, record: &Record| pass.lost(&subject, record);
            let free = self.beside_verbs(record, &Standing::Living, look).unwrap_or_default();
            return self.plan(&subject, Action::Repair, leases(&free));
        }
        let Some((_lock, record)) = self.lock(record, &Standing::Living) else { return };
        let Some(free) = self.lost(&subject, &record).filter(|free| !free.is_empty()) else { return };
        match host_local::restore(&record, self.records.boot()) {
            Ok(made) => self.report.change(&subject, Action::Repair, leases(&made)),
            Err(error) => {
                let step = free.last().map(|address| Step::Lease(file(address)));
                self.report.failure(&subject, step, Obstacle::Refused, error.msg);
            }
        }
    }
}

/// The link on the way to a directory, of whichever program, behind which there is nothing.
fn dangling(directory: &Path) -> Option<PathBuf> {
    let is_link = |path: &&Path| path.is_symlink() && !path.exists();
    directory.ancestors().find(is_link).map(Path::to_owned)
}
