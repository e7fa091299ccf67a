//! Changes of the directory of records, as the kernel announces them (inotify(7)), also before there is such a directory.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The file of this name.
    File(String),
    /// More than was kept for us, or the directory itself.
    Everything,
}

/// Of names: room for some hundred changes.
const BUFFER: usize = 8 * 1024;

#[derive(Debug)]
pub(crate) struct Notify {
    fd: Rc<AsyncFd<OwnedFd>>,
    directory: PathBuf,
    /// Of the directory itself; without it one above it is watched, where it would appear.
    watch: Option<i32>,
}

impl Notify {
    /// Must be called within the runtime.
    #[expect(
        deprecated,
        reason = "its successor is unsafe, for descriptors that change; an OwnedFd stays what it is"
    )]
    pub(crate) fn of(directory: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let fd = Rc::new(AsyncFd::with_interest(fd, Interest::READABLE)?);
        let mut notify = Self { fd, directory: directory.to_owned(), watch: None };
        notify.arm()?;
        Ok(notify)
    }

    /// The nearest directory that is there. One that appears meanwhile is found by looking once more behind the watch.
    fn arm(&mut self) -> io::Result<()> {
        let itself = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let above = WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        loop {
            match inotify::add_watch(self.fd.get_ref(), &self.directory, itself) {
                Ok(watch) => {
                    self.watch = Some(watch);
                    return Ok(());
                }
                Err(Errno::NOENT | Errno::NOTDIR) => self.watch = None,
                Err(errno) => return Err(errno.into()),
            }
            let nearest =
                self.directory.ancestors().skip(1).find(|path| path.is_dir()).unwrap_or(Path::new("/"));
            let next = self.directory.strip_prefix(nearest).ok().and_then(|rest| rest.components().next());
            match inotify::add_watch(self.fd.get_ref(), nearest, above) {
                // It came between the two looks.
                Ok(_) if next.is_some_and(|next| nearest.join(next).is_dir()) => {}
                Ok(_) => return Ok(()),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Readable when there are changes that were not returned yet.
    pub(crate) fn descriptor(&self) -> Rc<AsyncFd<OwnedFd>> {
        self.fd.clone()
    }

    /// Waits for the next changes, and returns all that are there.
    pub(crate) async fn changes(&mut self) -> io::Result<Vec<Change>> {
        loop {
            let mut ready = self.fd.readable().await?;
            let (changes, rearm) = read(self.fd.get_ref(), self.watch)?;
            ready.clear_ready();
            drop(ready);
            if rearm {
                self.arm()?;
            }
            if !changes.is_empty() {
                return Ok(changes);
            }
        }
    }
}

/// What is there now, and whether the directory must be looked for again.
fn read(fd: &OwnedFd, watch: Option<i32>) -> io::Result<(Vec<Change>, bool)> {
    let mut changes = Vec::new();
    let mut rearm = false;
    let mut buffer = [MaybeUninit::uninit(); BUFFER];
    let mut reader = inotify::Reader::new(fd, &mut buffer);
    loop {
        let event = match reader.next() {
            Ok(event) => event,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(errno.into()),
        };
        let lost =
            ReadFlags::QUEUE_OVERFLOW | ReadFlags::IGNORED | ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF;
        if watch != Some(event.wd()) || event.events().intersects(lost) {
            rearm = true;
            changes.push(Change::Everything);
            continue;
        }
        let name = event.file_name().and_then(|name| name.to_str().ok());
        // Temporary names are nobody's yet.
        let record = name.filter(|name| !name.starts_with('.') && name.strip_suffix(".json").is_some());
        changes.extend(record.map(|name| Change::File(name.to_owned())));
    }
    changes.dedup();
    Ok((changes, rearm))
}
