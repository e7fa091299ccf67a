//! What settings and attached pods ask of the forwarder, the sockets and the zone.
//!
//! Pure.

use std::net::IpAddr;

use super::super::data::Gathered;
use super::super::forward;
use super::super::settings::Settings;
use super::super::zone::{Contents, Zone};

pub(super) fn forwarding(settings: &Settings) -> forward::Settings {
    let mut forwarding = forward::Settings {
        cluster: settings.cluster_upstreams.clone(),
        cache: settings.cache,
        stale: settings.stale,
        ..forward::Settings::default()
    };
    if !settings.upstreams.is_empty() {
        forwarding.upstreams = forward::Source::Named(settings.upstreams.clone());
    }
    forwarding
}

/// Where pods and the node ask.
pub(super) fn addresses(settings: &Settings, gathered: &Gathered) -> Vec<IpAddr> {
    let gateways = gathered.gateways.iter().filter(|gateway| **gateway != settings.address);
    std::iter::once(settings.address).chain(gateways.copied()).collect()
}

pub(crate) fn zone(settings: &Settings, gathered: Gathered) -> Zone {
    Zone::build(&Contents {
        domain: settings.domain.clone(),
        server: settings.address,
        gateways: gathered.gateways,
        pods: gathered.pods,
        host_pods: gathered.host_pods,
        hosts: settings.hosts.clone(),
        ranges: gathered.ranges,
        forwards_single_labels: settings.forwards_single_labels,
        has_cluster_upstream: !settings.cluster_upstreams.is_empty(),
    })
}
