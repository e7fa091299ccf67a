//! What containerd's configuration says of CNI: one file ([`File::parse`]), and files that import each other
//! ([`Effective::of`]). The formats are versions 1 to 4; k3s, rke2 and microk8s write the same.
//!
//! Reads no file: it says which imports it wants.
//!
//! Pure.

use std::path::PathBuf;

use super::document::{self, Table};

/// The CRI plugin's name in version 1, in version 2, and from version 3 on.
const SHORT: &str = "cri";
const GRPC: &str = "io.containerd.grpc.v1.cri";
const RUNTIME: &str = "io.containerd.cri.v1.runtime";
/// Without any one of these containerd serves no pods.
const ALL_OF_CRI: [&str; 4] = [SHORT, GRPC, RUNTIME, "io.containerd.cri.v1.images"];
/// Where version 4 has what `[grpc]` was before (containerd 2.3).
const SERVER: &str = "io.containerd.server.v1.grpc";
/// The first version that only containerd 2 reads.
const SINCE_2_0: u32 = 3;

const ITS_DEFAULT: &str = "containerd's default";

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct File {
    version: Option<u32>,
    /// As written: relative to the file, or with a `*`.
    pub imports: Vec<String>,
    disabled: Vec<String>,
    address: Option<PathBuf>,
    /// There is a section of the CRI plugin, whatever is in it.
    section: bool,
    cni: Cni,
    /// The section has a name that containerd 1 does not look for in version 1.
    name_of_later: bool,
    remarks: Vec<Remark>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cni {
    pub bin_dirs: Option<Vec<PathBuf>>,
    pub conf_dir: Option<PathBuf>,
    pub max_conf_num: Option<u32>,
}

/// Something that is wrong, and what is taken instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remark {
    pub what: String,
    pub assumed: String,
}

impl Remark {
    fn new(what: impl Into<String>, assumed: impl Into<String>) -> Self {
        Self { what: what.into(), assumed: assumed.into() }
    }
}

impl File {
    /// An error means that containerd would not start with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        document::read(text, |root| {
            let version = root.number("version")?.filter(|version| *version > 0);
            let mut file = Self {
                version,
                imports: root.texts("imports")?.unwrap_or_default(),
                disabled: root.texts("disabled_plugins")?.unwrap_or_default(),
                ..Self::default()
            };
            for server in [&["grpc"][..], &["plugins", SERVER]] {
                let address = root.table(server).map_or(Ok(None), |table| table.path("address"));
                file.address = file.heeded(address).or(file.address);
            }
            for &name in names(version) {
                if let Some(plugin) = root.table(&["plugins", name]) {
                    file.section = true;
                    file.name_of_later |= version.is_none() && name != SHORT;
                    file.take(&plugin);
                }
            }
            if !names(version).contains(&GRPC) && root.table(&["plugins", GRPC, "cni"]).is_some() {
                let what = format!("plugins.'{GRPC}'.cni has the plugin's name of version 2");
                file.remarks.push(Remark::new(what, format!("what plugins.'{RUNTIME}'.cni says")));
            }
            Ok(file)
        })
    }

    /// What an earlier section said stays: containerd 2 moves values of the older names below the newer one.
    fn take(&mut self, plugin: &Table<'_>) {
        let Some(cni) = plugin.table(&["cni"]) else { return };
        let one = self.heeded(cni.path("bin_dir"));
        let several = self.heeded(cni.paths("bin_dirs")).filter(|dirs| !dirs.is_empty());
        if one.is_some() && several.is_some() {
            self.remarks.push(Remark::new("containerd refuses bin_dir beside bin_dirs", "bin_dirs"));
        }
        let conf_dir = self.heeded(cni.path("conf_dir"));
        let max_conf_num = self.heeded(cni.number("max_conf_num"));
        let before = std::mem::take(&mut self.cni);
        self.cni = before.or(Cni { bin_dirs: several.or(one.map(|dir| vec![dir])), conf_dir, max_conf_num });
    }

    fn heeded<T>(&mut self, value: Result<Option<T>, String>) -> Option<T> {
        value.unwrap_or_else(|what| {
            self.remarks.push(Remark::new(what, ITS_DEFAULT));
            None
        })
    }
}

/// Under which names a file of this version has the CRI plugin, the strongest first. A file without a version is one of
/// version 1, or an imported one, which containerd 2 reads under any name.
fn names(version: Option<u32>) -> &'static [&'static str] {
    match version {
        Some(SINCE_2_0..) => &[RUNTIME],
        Some(2) => &[RUNTIME, GRPC],
        _ => &[RUNTIME, GRPC, SHORT],
    }
}

impl Cni {
    fn or(self, other: Self) -> Self {
        Self {
            bin_dirs: self.bin_dirs.or(other.bin_dirs),
            conf_dir: self.conf_dir.or(other.conf_dir),
            max_conf_num: self.max_conf_num.or(other.max_conf_num),
        }
    }
}

/// What containerd makes of its files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Effective {
    pub cni: Cni,
    /// What another version of containerd makes of the same files, where that is something else, and why.
    pub otherwise: Option<(Cni, &'static str)>,
    pub address: Option<PathBuf>,
    /// Does it run pods at all? Docker's package switches the CRI plugin off.
    pub serves_pods: bool,
    /// With the place of the file in the list.
    pub remarks: Vec<(usize, Remark)>,
}

impl Effective {
    /// The files in the order in which containerd reads them: the first one imports the others. `builtin` is the version of
    /// the configuration inside the program when there is no first one.
    pub(super) fn of(files: &[File], builtin: Option<u32>) -> Self {
        let version = builtin.or(files.first().and_then(|file| file.version)).unwrap_or(1);
        let newer = version >= SINCE_2_0;
        let mut remarks = Vec::new();
        let (mut address, mut cni, mut merged) = (None, Cni::default(), Cni::default());
        for (place, file) in files.iter().enumerate() {
            remarks.extend(file.remarks.iter().cloned().map(|remark| (place, remark)));
            address = file.address.clone().or(address);
            merged = file.cni.clone().or(merged);
            if newer {
                cni.clone_from(&merged);
            } else if file.section {
                // containerd 1 replaces the section of a plugin as a whole; containerd 2, which reads these files too,
                // merges (containerd pull request 9982; tried with 1.6 and 2.1).
                cni.clone_from(&file.cni);
            }
        }
        if version == 1 && files.first().is_some_and(|file| file.name_of_later) {
            let what = "without `version = 2` containerd 1 does not read the section of the CRI plugin";
            remarks.push((0, Remark::new(what, "that containerd is of version 2 and reads it")));
        }
        let disabled = |name: &&str| files.iter().any(|file| file.disabled.iter().any(|other| other == name));
        let otherwise = match builtin {
            // The configuration inside the program imports drop-ins from 2.2 on; seen with 2.1.
            Some(_) => (Cni::default(), "containerd before 2.2, which reads no drop-in without a main file"),
            None => (
                merged,
                "containerd 2, which keeps what is said before a file with a section of the CRI plugin",
            ),
        };
        let otherwise = Some(otherwise).filter(|(other, _)| *other != cni);
        Self { cni, otherwise, address, serves_pods: !ALL_OF_CRI.iter().any(disabled), remarks }
    }
}

#[cfg(test)]
#[path = "containerd_tests.rs"]
mod tests;
