//! The words for a step that failed: those of the plugin we replace, because people search for them, and behind them the
//! step itself as a command to try by hand.

use crate::cni::error::Error;
use crate::datapath::apply::Failure;
use crate::datapath::step::{PodStep, Step};
use crate::spec::Attachment;

pub(super) fn failed_step(failure: &Failure, want: &Attachment) -> Error {
    let Failure { step, error } = failure;
    let reason = error.reason();
    let bridge = &want.bridge.name;
    let words = match &**step {
        Step::CreateBridge { name, .. } => {
            format!("failed to create bridge \"{name}\": could not add \"{name}\": {reason}")
        }
        Step::Promiscuous { link } | Step::RefuseAdvertisements { link } | Step::Up { link }
            if link == bridge =>
        {
            format!("failed to create bridge \"{link}\": {error}")
        }
        Step::CreateVeth { host, pod, .. } if error.is_exists() => {
            format!("container veth name (\"{pod}\") peer provided (\"{host}\") already exists")
        }
        Step::CreateVeth { .. } => format!("failed to make veth pair: {reason}"),
        Step::Join { link, bridge } => format!("failed to connect \"{link}\" to bridge {bridge}: {reason}"),
        Step::SetPort { link, hairpin: Some(_), .. } => {
            format!("failed to setup hairpin mode for {link}: {reason}")
        }
        Step::SetPort { link, .. } => format!("failed to set isolated on for {link}: {reason}"),
        Step::RemoveVlan { link, .. } => {
            format!("failed to remove default vlan on interface \"{link}\": {reason}")
        }
        Step::AddVlan { link, .. } => format!("failed to setup vlan tag on interface \"{link}\": {reason}"),
        Step::CreateVlanGateway { name, .. } => {
            format!("failed to create vlan interface: failed to create vlan gateway \"{name}\": {reason}")
        }
        Step::SpoofRule | Step::SpoofCheck { .. } => format!("failed to setup spoof-check: {error}"),
        Step::Pod(PodStep::Address { link, address }) => {
            format!("failed to add IP addr {address} to \"{link}\": {reason}")
        }
        Step::Pod(PodStep::Up { link }) => format!("failed to set \"{link}\" UP: {reason}"),
        Step::Pod(PodStep::Route { route, .. }) => {
            format!("failed to add route '{}': {reason}", step_words(step, route.dst))
        }
        Step::AddAddress { link, address } => {
            format!("failed to set bridge addr: could not add IP address {address} to \"{link}\": {reason}")
        }
        Step::Forward(_) => format!("failed to enable forwarding: {reason}"),
        _ => error.to_string(),
    };
    let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
    Error::internal(words).with_details(format!("failed at: {step}{hint}"))
}

/// The route without the command around it.
fn step_words(step: &Step, dst: ipnetwork::IpNetwork) -> String {
    let text = step.to_string();
    text.split_once("route add ").map_or_else(|| dst.to_string(), |(_, route)| route.to_owned())
}
