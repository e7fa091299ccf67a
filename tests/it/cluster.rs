//! What a person types at a cluster of one node: lines of `kubectl` for our manifests. The commands return when kubectl's do;
//! a kubelet starts, ends and tries again meanwhile, with the pauses of a real one.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use crate::containerd::Containerd;
use crate::kubelet::{DaemonSet, objects};
use crate::lab::eventually;

/// kubelet's first pause after a container that failed; each one is twice as long, up to five minutes.
const BACK_OFF: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) struct Cluster<'scope, 'env> {
    scope: &'scope Scope<'scope, 'env>,
    node: &'env Containerd,
    /// By name of the DaemonSet.
    sets: BTreeMap<String, Running<'scope>>,
    /// What was replaced.
    earlier: BTreeMap<String, DaemonSet>,
}

/// A DaemonSet of which this node runs a pod.
struct Running<'scope> {
    wanted: Arc<AtomicBool>,
    ready: Arc<AtomicBool>,
    kubelet: ScopedJoinHandle<'scope, DaemonSet>,
    set: DaemonSet,
}

impl<'scope, 'env> Cluster<'scope, 'env> {
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>, node: &'env Containerd) -> Self {
        Self { scope, node, sets: BTreeMap::new(), earlier: BTreeMap::new() }
    }

    /// Types the line as it is; `false` if it is none for a cluster.
    pub(crate) fn kubectl(&mut self, line: &str) -> bool {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["kubectl", "apply", "-f", file] => self.apply(file),
            ["kubectl", "delete", "-f", file] => drop(self.delete(file)),
            // Until the pods are gone, too.
            ["kubectl", "delete", "--cascade=foreground", "-f", file] => {
                if let Some(kubelet) = self.delete(file) {
                    kubelet.join().expect("kubelet");
                }
            }
            ["kubectl", "-n", "kube-system", "rollout", "restart", "daemonset", name] => {
                let set = self.end(name).expect("it runs").join().expect("kubelet");
                self.run(set);
            }
            // As it was before it was applied the last time.
            ["kubectl", "-n", "kube-system", "rollout", "undo", "daemonset", name] => {
                self.end(name).expect("it runs").join().expect("kubelet");
                let set = self.earlier.remove(*name).expect("an earlier one");
                self.run(set);
            }
            ["kubectl", "-n", "kube-system", "get" | "logs", words @ ..] => self.names(words),
            ["kubectl", "-n", "kube-system", "describe", "pod", "POD"] => {}
            // The host's network and processes, and its / below /host.
            [
                "kubectl",
                "debug",
                "node/NODE",
                "-it",
                "--profile=sysadmin",
                image,
                "--",
                "/smarter-cni",
                "doctor",
                "--root",
                "/host",
            ] => {
                assert!(image.ends_with(concat!("/smarter-cni:", env!("CARGO_PKG_VERSION"))), "{image}");
                debug_node();
            }
            ["kubectl", "-n", "kube-system", "rollout", "status", "daemonset", name] => {
                let ready = &self.sets[*name].ready;
                eventually(line, PATIENCE, || ready.load(Ordering::Relaxed));
            }
            ["kubectl", ..] => panic!("nobody knows how to type this here: {line}"),
            _ => return false,
        }
        true
    }

    /// What is asked for is there under this name, if anything is.
    fn names(&self, words: &[&str]) {
        let behind = |flag: &str| words.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1]);
        let (key, value) = behind("--selector").and_then(|pair| pair.split_once('=')).expect("a selector");
        for running in self.sets.values().filter(|running| !running.set.name.ends_with("uninstall")) {
            assert_eq!(running.set.labels[key], value, "{words:?}");
            if let Some(container) = behind("--container") {
                let named = |which: &str| {
                    let all = running.set.spec[which].as_array();
                    all.is_some_and(|all| all.iter().any(|one| one["name"] == container))
                };
                assert!(named("initContainers") || named("containers"), "{words:?}");
            }
        }
    }

    /// Nothing is left to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Returns at once. What was applied before is replaced.
    fn apply(&mut self, file: &str) {
        let set = DaemonSet::of(&objects(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)));
        if let Some(kubelet) = self.delete(file) {
            let earlier = kubelet.join().expect("kubelet");
            self.earlier.insert(earlier.name.clone(), earlier);
        }
        self.run(set);
    }

    fn run(&mut self, set: DaemonSet) {
        let (wanted, ready) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (node, own) = (self.node, set.clone());
        let shared = (Arc::clone(&wanted), Arc::clone(&ready));
        let kubelet = self.scope.spawn(move || {
            kubelet(node, &own, &shared.0, &shared.1);
            own
        });
        self.sets.insert(set.name.clone(), Running { wanted, ready, kubelet, set });
    }

    /// The object goes at once, its pod follows by itself.
    fn delete(&mut self, file: &str) -> Option<ScopedJoinHandle<'scope, DaemonSet>> {
        let set = DaemonSet::of(&objects(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)));
        self.end(&set.name)
    }

    fn end(&mut self, name: &str) -> Option<ScopedJoinHandle<'scope, DaemonSet>> {
        let running = self.sets.remove(name)?;
        running.wanted.store(false, Ordering::Relaxed);
        Some(running.kubelet)
    }
}

/// The doctor as it sees the node from a pod for debugging: nothing may be wrong with how it looks, only with the node.
fn debug_node() {
    let script = "mkdir -p /mnt/debug/host && mount --rbind / /mnt/debug/host && exec \"$0\" doctor --root /mnt/debug/host";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(crate::lab::binary());
    let out = command.output().expect("unshare");
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(matches!(out.status.code(), Some(0 | 1)) && said.contains("checks fine"), "{out:?}");
}

fn kubelet(node: &Containerd, set: &DaemonSet, wanted: &AtomicBool, ready: &AtomicBool) {
    let is_wanted = || wanted.load(Ordering::Relaxed);
    let mut pause = BACK_OFF;
    while is_wanted() {
        if let Ok(deployed) = node.deploy_while(set, &set.name, &is_wanted) {
            ready.store(true, Ordering::Relaxed);
            while is_wanted() {
                thread::sleep(Duration::from_millis(50));
            }
            assert_eq!(node.undeploy(&deployed), 0, "{} ends as it should", set.name);
        } else {
            let until = Instant::now() + pause;
            pause *= 2;
            while is_wanted() && Instant::now() < until {
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
}
