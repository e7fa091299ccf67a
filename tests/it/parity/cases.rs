//! The stories that are told to both sides.

pub(super) mod attach;
pub(super) mod check;
pub(super) mod disturbances;
pub(super) mod leases;
pub(super) mod newer;
pub(super) mod portmap;
pub(super) mod protocol;
pub(super) mod requests;
pub(super) mod routes;

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::{Act, Case, call, compare, merge};
use crate::lab::Plugins;

/// The versions that have CHECK.
const CHECKED: &[&str] = &["0.4.0", "1.0.0", "1.1.0"];
/// One version of each layout, for what does not depend on the version.
const LAYOUTS: &[&str] = &["0.2.0", "0.4.0", "1.0.0"];
const ONE: &[&str] = &["1.0.0"];

/// ADD, then DEL twice: the second must find nothing to complain about.
fn life() -> Vec<Act> {
    vec![call("ADD").into(), call("DEL").into(), call("DEL").into()]
}

fn story(
    name: &'static str,
    plugin: &'static str,
    config: Value,
    versions: &'static [&'static str],
    acts: Vec<Act>,
) -> Case {
    let mut whole = json!({"name": "labnet", "type": plugin});
    merge(&mut whole, config);
    Case { name, plugin, config: whole, versions, acts, newer: false }
}

fn bridge(name: &'static str, config: Value, versions: &'static [&'static str], acts: Vec<Act>) -> Case {
    let mut whole = json!({"bridge": "lab0"});
    merge(&mut whole, config);
    story(name, "bridge", whole, versions, acts)
}

/// Every story of every group, untold.
pub(super) fn all() -> Vec<Case> {
    let groups = [
        attach::bridges,
        check::checks,
        disturbances::disturbances,
        leases::leases,
        newer::newer,
        portmap::portmaps,
        protocol::loopbacks,
        protocol::protocol,
        requests::requests,
        routes::addresses_and_routes,
    ];
    groups.iter().flat_map(|group| group()).collect()
}

/// host-local's part of a configuration.
fn ipam(rest: Value) -> Value {
    let mut whole = json!({"type": "host-local", "dataDir": "/run/leases-SIDE"});
    merge(&mut whole, rest);
    whole
}

fn subnet() -> Value {
    ipam(json!({"subnet": "10.1.2.0/24"}))
}

fn dual() -> Value {
    ipam(json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd01:2::/64"}]]}))
}

fn host_local(name: &'static str, part: Value, versions: &'static [&'static str], acts: Vec<Act>) -> Case {
    story(name, "host-local", json!({"ipam": ipam(part)}), versions, acts)
}

/// Files that stories copy into place.
fn prepare() {
    let resolv = "# made by hand\nnameserver 10.0.0.53\nnameserver fd00::53\ndomain lab\nsearch a b\noptions ndots:5\n";
    let files = [("resolv.conf", resolv), ("legacy-lease", "legacy"), ("last-reserved", "10.1.2.100")];
    for (name, content) in files {
        fs::write(Path::new("/run").join(name), content).expect("a file in /run");
    }
}

pub(super) fn tell(peer: Plugins, cases: impl FnOnce() -> Vec<Case>) {
    prepare();
    compare(peer, &cases());
}
