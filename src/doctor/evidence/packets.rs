//! Questions that are sent over the pods' network: who answers for an address, and whether pods reach their gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use ipnetwork::IpNetwork;

use super::attachments::{Attachment, Attachments};
use super::node::Node;
use crate::datapath::session::Netns;
use crate::datapath::survey::packets::{Carrier, Exchange, Question, Reach, answers_on, exchange, reach};
use crate::host::root::Root;
use crate::net::{Family, IfName, Mac};

#[derive(Clone, Debug, Default)]
pub struct Packets {
    /// By the interface on which it was asked: who answered for which address.
    pub answers: BTreeMap<IfName, BTreeSet<(Ipv4Addr, Mac)>>,
    /// How far each pod gets with each of its gateways; `None` when that was not asked for.
    pub reach: Option<Vec<Reached>>,
    /// Tokens between pods, and between pods and the node.
    pub exchanged: Vec<Exchanged>,
    /// Whether pods get to a router outside that answers the node.
    pub routers: Vec<Reached>,
}

/// A token that was sent, and what came back.
#[derive(Clone, Debug)]
pub struct Exchanged {
    /// `pod default/web-0`; `None` is the node.
    pub from: Option<String>,
    pub to: Option<String>,
    pub address: IpAddr,
    pub carrier: Carrier,
    pub mtu: u32,
    pub reach: Reach,
}

#[derive(Clone, Debug)]
pub struct Reached {
    /// `pod default/web-0`
    pub pod: String,
    pub gateway: IpAddr,
    pub mtu: u32,
    pub reach: Reach,
}

/// `probe`: also ask from inside the pods.
pub fn load(root: &Root, node: &Node, attachments: &Attachments, probe: bool) -> Result<Packets, String> {
    let mut packets = Packets::default();
    for promise in attachments.promises().values() {
        for (name, gateways) in &promise.gateways {
            let Some(link) = node.network.link(name.as_str()).filter(|link| link.up) else { continue };
            let v4 = |address: IpAddr| match address {
                IpAddr::V4(v4) => Some(v4),
                IpAddr::V6(_) => None,
            };
            let mut asked: Vec<Ipv4Addr> = gateways.iter().filter_map(|gateway| v4(gateway.ip())).collect();
            let here = attachments.live().filter(|pod| pod.gateway_link().as_ref() == Some(name));
            asked.extend(
                here.flat_map(|pod| {
                    pod.addresses().filter_map(|address| v4(address.ip())).collect::<Vec<_>>()
                }),
            );
            if !asked.is_empty() {
                let answers = answers_on(link, &asked).map_err(|error| error.to_string())?;
                packets.answers.insert(name.clone(), answers);
            }
        }
    }
    if probe {
        packets.reach = Some(ask_from_pods(root, attachments));
        let here = Netns::current().map_err(|error| error.to_string())?;
        let pods = open_pods(root, node, attachments);
        packets.exchanged = tokens(&here, &pods);
        packets.routers = ask_routers(node, &here, &pods);
    }
    Ok(packets)
}

/// From every pod whose interface is up and has its address: what else is wrong is said by others.
fn ask_from_pods(root: &Root, attachments: &Attachments) -> Vec<Reached> {
    let mut asking: Vec<(&Attachment, Netns, IpAddr, u32)> = Vec::new();
    for pod in attachments.live() {
        let link = pod.pod().and_then(|inside| inside.link(pod.record.id.if_name.as_str()));
        let Some(link) = link.filter(|link| link.up) else { continue };
        for address in pod.addresses() {
            let has = pod.pod().is_some_and(|inside| inside.addresses_of(link).contains(&address));
            let gateway = pod.record.attachment().and_then(|want| want.gateway_of(address));
            let Some(gateway) = gateway.filter(|_| has) else { continue };
            let path = pod.record.netns.as_deref().and_then(|path| root.locate(Path::new(path)).ok());
            if let Some(Ok(netns)) = path.map(|path| Netns::open(&path.to_string_lossy())) {
                asking.push((pod, netns, gateway, link.mtu));
            }
        }
    }
    let questions: Vec<_> = asking
        .iter()
        .map(|(_, netns, gateway, mtu)| Question { netns, gateway: *gateway, mtu: *mtu })
        .collect();
    let answers = reach(&questions);
    let reached = asking.iter().zip(answers).map(|((pod, _, gateway, mtu), reach)| Reached {
        pod: pod.words(),
        gateway: *gateway,
        mtu: *mtu,
        reach,
    });
    reached.collect()
}

/// A pod whose address is where it should be, with its namespace open.
struct OpenPod<'a> {
    pod: &'a Attachment,
    netns: Netns,
    address: IpAddr,
    /// The node's address for it, where it has that.
    node: Option<IpAddr>,
    mtu: u32,
}

/// What else is wrong with a pod is said by others.
fn open_pods<'a>(root: &Root, node: &Node, attachments: &'a Attachments) -> Vec<OpenPod<'a>> {
    let mut open = Vec::new();
    for pod in attachments.live() {
        let Some((inside, link)) =
            pod.pod().and_then(|inside| Some((inside, inside.link(pod.record.id.if_name.as_str())?)))
        else {
            continue;
        };
        let has = inside.addresses_of(link);
        for address in pod.addresses().filter(|address| link.up && has.contains(address)) {
            let path = pod.record.netns.as_deref().and_then(|path| root.locate(Path::new(path)).ok());
            let Some(Ok(netns)) = path.map(|path| Netns::open(&path.to_string_lossy())) else { continue };
            let family = Family::of(address.ip());
            let gateways = pod.record.gateways().iter().map(IpNetwork::ip);
            let usable = |own: &IpAddr| {
                node.network
                    .addresses
                    .iter()
                    .any(|has| has.address.ip() == *own && !has.tentative && !has.dad_failed)
            };
            let gateway = gateways.into_iter().find(|own| Family::of(*own) == family).filter(usable);
            open.push(OpenPod { pod, netns, address: address.ip(), node: gateway, mtu: link.mtu });
        }
    }
    open
}

/// Each pod with the next one that it may talk to, and with the node, both ways.
fn tokens(here: &Netns, pods: &[OpenPod<'_>]) -> Vec<Exchanged> {
    let mut asked: Vec<(Option<&OpenPod<'_>>, Option<&OpenPod<'_>>, Exchange<'_>)> = Vec::new();
    for (at, pod) in pods.iter().enumerate() {
        for carrier in [Carrier::Tcp, Carrier::Udp] {
            if let Some(address) = pod.node {
                let to = Exchange { from: &pod.netns, to: here, address, mtu: pod.mtu, carrier };
                let from =
                    Exchange { from: here, to: &pod.netns, address: pod.address, mtu: pod.mtu, carrier };
                asked.push((Some(pod), None, to));
                asked.push((None, Some(pod), from));
            }
            let later = pods[at + 1..].iter().chain(&pods[..at]);
            if let Some(other) = later.into_iter().find(|other| may_talk(pod, other)) {
                let mtu = pod.mtu.min(other.mtu);
                let to =
                    Exchange { from: &pod.netns, to: &other.netns, address: other.address, mtu, carrier };
                asked.push((Some(pod), Some(other), to));
            }
        }
    }
    let (ends, exchanges): (Vec<_>, Vec<_>) =
        asked.into_iter().map(|(from, to, exchange)| ((from, to), exchange)).unzip();
    let answers = exchange(&exchanges);
    let words = |pod: Option<&OpenPod<'_>>| pod.map(|pod| pod.pod.words());
    let results =
        ends.into_iter().zip(&exchanges).zip(answers).map(|(((from, to), asked), reach)| Exchanged {
            from: words(from),
            to: words(to),
            address: asked.address,
            carrier: asked.carrier,
            mtu: asked.mtu,
            reach,
        });
    results.collect()
}

fn may_talk(one: &OpenPod<'_>, other: &OpenPod<'_>) -> bool {
    let (Some(own), Some(theirs)) = (one.pod.record.attachment(), other.pod.record.attachment()) else {
        return false;
    };
    Family::of(one.address) == Family::of(other.address) && own.may_reach(theirs)
}

/// Many routers answer nobody: only one that answers the node can be missed.
fn ask_routers(node: &Node, here: &Netns, pods: &[OpenPod<'_>]) -> Vec<Reached> {
    let mut found = Vec::new();
    for family in Family::BOTH {
        let defaults = node.network.default_routes(family);
        let Some((router, link)) = defaults.first().and_then(|route| Some((route.gw?, route.index?))) else {
            continue;
        };
        // One of the link alone no pod can name.
        let is_far = |router: IpAddr| match router {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        };
        let asking: Vec<_> =
            pods.iter().filter(|pod| pod.node.is_some() && Family::of(pod.address) == family).collect();
        if Family::of(router) != family || !is_far(router) || asking.is_empty() {
            continue;
        }
        let uplink = node.network.by_index(link).map_or(u32::MAX, |link| link.mtu);
        let mtu = |pod: &OpenPod<'_>| pod.mtu.min(uplink);
        let questions = std::iter::once(Question { netns: here, gateway: router, mtu: uplink })
            .chain(asking.iter().map(|pod| Question { netns: &pod.netns, gateway: router, mtu: mtu(pod) }));
        let mut answers = reach(&questions.collect::<Vec<_>>()).into_iter();
        let Some(own) = answers.next().filter(|own| matches!(own, Reach::Whole | Reach::Small)) else {
            continue;
        };
        found.extend(asking.iter().zip(answers).map(|(pod, reach)| Reached {
            pod: pod.pod.words(),
            gateway: router,
            mtu: mtu(pod),
            // What the router does not answer to the node says nothing about the pod.
            reach: if own == Reach::Small && reach == Reach::Small { Reach::Whole } else { reach },
        }));
    }
    found
}
