//! Networks by the name that `ip netns` gives them, and the distribution's tools in them.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Result;

/// This thread, and what it starts from now on, is there.
pub(crate) fn enter(network: &str) -> Result<()> {
    let file = File::open(format!("/run/netns/{network}"))?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?)
}

/// What a thread of its own does in another network; sockets stay where they were opened.
pub(crate) fn inside<T: Send>(network: &str, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let done = enter(network).and_then(|()| work());
            // An error must be able to leave its thread.
            done.map_err(|error| error.to_string())
        });
        Ok(thread.join().map_err(|_| "a thread panicked")??)
    })
}

pub(crate) fn run(line: &str) -> Result<String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let out =
        Command::new(words[0]).args(&words[1..]).output().map_err(|error| format!("{line}: {error}"))?;
    if out.status.success() {
        return Ok(String::from_utf8(out.stdout)?);
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&out.stderr)).into())
}
