//! The signals that end it and those that make it look again.

use std::io;
use std::os::unix::net::UnixStream as Pipe;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;

/// The same on every architecture of Linux.
const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    End,
    Reload,
}

/// Heard from the making of this value on: the first process of a container is deaf to signals that it has not asked for.
#[derive(Debug)]
pub(super) struct Caught {
    end: Pipe,
    reload: Pipe,
}

impl Caught {
    pub(super) fn catch() -> io::Result<Self> {
        let pipe = |signals: &[i32]| {
            let (read, write) = Pipe::pair()?;
            read.set_nonblocking(true)?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, write.try_clone()?)?;
            }
            Ok::<_, io::Error>(read)
        };
        Ok(Self { end: pipe(&[SIGTERM, SIGINT])?, reload: pipe(&[SIGHUP])? })
    }

    /// Must be called within the runtime.
    pub(super) fn listen(self) -> io::Result<Signals> {
        Ok(Signals { end: UnixStream::from_std(self.end)?, reload: UnixStream::from_std(self.reload)? })
    }
}

#[derive(Debug)]
pub(super) struct Signals {
    end: UnixStream,
    reload: UnixStream,
}

impl Signals {
    pub(super) async fn next(&mut self) -> Signal {
        let (mut one, mut other) = ([0; 16], [0; 16]);
        tokio::select! {
            _ = self.end.read(&mut one) => Signal::End,
            _ = self.reload.read(&mut other) => Signal::Reload,
        }
    }
}
