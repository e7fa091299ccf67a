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
    identity: &Identity,
    host_end: IfName,
    addresses: &AddResult,
) -> Result<Attachment> {
    let gateway = gateway(config, &addresses.ips)?;
    let forwarding = gateway.as_ref().map(|gateway| families(&gateway.addresses)).unwrap_or_default();
    let ips: Vec<_> = addresses.ips.iter().map(|ip| ip.address).collect();
    let masquerade = if config.ip_masq { subnets(&ips) } else { Vec::new() };
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
            mac: None,
            mtu: config.mtu,
            hairpin: config.hairpin,
            isolated: config.port_isolation,
            vlans: vlans(config.vlan, config.trunk.clone().unwrap_or_default(), config.preserve_default_vlan),
        },
        pod: Pod {
            name: identity.if_name.clone(),
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
    Ok(Some(Gateway { addresses, force: config.force_address, vlan }))
}

pub(super) fn vlan_gateway(bridge: &IfName, vlan: VlanId) -> Result<VlanGateway> {
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
pub(super) fn vlans(access: Option<VlanId>, tagged: Vec<VlanId>, keep_default: bool) -> Option<Vlans> {
    if access.is_none() && tagged.is_empty() {
        return None;
    }
    Some(Vlans { native: access.or(VlanId::new(1)), tagged, keep_default })
}

pub(super) fn families(addresses: &[IpNetwork]) -> Vec<Family> {
    Family::BOTH
        .into_iter()
        .filter(|family| addresses.iter().any(|a| Family::of(a.ip()) == *family))
        .collect()
}

pub(super) fn subnets(addresses: &[IpNetwork]) -> Vec<IpNetwork> {
    let mut subnets = Vec::new();
    for address in addresses {
        let subnet = network_of(*address);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::json::{self, Json};

    fn config(text: &str) -> Config {
        let Json::Object(object) = json::parse(text.as_bytes()).unwrap() else { panic!("{text}") };
        Config::parse(&object, "").unwrap()
    }

    fn ip(address: &str, gateway: Option<&str>) -> IpConfig {
        IpConfig {
            interface: None,
            address: address.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
        }
    }

    fn route(dst: &str, gw: Option<&str>) -> Route {
        Route::to(dst.parse().unwrap(), gw.map(|gw| gw.parse().unwrap()))
    }

    fn want(config: &Config, result: &AddResult) -> Attachment {
        let identity =
            Identity { network: "n".into(), container: "c".into(), if_name: "eth0".parse().unwrap() };
        attachment(config, &identity, "veth1".parse().unwrap(), result).unwrap()
    }

    #[test]
    fn ipam_without_an_address_is_an_error() {
        let refused = complete_addresses(&config("{}"), AddResult::default()).unwrap_err();
        assert_eq!(refused.msg, "IPAM plugin returned missing IP config");
    }

    #[test]
    fn a_gateway_is_computed_only_for_a_gateway() {
        let ipam = AddResult { ips: vec![ip("10.1.2.5/24", None)], ..AddResult::default() };
        let plain = complete_addresses(&config("{}"), ipam.clone()).unwrap();
        assert_eq!((plain.ips[0].gateway, plain.ips[0].interface), (None, Some(CONTAINER_INTERFACE)));
        let gateway = complete_addresses(&config(r#"{"isGateway":true}"#), ipam).unwrap();
        assert_eq!(gateway.ips[0].gateway, Some("10.1.2.1".parse().unwrap()));
        assert_eq!(gateway.routes, vec![]);
        let want = want(&config(r#"{"isGateway":true}"#), &gateway);
        assert_eq!(want.gateway.unwrap().addresses, vec!["10.1.2.1/24".parse().unwrap()]);
        assert_eq!(want.forwarding, vec![Family::V4]);
    }

    #[test]
    fn each_family_gets_one_default_route() {
        let ips = vec![ip("10.1.2.5/24", None), ip("10.1.3.5/24", None), ip("fd00::5/64", None)];
        let config = config(r#"{"isDefaultGateway":true}"#);
        let result = complete_addresses(&config, AddResult { ips, ..AddResult::default() }).unwrap();
        assert_eq!(result.routes, vec![route("0.0.0.0/0", Some("10.1.2.1")), route("::/0", Some("fd00::1"))]);
        let want = want(&config, &result);
        assert_eq!(want.gateway.unwrap().addresses.len(), 3, "two gateways of one family live together");
        assert_eq!(want.forwarding, Family::BOTH.to_vec());
    }

    #[test]
    fn a_default_route_of_ipam_is_not_doubled() {
        let config = config(r#"{"isDefaultGateway":true}"#);
        let ipam = AddResult {
            ips: vec![ip("10.1.2.5/24", None)],
            routes: vec![route("0.0.0.0/0", None)],
            ..AddResult::default()
        };
        let result = complete_addresses(&config, ipam).unwrap();
        assert_eq!(result.routes, vec![route("0.0.0.0/0", None)]);
        assert_eq!(want(&config, &result).pod.routes, vec![route("0.0.0.0/0", Some("10.1.2.1"))]);
    }

    #[test]
    fn routes_inherit_the_gateway_unless_they_are_on_the_link() {
        let on_link = Route { scope: Some(253), ..route("10.8.0.0/16", None) };
        let routes =
            vec![route("10.7.0.0/16", None), on_link.clone(), route("10.7.0.0/16", Some("10.1.2.1"))];
        let result =
            AddResult { ips: vec![ip("10.1.2.5/24", Some("10.1.2.1"))], routes, ..AddResult::default() };
        let want = want(&config("{}"), &result);
        assert_eq!(want.pod.routes, vec![route("10.7.0.0/16", Some("10.1.2.1")), on_link]);
    }

    #[test]
    fn masquerading_is_per_subnet_and_not_per_address() {
        let ips = vec![ip("10.1.2.5/24", None), ip("10.1.2.6/24", None), ip("10.9.9.9/32", None)];
        let result = AddResult { ips, ..AddResult::default() };
        let want = want(&config(r#"{"ipMasq":true}"#), &result);
        assert_eq!(want.masquerade, vec!["10.1.2.0/24".parse().unwrap(), "10.9.9.9/32".parse().unwrap()]);
    }

    #[test]
    fn a_gateway_of_the_other_family_is_refused() {
        let result = AddResult { ips: vec![ip("10.1.2.5/24", Some("fd00::1"))], ..AddResult::default() };
        let identity =
            Identity { network: "n".into(), container: "c".into(), if_name: "eth0".parse().unwrap() };
        let config = config(r#"{"isGateway":true}"#);
        let refused = attachment(&config, &identity, "veth1".parse().unwrap(), &result).unwrap_err();
        assert_eq!(refused.msg, "gateway fd00::1 is not of the family of 10.1.2.5/24");
    }

    #[test]
    fn vlans_of_the_port_follow_access_and_trunk() {
        let vlans = |text: &str| want(&config(text), &AddResult::default()).port.vlans;
        assert_eq!(vlans("{}"), None);
        assert_eq!(vlans(r#"{"vlanTrunk":[]}"#), None);
        let native = |id| VlanId::new(id);
        assert_eq!(
            vlans(r#"{"vlan":100,"preserveDefaultVlan":true}"#),
            Some(Vlans { native: native(100), tagged: vec![], keep_default: true })
        );
        assert_eq!(
            vlans(r#"{"vlanTrunk":[{"id":7}]}"#),
            Some(Vlans { native: native(1), tagged: vec![VlanId::new(7).unwrap()], keep_default: false })
        );
    }

    #[test]
    fn a_gateway_in_a_vlan_needs_a_short_bridge_name() {
        let config = config(r#"{"isGateway":true,"vlan":1000,"bridge":"averylongname"}"#);
        let result = AddResult { ips: vec![ip("10.1.2.5/24", Some("10.1.2.1"))], ..AddResult::default() };
        let identity =
            Identity { network: "n".into(), container: "c".into(), if_name: "eth0".parse().unwrap() };
        let refused = attachment(&config, &identity, "veth1".parse().unwrap(), &result).unwrap_err();
        assert_eq!(
            refused.msg,
            "failed to create vlan interface: \"averylongname.1000\": interface name is too long"
        );
    }
}
