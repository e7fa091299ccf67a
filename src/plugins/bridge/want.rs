//! From configuration and addresses to what the attachment promises. Pure: this is where the plugin's keys become the
//! datapath's want and the result that the runtime gets.
//!
//! Pure.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::config::{Config, first_address};
use crate::applet;
use crate::cni::error::{Error, Result};
use crate::cni::result::{AddResult, IpConfig};
use crate::net::{AttachmentId, Family, IfName, Route, VlanId};
use crate::plugins::difference::{self, Difference, Meaning, list};
use crate::spec::{Attachment, Bridge, Gateway, Pod, Port, VlanGateway, Vlans, families, subnets};
use crate::state::Record;

/// `RT_SCOPE_LINK`: such a route and narrower ones (host, nowhere) have no next hop.
const SCOPE_LINK: u8 = 253;

/// Where the pod's addresses point to in the result's list of interfaces: bridge, host end, container end.
pub const CONTAINER_INTERFACE: i64 = 2;

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
    id: &AttachmentId,
    host_end: IfName,
    addresses: &AddResult,
) -> Result<Attachment> {
    let gateway = gateway(config, &addresses.ips)?;
    let forwarding = gateway.as_ref().map(|gateway| families(&gateway.addresses)).unwrap_or_default();
    let ips: Vec<_> = addresses.ips.iter().map(|ip| ip.address).collect();
    let masquerade = if config.ip_masq { subnets(&ips) } else { Vec::new() };
    Ok(Attachment {
        id: id.clone(),
        pod_name: config.pod_name.clone(),
        bridge: Bridge {
            name: config.bridge.clone(),
            mac: Bridge::derived_mac(&config.bridge),
            mtu: config.mtu,
            vlan_filtering: config.vlan_filtering(),
            promiscuous: config.promiscuous,
        },
        port: Port {
            name: host_end,
            mac: None,
            mtu: config.mtu,
            hairpin: config.hairpin,
            isolated: config.port_isolation,
            vlans: Vlans::of(
                config.vlan,
                config.trunk.clone().unwrap_or_default(),
                config.preserve_default_vlan,
            ),
        },
        pod: Pod {
            name: id.if_name.clone(),
            mac: config.mac,
            mtu: config.mtu,
            up: !config.disable_container_interface,
            addresses: ips,
            routes: next_hops(&addresses.routes, &addresses.ips),
            detect_duplicates: config.detect_duplicates,
        },
        gateway,
        forwarding,
        masquerade,
        spoof_check: config.spoof_check,
        firewall: config.firewall,
    })
}

/// What each key meant for an attachment. One that is missing here changes unseen.
const MEANINGS: &[Meaning<Attachment>] = &[
    ("bridge", |want| want.bridge.name.to_string()),
    ("isGateway", |want| want.gateway.is_some().to_string()),
    ("isDefaultGateway", |want| want.pod.routes.iter().any(Route::is_default).to_string()),
    ("forceAddress", |want| want.gateway.as_ref().is_some_and(|gateway| gateway.force).to_string()),
    ("nodeDns", |want| {
        let dns = want.gateway.as_ref().and_then(|gateway| gateway.dns);
        dns.map_or_else(|| "none".to_owned(), |dns| dns.to_string())
    }),
    ("nodeDnsIntercept", |want| want.gateway.as_ref().is_some_and(|gateway| gateway.intercept).to_string()),
    ("ipMasq", |want| (!want.masquerade.is_empty()).to_string()),
    ("mtu", |want| want.pod.mtu.map_or_else(|| "the kernel's".to_owned(), |mtu| mtu.to_string())),
    ("hairpinMode", |want| want.port.hairpin.to_string()),
    ("promiscMode", |want| want.bridge.promiscuous.to_string()),
    ("vlan", |want| access_vlan(want).to_string()),
    ("vlanTrunk", |want| list(want.port.vlans.as_ref().map_or(&[], |vlans| &vlans.tagged))),
    ("preserveDefaultVlan", |want| {
        want.port.vlans.as_ref().is_some_and(|vlans| vlans.keep_default).to_string()
    }),
    ("macspoofchk", |want| want.spoof_check.to_string()),
    ("forwardAccept", |want| want.firewall.accept.to_string()),
    ("forwardOthers", |want| (!want.firewall.guard).to_string()),
    ("mssClamp", |want| want.firewall.clamp_mss.to_string()),
    ("enabledad", |want| want.pod.detect_duplicates.to_string()),
    ("disableContainerInterface", |want| (!want.pod.up).to_string()),
    ("portIsolation", |want| want.port.isolated.to_string()),
];

/// 0 is none, as in the configuration.
fn access_vlan(want: &Attachment) -> u16 {
    let tagged = want.port.vlans.as_ref().filter(|vlans| !vlans.tagged.is_empty());
    if let Some(vlan) = want.gateway.as_ref().and_then(|gateway| gateway.vlan.as_ref()) {
        return vlan.vlan.id();
    }
    let native = want.port.vlans.as_ref().and_then(|vlans| vlans.native).map_or(0, VlanId::id);
    // What a trunk without access VLAN takes.
    if tagged.is_some() && native == 1 { 0 } else { native }
}

/// Where the configuration wants something else today for an attachment with the same addresses. What the runtime says for
/// each pod (its MAC) is not in question, nor is a default route that address management may have given.
pub fn differences(config: &Config, then: &Attachment) -> Vec<Difference> {
    let ips = then.pod.addresses.iter().map(|address| IpConfig {
        interface: None,
        address: *address,
        gateway: then.gateway_of(*address),
    });
    let routes = then.pod.routes.clone();
    let addresses = AddResult { ips: ips.collect(), routes, ..AddResult::default() };
    let addresses = complete_addresses(config, addresses).unwrap_or_default();
    let now = attachment(config, &then.id, then.port.name.clone(), &addresses);
    let Ok(mut now) = now else { return Vec::new() };
    if config.mtu_auto {
        now.pod.mtu = then.pod.mtu;
    }
    difference::between(MEANINGS, then, &now)
}

/// The same for whoever leases the addresses. Our own address management has several names.
pub fn ipam_difference(config: &Config, then: &Record) -> Option<Difference> {
    let (was, is) = (then.leases.ipam.as_deref(), config.ipam.as_deref());
    let plugin_of = |name: Option<&str>| name.map(|name| applet::plugin(name).ok_or(name.to_owned()));
    // Of a record that was written again from what the kernel carries nobody knows it.
    let unknown = was.is_none() && !then.addresses().is_empty();
    let words = |name: Option<&str>| name.unwrap_or("none").to_owned();
    (!unknown && plugin_of(was) != plugin_of(is)).then(|| Difference {
        key: "ipam.type",
        was: words(was),
        is: words(is),
    })
}

fn gateway(config: &Config, ips: &[IpConfig]) -> Result<Option<Gateway>> {
    if !config.is_gateway || ips.is_empty() {
        return Ok(None);
    }
    let mut addresses: Vec<IpNetwork> = Vec::new();
    for ip in ips {
        let Some(gateway) = ip.gateway else { continue };
        let family = Family::of(ip.address.ip());
        let address =
            IpNetwork::new(gateway, ip.address.prefix()).ok().filter(|_| Family::of(gateway) == family);
        let address = address.ok_or_else(|| {
            Error::internal(format!("gateway {gateway} is not of the family of {}", ip.address))
                .with_details("give the range a gateway of its own family in ipam")
        })?;
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    let vlan = config.vlan.map(|vlan| vlan_gateway(&config.bridge, vlan)).transpose()?;
    Ok(Some(Gateway {
        addresses,
        force: config.force_address,
        vlan,
        dns: config.node_dns,
        intercept: config.dns_intercept,
    }))
}

fn vlan_gateway(bridge: &IfName, vlan: VlanId) -> Result<VlanGateway> {
    VlanGateway::of(bridge, vlan).map_err(|error| {
        let name = format!("{bridge}.{vlan}");
        Error::internal(format!("failed to create vlan interface: {name:?}: {error}"))
            .with_details("a gateway in a VLAN needs an interface <bridge>.<vlan>: use a bridge name that leaves room for it")
    })
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

#[cfg(test)]
mod tests;
