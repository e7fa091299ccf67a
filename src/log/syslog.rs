//! One sentence to the system's log: `/dev/log`, where journald and syslog daemons listen (RFC 3164, as syslog(3) sends it),
//! else, when something failed, `/dev/kmsg`, so that `dmesg` shows it. Never waits and never fails.

use std::path::Path;

use rustix::fs::{self, Mode, OFlags};
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};

use super::clock::Measured;
use super::entry::Entry;
use super::level::Level;
use super::line::sentence;

const SOCKET: &str = "/dev/log";
const KERNEL: &str = "/dev/kmsg";
/// syslog(3): facility `daemon`, severities `err` and `info`.
const DAEMON: u8 = 3 << 3;
const ERR: u8 = 3;
const INFO: u8 = 6;

/// `levels` are that of the entry and that which was asked for.
pub(super) fn send(entry: &Entry, measured: &Measured, levels: (Level, Level)) {
    let Some(priority) = priority(levels) else { return };
    let message =
        message(priority, rustix::process::getpid().as_raw_nonzero().get(), &sentence(entry, measured));
    if datagram(Path::new(SOCKET), &message).is_err() && priority & 7 == ERR {
        let _ = to_kernel(Path::new(KERNEL), &message);
    }
}

/// Failures, and from `info` on also what changed something; never who only looked.
fn priority((severity, level): (Level, Level)) -> Option<u8> {
    match severity {
        Level::Error => Some(DAEMON | ERR),
        Level::Warn | Level::Info if level >= Level::Info => Some(DAEMON | INFO),
        _ => None,
    }
}

fn message(priority: u8, pid: i32, sentence: &str) -> String {
    format!("<{priority}>smarter-cni[{pid}]: {sentence}")
}

fn datagram(path: &Path, message: &str) -> rustix::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    let address = SocketAddrUnix::new(path)?;
    sendto(&socket, message.as_bytes(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT, &address).map(drop)
}

fn to_kernel(path: &Path, message: &str) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::open(path, flags, Mode::empty())?;
    rustix::io::write(&file, message.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::Level::{Debug, Error, Info, Warn};
    use super::*;

    #[test]
    fn the_systems_log_hears_of_changes_and_failures_as_far_as_the_level_goes() {
        for (severity, level, expected) in [
            (Error, Error, Some(27)),
            (Error, Debug, Some(27)),
            (Info, Info, Some(30)),
            (Info, Debug, Some(30)),
            (Warn, Info, Some(30)),
            (Warn, Warn, None),
            (Debug, Debug, None),
        ] {
            assert_eq!(priority((severity, level)), expected, "{severity:?} {level:?}");
        }
    }

    #[test]
    fn a_listener_that_does_not_listen_is_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let listener = UnixDatagram::bind(&path).unwrap();
        let mut sent = 0;
        while datagram(&path, &message(27, 7, "x")).is_ok() {
            sent += 1;
            assert!(sent < 100_000, "the queue has an end");
        }
        let mut bytes = [0; 64];
        let length = listener.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"<27>smarter-cni[7]: x");
        drop(listener);
        assert!(datagram(&path, "x").is_err());
    }
}
