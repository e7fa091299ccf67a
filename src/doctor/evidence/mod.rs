//! What the checks look at: everything about a node, observed once, as values.
//!
//! Each source is asked only when a check needs it. One that could not be asked is kept with the reason, and every check
//! that needs it says so; nothing is guessed.

pub mod attachments;
pub mod configuration;
pub mod dropins;
pub mod files;
pub mod flows;
pub mod installed;
pub mod leases;
pub mod lookups;
pub mod managers;
pub mod names;
pub mod node;
pub mod packets;
pub mod pattern;
pub mod plugins;
pub mod runtime;
pub mod sysctls;

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use self::attachments::Attachments;
use self::configuration::Configuration;
use self::files::{Files, Purpose};
use self::flows::Flows;
use self::leases::{Known, Leases};
use self::lookups::Lookup;
use self::names::Names;
use self::node::Node;
use self::packets::Packets;
use self::runtime::Runtimes;
use super::check::{Need, Pass};
use crate::datapath::census;
use crate::datapath::survey::ruleset::Ruleset;
use crate::datapath::survey::trial::{self, Trial};
use crate::host::root::Root;
use crate::host::runtimes::Found;
use crate::reconcile;
use crate::state::Lease;
use crate::state::lease::DATA_DIR;
use crate::state::record::ROOT;

/// What the person at the command line said about the node.
#[derive(Clone, Debug)]
pub struct Given {
    pub root: Root,
    /// Those that are used here.
    pub runtimes: Found,
    /// Where networks and plugins are; never empty.
    pub lookups: Vec<Lookup>,
    /// The range that the cluster gave this node.
    pub pod_cidr: Vec<IpNetwork>,
    /// Ask from inside the pods, too.
    pub probe: bool,
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
    pub packets: Source<Packets>,
    pub flows: Source<Flows>,
    pub names: Source<Names>,
    pub runtime: Source<Runtimes>,
    /// What `reconcile` would do.
    pub plan: Source<reconcile::Report>,
    /// Addresses that some network namespace of this machine carries; asked for only where rules of others name some.
    pub carried: HashSet<IpAddr>,
    pub pod_cidr: Vec<IpNetwork>,
}

fn ask(
    given: &Given,
    node: Option<&Result<Node, String>>,
    attachments: Option<&Result<Attachments, String>>,
) -> Result<Packets, String> {
    match (node, attachments) {
        (Some(Ok(node)), Some(Ok(attachments))) => packets::load(&given.root, node, attachments, given.probe),
        (Some(Err(why)), _) | (_, Some(Err(why))) => Err(why.clone()),
        _ => Ok(Packets::default()),
    }
}

fn look<T>(source: Option<&Result<T, String>>) -> Result<&T, Pass> {
    match source {
        Some(Ok(value)) => Ok(value),
        Some(Err(why)) => Err(Pass::Unknown(why.clone())),
        None => Err(Pass::Unknown("this was not looked at".to_owned())),
    }
}

impl Evidence {
    pub fn trials(&self) -> Result<&[Trial], Pass> {
        look(self.trials.as_ref()).map(Vec::as_slice)
    }

    pub fn node(&self) -> Result<&Node, Pass> {
        look(self.node.as_ref())
    }

    pub fn filter(&self) -> Result<&Ruleset, Pass> {
        look(self.filter.as_ref())
    }

    pub fn files(&self) -> Result<&Files, Pass> {
        look(self.files.as_ref())
    }

    /// Whatever is remembered, also when it is nothing.
    pub fn records(&self) -> Result<&Attachments, Pass> {
        look(self.attachments.as_ref())
    }

    /// Whether some pod was coming or going at this look.
    pub fn is_under_way(&self) -> bool {
        self.records().is_ok_and(|records| records.under_way)
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
        look(self.leases.as_ref())
    }

    pub fn configuration(&self) -> Result<&Configuration, Pass> {
        look(self.configuration.as_ref())
    }

    pub fn packets(&self) -> Result<&Packets, Pass> {
        look(self.packets.as_ref())
    }

    pub fn flows(&self) -> Result<&Flows, Pass> {
        look(self.flows.as_ref())
    }

    pub fn names(&self) -> Result<&Names, Pass> {
        look(self.names.as_ref())
    }

    pub fn runtimes(&self) -> Result<&Runtimes, Pass> {
        look(self.runtime.as_ref())
    }

    /// What `reconcile` would do.
    pub fn plan(&self) -> Result<&reconcile::Report, Pass> {
        look(self.plan.as_ref())
    }

    /// Asks every source that is needed. `earlier` is what was seen a moment ago, if there was such a look.
    pub fn gather(needs: &[Need], given: &Given, earlier: Option<&Self>) -> Self {
        let root = &given.root;
        let wants = |need: Need| needs.contains(&need);
        let mut found = Self { pod_cidr: given.pod_cidr.clone(), ..Self::default() };
        if wants(Need::Scratch) {
            found.trials = Some(trial::all().map_err(|error| error.to_string()));
        }
        // Which directories matter is told by configurations and records.
        if [Need::Configuration, Need::Leases, Need::Files, Need::Runtime].into_iter().any(wants) {
            found.configuration = Some(configuration::load(root, &given.lookups));
        }
        let of_pods =
            [Need::Attachments, Need::Leases, Need::Network, Need::Packets, Need::Flows, Need::Names];
        if of_pods.into_iter().any(wants) {
            found.attachments = Some(attachments::load(root));
        }
        if wants(Need::Leases) {
            found.leases = Some(leases::load(root, &found.networks_with_leases(), &[format!("{ROOT}/lock")]));
        }
        if [Need::Network, Need::Packets, Need::Flows].into_iter().any(wants) {
            let promises = found.records().map(Attachments::promises).unwrap_or_default();
            let ports = found.records().map(Attachments::ports).unwrap_or_default();
            found.node = Some(Node::observe(&promises, &ports));
        }
        if wants(Need::Filter) || wants(Need::Flows) {
            found.filter = Some(Ruleset::observe().map_err(|error| error.to_string()));
        }
        if wants(Need::Flows) {
            found.flows = Some(match (&found.node, &found.attachments) {
                (Some(Ok(node)), Some(Ok(attachments))) => {
                    flows::load(root, node, found.filter().ok(), attachments)
                }
                (Some(Err(why)), _) | (_, Some(Err(why))) => Err(why.clone()),
                _ => Ok(Flows::default()),
            });
        }
        if wants(Need::Names) {
            found.names = Some(match &found.attachments {
                Some(Ok(attachments)) => names::load(root, attachments),
                Some(Err(why)) => Err(why.clone()),
                None => Ok(Names::default()),
            });
        }
        if wants(Need::Files) {
            let loaded = files::load(root, &found.places(given));
            found.files = Some(loaded.map_err(|error| error.to_string()));
        }
        let plan = || reconcile::plan_all(root).map_err(|error| error.to_string());
        let (node, attachments) = (found.node.as_ref(), found.attachments.as_ref());
        // Whoever is asked by a packet has a moment to answer, in which a plan for a hundred pods is made.
        let (packets, plan) = std::thread::scope(|scope| {
            let packets = wants(Need::Packets).then(|| scope.spawn(|| ask(given, node, attachments)));
            let plan = wants(Need::Plan).then(plan);
            let asked =
                packets.map(|asking| asking.join().unwrap_or_else(|_| Err("the questions ended".into())));
            (asked, plan)
        });
        (found.packets, found.plan) = (packets, plan);
        if wants(Need::Runtime) {
            let networks = found.configuration().map(|known| known.installed.networks.clone());
            let earlier = earlier.and_then(|earlier| earlier.runtimes().ok());
            let asked = runtime::load(root, &given.runtimes, &networks.unwrap_or_default(), earlier);
            found.runtime = Some(Ok(asked));
        }
        if found.filter().is_ok_and(|filter| !filter.go_rules().is_empty()) || found.has_unknown_holders() {
            found.carried = census::carried_addresses();
        }
        found
    }

    /// Whether somebody holds a lease of whom no record tells.
    fn has_unknown_holders(&self) -> bool {
        let (Ok(leases), Ok(records)) = (self.leases(), self.records()) else { return false };
        let known: HashSet<&str> = records.all.iter().map(|pod| pod.record.id.container.as_str()).collect();
        let mut held = leases.directories.iter().flat_map(|directory| &directory.leases);
        held.any(
            |(_, lease)| matches!(lease, Lease::Held(holder) if !known.contains(holder.container.as_str())),
        )
    }

    /// Every network that is known to keep leases in our format: from configurations and from records.
    fn networks_with_leases(&self) -> Vec<Known> {
        let mut known: Vec<Known> = Vec::new();
        for network in self.configuration.iter().flatten().flat_map(Configuration::networks) {
            let Some(data_dir) = &network.data_dir else { continue };
            if !known.iter().any(|known| known.network == network.name && known.data_dir == *data_dir) {
                let (network, ranges) = (network.name.clone(), network.ranges.clone());
                known.push(Known { network, data_dir: data_dir.clone(), ranges });
            }
        }
        for attachment in self.attachments.iter().flatten().flat_map(|attachments| &attachments.all) {
            let Some(data_dir) = lease_dir(&attachment.record) else { continue };
            let network = &attachment.record.id.network;
            if !known.iter().any(|known| known.network == *network && known.data_dir == data_dir) {
                known.push(Known { network: network.clone(), data_dir, ranges: Vec::new() });
            }
        }
        known
    }

    /// Directories that must be writable, those that plugins are executed from, and those that networks are read from.
    fn places(&self, given: &Given) -> Vec<(String, Purpose)> {
        let mut places: BTreeSet<(String, Purpose)> = BTreeSet::new();
        let words = |path: &Path| path.display().to_string();
        places.insert((ROOT.to_owned(), Purpose::State));
        places.insert((format!("{ROOT}/attachments"), Purpose::Records));
        places.extend(given.lookups.iter().map(|lookup| (words(&lookup.conf_dir), Purpose::Networks)));
        places
            .extend(self.networks_with_leases().iter().map(|known| (words(&known.data_dir), Purpose::State)));
        let bin_dirs = given.lookups.iter().flat_map(|lookup| &lookup.bin_dirs);
        let used = bin_dirs.filter(|directory| given.root.exists(directory));
        places.extend(used.map(|directory| (words(directory), Purpose::Plugins)));
        places.into_iter().collect()
    }
}

/// Where the lease of an attachment is, when it is in our format.
pub fn lease_dir(record: &crate::state::Record) -> Option<PathBuf> {
    let ours = record.leases.ipam.as_deref().and_then(crate::applet::plugin)?;
    (ours.standard_name() == "host-local")
        .then(|| record.leases.data_dir.as_deref().unwrap_or(DATA_DIR).into())
}
