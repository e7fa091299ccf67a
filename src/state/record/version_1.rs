//! Records as version 1 wrote them, in words of their own, and what they mean.
//!
//! To be read for one release: with pods that were attached before an upgrade. Nothing writes them any more. Every field may
//! be missing, because that version grew; what was not written down was not wanted.
//!
//! Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;

use super::{BootId, Leases, NetnsId, Pod, Pool, Record, VERSION, Want};
use crate::net::{AttachmentId, Family, IfName, Mac, Route, VlanId};
use crate::spec::limits::{Condition, Pattern};
use crate::spec::{
    self, Attachment, Bridge, Gateway, HostPorts, Limits, Mapping, Owner, Port, Protocol, VlanGateway, Vlans,
    conditions, families, subnets,
};

#[derive(Debug, Deserialize)]
pub(super) struct Version1 {
    boot_id: BootId,
    #[serde(default)]
    complete: bool,
    #[serde(default)]
    created_boottime: u64,
    plugin: String,
    network: String,
    container_id: String,
    if_name: IfName,
    #[serde(default)]
    netns: Option<String>,
    #[serde(default)]
    netns_id: Option<NetnsId>,
    #[serde(default)]
    pod: Option<Pod>,
    #[serde(default)]
    promised: Promised,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Promised {
    bridge: Option<IfName>,
    bridge_mac: Option<Mac>,
    host_if: Option<IfName>,
    host_mac: Option<Mac>,
    pod_mac: Option<Mac>,
    addresses: Vec<PromisedAddress>,
    gateways: Vec<IpNetwork>,
    routes: Vec<Route>,
    mtu: Option<u32>,
    flags: Flags,
    firewall: Option<Firewall>,
    host_ports: Vec<HostPort>,
    /// Without it nobody knows from where the ports may be used, and a port that is opened to the wrong side is worse than
    /// one that stays closed.
    port_rules: Option<PortRules>,
    ipam: Option<String>,
    data_dir: Option<String>,
    pools: Vec<Pool>,
}

#[derive(Debug, Deserialize)]
struct PromisedAddress {
    address: IpNetwork,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_excessive_bools, reason = "as version 1 has them")]
struct Flags {
    hairpin: bool,
    isolated: bool,
    promisc: bool,
    vlan_filtering: bool,
    preserve_default_vlan: bool,
    ip_masq: bool,
    mac_spoof_check: bool,
    is_gateway: bool,
    container_interface_disabled: bool,
    force_address: bool,
    detect_duplicates: bool,
    vlan: Option<u16>,
    trunk: Vec<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Firewall {
    accept: bool,
    guard: bool,
    clamp_mss: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PortRules {
    snat: bool,
    masq_all: bool,
    allowed: Vec<String>,
    denied: Vec<String>,
    conditions_v4: Vec<String>,
    conditions_v6: Vec<String>,
    pod_link: Option<IfName>,
}

#[derive(Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "as version 1 has them")]
struct HostPort {
    protocol: String,
    host_port: u16,
    container_port: u16,
    #[serde(default)]
    host_ip: Option<IpAddr>,
}

impl From<Version1> for Record {
    fn from(old: Version1) -> Self {
        let id = AttachmentId { network: old.network, container: old.container_id, if_name: old.if_name };
        let promised = &old.promised;
        let want = match old.plugin.as_str() {
            "bridge" => attachment(&id, old.pod.as_ref(), promised),
            "portmap" => Some(ports(&id, old.pod.as_ref(), promised)),
            _ => None,
        };
        let addresses = || (!promised.addresses.is_empty()).then(|| Want::Addresses(addresses(promised)));
        let want = want.or_else(addresses);
        let pod_link = old.promised.port_rules.and_then(|rules| rules.pod_link);
        let (ipam, data_dir, pools) = (old.promised.ipam, old.promised.data_dir, old.promised.pools);
        Self {
            version: VERSION,
            boot_id: old.boot_id,
            complete: old.complete,
            created_boottime: old.created_boottime,
            plugin: old.plugin,
            id,
            netns: old.netns,
            netns_id: old.netns_id,
            names: Vec::new(),
            pod: old.pod,
            want,
            leases: Leases { ipam, data_dir, pools },
            pod_link,
        }
    }
}

fn addresses(promised: &Promised) -> Vec<IpNetwork> {
    promised.addresses.iter().map(|promised| promised.address).collect()
}

/// `None` when the record does not tell, as one of an ADD that did not get far.
fn attachment(id: &AttachmentId, pod: Option<&Pod>, promised: &Promised) -> Option<Want> {
    let (bridge, flags) = (promised.bridge.clone()?, &promised.flags);
    let addresses = addresses(promised);
    let vlan = flags.vlan.and_then(VlanId::new);
    let trunk: Vec<_> = flags.trunk.iter().copied().filter_map(VlanId::new).collect();
    let gateway = if flags.is_gateway && !addresses.is_empty() {
        let vlan = vlan.map(|vlan| VlanGateway::of(&bridge, vlan)).transpose().ok()?;
        Some(Gateway {
            addresses: promised.gateways.clone(),
            force: flags.force_address,
            vlan,
            dns: None,
            intercept: false,
        })
    } else {
        None
    };
    let firewall = promised.firewall.as_ref();
    Some(Want::Attachment(Box::new(Attachment {
        id: id.clone(),
        // Only where it is one word for the mark on the link.
        pod_name: pod.and_then(Pod::full_name).filter(|name| !name.contains(' ')),
        port: Port {
            name: promised.host_if.clone()?,
            mac: promised.host_mac,
            mtu: promised.mtu,
            hairpin: flags.hairpin,
            isolated: flags.isolated,
            vlans: Vlans::of(vlan, trunk, flags.preserve_default_vlan),
        },
        bridge: Bridge {
            mac: promised.bridge_mac.unwrap_or_else(|| Bridge::derived_mac(&bridge)),
            name: bridge,
            mtu: promised.mtu,
            vlan_filtering: flags.vlan_filtering,
            promiscuous: flags.promisc,
        },
        masquerade: if flags.ip_masq { subnets(&addresses) } else { Vec::new() },
        pod: spec::Pod {
            name: id.if_name.clone(),
            mac: promised.pod_mac,
            mtu: promised.mtu,
            up: !flags.container_interface_disabled,
            addresses,
            routes: promised.routes.clone(),
            detect_duplicates: flags.detect_duplicates,
        },
        forwarding: gateway.as_ref().map(|gateway| families(&gateway.addresses)).unwrap_or_default(),
        gateway,
        spoof_check: flags.mac_spoof_check,
        firewall: firewall.map_or_else(spec::Firewall::default, |firewall| spec::Firewall {
            accept: firewall.accept,
            guard: firewall.guard,
            clamp_mss: firewall.clamp_mss,
        }),
    })))
}

fn ports(id: &AttachmentId, pod: Option<&Pod>, promised: &Promised) -> Want {
    let pods = addresses(promised);
    let mut mappings = Vec::new();
    for pod in &pods {
        mappings.extend(promised.host_ports.iter().filter_map(|port| mapping(port, pod.ip())));
    }
    let limits = promised.port_rules.as_ref().and_then(|rules| Some((rules, limits(rules)?)));
    let Some((rules, limits)) = limits else { return Want::Mappings { mappings, pods } };
    Want::HostPorts(HostPorts {
        owner: Owner { container: id.container.clone(), pod: pod.and_then(Pod::full_name) },
        mappings,
        pods,
        snat: rules.snat,
        masq_all: rules.masq_all,
        limits,
    })
}

/// Nothing where the pod's address is not of the port's family.
fn mapping(port: &HostPort, pod: IpAddr) -> Option<Mapping> {
    let protocol = Protocol::from_name(&port.protocol)?;
    if port.host_ip.is_some_and(|ip| Family::of(ip) != Family::of(pod)) {
        return None;
    }
    let host_ip = port.host_ip.filter(|ip| !ip.is_unspecified());
    Some(Mapping { protocol, host_ip, host_port: port.host_port, pod, pod_port: port.container_port })
}

/// `None` when a word is unknown.
fn limits(rules: &PortRules) -> Option<Limits> {
    let patterns = |words: &[String]| -> Option<Vec<Pattern>> {
        words.iter().map(|word| Pattern::parse(word, '*')).collect()
    };
    let conditions =
        |family, words: &[String]| -> Option<Vec<Condition>> { conditions::parse(family, words).ok() };
    Some(Limits {
        allowed: patterns(&rules.allowed)?,
        denied: patterns(&rules.denied)?,
        v4: conditions(Family::V4, &rules.conditions_v4)?,
        v6: conditions(Family::V6, &rules.conditions_v6)?,
    })
}
