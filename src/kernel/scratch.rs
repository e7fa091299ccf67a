//! A network namespace that nobody else sees and that is gone with the thread that made it: a place to try things out.
//!
//! Needs CAP_SYS_ADMIN; refuses nothing else, and leaves nothing behind but modules that the kernel loaded.

use rustix::io::Errno;
use rustix::thread::UnshareFlags;

use super::error::{Error, Result};

/// Runs `body` in a namespace of its own, on a thread of its own: there is no way back to get wrong. Has `lo`, down.
pub fn inside<T: Send>(body: impl FnOnce() -> T + Send) -> Result<T> {
    let refused = |errno: Errno| {
        let error = Error::new("make a network namespace", errno.into());
        if errno == Errno::PERM { error.with_hint("that takes root, or CAP_SYS_ADMIN") } else { error }
    };
    std::thread::scope(|scope| {
        let visit = scope.spawn(|| leave().map_err(refused).map(|()| body()));
        visit.join().unwrap_or_else(|_| Err(refused(Errno::CANCELED)))
    })
}

#[expect(
    deprecated,
    reason = "deprecated for unsharing open files, which is not done here; the new one is unsafe"
)]
fn leave() -> rustix::io::Result<()> {
    rustix::thread::unshare(UnshareFlags::NEWNET)
}
