//! What only a repair asks about: what others did to links of ours. Reads only.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use super::{RTPROT_KERNEL, addresses_of, as_route, is_link_local, is_marked, is_pair};
use crate::datapath::hostports::listeners;
use crate::datapath::names::lead;
use crate::datapath::plan::{NamesHave, Strange};
use crate::datapath::rules;
use crate::datapath::session::{Link, Session};
use crate::kernel::{self, route};
use crate::net::{DNS_PORT, Family, IfName};
use crate::spec::Attachment;

/// Whether the host end's name was taken by a link that is neither connected to the pod nor marked as the attachment's:
/// then it is somebody else's, and must not be removed.
pub fn is_taken(session: &mut Session, want: &Attachment) -> kernel::Result<bool> {
    let Some(port) = session.node.look_up(&want.port.name)? else { return Ok(false) };
    Ok(!is_marked(&port, &want.id) && !leads_to_pod(session, &port)?)
}

/// Whether the link's other end is in the pod, under whatever name.
fn leads_to_pod(session: &mut Session, port: &Link) -> kernel::Result<bool> {
    let (Some(pod), Some(peer)) = (&mut session.pod, port.peer) else { return Ok(false) };
    Ok(pod.side.look_up_index(peer)?.is_some_and(|pod| is_pair(port, &pod)))
}

/// The host end under the name that somebody gave it: the other end of the pod's interface.
pub(super) fn find_renamed(session: &mut Session, pod: Option<&Link>) -> kernel::Result<Option<Link>> {
    let Some((pod, peer)) = pod.and_then(|pod| Some((pod, pod.peer?))) else { return Ok(None) };
    Ok(session.node.look_up_index(peer)?.filter(|port| is_pair(port, pod)))
}

/// Addresses and routes that others put on the host end.
pub fn observe_strange(session: &mut Session, port: &IfName) -> kernel::Result<Strange> {
    let Some(link) = session.node.look_up(port)? else { return Ok(Strange::default()) };
    let mut addresses = addresses_of(&mut session.node, link.index)?;
    // The kernel gives every link one of its own.
    addresses.retain(|address| !is_link_local(*address));
    let mut routes = Vec::new();
    for family in Family::BOTH {
        let entries = route::list(&mut session.node.route, family)?.into_iter();
        let through = entries.filter(|entry| entry.index == Some(link.index));
        routes.extend(through.filter(|entry| entry.protocol != RTPROT_KERNEL).map(|entry| as_route(&entry)));
    }
    Ok(Strange { addresses, routes })
}

/// Where questions for the node's name server are led, and who listens where it says that it answers.
pub fn observe_ports(
    session: &mut Session,
    said: BTreeMap<Ipv4Addr, u16>,
    names: &mut NamesHave,
) -> kernel::Result<()> {
    names.led_to = lead::led(session.netfilter()?)?;
    if !said.is_empty() {
        let is_meant = |at: SocketAddr| match at {
            SocketAddr::V4(at) => {
                said.get(at.ip()).is_some_and(|port| [*port, DNS_PORT].contains(&at.port()))
            }
            SocketAddr::V6(_) => false,
        };
        names.listening = listeners::listening(is_meant);
    }
    names.said = said;
    Ok(())
}

/// Whether frames of the port are checked, with whatever MAC.
pub fn is_checked(session: &mut Session, port: &IfName) -> kernel::Result<bool> {
    Ok(rules::checked_ports(session.netfilter()?)?.contains(port))
}
