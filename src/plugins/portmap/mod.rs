//! The `portmap` plugin: ports of the node that lead to a pod. Chained behind whichever plugin attached the pod, and passes
//! that one's result on as it is.
//!
//! Configuration in `config`, the verbs in `add`, `del`, `check` and here. What is promised is kept in an attachment record,
//! so that removal needs to be told nothing but the container.

mod add;
mod check;
mod conditions;
pub mod config;
mod del;
mod flows;
mod gc;
pub mod promise;

pub use add::add;
pub use check::check;
pub use del::{del, planned_removal, remove_claimed, remove_known, remove_record, remove_recorded};
pub use flows::{ONLY_FLOWS, settle};
pub use gc::gc;

use self::config::Config;
use self::promise::mappings_of;
use crate::cni::args::Args;
use crate::cni::error::{Code, Context, Error, Result};
use crate::cni::request::{Request, Target};
use crate::datapath::hostports::plan::Holder;
use crate::datapath::hostports::{HostPorts, Mapping, Owner, observe};
use crate::datapath::session::Session;
use crate::plugins::next_move::CONFIGURATION;
use crate::plugins::node_records;
use crate::state::lock::NodeLock;
use crate::state::record::{self, Pod};
use crate::state::{Record, Records, holders};

/// Whose records these are.
pub const PLUGIN: &str = "portmap";

/// STATUS: whether an ADD of this network would work. Reads only.
pub fn status(request: &Request) -> Result<()> {
    Config::parse(request).context("failed to parse config").hint(CONFIGURATION)?;
    node_records()?.writable().map_err(unavailable)?;
    let mut session = Session::open(None).map_err(unavailable)?;
    observe::available(&mut session).map_err(unavailable)
}

fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::new(Code::PluginNotAvailable, error)
}

/// Two pods that want one port must not both find it free.
fn lock() -> Result<NodeLock> {
    NodeLock::take().map_err(Error::internal)
}

fn attachment<'a>(request: &'a Request, target: &'a Target) -> record::Attachment<'a> {
    record::Attachment {
        network: request.network.as_str(),
        container: target.container.as_str(),
        if_name: &target.if_name,
    }
}

/// What the configuration asks for, where the pod has an address for it.
fn wanted(config: &Config, request: &Request, target: &Target) -> HostPorts {
    promise::wanted(config, target.container.as_str(), &pod_of(request))
}

fn pod_of(request: &Request) -> Pod {
    let args = Args::parse_lenient(&request.args);
    let pod = args.pod();
    Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
}

/// What is about to be done, before it is.
fn new_record(request: &Request, target: &Target, records: &Records, config: &Config) -> Record {
    let mut record = Record::begin(records, PLUGIN, &attachment(request, target), target.netns.as_deref());
    record.pod = Some(pod_of(request));
    promise::write(&mut record, config);
    record
}

/// Whose mapping is it? Answered from records, which are read only when a port is taken. Death must be proven: without
/// records to look at, everybody lives.
pub fn judge<'a>(
    records: &'a Records,
    ours: record::Attachment<'a>,
) -> impl Fn(&Mapping, &str) -> Holder + 'a {
    move |mapping, comment| {
        let promises = |record: &Record| {
            record.plugin == PLUGIN && mappings_of(record).0.iter().any(|m| m.same_port(mapping))
        };
        if Owner::is_named_by(ours.container, comment) {
            let leads_there =
                |record: &Record| record.promised.addresses.iter().any(|a| a.address.ip() == mapping.pod);
            let of_container = records.of_container(ours.container).unwrap_or_default();
            let other = of_container
                .iter()
                .any(|record| record.attachment() != ours && promises(record) && leads_there(record));
            return if other { Holder::SameContainer } else { Holder::Ours };
        }
        let Ok(all) = records.all() else { return Holder::Alive };
        let lives = all
            .iter()
            .filter(|record| Owner::is_named_by(&record.container_id, comment) && promises(record))
            .any(|record| !holders::is_gone(record));
        if lives { Holder::Alive } else { Holder::Dead }
    }
}
