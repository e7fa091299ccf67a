//! Where to look for networks and plugins: where somebody said, else where the runtimes of this node look, else where runtimes
//! look by default.
//!
//! Pure.

use std::path::{Path, PathBuf};

use crate::host::runtimes::{DEFAULT_BIN_DIR, DEFAULT_CONF_DIR, Kind, Runtime};

/// What distributions have beside the default.
const OTHER_BIN_DIRS: [&str; 2] = ["/usr/lib/cni", "/usr/libexec/cni"];

/// One place for networks, and the places for their plugins in the order in which they are searched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub conf_dir: PathBuf,
    /// Whose directory that is by its configuration; `None` when somebody said it, and by default.
    pub reader: Option<Kind>,
    pub bin_dirs: Vec<PathBuf>,
    /// The same for these.
    pub searcher: Option<Kind>,
}

/// Never empty. `conf_dir` and `bin_dirs` are what was said.
pub fn lookups(runtimes: &[Runtime], conf_dir: Option<&Path>, bin_dirs: &[PathBuf]) -> Vec<Lookup> {
    let of = |runtime: Option<&Runtime>| {
        let kind = runtime.map(|runtime| runtime.kind);
        let by_default = || [DEFAULT_BIN_DIR].iter().chain(&OTHER_BIN_DIRS).map(PathBuf::from).collect();
        let its_conf_dir =
            || runtime.map_or_else(|| DEFAULT_CONF_DIR.into(), |runtime| runtime.conf_dir.clone());
        let its_bin_dirs = || runtime.map_or_else(by_default, |runtime| runtime.bin_dirs.clone());
        Lookup {
            conf_dir: conf_dir.map_or_else(its_conf_dir, Path::to_owned),
            reader: kind.filter(|_| conf_dir.is_none()),
            bin_dirs: if bin_dirs.is_empty() { its_bin_dirs() } else { bin_dirs.to_vec() },
            searcher: kind.filter(|_| bin_dirs.is_empty()),
        }
    };
    if runtimes.is_empty() {
        vec![of(None)]
    } else {
        runtimes.iter().map(|runtime| of(Some(runtime))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn k3s() -> Runtime {
        Runtime {
            kind: Kind::K3s,
            config: Vec::new(),
            bin_dirs: vec!["/var/lib/rancher/k3s/data/cni".into()],
            conf_dir: "/var/lib/rancher/k3s/agent/etc/cni/net.d".into(),
            otherwise: None,
            max_conf_num: None,
            only_network: None,
            socket: "/run/k3s/containerd/containerd.sock".into(),
            evidence: String::new(),
        }
    }

    #[test]
    fn what_was_said_counts_then_the_runtime_then_the_default() {
        let [own] = &lookups(&[k3s()], None, &[])[..] else { panic!("one runtime") };
        assert_eq!((&own.conf_dir, &own.bin_dirs), (&k3s().conf_dir, &k3s().bin_dirs));
        assert_eq!((own.reader, own.searcher), (Some(Kind::K3s), Some(Kind::K3s)));
        let [said] = &lookups(&[k3s()], Some(Path::new("/srv/net.d")), &[])[..] else {
            panic!("one runtime")
        };
        assert_eq!((said.conf_dir.to_str(), said.reader), (Some("/srv/net.d"), None));
        assert_eq!((&said.bin_dirs, said.searcher), (&k3s().bin_dirs, Some(Kind::K3s)));
        let [said] = &lookups(&[], None, &["/srv/bin".into()])[..] else { panic!("nobody") };
        assert_eq!((said.conf_dir.to_str(), said.reader), (Some("/etc/cni/net.d"), None));
        assert_eq!(said.bin_dirs, [PathBuf::from("/srv/bin")]);
        assert_eq!(lookups(&[], None, &[])[0].bin_dirs[0], Path::new("/opt/cni/bin"));
    }
}
