//! The node's own addresses in a network: on the bridge, or on an interface in a VLAN of it.
//!
//! Pure.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use super::{BridgeHave, Have, NamesHave, plan_vlans};
use crate::datapath::mark::BridgeMark;
use crate::datapath::step::{FilterStep, Step};
use crate::net::IfName;
use crate::spec::{Attachment, Gateway, VlanGateway, Vlans};

pub(super) fn plan_gateway(want: &Attachment, gateway: &Gateway, have: &Have, steps: &mut Vec<Step>) {
    plan_gateway_addresses(want, gateway, have, steps);
    if let Some(dns) = gateway.dns {
        plan_name_server(want, gateway, dns, have, steps);
    }
    let link = gateway.link(&want.bridge);
    for at in gateway.intercepting().filter(|at| !have.names.intercepted.contains(at)) {
        steps.push(Step::Filter(FilterStep::InterceptNames { link: link.clone(), gateway: at }));
    }
}

/// The address of the node's name server, and what keeps it to this node and out of translations. Where somebody else uses the
/// address, nothing that is about it.
fn plan_name_server(want: &Attachment, gateway: &Gateway, dns: Ipv4Addr, have: &Have, steps: &mut Vec<Step>) {
    let link = gateway.link(&want.bridge);
    let gateways = || {
        let v4 = gateway.addresses.iter().filter_map(|address| match address.ip() {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        });
        v4.collect::<Vec<_>>()
    };
    if have.names.taken.is_some() {
        if have.names.kept_from_others {
            steps.push(Step::Filter(FilterStep::ReleaseNameServer { address: dns }));
        }
        // The gateways are ours, and there it answers, too.
        if !have.names.rules {
            steps.push(Step::Filter(FilterStep::NameServerRules {
                link: link.clone(),
                own: None,
                gateways: gateways(),
            }));
        }
        return plan_ports(gateways(), &have.names, steps);
    }
    // The guard first: nobody else shall learn the address meanwhile.
    if !have.names.guard {
        steps.push(Step::Filter(FilterStep::GuardNameServer { link: link.clone(), address: dns }));
    }
    if !have.gateway_addresses(want).contains(&IpNetwork::from(IpAddr::V4(dns))) {
        steps.push(Step::NameServerAddress { link: link.clone(), address: dns });
    }
    if !have.names.rules {
        steps.push(Step::Filter(FilterStep::NameServerRules {
            link: link.clone(),
            own: Some(dns),
            gateways: gateways(),
        }));
    }
    plan_ports(gateways().into_iter().chain([dns]), &have.names, steps);
}

/// While somebody else has port 53, what is asked there is led to the port that serves.
fn plan_ports(addresses: impl IntoIterator<Item = Ipv4Addr>, have: &NamesHave, steps: &mut Vec<Step>) {
    for address in addresses {
        let port = have.answers_at(address);
        if have.led_to.get(&address).copied() != port {
            steps.push(Step::Filter(FilterStep::LeadNameServer { address, port }));
        }
    }
}

fn plan_gateway_addresses(want: &Attachment, gateway: &Gateway, have: &Have, steps: &mut Vec<Step>) {
    let Some(vlan) = &gateway.vlan else {
        let bridge = have.bridge.as_ref();
        let marked = bridge
            .and_then(|bridge| BridgeMark::parse(bridge.alias.as_deref()?))
            .unwrap_or_default()
            .gateways;
        let leaving = bridge.map(|bridge| leaving_addresses(gateway, bridge, &marked)).unwrap_or_default();
        let present = bridge.map(|bridge| bridge.addresses.as_slice()).unwrap_or_default();
        return plan_addresses(&want.bridge.name, &gateway.addresses, present, leaving, steps);
    };
    plan_vlan_gateway(want, vlan, have, steps);
    let present = have.vlan_gateway.as_ref().map(|link| link.addresses.as_slice()).unwrap_or_default();
    let conflicts = |old: &IpNetwork| gateway.addresses.iter().any(|new| conflict(*old, *new));
    let leaving = present
        .iter()
        .filter(|old| gateway.force && !gateway.all_addresses().any(|own| own == **old) && conflicts(old))
        .copied()
        .collect();
    plan_addresses(&vlan.name, &gateway.addresses, present, leaving, steps);
}

fn plan_vlan_gateway(want: &Attachment, vlan: &VlanGateway, have: &Have, steps: &mut Vec<Step>) {
    let have_link = have.vlan_gateway.as_ref();
    if have_link.is_none() {
        let mtu = have.bridge.as_ref().map(|bridge| bridge.mtu).or(want.bridge.mtu);
        steps.push(Step::CreateVlanGateway { name: vlan.name.clone(), port: vlan.port.clone(), mtu });
    }
    if !have_link.is_some_and(|link| link.port_on_bridge) {
        steps.push(Step::Join { link: vlan.port.clone(), bridge: want.bridge.name.clone() });
    }
    let keep_default = want.port.vlans.as_ref().is_some_and(|vlans| vlans.keep_default);
    let vlans = Vlans { native: Some(vlan.vlan), tagged: Vec::new(), keep_default };
    let joined = have_link.filter(|link| link.port_on_bridge);
    plan_vlans(&vlan.port, &vlans, joined.map(|link| link.port_vlans.as_slice()), steps);
    if !have_link.is_none_or(|link| link.up) {
        steps.push(Step::Up { link: vlan.name.clone() });
    }
}

/// Old ones go first: the kernel takes an address of the same subnet along with the first of that subnet.
fn plan_addresses(
    link: &IfName,
    wanted: &[IpNetwork],
    present: &[IpNetwork],
    leaving: Vec<IpNetwork>,
    steps: &mut Vec<Step>,
) {
    for address in leaving {
        steps.push(Step::RemoveAddress { link: link.clone(), address });
    }
    for address in wanted.iter().filter(|address| !present.contains(address)) {
        steps.push(Step::AddAddress { link: link.clone(), address: *address });
    }
}

/// Addresses that must go before the gateway's come: conflicting ones that no live attachment was promised, and that
/// are ours (of an earlier configuration) or were asked to be removed by force.
pub(super) fn leaving_addresses(
    gateway: &Gateway,
    bridge: &BridgeHave,
    marked: &[IpNetwork],
) -> Vec<IpNetwork> {
    let conflicts = |old: &IpNetwork| gateway.addresses.iter().any(|new| conflict(*old, *new));
    let mut leaving = bridge.addresses.clone();
    leaving.retain(|old| {
        !gateway.all_addresses().any(|own| own == *old)
            && conflicts(old)
            && !bridge.needed.contains(old)
            && (gateway.force || marked.contains(old))
    });
    leaving
}

/// IPv4: a bridge has one subnet. IPv6: subnets that do not overlap live together.
fn conflict(old: IpNetwork, new: IpNetwork) -> bool {
    match (old, new) {
        (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
        (IpNetwork::V6(old), IpNetwork::V6(new)) => old.contains(new.ip()) || new.contains(old.ip()),
        _ => false,
    }
}
