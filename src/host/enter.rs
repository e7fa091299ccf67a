//! The host's `/` as our own: for work that names things by the host's paths, and in the kernel's words.
//!
//! One way only. Whoever must come back does it in a process of its own.

use std::path::Path;

/// From here on the host's `/` is ours: namespaces of pods, /proc and the programs of the host are found by the host's
/// paths.
pub fn enter(root: &Path) -> Result<(), String> {
    if root == Path::new("/") {
        return Ok(());
    }
    let failed = |error: rustix::io::Errno| {
        format!("cannot enter {}: {error}; the container needs the capability SYS_CHROOT", root.display())
    };
    rustix::process::chroot(root).map_err(failed)?;
    rustix::process::chdir("/").map_err(failed)?;
    if !Path::new("/proc/self").exists() {
        return Err(format!(
            "{}/proc is empty: mount the host's / with everything below it (mountPropagation HostToContainer)",
            root.display()
        ));
    }
    Ok(())
}
