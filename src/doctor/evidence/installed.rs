//! Where something of ours was put: what the installation wrote down, and what is found without it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::configuration::Directory;
use crate::host::root::Root;
use crate::install;

/// Directories are those behind all links.
#[derive(Clone, Debug, Default)]
pub struct Installed {
    /// Networks that are ours.
    pub networks: BTreeSet<String>,
    /// What was said at the last installation.
    pub settings: BTreeMap<String, String>,
    pub conf_dirs: BTreeSet<PathBuf>,
    pub bin_dirs: BTreeSet<PathBuf>,
}

impl Installed {
    pub(super) fn of(root: &Root, directories: &[Directory]) -> Self {
        let mut found = Self::default();
        for directory in directories {
            let mut networks = directory.readable().map(|(_, network)| network);
            if !networks.any(super::configuration::ConfiguredNetwork::is_ours) {
                continue;
            }
            found.conf_dirs.insert(directory.place.clone());
            let ours = directory.readable().filter(|(_, network)| network.is_ours());
            found.networks.extend(ours.map(|(_, network)| network.name.clone()));
        }
        // A damaged one is as good as none: what it knew is lost, and what is there is still seen.
        if let Ok(Some(known)) = install::remembered(root) {
            let place = |path: &PathBuf| path.parent().and_then(|directory| root.resolve(directory).ok());
            found.settings = known.settings.clone();
            found.networks.extend(Some(known.network).filter(|name| !name.is_empty()));
            found.conf_dirs.extend(known.conflists.iter().filter_map(place));
            found.bin_dirs.extend(known.plugins.iter().filter_map(place));
        } else {
            let searches = directories.iter().flat_map(|directory| &directory.searches);
            let with_ours = searches.filter(|search| {
                search.plugins.iter().any(|(name, file)| name.starts_with("smarter-") && file.is_some())
            });
            let places = with_ours.flat_map(|search| &search.bin_dirs);
            found.bin_dirs.extend(places.filter_map(|directory| root.resolve(directory).ok()));
        }
        found
    }

    /// Our network was put somewhere, and not there.
    pub fn is_elsewhere(&self, place: &Path) -> bool {
        !self.conf_dirs.is_empty() && !self.conf_dirs.contains(place)
    }

    /// Our plugins were put somewhere, and into none of these places.
    pub fn has_plugins_elsewhere(&self, places: &[&Path]) -> bool {
        !self.bin_dirs.is_empty() && !places.iter().any(|place| self.bin_dirs.contains(*place))
    }
}
