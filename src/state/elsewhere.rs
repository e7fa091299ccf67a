//! Is what is remembered here the node's? A container in the host's network has its own `/run`, and then nobody's records.

use super::holders::NetnsId;
use super::record::ROOT;

/// What to do where [`is_elsewhere`] says so.
pub const COME_HERE: &str = "this is a container in the host's network whose /run is not the host's, so it knows of no pod; \
                             add --root DIR where the host's / is mounted, or go to the host with: nsenter -t 1 -m \
                             /opt/cni/bin/smarter-cni";

/// Whether this process is in the network of the first process, and does not see the memory that is kept there: in another
/// mount namespace, where [`ROOT`] is another directory or none. Without the host's processes (hostPID) the first process
/// is the container's own, and nothing can be told.
pub fn is_elsewhere() -> bool {
    let same = |kind: &str| {
        let first = NetnsId::of(&format!("/proc/1/ns/{kind}"))?;
        Some(first == NetnsId::of(&format!("/proc/thread-self/ns/{kind}"))?)
    };
    same("net") == Some(true)
        && same("mnt") == Some(false)
        && NetnsId::of(&format!("/proc/1/root{ROOT}")) != NetnsId::of(ROOT)
}
