//! Whose names there are: the records of attached pods, the files in which runtimes keep hostnames, the links of the node, and
//! where that is wanted the runtime's word about pods of the host's network.
//!
//! A record that is complete and of this boot makes names; its end, or that of its host link, takes them. Refuses to ask an API
//! server.

mod attachments;
mod host_network;
mod hostname;
mod known;
mod links;
mod notify;

pub(crate) use attachments::Attachments;
pub(crate) use host_network::HostNetwork;
pub(crate) use hostname::Places;
pub(crate) use known::Gathered;
pub(crate) use links::{LinkEvent, Links, all as all_links};
pub(crate) use notify::{Change, Notify};
