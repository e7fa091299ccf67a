//! A file that could not be read or written, and why.
//!
//! Knows paths and errnos. CNI codes are given where the protocol meets the state.

use std::fmt;
use std::io;
use std::path::Path;

use rustix::io::Errno;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Displays as `open /run/x/lock: permission denied`, with a next move where there is one.
#[derive(Debug)]
pub struct Error {
    operation: String,
    cause: io::Error,
}

impl Error {
    /// `operation` is a verb: `open`, `write`, `remove`.
    pub fn new(operation: &str, path: &Path, cause: impl Into<io::Error>) -> Self {
        Self { operation: format!("{operation} {}", path.display()), cause: cause.into() }
    }

    pub fn errno(&self) -> Option<Errno> {
        Errno::from_io_error(&self.cause)
    }

    /// Operation and cause, for an error of another room.
    pub fn into_parts(self) -> (String, io::Error) {
        (self.operation, self.cause)
    }

    /// Somebody else has what the operation needs, and did not let go in time.
    pub fn is_busy(&self) -> bool {
        self.cause.kind() == io::ErrorKind::TimedOut
    }

    pub fn is_missing(&self) -> bool {
        self.errno() == Some(Errno::NOENT)
    }

    fn next_move(&self) -> &'static str {
        match self.errno() {
            Some(Errno::NOSPC | Errno::DQUOT) => {
                "; free space or inodes there, or move it to a tmpfs below /run"
            }
            Some(Errno::ROFS) => "; mount it writable, or move it to a tmpfs below /run",
            Some(Errno::LOOP) => "; a symbolic link is not followed here, put the file itself in its place",
            _ => "",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.cause.to_string();
        // `No space left on device (os error 28)` in the words of the plugins we replace.
        let text = text.split(" (os error").next().unwrap_or_default();
        let mut letters = text.chars();
        let text: String = letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect();
        write!(f, "{}: {text}{}", self.operation, self.next_move())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
