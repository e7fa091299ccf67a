//! What an attachment wants of the node's ports, as its record keeps it, and back again. Pure.
//!
//! ADD writes with [`write`], a repair reads with [`host_ports`], a removal with [`mappings_of`]; the tests hold them
//! together.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use super::conditions;
use super::config::{Config, HostIp, Port};
use crate::datapath::hostports::limits::{Condition, Pattern};
use crate::datapath::hostports::{HostPorts, Limits, Mapping, Owner, Protocol};
use crate::net::Family;
use crate::state::Record;
use crate::state::record::{HostPort, Pod, PortRules, PromisedAddress};

/// What the configuration asks for.
pub(super) fn wanted(config: &Config, container: &str, pod: &Pod) -> HostPorts {
    HostPorts {
        owner: owner(container, Some(pod)),
        mappings: mappings(&config.ports, &config.pods),
        pods: config.pods.clone(),
        snat: config.snat,
        masq_all: config.masq_all,
        limits: config.limits.clone(),
    }
}

/// Writes down what the configuration asks for.
pub(super) fn write(record: &mut Record, config: &Config) {
    let promised = &mut record.promised;
    promised.addresses =
        config.pods.iter().map(|pod| PromisedAddress { address: *pod, gateway: None }).collect();
    promised.host_ports = config.ports.iter().map(recorded).collect();
    let Limits { allowed, denied, v4, v6 } = &config.limits;
    promised.port_rules = Some(PortRules {
        snat: config.snat,
        masq_all: config.masq_all,
        allowed: words(allowed),
        denied: words(denied),
        conditions_v4: words(v4),
        conditions_v6: words(v6),
        pod_link: None,
    });
}

fn words<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

/// What the attachment of a record wants. `None` when the record does not tell from where its ports may be used: an older
/// version wrote it, and a port that is opened to the wrong side is worse than one that stays closed.
pub fn host_ports(record: &Record) -> Option<HostPorts> {
    let rules = record.promised.port_rules.as_ref()?;
    let (mappings, _) = mappings_of(record);
    Some(HostPorts {
        owner: owner(&record.container_id, record.pod.as_ref()),
        mappings,
        pods: record.promised.addresses.iter().map(|promised| promised.address).collect(),
        snat: rules.snat,
        masq_all: rules.masq_all,
        limits: Limits {
            allowed: patterns(&rules.allowed)?,
            denied: patterns(&rules.denied)?,
            v4: conditions_of(Family::V4, &rules.conditions_v4)?,
            v6: conditions_of(Family::V6, &rules.conditions_v6)?,
        },
    })
}

fn patterns(words: &[String]) -> Option<Vec<Pattern>> {
    words.iter().map(|word| Pattern::parse(word, '*')).collect()
}

fn conditions_of(family: Family, words: &[String]) -> Option<Vec<Condition>> {
    conditions::parse(family, words).ok()
}

fn owner(container: &str, pod: Option<&Pod>) -> Owner {
    let name = pod.and_then(|pod| pod.namespace.as_ref().zip(pod.name.as_ref()));
    Owner {
        container: container.to_owned(),
        pod: name.map(|(namespace, name)| format!("{namespace}/{name}")),
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

fn recorded(port: &Port) -> HostPort {
    HostPort {
        protocol: port.protocol.name().to_owned(),
        host_port: port.host_port,
        container_port: port.container_port,
        host_ip: match port.host_ip {
            HostIp::Any => None,
            HostIp::AllOf(Family::V4) => Some(Ipv4Addr::UNSPECIFIED.into()),
            HostIp::AllOf(Family::V6) => Some(Ipv6Addr::UNSPECIFIED.into()),
            HostIp::One(ip) => Some(ip),
        },
    }
}

/// The mappings of a record, and the addresses they lead to.
pub fn mappings_of(record: &Record) -> (Vec<Mapping>, Vec<IpAddr>) {
    let ports: Vec<_> = record.promised.host_ports.iter().filter_map(port).collect();
    let pods = pods_of(record);
    (mappings(&ports, &pods), pods.iter().map(IpNetwork::ip).collect())
}

/// What one port of a record leads to: nothing where the pod has no address of its family.
pub fn mappings_of_port(record: &Record, one: &HostPort) -> Vec<Mapping> {
    port(one).map(|port| mappings(&[port], &pods_of(record))).unwrap_or_default()
}

fn pods_of(record: &Record) -> Vec<IpNetwork> {
    record.promised.addresses.iter().map(|promised| promised.address).collect()
}

fn port(port: &HostPort) -> Option<Port> {
    Some(Port {
        protocol: Protocol::from_name(&port.protocol)?,
        host_port: port.host_port,
        container_port: port.container_port,
        host_ip: match port.host_ip {
            None => HostIp::Any,
            Some(ip) if ip.is_unspecified() => HostIp::AllOf(Family::of(ip)),
            Some(ip) => HostIp::One(ip),
        },
    })
}

#[cfg(test)]
mod tests;
