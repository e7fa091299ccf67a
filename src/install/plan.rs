//! What an installation still has to do, decided without touching anything: want, have, steps.
//!
//! Plugins come before the configuration that names them, in whatever order directories were found: a runtime that sees
//! the configuration executes the plugins at once. What is somebody else's stays, or is refused by name.
//!
//! Pure.

mod host_dns;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::have::{BinDir, ConfDir, ConfFile, Content, Found, Have, OWN, PROGRAM, STANDARD};
use super::installation::{Installation, Kept};
use super::name_server;
use super::neighbours::{self, Common};
use super::range::{self, Before};
use super::settings::Settings;
use crate::conflist::{FILE_NAMES, Network, Range, Ranges, conflist};

/// The configuration of Arm's smarter-cni before it was a list; sorts before ours.
const PREDECESSOR: &str = "0-smarter-bridge.conf";
/// Behind the name of what stood in our way. No runtime reads files with such a name.
const KEPT: &str = ".kept-by-smarter-cni";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    MakeDirectory(PathBuf),
    /// A copy under another name, before ours takes its place.
    Keep(Kept),
    /// Another name, under which no runtime reads it.
    MoveAside(Kept),
    PlaceProgram(PathBuf, u64),
    Link(PathBuf),
    /// Executes every name in the directory with VERSION.
    TryPrograms(PathBuf),
    WriteConflist(PathBuf, Vec<u8>),
    /// Ours, under a name that it does not have any more.
    RemoveConflist(PathBuf),
    /// For the node's own resolver, with its directory.
    WriteResolver(PathBuf, Vec<u8>),
    RemoveResolver(PathBuf),
    RemoveLeftover(PathBuf),
    RemoveCache(PathBuf),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MakeDirectory(path) => write!(f, "make directory {}", path.display()),
            Self::Keep(kept) => write!(f, "keep {} as {}", kept.original.display(), kept.kept_as.display()),
            Self::MoveAside(kept) => {
                write!(f, "rename {} to {}", kept.original.display(), kept.kept_as.display())
            }
            Self::PlaceProgram(path, size) => write!(f, "place {} ({size} bytes)", path.display()),
            Self::Link(path) => write!(f, "link {} to {PROGRAM}", path.display()),
            Self::TryPrograms(path) => write!(f, "execute the plugins in {} with VERSION", path.display()),
            Self::WriteConflist(path, _) | Self::WriteResolver(path, _) => {
                write!(f, "write {}", path.display())
            }
            Self::RemoveConflist(path) => write!(f, "remove {}, which has another name now", path.display()),
            Self::RemoveResolver(path) => {
                write!(f, "remove {}, which is not wanted any more", path.display())
            }
            Self::RemoveLeftover(path) => {
                write!(f, "remove {}, left by an interrupted installation", path.display())
            }
            Self::RemoveCache(path) => {
                write!(f, "remove {}, a damaged result that keeps a pod from being deleted", path.display())
            }
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) network: Network,
    /// What must be written down before the first step, if it is not what is written down already.
    pub(super) installation: Installation,
    pub(super) steps: Vec<Step>,
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// What is in the way of pods that are there: nothing to refuse any more, and to be said until it is gone.
    pub(super) collisions: Vec<String>,
}

/// Every reason why nothing is done.
pub(super) fn plan(want: &Settings, have: &Have) -> Result<Plan, Vec<String>> {
    let before = before(have);
    let choice = range::choose(&want.ranges, &before, &have.ground, want.network.bridge.as_str());
    let (choice, mut refusals) = match choice {
        Ok(choice) => (Some(choice), Vec::new()),
        Err(refusal) => (None, vec![refusal]),
    };
    let ranges = choice.as_ref().map_or_else(|| want.network.ranges.clone(), |choice| choice.ranges.clone());
    let network = Network { ranges, ..want.network.clone() };
    let mut planning = Planning {
        want,
        have,
        steps: have.leftovers.iter().cloned().map(Step::RemoveLeftover).collect(),
        notes: want.notes.clone(),
        refusals: Vec::new(),
        collisions: Vec::new(),
        installation: intended(want, have, &network),
    };
    have.bin_dirs.iter().for_each(|dir| planning.plugins(dir));
    for dir in &have.conf_dirs {
        planning.configuration(dir, &render(&Network { shared: dir.shared, ..network.clone() }));
        planning.neighbours(dir, &network, &before.installed);
    }
    let address_is_ours = planning.name_server();
    planning.steps.extend(have.damaged_cache.iter().cloned().map(Step::RemoveCache));
    planning.earlier_configurations();
    planning.host_dns(address_is_ours);
    refusals.append(&mut planning.refusals);
    let Some(choice) = choice.filter(|_| refusals.is_empty()) else { return Err(refusals) };
    planning.installation.automatic = choice.automatic.map(|range| range.subnet());
    planning.notes.splice(0..0, choice.notes);
    Ok(Plan {
        network,
        installation: planning.installation,
        steps: planning.steps,
        notes: planning.notes,
        warnings: choice.warnings,
        collisions: [choice.collisions, planning.collisions].concat(),
    })
}

/// What an earlier installation, or a predecessor, gave to pods.
fn before(have: &Have) -> Before {
    let earlier = have.installation.as_ref();
    let predecessor = predecessor(have).and_then(ranges);
    let mut installed = earlier.map(|earlier| installed(earlier, have)).unwrap_or_default();
    let nobody_said = earlier.is_some_and(|earlier| {
        !["subnet", "gateway"].iter().any(|word| earlier.settings.contains_key(*word))
    });
    let taken_over = || {
        let ranges = Ranges::new(installed.clone()).ok().filter(|_| nobody_said);
        ranges.filter(|ranges| *ranges != Network::default().ranges)
    };
    let predecessor = predecessor.or_else(taken_over);
    installed.extend(predecessor.iter().flat_map(Ranges::iter));
    Before { automatic: earlier.and_then(automatic), predecessor, installed }
}

fn ranges(file: &ConfFile) -> Option<Ranges> {
    match &file.content {
        Content::List { ranges, .. } => ranges.clone(),
        Content::Broken(_) => None,
    }
}

/// As it is written down; older programs did not, and have it in their configuration only.
fn installed(earlier: &Installation, have: &Have) -> Vec<Range> {
    let written =
        earlier.ranges.iter().filter_map(|(subnet, gateway)| Range::new(*subnet, Some(*gateway)).ok());
    let written: Vec<Range> = written.collect();
    if !written.is_empty() {
        return written;
    }
    let files =
        have.conf_dirs.iter().flat_map(|dir| dir.files.iter().map(|file| (dir.path.join(&file.name), file)));
    let ours = files.filter(|(path, _)| earlier.conflists.contains(path));
    ours.filter_map(|(_, file)| ranges(file))
        .flat_map(|ranges| ranges.iter().copied().collect::<Vec<_>>())
        .collect()
}

/// The configuration as it is written: for people as well.
pub(super) fn render(network: &Network) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(&conflist(network)).expect("a value that was built here");
    bytes.push(b'\n');
    bytes
}

fn automatic(installation: &Installation) -> Option<Range> {
    installation.automatic.and_then(|subnet| Range::new(subnet, None).ok())
}

/// The configuration of our plugins that we did not write.
fn predecessor(have: &Have) -> Option<&ConfFile> {
    let ours = have.installation.as_ref().map(|installation| &installation.conflists);
    have.conf_dirs.iter().find_map(|dir| {
        dir.files.iter().find(|file| {
            file.is_of_our_plugins()
                && (FILE_NAMES.contains(&file.name.as_str()) || file.name == PREDECESSOR)
                && !ours.is_some_and(|ours| ours.contains(&dir.path.join(&file.name)))
        })
    })
}

fn intended(want: &Settings, have: &Have, network: &Network) -> Installation {
    let earlier = have.installation.clone();
    let unmarked =
        |bridge: &crate::datapath::ground::Bridge| bridge.name == network.bridge.as_str() && !bridge.marked;
    let bridge_is_foreign = match &earlier {
        Some(earlier) if earlier.bridge == network.bridge.as_str() => earlier.bridge_is_foreign,
        _ => have.ground.bridges.iter().any(unmarked),
    };
    let leases_are_foreign = earlier.as_ref().map_or(have.leases, |earlier| earlier.leases_are_foreign);
    Installation {
        leases_are_foreign,
        program: have.program.version.clone(),
        digest: have.program.digest.clone(),
        network: network.name.to_string(),
        bridge: network.bridge.to_string(),
        bridge_is_foreign,
        ranges: network.ranges.iter().map(|range| (range.subnet(), range.gateway())).collect(),
        settings: want.words.written(),
        ..earlier.unwrap_or_default()
    }
}

struct Planning<'a> {
    want: &'a Settings,
    have: &'a Have,
    steps: Vec<Step>,
    notes: Vec<String>,
    refusals: Vec<String>,
    collisions: Vec<String>,
    installation: Installation,
}

impl Planning<'_> {
    fn is_recorded(&self, path: &Path) -> bool {
        let earlier = self.have.installation.as_ref();
        earlier.is_some_and(|earlier| earlier.plugins.contains(path) || earlier.conflists.contains(path))
    }

    fn make_directories(&mut self, missing: &[PathBuf]) {
        for path in missing {
            let step = Step::MakeDirectory(path.clone());
            // Two directories may share the one above them.
            if !self.steps.contains(&step) {
                self.steps.push(step);
            }
            self.installation.directories.insert(path.clone());
        }
    }

    fn plugins(&mut self, dir: &BinDir) {
        self.make_directories(&dir.missing);
        let steps = self.steps.len();
        let program = dir.path.join(PROGRAM);
        let place = Step::PlaceProgram(program.clone(), self.have.program.size);
        match dir.names.get(PROGRAM).unwrap_or(&Found::Absent) {
            Found::Same => {}
            Found::Foreign if !self.want.take_over => self.refuse_foreign(&program),
            found => self.replace(&program, found, place),
        }
        self.installation.plugins.insert(program);
        for name in OWN {
            let path = dir.path.join(name);
            match dir.names.get(name).unwrap_or(&Found::Absent) {
                Found::Same => {}
                Found::Foreign if !self.want.take_over && predecessor(self.have).is_none() => {
                    self.refuse_foreign(&path);
                }
                found => self.replace(&path, found, Step::Link(path.clone())),
            }
            self.installation.plugins.insert(path);
        }
        for name in STANDARD {
            self.standard(dir.path.join(name), dir.names.get(name).unwrap_or(&Found::Absent));
        }
        if self.steps.len() > steps {
            self.steps.push(Step::TryPrograms(dir.path.clone()));
        }
    }

    fn refuse_foreign(&mut self, path: &Path) {
        self.refusals.push(format!(
            "{} is somebody else's program, and our network needs the name: move it away, or say --take-over, which \
             keeps it under another name until uninstall",
            path.display()
        ));
    }

    /// Ours takes the place of what is there; what is not ours is kept.
    fn replace(&mut self, path: &Path, found: &Found, step: Step) {
        let foreign = match found {
            Found::Absent | Found::Same | Found::Ours => false,
            Found::Broken(_) => !self.is_recorded(path),
            Found::Foreign => true,
        };
        if let Found::Broken(why) = found {
            self.notes.push(format!("{} {why}: replaced", path.display()));
        }
        if foreign {
            self.keep(path, Step::Keep);
        }
        self.steps.push(step);
    }

    fn keep(&mut self, path: &Path, step: impl FnOnce(Kept) -> Step) {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(KEPT);
        let kept = Kept { original: path.to_owned(), kept_as: path.with_file_name(name) };
        self.installation.kept.insert(kept.clone());
        self.steps.push(step(kept));
    }

    /// A name that others may own: only where it is absent or broken.
    fn standard(&mut self, path: PathBuf, found: &Found) {
        match found {
            Found::Foreign => self.notes.push(format!("{} is somebody else's and stays", path.display())),
            Found::Ours => {}
            Found::Same => {
                self.installation.plugins.insert(path);
            }
            Found::Absent | Found::Broken(_) => {
                self.replace(&path, found, Step::Link(path.clone()));
                self.installation.plugins.insert(path);
            }
        }
    }

    fn configuration(&mut self, dir: &ConfDir, bytes: &[u8]) {
        self.make_directories(&dir.missing);
        let name = neighbours::file_name(dir);
        let path = dir.path.join(name);
        let mut former = Vec::new();
        for file in &dir.files {
            let at = dir.path.join(&file.name);
            match file.name.as_str().cmp(name) {
                std::cmp::Ordering::Equal => self.in_place(&path, file, bytes),
                _ if FILE_NAMES.contains(&file.name.as_str()) && self.is_recorded(&at) => former.push(at),
                std::cmp::Ordering::Less if file.hands_on() => {
                    self.notes.push(format!("{} hands pods on to ours, which comes behind it", at.display()));
                }
                std::cmp::Ordering::Less => self.in_front(dir, file, name),
                std::cmp::Ordering::Greater => {
                    self.notes
                        .push(format!("{}/{file} comes after ours and is not used", dir.path.display()));
                }
            }
        }
        if !dir.files.iter().any(|file| file.name == name) {
            self.steps.push(Step::WriteConflist(path.clone(), bytes.to_vec()));
        }
        self.steps.extend(former.into_iter().map(Step::RemoveConflist));
        self.installation.conflists.insert(path);
    }

    /// `false` where somebody else has the address.
    fn name_server(&mut self) -> bool {
        let Network { dns: Some(dns), bridge, .. } = &self.want.network else { return true };
        let earlier = self.have.installation.as_ref();
        match name_server::judge(*dns, earlier, bridge.as_str(), &self.have.uses) {
            Ok(None) => return true,
            Ok(Some(said)) => self.collisions.push(said),
            Err(refusal) => self.refusals.push(refusal),
        }
        false
    }

    /// What other files have of ours is refused to a first installation, and said of one that is there.
    fn neighbours(&mut self, dir: &ConfDir, network: &Network, installed: &[Range]) {
        let earlier = self.have.installation.as_ref();
        let moved: BTreeSet<&Path> =
            self.installation.kept.iter().map(|kept| kept.original.as_path()).collect();
        let stay = dir.files.iter().filter(|file| !moved.contains(dir.path.join(&file.name).as_path()));
        for clash in stay.flat_map(|file| neighbours::clashes(dir, file, network)) {
            let is_there = match clash.what {
                Common::Name => earlier.is_some_and(|earlier| earlier.network == network.name.as_str()),
                Common::Bridge => earlier.is_some_and(|earlier| earlier.bridge == network.bridge.as_str()),
                Common::Range(range) => installed.iter().any(|known| known.subnet() == range),
            };
            let into = if is_there { &mut self.collisions } else { &mut self.refusals };
            into.push(clash.words);
        }
    }

    /// The runtime takes the first file by name, also when it is broken.
    fn in_front(&mut self, dir: &ConfDir, file: &ConfFile, name: &str) {
        let path = dir.path.join(&file.name);
        let predecessor = file.name == PREDECESSOR && file.is_of_our_plugins();
        if predecessor || self.want.take_over {
            self.keep(&path, Step::MoveAside);
            return;
        }
        self.refusals.push(format!(
            "{}/{file} comes before {name}, so the runtime would take it instead of ours: remove it, or say \
             --take-over, which renames it until uninstall",
            dir.path.display()
        ));
    }

    fn in_place(&mut self, path: &Path, file: &ConfFile, bytes: &[u8]) {
        if file.bytes == bytes {
            return;
        }
        match &file.content {
            Content::Broken(why) => self.notes.push(format!("{} {why}: replaced", path.display())),
            Content::List { .. } if self.is_recorded(path) => {}
            Content::List { network, .. } if file.is_of_our_plugins() => {
                self.notes.push(format!(
                    "{} is taken over: its pods, leases and bridge (network {network}) stay",
                    path.display()
                ));
                self.keep(path, Step::Keep);
            }
            Content::List { .. } if self.want.take_over => self.keep(path, Step::Keep),
            Content::List { network, .. } => {
                self.refusals.push(format!(
                    "{} is somebody else's (network {network}): remove it, or say --take-over, which keeps it under \
                     another name until uninstall",
                    path.display()
                ));
                return;
            }
        }
        self.steps.push(Step::WriteConflist(path.to_owned(), bytes.to_vec()));
    }

    /// In directories that are not meant any more. Removing them could take the network from a runtime whose
    /// configuration could not be read just now.
    fn earlier_configurations(&mut self) {
        let dirs = self.have.conf_dirs.iter();
        let meant: BTreeSet<PathBuf> =
            dirs.flat_map(|dir| FILE_NAMES.map(|name| dir.path.join(name))).collect();
        for path in self.installation.conflists.difference(&meant) {
            self.notes
                .push(format!("{} is of an earlier installation and stays until uninstall", path.display()));
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
