//! `dns --query`: one question for a person who has no other program for it, and the counters for `status`.
//!
//! A name without a dot at its end is tried below `svc` of the domain first, as the search list of a pod would have it.

mod shown;

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use domain::base::{Message, MessageBuilder, Rtype};

use super::control::{ASK, COUNTERS};
use super::handover::{SOCKET, is_trusted};
use super::message::DATAGRAM;
use super::name::Name;
use super::server::is_of_this_node;
use super::settings::Settings;
use super::{COULD_NOT_RUN, failed};
use crate::Outcome;
use crate::net::DNS_PORT;
use crate::text::typed;
use shown::Shown;

/// More than the server itself waits for others.
const PATIENCE: Duration = Duration::from_secs(3);
/// Of `status`, which has other things to show.
const GLANCE: Duration = Duration::from_millis(250);
/// Datagrams get lost.
const TRIES: u32 = 2;
const LONGEST_REPORT: u64 = 1 << 20;

/// Whom to ask, and how.
enum Server {
    At(SocketAddr),
    /// No interface has the address yet: the door beside the records.
    Behind(&'static Path),
}

pub(super) fn run(words: &[String], server: Option<&str>, json: bool, settings: &Settings) -> Outcome {
    match asked(words, server, settings) {
        Ok(shown) => Outcome {
            stdout: if json { shown.json() } else { shown.text() },
            status: u8::from(!shown.has_records()),
            ..Outcome::default()
        },
        Err(why) => failed(COULD_NOT_RUN, &format!("smarter-cni dns: {why}\n")),
    }
}

fn asked(words: &[String], server: Option<&str>, settings: &Settings) -> Result<Shown, String> {
    let text = words.first().map(String::as_str).unwrap_or_default();
    let kinds = match words.get(1) {
        None => vec![Rtype::A, Rtype::AAAA],
        Some(kind) => vec![
            kind.to_ascii_uppercase()
                .parse()
                .map_err(|_| format!("{} is no type of records, such as A, AAAA or PTR", typed(kind)))?,
        ],
    };
    let server = chosen(server, settings)?;
    let mut last = None;
    for name in names(text, settings)? {
        let mut shown = Shown::new(&name, &server.to_string());
        for kind in &kinds {
            let answer = server.ask(&question(&name, *kind).ok_or("the question becomes too long")?)?;
            shown.add(&answer, *kind)?;
        }
        if shown.has_records() {
            return Ok(shown);
        }
        last = Some(shown);
    }
    last.ok_or_else(|| "there is nothing to ask".to_owned())
}

fn names(text: &str, settings: &Settings) -> Result<Vec<Name>, String> {
    let as_address = text.parse::<IpAddr>().ok();
    if let Some(address) = as_address {
        return Ok(vec![Name::reverse(address)]);
    }
    let name =
        Name::parse(text).ok_or_else(|| format!("{} is no name, such as web or web.default", typed(text)))?;
    let labels: Vec<&str> = text.trim_end_matches('.').split('.').chain(["svc"]).collect();
    let searched = Name::below(&labels, &settings.domain).filter(|_| !text.ends_with('.'));
    Ok(searched.into_iter().chain([name]).collect())
}

fn chosen(server: Option<&str>, settings: &Settings) -> Result<Server, String> {
    let wrong = |text: &str| format!("{} is no address, such as 169.254.0.2 or 127.0.0.1:9053", typed(text));
    match server {
        Some(text) => {
            let address = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, DNS_PORT));
            address.or_else(|_| text.parse()).map(Server::At).map_err(|_| wrong(text))
        }
        None if is_of_this_node(settings.address) => {
            Ok(Server::At(SocketAddr::new(settings.address, DNS_PORT)))
        }
        None => Ok(Server::Behind(Path::new(SOCKET))),
    }
}

fn question(name: &Name, kind: Rtype) -> Option<Vec<u8>> {
    let name = domain::base::Name::from_slice(name.as_wire()).ok()?;
    let mut builder = MessageBuilder::new_vec();
    builder.header_mut().set_rd(true);
    builder.header_mut().set_id(number());
    let mut questions = builder.question();
    questions.push((name, kind)).ok()?;
    let mut additional = questions.additional();
    additional
        .opt(|opt| {
            opt.set_udp_payload_size(u16::try_from(DATAGRAM).unwrap_or(u16::MAX));
            Ok(())
        })
        .ok()?;
    Some(additional.finish())
}

/// The address and the port of the socket are what tells answers apart; nobody else can send to it.
fn number() -> u16 {
    let now = crate::state::boot::boottime();
    u16::try_from((now.subsec_nanos() >> 3) & 0xffff).unwrap_or(0)
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(at) => at.fmt(f),
            Self::Behind(path) => path.display().fmt(f),
        }
    }
}

impl Server {
    fn ask(&self, question: &[u8]) -> Result<Vec<u8>, String> {
        let answer = match self {
            Self::At(at) => by_datagram(*at, question).and_then(|answer| {
                let cut = Message::from_octets(&answer).is_ok_and(|answer| answer.header().tc());
                if cut { by_stream(*at, question) } else { Ok(answer) }
            }),
            Self::Behind(path) => through(path, ASK, question, PATIENCE).map_err(|error| behind(error, path)),
        };
        let next = "is smarter-cni dns running? `smarter-cni doctor` looks at it";
        answer.map_err(|error| format!("{self} does not answer: {error}; {next}"))
    }
}

fn behind(error: io::Error, path: &Path) -> io::Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            io::Error::other(format!("only root may ask through {}", path.display()))
        }
        _ => error,
    }
}

fn by_datagram(at: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = if at.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_read_timeout(Some(PATIENCE / TRIES))?;
    socket.connect(at)?;
    let mut answer = vec![0; usize::from(u16::MAX)];
    let mut failure = io::Error::from(io::ErrorKind::TimedOut);
    for _ in 0..TRIES {
        socket.send(question)?;
        match socket.recv(&mut answer) {
            Ok(length) if answer.get(..2) == question.get(..2) => {
                answer.truncate(length);
                return Ok(answer);
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn by_stream(at: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&at, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat())?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// What a running one answers at its socket.
fn through(path: &Path, request: &str, rest: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(path)?;
    if !is_trusted(&stream) {
        return Err(io::Error::other("another user listens there"));
    }
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(&[request.as_bytes(), b"\n", rest].concat())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.take(LONGEST_REPORT).read_to_end(&mut answer)?;
    Ok(answer)
}

/// The counters of the one that runs.
pub(super) fn counters(path: &Path) -> io::Result<serde_json::Value> {
    Ok(serde_json::from_slice(&through(path, COUNTERS, &[], GLANCE)?)?)
}
