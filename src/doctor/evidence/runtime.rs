//! What the container runtimes of this node say of themselves, each asked once, and the results that libcni keeps for them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::host::asked;
use crate::host::cri::{self, Error, Reason, Status};
use crate::host::root::Root;
use crate::host::runtimes::{Found, LeftOut, Places, Problem, Runtime};
use crate::state::holders::LIBCNI_RESULTS;
use crate::state::results;

/// A containerd that works answers in milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// On a small board that starts its pods it takes longer: whoever was late at the first look gets this at the second.
const SECOND_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, Default)]
pub struct Runtimes {
    /// Those that are used here.
    pub all: Vec<Asked>,
    pub left_out: Vec<LeftOut>,
    pub problems: Vec<Problem>,
    /// Results of networks of ours that libcni cannot read.
    pub damaged: Vec<PathBuf>,
    /// Why that is not known.
    pub unread: Option<String>,
    /// What is behind the links of each directory that is spoken of.
    pub places: BTreeMap<PathBuf, PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Asked {
    pub runtime: Runtime,
    pub answer: Result<Status, Error>,
    /// What its files say; where they can be read in two ways, the one that it speaks of itself.
    pub configured: Places,
}

impl Asked {
    /// For networks and for plugins: what it says itself, where it does.
    pub fn directories(&self) -> (&Path, &[PathBuf]) {
        match self.answer.as_ref().ok().and_then(|status| status.cni.as_ref()) {
            Some(cni) => (&cni.conf_dir, &cni.plugin_dirs),
            None => (&self.runtime.conf_dir, &self.runtime.bin_dirs),
        }
    }

    /// For networks and for plugins: [`Self::configured`].
    pub fn configured(&self) -> (&Path, &[PathBuf]) {
        (&self.configured.conf_dir, &self.configured.bin_dirs)
    }

    fn is_late(&self) -> bool {
        matches!(&self.answer, Err(Error { reason: Reason::Late(_), .. }))
    }
}

impl Runtimes {
    /// The path behind all links.
    pub fn place<'a>(&'a self, path: &'a Path) -> &'a Path {
        self.places.get(path).map_or(path, PathBuf::as_path)
    }
}

/// `earlier` is what was found a moment ago: whoever did not answer in time then gets more time now.
pub(super) fn load(
    root: &Root,
    found: &Found,
    networks: &BTreeSet<String>,
    earlier: Option<&Runtimes>,
) -> Runtimes {
    let patience = |runtime: &Runtime| {
        let mut known = earlier.into_iter().flat_map(|earlier| &earlier.all);
        let late = known.any(|asked| asked.is_late() && asked.runtime == *runtime);
        if late { SECOND_PATIENCE } else { PATIENCE }
    };
    // All at once: several may be silent.
    let all: Vec<Asked> = thread::scope(|scope| {
        let ask = |runtime| {
            let patience = patience(runtime);
            scope.spawn(move || ask(root, runtime, patience))
        };
        let asking: Vec<_> = found.runtimes.iter().map(ask).collect();
        asking.into_iter().map(|asked| asked.join().expect("asking does not panic")).collect()
    });
    let mut runtimes = Runtimes {
        places: places(root, &all),
        all,
        left_out: found.left_out.clone(),
        problems: found.problems.clone(),
        ..Runtimes::default()
    };
    match damaged(root, networks) {
        Ok(damaged) => runtimes.damaged = damaged,
        Err(error) => runtimes.unread = Some(format!("{LIBCNI_RESULTS}: {error}")),
    }
    runtimes
}

fn ask(root: &Root, runtime: &Runtime, patience: Duration) -> Asked {
    let unreachable = |error: io::Error| Error {
        socket: runtime.socket.clone(),
        reason: Reason::Failed(error.to_string()),
    };
    let socket = root.locate(&runtime.socket).map_err(unreachable);
    let answer = socket.and_then(|socket| cri::status(&socket, patience));
    let said = answer.as_ref().ok().and_then(|status| status.cni.as_ref());
    let meant = said.and_then(|said| asked::meant(runtime, said, &|one, other| root.same(one, other)));
    let (conf_dir, bin_dirs) = meant.unwrap_or((&runtime.conf_dir, &runtime.bin_dirs));
    let configured = Places { conf_dir: conf_dir.to_owned(), bin_dirs: bin_dirs.to_owned() };
    Asked { runtime: runtime.clone(), answer, configured }
}

fn places(root: &Root, all: &[Asked]) -> BTreeMap<PathBuf, PathBuf> {
    let mut places = BTreeMap::new();
    for asked in all {
        let (conf_dir, bin_dirs) = asked.directories();
        let configured = asked.runtime.bin_dirs.iter().chain([&asked.runtime.conf_dir]);
        for path in
            configured.map(PathBuf::as_path).chain(bin_dirs.iter().map(PathBuf::as_path)).chain([conf_dir])
        {
            if let Ok(place) = root.resolve(path) {
                places.insert(path.to_owned(), place);
            }
        }
    }
    places
}

fn damaged(root: &Root, networks: &BTreeSet<String>) -> io::Result<Vec<PathBuf>> {
    let directory = Path::new(LIBCNI_RESULTS);
    let here = root.locate(directory)?;
    let mut damaged = Vec::new();
    for network in networks {
        damaged.extend(results::damaged(&here, network)?.into_iter().map(|name| directory.join(name)));
    }
    Ok(damaged)
}
