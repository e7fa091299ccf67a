//! What this process prints.

use std::io::{self, Write as _};

use crate::text::printable;

/// To whoever keeps what this process prints.
pub(super) fn say(words: &str) {
    let _ = writeln!(io::stderr(), "smarter-cni dns: {}", printable(words));
}

pub(super) fn unwatched(error: &io::Error) {
    say(&format!("records are looked at every 2 s, because they cannot be watched: {error}"));
}
