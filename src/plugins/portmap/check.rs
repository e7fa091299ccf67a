//! CHECK: every port that ADD opened still leads to the pod. The plan of an ADD must have nothing for it.

use super::config::Config;
use super::{add, attachment, judge, wanted};
use crate::cni::error::{Context, Error, Result};
use crate::cni::request::Request;
use crate::datapath::hostports::observe::{self, Way};
use crate::datapath::hostports::plan::plan;
use crate::datapath::session::Session;
use crate::plugins::next_move::CONFIGURATION;
use crate::plugins::{node_records, verdict};

pub fn check(request: &Request) -> Result<()> {
    let config = Config::parse(request).hint(CONFIGURATION)?;
    let target = request.attachment()?;
    if config.previous.is_none() {
        return Err(Error::internal("Required prevResult missing"));
    }
    let want = wanted(&config, request, target);
    if want.mappings.is_empty() {
        return Ok(());
    }
    let records = node_records()?;
    let mut session = Session::open(None).map_err(Error::internal)?;
    let judge = judge(&records, attachment(request, target));
    let have = observe::observe(&mut session, &want, Way::Ask, &judge).map_err(Error::internal)?;
    let steps = plan(&want, &have).map_err(|conflict| add::refused(&conflict))?;
    let missing: Vec<_> = steps.iter().map(|step| (step.concern(), step.to_string())).collect();
    verdict::of(&missing, config.strict_check, "missing hostport rules")
}
