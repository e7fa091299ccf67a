//! CHECK: every port that ADD opened still leads to the pod. The plan of an ADD must have nothing for it.
//!
//! What was opened is in the record. Where nobody remembers that, the configuration says it; where it says something else by
//! now, that is logged.

use super::config::Config;
use super::{add, judge, pod_of, want};
use crate::cni::error::{Context, Error, Result};
use crate::cni::request::Request;
use crate::datapath::hostports::observe::{self, Way};
use crate::datapath::hostports::plan::plan;
use crate::plugins::next_move::CONFIGURATION;
use crate::plugins::{CallContext, difference, verdict};
use crate::state::Record;

pub fn check(request: &Request) -> Result<()> {
    let config = Config::parse(request).hint(CONFIGURATION)?;
    let id = request.attachment_id()?;
    if config.previous.is_none() {
        return Err(Error::internal("Required prevResult missing"));
    }
    let configured = want::host_ports(&config, &id.container, &pod_of(request));
    let CallContext { records, mut session } = CallContext::new()?;
    let record = records.read(&id, super::PLUGIN).map_err(Error::internal)?;
    let promised = record.as_ref().filter(|record| record.complete).and_then(Record::host_ports);
    if let Some(promised) = promised {
        difference::log(&want::differences(promised, &configured));
    }
    let want = promised.unwrap_or(&configured);
    if want.mappings.is_empty() {
        return Ok(());
    }
    let judge = judge(&records, &id);
    let have = observe::observe(&mut session, want, Way::Ask, &judge).map_err(Error::internal)?;
    let steps = plan(want, &have).map_err(|conflict| add::refused(&conflict))?;
    let missing: Vec<_> = steps.iter().map(|step| (step.concern(), step.to_string())).collect();
    verdict::of(&missing, config.strict_check, "missing hostport rules")
}
