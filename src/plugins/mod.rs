//! What the verbs mean: configuration → want → datapath → result, one module per plugin.
//!
//! Owns what all plugins share: reading the request, refusing the plugin's own namespace, and turning whatever comes out
//! into one answer. The datapath does the work; nothing here speaks to the kernel.

pub mod bridge;
mod difference;
mod entry;
mod evidence;
pub mod host_local;
pub mod loopback;
mod next_move;
pub mod portmap;
#[cfg(test)]
mod refusal_tests;
mod verdict;

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

pub use self::difference::Difference;
pub use self::entry::{entry, failed};
use crate::Outcome;
use crate::applet::Plugin;
use crate::cni::config::NetConf;
use crate::cni::error::{Code, Error, Result};
use crate::cni::request::{self, Call, Request, Verb};
use crate::cni::result::AddResult;
use crate::cni::wire;
use crate::datapath::session::{Netns, OpenError, Session};
use crate::log::{self, Entry};
use crate::net::AttachmentId;
use crate::state::holders::LIBCNI_RESULTS;
use crate::state::lock::RecordLock;
use crate::state::record;
use crate::state::{BootId, NetnsId, Record, Records, boot};

/// Runs one plugin call: environment and standard input in, exactly one answer out, and what the log is to say about it.
pub fn run(plugin: Plugin, environment: Vec<(OsString, OsString)>, stdin: impl Read) -> Outcome {
    let _read = tracing::info_span!("read").entered();
    let mut entry = entry(plugin, &environment);
    let (answer, version) = match request::read(environment, stdin) {
        Ok(Call::About) => return Outcome::noted(request::about(plugin.standard_name())),
        Ok(Call::Version) => (Ok(Outcome::printed(request::version_reply())), ""),
        Ok(Call::Run(request)) => {
            request.network.as_str().clone_into(&mut entry.network);
            heed(&request);
            (dispatch(plugin, &request, &mut entry), request.version.as_str())
        }
        Err(error) => (Err(error), ""),
    };
    match answer {
        Ok(outcome) => outcome.logged(Some(entry)),
        Err(error) => {
            let error = next_move::advised(error, &entry.verb);
            Outcome::failed(error.reply(version)).logged(Some(failed(entry, &error)))
        }
    }
}

/// The level of the log that the configuration asks for. Never a reason to refuse: other plugins have a key of that name,
/// and a pod is worth more than a line about it.
fn heed(request: &Request) {
    match request.config.text("logLevel") {
        Ok(word) => log::heed(word),
        Err(error) => {
            log::heed(None);
            tracing::warn!("the log keeps its level: {}", error.msg);
        }
    }
}

/// What makes an attachment final: the runtime has been told. Until then a repeated ADD carries on from the record,
/// afterwards it is one too many.
#[derive(Clone, Debug)]
pub struct Completion {
    records: Records,
    record: Record,
}

impl Completion {
    /// After the answer was printed. Failing leaves a record that the next verb treats as unfinished, which loses nothing.
    pub fn complete(&self) {
        if let Err(error) = self.records.write(&self.record) {
            tracing::warn!("the attachment works, but its record says that it is not finished: {error}");
        }
    }
}

fn dispatch(plugin: Plugin, request: &Request, entry: &mut Entry) -> Result<Outcome> {
    let _verb = match request.verb {
        Verb::Add | Verb::Del => tracing::info_span!("config"),
        Verb::Check => tracing::info_span!("check"),
        Verb::Status => tracing::info_span!("status"),
        Verb::Gc => tracing::info_span!("collect"),
    }
    .entered();
    if matches!(request.verb, Verb::Add | Verb::Del) {
        refuse_own_namespace(request)?;
    }
    let added = match (plugin, request.verb) {
        (Plugin::Bridge, Verb::Add) => {
            let added = bridge::add(request)?;
            entry::added(entry, &added.result);
            let answer = wire::render(&added.result, request.version)?;
            let completion = Completion { records: added.records, record: added.record };
            return Ok(Outcome::printed(answer).and_then_complete(completion));
        }
        (Plugin::HostLocal, Verb::Add) => with_leases(|ipam| host_local::add(request, ipam))?.result,
        (Plugin::Loopback, Verb::Add) => loopback::add(request)?,
        (Plugin::Portmap, Verb::Add) => portmap::add(request)?,
        _ => return change(plugin, request).map(|()| Outcome::default()),
    };
    entry::added(entry, &added);
    wire::render(&added, request.version).map(Outcome::printed)
}

/// The verbs that print nothing.
fn change(plugin: Plugin, request: &Request) -> Result<()> {
    match (plugin, request.verb) {
        (Plugin::Bridge, Verb::Del) => bridge::del(request),
        (Plugin::Bridge, Verb::Check) => bridge::check(request),
        (Plugin::Bridge, Verb::Status) => bridge::status(request),
        (Plugin::Bridge, Verb::Gc) => bridge::gc(request),
        (Plugin::HostLocal, Verb::Del) => with_leases(|ipam| host_local::del(request, ipam)),
        (Plugin::HostLocal, Verb::Check) => with_leases(|ipam| host_local::check(request, ipam)),
        (Plugin::HostLocal, Verb::Status) => host_local::status(request),
        (Plugin::HostLocal, Verb::Gc) => with_leases(|ipam| host_local::gc(request, ipam)),
        (Plugin::Loopback, Verb::Del) => loopback::del(request),
        (Plugin::Loopback, Verb::Check) => loopback::check(request),
        (Plugin::Portmap, Verb::Del) => portmap::del(request),
        (Plugin::Portmap, Verb::Check) => portmap::check(request),
        (Plugin::Portmap, Verb::Status) => portmap::status(request),
        (Plugin::Portmap, Verb::Gc) => portmap::gc(request),
        // `lo` belongs to its namespace: nothing to be unready for, nothing to collect.
        (Plugin::Loopback, Verb::Status | Verb::Gc) | (_, Verb::Add) => Ok(()),
    }
}

/// Runs host-local as a plugin of its own, which keeps its own records.
fn with_leases<T>(call: impl FnOnce(&host_local::Ipam<'_>) -> Result<T>) -> Result<T> {
    let _lease = tracing::info_span!("lease").entered();
    call(&host_local::Ipam {
        records: &node_records()?,
        libcni_results: Path::new(LIBCNI_RESULTS),
        now: boot::boottime(),
        evidence: &evidence::Kernel::default(),
        caller: host_local::Caller::Runtime,
    })
}

/// What one call has in hand of this node: its records, which know the boot, and one session with the kernel. Made once, at
/// the call's beginning, and handed down; nobody below asks again.
#[derive(Debug)]
struct CallContext {
    records: Records,
    session: Session,
}

impl CallContext {
    fn new() -> Result<Self> {
        let records = node_records()?;
        let session = Session::open(None).map_err(Error::internal)?.of_boot(records.boot());
        Ok(Self { records, session })
    }

    /// With the pod's side.
    fn in_pod(netns: Netns) -> Result<Self> {
        let mut context = Self::new()?;
        context.session.turn_to(Some(netns)).map_err(Error::internal)?;
        Ok(context)
    }
}

/// The attachment records of this node and this boot.
fn node_records() -> Result<Records> {
    let boot = BootId::current().map_err(|error| Error::internal(format!("which boot is this? {error}")))?;
    Ok(Records::at(Path::new(record::ROOT), boot))
}

/// The lock of the attachment's record, for as long as a verb works on it: a repair keeps away meanwhile. Where it cannot be
/// had the verb goes on without, as it must on a full disk.
fn hold(records: &Records, id: &AttachmentId, plugin: &str) -> Option<RecordLock> {
    records
        .lock(id, plugin)
        .inspect_err(|error| tracing::warn!(%error, "a repair may run at the same time"))
        .ok()
}

/// After a removal: without the record nobody needs its lock.
fn forget(lock: Option<RecordLock>) {
    if let Some(lock) = lock {
        lock.forget();
    }
}

/// What killed writers of records left, where some was seen. It is in nobody's way, so no verb fails for it.
fn sweep(records: &Records, leftovers: bool) {
    if leftovers && let Err(error) = records.sweep_temporaries() {
        tracing::debug!("temporary files stay: {error}");
    }
}

/// Before any work: a runtime that passes the node's own namespace would have the node's `eth0` replaced.
///
/// A path that leads nowhere is the verb's business; DEL for one must succeed.
fn refuse_own_namespace(request: &Request) -> Result<()> {
    let path = request.target.as_ref().and_then(|target| target.netns.as_deref());
    let (Some(path), false) = (path, request.netns_override) else { return Ok(()) };
    let Some(NetnsId { dev, ino }) = NetnsId::of(path) else { return Ok(()) };
    if (dev, ino) == Netns::current_identity().map_err(Error::internal)? {
        return Err(Error::new(
            Code::InvalidNetns,
            "plugin's netns and netns from CNI_NETNS should not be the same",
        )
        .with_details(format!("{path} is the namespace this plugin runs in; pass the pod's")));
    }
    Ok(())
}

/// CNI_NETNS of a verb that cannot do without.
fn sandbox(request: &Request) -> Result<&str> {
    let path = request.attachment()?.netns.as_deref();
    path.ok_or_else(|| Error::new(Code::InvalidEnvironment, "required env variables [CNI_NETNS] missing"))
}

/// The result of the plugins before ours in the chain.
fn previous_result(config: &NetConf, request: &Request) -> Result<Option<AddResult>> {
    config.prev_result.as_ref().map(|previous| wire::parse_prev_result(previous, request.version)).transpose()
}

/// A namespace that cannot be opened, in the words of the plugins we replace.
pub fn netns_error(error: OpenError) -> Error {
    match error {
        OpenError::Gone(text) => {
            Error::internal(text).with_details("the pod's namespace is gone; create the pod anew")
        }
        OpenError::NotNamespace(text) => Error::internal(text).with_details("CNI_NETNS names something else"),
        OpenError::Other(error) => Error::internal(error),
    }
}

/// The text of `--help` under a plugin's name.
pub fn help(plugin: Plugin) -> String {
    let name = plugin.standard_name();
    format!(
        "CNI plugin {name}, executed by a container runtime.\n\n\
         The runtime sets CNI_COMMAND (ADD, DEL, CHECK, STATUS, GC or VERSION), CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME,\n\
         CNI_ARGS and CNI_PATH, and writes the network configuration to standard input.\n\n\
         Try it: echo '{{\"cniVersion\":\"1.1.0\",\"name\":\"test\",\"type\":\"{name}\"}}' | CNI_COMMAND=VERSION {name}\n\
         SMARTER_CNI_LOG=debug prints every step to standard error, as the command a person would type.\n\
         What was done is in {}/log, one line per call.\n",
        record::ROOT
    )
}
