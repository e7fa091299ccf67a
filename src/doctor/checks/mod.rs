//! All checks, group by group. The one table that `--list`, the documentation and the tests walk.
//!
//! Pure.

mod addresses;
mod bridge;
mod clients;
mod configuration;
mod disks;
mod firewall;
mod flows;
mod host;
mod hostports;
mod kernel;
mod leases;
mod managers;
mod mtu;
mod names;
mod plugins;
mod pods;
mod policy;
mod ports;
mod probes;
mod ranges;
mod routes;
mod rules;
mod runtime;
mod uplinks;

use super::check::{Check, Need};

/// What brings back whatever an installation puts on a node; without options it does what it did last.
const INSTALL: &str = "smarter-cni install";
/// What brings back everything that records tell of.
pub(super) const RECONCILE: &str = "smarter-cni reconcile";
/// What makes everything anew that belongs to one pod.
pub(super) const RESTART: &str = "restart the pod: kubectl delete pod, or crictl rmp -f";

/// For checks that explain what reconcile would do.
const PLAN: &[Need] = &[Need::Plan];
/// The same about rules: whether a table of ours is missing as a whole.
const PLAN_OF_RULES: &[Need] = &[Need::Plan, Need::Filter];

/// In the order in which they are shown.
pub fn all() -> impl Iterator<Item = &'static Check> {
    [
        kernel::CHECKS,
        host::CHECKS,
        firewall::CHECKS,
        flows::CHECKS,
        uplinks::CHECKS,
        disks::CHECKS,
        managers::CHECKS,
        bridge::CHECKS,
        names::CHECKS,
        clients::CHECKS,
        mtu::CHECKS,
        ports::CHECKS,
        ranges::CHECKS,
        routes::CHECKS,
        policy::CHECKS,
        addresses::CHECKS,
        rules::CHECKS,
        hostports::CHECKS,
        leases::CHECKS,
        pods::CHECKS,
        probes::CHECKS,
        configuration::CHECKS,
        plugins::CHECKS,
        runtime::CHECKS,
    ]
    .into_iter()
    .flatten()
}
