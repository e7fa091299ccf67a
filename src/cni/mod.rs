//! The CNI protocol: what a runtime says to a plugin, and how a plugin answers.
//!
//! Owns requests, configuration decoding, versions, results, their wire formats, errors and delegation to a
//! foreign plugin. Knows no kernel: no namespaces, links or rules. Everything but [`delegate`] is pure.
//!
//! The way through: [`request::read`] → [`config::NetConf::decode`], [`args::Args::parse`] → the plugin →
//! [`wire::render`] or [`error::Error::reply`].
//!
//! Pure.

pub mod address;
pub mod args;
pub mod config;
pub mod delegate;
pub mod error;
pub mod json;
mod quote;
pub mod request;
pub mod result;
pub mod version;
pub mod wire;

pub use error::{Code, Context, Error, Result};
pub use json::{Json, Object};
pub use request::{Call, ContainerId, NetworkName, Request, Target, Verb};
pub use result::{AddResult, Dns, Interface, IpConfig};
pub use version::SpecVersion;
