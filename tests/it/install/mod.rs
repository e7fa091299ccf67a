//! The installer on hosts that are directory trees of the sandbox, with the sandbox's own network and the host's mounts.

mod crio;
mod host;
mod interrupted;
mod name_server;
mod others;
mod place;
mod predecessor;
mod ranges;
mod repair;
mod uninstall;
mod watch;

pub(crate) use host::{another_build, kernel};
