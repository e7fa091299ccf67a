//! From configuration to what the attachment wants of the node's ports.
//!
//! Pure.

use ipnetwork::IpNetwork;

use super::config::{Config, Port};
use crate::net::Family;
use crate::plugins::difference::{self, Difference, Meaning, list};
use crate::spec::{HostPorts, Mapping, Owner};
use crate::state::record::Pod;

/// What the configuration asks for, where the pod has an address for it.
pub fn host_ports(config: &Config, container: &str, pod: &Pod) -> HostPorts {
    HostPorts {
        owner: Owner { container: container.to_owned(), pod: pod.full_name() },
        mappings: mappings(&config.ports, &config.pods),
        pods: config.pods.clone(),
        snat: config.snat,
        masq_all: config.masq_all,
        limits: config.limits.clone(),
    }
}

pub(super) fn mappings(ports: &[Port], pods: &[IpNetwork]) -> Vec<Mapping> {
    let mut mappings = Vec::new();
    for pod in pods.iter().map(IpNetwork::ip) {
        let of_family = ports.iter().filter_map(|port| {
            let host_ip = port.host_ip.in_family(Family::of(pod))?;
            let Port { protocol, host_port, container_port: pod_port, .. } = *port;
            Some(Mapping { protocol, host_ip, host_port, pod, pod_port })
        });
        mappings.extend(of_family);
    }
    mappings
}

/// What each key meant for the pod's ports. One that is missing here changes unseen.
const MEANINGS: &[Meaning<HostPorts>] = &[
    ("snat", |want| want.snat.to_string()),
    ("masqAll", |want| want.masq_all.to_string()),
    ("hostPortInterfaces", |want| list(&want.limits.allowed)),
    ("denyHostPortInterfaces", |want| list(&want.limits.denied)),
    ("conditionsV4", |want| list(&want.limits.v4)),
    ("conditionsV6", |want| list(&want.limits.v6)),
    ("runtimeConfig.portMappings", |want| {
        let words = |mapping: &Mapping| format!("{} to {}", mapping.port_words(), mapping.pod_port);
        list(&want.mappings.iter().map(words).collect::<Vec<_>>())
    }),
];

/// Where the configuration asks for something else today.
pub fn differences(then: &HostPorts, now: &HostPorts) -> Vec<Difference> {
    difference::between(MEANINGS, then, now)
}

#[cfg(test)]
mod tests;
