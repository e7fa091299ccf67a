//! Modules that are being loaded while somebody needs them.
//!
//! The kernel loads what a message needs and looks for it once more. On a node that just booted two pods may need the same
//! module in one moment. kmod's modprobe then waits for the other one's; that of busybox sees the module in /proc/modules,
//! takes it for loaded and ends, while it still begins, and the kernel refuses the second pod: "Unknown device type". So
//! does it with families, chain types and expressions of nf_tables. What was refused like that is asked for again.
//!
//! Refuses to load anything: which modules there are is the kernel's business and the administrator's.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

/// A module begins within milliseconds; on a small board with others doing the same it may be a second.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);
/// One rule may need half a dozen of modules, and each may be another one's that moment.
const ATTEMPTS: u8 = 10;

/// Decides whether one request is made again.
#[derive(Debug, Default)]
pub(super) struct Retry {
    made: u8,
}

impl Retry {
    /// After a refusal that a missing module would explain; returns when no module is being loaded any more. Once it is
    /// made again in any case: what was beginning a moment ago may be there by now.
    pub(super) fn again(&mut self) -> bool {
        // One that hangs would hang all of us.
        let Some(waited) = await_loading() else { return false };
        self.made += 1;
        self.made == 1 || (waited && self.made < ATTEMPTS)
    }
}

/// How the kernel refuses what it finds no module for: links (net/core/rtnetlink.c), protocols, a batch for a subsystem that
/// is not there (net/netfilter/nfnetlink.c) and families.
pub(super) fn may_be_missing(errno: i32) -> bool {
    [Errno::OPNOTSUPP, Errno::AFNOSUPPORT, Errno::PROTONOSUPPORT].iter().any(|e| e.raw_os_error() == errno)
}

/// The same for the messages of a batch: chain types and expressions that are missing are ENOENT.
pub(super) fn may_be_missing_in_batch(errno: i32) -> bool {
    may_be_missing(errno) || errno == Errno::NOENT.raw_os_error()
}

/// The same for questions: nfnetlink answers EINVAL when it does not have the subsystem.
pub(super) fn may_be_missing_in_question(errno: i32) -> bool {
    errno == Errno::INVAL.raw_os_error()
}

/// Whether there was something to wait for; `None` when it did not end.
fn await_loading() -> Option<bool> {
    let begun = Instant::now();
    let mut waited = false;
    while is_loading(&fs::read_to_string("/proc/modules").unwrap_or_default()) {
        if begun.elapsed() > PATIENCE {
            return None;
        }
        waited = true;
        thread::sleep(PAUSE);
    }
    Some(waited)
}

/// `/proc/modules`: name, size, uses, users, state, address.
fn is_loading(modules: &str) -> bool {
    modules.lines().any(|line| line.split_ascii_whitespace().nth(4) == Some("Loading"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_begins_is_told_from_those_that_are_there() {
        let there = "stp 16384 1 bridge, Live 0xffffffffc0a5f000\nllc 16384 2 bridge,stp, Live 0x0\n";
        assert!(!is_loading(there));
        assert!(is_loading(&format!("{there}bridge 311296 0 - Loading 0x0000000000000000\n")));
        assert!(!is_loading("nf_tables 1 0 - Unloading 0x0\nLoading 1 0 - Live 0x0\n"));
        assert!(!is_loading(""), "a kernel without modules");
    }

    #[test]
    fn what_no_module_would_mend_is_asked_for_twice() {
        let mut retry = Retry { made: 0 };
        retry.again();
        // Unless a module of the machine begins this very moment.
        let more = (0..ATTEMPTS).filter(|_| retry.again()).count();
        assert!(more < usize::from(ATTEMPTS));
    }
}
