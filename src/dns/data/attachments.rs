//! The attached pods of this node, kept as their records come and go, and beside them those of the host's network.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use super::hostname::Places;
use super::known::{Gathered, Known, gathered};
use super::links::LinkEvent;
use crate::dns::zone::HostPod;
use crate::state::{BootId, Error, Records};

#[derive(Debug)]
pub(crate) struct Attachments {
    root: PathBuf,
    boot: BootId,
    /// Opened anew with every [`Self::rescan`]: the directory may be another one by then.
    records: Records,
    places: Places,
    /// By the name of the record's file.
    known: BTreeMap<String, Known>,
    /// Host ends that the kernel took away.
    gone: HashSet<String>,
    host_pods: BTreeSet<HostPod>,
}

impl Attachments {
    /// Reads nothing yet.
    pub(crate) fn new(root: PathBuf, boot: BootId, places: Places) -> Self {
        let records = Records::at(&root, boot.clone());
        Self {
            root,
            boot,
            records,
            places,
            known: BTreeMap::new(),
            gone: HashSet::new(),
            host_pods: BTreeSet::new(),
        }
    }

    /// Everything once more, with what is known of hostnames kept. What cannot be read leaves all as it is.
    pub(crate) fn rescan(&mut self) -> Result<(), Error> {
        self.records = Records::at(&self.root, self.boot.clone());
        let all = self.records.files()?;
        let before = std::mem::take(&mut self.known);
        for (file, record) in all {
            let Some(mut known) = Known::of(&record) else { continue };
            known.found = before
                .get(&file)
                .filter(|old| old.container == known.container)
                .and_then(|old| old.found.clone());
            self.known.insert(file, known);
        }
        self.find_hostnames();
        Ok(())
    }

    /// One file was written, or is gone. Whether names change with it.
    pub(crate) fn changed(&mut self, file: &str) -> bool {
        let known = match self.records.of_file(file) {
            Ok(record) => record.as_ref().and_then(Known::of),
            Err(error) => {
                tracing::warn!("a pod has no name: {error}");
                None
            }
        };
        let Some(mut known) = known else { return self.known.remove(file).is_some() };
        known.found = self.places.find(&known);
        // It was made again: an event about its earlier self may still be on the way.
        if let Some(host_if) = &known.host_if {
            self.gone.remove(host_if);
        }
        self.known.insert(file.to_owned(), known.clone()) != Some(known)
    }

    /// Whether names change with it.
    pub(crate) fn link(&mut self, event: &LinkEvent) -> bool {
        let is_ours = |name: &str| self.known.values().any(|known| known.host_if.as_deref() == Some(name));
        match event {
            LinkEvent::Gone(name) => is_ours(name) && self.gone.insert(name.clone()),
            LinkEvent::Come(name) => self.gone.remove(name) && is_ours(name),
            LinkEvent::All(names) => {
                let missing = self.known.values().filter_map(|known| known.host_if.clone());
                let gone = missing.filter(|name| !names.contains(name)).collect();
                std::mem::replace(&mut self.gone, gone) != self.gone
            }
        }
    }

    /// Looks again for the hostnames that are not known yet: whether any is now.
    pub(crate) fn find_hostnames(&mut self) -> bool {
        let mut any = false;
        for known in self.known.values_mut().filter(|known| known.found.is_none()) {
            known.found = self.places.find(known);
            any |= known.found.is_some();
        }
        any
    }

    /// Whether a hostname may still be written.
    pub(crate) fn lacks_hostnames(&self) -> bool {
        self.places.exist() && self.known.values().any(|known| known.found.is_none() && known.has_identity())
    }

    /// From now on these are all of the host's network that have a name.
    pub(crate) fn set_host_pods(&mut self, pods: BTreeSet<HostPod>) {
        self.host_pods = pods;
    }

    pub(crate) fn gathered(&self) -> Gathered {
        let lives = |known: &&Known| known.host_if.as_ref().is_none_or(|name| !self.gone.contains(name));
        Gathered {
            host_pods: self.host_pods.iter().cloned().collect(),
            ..gathered(self.known.values().filter(lives))
        }
    }
}
