//! ADD: a pod gets its place on the bridge.
//!
//! Intent before effect: the attachment record is written before anything else, the lease before any link; somebody else's
//! IPAM plugin, which may need the pod's interface, is called when that is up. Killed at any point, the next ADD carries on
//! from the record and the next DEL removes what there is. Failed, this run takes everything of the attachment back itself.

use super::config::Config;
use super::del::Remembered;
use super::errors::failed_step;
use super::ipam::Ipam;
use super::want;
use super::{host_needs, interfaces};
use crate::cni::error::{Code, Context, Error, Result};
use crate::cni::request::Request;
use crate::cni::result::AddResult;
use crate::cni::wire;
use crate::datapath::apply::apply;
use crate::datapath::observe;
use crate::datapath::plan::plan;
use crate::datapath::session::{Netns, Session};
use crate::datapath::step::Step;
use crate::net::{AttachmentId, IfName};
use crate::plugins::next_move::CONFIGURATION;
use crate::plugins::{CallContext, forget, hold, netns_error};
use crate::spec::Attachment;
use crate::state::record::Want;
use crate::state::{NetnsId, Record, Records};

/// A new attachment, and its record as it is once the runtime has been told.
#[derive(Clone, Debug)]
pub struct Added {
    pub result: AddResult,
    pub record: Record,
    /// Where it is kept.
    pub records: Records,
}

pub fn add(request: &Request) -> Result<Added> {
    let mut config = Config::parse(&request.config, &request.args).hint(CONFIGURATION)?;
    config.refuse_contradictions().hint(CONFIGURATION)?;
    if config.drain {
        return Err(super::draining(request).with_code(Code::TryAgainLater));
    }
    let id = request.attachment_id()?;
    let sandbox = crate::plugins::sandbox(request)?;
    let netns = Netns::open(sandbox)
        .map_err(|error| netns_error(error).context(format!("failed to open netns {sandbox:?}")))?;
    let _record = tracing::info_span!("record").entered();
    let (dev, ino) = netns.identity();
    let here = NetnsId { dev, ino };
    let CallContext { records, mut session } = CallContext::in_pod(netns)?;
    if config.mtu_auto {
        config.mtu = observe::uplink_mtu(&mut session).map_err(Error::internal)?;
    }
    let lock = hold(&records, &id, super::PLUGIN);
    let added =
        Attempt::begin(request, &config, id.clone(), here, session, &records).and_then(Attempt::finish);
    if added.is_err() && matches!(super::record_of(&records, &id), Ok(None)) {
        forget(lock);
    }
    added
}

/// One run towards one attachment.
struct Attempt<'a> {
    request: &'a Request,
    config: &'a Config,
    id: AttachmentId,
    host_end: IfName,
    records: &'a Records,
    record: Record,
    /// An earlier run was killed on the way: what it leased is ours.
    resumes: bool,
    session: Session,
    ipam: Option<Ipam<'a>>,
    /// Addresses were leased, by this run or the one it resumes.
    leased: bool,
    /// Earlier holders of the addresses may have left connections.
    unclean: bool,
}

impl<'a> Attempt<'a> {
    /// Decides whether this is a new attachment, the rest of an interrupted one, or one too many; and leaves the record
    /// that any later verb can finish or undo.
    fn begin(
        request: &'a Request,
        config: &'a Config,
        id: AttachmentId,
        here: NetnsId,
        mut session: Session,
        records: &'a Records,
    ) -> Result<Self> {
        let here = Some(here);
        let previous = super::record_of(records, &id)?;
        let mut unfinished = None;
        if let Some(previous) = previous {
            let is_here = previous.netns_id == here;
            if is_here && previous.complete && super::has_pod_interface(&mut session, &id)? {
                return Err(already_attached(&previous));
            }
            // The container came back in another namespace: what it had in the old one goes first. So does all that a killed
            // run left where somebody else leases: what that run got, if anything, nobody here knows.
            if !is_here || super::is_foreign(&previous) || previous.leases.ipam != config.ipam {
                super::del::remove_attachment(request, records, &mut session, &id, Some(&previous), None)?;
            } else {
                unfinished = Some(previous);
            }
        }
        let host_end = match unfinished.as_ref().and_then(Record::attachment) {
            Some(want) => want.port.name.clone(),
            None => observe::free_host_end(&mut session, &id).map_err(Error::internal)?,
        };
        let ipam = config.ipam.as_deref().map(|name| Ipam::new(request, name, records));
        let resumes = unfinished.is_some();
        let mut record = match unfinished {
            Some(record) => record,
            None => super::new_record(request, records, &id, config, host_end.clone(), here)?,
        };
        record.complete = false;
        records.write(&record).map_err(Error::internal)?;
        Ok(Self {
            request,
            config,
            id,
            host_end,
            records,
            record,
            resumes,
            session,
            ipam,
            leased: resumes,
            unclean: false,
        })
    }

    fn finish(mut self) -> Result<Added> {
        match self.run() {
            Ok(result) => {
                self.record.complete = true;
                Ok(Added { result, record: self.record, records: self.records.clone() })
            }
            Err(error) => {
                self.take_back();
                Err(error)
            }
        }
    }

    fn run(&mut self) -> Result<AddResult> {
        if let Some(ipam) = self.ipam.as_ref().filter(|ipam| ipam.needs_interface()) {
            ipam.find()?;
            // All that needs no address; the rest is what the same plan finds missing afterwards.
            self.attach(&AddResult::default())?;
        }
        let addresses = self.lease()?;
        let want = self.attach(&addresses)?;

        let _result = tracing::info_span!("result").entered();
        let mut result = addresses;
        result.interfaces = interfaces(&mut self.session, &want, crate::plugins::sandbox(self.request)?)?;
        if let Some(dns) = &self.config.dns {
            result.dns = dns.clone();
        }
        // An old version of the specification may have no words for this result; better known before it is final.
        wire::render(&result, self.request.version)?;
        remember_macs(&mut self.record, &result);
        Ok(result)
    }

    fn lease(&mut self) -> Result<AddResult> {
        let Some(ipam) = &self.ipam else { return Ok(AddResult::default()) };
        let _lease = tracing::info_span!("lease").entered();
        let leased = ipam.add(self.resumes.then_some(&self.record))?;
        (self.leased, self.unclean) = (true, leased.unclean);
        self.record.leases.pools = leased.pools;
        want::complete_addresses(self.config, leased.result)
    }

    /// Promises these addresses, or none yet, and makes the kernel carry them.
    fn attach(&mut self, addresses: &AddResult) -> Result<Attachment> {
        let want = want::attachment(self.config, &self.id, self.host_end.clone(), addresses)?;
        let _record = tracing::info_span!("record").entered();
        self.record.want = Some(Want::Attachment(Box::new(want.clone())));
        self.records.write(&self.record).map_err(Error::internal)?;
        self.converge(&want)?;
        Ok(want)
    }

    /// The kernel comes to carry what the attachment wants.
    fn converge(&mut self, want: &Attachment) -> Result<()> {
        let _observe = tracing::info_span!("observe").entered();
        let needed = host_needs(self.records, want);
        let mut have = observe::observe(&mut self.session, want, false, &needed)
            .map_err(Error::internal)?
            .map_err(|_| super::not_a_bridge(&want.bridge.name))?;
        have.unclean = self.unclean;
        if let Some(taken) = &have.names.taken {
            tracing::warn!(
                "nodeDns {taken}; it stays theirs, and the node's name server is at the gateway alone"
            );
        }
        let steps = plan(want, &have);
        if self.config.asked_for_iptables && steps.iter().any(|step| matches!(step, Step::Masquerade { .. }))
        {
            tracing::warn!("ipMasqBackend iptables: nftables does the masquerading, with the same effect");
        }
        let _apply = tracing::info_span!("apply").entered();
        apply(&mut self.session, &steps).map_err(|failure| failed_step(&failure, want))
    }

    /// Nothing of the attachment stays: links and rules, then the lease, then the record.
    fn take_back(&mut self) {
        let _undo = tracing::info_span!("undo").entered();
        let removed =
            super::del::remove_links(&mut self.session, &Remembered::of_record(&self.record), None, false);
        if let Err(error) = removed {
            tracing::warn!("could not take everything back: {}; DEL will", error.msg);
            return;
        }
        // An ADD that IPAM refused got no address: what the container has then, it had before.
        if let Some(ipam) = self.ipam.as_ref().filter(|_| self.leased)
            && let Err(error) = ipam.del(Some(&self.record))
        {
            tracing::warn!("could not return the address: {}; DEL will", error.msg);
            return;
        }
        if let Err(error) = self.records.remove(&self.id, super::PLUGIN) {
            tracing::warn!(%error, "could not forget the attachment; DEL will");
        }
        if !self.record.gateways().is_empty() {
            super::del::release(self.records, &mut self.session);
        }
    }
}

/// The MACs that the kernel chose, of bridge, host end and container end: what is made again must have them, because
/// neighbours remember them.
fn remember_macs(record: &mut Record, result: &AddResult) {
    let mac =
        |at: usize| result.interfaces.get(at).and_then(|interface| interface.mac.as_deref()?.parse().ok());
    if let Some(Want::Attachment(want)) = &mut record.want {
        want.bridge.mac = mac(0).unwrap_or(want.bridge.mac);
        (want.port.mac, want.pod.mac) = (mac(1), mac(2));
    }
}

fn already_attached(record: &Record) -> Error {
    let AttachmentId { container, if_name, .. } = &record.id;
    let host_end = record.attachment().map(|want| want.port.name.as_str()).unwrap_or_default();
    Error::internal(format!(
        "container veth name (\"{if_name}\") peer provided (\"{host_end}\") already exists"
    ))
    .with_details(format!("container {container} is attached already; DEL it first"))
}
