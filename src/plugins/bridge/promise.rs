//! What an attachment wants, as its record keeps it, and back again: everything that a repair needs to know without the
//! configuration. Pure.
//!
//! ADD writes with [`write`], a repair reads with [`attachment`]; the tests hold the two together.

use super::config::Config;
use super::want::{families, subnets, vlan_gateway, vlans};
use crate::cni::result::AddResult;
use crate::datapath::mark::{Identity, bridge_mac};
use crate::datapath::spec::{self, Attachment, Bridge, Gateway, Pod, Port};
use crate::net::VlanId;
use crate::state::Record;
use crate::state::record::{Firewall, Flags, PromisedAddress};

/// Writes down what the attachment wants, for whoever has to finish, check, repair or undo it.
pub(super) fn write(record: &mut Record, config: &Config, want: &Attachment, result: &AddResult) {
    let spec::Firewall { accept, guard, clamp_mss } = want.firewall;
    let promised = &mut record.promised;
    (promised.bridge, promised.host_if) = (Some(want.bridge.name.clone()), Some(want.port.name.clone()));
    promised.bridge_mac = Some(want.bridge.mac);
    (promised.host_mac, promised.pod_mac) = (want.port.mac, want.pod.mac);
    promised.addresses =
        result.ips.iter().map(|ip| PromisedAddress { address: ip.address, gateway: ip.gateway }).collect();
    promised.gateways = want.gateway.as_ref().map(|gateway| gateway.addresses.clone()).unwrap_or_default();
    promised.routes.clone_from(&want.pod.routes);
    promised.mtu = config.mtu;
    promised.firewall = Some(Firewall { accept, guard, clamp_mss });
    promised.flags = Flags {
        hairpin: config.hairpin,
        isolated: config.port_isolation,
        promisc: config.promiscuous,
        vlan_filtering: config.vlan_filtering(),
        preserve_default_vlan: config.preserve_default_vlan,
        ip_masq: config.ip_masq,
        mac_spoof_check: config.spoof_check,
        is_gateway: config.is_gateway,
        container_interface_disabled: config.disable_container_interface,
        force_address: config.force_address,
        detect_duplicates: config.detect_duplicates,
        vlan: config.vlan.map(VlanId::id),
        trunk: config.trunk.iter().flatten().map(|vlan| vlan.id()).collect(),
    };
}

/// The MACs that the kernel chose, of bridge, host end and container end: what is made anew must have them again, because
/// neighbours remember them.
pub(super) fn remember_macs(record: &mut Record, result: &AddResult) {
    let mac =
        |at: usize| result.interfaces.get(at).and_then(|interface| interface.mac.as_deref()?.parse().ok());
    let promised = &mut record.promised;
    (promised.bridge_mac, promised.host_mac, promised.pod_mac) = (mac(0), mac(1), mac(2));
}

/// What the attachment of a record wants; `None` when the record does not tell, as one of an ADD that did not get far.
/// What an older version did not write down is not wanted.
pub fn attachment(record: &Record) -> Option<Attachment> {
    let promised = &record.promised;
    let (bridge, flags) = (promised.bridge.clone()?, &promised.flags);
    let addresses: Vec<_> = promised.addresses.iter().map(|promised| promised.address).collect();
    let vlan = flags.vlan.and_then(VlanId::new);
    let trunk: Vec<_> = flags.trunk.iter().copied().filter_map(VlanId::new).collect();
    let gateway = if flags.is_gateway && !addresses.is_empty() {
        let vlan = vlan.map(|vlan| vlan_gateway(&bridge, vlan)).transpose().ok()?;
        Some(Gateway { addresses: promised.gateways.clone(), force: flags.force_address, vlan })
    } else {
        None
    };
    let forwarding = gateway.as_ref().map(|gateway| families(&gateway.addresses)).unwrap_or_default();
    Some(Attachment {
        identity: Identity {
            network: record.network.clone(),
            container: record.container_id.clone(),
            if_name: record.if_name.clone(),
        },
        pod_name: pod_name(record),
        port: Port {
            name: promised.host_if.clone()?,
            mac: promised.host_mac,
            mtu: promised.mtu,
            hairpin: flags.hairpin,
            isolated: flags.isolated,
            vlans: vlans(vlan, trunk, flags.preserve_default_vlan),
        },
        bridge: Bridge {
            mac: promised.bridge_mac.unwrap_or_else(|| bridge_mac(&bridge)),
            name: bridge,
            mtu: promised.mtu,
            vlan_filtering: flags.vlan_filtering,
            promiscuous: flags.promisc,
        },
        masquerade: if flags.ip_masq { subnets(&addresses) } else { Vec::new() },
        pod: Pod {
            name: record.if_name.clone(),
            mac: promised.pod_mac,
            mtu: promised.mtu,
            up: !flags.container_interface_disabled,
            addresses,
            routes: promised.routes.clone(),
            detect_duplicates: flags.detect_duplicates,
        },
        gateway,
        forwarding,
        spoof_check: flags.mac_spoof_check,
        firewall: promised.firewall.map_or_else(spec::Firewall::default, |firewall| {
            let Firewall { accept, guard, clamp_mss } = firewall;
            spec::Firewall { accept, guard, clamp_mss }
        }),
    })
}

/// As in the configuration: only where it is one word for the mark on the link.
fn pod_name(record: &Record) -> Option<String> {
    let pod = record.pod.as_ref()?;
    super::config::pod_name(pod.namespace.as_deref(), pod.name.as_deref())
}

#[cfg(test)]
mod tests;
