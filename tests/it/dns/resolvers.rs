//! Resolvers of others, as they are in pods: glibc's, musl's, Go's, c-ares, and `dig` for what only few ask for. Each behaves in
//! ways of its own that a name server has to go along with.

mod extensions;
mod names;
mod programs;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use super::forward::client::uplinks;
use super::forward::upstream::{Manner, Uplink};
use super::*;
use crate::lab::peers;
use crate::sandbox::sandboxed;

/// A resolver that gives up on a server does it after 5 s, or 2.5 s (musl). Whoever is quicker waited for nobody. Go's client
/// takes its time to start, and gives up before its resolver would; c-ares waits for 2 s only, and says how often it did.
const AT_ONCE: Duration = Duration::from_millis(2400);

/// Whose resolver is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resolver {
    Glibc,
    /// Debian 12's, before 1.2.4: without TCP.
    Musl,
    /// Today's.
    MuslWithTcp,
    /// In Kubernetes' own client.
    Go,
    /// Today's: curl's, Node.js', Envoy's.
    Cares,
}

const ALL: [Resolver; 5] =
    [Resolver::Glibc, Resolver::Musl, Resolver::MuslWithTcp, Resolver::Go, Resolver::Cares];

/// What one of them made of a name.
#[derive(Debug)]
struct Found {
    addresses: BTreeSet<String>,
    took: Duration,
    words: String,
}

impl Found {
    fn was_at_once(&self, resolver: Resolver) -> bool {
        match resolver {
            Resolver::Go => true,
            Resolver::Cares => self.words.contains("0 timeouts"),
            _ => self.took < AT_ONCE,
        }
    }

    /// The only one.
    fn address(&self) -> &str {
        let first = self.addresses.first().filter(|_| self.addresses.len() == 1);
        first.map_or_else(|| self.words.as_str(), String::as_str)
    }
}

/// What the kubelet writes for a pod of ns1, with one option more.
fn kubelet(option: &str) {
    let text = format!(
        "search ns1.svc.cluster.local svc.cluster.local cluster.local\nnameserver {GATEWAY}\noptions ndots:5 {option}\n"
    );
    fs::write("/run/resolv.conf", text).unwrap();
    let script = "mount --bind /run/resolv.conf /etc/resolv.conf && exec \"$@\"\n";
    fs::write("/run/as-in-a-pod", script).unwrap();
}

impl Resolver {
    /// A program that asks it.
    fn program(self, name: &str) -> String {
        match self {
            Self::Glibc => format!("getent ahosts {name}"),
            Self::Musl => format!("{} {name}", programs::of_musl()),
            Self::MuslWithTcp => format!("{} {} {name}", programs::todays_musl(), programs::of_musl()),
            Self::Cares => format!("{} {name}", programs::of_cares()),
            Self::Go => {
                let kubectl = peers().join("usr/bin/kubectl");
                format!(
                    "{} -v=6 --request-timeout=4s --server=http://{name}:1 get --raw /",
                    kubectl.display()
                )
            }
        }
    }

    /// Asked by a program in the pod.
    fn find(self, pod: &Pod, name: &str) -> Found {
        let line = self.program(name);
        let mut command = pod.netns.command(&format!("unshare --mount sh -e /run/as-in-a-pod {line}"));
        command.env("GODEBUG", "netdns=go").env("KUBECONFIG", "/dev/null").env("HOME", "/run");
        let begun = Instant::now();
        let out = command.output().unwrap();
        let took = begun.elapsed();
        let words = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        let addresses = match self {
            // "… dial tcp 10.77.0.3:1: connect: connection refused"
            Self::Go => words
                .split("dial tcp ")
                .skip(1)
                .filter_map(|rest| Some(rest.split_once(":1:")?.0.to_owned()))
                .collect(),
            _ => words.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect(),
        };
        let is_address = |text: &String| text.parse::<std::net::IpAddr>().is_ok();
        Found { addresses: BTreeSet::into_iter(addresses).filter(is_address).collect(), took, words }
    }
}
