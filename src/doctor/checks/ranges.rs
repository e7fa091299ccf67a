//! The ranges that pods have addresses of: whose they are, and who else has them.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnetwork::IpNetwork;

use crate::datapath::ground::{self, Taken};
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;

use Severity::{Broken, Warning};

const RANGES: &[Need] = &[Need::Network, Need::Attachments, Need::Configuration];

pub(super) const CHECKS: &[Check] = &[
    G::Addresses.check("range-overlap", "the pods' range is nobody else's network", Broken, RANGES, overlap),
    G::Addresses.check("range-public", "the pods' range is private", Warning, RANGES, public),
];

/// Every range of ours with the interfaces that may carry it: from what pods were promised, and from configurations.
fn ranges(evidence: &Evidence) -> Result<BTreeMap<IpNetwork, Vec<String>>, Pass> {
    let mut ranges: BTreeMap<IpNetwork, Vec<String>> = BTreeMap::new();
    for (bridge, promise) in evidence.records()?.promises() {
        for subnet in promise.subnets.keys() {
            let links = ranges.entry(*subnet).or_default();
            links.push(bridge.to_string());
            links.extend(promise.gateways.keys().map(ToString::to_string));
        }
    }
    let configured = evidence.configuration()?.networks();
    for network in configured.filter(|network| network.is_ours()) {
        for subnet in &network.subnets {
            ranges.entry(*subnet).or_default().extend(network.bridge.clone());
        }
    }
    if ranges.is_empty() {
        return Err(Pass::skipped(
            "no range of pods is known: no pod is attached and no configuration of ours was found",
        ));
    }
    Ok(ranges)
}

/// What the installer refuses, where it came later.
fn overlap(evidence: &Evidence) -> Verdict {
    let network = &evidence.node()?.network;
    let ground = ground::of(&network.links, &network.addresses, &network.routes);
    let mut findings = Vec::new();
    let ports: BTreeSet<String> = evidence
        .records()?
        .live()
        .filter_map(|pod| pod.record.attachment().map(|want| want.port.name.to_string()))
        .collect();
    for (range, own) in ranges(evidence)? {
        let mut named: BTreeSet<&str> = BTreeSet::new();
        // What another network of ours has is a range of its own, and is compared as such. A pod's address on lo is
        // `address-duplicate`. What somebody put on a pod's port is to be taken away, and no reason for another range.
        let own = |taken: &Taken| {
            own.contains(&taken.interface) || taken.interface == "lo" || ports.contains(&taken.interface)
        };
        for taken in ground.collisions(range, own) {
            if taken.interface.is_empty() || named.insert(&taken.interface) {
                findings.push(clash(range, &taken.to_string()));
            }
        }
    }
    Ok(findings)
}

fn clash(range: IpNetwork, with: &str) -> Finding {
    Finding::problem(
        format!("range {range}"),
        format!(
            "{with} is in its way: hosts there and pods cannot reach each other, and the node may lose its own network"
        ),
        "give the pods another range, in the network's configuration and as the cluster's --cluster-cidr",
    )
}

/// RFC 1918, RFC 6598, and what is for documentation, benchmarks and links only; RFC 4193 in IPv6.
fn is_private(range: IpNetwork) -> bool {
    match range {
        IpNetwork::V4(v4) => {
            let own: [(Ipv4Addr, u8); 9] = [
                (Ipv4Addr::new(10, 0, 0, 0), 8),
                (Ipv4Addr::new(172, 16, 0, 0), 12),
                (Ipv4Addr::new(192, 168, 0, 0), 16),
                (Ipv4Addr::new(100, 64, 0, 0), 10),
                (Ipv4Addr::new(169, 254, 0, 0), 16),
                (Ipv4Addr::new(198, 18, 0, 0), 15),
                (Ipv4Addr::new(192, 0, 2, 0), 24),
                (Ipv4Addr::new(198, 51, 100, 0), 24),
                (Ipv4Addr::new(203, 0, 113, 0), 24),
            ];
            own.into_iter().any(|(network, prefix)| {
                v4.prefix() >= prefix
                    && ipnetwork::Ipv4Network::new(network, prefix).is_ok_and(|own| own.contains(v4.ip()))
            })
        }
        IpNetwork::V6(v6) => {
            let first = v6.network().segments();
            first[0] & 0xfe00 == 0xfc00
                || (first[0], first[1]) == (0x2001, 0x0db8)
                || first[0] & 0xffc0 == 0xfe80
        }
    }
}

/// A public range of IPv6 is what a provider gives away for use.
fn public(evidence: &Evidence) -> Verdict {
    let ranges = ranges(evidence)?;
    let public = ranges.keys().filter(|range| range.is_ipv4() && !is_private(**range));
    let findings = public.map(|range| {
        Finding::problem(
            format!("range {range}"),
            "it is not private (RFC 1918): the hosts on the Internet that really have these addresses cannot be \
             reached from this node",
            "for a new cluster take a range from 10.0.0.0/8, in the network's configuration and as --cluster-cidr",
        )
    });
    Ok(findings.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_is_what_nobody_on_the_internet_has() {
        for range in ["10.1.0.0/16", "172.31.0.0/16", "192.168.7.0/24", "100.64.0.0/16"] {
            assert!(is_private(range.parse().unwrap()), "{range}");
        }
        for range in ["172.38.0.0/16", "172.0.0.0/8", "8.8.8.0/24", "0.0.0.0/0", "11.0.0.0/8"] {
            assert!(!is_private(range.parse().unwrap()), "{range}");
        }
    }
}
