//! Reads the files that name the upstreams and hears when they change, and when the kernel gets a way to one of them.
//!
//! A file is replaced by renaming, rewritten in place, or is a link that turns to another one: so the directories are watched,
//! of the links' targets too, and where a directory is missing the nearest one that is there. Refuses to know which file counts.

mod places;
mod routes;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::future::{Future, pending, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep;

pub(crate) use self::routes::routes;
use super::{Upstream, resolv_conf};
use crate::file;
use crate::file::changes::CHANGES;

/// Far more than any resolver configuration has.
const LONGEST: usize = 64 * 1024;
/// Where no change is announced: a user has 128 instances at most (fs.inotify.max_user_instances), and others use them up.
const ROUND: Duration = Duration::from_secs(10);

/// The servers that a file names; none where it cannot be read.
pub(crate) fn read(path: &Path) -> Vec<Upstream> {
    match file::bytes(path, LONGEST) {
        Ok(text) => resolv_conf(&String::from_utf8_lossy(&text)),
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!("upstream name servers: cannot read {}: {error}", path.display());
            }
            Vec::new()
        }
    }
}

/// Both at once, until one of them ends, which neither does.
pub(crate) async fn both(one: impl Future<Output = ()>, other: impl Future<Output = ()>) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| match (one.as_mut().poll(context), other.as_mut().poll(context)) {
        (Poll::Pending, Poll::Pending) => Poll::Pending,
        _ => Poll::Ready(()),
    })
    .await;
}

/// Calls `changed` at the beginning, and whenever one of the files may have become another. Does not end.
pub(crate) async fn files(paths: &[PathBuf], changed: impl Fn()) {
    if paths.is_empty() {
        return pending().await;
    }
    if let Err(error) = announced(paths, &changed).await {
        tracing::info!("changes of upstream name servers are seen every {} s: {error}", ROUND.as_secs());
    }
    loop {
        sleep(ROUND).await;
        changed();
    }
}

async fn announced(paths: &[PathBuf], changed: &impl Fn()) -> io::Result<()> {
    let mut watches = Watches::new()?;
    loop {
        watches.follow(paths)?;
        // What changes from here on is announced, so that this reading misses nothing.
        changed();
        watches.wait().await?;
    }
}

struct Watches {
    inotify: AsyncFd<OwnedFd>,
    /// The names of interest in each directory that is watched.
    names: BTreeMap<i32, BTreeSet<OsString>>,
}

impl Watches {
    #[expect(
        deprecated,
        reason = "what replaces it is unsafe, for what an OwnedFd cannot do: be closed by others"
    )]
    fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        Ok(Self { inotify: AsyncFd::new(inotify)?, names: BTreeMap::new() })
    }

    /// Watches where the files are now, and nothing else any more.
    fn follow(&mut self, paths: &[PathBuf]) -> io::Result<()> {
        // A directory that appears between looking and watching is found by looking again.
        for _ in 0..8 {
            let places = places::of(paths);
            let mut names: BTreeMap<i32, BTreeSet<OsString>> = BTreeMap::new();
            for (directory, wanted) in &places {
                match inotify::add_watch(self.inotify.get_ref(), directory, CHANGES) {
                    Ok(watch) => names.entry(watch).or_default().extend(wanted.iter().cloned()),
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            for watch in self.names.keys().filter(|watch| !names.contains_key(*watch)) {
                // One whose directory has gone, the kernel has removed.
                let _ = inotify::remove_watch(self.inotify.get_ref(), *watch);
            }
            self.names = names;
            if places::of(paths) == places {
                break;
            }
        }
        Ok(())
    }

    async fn wait(&self) -> io::Result<()> {
        loop {
            let mut ready = self.inotify.readable().await?;
            if self.drain()? {
                return Ok(());
            }
            ready.clear_ready();
        }
    }

    /// Reads all that was announced. Was any of it of interest?
    fn drain(&self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(self.inotify.get_ref(), &mut buffer);
        let mut concerned = false;
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                    let lost = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                    concerned |= lost || self.concerns(event.wd(), name);
                }
                Err(Errno::AGAIN) => return Ok(concerned),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What has no name concerns the directory itself.
    fn concerns(&self, watch: i32, name: Option<&OsStr>) -> bool {
        let names = self.names.get(&watch);
        names.is_some_and(|names| name.is_none_or(|name| names.contains(name)))
    }
}

#[cfg(test)]
mod tests;
