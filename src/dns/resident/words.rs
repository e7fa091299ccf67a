//! What this process prints.

use std::io::{self, Write as _};

use crate::dns::owner;
use crate::dns::sockets::Taken;
use crate::text::printable;

/// To whoever keeps what this process prints.
pub(super) fn say(words: &str) {
    let _ = writeln!(io::stderr(), "smarter-cni dns: {}", printable(words));
}

pub(super) fn unwatched(error: &io::Error) {
    say(&format!("records are looked at every 2 s, because they cannot be watched: {error}"));
}

pub(super) fn taken(taken: &Taken) {
    let who = owner::of_port(taken.at.ip(), taken.at.port(), taken.kind);
    let instead = match taken.port {
        Some(port) => format!("port {port} serves meanwhile"),
        None => "nothing serves it meanwhile".to_owned(),
    };
    say(&format!("{}: {}: taken by {who}; {instead}", taken.at, taken.error));
}
