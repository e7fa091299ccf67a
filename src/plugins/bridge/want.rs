//! From configuration and addresses to what the attachment promises. Pure: this is where the plugin's keys become the
//! datapath's want and the result that the runtime gets.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::config::{Config, first_address};
use crate::cni::error::{Error, Result};
use crate::cni::result::{AddResult, IpConfig};
use crate::datapath::mark::{Identity, bridge_mac};
use crate::datapath::spec::{Attachment, Bridge, Gateway, Pod, Port, VlanGateway, Vlans};
use crate::net::{Family, IfName, Route, VlanId, network_of, stable_hash};

/// `RT_SCOPE_LINK`: such a route and narrower ones (host, nowhere) have no next hop.
const SCOPE_LINK: u8 = 253;

/// Where the pod's addresses point to in the result's list of interfaces: bridge, host end, container end.
pub const CONTAINER_INTERFACE: u32 = 2;

/// The result of IPAM with gateways and default routes completed, as the runtime gets it.
///
/// Fails when IPAM gave no address at all.
pub fn complete_addresses(config: &Config, mut ipam: AddResult) -> Result<AddResult> {
    if ipam.ips.is_empty() {
        return Err(Error::internal("IPAM plugin returned missing IP config"));
    }
    for ip in &mut ipam.ips {
        ip.interface = Some(CONTAINER_INTERFACE);
        if ip.gateway.is_none() && config.is_gateway {
            ip.gateway = Some(first_address(ip.address));
        }
    }
    if config.is_default_gateway {
        for family in Family::BOTH {
            // A default route without gateway takes this one when it is installed, so it needs no second one.
            let present = ipam.routes.iter().any(|route| route.dst == family.default_route());
            if !present && let Some(gateway) = first_gateway(&ipam.ips, family) {
                ipam.routes.push(Route::to(family.default_route(), Some(gateway)));
            }
        }
    }
    Ok(ipam)
}

fn first_gateway(ips: &[IpConfig], family: Family) -> Option<IpAddr> {
    ips.iter().filter_map(|ip| ip.gateway).find(|gateway| Family::of(*gateway) == family)
}

/// What the datapath has to make true. `addresses` is what [`complete_addresses`] returned, or empty in layer 2.
pub fn attachment(
    config: &Config,
    identity: &Identity,
    host_end: IfName,
    addresses: &AddResult,
) -> Result<Attachment> {
    let gateway = gateway(config, &addresses.ips)?;
    let forwarding = gateway.as_ref().map(|gateway| families(&gateway.addresses)).unwrap_or_default();
    let masquerade = if config.ip_masq { subnets(&addresses.ips) } else { Vec::new() };
    Ok(Attachment {
        identity: identity.clone(),
        pod_name: config.pod_name.clone(),
        bridge: Bridge {
            name: config.bridge.clone(),
            mac: bridge_mac(&config.bridge),
            mtu: config.mtu,
            vlan_filtering: config.vlan_filtering(),
            promiscuous: config.promiscuous,
        },
        port: Port {
            name: host_end,
            mtu: config.mtu,
            hairpin: config.hairpin,
            isolated: config.port_isolation,
            vlans: vlans(config),
        },
        pod: Pod {
            name: identity.if_name.clone(),
            mac: config.mac,
            mtu: config.mtu,
            up: !config.disable_container_interface,
            addresses: addresses.ips.iter().map(|ip| ip.address).collect(),
            routes: next_hops(&addresses.routes, &addresses.ips),
            detect_duplicates: config.detect_duplicates,
        },
        gateway,
        forwarding,
        masquerade,
        spoof_check: config.spoof_check,
    })
}

fn gateway(config: &Config, ips: &[IpConfig]) -> Result<Option<Gateway>> {
    if !config.is_gateway || ips.is_empty() {
        return Ok(None);
    }
    let mut addresses: Vec<IpNetwork> = Vec::new();
    for ip in ips {
        let Some(gateway) = ip.gateway else { continue };
        let address = IpNetwork::new(gateway, ip.address.prefix());
        let address = address.map_err(|_| {
            let IpConfig { address, .. } = ip;
            Error::internal(format!("gateway {gateway} is not of the family of {address}"))
                .with_details("give the range a gateway of its own family in ipam")
        })?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let vlan = config.vlan.map(|vlan| vlan_gateway(&config.bridge, vlan)).transpose()?;
    Ok(Some(Gateway { addresses, force: config.force_address, vlan }))
}

fn vlan_gateway(bridge: &IfName, vlan: VlanId) -> Result<VlanGateway> {
    let name = format!("{bridge}.{vlan}");
    let name: IfName = name.parse().map_err(|error| {
        Error::internal(format!("failed to create vlan interface: {name:?}: {error}"))
            .with_details("a gateway in a VLAN needs an interface <bridge>.<vlan>: use a bridge name that leaves room for it")
    })?;
    let port = format!("veth{:08x}", stable_hash(&["vlan gateway", name.as_str()]) & 0xffff_ffff);
    let port = port.parse().map_err(Error::internal)?;
    Ok(VlanGateway { name, port, vlan })
}

/// A trunk without access VLAN takes VLAN 1 for untagged frames.
fn vlans(config: &Config) -> Option<Vlans> {
    let tagged = config.trunk.clone().unwrap_or_default();
    if config.vlan.is_none() && tagged.is_empty() {
        return None;
    }
    Some(Vlans { native: config.vlan.or(VlanId::new(1)), tagged, keep_default: config.preserve_default_vlan })
}

fn families(addresses: &[IpNetwork]) -> Vec<Family> {
    Family::BOTH
        .into_iter()
        .filter(|family| addresses.iter().any(|a| Family::of(a.ip()) == *family))
        .collect()
}

fn subnets(ips: &[IpConfig]) -> Vec<IpNetwork> {
    let mut subnets = Vec::new();
    for ip in ips {
        let subnet = network_of(ip.address);
        if !subnets.contains(&subnet) {
            subnets.push(subnet);
        }
    }
    subnets
}

/// A route without gateway goes through its family's first one, unless its scope says that it has none. Two routes that
/// come out the same are one.
fn next_hops(routes: &[Route], ips: &[IpConfig]) -> Vec<Route> {
    let mut complete: Vec<Route> = Vec::new();
    for route in routes {
        let on_link = route.scope.is_some_and(|scope| scope >= SCOPE_LINK);
        let inherited = if on_link { None } else { first_gateway(ips, Family::of(route.dst.ip())) };
        let route = Route { gw: route.gw.or(inherited), ..route.clone() };
        if !complete.contains(&route) {
            complete.push(route);
        }
    }
    complete
}
