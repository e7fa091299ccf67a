//! Flows that ports leave behind when they come or go: forgotten before the call returns, or by a process of its own where
//! that takes longer than a pod should wait.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::datapath::hostports::flows::{self, Left, Stale};
use crate::state::Records;

/// The option of `reconcile` for the process that [`forget`] starts.
pub const ONLY_FLOWS: &str = "--only-flows";

/// After the node's lock was given back.
pub(super) fn forget(records: &Records, stale: Stale) {
    if stale.is_empty() {
        return;
    }
    let _flows = tracing::info_span!("flows").entered();
    if stale.forget_or_leave(&records.owed()) == Left::ToBeSettled {
        leave(records);
    }
}

/// Where a process that was killed left some.
pub(super) fn resume(records: &Records) {
    if records.owed().is_any() {
        leave(records);
    }
}

/// Forgets what calls left; whoever calls has time.
pub fn settle(records: &Records) {
    if let Err(error) = flows::settle(&records.owed()) {
        tracing::warn!(%error, "flows of a host port may go to its former holder for a while");
    }
}

/// The only program of this path, and our own: the runtime waits for this process and for whoever has its output.
fn leave(records: &Records) {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("smarter-cni").args(["reconcile", ONLY_FLOWS]).env_clear().current_dir("/").process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Err(error) = command.spawn() {
        tracing::warn!(%error, "the pod waits until the node's flows are looked through");
        settle(records);
    }
}
