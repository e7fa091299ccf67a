//! What a person types at a cluster of one node: lines of `kubectl` for our manifests. The commands return when kubectl's do;
//! a kubelet starts, ends and tries again meanwhile, with the pauses of a real one.

use std::collections::BTreeMap;
use std::path::Path;
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
}

/// A DaemonSet of which this node runs a pod.
struct Running<'scope> {
    wanted: Arc<AtomicBool>,
    ready: Arc<AtomicBool>,
    kubelet: ScopedJoinHandle<'scope, ()>,
}

impl<'scope, 'env> Cluster<'scope, 'env> {
    pub(crate) fn new(scope: &'scope Scope<'scope, 'env>, node: &'env Containerd) -> Self {
        Self { scope, node, sets: BTreeMap::new() }
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
            ["kubectl", "-n", "kube-system", "rollout", "status", "daemonset", name] => {
                let ready = &self.sets[*name].ready;
                eventually(line, PATIENCE, || ready.load(Ordering::Relaxed));
            }
            ["kubectl", ..] => panic!("nobody knows how to type this here: {line}"),
            _ => return false,
        }
        true
    }

    /// Nothing is left to run.
    pub(crate) fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Returns at once. What was applied before is replaced.
    fn apply(&mut self, file: &str) {
        let set = DaemonSet::of(&objects(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)));
        if let Some(kubelet) = self.delete(file) {
            kubelet.join().expect("kubelet");
        }
        let (wanted, ready) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (node, name) = (self.node, set.name.clone());
        let shared = (Arc::clone(&wanted), Arc::clone(&ready));
        let kubelet = self.scope.spawn(move || kubelet(node, &set, &shared.0, &shared.1));
        self.sets.insert(name, Running { wanted, ready, kubelet });
    }

    /// The object goes at once, its pod follows by itself.
    fn delete(&mut self, file: &str) -> Option<ScopedJoinHandle<'scope, ()>> {
        let set = DaemonSet::of(&objects(&Path::new(env!("CARGO_MANIFEST_DIR")).join(file)));
        let running = self.sets.remove(&set.name)?;
        running.wanted.store(false, Ordering::Relaxed);
        Some(running.kubelet)
    }
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
