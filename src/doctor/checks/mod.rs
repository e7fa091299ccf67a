//! All checks, group by group. The one table that `--list`, the documentation and the tests walk.

mod addresses;
mod bridge;
mod configuration;
mod host;
mod hostports;
mod kernel;
mod leases;
mod managers;
mod pods;
mod rules;

use super::check::Check;

/// In the order in which they are shown.
pub fn all() -> impl Iterator<Item = &'static Check> {
    [
        kernel::CHECKS,
        host::CHECKS,
        managers::CHECKS,
        bridge::CHECKS,
        addresses::CHECKS,
        rules::CHECKS,
        hostports::CHECKS,
        leases::CHECKS,
        pods::CHECKS,
        configuration::CHECKS,
    ]
    .into_iter()
    .flatten()
}
