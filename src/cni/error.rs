//! Why a plugin call failed, in the protocol's terms (CNI SPEC "Error").
//!
//! Owns the codes, the chain of words in front of a message, and the JSON reply. Does not know which
//! operations can fail.
//!
//! Pure.

use std::{fmt, io};

use serde::Serialize;

use super::json::text;
use super::version::SpecVersion;
use crate::net::{IfNameError, MacError};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The number in an error reply. 1–99 belong to the specification, 100 and above to the plugin that sends
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// 1: the plugin does not speak the configuration's `cniVersion`.
    IncompatibleVersion,
    /// 2: a field of the configuration is not supported; `details` names it.
    UnsupportedField,
    /// 3: the runtime need not call DEL, nothing is there.
    UnknownContainer,
    /// 4: a required environment variable is missing or not acceptable.
    InvalidEnvironment,
    /// 5: stdin could not be read.
    Io,
    /// 6: the configuration or its version could not be decoded.
    Decoding,
    /// 7: the configuration decodes but is not acceptable.
    InvalidNetworkConfig,
    /// 8: the namespace is not one a container can have. Used by the library of the reference plugins.
    InvalidNetns,
    /// 11: a transient state; the runtime should try again later.
    TryAgainLater,
    /// 50: STATUS: the plugin cannot serve ADD requests.
    PluginNotAvailable,
    /// 51: STATUS: containers have limited connectivity.
    LimitedConnectivity,
    /// 999: everything else. What the library of the reference plugins sends for any plain error.
    Internal,
    /// A number that a foreign plugin returned.
    Other(u32),
}

impl Code {
    pub fn number(self) -> u32 {
        match self {
            Self::IncompatibleVersion => 1,
            Self::UnsupportedField => 2,
            Self::UnknownContainer => 3,
            Self::InvalidEnvironment => 4,
            Self::Io => 5,
            Self::Decoding => 6,
            Self::InvalidNetworkConfig => 7,
            Self::InvalidNetns => 8,
            Self::TryAgainLater => 11,
            Self::PluginNotAvailable => 50,
            Self::LimitedConnectivity => 51,
            Self::Internal => 999,
            Self::Other(number) => number,
        }
    }
}

impl From<u32> for Code {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::IncompatibleVersion,
            2 => Self::UnsupportedField,
            3 => Self::UnknownContainer,
            4 => Self::InvalidEnvironment,
            5 => Self::Io,
            6 => Self::Decoding,
            7 => Self::InvalidNetworkConfig,
            8 => Self::InvalidNetns,
            11 => Self::TryAgainLater,
            50 => Self::PluginNotAvailable,
            51 => Self::LimitedConnectivity,
            999 => Self::Internal,
            other => Self::Other(other),
        }
    }
}

/// A failed call. Displays as `<msg>` or `<msg>; <details>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub code: Code,
    pub msg: String,
    /// Empty when there is nothing to add.
    pub details: String,
    /// What the caller speaks, when the call got far enough to know it.
    version: Option<SpecVersion>,
}

impl Error {
    pub fn new(code: Code, msg: impl fmt::Display) -> Self {
        Self { code, msg: msg.to_string(), details: String::new(), version: None }
    }

    /// Code 999.
    pub fn internal(msg: impl fmt::Display) -> Self {
        Self::new(Code::Internal, msg)
    }

    #[must_use]
    pub fn with_details(mut self, details: impl fmt::Display) -> Self {
        self.details = details.to_string();
        self
    }

    #[must_use]
    pub fn with_code(mut self, code: Code) -> Self {
        self.code = code;
        self
    }

    /// Details for an error that has none.
    #[must_use]
    pub fn or_details(self, details: &str) -> Self {
        if self.details.is_empty() { self.with_details(details) } else { self }
    }

    /// Puts `<what>: ` in front of the message.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.msg = format!("{what}: {}", self.msg);
        self
    }

    /// Remembers the version the reply should carry when its writer does not know it.
    #[must_use]
    pub(super) fn spoken_in(mut self, version: Option<SpecVersion>) -> Self {
        self.version = version;
        self
    }

    /// The reply for stdout: indented by 4, no newline at the end. `version` is the caller's `cniVersion`;
    /// when empty, the one this error was raised under, and without that the newest.
    pub fn reply(&self, version: &str) -> String {
        #[derive(Serialize)]
        struct Reply<'a> {
            #[serde(rename = "cniVersion")]
            version: &'a str,
            code: u32,
            msg: &'a str,
            #[serde(skip_serializing_if = "str::is_empty")]
            details: &'a str,
        }
        let version = match version {
            "" => self.version.unwrap_or(SpecVersion::LATEST).as_str(),
            known => known,
        };
        text::indented(&Reply { version, code: self.code.number(), msg: &self.msg, details: &self.details })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if !self.details.is_empty() {
            write!(f, "; {}", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::internal(reason(&error))
    }
}

impl From<IfNameError> for Error {
    fn from(error: IfNameError) -> Self {
        Self::internal(error)
    }
}

impl From<MacError> for Error {
    fn from(error: MacError) -> Self {
        Self::internal(error)
    }
}

/// The text of an I/O error as Go prints it: lower case, without the number.
pub(super) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_lowercase).chain(letters).collect()
}

/// Says what was being done when something failed.
pub trait Context<T> {
    /// The message becomes `<what>: <message>`; code and details stay.
    fn context(self, what: impl fmt::Display) -> Result<T>;

    /// What to do about it, where whoever failed did not say.
    fn hint(self, next_move: &str) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for Result<T, E> {
    fn context(self, what: impl fmt::Display) -> Result<T> {
        self.map_err(|error| error.into().context(what))
    }

    fn hint(self, next_move: &str) -> Result<T> {
        self.map_err(|error| error.into().or_details(next_move))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_carries_version_code_message_and_details_in_this_order() {
        let error = Error::new(Code::InvalidEnvironment, "a <b> & \"c\"").with_details("d\n");
        assert_eq!(
            error.reply("0.4.0"),
            "{\n    \"cniVersion\": \"0.4.0\",\n    \"code\": 4,\n    \"msg\": \"a \\u003cb\\u003e \\u0026 \\\"c\\\"\",\n    \
             \"details\": \"d\\n\"\n}"
        );
    }

    #[test]
    fn empty_details_are_left_out_and_an_unknown_version_is_the_newest() {
        let error = Error::internal("x");
        assert_eq!(
            error.reply(""),
            "{\n    \"cniVersion\": \"1.1.0\",\n    \"code\": 999,\n    \"msg\": \"x\"\n}"
        );
        let error = error.spoken_in(Some(SpecVersion::V0_3_1));
        assert!(error.reply("").contains("\"cniVersion\": \"0.3.1\""));
        assert!(error.reply("1.0.0").contains("\"cniVersion\": \"1.0.0\""));
    }

    #[test]
    fn context_goes_in_front_of_the_message_and_keeps_code_and_details() {
        let error: Result<()> = Err(Error::new(Code::TryAgainLater, "busy").with_details("why"));
        let error = error.context("store").context("ADD").unwrap_err();
        assert_eq!(
            (error.code, &*error.msg, &*error.details),
            (Code::TryAgainLater, "ADD: store: busy", "why")
        );
        assert_eq!(error.to_string(), "ADD: store: busy; why");
        let hinted: Result<()> = Err(Error::internal("full"));
        let hinted = hinted.hint("make room").hint("pray").unwrap_err();
        assert_eq!(hinted.to_string(), "full; make room");
        let missing: io::Result<()> = Err(io::Error::from_raw_os_error(2));
        assert_eq!(missing.context("open x").unwrap_err().msg, "open x: no such file or directory");
    }

    #[test]
    fn every_code_survives_its_number() {
        for number in (0..1100).chain([u32::MAX]) {
            assert_eq!(Code::from(number).number(), number);
        }
    }
}
