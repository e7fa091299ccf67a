//! An attachment's host ports.

use super::{Action, Obstacle, Pass, Standing, Step, Subject};
use crate::datapath::hostports::apply;
use crate::datapath::hostports::observe::{self, Way};
use crate::datapath::hostports::plan::{Step as PortStep, plan};
use crate::plugins::portmap;
use crate::state::Record;
use crate::state::lock::NodeLock;

impl Pass<'_> {
    pub(super) fn mend_ports(&mut self, record: &Record) {
        let subject = Subject::of(record);
        if !self.glance(|pass| pass.missing_ports(&subject, record)) {
            return;
        }
        if self.scope.dry_run {
            let look = |pass: &mut Self, record: &Record| pass.missing_ports(&subject, record);
            let steps = self.beside_verbs(record, &Standing::Living, look).unwrap_or_default();
            return self.plan(&subject, Action::Repair, steps.into_iter().map(Step::Port).collect());
        }
        if !self.be_alone() {
            return;
        }
        // As the verbs do it: everything about ports of the node happens under its lock.
        let lock = match NodeLock::take() {
            Ok(lock) => lock,
            Err(error) => return self.report.failure(&subject, None, Obstacle::Refused, error),
        };
        let Some(record) = self.read_again(record, &Standing::Living) else { return };
        let Some(steps) = self.missing_ports(&subject, &record) else { return };
        match apply::apply(&mut self.session, &steps) {
            Ok(stale) => {
                drop(lock);
                self.stale.join(stale);
                let made = steps.into_iter().map(Step::Port).collect();
                self.report.change(&subject, Action::Repair, made);
            }
            Err(error) => {
                let step = steps.into_iter().next().map(Step::Port);
                self.report.failure(&subject, step, Obstacle::Refused, error);
            }
        }
    }

    fn missing_ports(&mut self, subject: &Subject, record: &Record) -> Option<Vec<PortStep>> {
        if record.mappings().is_empty() {
            return None;
        }
        let Some(want) = record.host_ports() else {
            let text = "its host ports are not looked at: its record does not say from where they may be used; restart the \
                        pod to have them repaired";
            self.report.note(subject, text);
            return None;
        };
        let judge = portmap::judge(self.records, &record.id);
        if let Err(error) = self.session.turn_to(None) {
            self.report.failure(subject, None, Obstacle::Refused, error);
            return None;
        }
        let have =
            match observe::observe(&mut self.session, want, Way::Known(record.pod_link.as_ref()), &judge) {
                Ok(have) => have,
                Err(error) => {
                    self.report.failure(subject, None, Obstacle::Refused, error);
                    return None;
                }
            };
        match plan(want, &have) {
            Ok(steps) if steps.iter().all(PortStep::is_transient) => Some(Vec::new()),
            Ok(steps) => Some(steps),
            Err(conflict) => {
                let taken = Obstacle::PortTaken(conflict.wanted.port_words());
                self.report.failure(subject, None, taken, format!("{conflict}; restart one of the two"));
                None
            }
        }
    }
}
