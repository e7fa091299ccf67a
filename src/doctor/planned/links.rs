//! What a missing link, address, route or rule means.

use ipnetwork::IpNetwork;

use super::{Fault, table, who};
use crate::datapath::mark::{BridgeMark, host_veth};
use crate::datapath::step::{FilterStep, PodStep, Step};
use crate::doctor::checks::RECONCILE;
use crate::net::{Family, IfName, Route};
use crate::reconcile::Subject;

/// The names that a host end may have: the first is free nearly always.
const NAMES: u32 = 8;

/// Whether the link is the host end of the subject, by the name that only this attachment derives.
pub(super) fn is_host_end(link: &IfName, subject: &Subject) -> bool {
    let Subject::Attachment { id, .. } = subject else { return false };
    (0..NAMES).any(|attempt| host_veth(id, attempt) == *link)
}

fn bridge(name: &IfName) -> String {
    format!("bridge {name}")
}

/// What a step of a repair says is wrong. Steps that only matter while something changes say nothing.
#[expect(clippy::too_many_lines, reason = "one arm for each kind of step, so that none is forgotten")]
pub(super) fn explain(step: &Step, subject: &Subject, gone: &[Family], faults: &mut Vec<Fault>) {
    let pod = || who(subject);
    let incomplete = |family: Family, found: String| {
        Fault::new("table-incomplete", table(family), found).in_table(family, gone)
    };
    faults.push(match step {
        Step::Pod(PodStep::Settle { .. } | PodStep::Announce { .. })
        | Step::AwaitPort { .. }
        | Step::ForgetNeighbour { .. }
        | Step::ForgetConnections { .. }
        | Step::ForgetUnmasqueraded { .. } => return,
        Step::SetPort { link, hairpin, isolated } => {
            faults.extend(hairpin.map(|wanted| self::hairpin(link, wanted, subject)));
            faults.extend(isolated.map(|wanted| self::isolated(link, wanted, subject)));
            return;
        }
        Step::CreateBridge { name, .. } => {
            Fault::new("bridge-missing", bridge(name), "there is no such link, and running pods hang on it")
                .with_fix(format!("{RECONCILE}\nmakes it anew, and puts the pods back on it"))
        }
        Step::Mark { link, alias } => {
            let object = if BridgeMark::parse(alias).is_some() { bridge(link) } else { pod() };
            Fault::new(
                "mark-missing",
                object,
                format!(
                    "{link} does not carry the mark that says whose it is (ip link show {link}, \"alias\"): without the \
                     record nobody would know"
                ),
            )
        }
        Step::FixMac { link, mac } => Fault::new(
            "bridge-mac",
            bridge(link),
            format!("its MAC is not {mac}, by which its pods know their gateway: they reach nobody until they ask again"),
        )
        .with_fix(format!(
            "{RECONCILE}\nwhoever changes MACs of bridges (a network manager, MACAddressPolicy= of systemd.link) must leave \
             this one alone"
        )),
        Step::Promiscuous { link } => {
            Fault::new("bridge-promiscuous", bridge(link), "it is not promiscuous, and that was promised")
        }
        Step::RefuseAdvertisements { link } => Fault::new(
            "bridge-advertisements",
            bridge(link),
            format!("net.ipv6.conf.{link}.accept_ra is on: any pod can give the node a default route"),
        ),
        Step::CreateVlanGateway { name, .. } => Fault::new(
            "bridge-gateway",
            bridge(name),
            "the interface that has the gateway address of a VLAN is missing",
        ),
        Step::AddAddress { link, address } => Fault::new(
            "bridge-gateway",
            bridge(link),
            format!("the gateway address {address} is missing: pods reach nothing beyond their subnet"),
        ),
        Step::NameServerAddress { link, address } => Fault::new(
            "dns-address",
            bridge(link),
            format!("the address {address} is missing, at which pods ask the node's name server"),
        ),
        Step::Filter(FilterStep::NameServerRules { link, .. }) => incomplete(
            Family::V4,
            format!(
                "chains dns_prerouting and dns_output are missing, of another version or do not know {link}: a pod with host \
                 port 53 may get what is asked of the node's name server"
            ),
        ),
        Step::Filter(FilterStep::GuardNameServer { address, .. }) => Fault::new(
            "dns-guard",
            "table arp smarter-cni",
            format!("neighbours elsewhere are told that {address} is here: the rule is missing, or of another version"),
        ),
        Step::Filter(FilterStep::ReleaseNameServer { address, .. }) => Fault::new(
            "rules-leftover",
            table(Family::V4),
            format!("what is for {address} is dropped, and that address is somebody else's here"),
        ),
        Step::Filter(FilterStep::InterceptNames { link, .. }) => Fault::new(
            "dns-intercept",
            bridge(link),
            "what its pods ask of other name servers is not led to the node's, and that was promised",
        ),
        Step::Filter(FilterStep::LeadNameServer { address, port }) => Fault::new(
            "dns-lead",
            format!("address {address}"),
            match port {
                Some(port) => format!("its name server is at port {port}, because somebody else has port 53, and questions are not led there"),
                None => "questions are led to a port at which no name server is any more".to_owned(),
            },
        ),
        Step::Up { link } if is_host_end(link, subject) => {
            Fault::new("pod-port-down", pod(), format!("its interface {link} on the node is down"))
        }
        Step::Up { link } => Fault::new("bridge-down", bridge(link), "it is down: no packet passes"),
        Step::RemoveAddress { link, address } if is_host_end(link, subject) => Fault::new(
            "port-foreign",
            pod(),
            format!("{link} is a port of the bridge, and somebody gave it the address {address}"),
        ),
        Step::RemoveAddress { link, address } => Fault::new(
            "bridge-foreign-address",
            bridge(link),
            format!("it has {address}, the gateway of an earlier configuration"),
        ),
        Step::RemoveRoute { link, route } => Fault::new(
            "port-foreign",
            pod(),
            format!(
                "somebody made a route through {link}, which is a port of the bridge and leads nowhere: {}",
                route_words(route)
            ),
        ),
        Step::Rename { link, name } => Fault::new(
            "pod-port",
            pod(),
            format!("its interface {name} on the node was renamed to {link}"),
        ),
        Step::RemoveLink { link } => Fault::new(
            "pod-interface",
            pod(),
            format!("{link} on the node leads to no interface of the promised name inside: it was renamed, or replaced"),
        ),
        Step::CreateVeth { host, .. } => {
            Fault::new("pod-port", pod(), format!("its interface {host} on the node is missing"))
        }
        Step::Join { link, bridge } if is_host_end(link, subject) => Fault::new(
            "pod-port-detached",
            pod(),
            format!(
                "{link} is not a port of {bridge}: a network manager or a restart of the network took it out"
            ),
        ),
        Step::Join { link, bridge: of } => Fault::new(
            "bridge-gateway",
            bridge(of),
            format!("{link}, which leads to the gateway of a VLAN, is not a port of it"),
        ),
        Step::RemoveVlan { link, vlan } => {
            vlans(link, subject, format!("{link} is in VLAN {vlan}, which was not promised"))
        }
        Step::AddVlan { link, vlan, .. } => {
            vlans(link, subject, format!("{link} is not in VLAN {vlan} as it was promised"))
        }
        Step::SetMtu { link, mtu } => {
            Fault::new("pod-mtu", pod(), format!("the MTU of {link} on the node is not the promised {mtu}"))
        }
        Step::SpoofRule => Fault::new(
            "spoof-check-missing",
            "table bridge smarter-cni",
            "the rule is missing, or of another version, that drops forged source addresses",
        ),
        Step::SpoofCheck { port, mac, .. } => {
            let mac = mac.map(|mac| format!(" {mac}")).unwrap_or_default();
            let found = format!("frames that come in through {port} are not checked for their source address{mac}");
            Fault::new("spoof-check-missing", who(subject), found)
        }
        Step::RemoveSpoofCheck { port } => Fault::new(
            "rules-leftover",
            "table bridge smarter-cni",
            format!("{port} is checked, and nobody was promised that"),
        ),
        Step::Forward(family) => {
            let key = forwarding_key(*family);
            Fault::new("forwarding", format!("sysctl {key}"), format!("{key} is 0: pods reach nothing beyond the node"))
        }
        Step::Masquerade { network, subnet } => Fault::new(
            "masquerade-missing",
            format!("range {subnet}"),
            format!("the rule that masquerades network {network} is missing: answers to its pods do not come back"),
        )
        .in_table(family_of(*subnet), gone),
        Step::Filter(FilterStep::GuardForward { family, .. }) => incomplete(
            *family,
            "chain forward_guard, which keeps what comes in by one uplink from leaving by another, is missing, of another \
             version or does not know today's uplinks"
                .to_owned(),
        ),
        Step::Filter(FilterStep::ClampMss { family, interface }) => incomplete(
            *family,
            format!(
                "chain mss_clamp, which keeps TCP segments to what the route carries, is missing, of another version or \
                 does not know {interface}"
            ),
        ),
        Step::Filter(FilterStep::KeepAdvertisements { link }) => Fault::new(
            "ipv6-router",
            format!("interface {link}"),
            "it takes router advertisements only as long as the node does not forward",
        ),
        Step::Filter(FilterStep::AcceptForward { chain, traffic, .. }) => Fault::new(
            "forward-drop",
            format!("chain {chain}"),
            format!("it drops what is forwarded, and nothing in the right place accepts the packets of {}", traffic.interface),
        ),
        Step::Filter(FilterStep::AcceptLegacy { family, traffic, .. }) => Fault::new(
            "forward-drop",
            format!("chain FORWARD of {}", crate::datapath::firewall::legacy::program(*family)),
            format!("it drops what is forwarded, and nothing in the right place accepts the packets of {}", traffic.interface),
        ),
        Step::Pod(PodStep::Address { link, address }) => {
            Fault::new("pod-address", pod(), format!("its {link} does not have {address}"))
        }
        Step::Pod(PodStep::Sysctl { key, .. }) => {
            Fault::new("pod-address", pod(), format!("{} is not as its addresses need it", key.replace('/', ".")))
        }
        Step::Pod(PodStep::ArpNotify { link }) => {
            Fault::new("pod-address", pod(), format!("net.ipv4.conf.{link}.arp_notify is not as its addresses need it"))
        }
        Step::Pod(PodStep::Up { link }) => {
            Fault::new("pod-interface-down", pod(), format!("its {link} is down"))
        }
        Step::Pod(PodStep::Route { link, route }) if route.is_default() => Fault::new(
            "pod-route",
            pod(),
            format!("its default route through {link} is missing: {}", route_words(route)),
        ),
        Step::Pod(PodStep::Route { link, route }) => {
            Fault::new("pod-route", pod(), format!("its route through {link} is missing: {}", route_words(route)))
        }
        Step::Pod(PodStep::RemoveLink { link }) => {
            Fault::new("pod-interface", pod(), format!("its {link} is of an attachment that is gone"))
        }
    });
}

fn vlans(link: &IfName, subject: &Subject, found: String) -> Fault {
    if is_host_end(link, subject) {
        Fault::new("port-vlan", who(subject), found)
    } else {
        Fault::new("bridge-gateway", bridge(link), found)
    }
}

fn hairpin(link: &IfName, wanted: bool, subject: &Subject) -> Fault {
    let found = if wanted {
        format!("hairpin mode of its port {link} is off: it does not reach itself through a host port")
    } else {
        format!("hairpin mode of its port {link} is on, and was not promised: its broadcasts come back to it")
    };
    Fault::new("port-hairpin", who(subject), found)
}

fn isolated(link: &IfName, wanted: bool, subject: &Subject) -> Fault {
    let found = if wanted {
        format!("its port {link} is not isolated: other isolated pods reach it")
    } else {
        format!(
            "its port {link} is isolated, and that was not promised: it does not reach other isolated pods"
        )
    };
    Fault::new("port-isolation", who(subject), found)
}

fn family_of(subnet: IpNetwork) -> Family {
    Family::of(subnet.ip())
}

pub(super) fn forwarding_key(family: Family) -> &'static str {
    match family {
        Family::V4 => "net.ipv4.ip_forward",
        Family::V6 => "net.ipv6.conf.all.forwarding",
    }
}

/// As `ip route` shows it, without the link.
fn route_words(route: &Route) -> String {
    let dst = if route.is_default() { "default".to_owned() } else { route.dst.to_string() };
    let via = route.gw.map(|gw| format!(" via {gw}")).unwrap_or_default();
    let table = route.table.filter(|table| *table != 254).map(|table| format!(" table {table}"));
    format!("{dst}{via}{}", table.unwrap_or_default())
}
