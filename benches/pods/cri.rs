//! The four calls that this bench makes as a kubelet does, and two to know when it may.
//!
//! The transport is `curl` over HTTP/2 and the messages are written field by field: a gRPC stack would add some sixty crates.
//! Field numbers are those of `runtime.v1` in k8s.io/cri-api.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::Result;

#[derive(Debug)]
pub(crate) struct Cri {
    pub(crate) socket: PathBuf,
}

#[derive(Debug)]
pub(crate) struct Pod<'a> {
    pub(crate) name: String,
    /// Of the node; leads to port 80 of the pod.
    pub(crate) host_port: Option<u16>,
    pub(crate) cgroup: &'a str,
}

impl Pod<'_> {
    fn encode(&self) -> Message {
        let metadata = Message::default().text(1, &self.name).text(2, &self.name).text(3, "bench");
        let mut config = Message::default().bytes(1, &metadata.0).text(2, &self.name);
        if let Some(port) = self.host_port {
            config = config.bytes(5, &Message::default().number(2, 80).number(3, port.into()).0);
        }
        config.bytes(8, &Message::default().text(1, self.cgroup).0)
    }
}

impl Cri {
    /// The runtime has a network, and the image.
    pub(crate) fn ready(&self, image: &str) -> bool {
        let met = |condition: &Vec<u8>| number(condition, 2) == Some(1);
        let conditions = self
            .call("Runtime", "Status", &Message::default())
            .map(|reply| first(&reply, 1).map(|status| all(&status, 1)).unwrap_or_default());
        let image = Message::default().bytes(1, &Message::default().text(1, image).0);
        conditions.is_ok_and(|all| all.len() >= 2 && all.iter().all(met))
            && self.call("Image", "ImageStatus", &image).is_ok_and(|reply| first(&reply, 1).is_some())
    }

    pub(crate) fn run(&self, pod: &Pod<'_>) -> Result<String> {
        let reply = self.call("Runtime", "RunPodSandbox", &Message::default().bytes(1, &pod.encode().0))?;
        Ok(String::from_utf8(first(&reply, 1).ok_or("the runtime gave the pod no id")?)?)
    }

    pub(crate) fn address(&self, id: &str) -> Result<String> {
        let reply = self.call("Runtime", "PodSandboxStatus", &Message::default().text(1, id))?;
        let network = first(&reply, 1).and_then(|status| first(&status, 5));
        let address = network.and_then(|network| first(&network, 1)).ok_or("the pod has no address")?;
        Ok(String::from_utf8(address)?)
    }

    /// This is where the runtime says DEL.
    pub(crate) fn stop(&self, id: &str) -> Result<()> {
        self.call("Runtime", "StopPodSandbox", &Message::default().text(1, id)).map(drop)
    }

    pub(crate) fn remove(&self, id: &str) -> Result<()> {
        self.call("Runtime", "RemovePodSandbox", &Message::default().text(1, id)).map(drop)
    }

    fn call(&self, service: &str, method: &str, request: &Message) -> Result<Vec<u8>> {
        let dir = tempfile::tempdir()?;
        let [body, head, reply] = ["body", "head", "reply"].map(|name| dir.path().join(name));
        // gRPC's prefix: not compressed, and the length.
        let length = u32::try_from(request.0.len())?.to_be_bytes();
        fs::write(&body, [&[0][..], &length, &request.0].concat())?;
        let curl = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "120", "--http2-prior-knowledge"])
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "--unix-socket"])
            .arg(&self.socket)
            .arg("--data-binary")
            .arg(format!("@{}", body.display()))
            .arg("--dump-header")
            .arg(&head)
            .arg("--output")
            .arg(&reply)
            .arg(format!("http://localhost/runtime.v1.{service}Service/{method}"))
            .output()
            .map_err(|error| format!("curl: {error}"))?;
        // Trailers come last and carry the outcome; a call without them did not reach its end.
        let head = fs::read_to_string(&head).unwrap_or_default();
        let trailer = |name: &str| head.lines().rev().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if trailer("grpc-status:") == Some("0") {
            return Ok(fs::read(&reply)?.get(5..).unwrap_or_default().to_vec());
        }
        let message = trailer("grpc-message:").unwrap_or_default();
        Err(format!("{method}: {message}{}", String::from_utf8_lossy(&curl.stderr)).into())
    }
}

/// A protobuf message under construction.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.0.push(value.to_le_bytes()[0]);
    }

    fn bytes(mut self, field: u64, value: &[u8]) -> Self {
        self.varint(field << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn text(self, field: u64, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    fn number(mut self, field: u64, value: u64) -> Self {
        self.varint(field << 3);
        self.varint(value);
        self
    }
}

enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

/// Fields of a message that was received. Other wire types do not occur in what is read here.
fn fields(mut from: &[u8]) -> Vec<(u64, Value)> {
    let mut fields = Vec::new();
    while let Some((key, value)) = varint(&mut from).and_then(|key| Some((key, varint(&mut from)?))) {
        match key & 7 {
            0 => fields.push((key >> 3, Value::Number(value))),
            2 => {
                let Some((bytes, rest)) =
                    usize::try_from(value).ok().and_then(|at| from.split_at_checked(at))
                else {
                    break;
                };
                fields.push((key >> 3, Value::Bytes(bytes.to_vec())));
                from = rest;
            }
            _ => break,
        }
    }
    fields
}

fn all(message: &[u8], field: u64) -> Vec<Vec<u8>> {
    let bytes = |(at, value)| match value {
        Value::Bytes(bytes) if at == field => Some(bytes),
        _ => None,
    };
    fields(message).into_iter().filter_map(bytes).collect()
}

fn first(message: &[u8], field: u64) -> Option<Vec<u8>> {
    all(message, field).into_iter().next()
}

fn number(message: &[u8], field: u64) -> Option<u64> {
    fields(message).into_iter().find_map(|(at, value)| match value {
        Value::Number(number) if at == field => Some(number),
        _ => None,
    })
}

fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
