//! ADD: the pod's ports are open when it returns, or nothing of it is left.

use super::config::{Config, HostIp};
use super::{del, flows, judge, lock, new_record, pod_of, want};
use crate::cni::error::{Code, Context, Error, Result};
use crate::cni::request::Request;
use crate::cni::result::AddResult;
use crate::cni::wire;
use crate::datapath::hostports::flows::Stale;
use crate::datapath::hostports::observe::{self, Way};
use crate::datapath::hostports::plan::{Conflict, plan};
use crate::datapath::hostports::{apply, listeners};
use crate::datapath::session::Session;
use crate::net::{Family, IfName};
use crate::plugins::CallContext;
use crate::plugins::next_move::CONFIGURATION;
use crate::spec::{HostPorts, Owner};
use crate::state::{Record, Records};

/// So often the rules are looked at again when they vanish while they are changed.
const ATTEMPTS: usize = 3;

pub fn add(request: &Request) -> Result<AddResult> {
    let mut config = Config::parse(request).context("failed to parse config").hint(CONFIGURATION)?;
    let id = request.attachment_id()?;
    let previous = config.previous.take().ok_or_else(|| {
        Error::internal("must be called as chained plugin")
            .with_details("list it in \"plugins\" behind the plugin that attaches the pod")
    })?;
    // An old version of the specification may have no words for this result; better known before anything is done.
    wire::render(&previous, request.version)?;
    let want = want::host_ports(&config, &id.container, &pod_of(request));
    warn(&config, &want);
    if want.mappings.is_empty() {
        return Ok(previous);
    }
    refuse_listeners(&config, &want)?;
    let CallContext { records, mut session } = CallContext::new()?;
    let _lock = tracing::info_span!("lock").entered();
    let lock = lock()?;
    let _record = tracing::info_span!("record").entered();
    let mut stale = Stale::default();
    // A repeated or an interrupted ADD: what it promised then may be something else now.
    if let Some(earlier) = records.read(&id, super::PLUGIN).map_err(Error::internal)? {
        stale.join(del::remove_locked(&records, &mut session, &earlier)?);
    }
    let mut record = new_record(request, &records, &id, &want);
    records.write(&record).map_err(Error::internal)?;
    let opened = open(&records, &mut session, &record, &want).and_then(|(pod_link, left)| {
        stale.join(left);
        let _record = tracing::info_span!("record").entered();
        (record.complete, record.pod_link) = (true, pod_link);
        records.write(&record).map_err(Error::internal)
    });
    if opened.is_err() {
        let _undo = tracing::info_span!("undo").entered();
        match del::remove_locked(&records, &mut session, &record) {
            Ok(left) => stale.join(left),
            Err(left) => tracing::warn!("could not take everything back: {}; DEL will", left.msg),
        }
    }
    drop(lock);
    flows::forget(&records, stale);
    opened.map(|()| previous)
}

/// The kernel comes to carry what is wanted. Returns the interface that leads to the pod, and what is left behind.
fn open(
    records: &Records,
    session: &mut Session,
    record: &Record,
    want: &HostPorts,
) -> Result<(Option<IfName>, Stale)> {
    let failed = |error: crate::datapath::session::Error| {
        Error::internal(format!("unable to set up nftables rules for port mappings: {error}"))
    };
    let judge = judge(records, &record.id);
    let mut attempt = 0;
    loop {
        let _observe = tracing::info_span!("observe").entered();
        let have = observe::observe(session, want, Way::Ask, &judge).map_err(failed)?;
        let _apply = tracing::info_span!("apply").entered();
        let steps = plan(want, &have).map_err(|conflict| refused(&conflict))?;
        match apply::apply(session, &steps) {
            Ok(stale) => return Ok((have.pod_link.map(|link| link.name), stale)),
            // Somebody flushed the rule set between the look and the change.
            Err(error) if error.is_missing() && attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(failed(error)),
        }
    }
}

pub(super) fn refused(conflict: &Conflict) -> Error {
    let theirs = conflict.theirs.port_words();
    Error::new(Code::Internal, conflict).with_details(format!(
        "{} has {theirs}; delete it, or give one of the two another hostPort or another hostIP",
        Owner::words(&conflict.comment)
    ))
}

/// What works, but not as one might think.
fn warn(config: &Config, want: &HostPorts) {
    if config.asked_for_iptables && !want.mappings.is_empty() {
        tracing::warn!("backend iptables: nftables maps the ports, with the same effect");
    }
    for port in &config.outdone {
        tracing::warn!(
            "hostPort {}/{} is listed twice: it leads to the container port that stands first, not to {}",
            port.host_port,
            port.protocol,
            port.container_port
        );
    }
    for port in &config.ports {
        let Some(family) = Family::BOTH.into_iter().find(|family| match port.host_ip {
            HostIp::Any => false,
            HostIp::AllOf(its) => its == *family,
            HostIp::One(ip) => Family::of(ip) == *family,
        }) else {
            continue;
        };
        if !config.pods.iter().any(|pod| Family::of(pod.ip()) == family) {
            tracing::warn!(
                "hostPort {}/{} is for {family:?} only, and the pod has no such address: nothing leads there",
                port.host_port,
                port.protocol
            );
        }
    }
}

/// A process of the node that listens on the port gets no more clients. Sometimes that is meant.
fn refuse_listeners(config: &Config, want: &HostPorts) -> Result<()> {
    for listener in listeners::load(&want.mappings) {
        let words = format!(
            "hostPort {}/{} is in use: a process of this node listens on {}",
            listener.port, listener.protocol, listener.address
        );
        if config.strict {
            return Err(Error::internal(words)
                .with_details("stop the process, or take another hostPort, or leave out strictHostPorts"));
        }
        tracing::warn!("{words}; its clients reach the pod now");
    }
    Ok(())
}
