//! What the runtime asks for: environment and stdin in, a checked request out (CNI SPEC "Section 2: Execution
//! Protocol").
//!
//! The order of the checks is the one of the reference plugins, because it decides which error a caller sees.
//! Does not look at the namespace and decodes no more of the configuration than `name` and `cniVersion`.
//!
//! Pure.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::Read;

use super::error::{Code, Error, Result, reason};
use super::json::{self, Json, Object};
use super::version::{SpecVersion, gate};
use crate::net::{AttachmentId, IfName, IfNameError};

/// `CNI_CONTAINERID`: starts with a letter or digit, then letters, digits, `_`, `.`, `-` (CNI SPEC
/// "Parameters").
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId(String);

/// The `name` of a network: the same alphabet as [`ContainerId`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkName(String);

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

impl ContainerId {
    /// Refuses with code 4.
    pub fn parse(text: &str) -> Result<Self> {
        if is_identifier(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(Code::InvalidEnvironment, "invalid characters in containerID").with_details(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl NetworkName {
    /// Refuses with code 7.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Err(Error::new(Code::InvalidNetworkConfig, "missing network name"));
        }
        if is_identifier(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(Code::InvalidNetworkConfig, "invalid characters found in network name")
            .with_details(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is to be done (`CNI_COMMAND`, without VERSION which needs no network). Displays as on the wire:
/// `ADD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Add,
    Del,
    Check,
    Status,
    Gc,
}

impl Verb {
    pub const ALL: [Self; 5] = [Self::Add, Self::Del, Self::Check, Self::Status, Self::Gc];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
            Self::Gc => "GC",
        }
    }

    fn from_text(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == text)
    }

    /// About one attachment, and not about the network.
    fn has_target(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The attachment that ADD, DEL and CHECK are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub container: ContainerId,
    pub if_name: IfName,
    /// `CNI_NETNS` verbatim. `None` only on DEL: the runtime knows that the namespace is gone.
    pub netns: Option<String>,
}

/// A request that has passed every check of the protocol.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: Verb,
    pub version: SpecVersion,
    pub network: NetworkName,
    /// `Some` for ADD, DEL and CHECK.
    pub target: Option<Target>,
    /// `CNI_ARGS`, not parsed.
    pub args: String,
    /// `CNI_PATH`.
    pub path: String,
    /// `CNI_NETNS_OVERRIDE`: the target's namespace may be the plugin's own.
    pub netns_override: bool,
    /// All of it, for a delegated plugin.
    pub environment: Vec<(OsString, OsString)>,
    /// The exact bytes, for a delegated plugin.
    pub stdin: Vec<u8>,
    /// The document on stdin.
    pub config: Object,
}

impl Request {
    /// The target, or code 4 when the verb has none.
    pub fn attachment(&self) -> Result<&Target> {
        let missing =
            || Error::new(Code::InvalidEnvironment, format_args!("{} names no attachment", self.verb));
        self.target.as_ref().ok_or_else(missing)
    }

    /// What names the attachment that the request is about.
    pub fn attachment_id(&self) -> Result<AttachmentId> {
        let target = self.attachment()?;
        Ok(AttachmentId {
            network: self.network.as_str().to_owned(),
            container: target.container.as_str().to_owned(),
            if_name: target.if_name.clone(),
        })
    }
}

/// Of standard input: GC names every attachment of a node in 100 bytes each.
const LONGEST: u64 = 16 << 20;

#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per process")]
pub enum Call {
    /// No `CNI_COMMAND`: a person is looking. Print [`about`] to stderr and end well.
    About,
    /// Print [`version_reply`] to stdout.
    Version,
    Run(Request),
}

/// Reads one call. Touches stdin only when the environment is acceptable and names a verb other than VERSION.
pub fn read(environment: Vec<(OsString, OsString)>, mut stdin: impl Read) -> Result<Call> {
    let command = variable(&environment, "CNI_COMMAND").to_string_lossy().into_owned();
    let verb = match &*command {
        "" => return Ok(Call::About),
        "VERSION" => return Ok(Call::Version),
        other => Verb::from_text(other),
    };
    let target = match verb {
        Some(verb) => target(&environment, verb)?,
        None => None,
    };
    let mut bytes = Vec::with_capacity(4096);
    stdin.by_ref().take(LONGEST + 1).read_to_end(&mut bytes).map_err(|error| {
        Error::new(Code::Io, format_args!("error reading from stdin: {}", reason(&error)))
    })?;
    if bytes.len() as u64 > LONGEST {
        return Err(Error::new(
            Code::Io,
            format_args!("error reading from stdin: more than {LONGEST} bytes"),
        ));
    }
    let config = document(&bytes)?;
    let network = network(&config)?;
    let Some(verb) = verb else {
        return Err(Error::new(Code::InvalidEnvironment, format_args!("unknown CNI_COMMAND: {command}")));
    };
    let version = version(&config, verb)?;
    let overridden = variable(&environment, "CNI_NETNS_OVERRIDE");
    Ok(Call::Run(Request {
        verb,
        version,
        network,
        target,
        args: variable(&environment, "CNI_ARGS").to_string_lossy().into_owned(),
        path: variable(&environment, "CNI_PATH").to_string_lossy().into_owned(),
        netns_override: overridden == "1" || overridden.eq_ignore_ascii_case("true"),
        environment,
        stdin: bytes,
        config,
    }))
}

/// Empty when unset. Of duplicates the first counts, as for `getenv(3)`.
fn variable<'a>(environment: &'a [(OsString, OsString)], name: &str) -> &'a OsStr {
    environment.iter().find(|(key, _)| key == name).map_or(OsStr::new(""), |(_, value)| value)
}

/// Checks the variables a verb requires, in the order of the specification's table. What is malformed is
/// reported at once, what is missing all together at the end.
fn target(environment: &[(OsString, OsString)], verb: Verb) -> Result<Option<Target>> {
    let mut missing = Vec::new();
    let mut required = |name: &'static str| {
        let value = variable(environment, name);
        if value.is_empty() {
            missing.push(name);
        }
        (!value.is_empty()).then_some(value)
    };
    let mut parts = (None, None, None);
    if verb.has_target() {
        parts.0 =
            required("CNI_CONTAINERID").map(|id| ContainerId::parse(&id.to_string_lossy())).transpose()?;
        let netns = match verb {
            Verb::Del => Some(variable(environment, "CNI_NETNS")).filter(|netns| !netns.is_empty()),
            _ => required("CNI_NETNS"),
        };
        parts.1 = netns.map(|netns| utf8(netns, "CNI_NETNS").map(str::to_owned)).transpose()?;
        parts.2 = required("CNI_IFNAME").map(interface_name).transpose()?;
    }
    required("CNI_PATH");
    if !missing.is_empty() {
        let msg = format!("required env variables [{}] missing", missing.join(","));
        return Err(Error::new(Code::InvalidEnvironment, msg));
    }
    let (Some(container), netns, Some(if_name)) = parts else { return Ok(None) };
    Ok(Some(Target { container, if_name, netns }))
}

fn utf8<'a>(value: &'a OsStr, name: &str) -> Result<&'a str> {
    value.to_str().ok_or_else(|| {
        let lossy: Cow<'_, str> = value.to_string_lossy();
        Error::new(Code::InvalidEnvironment, format_args!("{name} is not UTF-8")).with_details(lossy)
    })
}

fn interface_name(value: &OsStr) -> Result<IfName> {
    utf8(value, "CNI_IFNAME")?.parse().map_err(|error| {
        let reply = Error::new(Code::InvalidEnvironment, error);
        match error {
            IfNameError::TooLong => reply.with_details("interface name should be less than 16 characters"),
            _ => reply,
        }
    })
}

/// The configuration. `null` is an empty one, as for every structure.
fn document(bytes: &[u8]) -> Result<Object> {
    let failed = |error: Error| error.with_code(Code::Decoding).context("error unmarshall network config");
    match json::parse(bytes).map_err(failed)? {
        Json::Object(object) => Ok(object),
        Json::Null => Ok(Object::default()),
        other => Err(failed(json::mismatch("stdin", "an object", &other))),
    }
}

fn network(config: &Object) -> Result<NetworkName> {
    let name = config
        .text("name")
        .map_err(|error| error.with_code(Code::Decoding).context("error unmarshall network config"))?;
    NetworkName::parse(name.unwrap_or_default())
}

fn version(config: &Object, verb: Verb) -> Result<SpecVersion> {
    let configured = config
        .text("cniVersion")
        .map_err(|error| error.with_code(Code::Decoding).context("decoding version from network config"))?;
    // SPEC: a configuration without a version is a 0.1.0 one.
    let configured = configured.filter(|text| !text.is_empty()).unwrap_or("0.1.0");
    gate(verb, configured).map_err(|error| error.spoken_in(SpecVersion::from_text(configured)))
}

/// The two lines for stderr that a plugin without `CNI_COMMAND` says about itself; packages show the version
/// from it.
pub fn about(plugin: &str) -> String {
    let versions = SpecVersion::ALL.map(SpecVersion::as_str).join(", ");
    format!(
        "CNI {plugin} plugin v{}\nCNI protocol versions supported: {versions}\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The reply to VERSION: one line, newline included.
pub fn version_reply() -> String {
    let versions = SpecVersion::ALL.map(SpecVersion::as_str).join("\",\"");
    format!("{{\"cniVersion\":\"{}\",\"supportedVersions\":[\"{versions}\"]}}\n", SpecVersion::LATEST)
}

#[cfg(test)]
mod tests;
