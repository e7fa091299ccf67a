//! The few calls of the Container Runtime Interface that a kubelet makes for a pod, as a client of a unix socket.
//!
//! The transport is `curl` over HTTP/2 and the messages are written field by field: a gRPC stack would add some sixty
//! crates, and its generated messages need `protoc` on every machine that only wants to build the tests. Field numbers
//! are those of `runtime.v1` in k8s.io/cri-api.

pub(crate) mod fake;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::lab::{Foreign, Node, Place};
use crate::sandbox;

/// A client of one runtime.
#[derive(Debug, Clone)]
pub(crate) struct Cri {
    socket: PathBuf,
}

/// What the runtime refused, as gRPC says it: a status number and a text.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A pod to be.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) hostname: String,
    /// Whom its containers ask for names, through the search list that a kubelet makes; empty: as the node does.
    pub(crate) name_server: String,
    pub(crate) host_ports: Vec<HostPort>,
    pub(crate) annotations: Vec<(String, String)>,
    pub(crate) labels: Vec<(String, String)>,
    /// In the node's own network.
    pub(crate) host_network: bool,
    /// Where the files with what its containers say are; empty: nowhere.
    pub(crate) logs: String,
}

impl Pod {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            hostname: name.to_owned(),
            name_server: String::new(),
            host_ports: Vec::new(),
            annotations: Vec::new(),
            labels: Vec::new(),
            host_network: false,
            logs: String::new(),
        }
    }

    fn encode(&self) -> Message {
        let metadata =
            Message::new().text(1, &self.name).text(2, &format!("uid-{}", self.name)).text(3, "default");
        // The node's network comes with the node's host name.
        let hostname = if self.host_network { "" } else { &self.hostname };
        let mut config = Message::new().message(1, &metadata).text(2, hostname).text(3, &self.logs);
        if !self.name_server.is_empty() {
            let searched = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"];
            let names = Message::new().text(1, &self.name_server);
            let names = searched.iter().fold(names, |names, domain| names.text(2, domain));
            config = config.message(4, &names.text(3, "ndots:5"));
        }
        for port in &self.host_ports {
            config = config.message(5, &port.encode());
        }
        for (field, pairs) in [(6, &self.labels), (7, &self.annotations)] {
            for (key, value) in pairs {
                config = config.message(field, &Message::new().text(1, key).text(2, value));
            }
        }
        let mut linux = Message::new().text(1, &format!("/{}", sandbox::cgroup()));
        if self.host_network {
            linux = linux.message(2, &self.security_context());
        }
        config.message(8, &linux)
    }

    fn security_context(&self) -> Message {
        Message::new().message(1, &self.namespaces())
    }

    /// NamespaceMode: POD 0, CONTAINER 1, NODE 2.
    fn namespaces(&self) -> Message {
        Message::new().number(1, if self.host_network { 2 } else { 0 }).number(2, 1)
    }
}

/// A container to be, with as much of kubelet's words as a manifest of ours uses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) add_capabilities: Vec<String>,
    pub(crate) drop_capabilities: Vec<String>,
    pub(crate) read_only: bool,
    pub(crate) user: Option<u64>,
    /// Bytes.
    pub(crate) memory: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Mount {
    pub(crate) host: String,
    pub(crate) container: String,
    pub(crate) read_only: bool,
    /// Mounts of the host that come later are seen.
    pub(crate) follows: bool,
}

impl Container {
    fn encode(&self, pod: &Pod) -> Message {
        let mut config = Message::new()
            .message(1, &Message::new().text(1, &self.name))
            .message(2, &Message::new().text(1, &self.image));
        for (field, words) in [(3, &self.command), (4, &self.arguments)] {
            config = words.iter().fold(config, |config, word| config.text(field, word));
        }
        for (name, value) in &self.environment {
            config = config.message(6, &Message::new().text(1, name).text(2, value));
        }
        for mount in &self.mounts {
            let message = Message::new().text(1, &mount.container).text(2, &mount.host);
            let message = message.number(3, u64::from(mount.read_only)).number(5, u64::from(mount.follows));
            config = config.message(7, &message);
        }
        if !pod.logs.is_empty() {
            config = config.text(11, &format!("{}.log", self.name));
        }
        config.message(15, &self.linux(pod))
    }

    fn linux(&self, pod: &Pod) -> Message {
        let mut capabilities = Message::new();
        for (field, words) in [(1, &self.add_capabilities), (2, &self.drop_capabilities)] {
            capabilities = words.iter().fold(capabilities, |all, word| all.text(field, word));
        }
        let mut security = Message::new().message(1, &capabilities).message(3, &pod.namespaces());
        if let Some(user) = self.user {
            // Int64Value: an empty message is 0, which is not the same as none.
            security = security.message(5, &Message::new().number(1, user));
        }
        // No new privileges, and the runtime's own filter of system calls (SecurityProfile, RuntimeDefault is 0).
        let security =
            security.number(7, u64::from(self.read_only)).number(11, 1).message(15, &Message::new());
        let resources = Message::new().number(4, self.memory);
        Message::new().message(1, &resources).message(2, &security)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct HostPort {
    pub(crate) udp: bool,
    pub(crate) host: u16,
    pub(crate) container: u16,
    /// Empty means every address of the node.
    pub(crate) address: String,
}

impl HostPort {
    fn encode(&self) -> Message {
        Message::new()
            .number(1, u64::from(self.udp))
            .number(2, self.container.into())
            .number(3, self.host.into())
            .text(4, &self.address)
    }
}

/// A pod sandbox that runs.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    /// All addresses, the primary one first.
    pub(crate) addresses: Vec<String>,
    /// Its network namespace, to run commands of the machine in.
    pub(crate) network: Foreign,
}

/// What a runtime knows of a pod.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) ready: bool,
}

impl Cri {
    pub(crate) fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Whether the runtime says that it is ready and has a network.
    pub(crate) fn ready(&self) -> bool {
        self.conditions().is_some_and(|conditions| conditions.iter().all(|(_, met)| *met))
    }

    /// RuntimeReady and NetworkReady; `None` when it does not answer.
    pub(crate) fn conditions(&self) -> Option<Vec<(String, bool)>> {
        let reply = self.call("Status", &Message::new()).ok()?;
        let conditions: Vec<(String, bool)> = reply
            .messages(1)
            .iter()
            .flat_map(|status| status.messages(1))
            .map(|condition| (condition.text(1), condition.number(2) == 1))
            .collect();
        (conditions.len() >= 2).then_some(conditions)
    }

    /// RunPodSandbox, and what PodSandboxStatus then says about it.
    pub(crate) fn run_pod(&self, pod: &Pod) -> Result<Sandbox, Refused> {
        let reply = self.call("RunPodSandbox", &Message::new().message(1, &pod.encode()))?;
        self.status(&reply.text(1))
    }

    pub(crate) fn status(&self, id: &str) -> Result<Sandbox, Refused> {
        let reply = self.call("PodSandboxStatus", &Message::new().text(1, id).number(2, 1))?;
        let mut addresses = Vec::new();
        for network in reply.messages(1).iter().flat_map(|status| status.messages(5)) {
            addresses.push(network.text(1));
            addresses.extend(network.messages(2).iter().map(|more| more.text(1)));
        }
        // The verbose part is a map with one entry, the OCI specification among others as JSON.
        let info: String = reply.messages(2).iter().map(|entry| entry.text(2)).collect();
        let info: Value = serde_json::from_str(&info).expect("the verbose status is JSON");
        let network = info["runtimeSpec"]["linux"]["namespaces"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|n| n["type"] == "network")
            .and_then(|n| n["path"].as_str())
            .unwrap_or_default();
        Ok(Sandbox { id: id.to_owned(), addresses, network: Foreign(network.to_owned()) })
    }

    /// ListPodSandbox: all that it has, in whatever state.
    pub(crate) fn all_sandboxes(&self) -> Vec<Known> {
        let reply = self.call("ListPodSandbox", &Message::new()).unwrap_or_else(|e| panic!("{e}"));
        let known = |pod: &Fields| Known {
            id: pod.text(1),
            name: pod.messages(2).first().expect("metadata").text(1),
            // SANDBOX_READY is 0.
            ready: pod.number(3) == 0,
        };
        reply.messages(1).iter().map(known).collect()
    }

    /// StopPodSandbox, which is where the runtime says DEL.
    pub(crate) fn stop_pod(&self, id: &str) -> Result<(), Refused> {
        self.call("StopPodSandbox", &Message::new().text(1, id)).map(drop)
    }

    pub(crate) fn remove_pod(&self, id: &str) -> Result<(), Refused> {
        self.call("RemovePodSandbox", &Message::new().text(1, id)).map(drop)
    }

    /// A running container of `image` in the pod; returns its id.
    pub(crate) fn start_container(
        &self,
        pod: &Pod,
        sandbox: &Sandbox,
        image: &str,
    ) -> Result<String, Refused> {
        let config = Message::new()
            .message(1, &Message::new().text(1, "main"))
            .message(2, &Message::new().text(1, image));
        self.start(pod, sandbox, &config)
    }

    /// A running container as it is described; returns its id.
    pub(crate) fn run_container(
        &self,
        pod: &Pod,
        sandbox: &Sandbox,
        container: &Container,
    ) -> Result<String, Refused> {
        self.start(pod, sandbox, &container.encode(pod))
    }

    fn start(&self, pod: &Pod, sandbox: &Sandbox, config: &Message) -> Result<String, Refused> {
        let request = Message::new().text(1, &sandbox.id).message(2, config).message(3, &pod.encode());
        let id = self.call("CreateContainer", &request)?.text(1);
        self.call("StartContainer", &Message::new().text(1, &id))?;
        Ok(id)
    }

    /// The exit code of a container, `None` as long as it runs.
    pub(crate) fn exit_code(&self, container: &str) -> Result<Option<u64>, Refused> {
        const EXITED: u64 = 2;
        let reply = self.call("ContainerStatus", &Message::new().text(1, container))?;
        let status = reply.messages(1);
        let status = status.first().expect("a status");
        Ok((status.number(3) == EXITED).then(|| status.number(7)))
    }

    /// SIGTERM, and SIGKILL after so many seconds.
    pub(crate) fn stop_container(&self, container: &str, seconds: u64) -> Result<(), Refused> {
        self.call("StopContainer", &Message::new().text(1, container).number(2, seconds)).map(drop)
    }

    /// Runs a command inside a container; stdout when it ends with 0, else everything it said.
    pub(crate) fn exec(&self, container: &str, line: &str) -> Result<String, Refused> {
        let mut request = Message::new().text(1, container);
        for word in line.split_whitespace() {
            request = request.text(2, word);
        }
        let reply = self.call("ExecSync", &request.number(3, 10))?;
        match reply.number(3) {
            0 => Ok(reply.text(1)),
            code => Err(Refused(format!("`{line}` ended with {code}: {}{}", reply.text(1), reply.text(2)))),
        }
    }

    fn call(&self, method: &str, request: &Message) -> Result<Fields, Refused> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (body, head, reply) =
            (dir.path().join("body"), dir.path().join("head"), dir.path().join("reply"));
        fs::write(&body, frame(request)).expect("write the request");
        let shown = |path: &Path| path.display().to_string();
        let curl = Node
            .command("curl --silent --show-error --max-time 120 --http2-prior-knowledge")
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers"])
            .args(["--unix-socket", &shown(&self.socket)])
            .args(["--data-binary", &format!("@{}", shown(&body))])
            .args(["--dump-header", &shown(&head), "--output", &shown(&reply)])
            .arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
            .output()
            .expect("curl");
        // Trailers come last and carry the outcome; a call without them did not reach its end.
        let head = fs::read_to_string(&head).unwrap_or_default();
        let trailer = |name: &str| head.lines().rev().find_map(|l| l.strip_prefix(name)).map(str::trim);
        match trailer("grpc-status:") {
            Some("0") => Ok(Fields::decode(unframe(&fs::read(&reply).expect("read the reply")))),
            Some(status) => {
                let message = trailer("grpc-message:").unwrap_or_default();
                Err(Refused(format!("{method}: status {status}: {}", percent_decoded(message))))
            }
            None => Err(Refused(format!("{method}: {}{head}", String::from_utf8_lossy(&curl.stderr)))),
        }
    }
}

/// gRPC's length prefix: one byte for "not compressed", four for the length.
fn frame(message: &Message) -> Vec<u8> {
    let length = u32::try_from(message.0.len()).expect("a small message");
    [&[0][..], &length.to_be_bytes(), &message.0].concat()
}

fn unframe(reply: &[u8]) -> &[u8] {
    reply.get(5..).unwrap_or_default()
}

/// `grpc-message` writes bytes outside printable ASCII, and the percent sign, as `%XX`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match hex.and_then(|h| u8::from_str_radix(h, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A protobuf message under construction. Fields with their default value are left out, as protobuf wants it.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn new() -> Self {
        Self::default()
    }

    fn varint(&mut self, mut value: u64) {
        loop {
            let low = u8::try_from(value & 0x7f).expect("seven bits");
            value >>= 7;
            if value == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn message(self, field: u64, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    fn text(self, field: u64, value: &str) -> Self {
        if value.is_empty() { self } else { self.bytes(field, value.as_bytes()) }
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        if value != 0 {
            self.varint(field << 3);
            self.varint(value);
        }
        self
    }
}

/// A protobuf message that was received: numbers and byte strings by field. Other wire types do not occur in CRI.
#[derive(Debug, Default)]
struct Fields {
    numbers: Vec<(u64, u64)>,
    bytes: Vec<(u64, Vec<u8>)>,
}

impl Fields {
    fn decode(mut from: &[u8]) -> Self {
        let mut fields = Self::default();
        while !from.is_empty() {
            let key = varint(&mut from);
            let value = varint(&mut from);
            let (field, wire) = (key / 8, key % 8);
            if wire == 0 {
                fields.numbers.push((field, value));
            } else {
                assert_eq!(wire, 2, "wire type of field {field}");
                let (bytes, rest) = from.split_at(usize::try_from(value).expect("a length"));
                fields.bytes.push((field, bytes.to_vec()));
                from = rest;
            }
        }
        fields
    }

    fn number(&self, field: u64) -> u64 {
        self.numbers.iter().find(|(f, _)| *f == field).map_or(0, |(_, n)| *n)
    }

    fn all(&self, field: u64) -> impl Iterator<Item = &[u8]> {
        self.bytes.iter().filter(move |(f, _)| *f == field).map(|(_, b)| b.as_slice())
    }

    fn text(&self, field: u64) -> String {
        self.all(field).next().map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default()
    }

    fn messages(&self, field: u64) -> Vec<Self> {
        self.all(field).map(Self::decode).collect()
    }
}

fn varint(from: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = from.split_first().expect("a complete message");
        *from = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            break;
        }
    }
    value
}

#[test]
fn messages_survive_the_wire() {
    let inner = Message::new().text(1, "pod").number(2, 300);
    let fields = Fields::decode(&Message::new().message(5, &inner).number(3, u64::MAX).0);
    let inner = &fields.messages(5)[0];
    assert_eq!((inner.text(1).as_str(), inner.number(2), fields.number(3)), ("pod", 300, u64::MAX));
    assert_eq!(percent_decoded("a%20b%"), "a b%");
}
