//! Network namespaces: open one by its path, look at which one it is, visit it.
//!
//! Refuses to create or delete them; that is the container runtime's work.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::LinkNameSpaceType;

use super::error::{Error, Result};

/// linux/magic.h. Kernels before 3.19 kept namespaces in procfs.
const NSFS_MAGIC: i128 = 0x6e73_6673;
const PROC_SUPER_MAGIC: i128 = 0x9fa0;

/// An open network namespace. It lives at least as long as this handle, whatever happens to its path.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    identity: (u64, u64),
}

/// Displays in the words that callers of the reference CNI plugins know.
#[derive(Debug)]
pub enum OpenError {
    /// There is nothing at the path (any more): `failed to Statfs "…": no such file or directory`.
    Gone(String),
    /// There is something else: `unknown FS magic on "…": 1021994`.
    NotNamespace(String),
    Other(Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(text) | Self::NotNamespace(text) => f.write_str(text),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

impl Netns {
    /// `/proc/<pid>/ns/net`, or a file on which such a link is mounted.
    pub fn open(path: &str) -> Result<Self, OpenError> {
        let refused = |errno: Errno| {
            let error = Error::new(format!("failed to Statfs {path:?}"), errno.into());
            if errno == Errno::NOENT { OpenError::Gone(error.to_string()) } else { OpenError::Other(error) }
        };
        let magic = i128::from(rustix::fs::statfs(path).map_err(refused)?.f_type) & 0xffff_ffff;
        if magic != NSFS_MAGIC && magic != PROC_SUPER_MAGIC {
            return Err(OpenError::NotNamespace(format!("unknown FS magic on {path:?}: {magic:x}")));
        }
        // The path may have changed hands since: a FIFO must not hold us up.
        match open(path).and_then(Self::of) {
            Ok(netns) => Ok(netns),
            Err(Errno::NOENT) => Err(refused(Errno::NOENT)),
            Err(errno) => Err(OpenError::Other(Error::new(format!("open {path:?}"), errno.into()))),
        }
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        open(HERE).and_then(Self::of).map_err(not_here)
    }

    /// As [`Self::identity`] of the namespace of the calling thread, without opening it.
    pub fn current_identity() -> Result<(u64, u64)> {
        rustix::fs::stat(HERE).map(|stat| (stat.st_dev, stat.st_ino)).map_err(not_here)
    }

    fn of(fd: OwnedFd) -> rustix::io::Result<Self> {
        let stat = rustix::fs::fstat(&fd)?;
        Ok(Self { identity: (stat.st_dev, stat.st_ino), fd })
    }

    /// Device and inode: the same pair is the same namespace, as long as somebody holds it open.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Runs `body` inside, on this thread, and comes back to where the thread was.
    ///
    /// Netlink sockets and `/proc/sys/net` that `body` opens belong to the visited namespace; a socket stays there
    /// after the visit. What `body` returns does not matter for the way back. An error means that `body` did not run,
    /// or that the thread could not come back: then this thread must do nothing more.
    pub fn visit<T>(&self, body: impl FnOnce() -> T) -> Result<T> {
        self.visit_from(&Home::of_thread()?, body)
    }

    /// As [`Self::visit`], for whoever comes again.
    pub fn visit_from<T>(&self, home: &Home, body: impl FnOnce() -> T) -> Result<T> {
        enter(self.fd())?;
        let value = body();
        enter(home.0.as_fd())?;
        Ok(value)
    }
}

/// Where a thread comes back to.
#[derive(Debug)]
pub struct Home(OwnedFd);

impl Home {
    /// The namespace of the calling thread, which is the one to visit others from.
    pub fn of_thread() -> Result<Self> {
        open(HERE).map(Self).map_err(not_here)
    }
}

/// `/proc/self` would be the one of the process's first thread.
const HERE: &str = "/proc/thread-self/ns/net";

fn not_here(errno: Errno) -> Error {
    Error::new(format!("open {HERE}"), errno.into())
}

fn enter(netns: BorrowedFd<'_>) -> Result<()> {
    rustix::thread::move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
        .map_err(|errno| Error::new("enter a network namespace", errno.into()))
}

fn open(path: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_namespace_is_told_apart() {
        let missing = Netns::open("/nonexistent/netns").unwrap_err();
        assert!(matches!(missing, OpenError::Gone(_)));
        assert_eq!(
            missing.to_string(),
            r#"failed to Statfs "/nonexistent/netns": no such file or directory"#
        );

        let sysfs = Netns::open("/sys").unwrap_err();
        assert!(matches!(sysfs, OpenError::NotNamespace(_)));
        assert_eq!(sysfs.to_string(), r#"unknown FS magic on "/sys": 62656572"#);

        let beyond_a_file = Netns::open("/proc/version/x").unwrap_err();
        assert!(matches!(beyond_a_file, OpenError::Other(_)));
    }

    #[test]
    fn a_fifo_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        let refused = Netns::open(path.to_str().unwrap()).unwrap_err();
        assert!(matches!(refused, OpenError::NotNamespace(_)));
    }

    #[test]
    fn the_current_namespace_is_found_by_its_path_too() {
        let here = Netns::current().unwrap().identity();
        let path = Netns::open("/proc/thread-self/ns/net").unwrap().identity();
        assert_eq!(here, path);
    }
}
