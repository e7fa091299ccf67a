//! The ways out of the node, in both families.
//!
//! Pure.

use ipnetwork::IpNetwork;

use super::RECONCILE;
use super::host::{SWITCHES, dotted, turn, turn_by};
use crate::datapath::survey::{Link, Network, OperState};
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::Promise;
use crate::doctor::planned;
use crate::net::{Family, network_of};
use crate::text::typed;

use Severity::{Broken, Warning};

const ROUTER: &[Need] = &[Need::Network, Need::Attachments, Need::Files, Need::Plan];

pub(super) const CHECKS: &[Check] = &[
    G::Host.check(
        "uplink-missing",
        "there is a default route",
        Warning,
        &[Need::Network, Need::Attachments, Need::Flows],
        uplink_missing,
    ),
    G::Host.check(
        "uplink-twice",
        "no two uplinks are in one network",
        Warning,
        &[Need::Network],
        uplink_twice,
    ),
    G::Host.check("ipv6-disabled", "IPv6 is on where pods have it", Broken, SWITCHES, ipv6_disabled),
    G::Host.check("ipv6-router", "uplinks keep their IPv6 router", Warning, ROUTER, ipv6_router),
];

fn uplink_missing(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    if !node.uplinks().is_empty() {
        return Ok(missing_family(evidence));
    }
    Ok(vec![Finding::problem(
        "default route",
        "the node has none: pods reach each other and the node, nothing else; kubelet and k3s may refuse to start",
        "bring an uplink up\nfor a node that stays alone: ip link add dummy0 type dummy && ip link set dummy0 up \
         && ip route add default dev dummy0 metric 65535",
    )])
}

/// Of a node that has a way out in one family: it has none in the other, in which pods were given a router, and in which it
/// has an address that is good for more than its own network.
fn missing_family(evidence: &Evidence) -> Vec<Finding> {
    let (Ok(node), Ok(records)) = (evidence.node(), evidence.records()) else { return Vec::new() };
    let inside: Vec<String> = records
        .promises()
        .into_iter()
        .flat_map(|(bridge, promise)| promise.gateways.into_keys().chain([bridge]))
        .map(|name| name.to_string())
        .collect();
    let goes_far = |address: IpNetwork| match address {
        IpNetwork::V4(v4) => !v4.ip().is_link_local(),
        // Unique local addresses lead nowhere by themselves (RFC 4193).
        IpNetwork::V6(v6) => v6.ip().segments()[0] & 0xe000 == 0x2000,
    };
    let lacks = |family: &Family| {
        let has = |network: &Network| {
            network
                .addresses
                .iter()
                .filter(|own| own.scope == 0 && Family::of(own.address.ip()) == *family)
                .any(|own| {
                    let link = network.by_index(own.index);
                    goes_far(own.address)
                        && link
                            .is_some_and(|link| link.up && link.name != "lo" && !inside.contains(&link.name))
                })
        };
        let way = evidence.flows().ok().and_then(|flows| flows.outside_of(*family));
        records.routed().contains(family)
            && node.network.default_routes(*family).is_empty()
            && way.is_none()
            && has(&node.network)
    };
    let findings = Family::BOTH.into_iter().filter(lacks).map(|family| {
        let (words, version) = if family == Family::V4 { ("IPv4", "-4") } else { ("IPv6", "-6") };
        Finding::problem(
            format!("default route of {words}"),
            format!("the node has one of the other family alone: pods reach nothing outside by {words}"),
            format!("bring it back as the uplink's manager does\nby hand: ip {version} route add default via <router>"),
        )
    });
    findings.collect()
}

fn uplink_twice(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let mut seen: Vec<(IpNetwork, &Link)> = Vec::new();
    let mut findings = Vec::new();
    for address in node.network.addresses.iter().filter(|address| address.scope == 0) {
        let Some(link) = node.network.by_index(address.index).filter(|link| is_uplink(link)) else {
            continue;
        };
        let network = network_of(address.address);
        let single = if network.is_ipv4() { 32 } else { 128 };
        if network.prefix() == single {
            continue;
        }
        match seen.iter().find(|(other, _)| *other == network) {
            Some((_, other)) if other.index != link.index => findings.push(Finding::problem(
                format!("interface {}", link.name),
                format!(
                    "{} and {} both are in {network}: answers leave through one of them only",
                    other.name, link.name
                ),
                format!(
                    "take one of the two down, or give them networks of their own\nfor instance: ip link set {} down",
                    link.name
                ),
            )),
            _ => seen.push((network, link)),
        }
    }
    Ok(findings)
}

/// Something that leads out of the node: neither lo nor a bridge or veth, except a veth that has addresses of its own. A
/// macvlan by which the node reaches containers of its own uplink is the same way out.
fn is_uplink(link: &Link) -> bool {
    let inside =
        matches!(link.kind.as_deref(), Some("bridge" | "dummy" | "ifb" | "macvlan" | "macvtap" | "ipvlan"))
            || link.name == "lo";
    !inside && link.up && link.state != OperState::Down
}

fn ipv6_disabled(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let promises = evidence.attachments()?.promises();
    let v6 = |promise: &Promise| promise.subnets.keys().any(IpNetwork::is_ipv6);
    if !promises.values().any(v6) {
        return Err(Pass::skipped("no pod has an IPv6 address"));
    }
    let mut findings = Vec::new();
    for (bridge, promise) in promises.iter().filter(|(_, promise)| v6(promise)) {
        if !node.has_ipv6() {
            findings.push(Finding::problem(
                format!("bridge {bridge}"),
                "pods were promised IPv6 addresses, and this kernel has no IPv6",
                "remove ipv6.disable=1 from the kernel's command line, or take the IPv6 range out of the \
                 network's configuration",
            ));
            continue;
        }
        for link in promise.gateways.keys() {
            let key = format!("net/ipv6/conf/{link}/disable_ipv6");
            if node.switch(&key) == Some("1") {
                let command = format!("sysctl -w {}=0 && {RECONCILE}", typed(dotted(&key)));
                let (setter, fix) = turn_by(evidence, &key, "0", command);
                findings.push(Finding::problem(
                    format!("bridge {link}"),
                    format!("{} is 1{setter}: it has lost its IPv6 addresses", dotted(&key)),
                    fix,
                ));
            }
        }
    }
    Ok(findings)
}

/// A kernel that forwards takes no router advertisements where `accept_ra` is 1.
fn ipv6_router(evidence: &Evidence) -> Verdict {
    let node = evidence.node()?;
    let planned = planned::findings(evidence, "ipv6-router")?;
    if !planned.is_empty() {
        return Ok(planned);
    }
    if node.switch("net/ipv6/conf/all/forwarding") != Some("1") {
        return Err(Pass::skipped("the node does not forward IPv6"));
    }
    let promises = evidence.records()?.promises();
    let mut findings = Vec::new();
    for link in node
        .uplinks()
        .into_iter()
        .filter(|link| link.name.parse().is_ok_and(|name| !promises.contains_key(&name)))
    {
        let key = format!("net/ipv6/conf/{}/accept_ra", link.name);
        // Without a link-local address nobody advertises to it.
        let listens = node.network.addresses_of(link).iter().any(IpNetwork::is_ipv6);
        let learns = !node
            .network
            .default_routes(Family::V6)
            .iter()
            .any(|route| route.index == Some(link.index) && route.protocol != RTPROT_RA);
        if node.switch(&key) == Some("1") && listens && learns {
            let (setter, fix) = turn(evidence, &key, "2");
            findings.push(Finding::problem(
                format!("interface {}", link.name),
                format!(
                    "{} is 1{setter}, and the node forwards: it ignores router advertisements, and its default \
                     route expires",
                    dotted(&key)
                ),
                fix,
            ));
        }
    }
    Ok(findings)
}

/// RTPROT_RA, linux/rtnetlink.h.
const RTPROT_RA: u8 = 9;
