//! Pods that no runtime knows any more, although their namespaces are still mounted: CRI-O mounts them, and one that was
//! killed leaves them.
//!
//! A sandbox is listed once it is complete, so that one which is being made is not; and a runtime that starts may not know its
//! own yet. So an attachment counts as dead only when each runtime of the host that has a socket answers and none lists its
//! container, no process lives in its namespace, its ADD began long ago, and all of that was so at a look before this one.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use super::{Pass, Standing};
use crate::datapath::census::{self, NotAll};
use crate::host::asked;
use crate::host::cri::{self, Reason};
use crate::host::runtimes::Kind;
use crate::state::{NetnsId, Record};

/// So long the making of a pod may take: kubelet gives up after four minutes, and a runtime pulls an image meanwhile.
const NEWBORN: Duration = Duration::from_mins(10);
/// Between the first look at which nobody knew the pod and the one that counts: longer than any runtime takes to start.
const SECOND_LOOK: Duration = Duration::from_mins(1);
/// For one runtime.
const PATIENCE: Duration = Duration::from_secs(5);
/// The name of the records about such pods among the suspects.
const SUSPECT: &str = "sandbox";

/// What was asked during one pass. Nothing is asked before an attachment gives reason to.
#[derive(Debug, Default)]
pub(super) struct Sandboxes {
    inhabited: Option<Result<HashSet<(u64, u64)>, NotAll>>,
    listed: Option<Listed>,
    suspects: Option<Vec<Record>>,
}

/// The sandboxes of all runtimes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    kinds: Vec<Kind>,
    ids: HashSet<String>,
}

/// `None` when there is no runtime, or one does not say: then nobody is dead.
fn listed(answers: Vec<(Kind, Result<HashSet<String>, cri::Error>)>) -> Option<Listed> {
    let mut all = Listed { kinds: Vec::new(), ids: HashSet::new() };
    for (kind, answer) in answers {
        match answer {
            Ok(ids) => {
                all.kinds.push(kind);
                all.ids.extend(ids);
            }
            // Docker's containerd with the CRI plugin switched off: it has no sandboxes.
            Err(cri::Error { reason: Reason::NotCri(_), .. }) => {}
            Err(_) => return None,
        }
    }
    (!all.kinds.is_empty()).then_some(all)
}

/// Which runtimes name a namespace so: containerd `cni-` and a UUID, CRI-O a UUID alone. All where the name tells nothing.
fn may_have_made(kind: Kind, netns: &str) -> bool {
    let name = Path::new(netns).file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_uuid = |text: &str| text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    match name.strip_prefix("cni-") {
        Some(rest) if is_uuid(rest) => kind != Kind::Crio,
        _ if is_uuid(name) => kind == Kind::Crio,
        _ => true,
    }
}

impl Pass<'_> {
    /// `None` for an attachment that is what its namespace says.
    pub(super) fn abandoned(&mut self, record: &Record) -> Option<Standing> {
        let id = record.netns_id?;
        if self.now < record.created() + NEWBORN || !self.is_unknown(record, id) {
            self.clear(record);
            return None;
        }
        let suspected = self.suspects().iter().find(|known| is_about(known, record));
        match suspected.map(Record::created) {
            Some(first) if self.now >= first + SECOND_LOOK => Some(Standing::Dead),
            first => {
                if first.is_none() {
                    self.suspect(record);
                }
                Some(Standing::Abandoned)
            }
        }
    }

    fn is_unknown(&mut self, record: &Record, NetnsId { dev, ino }: NetnsId) -> bool {
        let inhabited = self.sandboxes.inhabited.get_or_insert_with(census::inhabited);
        if !inhabited.as_ref().is_ok_and(|inhabited| !inhabited.contains(&(dev, ino))) {
            return false;
        }
        let netns = record.netns.as_deref().unwrap_or_default();
        let root = &self.root;
        let ask = || {
            listed(asked::sandboxes(root, PATIENCE)).unwrap_or(Listed { kinds: vec![], ids: HashSet::new() })
        };
        let listed = self.sandboxes.listed.get_or_insert_with(ask);
        listed.kinds.iter().any(|kind| may_have_made(*kind, netns))
            && !listed.ids.contains(&record.id.container)
    }

    fn suspects(&mut self) -> &mut Vec<Record> {
        let records = self.records;
        self.sandboxes.suspects.get_or_insert_with(|| {
            let mut known = records.suspects().all().unwrap_or_default();
            known.retain(|known| known.plugin == SUSPECT);
            known
        })
    }

    fn suspect(&mut self, record: &Record) {
        if self.scope.dry_run {
            return;
        }
        let suspects = self.records.suspects();
        let mut suspect = Record::begin(&suspects, SUSPECT, &record.id, record.netns.as_deref());
        suspect.netns_id = record.netns_id;
        match suspects.write(&suspect) {
            Ok(()) => self.suspects().push(suspect),
            Err(error) => tracing::warn!(%error, "a pod that no runtime knows is not remembered as such"),
        }
    }

    /// Somebody knows it again, or it is gone.
    pub(super) fn clear(&mut self, record: &Record) {
        if self.scope.dry_run || !self.suspects().iter().any(|known| is_about(known, record)) {
            return;
        }
        self.suspects().retain(|known| !is_about(known, record));
        if let Err(error) = self.records.suspects().remove(&record.id, SUSPECT) {
            tracing::debug!("a suspicion stays: {error}");
        }
    }
}

fn is_about(suspect: &Record, record: &Record) -> bool {
    suspect.id == record.id && suspect.netns_id == record.netns_id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[&str]) -> HashSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn silent(reason: Reason) -> cri::Error {
        cri::Error { socket: "/run/x.sock".into(), reason }
    }

    #[test]
    fn every_runtime_has_to_say_which_it_has() {
        let crio = || (Kind::Crio, Ok(ids(&["a"])));
        assert_eq!(listed(vec![]), None);
        assert_eq!(listed(vec![crio()]), Some(Listed { kinds: vec![Kind::Crio], ids: ids(&["a"]) }));
        let both = listed(vec![(Kind::Containerd, Ok(ids(&["b"]))), crio()]);
        assert_eq!(both.map(|listed| listed.ids), Some(ids(&["a", "b"])));
        for reason in [Reason::NobodyListens, Reason::Late(PATIENCE), Reason::NotPermitted] {
            assert_eq!(listed(vec![(Kind::Containerd, Err(silent(reason))), crio()]), None);
        }
        let not_cri = (Kind::Containerd, Err(silent(Reason::NotCri(String::new()))));
        assert_eq!(listed(vec![not_cri.clone(), crio()]).map(|listed| listed.kinds), Some(vec![Kind::Crio]));
        assert_eq!(listed(vec![not_cri]), None, "none of them says anything of sandboxes");
    }

    #[test]
    fn a_namespaces_name_may_tell_who_made_it() {
        let uuid = "3f1c2a9b-07dd-4e1c-9b1a-0123456789ab";
        let by = |kind, name: &str| may_have_made(kind, &format!("/var/run/netns/{name}"));
        assert!(by(Kind::Crio, uuid) && !by(Kind::Containerd, uuid));
        let cni = format!("cni-{uuid}");
        assert!(by(Kind::Containerd, &cni) && by(Kind::K3s, &cni) && !by(Kind::Crio, &cni));
        assert!(by(Kind::Crio, "web") && by(Kind::Containerd, "web") && by(Kind::Containerd, "cni-web"));
    }
}
