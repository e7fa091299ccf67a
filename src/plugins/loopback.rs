//! The `loopback` plugin: the pod's `lo` is up. Executed beside the pod's network by runtimes that do not do it
//! themselves; the interface is always `lo`, whatever CNI_IFNAME says.

use crate::cni::config::NetConf;
use crate::cni::error::{Context, Error, Result};
use crate::cni::request::Request;
use crate::cni::result::{AddResult, Interface, IpConfig};
use crate::datapath::loopback::{self, Lo};
use crate::datapath::session::{Netns, OpenError};
use crate::plugins::next_move::CONFIGURATION;
use crate::plugins::{netns_error, node_records, previous_result, sandbox};
use crate::state::NetnsId;

pub fn add(request: &Request) -> Result<AddResult> {
    let config =
        NetConf::decode(&request.config).context("failed to parse network config").hint(CONFIGURATION)?;
    let previous = previous_result(&config, request).context("failed to parse prevResult")?;
    let path = sandbox(request)?;
    let netns = Netns::open(path).map_err(netns_error)?;
    let _apply = tracing::info_span!("apply").entered();
    let lo = loopback::bring_up(&netns)
        .map_err(|error| Error::internal(format!("failed to set lo up: {error}")))?;
    if let Some(address) = lo.addresses.iter().find(|address| !address.ip().is_loopback()) {
        return Err(Error::internal(format!(
            "loopback interface found with non-loopback address \"{}\"",
            address.ip()
        ))
        .with_details("remove the address from lo in the pod's namespace"));
    }
    Ok(previous.unwrap_or_else(|| result(&lo, path)))
}

fn result(lo: &Lo, sandbox: &str) -> AddResult {
    let first = |v4: bool| lo.addresses.iter().find(|address| address.is_ipv4() == v4);
    let ips = [first(true), first(false)].into_iter().flatten();
    AddResult {
        interfaces: vec![Interface {
            name: "lo".to_owned(),
            mac: Some("00:00:00:00:00:00".to_owned()),
            sandbox: Some(sandbox.to_owned()),
            ..Interface::default()
        }],
        ips: ips.map(|address| IpConfig { interface: Some(0), address: *address, gateway: None }).collect(),
        ..AddResult::default()
    }
}

/// A namespace that is gone took its `lo` along.
pub fn del(request: &Request) -> Result<()> {
    let Some(path) = request.target.as_ref().and_then(|target| target.netns.as_deref()) else {
        return Ok(());
    };
    let _apply = tracing::info_span!("apply").entered();
    match Netns::open(path) {
        Ok(netns) if is_of_another(request, &netns)? => {
            tracing::warn!("CNI_NETNS leads to the namespace of another container: nothing is touched there");
            Ok(())
        }
        Ok(netns) => loopback::take_down(&netns)
            .map_err(|error| Error::internal(format!("failed to set lo down: {error}"))),
        Err(OpenError::Gone(_) | OpenError::NotNamespace(_)) => Ok(()),
        Err(error) => Err(netns_error(error)),
    }
}

/// Whether the path leads to another pod by now, as far as records tell: this plugin keeps none.
fn is_of_another(request: &Request, netns: &Netns) -> Result<bool> {
    let container = request.attachment()?.container.as_str();
    let (dev, ino) = netns.identity();
    let here = Some(NetnsId { dev, ino });
    let records = node_records()?;
    let own = records.of_container(container).map_err(Error::internal)?;
    let mut known = own.iter().filter_map(|record| record.netns_id).peekable();
    if known.peek().is_some() {
        return Ok(known.all(|id| Some(id) != here));
    }
    // Only now is every pod's record read.
    Ok(records.all().map_err(Error::internal)?.iter().any(|record| record.netns_id == here))
}

pub fn check(request: &Request) -> Result<()> {
    let netns = Netns::open(sandbox(request)?).map_err(netns_error)?;
    let lo = loopback::observe(&netns).map_err(Error::internal)?;
    if lo.up { Ok(()) } else { Err(Error::internal("loopback interface is down")) }
}
