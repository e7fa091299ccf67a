//! Every pod that is attached: its port on the node, and what it has inside.
//!
//! In the order in which one thing hangs on the other. A pod whose port is missing is not told that it is down as well.
//!
//! Pure.

use super::{PLAN, RECONCILE, RESTART};
use crate::datapath::survey::{Link, MAIN, Neighbour, Network, Way};
use crate::doctor::check::{Check, Finding, Group as G, Need, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::{Attachment, Sandbox};
use crate::doctor::evidence::flows::{Packet, PodFlows};
use crate::doctor::planned;
use crate::net::{Family, Mac};
use crate::text::typed;

use Severity::{Broken, Warning};

const PODS: &[Need] = &[Need::Network, Need::Attachments];
const PLAN_AND_PODS: &[Need] = &[Need::Plan, Need::Network, Need::Attachments];

pub(super) const CHECKS: &[Check] = &[
    G::Pods.planned("pod-namespace", "every attached pod has its network namespace", Warning, PLAN),
    G::Pods.check("pod-unfinished", "no attachment was left half way", Warning, PODS, unfinished),
    G::Pods.planned("pod-record", "every attached pod is remembered", Warning, PLAN),
    G::Pods.planned("pod-repair", "whatever a pod was promised can be brought back", Warning, PLAN),
    G::Pods.planned("pod-port", "every pod's interface on the node is there", Broken, PLAN),
    G::Pods.planned("pod-port-detached", "every pod's port is on its bridge", Broken, PLAN),
    G::Pods.planned("pod-port-down", "every pod's port is up", Broken, PLAN),
    G::Pods.check("pod-interface", "every pod has its interface", Broken, PLAN_AND_PODS, |evidence| {
        inside(evidence, "pod-interface")
    }),
    G::Pods.check("pod-interface-down", "every pod's interface is up", Broken, PLAN_AND_PODS, |evidence| {
        inside(evidence, "pod-interface-down")
    }),
    G::Pods.check("pod-loopback", "every pod's lo is up", Broken, PODS, loopback),
    G::Pods.check("pod-address", "every pod has its addresses", Broken, PLAN_AND_PODS, |evidence| {
        inside(evidence, "pod-address")
    }),
    G::Pods.check(
        "pod-route",
        "every pod has its routes",
        Broken,
        &[Need::Plan, Need::Network, Need::Attachments, Need::Flows],
        route,
    ),
    G::Pods.check("pod-neighbour", "every pod knows its gateway's MAC", Broken, PODS, neighbour),
    G::Pods.check("pod-mtu", "every pod's MTU is that of its port", Warning, PLAN_AND_PODS, mtu),
];

/// What the plan says of the insides of pods, and into which of them nobody could look.
fn inside(evidence: &Evidence, id: &str) -> Verdict {
    let mut findings = planned::verdict(evidence, id)?;
    for pod in evidence.records()?.live() {
        if let Sandbox::Unreadable(why) = &pod.sandbox {
            findings.push(Finding::Unknown { object: pod.words(), why: why.clone() });
        }
    }
    Ok(findings)
}

/// Each live pod for which `judge` finds something wrong inside, past its interface.
fn each_inside(
    evidence: &Evidence,
    judge: impl Fn(&Attachment, &Network, &Link) -> Option<(String, String)>,
) -> Verdict {
    let mut findings = Vec::new();
    for pod in evidence.attachments()?.live() {
        if let Sandbox::Unreadable(why) = &pod.sandbox {
            findings.push(Finding::Unknown { object: pod.words(), why: why.clone() });
            continue;
        }
        let Some((inside, link)) =
            pod.pod().and_then(|inside| Some((inside, inside.link(pod.record.id.if_name.as_str())?)))
        else {
            continue;
        };
        findings
            .extend(judge(pod, inside, link).map(|(found, fix)| Finding::problem(pod.words(), found, fix)));
    }
    Ok(findings)
}

/// A command inside of the pod.
pub(super) fn within(pod: &Attachment, command: &str) -> String {
    match &pod.record.netns {
        Some(path) => format!("nsenter --net={} {command}", typed(path)),
        None => command.to_owned(),
    }
}

fn unfinished(evidence: &Evidence) -> Verdict {
    let begun = evidence.attachments()?.live().filter(|pod| !pod.record.complete);
    let findings = begun.map(|pod| {
        Finding::problem(
            pod.words(),
            "its ADD began and never ended: killed, or the answer did not reach the runtime",
            format!("{RESTART}\nonce its namespace is gone, {RECONCILE} removes what is left of it"),
        )
    });
    Ok(findings.collect())
}

fn host_end<'a>(pod: &Attachment, node: &'a Network) -> Option<&'a Link> {
    node.link(pod.record.attachment()?.port.name.as_str())
}

fn loopback(evidence: &Evidence) -> Verdict {
    each_inside(evidence, |pod, inside, _| {
        let down = inside.link("lo").is_some_and(|lo| !lo.up);
        down.then(|| {
            (
                "its lo is down: what its containers say to themselves at 127.0.0.1 is lost".to_owned(),
                format!("{}\nis there a plugin named loopback?", within(pod, "ip link set lo up")),
            )
        })
    })
}

/// What is missing is in the plan. Plugins behind ours may point the default route elsewhere, so another gateway is only wrong
/// when it is on our interface.
fn route(evidence: &Evidence) -> Verdict {
    let mut findings = planned::findings(evidence, "pod-route")?;
    let elsewhere = each_inside(evidence, |pod, inside, link| {
        // Routes go with the interface and with its addresses.
        let has = inside.addresses_of(link);
        if !link.up || pod.addresses().any(|address| !has.contains(&address)) {
            return None;
        }
        let routes = &pod.record.attachment()?.pod.routes;
        let mut promised = routes.iter().filter(|route| route.is_default() && route.table.is_none());
        promised.find_map(|wanted| {
            let family = Family::of(wanted.dst.ip());
            let defaults = inside.default_routes(family);
            let via = wanted.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
            let version = if family == Family::V4 { "" } else { " -6" };
            let command =
                within(pod, &format!("ip{version} route replace default{via} dev {}", typed(&link.name)));
            let first = defaults.first()?;
            let same = defaults.iter().any(|route| route.gw == wanted.gw || route.index != Some(link.index));
            (!same).then(|| {
                let other = first.gw.map(|gw| gw.to_string()).unwrap_or_default();
                (format!("its default route goes via {other} instead of{via}"), command)
            })
        })
    })?;
    findings.extend(elsewhere);
    let named = |pod: &str| findings.iter().any(|finding| finding.object() == pod);
    let mut hidden = hidden_routes(evidence)?;
    hidden.retain(|finding| !named(finding.object()));
    findings.extend(hidden);
    Ok(findings)
}

/// Its routes are there, and the kernel takes another one.
fn hidden_routes(evidence: &Evidence) -> Verdict {
    let (records, flows) = (evidence.records()?, evidence.flows()?);
    each_inside(evidence, |pod, inside, link| {
        let has = inside.addresses_of(link);
        if !link.up || pod.addresses().any(|address| !has.contains(&address)) {
            return None;
        }
        let own = flows.pods.iter().filter(|flows| std::ptr::eq(&raw const records.all[flows.place], pod));
        own.into_iter().find_map(|flows| hidden_route(pod, inside, link, flows))
    })
}

fn hidden_route(
    pod: &Attachment,
    inside: &Network,
    link: &Link,
    flows: &PodFlows,
) -> Option<(String, String)> {
    let of_family = |route: &&crate::net::Route| {
        route.is_default() && route.table.is_none() && Family::of(route.dst.ip()) == flows.family
    };
    let routes = pod.record.attachment().map(|want| want.pod.routes.as_slice()).unwrap_or_default();
    let default = routes.iter().find(of_family).and_then(|route| route.gw);
    let wrong = |packet: Packet| {
        let (question, way) = flows.way(packet)?;
        let right = match (packet, way) {
            (Packet::InsideGateway, Way::Through { index, gw }) => index == link.index && gw.is_none(),
            // A plugin behind ours may lead the pod out by an interface of its own.
            (_, Way::Through { index, gw }) => index != link.index || gw == default,
            // An address that two have is named as that.
            (_, Way::Local { .. }) => true,
            (_, Way::Refused(_)) => false,
        };
        let asked = packet == Packet::InsideGateway || default.is_some();
        (asked && !right).then_some((question.to, way))
    };
    let asked = [Packet::InsideGateway, Packet::InsideRouter, Packet::InsideOut];
    let (to, way) = asked.into_iter().find_map(wrong)?;
    // By its address a pod is told from the next one of its name.
    let own = flows.ends.pod.address;
    let found = match way {
        Way::Through { index, gw: Some(gw) } => {
            format!(
                "what its {own} sends to {to} goes via {gw} on {}: another route or rule is preferred",
                inside.name_of(index)
            )
        }
        Way::Through { index, gw: None } => {
            format!(
                "its {own} takes {to} for a host on its {}: another route or rule is preferred",
                inside.name_of(index)
            )
        }
        Way::Local { .. } => return None,
        Way::Refused(why) => format!("its {own} has no way to {to}: {why}"),
    };
    let version = if to.is_ipv4() { "" } else { " -6" };
    let better = inside.routes.iter().filter(|route| {
        route.table == MAIN
            && Some(route.index) == Some(way.index())
            && route.dst.contains(to)
            && route.dst.prefix() > 0
    });
    let fix = match (way, better.max_by_key(|route| route.dst.prefix())) {
        (Way::Through { index, .. }, Some(route)) => {
            let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
            let dev = typed(inside.name_of(index));
            within(pod, &format!("ip{version} route del {}{via} dev {dev}", route.dst))
        }
        _ => format!(
            "{RESTART}\nor look what refuses: {}",
            within(pod, &format!("ip{version} route show table all; ip rule show"))
        ),
    };
    Some((found, fix))
}

/// A pod that has learnt, or was given, another MAC for its gateway than the node's. It is the pod that is wrong: with a
/// static entry, by somebody who answers for the gateway, or by one who has its address.
fn neighbour(evidence: &Evidence) -> Verdict {
    let node = &evidence.node()?.network;
    let attachments = evidence.attachments()?;
    let owner = |mac: Mac| {
        let has = |pod: &&Attachment| {
            pod.pod().is_some_and(|inside| inside.links.iter().any(|link| link.mac == Some(mac)))
        };
        attachments.live().find(has).map(Attachment::words)
    };
    each_inside(evidence, |pod, inside, link| {
        let name = pod.gateway_link()?;
        let right = node.link(name.as_str())?.mac?;
        // A bridge that has another MAC than it had is to blame itself, and has a check of its own.
        let want = pod.record.attachment()?;
        if name == want.bridge.name && want.bridge.mac != right {
            return None;
        }
        pod.record.gateways().iter().find_map(|gateway| {
            let known = |entry: &&Neighbour| entry.index == link.index && entry.ip == gateway.ip();
            let entry = inside.neighbours.iter().find(known)?;
            // One that has the gateway's address itself is named for that (`address-duplicate`), and hears itself.
            if inside.addresses.iter().any(|own| own.address.ip() == gateway.ip()) {
                return None;
            }
            let wrong = entry.mac.filter(|mac| *mac != right)?;
            let whose = owner(wrong).map(|owner| format!(", which is that of {owner}")).unwrap_or_default();
            let gateway = gateway.ip();
            let command = within(pod, &format!("ip neigh del {gateway} dev {}", typed(&link.name)));
            Some((
                format!("it knows its gateway {gateway} under {wrong}{whose}; {name} has {right}"),
                format!(
                    "{command}\nif it comes back, somebody answers for the gateway, or it is set by hand in the pod: \
                     tcpdump -e -n -i {} arp",
                    typed(&name)
                ),
            ))
        })
    })
}

/// What was promised to the host end is in the plan.
fn mtu(evidence: &Evidence) -> Verdict {
    let node = &evidence.node()?.network;
    let mut findings = planned::findings(evidence, "pod-mtu")?;
    let inside = each_inside(evidence, |pod, _, link| {
        let wanted = pod.record.attachment()?.pod.mtu;
        let port = host_end(pod, node)?;
        let set = |mtu: u32| within(pod, &format!("ip link set {} mtu {mtu}", typed(&link.name)));
        if let Some(mtu) = wanted {
            let found = format!("the MTU of its {} is {}, promised was {mtu}", link.name, link.mtu);
            return (link.mtu != mtu).then(|| (found, set(mtu)));
        }
        (link.mtu != port.mtu).then(|| {
            let found = format!(
                "the MTU of its {} is {}, that of {} on the node is {}",
                link.name, link.mtu, port.name, port.mtu
            );
            (found, set(port.mtu))
        })
    })?;
    findings.extend(inside);
    Ok(findings)
}
