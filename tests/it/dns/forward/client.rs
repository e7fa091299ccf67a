//! The role under test, and somebody who asks it.

use std::collections::BTreeMap;
use std::fs::{create_dir_all, write};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::lab::{Node, Place as _, binary, eventually};

/// Where pods and the node ask.
pub(super) const SERVER: &str = "169.254.0.2:53";
/// What the tests call the file of the node's uplinks.
pub(super) const RESOLV: &str = "/run/systemd/resolve/resolv.conf";

pub(super) const A: u16 = 1;
pub(super) const SOA: u16 = 6;
pub(super) const TXT: u16 = 16;
pub(super) const SERVFAIL: u8 = 2;

/// `smarter-cni dns`; ends with the value.
pub(super) struct Role(Child);

impl Role {
    /// Starts it on a node that has the address, and waits until it answers.
    pub(super) fn start(environment: &[(&str, &str)]) -> Self {
        if !Node.addresses("lo").contains(&"169.254.0.2/32".to_owned()) {
            Node.run("ip addr add 169.254.0.2/32 dev lo");
        }
        let role = Command::new(binary())
            .arg("dns")
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the role starts");
        let role = Self(role);
        let asker = Asker::new();
        eventually("the role answers", Duration::from_secs(20), || {
            asker.socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
            asker.send(1, "cluster.local", SOA).is_ok() && asker.receive().is_some()
        });
        role
    }

    /// KiB, by the name of a line in /proc/PID/status.
    pub(super) fn memory(&self, line: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).expect("it runs");
        let text = status.lines().find_map(|text| text.strip_prefix(line)).expect("such a line");
        text.trim_start_matches(':').trim().trim_end_matches(" kB").parse().expect("KiB")
    }

    pub(super) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.0.id())).expect("it runs").count()
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Writes what a network manager writes.
pub(crate) fn uplinks(servers: &[&str]) {
    write_file(RESOLV, &nameservers(servers));
}

pub(super) fn nameservers(servers: &[&str]) -> String {
    let lines: Vec<_> = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    lines.concat()
}

pub(super) fn write_file(path: &str, text: &str) {
    create_dir_all(Path::new(path).parent().expect("a directory")).expect("it can be made");
    write(path, text).expect("it can be written");
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) id: u16,
    pub(super) rcode: u8,
    pub(super) truncated: bool,
    pub(super) answers: u16,
    pub(super) wire: Vec<u8>,
}

impl Reply {
    fn read(wire: &[u8]) -> Self {
        assert!(wire.len() >= 12, "a header: {wire:?}");
        let word = |at: usize| u16::from_be_bytes([wire[at], wire[at + 1]]);
        Self {
            id: word(0),
            rcode: wire[3] & 0x0f,
            truncated: wire[2] & 0x02 != 0,
            answers: word(6),
            wire: wire.to_vec(),
        }
    }

    pub(super) fn has(&self, bytes: &[u8]) -> bool {
        self.wire.windows(bytes.len()).any(|part| part == bytes)
    }
}

pub(super) struct Asker {
    pub(super) socket: UdpSocket,
}

impl Asker {
    pub(super) fn new() -> Self {
        Self::from("0.0.0.0")
    }

    /// From one of the node's addresses.
    pub(super) fn from(address: &str) -> Self {
        let socket = UdpSocket::bind((address, 0)).expect("a socket");
        socket.connect(SERVER).expect("the address is there");
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        Self { socket }
    }

    pub(super) fn send(&self, id: u16, name: &str, kind: u16) -> std::io::Result<usize> {
        self.socket.send(&query(id, name, kind))
    }

    pub(super) fn receive(&self) -> Option<Reply> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(Reply::read(&buffer[..length]))
    }

    /// One question, one answer.
    pub(super) fn ask(&self, name: &str, kind: u16) -> Reply {
        self.send(77, name, kind).expect("it can be sent");
        self.receive().unwrap_or_else(|| panic!("no answer for {name}"))
    }

    /// The questions, so many in a second; meanwhile, after each, `each` with its number. What was answered, by number.
    pub(super) fn paced(
        &self,
        names: &[String],
        a_second: u32,
        mut each: impl FnMut(usize),
    ) -> BTreeMap<u16, Reply> {
        let receiver = self.socket.try_clone().expect("the same socket");
        let count = names.len();
        thread::scope(|scope| {
            let hearing = scope.spawn(move || {
                let mut heard = BTreeMap::new();
                let mut buffer = [0; 4096];
                while heard.len() < count {
                    let Ok(length) = receiver.recv(&mut buffer) else { break };
                    let reply = Reply::read(&buffer[..length]);
                    heard.insert(reply.id, reply);
                }
                heard
            });
            let begun = Instant::now();
            for (at, name) in (0_u32..).zip(names) {
                let due = begun + Duration::from_secs(1) * at / a_second;
                sleep(due.saturating_duration_since(Instant::now()));
                self.send(at.try_into().expect("few"), name, A).expect("it can be sent");
                each(at as usize);
            }
            hearing.join().expect("it hears")
        })
    }
}

pub(super) fn ask_tcp(name: &str, kind: u16) -> Reply {
    let server: SocketAddr = SERVER.parse().expect("an address");
    let mut stream = TcpStream::connect(server).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let query = query(78, name, kind);
    let length = u16::try_from(query.len()).expect("short").to_be_bytes();
    stream.write_all(&[&length[..], &query].concat()).expect("it reads");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).expect("the whole answer");
    Reply::read(&answer)
}

/// With RD, without EDNS.
pub(super) fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut wire = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        wire.push(u8::try_from(label.len()).expect("a label"));
        wire.extend(label.as_bytes());
    }
    wire.push(0);
    wire.extend(kind.to_be_bytes());
    wire.extend([0, 1]);
    wire
}
