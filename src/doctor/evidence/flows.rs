//! What becomes of pods' packets on the node: the rules of others on their way, and what the kernel answers when it is asked
//! for their routes, as packets ask: with source, interface and mark. Observes; what should be is for the checks.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnetwork::IpNetwork;

use super::attachments::{Attachment, Attachments};
use super::node::Node;
use crate::datapath::firewall::flows::{Base, Ends, Flow, Pod, Travel, alike, travel};
use crate::datapath::session::Netns;
use crate::datapath::survey::ruleset::{Ruleset, legacy_bases};
use crate::datapath::survey::{Question, Way, look_up};
use crate::host::root::Root;
use crate::net::{Family, IfName};

/// Addresses beyond the node's own networks. Nothing is sent to them: the kernel is asked for its route.
const OUTSIDE_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(9, 9, 9, 9), Ipv4Addr::new(198, 51, 100, 1)];
const OUTSIDE_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111),
    Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe),
];

#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// Chains of others on every hook.
    pub bases: Vec<Base>,
    /// Listings of old tables that could not be had: program and table, and why.
    pub unread: Vec<(Family, String, String)>,
    /// Somewhere outside, by family, and the link by which the node goes there.
    pub outside: BTreeMap<Family, Outside>,
    /// One for each address of each live pod.
    pub pods: Vec<PodFlows>,
    /// Pods, by their place in `pods`, that no rule tells apart, and how their packets fare.
    pub groups: Vec<(Vec<usize>, Travel)>,
}

#[derive(Clone, Debug)]
pub struct Outside {
    pub address: IpAddr,
    pub link: u32,
    /// By which router, where it is one that pods can name.
    pub router: Option<IpAddr>,
}

#[derive(Clone, Debug)]
pub struct PodFlows {
    /// `pod default/web-0`
    pub words: String,
    /// In the records.
    pub place: usize,
    pub family: Family,
    pub ends: Ends,
    pub asked: Vec<(Packet, Question, Way)>,
}

/// Whose route was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// From the pod to outside.
    Out,
    /// From outside to the pod.
    In,
    /// From the pod to its gateway.
    ToNode,
    /// From the node to the pod, before and after the node has chosen its own address.
    FromNode,
    FromGateway,
    /// In the pod's own namespace.
    InsideOut,
    InsideGateway,
    /// To the node's own router.
    InsideRouter,
}

impl PodFlows {
    pub fn way(&self, packet: Packet) -> Option<(&Question, Way)> {
        self.asked.iter().find(|(asked, ..)| *asked == packet).map(|(_, question, way)| (question, *way))
    }
}

impl Flows {
    pub fn outside_of(&self, family: Family) -> Option<&Outside> {
        self.outside.get(&family)
    }
}

pub fn load(
    root: &Root,
    node: &Node,
    filter: Option<&Ruleset>,
    attachments: &Attachments,
) -> Result<Flows, String> {
    let mut found = Flows::default();
    let inside: Vec<IfName> =
        attachments.promises().into_values().flat_map(|promise| promise.gateways.into_keys()).collect();
    for family in Family::BOTH {
        found.outside.extend(outside(node, family, &inside)?.map(|outside| (family, outside)));
    }
    for (place, pod) in attachments.all.iter().enumerate().filter(|(_, pod)| pod.is_live()) {
        for address in pod.addresses() {
            let family = Family::of(address.ip());
            let Some(ends) = ends(node, attachments, pod, address.ip(), found.outside_of(family)) else {
                continue;
            };
            found.pods.push(PodFlows { words: pod.words(), place, family, ends, asked: Vec::new() });
        }
    }
    found.read_rules(node, filter);
    found.follow();
    found.ask(root, node, attachments)?;
    Ok(found)
}

/// An address that is reached by the node through something else than a network of ours.
fn outside(node: &Node, family: Family, inside: &[IfName]) -> Result<Option<Outside>, String> {
    let candidates: Vec<IpAddr> = match family {
        Family::V4 => OUTSIDE_V4.map(IpAddr::from).to_vec(),
        Family::V6 if !node.has_ipv6() => return Ok(None),
        Family::V6 => OUTSIDE_V6.map(IpAddr::from).to_vec(),
    };
    let questions: Vec<_> = candidates.iter().map(|to| Question::to(*to)).collect();
    let ways = look_up(None, &questions).map_err(|error| error.to_string())?;
    let ours = |index: u32| {
        node.network.by_index(index).is_some_and(|link| inside.iter().any(|own| own.as_str() == link.name))
    };
    let there = candidates.into_iter().zip(ways).find_map(|(address, way)| {
        let Way::Through { index, gw } = way else { return None };
        let router = gw.filter(|gw| !matches!(gw, IpAddr::V6(v6) if v6.is_unicast_link_local()));
        (!ours(index)).then_some(Outside { address, link: index, router })
    });
    Ok(there)
}

fn ends(
    node: &Node,
    attachments: &Attachments,
    pod: &Attachment,
    address: IpAddr,
    outside: Option<&Outside>,
) -> Option<Ends> {
    let want = pod.record.attachment()?;
    let (bridge, port) = (want.bridge.name.clone(), want.port.name.clone());
    let family = Family::of(address);
    let name_server = want.gateway.as_ref().and_then(|gateway| gateway.dns).filter(|_| address.is_ipv4());
    let here = |gateway: &&IpNetwork| Family::of(gateway.ip()) == family;
    let gateway_address = pod.record.gateways().iter().find(here).map(IpNetwork::ip);
    let switch = match family {
        Family::V4 => "net/bridge/bridge-nf-call-iptables",
        Family::V6 => "net/bridge/bridge-nf-call-ip6tables",
    };
    let uplink = outside.and_then(|outside| node.network.name_of(outside.link).parse().ok());
    Some(Ends {
        sibling: sibling(attachments, pod, family),
        name_server: name_server.map(IpAddr::V4),
        led_to: name_server.and_then(|address| node.led.get(&address).copied()),
        gateway: pod.gateway_link().unwrap_or_else(|| bridge.clone()),
        uplink: uplink.filter(|_| gateway_address.is_some()),
        gateway_address,
        bridged: node.switch(switch) == Some("1"),
        host_ports: attachments.ports().iter().any(|mapping| mapping.pod == address),
        pod: Pod { address, port },
        bridge,
    })
}

/// The next pod on the same bridge that this one may talk to.
fn sibling(attachments: &Attachments, pod: &Attachment, family: Family) -> Option<Pod> {
    let own = pod.record.attachment()?;
    let others: Vec<_> = attachments
        .live()
        .filter_map(|other| Some((other, other.record.attachment()?)))
        .filter(|(_, want)| own.may_reach(want))
        .collect();
    let next = others.iter().find(|(_, want)| want.port.name > own.port.name);
    let (other, want) = next.or(others.first())?;
    let address = other.addresses().find(|address| Family::of(address.ip()) == family)?.ip();
    Some(Pod { address, port: want.port.name.clone() })
}

impl Flows {
    fn read_rules(&mut self, node: &Node, filter: Option<&Ruleset>) {
        let mut interfaces: Vec<IfName> = Vec::new();
        for PodFlows { ends, .. } in &self.pods {
            interfaces.extend([&ends.pod.port, &ends.bridge, &ends.gateway].map(Clone::clone));
            interfaces.extend(ends.uplink.clone());
        }
        interfaces.sort_unstable();
        interfaces.dedup();
        if let Some(filter) = filter {
            self.bases = filter.bases(&node.network, &interfaces);
        }
        for old in &node.legacy_listings {
            match &old.listing {
                Ok(listing) => self.bases.extend(legacy_bases(old.family, &old.table, listing)),
                Err(why) => self.unread.push((old.family, old.table.clone(), why.clone())),
            }
        }
    }

    fn follow(&mut self) {
        for family in Family::BOTH {
            let places: Vec<_> = (0..self.pods.len()).filter(|at| self.pods[*at].family == family).collect();
            let ends: Vec<_> = places.iter().map(|at| self.pods[*at].ends.clone()).collect();
            for members in alike(&self.bases, &ends) {
                let Some(first) = members.first() else { continue };
                let travel = travel(&self.bases, &ends[*first]);
                self.groups.push((members.iter().map(|at| places[*at]).collect(), travel));
            }
        }
    }

    fn ask(&mut self, root: &Root, node: &Node, attachments: &Attachments) -> Result<(), String> {
        let mut asked: Vec<(usize, Packet, Question)> = Vec::new();
        for (members, travel) in &self.groups {
            for at in members {
                let questions = self.questions(node, &self.pods[*at], travel);
                asked.extend(questions.into_iter().map(|(packet, question)| (*at, packet, question)));
            }
        }
        let questions: Vec<_> = asked.iter().map(|(.., question)| *question).collect();
        let ways = look_up(None, &questions).map_err(|error| error.to_string())?;
        for ((at, packet, question), way) in asked.into_iter().zip(ways) {
            self.pods[at].asked.push((packet, question, way));
        }
        let outside = self.outside.clone();
        for pod in &mut self.pods {
            let attachment = &attachments.all[pod.place];
            if attachment.pod().is_some() {
                pod.ask_inside(root, attachment, outside.get(&pod.family));
            }
        }
        Ok(())
    }

    fn questions(&self, node: &Node, pod: &PodFlows, travel: &Travel) -> Vec<(Packet, Question)> {
        let (ends, address) = (&pod.ends, pod.ends.pod.address);
        let Some(node_address) = ends.gateway_address else { return Vec::new() };
        let Some(gateway) = node.network.link(ends.gateway.as_str()).filter(|link| link.up) else {
            return Vec::new();
        };
        let mark = |flow: Flow| {
            travel.marks.iter().find(|(of, _)| *of == flow).and_then(|(_, mark)| *mark).unwrap_or_default()
        };
        let from_pod = |to: IpAddr, flow| Question {
            from: Some(address),
            iif: Some(gateway.index),
            mark: mark(flow),
            ..Question::to(to)
        };
        let usable = |address: IpAddr| {
            let mut own = node.network.addresses.iter();
            own.any(|own| own.address.ip() == address && !own.tentative && !own.dad_failed)
        };
        // Whoever has the other's address is named as that.
        if usable(address) || !usable(node_address) {
            return Vec::new();
        }
        let from_node = Question { mark: mark(Flow::NodeToPod), ..Question::to(address) };
        let mut questions = vec![
            (Packet::ToNode, from_pod(node_address, Flow::PodToNode)),
            (Packet::FromNode, from_node),
            (Packet::FromGateway, Question { from: Some(node_address), ..from_node }),
        ];
        if let Some(outside) = self.outside_of(pod.family) {
            let comes_in = Question {
                from: Some(outside.address),
                iif: Some(outside.link),
                mark: mark(Flow::UplinkToPod),
                ..Question::to(address)
            };
            questions.push((Packet::Out, from_pod(outside.address, Flow::PodToUplink)));
            questions.push((Packet::In, comes_in));
        }
        questions
    }
}

impl PodFlows {
    /// A namespace that cannot be entered is named by others.
    fn ask_inside(&mut self, root: &Root, pod: &Attachment, outside: Option<&Outside>) {
        let mut questions = Vec::new();
        questions.extend(self.ends.gateway_address.map(|to| (Packet::InsideGateway, Question::to(to))));
        questions.extend(outside.map(|outside| (Packet::InsideOut, Question::to(outside.address))));
        let router = outside.and_then(|outside| outside.router);
        let router = router.filter(|router| Family::of(*router) == self.family);
        questions.extend(router.map(|to| (Packet::InsideRouter, Question::to(to))));
        let path = pod.record.netns.as_deref().and_then(|path| root.locate(Path::new(path)).ok());
        let Some(Ok(netns)) = path.map(|path| Netns::open(&path.to_string_lossy())) else { return };
        let only: Vec<_> = questions.iter().map(|(_, question)| *question).collect();
        let Ok(ways) = look_up(Some(&netns), &only) else { return };
        self.asked
            .extend(questions.into_iter().zip(ways).map(|((packet, question), way)| (packet, question, way)));
    }
}
