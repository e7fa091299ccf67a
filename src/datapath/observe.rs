//! Have: asks the kernel what it carries of one attachment. Reads only, decides nothing.

pub mod repair;

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::firewall::FirewallHave;
use super::mark::{self, OWNER, VethMark};
use super::plan::{BridgeHave, Have, NamesHave, PodHave, PortHave, PortVlan, Strange, VlanGatewayHave};
use super::removal::Remains;
use super::session::{Session, Side};
use super::{firewall, switches};
use super::{names, rules};
use crate::kernel::link::{Link, OperState};
use crate::kernel::nft::Listing;
use crate::kernel::{self, address, link, netconf, route, vlan};
use crate::net::{AttachmentId, Family, IfName, Mac, Route, network_of};
use crate::spec::{Attachment, Gateway, Pod};

/// Routes that the kernel makes for addresses (`RTPROT_KERNEL`, linux/rtnetlink.h) are not promised by anybody.
const RTPROT_KERNEL: u8 = 2;

/// What a name on the node turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeError {
    /// A link of that name exists and is something else.
    NotABridge,
}

/// The kernel's side of `want`.
///
/// `complete` says whether ADD finished once; `needed` are the gateways that other live attachments were promised, asked
/// for only when the bridge has an address that is not wanted.
///
/// A session without the pod's side sees the node's: a host end with the attachment's mark is taken for connected, and the
/// container end for what was promised.
pub fn observe(
    session: &mut Session,
    want: &Attachment,
    complete: bool,
    needed: &dyn Fn() -> Vec<IpNetwork>,
) -> kernel::Result<Result<Have, BridgeError>> {
    let bridge = session.node.look_up(&want.bridge.name)?;
    if bridge.as_ref().is_some_and(|link| link.kind.as_deref() != Some("bridge")) {
        return Ok(Err(BridgeError::NotABridge));
    }
    let mut port = session.node.look_up(&want.port.name)?;
    let pod = session.look_up_in_pod(&want.pod.name)?;
    let mut renamed = None;
    if complete && port.is_none() {
        port = repair::find_renamed(session, pod.as_ref())?;
        renamed = port.as_ref().and_then(|link| link.name.parse().ok());
    }
    let connected = match session.pod {
        Some(_) => port.as_ref().zip(pod.as_ref()).is_some_and(|(port, pod)| is_pair(port, pod)),
        None => port.as_ref().is_some_and(|port| is_marked(port, &want.id)),
    };
    // A pod may give itself another MAC; it was promised one.
    let pod_mac = want.pod.mac.or_else(|| pod.as_ref().filter(|_| connected).and_then(|pod| pod.mac));
    let forwarding = observe_forwarding(&mut session.node, &want.forwarding)?;
    let listing = &mut Listing::default();
    let firewall = observe_firewall(session, listing, want, &forwarding, complete)?;
    let mut have = Have {
        port: port
            .map(|link| observe_port(&mut session.node, want, &link, bridge.as_ref(), connected))
            .transpose()?,
        renamed,
        vlan_gateway: observe_vlan_gateway(&mut session.node, want, bridge.as_ref())?,
        bridge: bridge.map(|link| observe_bridge(&mut session.node, want, link, needed)).transpose()?,
        pod: match (pod, &mut session.pod) {
            (Some(link), Some(pod)) => {
                let families = Family::BOTH.into_iter().filter(|f| has_routes(&want.pod, *f));
                let mut seen = observe_pod(&mut pod.side, &link, &families.collect::<Vec<_>>(), false)?;
                if !complete {
                    // Nobody can have moved yet what this ADD is about to promise.
                    seen.elsewhere.clear();
                }
                Some(seen)
            }
            (_, None) if connected => Some(as_promised(&want.pod)),
            _ => None,
        },
        forwarding,
        masquerade: observe_masquerade(session, listing, want)?,
        spoof_rule: want.spoof_check && rules::has_spoof_rule(session.netfilter()?)?,
        spoof_check: want.spoof_check && observe_spoof_check(session, &want.port.name, pod_mac)?,
        firewall,
        names: NamesHave::default(),
        unclean: false,
        complete,
    };
    if let Some(dns) = want.gateway.as_ref().and_then(|gateway| gateway.dns) {
        let is_there = have.gateway_addresses(want).contains(&IpNetwork::from(IpAddr::V4(dns)));
        have.names = names::observe(session, listing, want, dns, is_there)?;
    }
    if let Some(gateway) = want.gateway.as_ref().filter(|gateway| gateway.intercept) {
        let link = gateway.link(&want.bridge);
        for at in gateway.intercepting() {
            if names::intercept::stands_for(session.netfilter()?, listing, link, at)? {
                have.names.intercepted.push(at);
            }
        }
    }
    Ok(Ok(have))
}

/// The two ends of a veth pair name each other's index (`IFLA_LINK`, each in its own namespace).
fn is_pair(port: &Link, pod: &Link) -> bool {
    port.kind.as_deref() == Some("veth")
        && pod.kind.as_deref() == Some("veth")
        && port.peer == Some(pod.index)
        && pod.peer == Some(port.index)
}

fn is_marked(port: &Link, id: &AttachmentId) -> bool {
    let mark = port.alias.as_deref().and_then(VethMark::parse);
    port.kind.as_deref() == Some("veth") && mark.is_some_and(|mark| mark.id == *id)
}

fn as_promised(pod: &Pod) -> PodHave {
    PodHave {
        mac: pod.mac,
        mtu: pod.mtu.unwrap_or_default(),
        up: pod.up,
        addresses: pod.addresses.clone(),
        routes: pod.routes.clone(),
        direct: pod.addresses.iter().copied().map(network_of).collect(),
        elsewhere: Vec::new(),
    }
}

fn observe_bridge(
    node: &mut Side,
    want: &Attachment,
    link: Link,
    needed: &dyn Fn() -> Vec<IpNetwork>,
) -> kernel::Result<BridgeHave> {
    let addresses = addresses_of(node, link.index)?;
    let wanted: Vec<_> = want.gateway.iter().flat_map(Gateway::all_addresses).collect();
    let strange = addresses.iter().any(|address| address.is_ipv4() && !wanted.contains(address))
        || addresses.iter().any(|a| a.is_ipv6() && !wanted.contains(a) && !is_link_local(*a));
    Ok(BridgeHave {
        mac: link.mac,
        mtu: link.mtu,
        up: link.up,
        promiscuous: link.promiscuous,
        // A node without IPv6 takes none.
        accepts_advertisements: link.accept_ra.is_some_and(|accepts| accepts != 0),
        alias: link.alias,
        mac_changed: false,
        addresses,
        needed: if strange { needed() } else { Vec::new() },
    })
}

fn is_link_local(address: IpNetwork) -> bool {
    matches!(address, IpNetwork::V6(v6) if v6.ip().is_unicast_link_local())
}

fn addresses_of(side: &mut Side, index: u32) -> kernel::Result<Vec<IpNetwork>> {
    Ok(address::of_link(&mut side.route, index)?.into_iter().map(|address| address.address).collect())
}

fn observe_port(
    node: &mut Side,
    want: &Attachment,
    link: &Link,
    bridge: Option<&Link>,
    connected: bool,
) -> kernel::Result<PortHave> {
    Ok(PortHave {
        connected,
        on_bridge: link.master.is_some() && link.master == bridge.map(|bridge| bridge.index),
        up: link.up,
        operational: link.state == OperState::Up,
        mtu: link.mtu,
        hairpin: link.hairpin.unwrap_or(false),
        isolated: link.isolated.unwrap_or(false),
        vlans: if want.port.vlans.is_some() { vlans_of(node, link.index)? } else { Vec::new() },
        alias: link.alias.clone(),
        strange: Strange::default(),
    })
}

fn vlans_of(node: &mut Side, index: u32) -> kernel::Result<Vec<PortVlan>> {
    let entries = vlan::of_port(&mut node.route, index)?;
    Ok(entries
        .into_iter()
        .map(|entry| PortVlan { id: entry.id, native: entry.pvid && entry.untagged })
        .collect())
}

fn observe_vlan_gateway(
    node: &mut Side,
    want: &Attachment,
    bridge: Option<&Link>,
) -> kernel::Result<Option<VlanGatewayHave>> {
    let Some(vlan) = want.gateway.as_ref().and_then(|gateway| gateway.vlan.as_ref()) else { return Ok(None) };
    let Some(link) = node.look_up(&vlan.name)? else { return Ok(None) };
    // A link of that name that somebody else made has a port of another name: what its peer is, is then theirs.
    let port = node.look_up(&vlan.port)?;
    let (port_on_bridge, port_vlans) = match port {
        Some(port) => {
            let on_bridge = port.master.is_some() && port.master == bridge.map(|bridge| bridge.index);
            (on_bridge, vlans_of(node, port.index)?)
        }
        None => (true, vec![PortVlan { id: vlan.vlan.id(), native: true }]),
    };
    Ok(Some(VlanGatewayHave {
        up: link.up,
        port_on_bridge,
        port_vlans,
        addresses: addresses_of(node, link.index)?,
    }))
}

/// Only the families in which routes are wanted are asked for.
fn has_routes(want: &Pod, family: Family) -> bool {
    want.routes.iter().any(|route| Family::of(route.dst.ip()) == family)
}

/// The container end with everything it has, for a comparison with a result.
pub fn observe_pod_interface(session: &mut Session, name: &IfName) -> kernel::Result<Option<PodHave>> {
    let link = session.look_up_in_pod(name)?;
    match (link, &mut session.pod) {
        (Some(link), Some(pod)) => observe_pod(&mut pod.side, &link, &Family::BOTH, true).map(Some),
        _ => Ok(None),
    }
}

fn observe_pod(
    side: &mut Side,
    link: &Link,
    families: &[Family],
    kernels_own: bool,
) -> kernel::Result<PodHave> {
    let (mut routes, mut direct, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for family in families {
        for entry in route::list(&mut side.route, *family)? {
            let own = entry.protocol == RTPROT_KERNEL;
            if entry.index != Some(link.index) {
                elsewhere.push(as_route(&entry));
                continue;
            }
            if own && entry.table == route::MAIN {
                direct.push(entry.dst);
            }
            if kernels_own || !own {
                routes.push(as_route(&entry));
            }
        }
    }
    Ok(PodHave {
        mac: link.mac,
        mtu: link.mtu,
        up: link.up,
        addresses: addresses_of(side, link.index)?,
        routes,
        direct,
        elsewhere,
    })
}

fn as_route(entry: &route::RouteEntry) -> Route {
    Route {
        dst: entry.dst,
        gw: entry.gw,
        mtu: entry.mtu,
        advmss: entry.advmss,
        priority: entry.priority,
        table: Some(entry.table),
        scope: Some(entry.scope),
    }
}

fn observe_forwarding(node: &mut Side, families: &[Family]) -> kernel::Result<Vec<Family>> {
    let mut on = Vec::new();
    for family in families {
        if netconf::forwards(&mut node.route, *family)? {
            on.push(*family);
        }
    }
    Ok(on)
}

pub(super) fn forwarding_key(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    }
}

/// Asked for as little as decides: most nodes have no firewall of somebody else, and everything of ours stands.
fn observe_firewall(
    session: &mut Session,
    listing: &mut Listing,
    want: &Attachment,
    forwarding: &[Family],
    complete: bool,
) -> kernel::Result<FirewallHave> {
    let mut have = FirewallHave::default();
    firewall::observe::observe(session, listing, want, complete, &mut have)?;
    let unguarded: Vec<_> = forwarding
        .iter()
        .copied()
        .filter(|family| have.guards.iter().all(|(known, _)| known != family))
        .collect();
    if want.firewall.guard && !unguarded.is_empty() {
        have.switched_on = switches::switched_on(&session.boot()?, &unguarded)?;
    }
    for family in &want.forwarding {
        if firewall::needs_guard(want, *family, forwarding, &have) {
            let uplinks =
                firewall::guard::observe_uplinks(&mut session.node, *family, &firewall::inside(want))?;
            have.uplinks.push((*family, uplinks));
        }
    }
    if want.forwarding.contains(&Family::V6) && !forwarding.contains(&Family::V6) {
        have.listeners = switches::listeners(&mut session.node, want)?;
    }
    Ok(have)
}

fn observe_masquerade(
    session: &mut Session,
    listing: &mut Listing,
    want: &Attachment,
) -> kernel::Result<Vec<(String, IpNetwork)>> {
    let mut found = Vec::new();
    for subnet in &want.masquerade {
        if rules::has_masquerade(session.netfilter()?, listing, &want.id.network, *subnet)? {
            found.push((want.id.network.clone(), *subnet));
        }
    }
    Ok(found)
}

fn observe_spoof_check(session: &mut Session, port: &IfName, mac: Option<Mac>) -> kernel::Result<bool> {
    let Some(mac) = mac else { return Ok(false) };
    rules::has_spoof_check(session.netfilter()?, port, mac)
}

/// What is left of an attachment that goes. `ports` are the names its host end may have.
pub fn observe_remains(
    session: &mut Session,
    id: &AttachmentId,
    ports: &[IfName],
) -> kernel::Result<Remains> {
    let mut remains = Remains::default();
    let pod = session.look_up_in_pod(&id.if_name)?;
    for name in ports {
        let Some(link) = session.node.look_up(name)? else { continue };
        let connected = pod.as_ref().is_some_and(|pod| is_pair(&link, pod));
        let mark = link.alias.as_deref().and_then(VethMark::parse);
        let unmarked = link.alias.as_deref().is_none_or(|alias| !alias.starts_with(OWNER));
        // Killed between creating and marking: the pair itself, or the name that only this attachment derives.
        if connected
            || mark.as_ref().is_some_and(|mark| mark.id == *id)
            || (unmarked && link.kind.as_deref() == Some("veth"))
        {
            remains.addresses.extend(mark.iter().flat_map(|mark| mark.addresses.iter().map(IpNetwork::ip)));
            remains.bridge = bridge_name(&mut session.node, link.master)?;
            (remains.port, remains.connected) = (Some(name.clone()), connected);
            break;
        }
    }
    if let Some(pod) = pod
        && (remains.connected || !is_of_another(session, &pod, id)?)
    {
        remains.pod = Some(id.if_name.clone());
    }
    Ok(remains)
}

/// Whether the interface's host end carries the mark of another attachment: the path of the namespace was used again.
fn is_of_another(session: &mut Session, pod: &Link, id: &AttachmentId) -> kernel::Result<bool> {
    let Some(peer) = pod.peer else { return Ok(false) };
    let Some(port) = session.node.look_up_index(peer)? else { return Ok(false) };
    let mark = port.alias.as_deref().and_then(VethMark::parse);
    Ok(is_pair(&port, pod) && mark.is_some_and(|mark| mark.id != *id))
}

fn bridge_name(node: &mut Side, master: Option<u32>) -> kernel::Result<Option<IfName>> {
    let Some(index) = master else { return Ok(None) };
    Ok(node.look_up_index(index)?.and_then(|link| link.name.parse().ok()))
}

/// MTU in bytes of what carries the default route: IPv4's before IPv6's, the lowest metric first. `None` without one.
pub fn uplink_mtu(session: &mut Session) -> kernel::Result<Option<u32>> {
    for family in Family::BOTH {
        let mut defaults = route::list(&mut session.node.route, family)?;
        defaults.retain(|route| route.table == route::MAIN && route.dst.prefix() == 0);
        defaults.sort_by_key(|route| route.priority.unwrap_or(0));
        let Some((index, limit)) = defaults.iter().find_map(|route| Some((route.index?, route.mtu))) else {
            continue;
        };
        if let Some(link) = link::by_index(&mut session.node.route, index)? {
            // A route may carry less than its link.
            return Ok(Some(limit.map_or(link.mtu, |limit| limit.min(link.mtu))));
        }
    }
    Ok(None)
}

/// The name for a new host end: the first derived one that no link of somebody else has.
pub fn free_host_end(session: &mut Session, id: &AttachmentId) -> kernel::Result<IfName> {
    let mut attempt = 0;
    loop {
        let name = mark::host_veth(id, attempt);
        let Some(link) = session.node.look_up(&name)? else { return Ok(name) };
        let mark = link.alias.as_deref().and_then(VethMark::parse);
        if mark.is_some_and(|mark| mark.id == *id) {
            return Ok(name);
        }
        attempt += 1;
    }
}
