//! The installer on hosts that are directory trees of the sandbox, with the sandbox's own network and the host's mounts.

mod crio;
mod host;
mod host_dns;
mod interrupted;
mod name_server;
mod others;
mod place;
mod predecessor;
mod ranges;
mod repair;
mod uninstall;
pub(crate) mod watch;

pub(crate) use host::{BIN, Host, another_build, kernel};
