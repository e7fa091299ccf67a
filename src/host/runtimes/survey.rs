//! Looking the host over: configurations with what they import, and traces of a runtime. What cannot be read or understood
//! is noted and passed over. Knows no runtime by name.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use super::containerd::{Cni, Effective, File};
use super::{DEFAULT_BIN_DIR, Found, Kind, LeftOut, Places, Problem, Root, Runtime, glob};

/// Where Yocto's meta-virtualization has plugins; it makes /opt/cni/bin a link to it, if it makes it at all.
const YOCTO_BIN_DIR: &str = "/usr/libexec/cni";

/// Where programs are, in the order of preference.
const PROGRAMS: [&str; 9] = [
    "/usr/bin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/local/sbin",
    "/bin",
    "/sbin",
    "/opt/bin",
    "/opt/rke2/bin",
    "/snap/bin",
];

#[derive(Debug)]
pub(super) struct Survey<'a> {
    pub root: &'a Root,
    /// The runtime that is looked for.
    pub kind: Kind,
    pub found: Found,
}

/// What a containerd makes of its configuration, and which files that is.
#[derive(Debug, Default)]
pub(super) struct Configuration {
    pub files: Vec<PathBuf>,
    pub effective: Effective,
}

/// Where a program looks when its configuration does not say.
#[derive(Debug)]
pub(super) struct Defaults {
    pub bin_dirs: Vec<PathBuf>,
    pub conf_dir: PathBuf,
    pub socket: PathBuf,
}

impl<'a> Survey<'a> {
    pub(super) fn of(root: &'a Root) -> Self {
        Self { root, kind: Kind::Containerd, found: Found::default() }
    }

    pub(super) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.root.exists(path.as_ref())
    }

    pub(super) fn problem(&mut self, file: &Path, what: impl Into<String>, assumed: impl Into<String>) {
        self.found.problems.push(Problem {
            kind: self.kind,
            file: file.to_owned(),
            what: what.into(),
            assumed: assumed.into(),
        });
    }

    pub(super) fn leave_out(&mut self, kind: Kind, why: String) {
        self.found.left_out.push(LeftOut { kind, why });
    }

    /// `None` when there is no file, and when it cannot be read, which is noted.
    pub(super) fn text(&mut self, path: &Path) -> Option<String> {
        self.root.read_text(path).unwrap_or_else(|error| {
            self.problem(path, format!("cannot be read: {error}"), "that it says nothing");
            None
        })
    }

    /// Reads `first` and all that they import, in the order of containerd: breadth first, nothing twice. `prepare` fills in
    /// what whoever starts containerd fills in.
    pub(super) fn containerd(
        &mut self,
        first: Vec<PathBuf>,
        builtin: Option<u32>,
        prepare: &dyn Fn(String) -> String,
    ) -> Configuration {
        let mut pending: VecDeque<PathBuf> = first.into();
        let mut seen = BTreeSet::new();
        let (mut paths, mut files) = (Vec::new(), Vec::new());
        while let Some(path) = pending.pop_front() {
            if !seen.insert(path.clone()) {
                continue;
            }
            if !paths.is_empty() && !self.exists(&path) {
                self.problem(
                    &path,
                    "is imported and not there: containerd does not start",
                    "that it says nothing",
                );
            }
            let Some(text) = self.text(&path) else { continue };
            match File::parse(&prepare(text)) {
                Ok(file) => {
                    pending.extend(file.imports.iter().flat_map(|import| self.imported(&path, import)));
                    paths.push(path);
                    files.push(file);
                }
                Err(what) => self.problem(
                    &path,
                    format!("{what}; containerd does not start with it"),
                    "that it says nothing",
                ),
            }
        }
        let effective = Effective::of(&files, builtin);
        for (place, remark) in &effective.remarks {
            self.problem(&paths[*place], remark.what.clone(), remark.assumed.clone());
        }
        Configuration { files: paths, effective }
    }

    /// Relative to the file that imports, as containerd 2 has it; 1.6 looks for relative patterns in its working
    /// directory, where they find nothing.
    fn imported(&self, by: &Path, import: &str) -> Vec<PathBuf> {
        let path = cleaned(&by.parent().unwrap_or(by).join(import));
        if import.contains('*') { self.expand(&path) } else { vec![path] }
    }

    /// What there is of the name of this pattern, sorted.
    pub(super) fn expand(&self, pattern: &Path) -> Vec<PathBuf> {
        let mut found = vec![PathBuf::from("/")];
        for part in pattern.components() {
            let Component::Normal(word) = part else { continue };
            if !glob::is_pattern(word.as_bytes()) {
                for path in &mut found {
                    path.push(word);
                }
                continue;
            }
            let below = |dir: PathBuf| {
                let names = self.root.list(&dir).unwrap_or_default();
                let fits = names.into_iter().filter(|name| glob::matches(word.as_bytes(), name.as_bytes()));
                fits.map(|name| dir.join(name)).collect::<Vec<_>>()
            };
            found = found.into_iter().flat_map(below).collect();
        }
        found.retain(|path| self.exists(path));
        found
    }

    /// What there is of a runtime, in words; `None` when there is nothing.
    pub(super) fn traces(&self, config: &[PathBuf], socket: Option<&Path>, program: &str) -> Option<String> {
        let program = PROGRAMS.iter().map(|dir| Path::new(dir).join(program)).find(|path| self.exists(path));
        let socket = socket.filter(|path| self.exists(path));
        let config = config.iter().find(|path| self.exists(path)).map(PathBuf::as_path);
        let traces = [("configuration", config), ("socket", socket), ("program", program.as_deref())];
        let words: Vec<String> = traces
            .iter()
            .filter_map(|(what, path)| Some(format!("{what} {}", path.as_ref()?.display())))
            .collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// The program's default, and why when it is not the usual one.
    pub(super) fn default_bin_dirs(&self) -> (Vec<PathBuf>, Option<String>) {
        if self.exists(YOCTO_BIN_DIR) && !self.exists(DEFAULT_BIN_DIR) {
            let why = format!(
                "plugins in {YOCTO_BIN_DIR} because no configuration names a directory, this one exists (Yocto), and \
                 {DEFAULT_BIN_DIR} does not"
            );
            return (vec![YOCTO_BIN_DIR.into()], Some(why));
        }
        (vec![DEFAULT_BIN_DIR.into()], None)
    }

    /// Puts a runtime of the containerd family together and adds it.
    pub(super) fn add(&mut self, kind: Kind, config: Configuration, defaults: Defaults, evidence: String) {
        let Effective { cni, otherwise, address, .. } = config.effective;
        let places = |cni: Cni| Places {
            bin_dirs: cni.bin_dirs.unwrap_or_else(|| defaults.bin_dirs.clone()),
            conf_dir: cni.conf_dir.unwrap_or_else(|| defaults.conf_dir.clone()),
        };
        let max_conf_num = cni.max_conf_num;
        let usual = places(cni);
        let otherwise = otherwise.map(|(cni, who)| (places(cni), who)).filter(|(other, _)| *other != usual);
        let also = otherwise.as_ref().map(|(other, who)| format!("{other} for {who}"));
        let evidence = with(evidence, also);
        self.found.runtimes.push(Runtime {
            kind,
            config: config.files,
            bin_dirs: usual.bin_dirs,
            conf_dir: usual.conf_dir,
            otherwise: otherwise.map(|(other, _)| other),
            // 1 in the source of every version (go-cni, containerd/config_unix.go).
            max_conf_num: Some(max_conf_num.unwrap_or(1)),
            only_network: None,
            socket: address.unwrap_or(defaults.socket),
            evidence,
        });
    }
}

/// `..` taken away with what is before it, without a look at links, as Go's `filepath.Clean` does.
fn cleaned(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(word) => cleaned.push(word),
            Component::ParentDir => drop(cleaned.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// The evidence with a remark behind it.
pub(super) fn with(evidence: String, why: Option<String>) -> String {
    match why {
        Some(why) => format!("{evidence}; {why}"),
        None => evidence,
    }
}
