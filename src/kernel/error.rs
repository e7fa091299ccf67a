//! What the kernel refused, and why.
//!
//! Knows the operation (in the words of `ip`, `nft` or `sysctl`), the errno and the kernel's own explanation. Refuses to
//! know CNI codes: those are given where the protocol meets the kernel.

use std::{fmt, io};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One refused operation. Displays as `<operation>: <reason>`, and `; <hint>` where a next move is known.
#[derive(Debug)]
pub struct Error {
    operation: String,
    cause: io::Error,
    words: Option<String>,
    hint: Option<String>,
}

impl Error {
    pub fn new(operation: impl Into<String>, cause: io::Error) -> Self {
        Self { operation: operation.into(), cause, words: None, hint: None }
    }

    pub fn with_words(operation: impl Into<String>, cause: io::Error, words: Option<String>) -> Self {
        Self { operation: operation.into(), cause, words, hint: None }
    }

    /// Adds what a person can do about it, or what the machine lacks.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The kernel's own explanation (extended acknowledgement, 4.12 and later).
    pub fn words(&self) -> Option<&str> {
        self.words.as_deref()
    }

    pub fn errno(&self) -> Option<rustix::io::Errno> {
        // A number in a message may be any; one that no system call returns has no name.
        rustix::io::Errno::from_io_error(&self.cause)
    }

    /// The object is already there.
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(rustix::io::Errno::EXIST)
    }

    /// The object, or what it hangs on, is not there (any more).
    pub fn is_missing(&self) -> bool {
        use rustix::io::Errno;
        matches!(
            self.errno(),
            Some(Errno::NODEV | Errno::NOENT | Errno::SRCH | Errno::ADDRNOTAVAIL | Errno::NXIO)
        )
    }

    /// The kernel was built or loaded without what the operation needs.
    pub fn is_unsupported(&self) -> bool {
        use rustix::io::Errno;
        matches!(self.errno(), Some(Errno::OPNOTSUPP | Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT))
    }

    /// Somebody else has what the operation needs, and did not let go in time.
    pub fn is_busy(&self) -> bool {
        self.cause.kind() == io::ErrorKind::TimedOut
    }

    /// The reason without the operation: `file exists` and, in brackets, the kernel's own words.
    pub fn reason(&self) -> String {
        let text = self.cause.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        // Go's errno texts, which the plugins we replace print, begin in lower case.
        let mut letters = text.chars();
        let text: String = letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect();
        match &self.words {
            Some(words) => format!("{text} ({words})"),
            None => text,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.operation, self.reason())?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_operation_reason_words_and_hint() {
        let refused = || {
            let cause = io::Error::from(rustix::io::Errno::OPNOTSUPP);
            Error::with_words("ip link add cni0 type bridge", cause, Some("Unknown device type".into()))
        };
        // The words for EOPNOTSUPP are the C library's.
        let words = if cfg!(target_env = "musl") { "not supported" } else { "operation not supported" };
        assert_eq!(
            refused().to_string(),
            format!("ip link add cni0 type bridge: {words} (Unknown device type)")
        );
        assert_eq!(
            refused().with_hint("this kernel lacks CONFIG_BRIDGE").to_string(),
            format!(
                "ip link add cni0 type bridge: {words} (Unknown device type); this kernel lacks CONFIG_BRIDGE"
            )
        );
    }

    #[test]
    fn a_number_that_is_no_errno_is_a_reason_all_the_same() {
        for number in [i32::MIN, -1, 4096, i32::MAX] {
            let error = Error::new("ip link show", io::Error::from_raw_os_error(number));
            assert!(!error.is_missing() && !error.is_exists() && !error.is_unsupported(), "{number}");
            assert!(error.to_string().starts_with("ip link show: "), "{error}");
        }
    }
}
