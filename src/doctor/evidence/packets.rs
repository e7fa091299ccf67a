//! Questions that are sent over the pods' network: who answers for an address, and whether pods reach their gateway.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::attachments::{Attachment, Attachments};
use super::node::Node;
use crate::datapath::session::Netns;
use crate::datapath::survey::packets::{Question, Reach, answers_on, reach};
use crate::host::root::Root;
use crate::net::{IfName, Mac};

#[derive(Clone, Debug, Default)]
pub struct Packets {
    /// By the interface on which it was asked: who answered for which address.
    pub answers: BTreeMap<IfName, BTreeSet<(Ipv4Addr, Mac)>>,
    /// How far each pod gets with each of its gateways; `None` when that was not asked for.
    pub reach: Option<Vec<Reached>>,
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
