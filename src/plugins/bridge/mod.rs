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
use crate::cni::result::{AddResult, Interface};
use crate::datapath::census;
use crate::datapath::session::Session;
use crate::net::{AttachmentId, IfName};
use crate::plugins::next_move::CONFIGURATION;
use crate::plugins::{CallContext, node_records};
use crate::spec::Attachment;
use crate::state::holders;
use crate::state::record::{Leases, Pod, Want};
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
    let CallContext { records, mut session } = CallContext::new()?;
    let network = request.network.as_str();
    let mut failures = Vec::new();
    let mut remove = |session: &mut Session, id: &AttachmentId, record: Option<&Record>| {
        let lock = del::hold_known(&records, id);
        match del::remove_attachment(request, &records, session, id, record, None) {
            Ok(()) => crate::plugins::forget(lock),
            Err(error) => failures.push(error),
        }
    };
    crate::plugins::sweep(&records, true);
    let all = records.all().map_err(Error::internal)?;
    for record in all.iter().filter(|record| record.plugin == PLUGIN && record.id.network == network) {
        if !is_valid(&record.id.container, record.id.if_name.as_str()) {
            remove(&mut session, &record.id, Some(record));
        }
    }
    // Links whose record was lost still say whose they are.
    for mark in census::marked_attachments(&mut session).map_err(Error::internal)? {
        let id = mark.id;
        if id.network == network && !is_valid(&id.container, id.if_name.as_str()) {
            remove(&mut session, &id, None);
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

/// The request as if it were about that attachment, for verbs that find attachments by themselves: GC, and DEL after the
/// network was renamed.
fn on_behalf_of(request: &Request, id: &AttachmentId) -> Result<Request> {
    if request.attachment_id().is_ok_and(|own| own == *id) {
        return Ok(request.clone());
    }
    let mut request = request.clone();
    request.network = NetworkName::parse(&id.network)?;
    let (container, if_name) = (ContainerId::parse(&id.container)?, id.if_name.clone());
    for (name, value) in
        [("CNI_CONTAINERID", container.as_str()), ("CNI_IFNAME", if_name.as_str()), ("CNI_NETNS", "")]
    {
        request.environment.retain(|(key, _)| key != name);
        request.environment.push((name.into(), value.into()));
    }
    request.target = Some(Target { container, if_name, netns: None });
    Ok(request)
}

fn record_of(records: &Records, id: &AttachmentId) -> Result<Option<Record>> {
    records.read(id, PLUGIN).map_err(Error::internal)
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
    id: &AttachmentId,
    config: &Config,
    host_end: IfName,
    here: Option<NetnsId>,
) -> Result<Record> {
    let mut record = Record::begin(records, PLUGIN, id, None);
    // The one that is open, whatever becomes of its path.
    record.netns_id = here;
    record.netns = request.target.as_ref().and_then(|target| target.netns.clone());
    let args = Args::parse_lenient(&request.args);
    let pod = args.pod();
    record.pod = Some(Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() });
    record.names.clone_from(&config.names);
    let want = want::attachment(config, id, host_end, &AddResult::default())?;
    record.want = Some(Want::Attachment(Box::new(want)));
    let (ipam, data_dir) = (config.ipam.clone(), ipam::data_dir(request));
    record.leases = Leases { ipam, data_dir, ..Leases::default() };
    Ok(record)
}

/// Whether the pod has an interface of that name.
fn has_pod_interface(session: &mut Session, id: &AttachmentId) -> Result<bool> {
    session.look_up_in_pod(&id.if_name).map(|link| link.is_some()).map_err(Error::internal)
}

/// Gateways of other attachments on the same bridge that are still alive. Asked for rarely, hence a closure.
pub fn host_needs<'a>(records: &'a Records, want: &'a Attachment) -> impl Fn() -> Vec<IpNetwork> + 'a {
    move || {
        let now = boot::boottime();
        let others = records.all().unwrap_or_default().into_iter().filter(|record| {
            record.attachment().is_some_and(|other| other.bridge.name == want.bridge.name)
                && record.id != want.id
                && holders::of_record(record, now) != Liveness::Dead
        });
        others.flat_map(|record| record.gateways().to_vec()).collect()
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
