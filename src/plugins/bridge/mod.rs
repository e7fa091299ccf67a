//! The `bridge` plugin: a veth pair between the node's bridge and the pod, addresses, routes, egress.
//!
//! Configuration in `config`, what it promises in `want`, the verbs in `add`, `del`, `check` and here. What the kernel
//! must be told is the datapath's business.

mod add;
mod check;
pub mod config;
mod del;
mod errors;
mod ipam;
pub mod promise;
pub mod want;

pub use add::{Added, add};
pub use check::check;
pub use del::{del, is_foreign, planned_removal, remove_recorded};

use ipnetwork::IpNetwork;

use self::config::{Config, RemovalConfig};
use self::ipam::Ipam;
use crate::cni::args::Args;
use crate::cni::config::NetConf;
use crate::cni::error::{Code, Context, Error, Result};
use crate::cni::request::{ContainerId, NetworkName, Request, Target};
use crate::cni::result::Interface;
use crate::datapath::census;
use crate::datapath::mark::Identity;
use crate::datapath::session::Session;
use crate::datapath::spec::Attachment;
use crate::net::IfName;
use crate::plugins::next_move::CONFIGURATION;
use crate::plugins::node_records;
use crate::state::holders;
use crate::state::record::{self, Flags, Pod, Promised};
use crate::state::{Liveness, NetnsId, Record, Records, boot};

/// Whose records these are: the main plugin's, as opposed to IPAM's or portmap's.
pub const PLUGIN: &str = "bridge";

/// STATUS: whether an ADD of this network would work. Reads only.
pub fn status(request: &Request) -> Result<()> {
    let common = NetConf::decode(&request.config).context("failed to load netconf").hint(CONFIGURATION)?;
    let config = RemovalConfig::read(&request.config);
    if config.drain {
        return Err(draining(request).with_code(Code::PluginNotAvailable));
    }
    if let Some(bridge) = config.bridge {
        let mut session = Session::open(None).map_err(unavailable)?;
        let link = session.node.look_up(&bridge).map_err(unavailable)?;
        if link.is_some_and(|link| link.kind.as_deref() != Some("bridge")) {
            return Err(not_a_bridge(&bridge).with_code(Code::PluginNotAvailable));
        }
    }
    let records = node_records()?;
    records.writable().map_err(unavailable)?;
    match common.ipam_type {
        Some(name) => Ipam::new(request, &name, &records).status(),
        None => Ok(()),
    }
}

/// Pods that are there can still be detached, which needs a configuration: without one runtimes refuse that, too.
fn draining(request: &Request) -> Error {
    Error::internal(format!("network \"{}\" takes no new pods", request.network)).with_details(
        "it is being taken from this node (key `drain`): let pods go elsewhere, or run smarter-cni install again",
    )
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::new(Code::PluginNotAvailable, error)
}

/// GC: what is not in the runtime's list goes, whatever is left of it: links, rules, leases, records.
pub fn gc(request: &Request) -> Result<()> {
    let config = NetConf::decode(&request.config).context("failed to load netconf").hint(CONFIGURATION)?;
    let valid = config.valid_attachments.ok_or_else(|| {
        Error::new(Code::InvalidNetworkConfig, "GC without the key cni.dev/valid-attachments").with_details(
            "an empty list frees every attachment of the network; leaving the list out frees none",
        )
    })?;
    let is_valid =
        |container: &str, if_name: &str| valid.iter().any(|(id, name)| id == container && name == if_name);
    let records = node_records()?;
    let network = request.network.as_str();
    let mut failures = Vec::new();
    let mut remove = |identity: &Identity, record: Option<&Record>| {
        let lock = del::hold_known(&records, identity);
        match del::remove_attachment(request, &records, identity, record, None, None) {
            Ok(()) => crate::plugins::forget(lock),
            Err(error) => failures.push(error),
        }
    };
    crate::plugins::sweep(&records, true);
    let all = records.all().map_err(Error::internal)?;
    for record in all.iter().filter(|record| record.plugin == PLUGIN && record.network == network) {
        if !is_valid(&record.container_id, record.if_name.as_str()) {
            remove(&identity_of(record), Some(record));
        }
    }
    // Links whose record was lost still say whose they are.
    let mut session = Session::open(None).map_err(Error::internal)?;
    for mark in census::marked_attachments(&mut session).map_err(Error::internal)? {
        let identity = mark.identity;
        if identity.network == network && !is_valid(&identity.container, identity.if_name.as_str()) {
            remove(&identity, None);
        }
    }
    if let Some(name) = config.ipam_type {
        failures.extend(Ipam::new(request, &name, &records).gc().err());
    }
    match failures.into_iter().next() {
        None => Ok(()),
        Some(error) => Err(error.context("GC could not free everything")),
    }
}

fn identity(request: &Request, target: &Target) -> Identity {
    Identity {
        network: request.network.as_str().to_owned(),
        container: target.container.as_str().to_owned(),
        if_name: target.if_name.clone(),
    }
}

fn identity_of(record: &Record) -> Identity {
    Identity {
        network: record.network.clone(),
        container: record.container_id.clone(),
        if_name: record.if_name.clone(),
    }
}

/// The identity in the words of the state.
fn attachment_of(identity: &Identity) -> record::Attachment<'_> {
    record::Attachment {
        network: &identity.network,
        container: &identity.container,
        if_name: &identity.if_name,
    }
}

/// The request as if it were about that attachment, for verbs that find attachments by themselves: GC, and DEL after the
/// network was renamed.
fn on_behalf_of(request: &Request, attachment: &Identity) -> Result<Request> {
    if request.target.as_ref().is_some_and(|target| identity(request, target) == *attachment) {
        return Ok(request.clone());
    }
    let mut request = request.clone();
    request.network = NetworkName::parse(&attachment.network)?;
    let (container, if_name) = (ContainerId::parse(&attachment.container)?, attachment.if_name.clone());
    for (name, value) in
        [("CNI_CONTAINERID", container.as_str()), ("CNI_IFNAME", if_name.as_str()), ("CNI_NETNS", "")]
    {
        request.environment.retain(|(key, _)| key != name);
        request.environment.push((name.into(), value.into()));
    }
    request.target = Some(Target { container, if_name, netns: None });
    Ok(request)
}

fn record_of(records: &Records, identity: &Identity) -> Result<Option<Record>> {
    records.read(&attachment_of(identity), PLUGIN).map_err(Error::internal)
}

fn not_a_bridge(name: &IfName) -> Error {
    Error::internal(format!(
        "failed to create bridge \"{name}\": \"{name}\" already exists but is not a bridge"
    ))
    .with_details("give the network another bridge, or remove that link")
}

/// What is to be done, before anything is.
fn new_record(
    request: &Request,
    records: &Records,
    identity: &Identity,
    config: &Config,
    host_end: IfName,
    here: Option<NetnsId>,
) -> Record {
    let mut record = Record::begin(records, PLUGIN, &attachment_of(identity), None);
    // The one that is open, whatever becomes of its path.
    record.netns_id = here;
    record.netns = request.target.as_ref().and_then(|target| target.netns.clone());
    let args = Args::parse_lenient(&request.args);
    let pod = args.pod();
    record.pod = Some(Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() });
    record.promised = Promised {
        bridge: Some(config.bridge.clone()),
        host_if: Some(host_end),
        flags: Flags { mac_spoof_check: config.spoof_check, ..Flags::default() },
        ipam: config.ipam.clone(),
        data_dir: ipam::data_dir(request),
        ..Promised::default()
    };
    record
}

/// Stands in for a record that was lost, or never made.
fn lost_record(request: &Request, records: &Records, identity: &Identity) -> Record {
    let config = RemovalConfig::read(&request.config);
    let mut record = Record::begin(records, PLUGIN, &attachment_of(identity), None);
    record.promised = Promised {
        bridge: config.bridge,
        flags: Flags { mac_spoof_check: config.spoof_check, ..Flags::default() },
        ipam: config.ipam,
        data_dir: ipam::data_dir(request),
        ..Promised::default()
    };
    record
}

/// Whether the pod has an interface of that name.
fn has_pod_interface(session: &mut Session, identity: &Identity) -> Result<bool> {
    session.look_up_in_pod(&identity.if_name).map(|link| link.is_some()).map_err(Error::internal)
}

/// Gateways of other attachments on the same bridge that are still alive. Asked for rarely, hence a closure.
pub fn host_needs<'a>(records: &'a Records, want: &'a Attachment) -> impl Fn() -> Vec<IpNetwork> + 'a {
    move || {
        let now = boot::boottime();
        let others = records.all().unwrap_or_default().into_iter().filter(|record| {
            record.plugin == PLUGIN
                && record.promised.bridge.as_ref() == Some(&want.bridge.name)
                && record.attachment() != attachment_of(&want.identity)
                && holders::of_record(record, now) != Liveness::Dead
        });
        others.flat_map(|record| record.promised.gateways).collect()
    }
}

/// Bridge, host end, container end and, with a gateway in a VLAN, that gateway's interface: the order that callers count on.
fn interfaces(session: &mut Session, want: &Attachment, sandbox: &str) -> Result<Vec<Interface>> {
    let vlan_gateway = want.gateway.as_ref().and_then(|gateway| gateway.vlan.as_ref());
    let bridge = session.node.seen(&want.bridge.name).map_err(Error::internal)?;
    if bridge.and_then(|bridge| bridge.mac) != Some(want.bridge.mac) {
        // A bridge that somebody else made takes the lowest MAC of its ports, ours included: look again. One that was
        // given its MAC keeps it.
        session.node.forget(&want.bridge.name);
    }
    let mut interfaces = Vec::new();
    for name in [&want.bridge.name, &want.port.name] {
        interfaces.push(node_interface(session, name)?);
    }
    let pod =
        session.pod.as_mut().map(|pod| pod.side.seen(&want.pod.name)).transpose().map_err(Error::internal)?;
    interfaces.push(Interface {
        name: want.pod.name.to_string(),
        mac: pod.flatten().and_then(|link| link.mac).map(|mac| mac.to_string()),
        sandbox: Some(sandbox.to_owned()),
        ..Interface::default()
    });
    if let Some(vlan) = vlan_gateway {
        interfaces.push(node_interface(session, &vlan.name)?);
    }
    Ok(interfaces)
}

fn node_interface(session: &mut Session, name: &IfName) -> Result<Interface> {
    let link = session.node.seen(name).map_err(Error::internal)?;
    let mac = link.and_then(|link| link.mac).map(|mac| mac.to_string());
    Ok(Interface { name: name.to_string(), mac, ..Interface::default() })
}
