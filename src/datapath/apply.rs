//! Tells the kernel, one step at a time.
//!
//! Decides nothing: which steps, and in which order, is the plan's business.

pub mod repair;

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;

use super::firewall::{accepts, guard, rules as filters};
use super::observe::forwarding_key;
use super::session::{PodSide, Session, Side};
use super::step::{FilterStep, PodStep, Step};
use super::switches;
use super::{names, rules};
use crate::kernel::link::{Change, NewBridge, NewVeth, OperState, Peer};
use crate::kernel::route::RouteEntry;
use crate::kernel::vlan::PortVlan;
use crate::kernel::{self, address, conntrack, link, neighbour, netconf, route, sysctl, vlan};
use crate::net::{IfName, Mac, Route};

/// As long as the plugins we replace wait for the host end, and for duplicate address detection.
const PORT_PATIENCE: Duration = Duration::from_millis(2550);
const SETTLE_PATIENCE: Duration = Duration::from_secs(5);
const RT_TABLE_MAIN: u32 = 254;

/// A step that failed, and why.
#[derive(Debug)]
pub struct Failure {
    pub step: Box<Step>,
    pub error: kernel::Error,
}

/// Runs the steps in order, up to the first that fails. Whoever called takes the attachment back then: what is left of
/// an earlier run must go too, not only what this one did.
pub fn apply(session: &mut Session, steps: &[Step]) -> Result<(), Failure> {
    for step in steps {
        run(session, step).map_err(|error| Failure { step: Box::new(step.clone()), error })?;
    }
    Ok(())
}

/// Runs every step and goes on when one fails: what is being removed must go as far as it can.
pub fn apply_all(session: &mut Session, steps: &[Step]) -> Vec<Failure> {
    let failures = steps.iter().filter_map(|step| {
        let error = run(session, step).err().filter(|error| !error.is_missing())?;
        Some(Failure { step: Box::new(step.clone()), error })
    });
    failures.collect()
}

fn run(session: &mut Session, step: &Step) -> kernel::Result<()> {
    tracing::debug!("{step}");
    match step {
        Step::CreateBridge { name, mac, mtu, vlan_filtering } => {
            let bridge = NewBridge { name, mac: Some(*mac), mtu: *mtu, vlan_filtering: *vlan_filtering };
            // Two first pods at once: whoever comes second carries on with the bridge of the first.
            present(link::add_bridge(&mut session.node.route, &bridge))
        }
        Step::CreateVlanGateway { name, port, mtu } => {
            let peer = Peer { name: port, mac: None, mtu: *mtu, netns: None };
            let veth = NewVeth { name, mtu: *mtu, mac: None, up: true, master: None, peer };
            present(link::add_veth(&mut session.node.route, &veth))
        }
        Step::CreateVeth { host, host_mac, host_mtu, bridge, pod, mac, pod_mtu } => {
            let master = Some(session.node.index(bridge)?);
            let Session { node, pod: side, .. } = session;
            node.forget(host);
            if let Some(side) = side {
                side.side.forget(pod);
            }
            let netns = side.as_ref().map(|side| side.netns.fd());
            let peer = Peer { name: pod, mac: *mac, mtu: *pod_mtu, netns };
            let veth = NewVeth { name: host, mtu: *host_mtu, mac: *host_mac, up: true, master, peer };
            link::add_veth(&mut node.route, &veth)?;
            join_what_was_born_alone(node, host, master)
        }
        Step::Mark { link, alias } => {
            change(session, link, &Change { alias: Some(alias.clone()), ..Change::default() })
        }
        Step::FixMac { link, mac } => change(session, link, &Change { mac: Some(*mac), ..Change::default() }),
        Step::Promiscuous { link } => {
            change(session, link, &Change { promiscuous: Some(true), ..Change::default() })
        }
        Step::Up { link } => change(session, link, &Change { up: Some(true), ..Change::default() }),
        Step::SetMtu { link, mtu } => change(session, link, &Change { mtu: Some(*mtu), ..Change::default() }),
        Step::Join { link, bridge } => {
            let master = Some(session.node.index(bridge)?);
            change(session, link, &Change { master, up: Some(true), ..Change::default() })
        }
        // A node without IPv6 has nothing to refuse.
        Step::RefuseAdvertisements { link } => {
            optional(sysctl::write(&format!("net/ipv6/conf/{link}/accept_ra"), "0"))
        }
        Step::Rename { link, name } => rename(session, link, name),
        Step::RemoveLink { link } => remove_link(session, link),
        Step::AddAddress { link, address } => add_address(session, link, *address),
        Step::NameServerAddress { link, address } => {
            let index = session.node.index(link)?;
            let address = IpNetwork::from(IpAddr::V4(*address));
            present(address::add_to_link(&mut session.node.route, index, link.as_str(), address))
        }
        Step::RemoveAddress { link, address } => {
            let index = session.node.index(link)?;
            gone(address::remove(&mut session.node.route, index, link.as_str(), *address))
        }
        Step::Forward(family) => switches::turn(&session.boot()?, forwarding_key(*family), "1"),
        Step::SetPort { link, hairpin, isolated } => {
            let index = session.node.index(link)?;
            link::set_port(&mut session.node.route, index, link.as_str(), *hairpin, *isolated)
        }
        Step::RemoveVlan { link, vlan } => {
            let index = session.node.index(link)?;
            gone(vlan::remove(&mut session.node.route, index, link.as_str(), *vlan))
        }
        Step::AddVlan { link, vlan, native } => {
            let index = session.node.index(link)?;
            let entry = PortVlan { id: vlan.id(), pvid: *native, untagged: *native };
            vlan::add(&mut session.node.route, index, link.as_str(), entry)
        }
        Step::Masquerade { network, subnet } => rules::add_masquerade(session.netfilter()?, network, *subnet),
        Step::SpoofRule => rules::add_spoof_rule(session.netfilter()?),
        Step::SpoofCheck { port, pod, mac } => {
            let mac = mac.map_or_else(|| pod_mac(session, pod), Ok)?;
            rules::add_spoof_check(session.netfilter()?, port, mac)
        }
        Step::RemoveSpoofCheck { port } => rules::remove_spoof_check(session.netfilter()?, port),
        Step::Filter(step) => run_filter(session, step),
        Step::ForgetUnmasqueraded { subnet } => repair::forget_unmasqueraded(session, *subnet),
        Step::RemoveRoute { link, route } => {
            let index = session.node.index(link)?;
            // Of whichever protocol made it.
            let entry = RouteEntry { protocol: 0, ..route_entry(route, index) };
            gone(route::remove(&mut session.node.route, &entry))
        }
        Step::AwaitPort { link } => await_port(session, link),
        Step::ForgetNeighbour { link, address } => forget_neighbour(session, link, *address),
        Step::ForgetConnections { address } => forget_connections(session, *address),
        Step::Pod(step) => run_in_pod(pod(session)?, step),
    }
}

/// A pod is not refused because somebody else's firewall cannot be changed or the kernel lacks a module: it is started,
/// and the log says what it lacks. But nothing is opened to strangers.
fn run_filter(session: &mut Session, step: &FilterStep) -> kernel::Result<()> {
    let outcome = change_filter(session, step);
    match step {
        // Pods live without names, too, and with those that others hear of.
        FilterStep::ClampMss { .. }
        | FilterStep::AcceptForward { .. }
        | FilterStep::NameServerRules { .. }
        | FilterStep::GuardNameServer { .. }
        | FilterStep::ReleaseNameServer { .. }
        | FilterStep::LeadNameServer { .. }
        | FilterStep::InterceptNames { .. } => outcome.or_else(ignore),
        FilterStep::AcceptLegacy { .. } => outcome.or_else(|error| {
            if error.is_busy() {
                return Err(error);
            }
            tracing::warn!("legacy iptables drops what pods send; type: {step}");
            ignore(error)
        }),
        _ => outcome,
    }
}

fn change_filter(session: &mut Session, step: &FilterStep) -> kernel::Result<()> {
    match step {
        FilterStep::GuardForward { family, add, remove, .. } => {
            guard::guard_forward(session.netfilter()?, *family, add, remove)
        }
        FilterStep::KeepAdvertisements { link } => {
            optional(switches::turn(&session.boot()?, &format!("net/ipv6/conf/{link}/accept_ra"), "2"))
        }
        FilterStep::ClampMss { family, interface } => {
            filters::clamp_mss(session.netfilter()?, *family, interface)
        }
        FilterStep::AcceptForward { chain, traffic, .. } => {
            accepts::accept_forward(session.netfilter()?, chain, traffic)
        }
        FilterStep::AcceptLegacy { family, traffic, .. } => accepts::accept_legacy(*family, traffic),
        FilterStep::NameServerRules { link, own, gateways } => {
            names::add_rules(session.netfilter()?, link, *own, gateways)
        }
        FilterStep::GuardNameServer { link, address } => {
            names::add_guard(session.netfilter()?, link, *address)
        }
        FilterStep::ReleaseNameServer { address } => names::release(session.netfilter()?, *address),
        FilterStep::InterceptNames { link, gateway } => {
            names::intercept::intercept(session.netfilter()?, link, *gateway)
        }
        FilterStep::LeadNameServer { address, port } => {
            names::lead::lead(session.netfilter()?, *address, *port)
        }
    }
}

/// Steps on the pod's side.
fn run_in_pod(pod: &mut PodSide, step: &PodStep) -> kernel::Result<()> {
    match step {
        PodStep::Sysctl { key, value, required } => {
            let written = pod.visit(|| sysctl::write(key, value))?;
            if *required { optional(written) } else { written.or_else(ignore) }
        }
        PodStep::ArpNotify { link } => {
            let index = pod.side.index(link)?;
            netconf::notify_arp(&mut pod.side.route, index, link.as_str()).or_else(ignore)
        }
        PodStep::Address { link, address } => {
            let index = pod.side.index(link)?;
            address::add(&mut pod.side.route, index, link.as_str(), *address)
        }
        PodStep::Up { link } => {
            let index = pod.side.index(link)?;
            link::change(
                &mut pod.side.route,
                index,
                link.as_str(),
                &Change { up: Some(true), ..Change::default() },
            )
        }
        PodStep::Settle { link } => settle(pod, link),
        PodStep::Route { link, route } => {
            let index = pod.side.index(link)?;
            route::add(&mut pod.side.route, &route_entry(route, index))
        }
        PodStep::Announce { link } => announce(pod, link),
        PodStep::RemoveLink { link } => {
            let index = pod.side.index(link)?;
            pod.side.forget(link);
            link::delete(&mut pod.side.route, index, link.as_str())
        }
    }
}

fn pod(session: &mut Session) -> kernel::Result<&mut PodSide> {
    session.pod.as_mut().ok_or_else(|| {
        kernel::Error::new("enter the pod's network namespace", rustix::io::Errno::NOENT.into())
    })
}

fn change(session: &mut Session, name: &IfName, change: &Change) -> kernel::Result<()> {
    let index = session.node.index(name)?;
    link::change(&mut session.node.route, index, name.as_str(), change)
}

/// Old kernels do not look at the bridge of a new link, and do not say so. The look costs nothing: the next step needs it.
fn join_what_was_born_alone(node: &mut Side, host: &IfName, master: Option<u32>) -> kernel::Result<()> {
    match node.look_up(host)? {
        Some(link) if link.master != master => {
            let joined = link::change(
                &mut node.route,
                link.index,
                host.as_str(),
                &Change { master, ..Change::default() },
            );
            node.forget(host);
            joined
        }
        _ => Ok(()),
    }
}

fn rename(session: &mut Session, link: &IfName, name: &IfName) -> kernel::Result<()> {
    change(session, link, &Change { up: Some(false), ..Change::default() })?;
    change(session, link, &Change { name: Some(name.clone()), ..Change::default() })?;
    session.node.forget(link);
    session.node.forget(name);
    change(session, name, &Change { up: Some(true), ..Change::default() })
}

fn remove_link(session: &mut Session, name: &IfName) -> kernel::Result<()> {
    let Some(link) = session.node.seen(name)? else { return Ok(()) };
    session.node.forget(name);
    gone(link::delete(&mut session.node.route, link.index, name.as_str()))
}

fn add_address(session: &mut Session, link: &IfName, address: IpNetwork) -> kernel::Result<()> {
    let index = session.node.index(link)?;
    present(address::add(&mut session.node.route, index, link.as_str(), address))
}

fn route_entry(route: &Route, index: u32) -> RouteEntry {
    RouteEntry {
        dst: route.dst,
        gw: route.gw,
        index: Some(index),
        table: route.table.unwrap_or(RT_TABLE_MAIN),
        priority: route.priority,
        scope: route.scope.unwrap_or(0),
        mtu: route.mtu,
        advmss: route.advmss,
        protocol: 3,
    }
}

fn pod_mac(session: &mut Session, name: &IfName) -> kernel::Result<Mac> {
    let link = pod(session)?.side.seen(name)?;
    link.and_then(|link| link.mac)
        .ok_or_else(|| kernel::Error::new(format!("ip link show {name}"), rustix::io::Errno::NODEV.into()))
}

/// The kernel's link watch does its work within microseconds of carrier coming up, so the first looks are close together.
fn await_port(session: &mut Session, name: &IfName) -> kernel::Result<()> {
    let begun = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        let link = session.node.look_up(name)?;
        let state = link.map(|link| link.state);
        if state == Some(OperState::Up) {
            return Ok(());
        }
        if begun.elapsed() > PORT_PATIENCE {
            let state = state.map_or_else(|| "missing".to_owned(), |state| state.to_string());
            return Err(kernel::Error::with_words(
                format!("bridge port in error state: {state}"),
                rustix::io::Errno::TIMEDOUT.into(),
                Some(format!("ip link show {name} tells more")),
            ));
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Waits until the kernel has decided about every IPv6 address of the interface.
fn settle(pod: &mut PodSide, name: &IfName) -> kernel::Result<()> {
    let index = pod.side.index(name)?;
    let begun = Instant::now();
    let mut pause = Duration::from_micros(100);
    loop {
        let addresses = address::of_link(&mut pod.side.route, index)?;
        if let Some(failed) = addresses.iter().find(|address| address.dad_failed) {
            return Err(kernel::Error::with_words(
                format!("link {name} has address {} in DADFAILED state", failed.address.ip()),
                rustix::io::Errno::ADDRINUSE.into(),
                Some("another host on the bridge has it".to_owned()),
            ));
        }
        if !addresses.iter().any(|address| address.tentative) {
            return Ok(());
        }
        if begun.elapsed() > SETTLE_PATIENCE {
            // A link without carrier settles when it gets one; that is not this pod's failure.
            let up = pod.side.look_up(name)?.is_some_and(|link| link.state == OperState::Up);
            let error = kernel::Error::new(
                format!(
                    "failed to settle addresses for \"{name}\": link {name} still has tentative addresses after 5 seconds"
                ),
                rustix::io::Errno::TIMEDOUT.into(),
            );
            return if up { Err(error) } else { Ok(()) };
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Setting the address a link already has makes the kernel tell the neighbours (`arp_notify` and `ndisc_notify`:
/// gratuitous ARP and unsolicited advertisement on NETDEV_CHANGEADDR, net/ipv4/devinet.c and net/ipv6/ndisc.c), now that
/// the port forwards. What the kernel sent when the link came up was lost at a port that did not yet.
fn announce(pod: &mut PodSide, name: &IfName) -> kernel::Result<()> {
    let Some(link) = pod.side.seen(name)? else { return Ok(()) };
    let change = Change { mac: link.mac, ..Change::default() };
    link::change(&mut pod.side.route, link.index, name.as_str(), &change).or_else(ignore)
}

fn forget_neighbour(session: &mut Session, link: &IfName, address: IpAddr) -> kernel::Result<()> {
    match session.node.seen(link)? {
        Some(bridge) => neighbour::remove(&mut session.node.route, bridge.index, address),
        None => Ok(()),
    }
}

/// A node without connection tracking, or without connections, has nothing to forget: then no socket is opened.
fn forget_connections(session: &mut Session, address: IpAddr) -> kernel::Result<()> {
    if !conntrack::count().is_ok_and(|count| count.unwrap_or(0) > 0) {
        return Ok(());
    }
    conntrack::forget_address(session.netfilter()?, address).map(drop).or_else(ignore)
}

/// Best effort, with a word in the log.
#[expect(
    clippy::needless_pass_by_value,
    clippy::unnecessary_wraps,
    reason = "the shape Result::or_else asks for"
)]
fn ignore(error: kernel::Error) -> kernel::Result<()> {
    tracing::warn!(%error, "goes on without");
    Ok(())
}

/// Creating what is there already is success.
fn present(result: kernel::Result<()>) -> kernel::Result<()> {
    result.or_else(|error| if error.is_exists() { Ok(()) } else { Err(error) })
}

/// Removing what is gone already is success.
fn gone(result: kernel::Result<()>) -> kernel::Result<()> {
    result.or_else(|error| if error.is_missing() { Ok(()) } else { Err(error) })
}

/// A key that this kernel does not have.
fn optional(result: kernel::Result<()>) -> kernel::Result<()> {
    gone(result)
}
