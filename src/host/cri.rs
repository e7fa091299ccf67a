//! What a container runtime says of itself over CRI, the interface of kubelet: whether it is ready, which networks it has
//! loaded from where, and which sandboxes it has.
//!
//! For installation, doctor, reconcile and the name server; nothing on the way of a pod comes here. Asks and never changes
//! anything.

mod connection;
mod frame;
mod hpack;
mod labelled;
mod loaded;
mod message;
mod reply;
mod verbose;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use prost::Message as _;

use connection::Connection;
pub use labelled::Labelled;
pub use loaded::{Loaded, Wanted, network_loaded};
use message::{
    ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxStatusRequest, RuntimeCondition,
    StatusRequest, StatusResponse, VersionRequest, VersionResponse,
};
use reply::Answer;
pub use verbose::{Cni, Network};

/// gRPC's code for a service that is not there.
const UNIMPLEMENTED: u32 = 12;
/// And for a sandbox that went between two questions.
const NOT_FOUND: u32 = 5;

/// What containerd before 1.6, and k3s with it, speaks. Only the name differs from `runtime.v1`.
const PACKAGES: [&str; 2] = ["runtime.v1", "runtime.v1alpha2"];

/// containerd and CRI-O have two or three.
const MOST_CONDITIONS: usize = 100;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Name and version of the program, such as `containerd` and `1.6.20`; empty when it does not say.
    pub name: String,
    pub version: String,
    pub conditions: Vec<Condition>,
    /// What containerd tells of its networks. CRI-O and cri-dockerd tell nothing.
    pub cni: Option<Cni>,
}

/// One thing that the runtime checks of itself: `RuntimeReady`, `NetworkReady` and its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub kind: String,
    pub met: bool,
    pub reason: String,
    pub message: String,
}

impl Condition {
    /// Why it is not met.
    pub fn in_words(&self) -> String {
        match (self.reason.as_str(), self.message.as_str()) {
            ("", "") => "it gives no reason".to_owned(),
            (one, "") | ("", one) => one.to_owned(),
            (reason, message) => format!("{message} ({reason})"),
        }
    }
}

impl Status {
    pub fn runtime_ready(&self) -> Option<&Condition> {
        self.condition("RuntimeReady")
    }

    pub fn network_ready(&self) -> Option<&Condition> {
        self.condition("NetworkReady")
    }

    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// Why there is no status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    pub socket: PathBuf,
    pub reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    NoSocket,
    NotASocket,
    NotPermitted,
    NobodyListens,
    /// No complete answer in this time.
    Late(Duration),
    /// It speaks gRPC and has no runtime service, in its own words.
    NotCri(String),
    /// It has one and does not say: gRPC's code and the runtime's words.
    Refused {
        code: u32,
        message: String,
    },
    /// It does not speak gRPC, or not as one does.
    Garbage(String),
    /// The system does not let us, in its own words.
    Failed(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let socket = self.socket.display();
        match &self.reason {
            Reason::NoSocket => write!(f, "there is no socket {socket}: the runtime does not run"),
            Reason::NotASocket => write!(f, "{socket} is not a socket"),
            Reason::NotPermitted => write!(f, "not permitted to connect to {socket}; run it as root"),
            Reason::NobodyListens => write!(f, "nobody listens at {socket}: the runtime does not run"),
            Reason::Late(patience) => {
                write!(f, "no answer from {socket} within {} s", patience.as_secs_f32())
            }
            Reason::NotCri(message) => {
                write!(f, "{socket} does not speak CRI ({message}): its CRI plugin is switched off or broken")
            }
            Reason::Refused { code, message } => {
                write!(f, "the runtime at {socket} answers: {message} (gRPC status {code})")
            }
            Reason::Garbage(what) => write!(f, "{socket} does not speak gRPC: {what}"),
            Reason::Failed(what) => write!(f, "connect to {socket}: {what}"),
        }
    }
}

impl std::error::Error for Error {}

fn garbage(what: &str) -> Reason {
    Reason::Garbage(what.to_owned())
}

/// Asks the runtime at `socket`, where it is for us. Returns within `patience` whatever is there.
pub fn status(socket: &Path, patience: Duration) -> Result<Status, Error> {
    ask(socket, patience).map_err(|reason| Error { socket: socket.to_owned(), reason })
}

/// The IDs of all sandboxes that the runtime at `socket` knows, also of those that run no more. One that is being made is not
/// among them: containerd and CRI-O list a sandbox once it is complete.
pub fn sandboxes(socket: &Path, patience: Duration) -> Result<HashSet<String>, Error> {
    let listed = Connection::open(socket, patience).and_then(|mut connection| list(&mut connection));
    listed.map_err(|reason| Error { socket: socket.to_owned(), reason })
}

/// Of sandboxes, whether their network is the node's. That never changes, so nobody is asked about one twice.
pub type Modes = BTreeMap<String, bool>;

/// The pods in the node's own network that run and have this label, as the runtime at `socket` lists them.
pub fn on_the_node(
    socket: &Path,
    label: &str,
    patience: Duration,
    modes: &mut Modes,
) -> Result<Vec<Labelled>, Error> {
    node_pods(socket, label, patience, modes).map_err(|reason| Error { socket: socket.to_owned(), reason })
}

/// The same as [`status`], of whoever is at the other end of a stream: for fuzz targets, which are both ends.
#[cfg(fuzzing)]
pub fn status_over(stream: std::os::unix::net::UnixStream, patience: Duration) -> Result<Status, Reason> {
    questions(Connection::over(stream, std::time::Instant::now() + patience, patience)?)
}

fn ask(socket: &Path, patience: Duration) -> Result<Status, Reason> {
    questions(Connection::open(socket, patience)?)
}

fn questions(mut connection: Connection) -> Result<Status, Reason> {
    let request = StatusRequest { verbose: true }.encode_to_vec();
    let (service, message) = answered(&mut connection, "Status", &request)?;
    let status = of(StatusResponse::decode(&message[..]).map_err(|_| nonsense("status"))?)?;
    let (name, version) = version(&mut connection, &service).unwrap_or_default();
    Ok(Status { name, version, ..status })
}

fn list(connection: &mut Connection) -> Result<HashSet<String>, Reason> {
    let (_, message) = answered(connection, "ListPodSandbox", &ListPodSandboxRequest {}.encode_to_vec())?;
    let listed = ListPodSandboxResponse::decode(&message[..]).map_err(|_| nonsense("list of sandboxes"))?;
    let id = |item: &Vec<u8>| {
        let sandbox = PodSandbox::decode(&item[..]).ok().filter(|sandbox| !sandbox.id.is_empty());
        sandbox.map(|sandbox| sandbox.id).ok_or_else(|| nonsense("list of sandboxes"))
    };
    listed.items.iter().map(id).collect()
}

/// The network is in no list: it takes a question per sandbox, and each a connection, because what one may carry is counted.
fn node_pods(
    socket: &Path,
    label: &str,
    patience: Duration,
    modes: &mut Modes,
) -> Result<Vec<Labelled>, Reason> {
    let deadline = Instant::now() + patience;
    let list = ListPodSandboxRequest {}.encode_to_vec();
    let (_, message) = answered(&mut Connection::open(socket, patience)?, "ListPodSandbox", &list)?;
    let mut found = labelled::listed(&message, label)?;
    drop(message);
    modes.retain(|id, _| found.iter().any(|sandbox| sandbox.id == *id));
    for Labelled { id, .. } in &found {
        if modes.contains_key(id) {
            continue;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let request = PodSandboxStatusRequest { id: id.clone() }.encode_to_vec();
        match answered(&mut Connection::open(socket, left)?, "PodSandboxStatus", &request) {
            Ok((_, message)) => modes.insert(id.clone(), labelled::is_of_the_node(&message)?),
            Err(Reason::Refused { code: NOT_FOUND, .. }) => continue,
            Err(Reason::Late(_)) => return Err(Reason::Late(patience)),
            Err(reason) => return Err(reason),
        };
    }
    found.retain(|sandbox| modes.get(&sandbox.id) == Some(&true));
    Ok(found)
}

/// The answer to a question, and the name of the service that knew it.
fn answered(connection: &mut Connection, method: &str, request: &[u8]) -> Result<(String, Vec<u8>), Reason> {
    let mut nobody = String::new();
    for package in PACKAGES {
        let service = format!("{package}.RuntimeService");
        match connection.call(&format!("{service}/{method}"), request)? {
            Answer::Message(message) => return Ok((service, message)),
            Answer::Refusal { code: UNIMPLEMENTED, message } => nobody = message,
            Answer::Refusal { code, message } => return Err(Reason::Refused { code, message }),
        }
    }
    Err(Reason::NotCri(nobody))
}

/// Good to have: the status counts without it.
fn version(connection: &mut Connection, service: &str) -> Option<(String, String)> {
    let request = VersionRequest { version: "0.1.0".to_owned() }.encode_to_vec();
    match connection.call(&format!("{service}/Version"), &request) {
        Ok(Answer::Message(message)) => {
            let answer = VersionResponse::decode(&message[..]).ok()?;
            Some((answer.name, answer.version))
        }
        _ => None,
    }
}

fn of(response: StatusResponse) -> Result<Status, Reason> {
    let conditions = response.status.unwrap_or_default().conditions;
    let condition = |bytes: &Vec<u8>| {
        let condition = RuntimeCondition::decode(&bytes[..]).map_err(|_| nonsense("status"))?;
        let RuntimeCondition { kind, status: met, reason, message } = condition;
        Ok(Condition { kind, met, reason, message })
    };
    let conditions = conditions.iter().take(MOST_CONDITIONS).map(condition).collect::<Result<_, Reason>>()?;
    Ok(Status { conditions, cni: verbose::cni(&response.info), ..Status::default() })
}

fn nonsense(what: &str) -> Reason {
    Reason::Garbage(format!("its {what} makes no sense"))
}
