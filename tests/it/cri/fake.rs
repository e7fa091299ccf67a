//! Somebody who answers as a runtime does, over as much of HTTP/2 as that takes (RFC 9113): lists of sandboxes and the status of
//! one, and gRPC's "unimplemented" to everything else.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use super::Message;

#[derive(Debug)]
pub(crate) struct Runtime(Arc<Mutex<Said>>);

/// What it has to say, and what it was asked.
#[derive(Debug, Default)]
struct Said {
    pods: Vec<Pod>,
    asked: Vec<String>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) namespace: String,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) ended: bool,
    pub(crate) host_network: bool,
}

impl Pod {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.to_owned(), ..Self::default() }
    }

    /// `PodSandbox`
    fn encode(&self) -> Message {
        let metadata = Message::new().text(1, &self.id).text(2, "uid").text(3, &self.namespace);
        let item = Message::new().text(1, &self.id).message(2, &metadata).number(3, self.ended.into());
        let label = |item: Message, (key, value): &(String, String)| {
            item.message(5, &Message::new().text(1, key).text(2, value))
        };
        self.labels.iter().fold(item, label)
    }

    /// `PodSandboxStatusResponse`
    fn status(&self) -> Message {
        let options = Message::new().number(1, if self.host_network { 2 } else { 0 }).number(2, 1);
        let linux = Message::new().message(1, &Message::new().message(2, &options));
        Message::new().message(1, &Message::new().text(1, &self.id).message(6, &linux))
    }
}

impl Runtime {
    pub(crate) fn listening(socket: &str, pods: Vec<Pod>) -> Self {
        fs::create_dir_all(Path::new(socket).parent().expect("a directory")).expect("the socket's directory");
        let _ = fs::remove_file(socket);
        let listener = UnixListener::bind(socket).expect("the runtime's socket");
        let said = Arc::new(Mutex::new(Said { pods, ..Said::default() }));
        let own = Arc::clone(&said);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // Whoever asks may go at any time.
                let _ = serve(stream.expect("a client"), &own);
            }
        });
        Self(said)
    }

    pub(crate) fn has(&self, pods: Vec<Pod>) {
        self.0.lock().expect("the runtime").pods = pods;
    }

    /// The calls so far, each with the sandbox that it was about.
    pub(crate) fn was_asked(&self) -> Vec<String> {
        self.0.lock().expect("the runtime").asked.clone()
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream, payload].concat()
}

fn serve(mut stream: UnixStream, said: &Mutex<Said>) -> io::Result<()> {
    let mut preface = [0; 24];
    stream.read_exact(&mut preface)?;
    stream.write_all(&frame(SETTINGS, 0, [0; 4], &[]))?;
    let mut method = None;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        stream.read_exact(&mut payload)?;
        let number = [head[5], head[6], head[7], head[8]];
        match head[3] {
            HEADERS => {
                let is_in = |word: &&&str| payload.windows(word.len()).any(|part| part == word.as_bytes());
                method = ["ListPodSandbox", "PodSandboxStatus"].iter().find(is_in).copied();
            }
            DATA if head[4] & END_STREAM != 0 => {
                let message =
                    answer(method, super::unframe(&payload), &mut said.lock().expect("the runtime"));
                stream.write_all(&framed(number, message))?;
            }
            _ => {}
        }
    }
}

/// The message, or gRPC's code.
fn answer(method: Option<&str>, request: &[u8], said: &mut Said) -> Result<Message, &'static str> {
    match method {
        Some("ListPodSandbox") => {
            said.asked.push("list".to_owned());
            Ok(said.pods.iter().fold(Message::new(), |list, pod| list.message(1, &pod.encode())))
        }
        Some(_) => {
            let id = super::Fields::decode(request).text(1);
            said.asked.push(format!("status {id}"));
            said.pods.iter().find(|pod| pod.id == id).map(Pod::status).ok_or("5")
        }
        None => Err("12"),
    }
}

fn framed(stream: [u8; 4], answer: Result<Message, &str>) -> Vec<u8> {
    let text = |word: &str| [&[u8::try_from(word.len()).expect("a word")][..], word.as_bytes()].concat();
    let field = |name: &str, value: &str| [vec![0], text(name), text(value)].concat();
    match answer {
        Ok(message) => [
            frame(HEADERS, END_HEADERS, stream, &[0x88]),
            frame(DATA, 0, stream, &super::frame(&message)),
            frame(HEADERS, END_STREAM | END_HEADERS, stream, &field("grpc-status", "0")),
        ]
        .concat(),
        Err(code) => {
            let trailers = [vec![0x88], field("grpc-status", code)].concat();
            frame(HEADERS, END_STREAM | END_HEADERS, stream, &trailers)
        }
    }
}
