//! What has to go when this program leaves the node, decided without touching anything.
//!
//! First no new pod may come: the configuration says so and stays, because a runtime without configuration refuses to
//! detach the pods that are there (containerd: "cni plugin not initialized"). As long as pods are attached nothing goes.
//! Then the configuration is the first to go, and what was in our way comes back last.
//!
//! Pure.

use std::fmt;
use std::path::PathBuf;

use super::installation::Kept;
use crate::datapath::withdraw;

/// What is there and ours, in the order in which it was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Have {
    pub(super) conflists: Vec<PathBuf>,
    /// Those among them that let new pods come.
    pub(super) open: Vec<PathBuf>,
    /// Pods, or containers, for people.
    pub(super) attached: Vec<String>,
    /// Of the node's own resolver.
    pub(super) resolver_files: Vec<PathBuf>,
    pub(super) kernel: Vec<withdraw::Step>,
    /// Files of leases whose pods are gone, and of the bookkeeping beside them.
    pub(super) leases: Vec<PathBuf>,
    /// Directories of state, each with all that is in it.
    pub(super) state: Vec<PathBuf>,
    /// The program last.
    pub(super) plugins: Vec<PathBuf>,
    pub(super) kept: Vec<Kept>,
    /// To be removed when they are empty.
    pub(super) directories: Vec<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The configuration says that no new pods may come.
    Drain(PathBuf),
    RemoveFile(PathBuf),
    Kernel(withdraw::Step),
    RemoveState(PathBuf),
    GiveBack(Kept),
    RemoveDirectory(PathBuf),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drain(path) => write!(f, "let no new pods come, by the key `drain` in {}", path.display()),
            Self::RemoveFile(path) => write!(f, "remove {}", path.display()),
            Self::Kernel(step) => step.fmt(f),
            Self::RemoveState(path) => write!(f, "remove {} with all that is in it", path.display()),
            Self::GiveBack(kept) => {
                write!(f, "rename {} to {}", kept.kept_as.display(), kept.original.display())
            }
            Self::RemoveDirectory(path) => write!(f, "remove {} if it is empty", path.display()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Pods that the rest has to wait for.
    pub(super) waiting_for: Vec<String>,
}

pub(super) fn plan(have: &Have, force: bool) -> Plan {
    let mut steps = Vec::new();
    if !force {
        steps.extend(have.open.iter().cloned().map(Step::Drain));
        if !have.attached.is_empty() {
            return Plan { steps, waiting_for: have.attached.clone() };
        }
    }
    steps.extend(have.conflists.iter().cloned().map(Step::RemoveFile));
    steps.extend(have.resolver_files.iter().cloned().map(Step::RemoveFile));
    steps.extend(have.kernel.iter().cloned().map(Step::Kernel));
    steps.extend(have.leases.iter().cloned().map(Step::RemoveFile));
    steps.extend(have.state.iter().cloned().map(Step::RemoveState));
    steps.extend(have.plugins.iter().cloned().map(Step::RemoveFile));
    steps.extend(have.kept.iter().cloned().map(Step::GiveBack));
    // The innermost first.
    let mut directories = have.directories.clone();
    directories.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    steps.extend(directories.into_iter().map(Step::RemoveDirectory));
    Plan { steps, waiting_for: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn have() -> Have {
        Have {
            conflists: vec!["/etc/cni/net.d/0-smarter-bridge.conflist".into()],
            open: vec!["/etc/cni/net.d/0-smarter-bridge.conflist".into()],
            attached: vec![],
            resolver_files: vec!["/etc/dnsmasq.d/smarter-cni.conf".into()],
            kernel: vec![withdraw::Step::RemoveLink("smartnet0".parse().unwrap())],
            leases: vec!["/run/cni/networks/smartnet/172.38.0.2".into()],
            state: vec!["/run/smarter-cni".into()],
            plugins: vec!["/opt/cni/bin/smarter-bridge".into(), "/opt/cni/bin/smarter-cni".into()],
            kept: vec![Kept { original: "/etc/a.conf".into(), kept_as: "/etc/a.conf.kept".into() }],
            directories: vec!["/opt/cni".into(), "/opt/cni/bin".into()],
        }
    }

    #[test]
    fn the_configuration_goes_first_and_what_was_in_our_way_comes_back_last() {
        let plan = plan(&have(), false);
        assert_eq!(
            plan.steps.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "let no new pods come, by the key `drain` in /etc/cni/net.d/0-smarter-bridge.conflist",
                "remove /etc/cni/net.d/0-smarter-bridge.conflist",
                "remove /etc/dnsmasq.d/smarter-cni.conf",
                "ip link del smartnet0",
                "remove /run/cni/networks/smartnet/172.38.0.2",
                "remove /run/smarter-cni with all that is in it",
                "remove /opt/cni/bin/smarter-bridge",
                "remove /opt/cni/bin/smarter-cni",
                "rename /etc/a.conf.kept to /etc/a.conf",
                "remove /opt/cni/bin if it is empty",
                "remove /opt/cni if it is empty",
            ]
        );
        assert!(plan.waiting_for.is_empty());
    }

    #[test]
    fn while_pods_are_attached_nothing_goes_and_no_other_pod_comes() {
        let have = Have { attached: vec!["default/web".into()], ..have() };
        let waiting = plan(&have, false);
        let path = PathBuf::from("/etc/cni/net.d/0-smarter-bridge.conflist");
        assert_eq!(waiting.steps, [Step::Drain(path)]);
        assert_eq!(waiting.waiting_for, ["default/web"]);
        assert_eq!(plan(&have, true).steps.len(), 10);
    }
}
