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

pub use add::add;
pub use check::check;
pub use del::del;

use ipnetwork::IpNetwork;

use self::config::{Config, RemovalConfig};
use self::ipam::Ipam;
use crate::cni::args::Args;
use crate::cni::config::NetConf;
use crate::cni::error::{Code, Context, Error, Result};
use crate::cni::request::{Request, Target};
use crate::cni::result::{AddResult, Interface};
use crate::datapath::mark::Identity;
use crate::datapath::observe;
use crate::datapath::session::Session;
use crate::datapath::spec::Attachment;
use crate::net::IfName;
use crate::state::record::{Pod, Promised, PromisedAddress, Record, Records};

/// Whose records these are: the main plugin's, as opposed to IPAM's or portmap's.
const PLUGIN: &str = "bridge";

/// STATUS: whether an ADD of this network would work. Reads only.
pub fn status(request: &Request) -> Result<()> {
    let common = NetConf::decode(&request.config).context("failed to load netconf")?;
    if let Some(bridge) = RemovalConfig::read(&request.config).bridge {
        let mut session = Session::open(None).map_err(unavailable)?;
        let link = session.node.look_up(&bridge).map_err(unavailable)?;
        if link.is_some_and(|link| link.kind.as_deref() != Some("bridge")) {
            return Err(not_a_bridge(&bridge).with_code(Code::PluginNotAvailable));
        }
    }
    Records::of_node().writable().map_err(|error| record_error(error).with_code(Code::PluginNotAvailable))?;
    match common.ipam_type {
        Some(name) => Ipam::new(request, &name).status(),
        None => Ok(()),
    }
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::new(Code::PluginNotAvailable, error)
}

/// GC: what is not in the runtime's list goes, whatever is left of it: links, rules, leases, records.
pub fn gc(request: &Request) -> Result<()> {
    let config = NetConf::decode(&request.config).context("failed to load netconf")?;
    let valid = config.valid_attachments.ok_or_else(|| {
        Error::new(Code::InvalidNetworkConfig, "GC without the key cni.dev/valid-attachments").with_details(
            "an empty list frees every attachment of the network; leaving the list out frees none",
        )
    })?;
    let is_valid =
        |container: &str, if_name: &str| valid.iter().any(|(id, name)| id == container && name == if_name);
    let records = Records::of_node();
    let network = request.network.as_str();
    let mut failures = Vec::new();
    let mut remove = |identity: &Identity, record: Option<&Record>| {
        failures.extend(del::remove_attachment(request, identity, record, None).err());
    };
    let all = records.all();
    for record in all.iter().filter(|record| record.plugin == PLUGIN && record.network == network) {
        if let (false, Ok(if_name)) =
            (is_valid(&record.container_id, &record.if_name), record.if_name.parse())
        {
            let identity =
                Identity { network: network.to_owned(), container: record.container_id.clone(), if_name };
            remove(&identity, Some(record));
        }
    }
    // Links whose record was lost still say whose they are.
    let mut session = Session::open(None).map_err(Error::internal)?;
    for (_, mark) in observe::marked_attachments(&mut session).map_err(Error::internal)? {
        let identity = mark.identity;
        if identity.network == network && !is_valid(&identity.container, identity.if_name.as_str()) {
            remove(&identity, None);
        }
    }
    if let Some(name) = config.ipam_type {
        failures.extend(Ipam::new(request, &name).gc().err());
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

fn record_of(records: &Records, identity: &Identity) -> Option<Record> {
    records.read(&identity.network, &identity.container, identity.if_name.as_str(), PLUGIN)
}

fn record_error(error: std::io::Error) -> Error {
    Error::internal(format!("could not write the attachment record below /run/smarter-cni: {error}"))
        .with_details("free space on /run or remount it writable; nothing was changed")
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
    target: &Target,
    config: &Config,
    namespace: (u64, u64),
    host_end: &str,
) -> Result<Record> {
    let args = Args::parse_lenient(&request.args);
    let pod = args.pod();
    let mut record =
        Record::new(PLUGIN, request.network.as_str(), target.container.as_str(), target.if_name.as_str())
            .map_err(record_error)?;
    record.netns.clone_from(&target.netns);
    record.netns_identity = Some(namespace);
    record.pod = Some(Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() });
    record.promised = Promised {
        bridge: config.bridge.to_string(),
        host_if: host_end.to_owned(),
        mac_spoof_check: config.spoof_check,
        ipam_type: config.ipam.clone(),
        data_dir: ipam::data_dir(request),
        ..Promised::default()
    };
    Ok(record)
}

/// Stands in for a record that was lost, or never made.
fn empty_record(request: &Request, identity: &Identity, config: &RemovalConfig) -> Record {
    let mut record = Record::void(PLUGIN, &identity.network, &identity.container, identity.if_name.as_str());
    record.promised = Promised {
        bridge: config.bridge.as_ref().map(ToString::to_string).unwrap_or_default(),
        mac_spoof_check: config.spoof_check,
        ipam_type: config.ipam.clone(),
        data_dir: ipam::data_dir(request),
        ..Promised::default()
    };
    record
}

/// Writes down what the attachment wants, for whoever has to finish, check, repair or undo it.
fn promise(record: &mut Record, config: &Config, want: &Attachment, result: &AddResult) {
    let promised = &mut record.promised;
    promised.addresses =
        result.ips.iter().map(|ip| PromisedAddress { address: ip.address, gateway: ip.gateway }).collect();
    promised.gateways = want.gateway.as_ref().map(|gateway| gateway.addresses.clone()).unwrap_or_default();
    promised.routes.clone_from(&want.pod.routes);
    promised.mtu = config.mtu;
    promised.hairpin = config.hairpin;
    promised.isolated = config.port_isolation;
    promised.promiscuous = config.promiscuous;
    promised.vlan = config.vlan.map(crate::net::VlanId::id);
    promised.trunk = config.trunk.iter().flatten().map(|vlan| vlan.id()).collect();
    promised.vlan_filtering = config.vlan_filtering();
    promised.preserve_default_vlan = config.preserve_default_vlan;
    promised.ip_masq = config.ip_masq;
    promised.is_gateway = config.is_gateway;
    promised.container_interface_disabled = config.disable_container_interface;
}

fn remember_macs(record: &mut Record, result: &AddResult) {
    let mac =
        |at: usize| result.interfaces.get(at).and_then(|interface| interface.mac.as_deref()?.parse().ok());
    (record.promised.host_mac, record.promised.pod_mac) = (mac(1), mac(2));
}

/// Whether the pod has an interface of that name.
fn has_pod_interface(session: &mut Session, identity: &Identity) -> Result<bool> {
    session.look_up_in_pod(&identity.if_name).map(|link| link.is_some()).map_err(Error::internal)
}

/// Gateways of other attachments on the same bridge that are still alive. Asked for rarely, hence a closure.
fn host_needs<'a>(records: &'a Records, want: &'a Attachment) -> impl Fn() -> Vec<IpNetwork> + 'a {
    move || {
        let others = records.all().into_iter().filter(|record| {
            record.plugin == PLUGIN
                && record.promised.bridge == want.bridge.name.as_str()
                && record.container_id != want.identity.container
                && record.namespace_lives() != Some(false)
        });
        others.flat_map(|record| record.promised.gateways).collect()
    }
}

/// Bridge, host end, container end and, with a gateway in a VLAN, that gateway's interface: the order that callers count on.
fn interfaces(session: &mut Session, want: &Attachment, sandbox: &str) -> Result<Vec<Interface>> {
    let vlan_gateway = want.gateway.as_ref().and_then(|gateway| gateway.vlan.as_ref());
    let mut interfaces = Vec::new();
    for name in [&want.bridge.name, &want.port.name] {
        interfaces.push(node_interface(session, name)?);
    }
    let pod = session.look_up_in_pod(&want.pod.name).map_err(Error::internal)?;
    interfaces.push(Interface {
        name: want.pod.name.to_string(),
        mac: pod.and_then(|link| link.mac).map(|mac| mac.to_string()),
        sandbox: Some(sandbox.to_owned()),
        ..Interface::default()
    });
    if let Some(vlan) = vlan_gateway {
        interfaces.push(node_interface(session, &vlan.name)?);
    }
    Ok(interfaces)
}

fn node_interface(session: &mut Session, name: &IfName) -> Result<Interface> {
    let link = session.node.look_up(name).map_err(Error::internal)?;
    let mac = link.and_then(|link| link.mac).map(|mac| mac.to_string());
    Ok(Interface { name: name.to_string(), mac, ..Interface::default() })
}
