//! What an attachment still needs, decided without touching anything.
//!
//! [`plan`] compares what we want with what the kernel has and lists the difference in the order in which it must be
//! made. ADD runs the list, CHECK demands that nothing of the attachment's own is in it. Every decision about links,
//! addresses, routes and rules is in this file, so every decision is tested without root.
//!
//! Pure.

mod gateway;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};

use ipnetwork::IpNetwork;

use self::gateway::{leaving_addresses, plan_gateway};
use super::claim::Taken;
use super::firewall::{self, FirewallHave};
use super::mark::{BridgeMark, VethMark};
use super::step::{PodStep, Step};
use crate::net::{DNS_PORT, Family, IfName, Mac, Route, VlanId, network_of};
use crate::spec::{Attachment, Bridge, Vlans};

/// `RT_TABLE_MAIN`, linux/rtnetlink.h.
const MAIN_TABLE: u32 = 254;

/// What the kernel has of one attachment. `observe` fills it in.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    pub bridge: Option<BridgeHave>,
    pub vlan_gateway: Option<VlanGatewayHave>,
    pub port: Option<PortHave>,
    /// The name that somebody gave the host end, when it has not its own any more.
    pub renamed: Option<IfName>,
    pub pod: Option<PodHave>,
    /// Families in which forwarding is on.
    pub forwarding: Vec<Family>,
    /// Our masquerade rules: network and subnet.
    pub masquerade: Vec<(String, IpNetwork)>,
    /// Ports under the spoof check are checked.
    pub spoof_rule: bool,
    /// The port is under the spoof check with the pod's MAC.
    pub spoof_check: bool,
    pub firewall: FirewallHave,
    pub names: NamesHave,
    /// Connections of an earlier holder of the addresses may be left. Looking for them walks the whole table of the
    /// kernel, so it is done only for a reason.
    pub unclean: bool,
    /// ADD has finished once: neighbours know the pod, and plugins behind ours may have moved its default route.
    pub complete: bool,
}

impl Have {
    /// Of the node's end of the network.
    pub(super) fn gateway_addresses(&self, want: &Attachment) -> &[IpNetwork] {
        let is_in_vlan = want.gateway.as_ref().is_some_and(|gateway| gateway.vlan.is_some());
        let addresses = if is_in_vlan {
            self.vlan_gateway.as_ref().map(|link| link.addresses.as_slice())
        } else {
            self.bridge.as_ref().map(|bridge| bridge.addresses.as_slice())
        };
        addresses.unwrap_or_default()
    }
}

/// What stands of the rules for the node's name server; looked at only where one is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamesHave {
    /// Its packets are not tracked, and nobody else's reach its address.
    pub rules: bool,
    /// Its address is not told to neighbours elsewhere.
    pub guard: bool,
    /// Somebody else uses its address, which is not there: it is not brought. Asked for only then.
    pub taken: Option<Taken>,
    /// Packets of whoever that is are dropped all the same. Looked at only where there is somebody.
    pub kept_from_others: bool,
    /// Where the server says that it answers instead of at port 53, which somebody else has. Looked at only by a repair, as are
    /// the next two.
    pub said: BTreeMap<Ipv4Addr, u16>,
    /// Where somebody listens, of these places and port 53 of their addresses.
    pub listening: BTreeSet<SocketAddr>,
    /// Ports to which questions are led.
    pub led_to: BTreeMap<Ipv4Addr, u16>,
    /// Gateways to which what pods ask of others is led. Looked at only where that is wanted.
    pub intercepted: Vec<IpNetwork>,
}

impl NamesHave {
    /// Where questions to the address are to be led: a server that is gone, or that has port 53 again, need not be led to.
    pub(super) fn answers_at(&self, address: Ipv4Addr) -> Option<u16> {
        let listens = |port| self.listening.contains(&SocketAddr::from((address, port)));
        self.said.get(&address).copied().filter(|port| listens(*port) && !listens(DNS_PORT))
    }
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the bridge")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeHave {
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    pub promiscuous: bool,
    pub accepts_advertisements: bool,
    pub alias: Option<String>,
    /// It has the MAC no more by which pods know their gateway. Looked for only by a repair, which knows from the record
    /// what it was.
    pub mac_changed: bool,
    pub addresses: Vec<IpNetwork>,
    /// Gateways that other live attachments of this bridge were promised.
    pub needed: Vec<IpNetwork>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VlanGatewayHave {
    pub up: bool,
    pub port_on_bridge: bool,
    pub port_vlans: Vec<PortVlan>,
    pub addresses: Vec<IpNetwork>,
}

/// An entry of a port's VLAN table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortVlan {
    pub id: u16,
    /// Untagged frames that arrive belong to it, and it leaves untagged.
    pub native: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the port")]
pub struct PortHave {
    /// Its peer is the pod's interface.
    pub connected: bool,
    pub on_bridge: bool,
    /// Administratively up.
    pub up: bool,
    /// Forwards frames.
    pub operational: bool,
    pub mtu: u32,
    pub hairpin: bool,
    pub isolated: bool,
    pub vlans: Vec<PortVlan>,
    pub alias: Option<String>,
    /// What a port of a bridge never has of itself: a network manager took the link for one of the node's own. Looked for
    /// only by a repair.
    pub strange: Strange,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strange {
    pub addresses: Vec<IpNetwork>,
    pub routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodHave {
    pub mac: Option<Mac>,
    pub mtu: u32,
    pub up: bool,
    pub addresses: Vec<IpNetwork>,
    /// With the table filled in, and without those that the kernel made for addresses.
    pub routes: Vec<Route>,
    /// Where those lead that the kernel made for addresses.
    pub direct: Vec<IpNetwork>,
    /// Those that leave through the pod's other interfaces. Looked for once the attachment is complete.
    pub elsewhere: Vec<Route>,
}

/// The missing steps, in order. Empty when the kernel carries all that was promised.
pub fn plan(want: &Attachment, have: &Have) -> Vec<Step> {
    let mut steps = Vec::new();
    plan_bridge(want, have.bridge.as_ref(), have.complete, &mut steps);
    plan_port(want, have, &mut steps);
    plan_pod(want, have, &mut steps);
    if let Some(gateway) = &want.gateway {
        plan_gateway(want, gateway, have, &mut steps);
    }
    firewall::plan_before_forwarding(want, have, &mut steps);
    for family in &want.forwarding {
        if !have.forwarding.contains(family) {
            steps.push(Step::Forward(*family));
        }
    }
    plan_arrival(want, have, &mut steps);
    // Last, because nothing can fail behind it: a failed ADD leaves no rule.
    for subnet in &want.masquerade {
        if !have.masquerade.iter().any(|(network, has)| *network == want.id.network && has == subnet) {
            steps.push(Step::Masquerade { network: want.id.network.clone(), subnet: *subnet });
            if have.complete {
                steps.push(Step::ForgetUnmasqueraded { subnet: *subnet });
            }
        }
    }
    firewall::plan_passage(want, have, &mut steps);
    steps
}

fn plan_bridge(want: &Attachment, have: Option<&BridgeHave>, complete: bool, steps: &mut Vec<Step>) {
    let Bridge { name, mac, mtu, vlan_filtering, promiscuous } = &want.bridge;
    if have.is_none() {
        steps.push(Step::CreateBridge {
            name: name.clone(),
            mac: *mac,
            mtu: *mtu,
            vlan_filtering: *vlan_filtering,
        });
    }
    if let Some(mac) = have.filter(|_| !complete).and_then(|bridge| mac_to_fix(want, bridge)) {
        steps.push(Step::FixMac { link: name.clone(), mac });
    }
    if have.is_some_and(|bridge| complete && bridge.mac_changed) {
        steps.push(Step::FixMac { link: name.clone(), mac: *mac });
    }
    if let Some(alias) = bridge_alias(want, have) {
        steps.push(Step::Mark { link: name.clone(), alias });
    }
    if *promiscuous && !have.is_some_and(|bridge| bridge.promiscuous) {
        steps.push(Step::Promiscuous { link: name.clone() });
    }
    if have.is_none_or(|bridge| bridge.accepts_advertisements) {
        steps.push(Step::RefuseAdvertisements { link: name.clone() });
    }
    if !have.is_some_and(|bridge| bridge.up) {
        steps.push(Step::Up { link: name.clone() });
    }
}

/// A bridge that somebody else made follows its ports with its MAC until one is set (`br_stp_recalculate_bridge_id`,
/// net/bridge/br_stp_if.c), and then pods keep the gateway under one that nobody has any more. Nothing in rtnetlink tells
/// whether it was set. So it is, once, to what it is, by the first who puts a gateway there: the mark names gateways then.
fn mac_to_fix(want: &Attachment, bridge: &BridgeHave) -> Option<Mac> {
    want.gateway.as_ref().filter(|gateway| gateway.vlan.is_none())?;
    let mark = bridge.alias.as_deref().and_then(BridgeMark::parse);
    if mark.is_some_and(|mark| !mark.gateways.is_empty()) {
        return None;
    }
    // Zero is what is left when the last port is gone.
    bridge.mac.filter(|mac| mac.0 != [0; 6]).or(Some(want.bridge.mac))
}

/// The mark that the bridge should carry, when it does not: our gateway addresses, old ones that stay included.
/// What somebody else wrote there stays.
fn bridge_alias(want: &Attachment, have: Option<&BridgeHave>) -> Option<String> {
    let present = have.and_then(|bridge| bridge.alias.as_deref()).filter(|alias| !alias.is_empty());
    let marked = match present.map(BridgeMark::parse) {
        Some(None) => return None,
        Some(Some(mark)) => mark.gateways,
        None => Vec::new(),
    };
    let wanted = want.gateway.as_ref().filter(|gateway| gateway.vlan.is_none());
    let mut gateways: Vec<IpNetwork> = wanted.map(|gateway| gateway.addresses.clone()).unwrap_or_default();
    let leaving = match (wanted, have) {
        (Some(gateway), Some(bridge)) => leaving_addresses(gateway, bridge, &marked),
        _ => Vec::new(),
    };
    let staying = marked.into_iter().filter(|old| {
        !gateways.contains(old)
            && !leaving.contains(old)
            && have.is_some_and(|bridge| bridge.addresses.contains(old))
    });
    let staying: Vec<_> = staying.collect();
    gateways.extend(staying);
    let alias = BridgeMark { gateways }.render();
    (present != Some(alias.as_str())).then_some(alias)
}

fn plan_port(want: &Attachment, have: &Have, steps: &mut Vec<Step>) {
    let link = || want.port.name.clone();
    if let Some(now) = &have.renamed {
        steps.push(Step::Rename { link: now.clone(), name: link() });
    }
    let connected = have.port.as_ref().filter(|port| port.connected);
    if connected.is_none() {
        if have.port.is_some() {
            steps.push(Step::RemoveLink { link: link() });
        }
        steps.push(Step::CreateVeth {
            host: link(),
            host_mac: want.port.mac,
            host_mtu: want.port.mtu,
            bridge: want.bridge.name.clone(),
            pod: want.pod.name.clone(),
            mac: want.pod.mac,
            pod_mtu: want.pod.mtu,
        });
    }
    for strange in connected.iter().map(|port| &port.strange) {
        let routes = strange.routes.iter().cloned();
        steps.extend(routes.map(|route| Step::RemoveRoute { link: link(), route }));
        let addresses = strange.addresses.iter().copied();
        steps.extend(addresses.map(|address| Step::RemoveAddress { link: link(), address }));
    }
    let alias = VethMark::of(want).render();
    if connected.and_then(|port| port.alias.as_ref()) != Some(&alias) {
        steps.push(Step::Mark { link: link(), alias });
    }
    if connected.is_some_and(|port| !port.on_bridge) {
        steps.push(Step::Join { link: link(), bridge: want.bridge.name.clone() });
    } else if connected.is_some_and(|port| !port.up) {
        steps.push(Step::Up { link: link() });
    }
    // A fresh port has both flags off, also one that comes back to the bridge.
    let joined = connected.filter(|port| port.on_bridge);
    let hairpin = (joined.is_some_and(|port| port.hairpin) != want.port.hairpin).then_some(want.port.hairpin);
    let isolated =
        (joined.is_some_and(|port| port.isolated) != want.port.isolated).then_some(want.port.isolated);
    if hairpin.is_some() || isolated.is_some() {
        steps.push(Step::SetPort { link: link(), hairpin, isolated });
    }
    if let Some(vlans) = &want.port.vlans {
        plan_vlans(&want.port.name, vlans, joined.map(|port| port.vlans.as_slice()), steps);
    }
    if let (Some(mtu), Some(port)) = (want.port.mtu, connected)
        && port.mtu != mtu
    {
        steps.push(Step::SetMtu { link: link(), mtu });
    }
    if want.spoof_check && !have.spoof_rule {
        steps.push(Step::SpoofRule);
    }
    if want.spoof_check && !(have.spoof_check && connected.is_some()) {
        steps.push(Step::SpoofCheck { port: link(), pod: want.pod.name.clone(), mac: want.pod.mac });
    }
}

/// `have` is `None` for a port that these steps make a port of the bridge: it comes with VLAN 1, which the kernel calls default.
fn plan_vlans(link: &IfName, want: &Vlans, have: Option<&[PortVlan]>, steps: &mut Vec<Step>) {
    const FRESH: &[PortVlan] = &[PortVlan { id: 1, native: true }];
    let have = have.unwrap_or(FRESH);
    let wanted: Vec<(VlanId, bool)> = want
        .native
        .map(|vlan| (vlan, true))
        .into_iter()
        .chain(want.tagged.iter().filter(|vlan| Some(**vlan) != want.native).map(|vlan| (*vlan, false)))
        .collect();
    let is_wanted = |entry: &PortVlan| {
        wanted.iter().any(|(vlan, native)| vlan.id() == entry.id && *native == entry.native)
    };
    if !want.keep_default {
        for entry in have.iter().filter(|entry| !is_wanted(entry)) {
            steps.push(Step::RemoveVlan { link: link.clone(), vlan: entry.id });
        }
    }
    for (vlan, native) in wanted {
        if !have.contains(&PortVlan { id: vlan.id(), native }) {
            steps.push(Step::AddVlan { link: link.clone(), vlan, native });
        }
    }
}

fn plan_pod(want: &Attachment, have: &Have, steps: &mut Vec<Step>) {
    let link = || want.pod.name.clone();
    // An interface that is not our peer belongs to somebody else; creating ours will say so.
    let pod = have.pod.as_ref().filter(|_| have.port.as_ref().is_some_and(|port| port.connected));
    let missing: Vec<_> = want
        .pod
        .addresses
        .iter()
        .filter(|address| !pod.is_some_and(|pod| pod.addresses.contains(address)))
        .collect();
    if !missing.is_empty() {
        plan_sysctls(want, steps);
    }
    for address in missing {
        steps.push(Step::Pod(PodStep::Address { link: link(), address: *address }));
    }
    let up = pod.is_some_and(|pod| pod.up);
    if want.pod.up && !up {
        steps.push(Step::Pod(PodStep::Up { link: link() }));
    }
    // Also without detection: the kernel frees an address for use in a worker of its own (addrconf_dad_work), and what
    // arrives before is lost.
    if want.has_ipv6() && want.pod.up && !have.complete {
        steps.push(Step::Pod(PodStep::Settle { link: link() }));
    }
    let direct = pod.filter(|pod| have.complete && pod.up).map(|pod| lost_direct(want, pod));
    for route in direct.iter().flatten().chain(&want.pod.routes) {
        let is_there = |pod: &PodHave| {
            pod.routes.iter().any(|has| same_route(route, has, have.complete)) || pod.moved(route)
        };
        if !pod.is_some_and(is_there) {
            steps.push(Step::Pod(PodStep::Route { link: link(), route: route.clone() }));
        }
    }
}

/// Routes that the kernel made for addresses and that somebody flushed: it makes them once, and without them it refuses every
/// route through a gateway (`fib_check_nh`, net/ipv4/fib_semantics.c).
fn lost_direct(want: &Attachment, pod: &PodHave) -> Vec<Route> {
    let gateways: Vec<_> = want.pod.routes.iter().filter_map(|route| route.gw).collect();
    let networks = want.pod.addresses.iter().filter(|address| pod.addresses.contains(address));
    let mut needed: Vec<IpNetwork> = networks.map(|address| network_of(*address)).collect();
    needed.retain(|network| {
        !pod.direct.contains(network) && gateways.iter().any(|gateway| network.contains(*gateway))
    });
    let route = |dst| Route {
        dst,
        gw: None,
        mtu: None,
        advmss: None,
        priority: None,
        table: None,
        // RT_SCOPE_LINK: IPv4 takes no gateway behind a route of a wider scope.
        scope: Some(253),
    };
    needed.into_iter().map(route).collect()
}

/// Written together with the addresses: they decide how the kernel treats and announces them.
fn plan_sysctls(want: &Attachment, steps: &mut Vec<Step>) {
    let name = &want.pod.name;
    let mut set =
        |key: String, value, required| steps.push(Step::Pod(PodStep::Sysctl { key, value, required }));
    if want.has_ipv6() {
        for link in ["lo", name.as_str()] {
            set(format!("net/ipv6/conf/{link}/disable_ipv6"), "0", true);
        }
        set(format!("net/ipv6/conf/{name}/keep_addr_on_down"), "1", true);
        if want.pod.detect_duplicates {
            set(format!("net/ipv6/conf/{name}/enhanced_dad"), "1", false);
            set(format!("net/ipv6/conf/{name}/accept_dad"), "1", false);
        } else {
            set(format!("net/ipv6/conf/{name}/accept_dad"), "0", false);
        }
        set(format!("net/ipv6/conf/{name}/ndisc_notify"), "1", false);
    }
    steps.push(Step::Pod(PodStep::ArpNotify { link: name.clone() }));
}

impl PodHave {
    /// Whether a plugin behind ours, which may have given the pod another interface, leads what is bound for there through
    /// that one.
    fn moved(&self, route: &Route) -> bool {
        let table = |route: &Route| route.table.unwrap_or(MAIN_TABLE);
        self.elsewhere.iter().any(|has| has.dst == route.dst && table(has) == table(route))
    }
}

/// Whether `has` does what `want` asks. A plugin behind ours may point the default route elsewhere once ADD is done.
fn same_route(want: &Route, has: &Route, complete: bool) -> bool {
    let table = |route: &Route| route.table.unwrap_or(MAIN_TABLE);
    want.dst == has.dst
        && table(want) == table(has)
        && (want.gw == has.gw || (complete && want.is_default()))
        && want.priority.is_none_or(|priority| has.priority.unwrap_or(0) == priority)
        && want.mtu.is_none_or(|mtu| has.mtu == Some(mtu))
        && want.advmss.is_none_or(|advmss| has.advmss == Some(advmss))
}

/// A new pod is reachable at once: its port forwards, and nobody remembers an earlier holder of its addresses.
fn plan_arrival(want: &Attachment, have: &Have, steps: &mut Vec<Step>) {
    if want.pod.up && !have.port.as_ref().is_some_and(|port| port.connected && port.operational) {
        steps.push(Step::AwaitPort { link: want.port.name.clone() });
    }
    if have.complete || want.pod.addresses.is_empty() {
        return;
    }
    for address in &want.pod.addresses {
        steps.push(Step::ForgetNeighbour { link: want.bridge.name.clone(), address: address.ip() });
        if have.unclean {
            steps.push(Step::ForgetConnections { address: address.ip() });
        }
    }
    if want.pod.up {
        steps.push(Step::Pod(PodStep::Announce { link: want.pod.name.clone() }));
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
