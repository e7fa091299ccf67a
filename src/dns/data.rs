//! Whose names there are: the records of attached pods, the files in which runtimes keep hostnames, and the links of the node.
//!
//! A record that is complete and of this boot makes names; its end, or that of its host link, takes them. Refuses to ask a
//! runtime or an API server.

mod attachments;
mod hostname;
mod known;
mod links;
mod notify;

pub(crate) use attachments::Attachments;
pub(crate) use hostname::Places;
pub(crate) use known::Gathered;
pub(crate) use links::{LinkEvent, Links, all as all_links};
pub(crate) use notify::{Change, Notify};
