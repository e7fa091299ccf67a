//! What is missing of host ports, and what is too much.

use super::{Fault, table, who};
use crate::datapath::hostports::Entry;
use crate::datapath::hostports::plan::Step;
use crate::net::{Family, IfName};
use crate::reconcile::Subject;

/// What a step of a repair says is wrong. To forget flows only matters while something changes.
pub(super) fn explain(step: &Step, subject: &Subject, gone: &[Family]) -> Option<Fault> {
    let incomplete = |family: Family, found: String| {
        Some(Fault::new("table-incomplete", table(family), found).in_table(family, gone))
    };
    match step {
        Step::Base(family) => incomplete(
            *family,
            "chains, maps or rules of host ports are missing or were written by another version".to_owned(),
        ),
        Step::Siblings(subnet) => incomplete(
            Family::of(subnet.ip()),
            format!("the rule is missing by which pods of {subnet} use host ports of each other"),
        ),
        Step::Limits(family, _) => incomplete(
            *family,
            format!("the chain is missing that says from where host ports of {} may be used", who(subject)),
        ),
        Step::PodLink(family, link) => incomplete(*family, unknown_link(link)),
        Step::RouteLocalnet(link) => Some(Fault::new(
            "hostport-localhost",
            format!("bridge {link}"),
            format!("net.ipv4.conf.{link}.route_localnet is 0: host ports do not answer on 127.0.0.1"),
        )),
        Step::Remove(entry) => Some(stale(entry, || who(subject)).in_table(entry.family(), gone)),
        Step::Add(entry, _) => Some(missing(entry, subject).in_table(entry.family(), gone)),
        Step::ForgetFlows(_) => None,
    }
}

fn unknown_link(link: &IfName) -> String {
    format!("set pod_links does not have {link}: limits on interfaces count for what pods send, too")
}

fn missing(entry: &Entry, subject: &Subject) -> Fault {
    let pod = who(subject);
    match entry {
        Entry::Port(mapping) => Fault::new(
            "hostport-missing",
            format!("port {}", mapping.port_words()),
            format!(
                "it was promised to {pod} at {}:{}, and does not lead there",
                mapping.pod, mapping.pod_port
            ),
        ),
        Entry::Limited(_, mapping) => Fault::new(
            "hostport-missing",
            format!("port {}", mapping.port_words()),
            format!("the limits that {pod} asked for do not count for it"),
        ),
        Entry::PortAt(_, protocol, port) => Fault::new(
            "hostport-missing",
            format!("port {port}/{protocol}"),
            "it is not known that it is taken on one address of the node".to_owned(),
        ),
        Entry::LocalClients(_) | Entry::Hairpin(_) | Entry::AllClients(_) => Fault::new(
            "hostport-missing",
            pod,
            format!(
                "its host ports do not lead back to every client: set {} does not have {entry}",
                entry.set()
            ),
        ),
    }
}

/// An element that leads to a pod that is gone, or to where no pod was promised it.
pub(super) fn stale(entry: &Entry, otherwise: impl FnOnce() -> String) -> Fault {
    let port = match entry {
        Entry::Port(mapping) | Entry::Limited(_, mapping) => Some(mapping.port_words()),
        Entry::PortAt(_, protocol, port) => Some(format!("{port}/{protocol}")),
        Entry::LocalClients(_) | Entry::Hairpin(_) | Entry::AllClients(_) => None,
    };
    let object = port.map_or_else(otherwise, |port| format!("port {port}"));
    let found = match entry {
        Entry::Port(mapping) => {
            format!("it leads to {}:{}, and no pod was promised that", mapping.pod, mapping.pod_port)
        }
        _ => format!("{} has {entry}, and no pod was promised that", entry.set()),
    };
    Fault::new("hostport-stale", object, found)
}
