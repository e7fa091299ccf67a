//! gRPC over a unix socket, one call after the other, all before one deadline.
//!
//! The client is our own because the library for it costs 461 KB, a sixth of the whole program, and needs an asynchronous
//! runtime's traits; what a unary call needs of HTTP/2 is in [`super::frame`] and [`super::hpack`]. Knows no CRI.

use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::frame::{self, Frame, Head};
use super::hpack;
use super::reply::{Answer, ROOM, Reply};
use super::{Reason, garbage};

/// Between two attempts to connect to somebody who is busy.
const PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    deadline: Instant,
    patience: Duration,
    /// Of the next call; a client's are odd.
    next: u32,
}

impl Connection {
    pub(super) fn open(socket: &Path, patience: Duration) -> Result<Self, Reason> {
        let deadline = Instant::now() + patience;
        Self::over(connected(socket, deadline, patience)?, deadline, patience)
    }

    pub(super) fn over(stream: UnixStream, deadline: Instant, patience: Duration) -> Result<Self, Reason> {
        let mut connection = Self { stream, deadline, patience, next: 1 };
        connection.send(&frame::opening(ROOM))?;
        Ok(connection)
    }

    /// One message there, one back. `method` is `package.Service/Method`.
    pub(super) fn call(&mut self, method: &str, message: &[u8]) -> Result<Answer, Reason> {
        let stream = self.next;
        self.next += 2;
        let header = hpack::request(&format!("/{method}"));
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
        let body = [&[0][..], &length, message].concat();
        let request = [
            frame::encode(frame::HEADERS, frame::END_HEADERS, stream, &header),
            frame::encode(frame::DATA, frame::END_STREAM, stream, &body),
        ];
        self.send(&request.concat())?;
        let mut reply = Reply::default();
        while !reply.is_complete() {
            let frame = self.receive()?;
            if frame.stream == stream {
                reply.add(&frame)?;
            } else if frame.stream == 0 {
                self.heed(&frame)?;
            }
        }
        reply.answer()
    }

    /// What concerns the connection as a whole.
    fn heed(&mut self, frame: &Frame) -> Result<(), Reason> {
        match frame.kind {
            frame::SETTINGS | frame::PING if !frame.is(frame::ACK) => {
                // Settings are acknowledged without repeating them, a ping with what it brought.
                let payload = if frame.kind == frame::PING { &frame.payload[..] } else { &[] };
                self.send(&frame::encode(frame.kind, frame::ACK, 0, payload))
            }
            frame::GOAWAY => Err(garbage("it closes the connection (GOAWAY)")),
            _ => Ok(()),
        }
    }

    fn receive(&mut self) -> Result<Frame, Reason> {
        let mut head = [0; frame::HEAD];
        self.fill(&mut head)?;
        let Head { length, kind, flags, stream } = Head::parse(head);
        if length > frame::MOST {
            return Err(garbage("a frame of it is longer than HTTP/2 allows"));
        }
        let mut payload = vec![0; length];
        self.fill(&mut payload)?;
        Ok(Frame { kind, flags, stream, payload })
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), Reason> {
        let mut filled = 0;
        while filled < buffer.len() {
            let left = self.left()?;
            self.stream.set_read_timeout(Some(left)).map_err(failed)?;
            match self.stream.read(&mut buffer[filled..]) {
                Ok(0) => return Err(garbage("it closed the connection in the middle of an answer")),
                Ok(bytes) => filled += bytes,
                Err(error) => again(error)?,
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let left = self.left()?;
            self.stream.set_write_timeout(Some(left)).map_err(failed)?;
            match self.stream.write(rest) {
                Ok(bytes) => rest = &rest[bytes..],
                Err(error) => again(error)?,
            }
        }
        Ok(())
    }

    fn left(&self) -> Result<Duration, Reason> {
        left(self.deadline, self.patience)
    }
}

/// Never zero, which would mean for ever.
fn left(deadline: Instant, patience: Duration) -> Result<Duration, Reason> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Reason::Late(patience)) } else { Ok(left) }
}

/// The deadline is looked at before the next attempt.
fn again(error: io::Error) -> Result<(), Reason> {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
            Err(garbage("it closed the connection in the middle of a call"))
        }
        _ => Err(failed(error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: io::Error) -> Reason {
    Reason::Failed(error.to_string())
}

/// Without blocking: somebody who listens and never accepts would keep us for ever once its queue is full.
fn connected(path: &Path, deadline: Instant, patience: Duration) -> Result<UnixStream, Reason> {
    let kind = path.metadata().map_err(|error| unreachable(&error))?.file_type();
    if !kind.is_socket() {
        return Err(Reason::NotASocket);
    }
    let address = SocketAddrUnix::new(path).map_err(|errno| failed(errno.into()))?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|errno| failed(errno.into()))?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::AGAIN | Errno::INTR) => thread::sleep(left(deadline, patience)?.min(PAUSE)),
            Err(errno) => return Err(unreachable(&errno.into())),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false).map_err(failed)?;
    Ok(stream)
}

fn unreachable(error: &io::Error) -> Reason {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Reason::NoSocket,
        io::ErrorKind::PermissionDenied => Reason::NotPermitted,
        io::ErrorKind::ConnectionRefused => Reason::NobodyListens,
        _ => Reason::Failed(error.to_string()),
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
