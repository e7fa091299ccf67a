//! Every pod that is attached: its port on the node, and what it has inside.
//!
//! In the order in which one thing hangs on the other. A pod whose port is missing is not told that it is down as well.

use ipnetwork::IpNetwork;

use super::RECONCILE;
use crate::datapath::survey::packets::Reach;
use crate::datapath::survey::{Link, Network};
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::{Attachment, Sandbox};
use crate::doctor::evidence::packets::Reached;
use crate::net::Family;

use Severity::{Broken, Warning};

const PODS: &[Need] = &[Need::Network, Need::Attachments];

pub(super) const CHECKS: &[Check] = &[
    G::Pods.check("pod-namespace", "every attached pod has its network namespace", Warning, PODS, namespace),
    G::Pods.check("pod-unfinished", "no attachment was left half way", Warning, PODS, unfinished),
    G::Pods.check("pod-port", "every pod's interface on the node is there", Broken, PODS, port),
    G::Pods.check("pod-port-detached", "every pod's port is on its bridge", Broken, PODS, detached),
    G::Pods.check("pod-port-down", "every pod's port is up", Broken, PODS, port_down),
    G::Pods.check("pod-interface", "every pod has its interface", Broken, PODS, interface),
    G::Pods.check("pod-interface-down", "every pod's interface is up", Broken, PODS, interface_down),
    G::Pods.check("pod-loopback", "every pod's lo is up", Broken, PODS, loopback),
    G::Pods.check("pod-address", "every pod has its addresses", Broken, PODS, address),
    G::Pods.check("pod-route", "every pod has its default route", Broken, PODS, route),
    G::Pods.check("pod-mtu", "every pod's MTU is that of its port", Warning, PODS, mtu),
    G::Pods.check(
        "pod-gateway",
        "every pod reaches its gateway",
        Broken,
        &[Need::Attachments, Need::Packets],
        gateway,
    ),
];

const RESTART: &str = "restart the pod: kubectl delete pod, or crictl rmp -f";

/// Each live pod for which `judge` finds something wrong.
fn each(evidence: &Evidence, judge: impl Fn(&Attachment, &Network) -> Option<(String, String)>) -> Verdict {
    let node = &evidence.node()?.network;
    let mut findings = Vec::new();
    for pod in evidence.attachments()?.live() {
        findings.extend(judge(pod, node).map(|(found, fix)| Finding::problem(pod.words(), found, fix)));
    }
    Ok(findings)
}

/// As [`each`], for what is inside of the pod, past its interface.
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
            pod.pod().and_then(|inside| Some((inside, inside.link(pod.record.if_name.as_str())?)))
        else {
            continue;
        };
        findings
            .extend(judge(pod, inside, link).map(|(found, fix)| Finding::problem(pod.words(), found, fix)));
    }
    Ok(findings)
}

/// A command inside of the pod.
fn within(pod: &Attachment, command: &str) -> String {
    match &pod.record.netns {
        Some(path) => format!("nsenter --net={path} {command}"),
        None => command.to_owned(),
    }
}

fn namespace(evidence: &Evidence) -> Verdict {
    let gone = evidence.records()?.all.iter().filter(|pod| !pod.is_live());
    let findings = gone.map(|pod| {
        let path = pod.record.netns.as_deref().unwrap_or_default();
        Finding::problem(
            pod.words(),
            format!("its network namespace {path} is gone, and the runtime never sent DEL"),
            format!("{RECONCILE}\nremoves what is left of it"),
        )
    });
    Ok(findings.collect())
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
    node.link(pod.record.promised.host_if.as_ref()?.as_str())
}

fn port(evidence: &Evidence) -> Verdict {
    each(evidence, |pod, node| {
        let name = pod.record.promised.host_if.as_ref()?;
        let Some(host) = host_end(pod, node) else {
            return Some((format!("its interface {name} on the node is missing"), RECONCILE.to_owned()));
        };
        // The two ends name each other's index.
        let inside = pod.pod()?.link(pod.record.if_name.as_str())?;
        let pair = host.peer == Some(inside.index) && inside.peer == Some(host.index);
        (!pair).then(|| {
            (
                format!("{name} and its {} are not the two ends of one pair", pod.record.if_name),
                RESTART.to_owned(),
            )
        })
    })
}

fn detached(evidence: &Evidence) -> Verdict {
    each(evidence, |pod, node| {
        let bridge_name = pod.record.promised.bridge.as_ref()?;
        let host = host_end(pod, node)?;
        // A bridge that is missing or none has a check of its own.
        let bridge = node.link(bridge_name.as_str()).filter(|link| link.kind.as_deref() == Some("bridge"))?;
        let name = &host.name;
        (host.master != Some(bridge.index)).then(|| {
            let elsewhere =
                host.master.map(|index| format!(", but of {}", node.name_of(index))).unwrap_or_default();
            (
                format!(
                    "{name} is not a port of {bridge_name}{elsewhere}: a network manager or a restart of the \
                     network took it out"
                ),
                RECONCILE.to_owned(),
            )
        })
    })
}

fn port_down(evidence: &Evidence) -> Verdict {
    each(evidence, |pod, node| {
        let host = host_end(pod, node).filter(|host| !host.up)?;
        Some((format!("{} is down", host.name), RECONCILE.to_owned()))
    })
}

fn interface(evidence: &Evidence) -> Verdict {
    each(evidence, |pod, node| {
        let inside = pod.pod()?;
        let name = &pod.record.if_name;
        if inside.link(name.as_str()).is_some() {
            return None;
        }
        // Without the host end the other one is gone with it.
        let host = host_end(pod, node)?;
        let renamed =
            inside.links.iter().find(|link| link.peer == Some(host.index) && host.peer == Some(link.index));
        Some(match renamed {
            Some(link) => {
                (format!("its interface {name} was renamed to {}", link.name), RECONCILE.to_owned())
            }
            None => (format!("it has no interface {name}"), RESTART.to_owned()),
        })
    })
}

fn interface_down(evidence: &Evidence) -> Verdict {
    each_inside(evidence, |pod, _, link| {
        let wanted = !pod.record.promised.flags.container_interface_disabled;
        (wanted && !link.up).then(|| (format!("its {} is down", link.name), RECONCILE.to_owned()))
    })
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

fn address(evidence: &Evidence) -> Verdict {
    each_inside(evidence, |pod, inside, link| {
        let has = inside.addresses_of(link);
        let missing = pod.addresses().find(|address| !has.contains(address))?;
        let instead: Vec<_> = has
            .iter()
            .filter(|other| Family::of(other.ip()) == Family::of(missing.ip()) && !is_link_local(**other))
            .map(ToString::to_string)
            .collect();
        let instead =
            if instead.is_empty() { String::new() } else { format!(", but {}", instead.join(", ")) };
        Some((format!("its {} does not have {missing}{instead}", link.name), RECONCILE.to_owned()))
    })
}

fn is_link_local(address: IpNetwork) -> bool {
    matches!(address, IpNetwork::V6(v6) if v6.ip().is_unicast_link_local())
}

/// Default routes only: others may be changed by plugins behind ours. They may also point the default route elsewhere, so
/// another gateway is only wrong when it is on our interface.
fn route(evidence: &Evidence) -> Verdict {
    each_inside(evidence, |pod, inside, link| {
        // Routes go with the interface and with its addresses.
        let has = inside.addresses_of(link);
        if !link.up || pod.addresses().any(|address| !has.contains(&address)) {
            return None;
        }
        let promised =
            pod.record.promised.routes.iter().filter(|route| route.is_default() && route.table.is_none());
        promised.into_iter().find_map(|wanted| {
            let family = Family::of(wanted.dst.ip());
            let defaults = inside.default_routes(family);
            let via = wanted.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
            let version = if family == Family::V4 { "" } else { " -6" };
            let command = within(pod, &format!("ip{version} route replace default{via} dev {}", link.name));
            let Some(first) = defaults.first() else {
                return Some((format!("its default route{via} is missing"), RECONCILE.to_owned()));
            };
            let same = defaults.iter().any(|route| route.gw == wanted.gw || route.index != Some(link.index));
            (!same).then(|| {
                let other = first.gw.map(|gw| gw.to_string()).unwrap_or_default();
                (format!("its default route goes via {other} instead of{via}"), command)
            })
        })
    })
}

fn gateway(evidence: &Evidence) -> Verdict {
    evidence.attachments()?;
    let Some(reached) = &evidence.packets()?.reach else {
        return Err(Pass::skipped("packets are sent from pods only with --probe"));
    };
    let mut findings = Vec::new();
    for Reached { pod, gateway, mtu, reach } in reached {
        let (found, fix) = match reach {
            Reach::Whole => continue,
            Reach::Refused(why) => {
                findings.push(Finding::Unknown { object: pod.clone(), why: why.clone() });
                continue;
            }
            Reach::Small => (
                format!("its gateway {gateway} answers small packets, and none of {mtu} bytes"),
                "compare the MTUs of the pod, its port and the bridge (ip link)".to_owned(),
            ),
            Reach::Nothing => (
                format!("its gateway {gateway} does not answer"),
                "if nothing else is named above: a rule in the bridge or netdev family may drop its frames, nft \
                 list ruleset"
                    .to_owned(),
            ),
        };
        findings.push(Finding::problem(pod.clone(), found, fix));
    }
    Ok(findings)
}

fn mtu(evidence: &Evidence) -> Verdict {
    let node = &evidence.node()?.network;
    each_inside(evidence, |pod, _, link| {
        let wanted = pod.record.promised.mtu;
        let port = host_end(pod, node)?;
        let set = |mtu: u32| within(pod, &format!("ip link set {} mtu {mtu}", link.name));
        if let Some(mtu) = wanted.filter(|mtu| link.mtu != *mtu) {
            return Some((
                format!("the MTU of its {} is {}, promised was {mtu}", link.name, link.mtu),
                set(mtu),
            ));
        }
        (link.mtu != port.mtu).then(|| {
            let found = format!(
                "the MTU of its {} is {}, that of {} on the node is {}",
                link.name, link.mtu, port.name, port.mtu
            );
            (found, set(port.mtu))
        })
    })
}
