//! Links of the node that come and go, as the kernel announces them: a pod that dies without a DEL takes its host link along.

use std::collections::HashSet;
use std::io;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::MulticastGroup;
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::datapath::census;
use crate::datapath::session::Session;

/// Events that are heard and not yet looked at.
const WAITING: usize = 64;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LinkEvent {
    Gone(String),
    Come(String),
    /// These are all there are: what happened before could not be kept for us.
    All(HashSet<String>),
}

/// The subscription.
#[derive(Debug)]
pub(crate) struct Links {
    events: mpsc::Receiver<LinkEvent>,
}

impl Links {
    /// Must be called within the runtime.
    pub(crate) fn subscribe() -> io::Result<Self> {
        let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&[MulticastGroup::Link])?;
        spawn_local(connection);
        let (heard, events) = mpsc::channel(WAITING);
        spawn_local(async move {
            while let Ok((message, _)) = messages.recv().await {
                if let Some(event) = event(message.payload)
                    && heard.send(event).await.is_err()
                {
                    return;
                }
            }
        });
        Ok(Self { events })
    }

    /// `None` when the subscription has ended.
    pub(crate) async fn next(&mut self) -> Option<LinkEvent> {
        self.events.recv().await
    }
}

fn event(payload: NetlinkPayload<RouteNetlinkMessage>) -> Option<LinkEvent> {
    match payload {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => name(link).map(LinkEvent::Gone),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => name(link).map(LinkEvent::Come),
        NetlinkPayload::Overrun(_) => all().map(LinkEvent::All),
        _ => None,
    }
}

/// A port that leaves its bridge is announced like a link that is gone, in a family of its own.
fn name(link: LinkMessage) -> Option<String> {
    if link.header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let name = |attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    };
    link.attributes.into_iter().find_map(name)
}

/// The names of all links; `None` when the kernel does not say.
pub(crate) fn all() -> Option<HashSet<String>> {
    let links = Session::open(None).and_then(|mut session| census::links(&mut session));
    match links {
        Ok(links) => Some(links.into_iter().map(|link| link.name).collect()),
        Err(error) => {
            tracing::warn!("pods that died without a DEL may keep their names: {error}");
            None
        }
    }
}
