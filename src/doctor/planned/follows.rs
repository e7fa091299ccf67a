//! Which steps of a plan only follow from another one that is named: of one cause a person reads once.

use crate::datapath::hostports::plan::Step as PortStep;
use crate::datapath::step::{PodStep, Step as LinkStep};
use crate::net::IfName;
use crate::reconcile::{Action, Change, Failure, Obstacle, Report, Step};

/// Whether the step would not be there but for another one of the plan.
pub(super) fn from_another(step: &Step, change: &Change, plan: &Report) -> bool {
    if change.action == Action::Remove {
        return false;
    }
    let step = match step {
        Step::Link(step) => step,
        Step::Port(step) => return waits_for_bridge(step, plan),
        _ => return false,
    };
    let beside = || links(change).filter(|other| *other != step);
    beside().any(|other| brings(other, step))
        || plan.changes.iter().flat_map(links).any(|other| makes_bridge_of(other, step))
}

/// What host ports need of a bridge that is not there.
fn waits_for_bridge(step: &PortStep, plan: &Report) -> bool {
    let (PortStep::RouteLocalnet(link) | PortStep::PodLink(_, link)) = step else { return false };
    let created = plan
        .changes
        .iter()
        .flat_map(links)
        .any(|other| matches!(other, LinkStep::CreateBridge { name, .. } if name == link));
    let is_none = |failure: &Failure| matches!(&failure.obstacle, Obstacle::NoBridge(name) if name == link);
    created || plan.failures.iter().any(is_none)
}

fn links(change: &Change) -> impl Iterator<Item = &LinkStep> {
    change.steps.iter().filter_map(|step| match step {
        Step::Link(step) => Some(step),
        _ => None,
    })
}

/// Everything about a bridge that is made anew.
fn makes_bridge_of(cause: &LinkStep, step: &LinkStep) -> bool {
    let LinkStep::CreateBridge { name, .. } = cause else { return false };
    match step {
        LinkStep::Mark { link, .. }
        | LinkStep::FixMac { link, .. }
        | LinkStep::Promiscuous { link }
        | LinkStep::RefuseAdvertisements { link }
        | LinkStep::Up { link }
        | LinkStep::AddAddress { link, .. } => link == name,
        LinkStep::Join { bridge, .. } => bridge == name,
        _ => false,
    }
}

/// Within one attachment.
fn brings(cause: &LinkStep, step: &LinkStep) -> bool {
    match cause {
        // A host end that leads elsewhere is named as that; the pair that replaces it is no second fault.
        LinkStep::RemoveLink { link } => matches!(step, LinkStep::CreateVeth { host, .. } if host == link),
        LinkStep::CreateVeth { host, .. } => {
            let new = step.is_about(host) || step.is_in_pod();
            new && !matches!(step, LinkStep::RemoveLink { .. })
        }
        LinkStep::Join { link, .. } => is_flag_of(step, link),
        // The kernel takes routes along with the interface and with their source addresses, and IPv6 addresses with the
        // interface (`addrconf_ifdown`, net/ipv6/addrconf.c).
        LinkStep::Pod(PodStep::Up { .. }) => {
            matches!(
                step,
                LinkStep::Pod(
                    PodStep::Route { .. }
                        | PodStep::Address { .. }
                        | PodStep::Sysctl { .. }
                        | PodStep::ArpNotify { .. }
                )
            )
        }
        LinkStep::Pod(PodStep::Address { .. }) => {
            matches!(
                step,
                LinkStep::Pod(PodStep::Route { .. } | PodStep::Sysctl { .. } | PodStep::ArpNotify { .. })
            )
        }
        LinkStep::Up { link } => {
            matches!(step, LinkStep::AddAddress { link: of, address } if of == link && address.is_ipv6())
        }
        LinkStep::CreateVlanGateway { name, port, .. } => match step {
            LinkStep::Join { link, .. } => link == port,
            LinkStep::AddAddress { link, .. }
            | LinkStep::NameServerAddress { link, .. }
            | LinkStep::Up { link } => link == name,
            step => is_flag_of(step, port),
        },
        _ => false,
    }
}

/// Flags and VLANs go when a port leaves its bridge.
fn is_flag_of(step: &LinkStep, port: &IfName) -> bool {
    match step {
        LinkStep::SetPort { link, .. }
        | LinkStep::AddVlan { link, .. }
        | LinkStep::RemoveVlan { link, .. } => link == port,
        _ => false,
    }
}
