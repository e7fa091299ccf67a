//! What we remember: leases in host-local's own format, attachment records, which boot we are in, and who may change what
//! all pods share. Knows neither CNI's messages nor the kernel's.

pub mod boot;
pub mod lock;
pub mod record;

use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Makes a directory that only root can look into, and refuses to use one that is a link or somebody else's to change.
fn create_private_dir(path: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(path, Mode::RWXU) {
        Ok(()) => return Ok(()),
        Err(rustix::io::Errno::EXIST) => {}
        Err(rustix::io::Errno::NOENT) => {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            return rustix::fs::mkdir(path, Mode::RWXU).map_err(Into::into);
        }
        Err(error) => return Err(error.into()),
    }
    // A link planted in its place would have us write where somebody else points.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::PATH | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map(drop).map_err(Into::into)
}
