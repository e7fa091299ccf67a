//! CHECK: what ADD promised is still there.
//!
//! First the previous result against the kernel, in the order and the words of the plugin we replace; then, for what we
//! attached ourselves, the plan of an ADD, which must have nothing for this attachment. What it has for all pods of the
//! node (gateway address, forwarding, masquerading) is logged.
//!
//! What was promised is in the record. The configuration may say something else by now, which is the next pod's business:
//! that is logged, and nothing is held against this pod for it.

use ipnetwork::IpNetwork;

use super::config::Config;
use super::ipam::Ipam;
use super::want;
use crate::cni::config::NetConf;
use crate::cni::error::{Context, Error, Result};
use crate::cni::request::Request;
use crate::cni::result::{AddResult, Interface};
use crate::datapath::observe;
use crate::datapath::plan::{PodHave, plan};
use crate::datapath::session::{Link, Netns, Session};
use crate::net::{IfName, Route, network_of};
use crate::plugins::next_move::CONFIGURATION;
use crate::plugins::{CallContext, difference, netns_error, verdict};
use crate::spec::Attachment;
use crate::state::{Record, Records};

pub fn check(request: &Request) -> Result<()> {
    let config = Config::parse(&request.config, &request.args).hint(CONFIGURATION)?;
    let sandbox = crate::plugins::sandbox(request)?;
    let netns = Netns::open(sandbox)
        .map_err(|error| netns_error(error).context(format!("failed to open netns {sandbox:?}")))?;
    let CallContext { records, mut session } = CallContext::in_pod(netns)?;
    let record = super::record_of(&records, &request.attachment_id()?)?;
    check_leases(request, &config, &records, record.as_ref())?;
    let previous = crate::plugins::previous_result(&NetConf::decode(&request.config)?, request)?;
    let previous = previous.ok_or_else(|| Error::internal("Required prevResult missing"))?;
    let want = record.as_ref().filter(|record| record.complete).and_then(Record::attachment);
    check_interfaces(&mut session, &Expected::of(&config, want), request, &previous)?;
    check_pod(&mut session, request, &previous)?;
    let Some(want) = want else { return Ok(()) };
    difference::log(&want::differences(&config, want));
    check_drift(&mut session, &config, &records, want)
}

/// Who leased the addresses is asked; a configuration that names another one has no words for that.
fn check_leases(
    request: &Request,
    config: &Config,
    records: &Records,
    record: Option<&Record>,
) -> Result<()> {
    let complete = record.filter(|record| record.complete);
    if let Some(changed) = complete.and_then(|record| want::ipam_difference(config, record)) {
        difference::log(&[changed]);
        return Ok(());
    }
    config.ipam.as_ref().map_or(Ok(()), |name| Ipam::new(request, name, records).check(record))
}

/// The bridge as it should be: as promised, or, where nobody remembers that, as configured.
struct Expected<'a> {
    bridge: &'a IfName,
    promiscuous: bool,
}

impl<'a> Expected<'a> {
    fn of(config: &'a Config, want: Option<&'a Attachment>) -> Self {
        let (bridge, promiscuous) = match want {
            Some(want) => (&want.bridge.name, want.bridge.promiscuous),
            None => (&config.bridge, config.promiscuous),
        };
        Self { bridge, promiscuous }
    }
}

/// Bridge, container end and host end of the previous result.
fn check_interfaces(
    session: &mut Session,
    expected: &Expected<'_>,
    request: &Request,
    previous: &AddResult,
) -> Result<()> {
    let bridge = previous.interfaces.iter().find(|interface| interface.name == expected.bridge.as_str());
    let bridge = bridge.ok_or_else(|| Error::internal("Interface name missing "))?;
    let bridge_link = host_link(session, bridge)?;
    check_bridge(expected, bridge, &bridge_link)?;

    let if_name = request.attachment()?.if_name.as_str();
    let sandbox = crate::plugins::sandbox(request)?;
    let named = previous.interfaces.iter().find(|interface| interface.name == if_name);
    let container =
        named.filter(|interface| interface.sandbox.as_deref() == Some(sandbox)).ok_or_else(|| {
            let found = named.and_then(|interface| interface.sandbox.as_deref()).unwrap_or_default();
            Error::internal(format!(
                "Sandbox in prevResult {found} doesn't match configured netns: {sandbox}"
            ))
        })?;
    let container_link = check_container(session, container)?;

    for interface in &previous.interfaces {
        if interface.name == bridge.name || interface == container {
            continue;
        }
        let link = host_link(session, interface)?;
        let is_pair = link.kind.as_deref() == Some("veth")
            && link.peer == Some(container_link.index)
            && container_link.peer == Some(link.index);
        if !is_pair || link.master != Some(bridge_link.index) {
            continue;
        }
        if !mac_matches(interface, &link) {
            let (name, mac) = (&interface.name, interface.mac.as_deref().unwrap_or_default());
            return Err(Error::internal(format!("Interface {name} Mac doesn't match: {mac} not found")));
        }
        return Ok(());
    }
    Err(Error::internal(format!("CNI veth created for bridge {} was not found", expected.bridge)))
}

fn host_link(session: &mut Session, interface: &Interface) -> Result<Link> {
    let missing = || Error::internal(format!("Interface name {} not found", interface.name));
    let name: IfName = interface.name.parse().map_err(|_| missing())?;
    let link = session.node.look_up(&name).map_err(Error::internal)?.ok_or_else(missing)?;
    if interface.sandbox.as_deref().is_some_and(|sandbox| !sandbox.is_empty()) {
        return Err(Error::internal(format!("Interface {name} should not be in sandbox")));
    }
    Ok(link)
}

fn check_bridge(expected: &Expected<'_>, interface: &Interface, link: &Link) -> Result<()> {
    let name = &interface.name;
    if link.kind.as_deref() != Some("bridge") {
        return Err(Error::internal(format!("Interface {name} does not have link type of bridge")));
    }
    if !mac_matches(interface, link) {
        let mac = interface.mac.as_deref().unwrap_or_default();
        return Err(Error::internal(format!("Bridge interface {name} Mac doesn't match: {mac}")));
    }
    if link.promiscuous != expected.promiscuous {
        return Err(Error::internal(format!(
            "Bridge interface {name} configured Promisc Mode {} doesn't match current state: {} ",
            expected.promiscuous, link.promiscuous
        )));
    }
    Ok(())
}

fn check_container(session: &mut Session, interface: &Interface) -> Result<Link> {
    let missing = || Error::internal(format!("Interface name {} not found", interface.name));
    let name: IfName = interface.name.parse().map_err(|_| missing())?;
    let link = session.look_up_in_pod(&name).map_err(Error::internal)?.ok_or_else(missing)?;
    if link.kind.as_deref() != Some("veth") {
        return Err(Error::internal(format!("Error: Container interface {name} not of type veth")));
    }
    if !mac_matches(interface, &link) {
        let (listed, found) = (interface.mac.as_deref().unwrap_or_default(), mac_text(&link));
        return Err(Error::internal(format!(
            "Interface {name} Mac {listed} doesn't match container Mac: {found}"
        )));
    }
    if link.peer.is_none() {
        return Err(Error::internal(format!("Unable to obtain veth peer index for veth {name}")));
    }
    Ok(link)
}

fn mac_text(link: &Link) -> String {
    link.mac.map(|mac| mac.to_string()).unwrap_or_default()
}

fn mac_matches(interface: &Interface, link: &Link) -> bool {
    interface
        .mac
        .as_deref()
        .filter(|mac| !mac.is_empty())
        .is_none_or(|mac| mac.eq_ignore_ascii_case(&mac_text(link)))
}

/// Addresses and routes inside the pod.
fn check_pod(session: &mut Session, request: &Request, previous: &AddResult) -> Result<()> {
    let if_name = &request.attachment()?.if_name;
    let pod = observe::observe_pod_interface(session, if_name).map_err(Error::internal)?;
    let pod = pod.ok_or_else(|| Error::internal(format!("Interface name {if_name} not found")))?;
    for ip in &previous.ips {
        if !pod.addresses.contains(&ip.address) {
            return Err(Error::internal(format!(
                "Failed to match addr {} on interface {if_name}",
                ip.address
            )));
        }
        if !has_connected_route(&pod, ip.address) {
            let gateway = ip.gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
            return Err(Error::internal(format!("Failed to find Gateway {gateway} for interface {if_name}")));
        }
    }
    match previous.routes.iter().find(|route| !has_route(&pod, route)) {
        None => Ok(()),
        Some(route) => {
            Err(Error::internal(format!("Expected Route {} not found in routing table", go_route(route))))
        }
    }
}

/// The kernel makes a route for every address but for those of one host.
fn has_connected_route(pod: &PodHave, address: IpNetwork) -> bool {
    let one_host = if address.is_ipv4() { 32 } else { 128 };
    address.prefix() == one_host || all_routes(pod).any(|route| route.dst == network_of(address))
}

/// A later plugin may have moved a route to another interface, and a default route to another gateway.
fn has_route(pod: &PodHave, wanted: &Route) -> bool {
    let main = 254;
    all_routes(pod).any(|route| {
        route.dst == wanted.dst
            && route.table.unwrap_or(main) == wanted.table.unwrap_or(main)
            && (wanted.is_default() || wanted.gw.is_none() || route.gw == wanted.gw)
    })
}

fn all_routes(pod: &PodHave) -> impl Iterator<Item = &Route> {
    pod.routes.iter().chain(&pod.elsewhere)
}

/// As Go prints a route of the CNI library.
fn go_route(route: &Route) -> String {
    let ones = u32::from(route.dst.prefix());
    let mask = match route.dst {
        IpNetwork::V4(_) => format!("{:08x}", u32::MAX.checked_shl(32 - ones).unwrap_or(0)),
        IpNetwork::V6(_) => format!("{:032x}", u128::MAX.checked_shl(128 - ones).unwrap_or(0)),
    };
    let gateway = route.gw.map_or_else(|| "<nil>".to_owned(), |gw| gw.to_string());
    let number = |value: Option<u32>| value.unwrap_or(0);
    let table = route.table.map_or_else(|| "<nil>".to_owned(), |table| table.to_string());
    let scope = route.scope.map_or_else(|| "<nil>".to_owned(), |scope| scope.to_string());
    format!(
        "{{Dst:{{IP:{} Mask:{mask}}} GW:{gateway} MTU:{} AdvMSS:{} Priority:{} Table:{table} Scope:{scope}}}",
        route.dst.ip(),
        number(route.mtu),
        number(route.advmss),
        number(route.priority)
    )
}

/// What an ADD would still have to do.
fn check_drift(session: &mut Session, config: &Config, records: &Records, want: &Attachment) -> Result<()> {
    let needed = super::host_needs(records, want);
    let have = observe::observe(session, want, true, &needed)
        .map_err(Error::internal)?
        .map_err(|_| super::not_a_bridge(&want.bridge.name))?;
    let steps = plan(want, &have);
    let missing: Vec<_> = steps.iter().map(|step| (step.concern(want), step.to_string())).collect();
    verdict::of(&missing, config.strict_check, "missing on this node")
}
