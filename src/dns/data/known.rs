//! What a record says about names.
//!
//! Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::dns::name::Label;
use crate::dns::zone::{HostPod, Pod};
use crate::net::{is_of_a_link, network_of};
use crate::state::Record;

/// The plugin whose records have addresses.
const PLUGIN: &str = "bridge";
/// A range of more than this is a slip of the pen: it would make half the Internet a source of questions.
const WIDEST: [u8; 2] = [8, 16];

/// One attached pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) container: String,
    pub(super) uid: Option<String>,
    pub(super) host_if: Option<String>,
    namespace: Option<Label>,
    name: Option<Label>,
    names: Vec<Label>,
    pub(super) addresses: Vec<IpAddr>,
    ranges: Vec<IpNetwork>,
    gateways: Vec<IpAddr>,
    intercepting: Vec<IpAddr>,
    pub(super) found: Option<Hostname>,
}

/// What the pod's runtime calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hostname {
    pub(super) host: Label,
    pub(super) subdomain: Option<Label>,
}

/// What a zone and its server need of all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gathered {
    pub(crate) pods: Vec<Pod>,
    pub(crate) host_pods: Vec<HostPod>,
    pub(crate) ranges: Vec<IpNetwork>,
    /// Where pods and the node reach the node.
    pub(crate) gateways: Vec<IpAddr>,
    /// Those to which what pods ask of others is led.
    pub(crate) intercepting: Vec<IpAddr>,
}

impl Known {
    /// `None` for what is not finished, or not an attachment with addresses.
    pub(super) fn of(record: &Record) -> Option<Self> {
        if !record.complete || record.plugin != PLUGIN {
            return None;
        }
        let label = |text: &Option<String>| text.as_deref().and_then(Label::parse);
        let pod = record.pod.as_ref();
        let mut ranges = Vec::new();
        for address in record.addresses().iter().chain(record.gateways()).copied() {
            let [v4, v6] = WIDEST;
            let range = network_of(address);
            if range.prefix() >= if range.is_ipv4() { v4 } else { v6 } && !ranges.contains(&range) {
                ranges.push(range);
            }
        }
        Some(Self {
            container: record.id.container.clone(),
            uid: pod.and_then(|pod| pod.uid.clone()),
            host_if: record.attachment().map(|want| want.port.name.to_string()),
            namespace: pod.and_then(|pod| label(&pod.namespace)),
            name: pod.and_then(|pod| label(&pod.name)),
            names: record.names.clone(),
            addresses: record.ips().collect(),
            ranges,
            gateways: record.gateways().iter().map(IpNetwork::ip).collect(),
            intercepting: record
                .attachment()
                .and_then(|want| want.gateway.as_ref())
                .map(|gateway| gateway.intercepting().map(|at| at.ip()).collect())
                .unwrap_or_default(),
            found: None,
        })
    }

    /// Somebody named it, so that its runtime may have a hostname for it.
    pub(super) fn has_identity(&self) -> bool {
        self.name.is_some() || self.uid.is_some()
    }

    fn pod(&self) -> Pod {
        let mut hosts: Vec<Label> = self.found.iter().map(|found| found.host.clone()).collect();
        for name in self.name.iter().chain(&self.names) {
            if !hosts.contains(name) {
                hosts.push(name.clone());
            }
        }
        Pod {
            namespace: self.namespace.clone(),
            hosts,
            subdomain: self.found.as_ref().and_then(|found| found.subdomain.clone()),
            addresses: self.addresses.clone(),
        }
    }
}

/// All of it, of those that live.
pub(super) fn gathered<'k>(living: impl Iterator<Item = &'k Known>) -> Gathered {
    let mut gathered = Gathered::default();
    for known in living {
        gathered.pods.push(known.pod());
        for range in &known.ranges {
            if !gathered.ranges.contains(range) {
                gathered.ranges.push(*range);
            }
        }
        for (all, own) in
            [(&mut gathered.gateways, &known.gateways), (&mut gathered.intercepting, &known.intercepting)]
        {
            for gateway in own.iter().filter(|gateway| !is_of_a_link(**gateway)) {
                if !all.contains(gateway) {
                    all.push(*gateway);
                }
            }
        }
    }
    gathered
}
