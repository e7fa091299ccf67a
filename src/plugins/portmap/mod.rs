//! The `portmap` plugin: ports of the node that lead to a pod. Chained behind whichever plugin attached the pod, and passes
//! that one's result on as it is.
//!
//! Configuration in `config`, the verbs in `add`, `del`, `check` and here. What is promised is kept in an attachment record,
//! so that removal needs to be told nothing but the container.

mod add;
mod check;
pub mod config;
mod del;
mod flows;
mod gc;
pub mod want;

pub use add::add;
pub use check::check;
pub use del::{del, planned_removal, remove_claimed, remove_known, remove_record, remove_recorded};
pub use flows::{ONLY_FLOWS, settle};
pub use gc::gc;

use self::config::Config;
use crate::cni::args::Args;
use crate::cni::error::{Code, Context, Error, Result};
use crate::cni::request::Request;
use crate::datapath::hostports::observe;
use crate::datapath::hostports::plan::Holder;
use crate::datapath::session::Session;
use crate::net::AttachmentId;
use crate::plugins::next_move::CONFIGURATION;
use crate::plugins::node_records;
use crate::spec::{HostPorts, Mapping, Owner};
use crate::state::lock::NodeLock;
use crate::state::record::{Pod, Want};
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

fn pod_of(request: &Request) -> Pod {
    let args = Args::parse_lenient(&request.args);
    let pod = args.pod();
    Pod { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.uid.clone() }
}

/// What is about to be done, before it is.
fn new_record(request: &Request, records: &Records, id: &AttachmentId, want: &HostPorts) -> Record {
    let netns = request.target.as_ref().and_then(|target| target.netns.as_deref());
    let mut record = Record::begin(records, PLUGIN, id, netns);
    record.pod = Some(pod_of(request));
    record.want = Some(Want::HostPorts(want.clone()));
    record
}

/// Whose mapping is it? Answered from records, which are read only when a port is taken. Death must be proven: without
/// records to look at, everybody lives.
pub fn judge<'a>(records: &'a Records, ours: &'a AttachmentId) -> impl Fn(&Mapping, &str) -> Holder + 'a {
    move |mapping, comment| {
        let promises = |record: &Record| record.mappings().iter().any(|m| m.same_port(mapping));
        if Owner::is_named_by(&ours.container, comment) {
            let leads_there = |record: &Record| record.ips().any(|ip| ip == mapping.pod);
            let of_container = records.of_container(&ours.container).unwrap_or_default();
            let other = of_container
                .iter()
                .any(|record| record.id != *ours && promises(record) && leads_there(record));
            return if other { Holder::SameContainer } else { Holder::Ours };
        }
        let Ok(all) = records.all() else { return Holder::Alive };
        let lives = all
            .iter()
            .filter(|record| Owner::is_named_by(&record.id.container, comment) && promises(record))
            .any(|record| !holders::is_gone(record));
        if lives { Holder::Alive } else { Holder::Dead }
    }
}
