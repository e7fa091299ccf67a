//! What no attachment wants: what pods that are gone left, links without a record, and rules of ours for nobody.

use super::{Action, Obstacle, Pass, Standing, Step, Subject};
use crate::datapath::census::{self, MarkedPort};
use crate::datapath::session::{Error, Session};
use crate::datapath::step::{PodStep, Step as LinkStep};
use crate::datapath::surplus::{self, Wanted};
use crate::datapath::{apply, firewall, observe};
use crate::plugins::{bridge, host_local, portmap};
use crate::state::Record;
use crate::state::lock::NodeLock;

impl Pass<'_> {
    /// A pair of links is there only as long as both namespaces are. So an attachment whose path is gone while its host end
    /// is there has lost the path alone; it is dead only when nobody is in its namespace any more. `Some` says why it is
    /// left alone.
    pub(super) fn is_haunted(&mut self, record: &Record) -> Result<Option<String>, Error> {
        let path = record.netns.as_deref().unwrap_or_default();
        let ports = census::marked_ports(&mut self.session)?;
        let Some(port) = ports.iter().find(|port| port.mark.id == record.id) else {
            // Somebody else's plugin may have attached it: then its address tells.
            let known = self.records.of_attachment(&record.id).unwrap_or_default();
            let is_ours = known.iter().any(|known| known.plugin == bridge::PLUGIN);
            let carried = !is_ours && {
                let carried = census::carried_addresses();
                record.ips().any(|address| carried.contains(&address))
            };
            return Ok(carried.then(|| format!("{path} is gone, but some namespace carries its address")));
        };
        Ok(match census::is_inhabited(port) {
            Some(false) => None,
            Some(true) => Some(format!("{path} is gone, but processes live in its namespace")),
            None => Some(format!("{path} is gone, but its host end {} is not", port.name)),
        })
    }

    /// Removes everything of an attachment that is gone, as GC does.
    pub(super) fn bury(&mut self, record: &Record) {
        let subject = Subject::of(record);
        let planned = if self.scope.dry_run {
            let look = |pass: &mut Self, record: &Record| pass.planned_removal(&subject, record);
            self.beside_verbs(record, &Standing::Dead, look)
        } else {
            self.planned_removal(&subject, record)
        };
        let Some(planned) = planned else { return };
        let foreign = bridge::is_foreign(record);
        if foreign {
            let ipam = record.leases.ipam.as_deref().unwrap_or_default();
            let text = format!("it is gone; its address belongs to {ipam}, which only a DEL can tell");
            self.report.note(&subject, text);
        }
        if planned.is_empty() {
            return;
        }
        if self.scope.dry_run {
            return self.plan(&subject, Action::Remove, planned);
        }
        let Some((lock, record)) = self.lock(record, &Standing::Dead) else { return };
        let removed = match record.plugin.as_str() {
            bridge::PLUGIN => bridge::remove_recorded(self.records, &mut self.session, &record),
            portmap::PLUGIN => portmap::remove_record(self.records, &mut self.session, &record),
            _ => host_local::del_recorded(self.records, &record),
        };
        match removed {
            Ok(()) => {
                if self.records.of_attachment(&record.id).is_ok_and(|left| left.is_empty()) {
                    self.clear(&record);
                }
                self.report.change(&subject, Action::Remove, planned);
                if !foreign {
                    lock.forget();
                }
            }
            Err(error) => self.report.failure(&subject, None, Obstacle::Refused, error.msg),
        }
    }

    fn planned_removal(&mut self, subject: &Subject, record: &Record) -> Option<Vec<Step>> {
        // From outside: what is in the pod goes with it.
        if let Err(error) = self.session.turn_to(None) {
            self.report.failure(subject, None, Obstacle::Refused, error);
            return None;
        }
        let planned = planned_removal(&mut self.session, record);
        planned.map_err(|reason| self.report.failure(subject, None, Obstacle::Refused, reason)).ok()
    }

    /// Host ends with our mark that no record speaks of, and whose pod is gone.
    pub(super) fn sweep_links(&mut self) {
        let ports = match census::marked_ports(&mut self.session) {
            Ok(ports) => ports,
            Err(error) => return self.report.failure(&Subject::Node, None, Obstacle::Refused, error),
        };
        for port in ports {
            let network = &port.mark.id.network;
            if self.scope.network.as_ref().is_some_and(|wanted| wanted != network) {
                continue;
            }
            // Asked for after the links: whoever made one had written its record before.
            if !self.is_recorded(&port) {
                self.sweep_link(&port);
            }
        }
    }

    pub(super) fn is_recorded(&self, port: &MarkedPort) -> bool {
        let id = &port.mark.id;
        if self.recalled.iter().any(|record| record.id == *id) {
            return true;
        }
        // What cannot be read may be there.
        !matches!(self.records.read(id, bridge::PLUGIN), Ok(None))
    }

    fn sweep_link(&mut self, port: &MarkedPort) {
        let id = &port.mark.id;
        let subject = Subject::named(id, port.mark.pod.clone());
        if census::is_inhabited(port) != Some(false) {
            let name = &port.name;
            let text = format!(
                "{name} has no record any more, and the kernel does not tell enough to write it again; it works, and to \
                 have it repaired restart the pod"
            );
            return self.report.note(&subject, text);
        }
        let mut steps = vec![LinkStep::RemoveLink { link: port.name.clone() }];
        if observe::repair::is_checked(&mut self.session, &port.name).unwrap_or(false) {
            steps.push(LinkStep::RemoveSpoofCheck { port: port.name.clone() });
        }
        if self.scope.dry_run {
            return self.plan(&subject, Action::Remove, steps.into_iter().map(Step::Link).collect());
        }
        if !self.be_alone() {
            return;
        }
        let Ok(Some(lock)) = self.records.try_lock(id, bridge::PLUGIN) else { return };
        if self.is_recorded(port) {
            return;
        }
        if let Some(failure) = apply::apply_all(&mut self.session, &steps).pop() {
            let step = Step::Link(*failure.step);
            return self.report.failure(&subject, Some(step), Obstacle::Refused, failure.error);
        }
        lock.forget();
        self.report.change(&subject, Action::Remove, steps.into_iter().map(Step::Link).collect());
    }

    /// Elements and rules of ours that no attachment wants.
    pub(super) fn sweep_rules(&mut self) {
        let surplus = match self.surplus() {
            Ok(surplus) => surplus,
            Err(reason) => return self.report.failure(&Subject::Node, None, Obstacle::Refused, reason),
        };
        if surplus.is_empty() {
            return;
        }
        if self.scope.dry_run {
            let steps = surplus.into_iter().map(Step::Surplus).collect();
            return self.plan(&Subject::Node, Action::Remove, steps);
        }
        if !self.be_alone() {
            return;
        }
        let _lock = match NodeLock::take() {
            Ok(lock) => lock,
            Err(error) => return self.report.failure(&Subject::Node, None, Obstacle::Refused, error),
        };
        let surplus = match self.surplus() {
            Ok(surplus) => surplus,
            Err(reason) => return self.report.failure(&Subject::Node, None, Obstacle::Refused, reason),
        };
        for removal in surplus {
            match surplus::apply::apply(&mut self.session, &removal) {
                Ok(()) => {
                    self.report.change(&Subject::Node, Action::Remove, vec![Step::Surplus(removal)]);
                }
                Err(error) => {
                    let step = Step::Surplus(removal);
                    self.report.failure(&Subject::Node, Some(step), Obstacle::Refused, error);
                }
            }
        }
    }

    fn surplus(&mut self) -> Result<Vec<surplus::Removal>, String> {
        // First what is there, then who wants it: an ADD writes its record before it makes anything.
        let present = surplus::observe::observe(&mut self.session).map_err(|error| error.to_string())?;
        let kept = self.records.all_kept().map_err(|error| error.to_string())?;
        let mut records = kept.records;
        records.extend(self.recalled.iter().cloned());
        records.extend(self.recall_ports(&records, &present));
        let mut wanted = Wanted { unread: kept.unread, ..wanted(records) };
        self.spare(&mut wanted, &present);
        Ok(surplus::plan(&wanted, &present))
    }

    /// Files of locks that killed verbs left.
    pub(super) fn sweep_locks(&mut self) {
        if self.scope.dry_run {
            return;
        }
        if let Err(error) = self.records.sweep_locks() {
            tracing::debug!("empty files stay: {error}");
        }
    }
}

/// What a burial tells the kernel, and what it forgets.
fn planned_removal(session: &mut Session, record: &Record) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    match record.plugin.as_str() {
        bridge::PLUGIN => {
            let links = bridge::planned_removal(session, record).map_err(|error| error.msg)?;
            // Of a record that stays for a DEL, only what is really there counts as something to do.
            if bridge::is_foreign(record) {
                let found = |step: &LinkStep| {
                    matches!(step, LinkStep::RemoveLink { .. } | LinkStep::Pod(PodStep::RemoveLink { .. }))
                };
                if !links.iter().any(found) {
                    return Ok(Vec::new());
                }
            }
            steps.extend(links.into_iter().map(Step::Link));
        }
        portmap::PLUGIN => {
            let ports = portmap::planned_removal(session, record).map_err(|error| error.msg)?;
            steps.extend(ports.into_iter().map(Step::Port));
        }
        host_local::PLUGIN => {}
        // Somebody else's, or a newer version's.
        _ => return Ok(Vec::new()),
    }
    if super::leases_here(record) {
        let place = host_local::data_dir_of(record).join(&record.id.network);
        let held = host_local::held_recorded(record).map_err(|error| error.msg)?;
        steps.extend(held.iter().map(|address| Step::Release(place.join(address.to_string()))));
    }
    if !bridge::is_foreign(record) {
        let (plugin, container) = (record.plugin.clone(), record.id.container.clone());
        steps.push(Step::Forget { plugin, container });
    }
    Ok(steps)
}

/// What all records together want, those of interrupted ADDs included.
fn wanted(records: Vec<Record>) -> Wanted {
    let mut wanted = Wanted::default();
    for record in records {
        wanted.addresses.extend(record.ips());
        if let Some(want) = record.attachment() {
            wanted.ports.insert(want.port.name.clone());
            wanted.inside.extend(firewall::inside(want));
            let gateway = want.gateway.as_ref().filter(|gateway| gateway.intercept);
            wanted.intercepted.extend(gateway.map(|gateway| gateway.link(&want.bridge).clone()));
            let network = &want.id.network;
            wanted.masquerade.extend(want.masquerade.iter().map(|subnet| (network.clone(), *subnet)));
        }
        wanted.inside.extend(record.pod_link);
        if record.plugin == portmap::PLUGIN {
            wanted.containers.insert(record.id.container);
        }
    }
    wanted
}
