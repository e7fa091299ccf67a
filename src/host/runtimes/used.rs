//! Which of the runtimes on a host are used. A program that is installed and never started is no runtime of pods, and nobody
//! wants to hear that it does not answer.

use std::path::{Path, PathBuf};

use super::{Found, Kind, LeftOut, Root, Runtime};

/// systemd.unit(5): a link there means that the unit is started at boot.
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants";

impl Found {
    /// Those that have a socket or are started at boot; where there is none, those that are configured. The others are left
    /// out.
    #[must_use]
    pub fn used(mut self, root: &Root) -> Self {
        let runs = |runtime: &Runtime| root.exists(&runtime.socket) || is_enabled(root, runtime.kind);
        let some_run = self.runtimes.iter().any(runs);
        for runtime in std::mem::take(&mut self.runtimes) {
            if runs(&runtime) || (!some_run && self.is_configured(root, &runtime)) {
                self.runtimes.push(runtime);
                continue;
            }
            let why = format!("does not run, and nothing starts it ({})", runtime.evidence);
            self.left_out.push(LeftOut { kind: runtime.kind, why });
        }
        let left_out = |kind: Kind| self.left_out.iter().any(|left_out| left_out.kind == kind);
        self.problems.retain(|problem| !left_out(problem.kind));
        self
    }
}

impl Found {
    /// Also by a file that could not be read.
    fn is_configured(&self, root: &Root, runtime: &Runtime) -> bool {
        let mut problems = self.problems.iter().filter(|problem| problem.kind == runtime.kind);
        !runtime.config.is_empty() || problems.any(|problem| root.exists(&problem.file))
    }
}

fn is_enabled(root: &Root, kind: Kind) -> bool {
    let units: &[&str] = match kind {
        Kind::Containerd => &["containerd"],
        Kind::K3s => &["k3s", "k3s-agent"],
        Kind::Rke2 => &["rke2-server", "rke2-agent"],
        Kind::Microk8s => &["snap.microk8s.daemon-containerd"],
        Kind::Crio => &["crio"],
    };
    let link = |unit: &&str| -> PathBuf { Path::new(ENABLED).join(format!("{unit}.service")) };
    units.iter().any(|unit| root.exists(&link(unit)))
}

#[cfg(test)]
mod tests {
    use super::super::find;
    use super::*;

    /// A host with these files: who is used, and who is left out.
    fn used(files: &[&str]) -> (Vec<Kind>, Vec<String>) {
        let tree = tempfile::tempdir().unwrap();
        for file in files {
            let path = tree.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let root = Root::at(tree.path());
        let found = find(&root).used(&root);
        let kinds = found.runtimes.iter().map(|runtime| runtime.kind).collect();
        (kinds, found.left_out.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_program_alone_is_not_used() {
        let (kinds, left_out) = used(&["usr/bin/containerd"]);
        assert_eq!(kinds, []);
        assert_eq!(
            left_out,
            ["containerd: does not run, and nothing starts it (program /usr/bin/containerd)"]
        );
    }

    #[test]
    fn one_that_should_run_is_used_though_it_does_not() {
        let enabled = "etc/systemd/system/multi-user.target.wants/containerd.service";
        assert_eq!(used(&["usr/bin/containerd", enabled]).0, [Kind::Containerd]);
        assert_eq!(used(&["etc/containerd/config.toml"]).0, [Kind::Containerd]);
    }

    #[test]
    fn where_one_runs_the_others_need_not() {
        let (kinds, left_out) =
            used(&["etc/containerd/config.toml", "etc/crio/crio.conf", "var/run/crio/crio.sock"]);
        assert_eq!(kinds, [Kind::Crio]);
        assert!(left_out[0].starts_with("containerd: does not run, and nothing starts it ("), "{left_out:?}");
        let enabled = "etc/systemd/system/multi-user.target.wants/k3s.service";
        let both = ["usr/local/bin/k3s", enabled, "usr/bin/containerd", "run/containerd/containerd.sock"];
        assert_eq!(used(&both).0, [Kind::Containerd, Kind::K3s], "k3s should run");
    }

    #[test]
    fn problems_are_those_of_whom_is_used() {
        let tree = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("etc/containerd/config.toml", "version = ["),
            ("etc/crio/crio.conf", "[crio"),
            ("var/run/crio/crio.sock", ""),
        ] {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = Root::at(tree.path());
        let found = find(&root);
        assert_eq!(found.problems.len(), 2);
        let kinds = |found: Found| -> Vec<Kind> {
            found.used(&root).problems.iter().map(|problem| problem.kind).collect()
        };
        assert_eq!(kinds(found), [Kind::Crio]);
        std::fs::remove_file(tree.path().join("var/run/crio/crio.sock")).unwrap();
        assert_eq!(kinds(find(&root)), [Kind::Containerd, Kind::Crio], "neither runs, and both should");
    }
}
