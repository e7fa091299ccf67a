//! What the checks look at: everything about a node, observed once, as values.
//!
//! Each source is asked only when a check needs it. One that could not be asked is kept with the reason, and every check
//! that needs it says so; nothing is guessed.

pub mod attachments;
pub mod configuration;
pub mod dropins;
pub mod files;
pub mod leases;
pub mod managers;
pub mod node;
pub mod pattern;
pub mod sysctls;

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use self::attachments::Attachments;
use self::configuration::Configuration;
use self::files::{Files, Purpose};
use self::leases::{Known, Leases};
use self::node::Node;
use super::check::{Need, Pass};
use crate::datapath::census;
use crate::datapath::survey::ruleset::Ruleset;
use crate::datapath::survey::trial::{self, Trial};
use crate::host::root::Root;
use crate::state::lease::DATA_DIR;
use crate::state::record::ROOT;

/// What the person at the command line said about the node.
#[derive(Clone, Debug)]
pub struct Given {
    pub root: Root,
    pub conf_dir: PathBuf,
    pub bin_dirs: Vec<PathBuf>,
    /// The range that the cluster gave this node.
    pub pod_cidr: Vec<IpNetwork>,
}

type Source<T> = Option<Result<T, String>>;

#[derive(Clone, Debug, Default)]
pub struct Evidence {
    pub trials: Source<Vec<Trial>>,
    pub node: Source<Node>,
    pub filter: Source<Ruleset>,
    pub files: Source<Files>,
    pub attachments: Source<Attachments>,
    pub leases: Source<Leases>,
    pub configuration: Source<Configuration>,
    /// Addresses that some network namespace of this machine carries; asked for only where rules of others name some.
    pub carried: HashSet<IpAddr>,
    pub pod_cidr: Vec<IpNetwork>,
}

fn look<T>(source: &Source<T>) -> Result<&T, Pass> {
    match source {
        Some(Ok(value)) => Ok(value),
        Some(Err(why)) => Err(Pass::Unknown(why.clone())),
        None => Err(Pass::Unknown("this was not looked at".to_owned())),
    }
}

impl Evidence {
    pub fn trials(&self) -> Result<&[Trial], Pass> {
        look(&self.trials).map(Vec::as_slice)
    }

    pub fn node(&self) -> Result<&Node, Pass> {
        look(&self.node)
    }

    pub fn filter(&self) -> Result<&Ruleset, Pass> {
        look(&self.filter)
    }

    pub fn files(&self) -> Result<&Files, Pass> {
        look(&self.files)
    }

    /// Whatever is remembered, also when it is nothing.
    pub fn records(&self) -> Result<&Attachments, Pass> {
        look(&self.attachments)
    }

    /// At least one pod that lives.
    pub fn attachments(&self) -> Result<&Attachments, Pass> {
        let attachments = self.records()?;
        if attachments.live().next().is_none() {
            return Err(Pass::skipped("no pod is attached"));
        }
        Ok(attachments)
    }

    pub fn leases(&self) -> Result<&Leases, Pass> {
        look(&self.leases)
    }

    pub fn configuration(&self) -> Result<&Configuration, Pass> {
        look(&self.configuration)
    }

    /// Asks every source that is needed.
    pub fn gather(needs: &[Need], given: &Given) -> Self {
        let wants = |need: Need| needs.contains(&need);
        let mut found = Self { pod_cidr: given.pod_cidr.clone(), ..Self::default() };
        if wants(Need::Scratch) {
            found.trials = Some(trial::all().map_err(|error| error.to_string()));
        }
        let files_of_pods = wants(Need::Leases) || wants(Need::Files);
        if wants(Need::Configuration) || files_of_pods {
            let loaded = configuration::load(&given.root, &given.conf_dir, &given.bin_dirs);
            found.configuration = Some(loaded.map_err(|error| format!("{}: {error}", given.conf_dir.display())));
        }
        if wants(Need::Attachments) || wants(Need::Leases) || wants(Need::Network) {
            found.attachments = Some(attachments::load(&given.root));
        }
        if wants(Need::Leases) {
            found.leases = Some(found.load_leases(&given.root));
        }
        if wants(Need::Network) {
            let promises = found.records().map(Attachments::promises).unwrap_or_default();
            let ports: Vec<_> = found.records().map(Attachments::ports).unwrap_or_default();
            found.node = Some(Node::observe(&promises).map(|mut node| {
                node.look_for_listeners(&ports);
                node
            }));
        }
        if wants(Need::Filter) {
            found.filter = Some(Ruleset::observe().map_err(|error| error.to_string()));
            if found.filter().is_ok_and(|filter| !filter.go_rules().is_empty()) {
                found.carried = census::carried_addresses();
            }
        }
        if wants(Need::Files) {
            let loaded = files::load(&given.root, &found.places(given));
            found.files = Some(loaded.map_err(|error| error.to_string()));
        }
        found
    }

    /// Twice where leases and records do not agree: a pod may come or go between the two looks.
    fn load_leases(&mut self, root: &Root) -> Result<Leases, String> {
        let locks = [format!("{ROOT}/lock")];
        let load = |known: &[Known]| leases::load(root, known, &locks);
        let first = load(&self.networks_with_leases())?;
        if self.records().is_ok_and(|records| agree(&first, records)) {
            return Ok(first);
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
        self.attachments = Some(attachments::load(root));
        load(&self.networks_with_leases())
    }

    /// Every network that is known to keep leases in our format: from configurations and from records.
    fn networks_with_leases(&self) -> Vec<Known> {
        let mut known: Vec<Known> = Vec::new();
        let configured = self.configuration.iter().flatten().flat_map(|configuration| &configuration.files);
        for network in configured.filter_map(|file| file.network.as_ref().ok()) {
            let Some(data_dir) = &network.data_dir else { continue };
            if !known.iter().any(|known| known.network == network.name && known.data_dir == *data_dir) {
                let (network, ranges) = (network.name.clone(), network.ranges.clone());
                known.push(Known { network, data_dir: data_dir.clone(), ranges });
            }
        }
        for attachment in self.attachments.iter().flatten().flat_map(|attachments| &attachments.all) {
            let Some(data_dir) = lease_dir(&attachment.record) else { continue };
            let network = &attachment.record.network;
            if !known.iter().any(|known| known.network == *network && known.data_dir == data_dir) {
                known.push(Known { network: network.clone(), data_dir, ranges: Vec::new() });
            }
        }
        known
    }

    /// Directories that must be writable, and those that plugins are executed from.
    fn places(&self, given: &Given) -> Vec<(String, Purpose)> {
        let mut places: BTreeSet<(String, Purpose)> = BTreeSet::new();
        let words = |path: &Path| path.display().to_string();
        places.insert((ROOT.to_owned(), Purpose::State));
        places.extend(self.networks_with_leases().iter().map(|known| (words(&known.data_dir), Purpose::State)));
        let used = given.bin_dirs.iter().filter(|directory| given.root.exists(directory));
        places.extend(used.map(|directory| (words(directory), Purpose::Plugins)));
        places.into_iter().collect()
    }
}

/// Where the lease of an attachment is, when it is in our format.
pub fn lease_dir(record: &crate::state::Record) -> Option<PathBuf> {
    let ours = record.promised.ipam.as_deref().and_then(crate::applet::plugin)?;
    (ours.standard_name() == "host-local")
        .then(|| record.promised.data_dir.as_deref().unwrap_or(DATA_DIR).into())
}

/// Whether every lease that is held has a record and every record its leases.
fn agree(leases: &Leases, attachments: &Attachments) -> bool {
    use crate::state::Lease;
    let held = leases.directories.iter().flat_map(|directory| {
        let held = directory.leases.iter().filter(|(_, lease)| matches!(lease, Lease::Held(_)));
        held.map(|(address, _)| (directory.network.as_str(), *address))
    });
    let held: BTreeSet<_> = held.collect();
    let promised = attachments.all.iter().filter(|attachment| lease_dir(&attachment.record).is_some());
    let promised: BTreeSet<_> = promised
        .flat_map(|attachment| {
            attachment.addresses().map(|address| (attachment.record.network.as_str(), address.ip()))
        })
        .collect();
    held == promised
}
