//! The hooks of each flow in their order, with the packets as they are there.
//!
//! Pure.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnetwork::IpNetwork;

use super::{Ends, Flow, Heading, Layer, Pod, Point, Stage};
use crate::datapath::firewall::way::{End, Packet, track};
use crate::net::{DNS_PORT, Family, IfName};

/// NF_IP_PRI_CONNTRACK and NF_IP_PRI_NAT_DST, linux/netfilter_ipv4.h: in front of the first nobody knows a packet's
/// connection, behind the second its destination is that of the pod.
const CONNTRACK: i32 = -200;
const TRANSLATION: i32 = -100;
/// IP_CT_UNTRACKED as a state: neighbour discovery belongs to no connection (nf_conntrack_proto_icmpv6.c).
const UNTRACKED: u32 = 1 << 8;

const ALL: RangeInclusive<i32> = i32::MIN..=i32::MAX;

/// The hooks in their order; none for a flow that this node does not have.
pub fn stages(flow: Flow, heading: Heading, protocol: Option<u8>, ends: &Ends) -> Vec<Stage> {
    let mut path = Path { ends, flow, protocol, heading, stages: Vec::new() };
    let (gateway, uplink) = (Some(&ends.gateway), ends.uplink.as_ref());
    if flow != Flow::PodToPod && ends.gateway_address.is_none() {
        return Vec::new();
    }
    match (flow, heading) {
        (Flow::PodToNames, _) if ends.name_server.is_none() => return Vec::new(),
        (Flow::Resolution | Flow::PodToNode | Flow::PodToNames, Heading::Original)
        | (Flow::NodeToPod, Heading::Reply) => {
            path.leave_pod(&ends.pod);
            path.up();
            path.at(if path.arp() { Layer::Arp } else { Layer::Network }, Point::Input, gateway, None);
        }
        (Flow::Resolution | Flow::PodToNode | Flow::PodToNames, Heading::Reply)
        | (Flow::NodeToPod, Heading::Original) => {
            path.at(if path.arp() { Layer::Arp } else { Layer::Network }, Point::Output, None, gateway);
            path.reach_pod();
        }
        (Flow::PodToPod, _) => {
            let Some(sibling) = &ends.sibling else { return Vec::new() };
            let (from, to) =
                if heading == Heading::Original { (&ends.pod, sibling) } else { (sibling, &ends.pod) };
            path.across(from, to);
        }
        (Flow::PodToUplink, Heading::Original) | (Flow::UplinkToPod, Heading::Reply) => {
            let Some(uplink) = uplink.filter(|_| path.is_wanted()) else { return Vec::new() };
            path.leave_pod(&ends.pod);
            path.up();
            path.at(Layer::Network, Point::Forward, gateway, Some(uplink));
            path.at(Layer::Network, Point::Postrouting, None, Some(uplink));
            path.at(Layer::Device, Point::Egress, None, Some(uplink));
        }
        (Flow::PodToUplink, Heading::Reply) | (Flow::UplinkToPod, Heading::Original) => {
            let Some(uplink) = uplink.filter(|_| path.is_wanted()) else { return Vec::new() };
            path.at(Layer::Device, Point::Ingress, Some(uplink), None);
            path.at(Layer::Network, Point::Prerouting, Some(uplink), None);
            path.at(Layer::Network, Point::Forward, Some(uplink), gateway);
            path.reach_pod();
        }
    }
    path.stages
}

struct Path<'a> {
    ends: &'a Ends,
    flow: Flow,
    protocol: Option<u8>,
    heading: Heading,
    stages: Vec<Stage>,
}

impl Path<'_> {
    fn arp(&self) -> bool {
        self.flow == Flow::Resolution && self.ends.pod.address.is_ipv4()
    }

    fn is_wanted(&self) -> bool {
        self.flow != Flow::UplinkToPod || self.ends.host_ports
    }

    fn leave_pod(&mut self, pod: &Pod) {
        self.at(Layer::Device, Point::Ingress, Some(&pod.port), None);
        self.at(Layer::Bridge, Point::Prerouting, Some(&pod.port), None);
    }

    /// From the bridge to the node itself.
    fn up(&mut self) {
        let (port, bridge, gateway) = (&self.ends.pod.port, &self.ends.bridge, &self.ends.gateway);
        self.at(Layer::Bridge, Point::Input, Some(port), None);
        self.at(Layer::Device, Point::Ingress, Some(bridge), None);
        if gateway != bridge {
            self.at(Layer::Device, Point::Ingress, Some(gateway), None);
        }
        if !self.arp() {
            self.at(Layer::Network, Point::Prerouting, Some(gateway), None);
        }
    }

    /// From the node to a pod.
    fn reach_pod(&mut self) {
        let (port, bridge, gateway) = (&self.ends.pod.port, &self.ends.bridge, &self.ends.gateway);
        if !self.arp() {
            self.at(Layer::Network, Point::Postrouting, None, Some(gateway));
        }
        if gateway != bridge {
            self.at(Layer::Device, Point::Egress, None, Some(gateway));
        }
        self.at(Layer::Device, Point::Egress, None, Some(bridge));
        self.at(Layer::Bridge, Point::Output, None, Some(port));
        self.at(Layer::Bridge, Point::Postrouting, None, Some(port));
        self.at(Layer::Device, Point::Egress, None, Some(port));
    }

    fn across(&mut self, from: &Pod, to: &Pod) {
        let bridge = &self.ends.bridge;
        self.leave_pod(from);
        if self.ends.bridged {
            self.at(Layer::Network, Point::Prerouting, Some(bridge), None);
        }
        self.at(Layer::Bridge, Point::Forward, Some(&from.port), Some(&to.port));
        if self.ends.bridged {
            self.at(Layer::Network, Point::Forward, Some(bridge), Some(bridge));
            self.at(Layer::Network, Point::Postrouting, None, Some(bridge));
        }
        self.at(Layer::Bridge, Point::Postrouting, None, Some(&to.port));
        self.at(Layer::Device, Point::Egress, None, Some(&to.port));
    }

    fn at(&mut self, layer: Layer, point: Point, iif: Option<&IfName>, oif: Option<&IfName>) {
        let mut packet = Packet { iif: iif.cloned(), oif: oif.cloned(), ..self.packet() };
        let is_led = layer == Layer::Network && !matches!(point, Point::Prerouting | Point::Forward);
        if let (Some((_, port)), Some(led)) = (&mut packet.service, self.ends.led_to.filter(|_| is_led)) {
            *port = led;
        }
        let mut stage = |priorities, packet| self.stages.push(Stage { layer, point, priorities, packet });
        let early = Packet { track: track::INVALID, ..packet.clone() };
        match (layer, point) {
            (Layer::Device, _) => stage(ALL, early),
            (Layer::Network, Point::Prerouting | Point::Output) if packet.track != UNTRACKED => {
                stage(i32::MIN..=CONNTRACK, early);
                // From outside it is the node that is meant, until its translation.
                let outside = iif.is_some() && iif == self.ends.uplink.as_ref();
                if outside {
                    let here = Packet {
                        destination: Vec::new(),
                        local: Some(true),
                        track: packet.track & !track::DNAT,
                        ..packet.clone()
                    };
                    let last = self.stages.last_mut();
                    if let Some(first) = last {
                        first.packet = Packet { track: track::INVALID, ..here.clone() };
                    }
                    self.stages.push(Stage {
                        layer,
                        point,
                        priorities: CONNTRACK + 1..=TRANSLATION,
                        packet: here,
                    });
                    self.stages.push(Stage { layer, point, priorities: TRANSLATION + 1..=i32::MAX, packet });
                } else {
                    stage(CONNTRACK + 1..=i32::MAX, packet);
                }
            }
            _ => stage(ALL, packet),
        }
    }

    /// What the packets are where nothing has been translated yet, or everything.
    fn packet(&self) -> Packet {
        let own = |address: IpAddr| vec![IpNetwork::from(address)];
        let (pod, ends) = (own(self.ends.pod.address), self.ends);
        let node = ends.gateway_address.map(own).unwrap_or_default();
        let sibling = ends.sibling.as_ref().map(|pod| own(pod.address)).unwrap_or_default();
        let (source, destination, to_node) = match self.flow {
            Flow::PodToNode => (pod, node, true),
            Flow::PodToNames => (pod, ends.name_server.map(own).unwrap_or_default(), true),
            Flow::NodeToPod => (node, pod, false),
            Flow::PodToPod => (pod, sibling, false),
            Flow::Resolution | Flow::PodToUplink => (pod, Vec::new(), false),
            Flow::UplinkToPod => (Vec::new(), pod, false),
        };
        let replies = self.heading == Heading::Reply;
        let from_node = self.flow == Flow::NodeToPod;
        let (source, destination) = if replies { (destination, source) } else { (source, destination) };
        let state = match (self.flow, replies) {
            (Flow::PodToNames, _) if self.ends.led_to.is_none() => UNTRACKED,
            (Flow::Resolution, _) => UNTRACKED,
            (Flow::UplinkToPod | Flow::PodToNames, false) => track::NEW | track::DNAT,
            (Flow::UplinkToPod | Flow::PodToNames, true) => track::ESTABLISHED | track::DNAT,
            (_, false) => track::NEW,
            (_, true) => track::ESTABLISHED,
        };
        let resolution = self.flow == Flow::Resolution;
        Packet {
            family: Family::of(self.ends.pod.address),
            iif: None,
            oif: None,
            source: if resolution { Vec::new() } else { source },
            destination: if resolution { Vec::new() } else { destination },
            track: state,
            protocol: self.protocol,
            service: (self.flow == Flow::PodToNames)
                .then_some((if replies { End::Source } else { End::Destination }, DNS_PORT)),
            mark: Some(0),
            // Of the way out it is known that it is not the node; the answer to a node's own question is for the node.
            local: if resolution { None } else { Some(if replies { from_node } else { to_node }) },
            arp: self.arp(),
        }
    }
}
