//! Sockets that are there already: from systemd, which keeps them while we are away (sd_listen_fds(3)), or from a running
//! predecessor, which keeps serving until we do.
//!
//! The predecessor is asked over a socket that only root can open, and that asks the kernel who is at its other end. Nothing of
//! what it sends is believed: a descriptor is looked at, and what was cached is read like the answer of a stranger.

use std::ffi::OsString;
use std::io::{self, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, geteuid, getpid, pidfd_getfd, pidfd_open};

use super::sockets::{Inherited, known};

/// Where a running one listens for its successor and for whoever wants its counters.
pub(crate) const SOCKET: &str = "/run/smarter-cni/dns.sock";
/// What a successor says first, and once it serves.
pub(crate) const TAKE: &str = "take";
pub(crate) const SERVING: &str = "serving";
/// How long one waits for the other.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Descriptors that one message carries: the kernel's limit is 253 (SCM_MAX_FD).
pub(crate) const MOST_SOCKETS: usize = 128;
/// Bytes of a cache.
const LARGEST_CACHE: u64 = 512 << 20;
/// The first descriptor that systemd hands over.
const FIRST: i32 = 3;

/// What a predecessor gave.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) sockets: Inherited,
    pub(crate) cache: Vec<u8>,
    /// Its end is the predecessor's sign to serve again.
    stream: UnixStream,
}

impl Taken {
    /// The predecessor stops now.
    pub(crate) fn serving(&mut self) -> io::Result<()> {
        self.stream.write_all(format!("{SERVING}\n").as_bytes())
    }
}

/// `None` when nobody is there. Waits a bounded time.
pub(crate) fn take(path: &Path) -> io::Result<Option<Taken>> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    if !is_trusted(&stream) {
        return Err(io::Error::other("another user listens there"));
    }
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("{TAKE}\n").as_bytes())?;
    let sockets = descriptors(&stream)?;
    let mut length = [0; 8];
    stream.read_exact(&mut length)?;
    let length = u64::from_be_bytes(length);
    if length > LARGEST_CACHE {
        return Err(io::Error::other("it has more in its cache than any has"));
    }
    let mut cache = Vec::new();
    (&stream).take(length).read_to_end(&mut cache)?;
    Ok(Some(Taken { sockets, cache, stream }))
}

/// Root is at the other end, or whoever we are.
pub(crate) fn is_trusted(stream: &impl std::os::fd::AsFd) -> bool {
    sockopt::socket_peercred(stream).is_ok_and(|peer| peer.uid.is_root() || peer.uid == geteuid())
}

/// They come with one byte.
fn descriptors(stream: &UnixStream) -> io::Result<Inherited> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_SOCKETS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(stream, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::Error::other("it gave nothing"));
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(looked_at(rights.flatten()))
}

fn looked_at(descriptors: impl Iterator<Item = OwnedFd>) -> Inherited {
    descriptors.filter_map(|fd| known(&fd).map(|(at, kind)| (fd, at, kind))).collect()
}

/// Those of systemd, if it started us with some.
pub(crate) fn of_systemd(environment: &[(OsString, OsString)]) -> io::Result<Inherited> {
    let number = |wanted: &str| {
        let (_, value) = environment.iter().find(|(name, _)| name == wanted)?;
        value.to_str()?.parse::<i32>().ok()
    };
    let ours = number("LISTEN_PID") == Some(getpid().as_raw_nonzero().get());
    let Some(count) = number("LISTEN_FDS").filter(|count| ours && *count > 0) else { return Ok(Vec::new()) };
    let most = i32::try_from(MOST_SOCKETS).unwrap_or(i32::MAX);
    // A number is no descriptor of ours yet; asked of the kernel, it is. The first one stays open and in nobody's way.
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    let get = |fd: i32| pidfd_getfd(&own, fd, PidfdGetfdFlags::empty());
    let descriptors = (FIRST..FIRST + count.min(most)).map(get).collect::<Result<Vec<_>, _>>()?;
    Ok(looked_at(descriptors.into_iter()))
}
