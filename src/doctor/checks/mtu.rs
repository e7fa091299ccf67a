//! How large the packets are that bridges carry, beside uplinks and pods.
//!
//! Pure.

use super::bridge::{bridges, object};
use crate::datapath::survey::Link;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::{Attachment, Promise};
use crate::net::{Family, IfName};
use crate::text::typed;

use Severity::Warning;

const BRIDGES: &[Need] = &[Need::Network, Need::Attachments];

pub(super) const CHECKS: &[Check] =
    &[G::Bridge.check("bridge-mtu", "the bridge's MTU fits the uplink", Warning, BRIDGES, mtu)];

fn mtu(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let bridges = bridges(evidence)?;
    let mut findings = below_pods(evidence, &bridges)?;
    let preferred = Family::BOTH.into_iter().find_map(|family| {
        let route = node.network.default_routes(family).into_iter().next()?;
        let link = node.network.by_index(route.index?)?;
        Some((link, route.mtu.map_or(link.mtu, |limit| limit.min(link.mtu))))
    });
    let Some((uplink, limit)) = preferred else {
        return if findings.is_empty() { Err(Pass::skipped("there is no uplink")) } else { Ok(findings) };
    };
    let above = bridges.into_iter().filter(|(.., link)| link.mtu > limit && link.index != uplink.index);
    findings.extend(above.map(|(name, _, link)| {
        Finding::problem(
            object(&name),
            format!(
                "its MTU is {}, that of the uplink {} is {limit}: large UDP packets of pods are lost where no \
                 ICMP comes back",
                link.mtu, uplink.name
            ),
            format!("write \"mtu\": \"auto\" into the network's configuration, then ip link del {name} while no pod \
                     runs, or reboot"),
        )
    }));
    Ok(findings)
}

/// A bridge takes the smallest MTU of its ports, unless somebody sets one.
fn below_pods(evidence: &Evidence, bridges: &[(IfName, Promise, &Link)]) -> Verdict {
    let network = &evidence.node()?.network;
    let mut findings = Vec::new();
    for (name, _, link) in bridges {
        let pods = evidence.attachments()?.live().filter(|pod| pod.bridge() == Some(name));
        let mtu =
            |pod: &Attachment| network.link(pod.record.attachment()?.port.name.as_str()).map(|port| port.mtu);
        let Some(least) = pods.filter_map(mtu).min().filter(|least| *least > link.mtu) else { continue };
        findings.push(Finding::problem(
            object(name),
            format!(
                "its MTU is {}, that of its pods' ports {least}: larger packets for pods are lost, or come in pieces",
                link.mtu
            ),
            format!("ip link set {} mtu {least}", typed(name)),
        ));
    }
    Ok(findings)
}
