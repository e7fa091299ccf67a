//! Runtimes that do not do what they should, and what is said about them. None may keep us.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc;

use prost::Message as _;

use super::super::message::{RuntimeCondition, RuntimeStatus, StatusResponse, VersionResponse};
use super::super::{Condition, Status, status};
use super::*;

/// Short where it must pass, long where it must not.
const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_mins(1);

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("runtime.sock")
    }

    fn reason(&self, patience: Duration) -> Reason {
        let error = status(&self.socket(), patience).unwrap_err();
        assert!(error.to_string().contains(self.socket().to_str().unwrap()), "{error}");
        error.reason
    }

    /// Somebody who listens and does this with whoever comes first.
    fn served_by(self, serve: impl FnOnce(UnixStream) + Send + 'static) -> Self {
        let listener = UnixListener::bind(self.socket()).unwrap();
        thread::spawn(move || serve(listener.accept().unwrap().0));
        self
    }
}

#[test]
fn nobody_there_is_told_apart() {
    let place = Place::new();
    assert_eq!(place.reason(LONG), Reason::NoSocket);
    fs::create_dir(place.socket()).unwrap();
    assert_eq!(place.reason(LONG), Reason::NotASocket);
    fs::remove_dir(place.socket()).unwrap();
    fs::write(place.socket(), "").unwrap();
    assert_eq!(place.reason(LONG), Reason::NotASocket);
    let below = status(&place.socket().join("below"), LONG).unwrap_err();
    assert_eq!(below.reason, Reason::NoSocket);
    fs::remove_file(place.socket()).unwrap();
    drop(UnixListener::bind(place.socket()).unwrap());
    assert_eq!(place.reason(LONG), Reason::NobodyListens);
    // Root may always; the mapping is what can be tested.
    assert_eq!(unreachable(&Errno::ACCESS.into()), Reason::NotPermitted);
    let long = status(&place.directory.path().join("x".repeat(200)), LONG).unwrap_err();
    assert_eq!(long.reason, Reason::NoSocket);
}

#[test]
fn silence_ends_at_the_deadline() {
    let place = Place::new();
    let _never_accepts = UnixListener::bind(place.socket()).unwrap();
    assert_eq!(place.reason(SHORT), Reason::Late(SHORT));

    let accepts = Place::new().served_by(|stream| {
        thread::sleep(LONG);
        drop(stream);
    });
    assert_eq!(accepts.reason(SHORT), Reason::Late(SHORT));
}

#[test]
fn a_full_queue_ends_at_the_deadline() {
    let place = Place::new();
    let listener = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(place.socket()).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(place.socket()).unwrap();
    assert_eq!(place.reason(SHORT), Reason::Late(SHORT));
}

#[test]
fn somebody_who_always_says_something_else_ends_at_the_deadline() {
    let pings = Place::new().served_by(|mut stream| {
        while stream.write_all(&frame::encode(frame::PING, frame::ACK, 0, &[0; 8])).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(pings.reason(SHORT), Reason::Late(SHORT));
    let drips = Place::new().served_by(|mut stream| {
        // The head of a frame that is announced and comes byte by byte.
        let _ = stream.write_all(&[0, 0x40, 0, frame::SETTINGS, 0, 0, 0, 0, 0]);
        while stream.write_all(&[0]).is_ok() {
            thread::sleep(Duration::from_millis(1));
        }
    });
    assert_eq!(drips.reason(SHORT), Reason::Late(SHORT));
}

#[test]
fn what_is_no_grpc_is_garbage() {
    for said in [&b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..], b"\x16\x03\x01", b""] {
        let place = Place::new().served_by(move |mut stream| {
            let _ = stream.write_all(said);
        });
        let reason = place.reason(LONG);
        assert!(matches!(reason, Reason::Garbage(_)), "{said:?}: {reason:?}");
    }
    let leaves = Place::new().served_by(|mut stream| {
        let _ = stream.write_all(&frame::encode(frame::GOAWAY, 0, 0, &[0; 8]));
        let _ = stream.read_to_end(&mut Vec::new());
    });
    assert_eq!(leaves.reason(LONG), garbage("it closes the connection (GOAWAY)"));
}

/// A literal field without compression.
fn field(name: &str, value: &str) -> Vec<u8> {
    let part = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
    [vec![0], part(name), part(value)].concat()
}

const END: u8 = frame::END_STREAM | frame::END_HEADERS;

fn refusal(stream: u32, code: &str, message: &str) -> Vec<u8> {
    let block = [vec![0x88], field("grpc-status", code), field("grpc-message", message)].concat();
    frame::encode(frame::HEADERS, END, stream, &block)
}

fn message(stream: u32, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [
        frame::encode(frame::HEADERS, frame::END_HEADERS, stream, &[0x88]),
        frame::encode(frame::DATA, 0, stream, &[&[0][..], &length, message].concat()),
        frame::encode(frame::HEADERS, END, stream, &field("grpc-status", "0")),
    ]
    .concat()
}

/// Says all this at once, and hears what is said until the other side goes.
fn says(said: Vec<u8>) -> (Place, mpsc::Receiver<Vec<u8>>) {
    let (sender, heard) = mpsc::channel();
    let place = Place::new().served_by(move |mut stream| {
        stream.write_all(&said).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        sender.send(all).unwrap();
    });
    (place, heard)
}

fn ready() -> Vec<u8> {
    let condition = RuntimeCondition { kind: "NetworkReady".into(), status: true, ..Default::default() };
    let status = RuntimeStatus { conditions: vec![condition.encode_to_vec()] };
    StatusResponse {
        status: Some(status),
        info: std::iter::once(("cniconfig".into(), "{}".into())).collect(),
    }
    .encode_to_vec()
}

#[test]
fn an_older_runtime_is_asked_by_its_older_name() {
    let version =
        VersionResponse { name: "containerd".into(), version: "1.4.13-k3s1".into() }.encode_to_vec();
    let (place, heard) = says(
        [
            frame::encode(frame::SETTINGS, 0, 0, &[0, 5, 0, 0, 0x40, 0]),
            frame::encode(frame::SETTINGS, frame::ACK, 0, &[]),
            frame::encode(frame::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 7]),
            frame::encode(frame::PING, 0, 0, b"pingpong"),
            refusal(1, "12", "unknown service runtime.v1.RuntimeService"),
            message(3, &ready()),
            message(5, &version),
        ]
        .concat(),
    );
    let status = status(&place.socket(), LONG).unwrap();
    let condition =
        Condition { kind: "NetworkReady".into(), met: true, reason: String::new(), message: String::new() };
    assert_eq!((status.name.as_str(), status.version.as_str()), ("containerd", "1.4.13-k3s1"));
    assert_eq!((status.network_ready(), status.runtime_ready()), (Some(&condition), None));
    assert!(status.cni.is_some());

    let heard = heard.recv().unwrap();
    let heard_of = |text: &[u8]| heard.windows(text.len()).filter(|window| *window == text).count();
    assert!(heard.starts_with(frame::PREFACE));
    assert_eq!(heard_of(b"/runtime.v1.RuntimeService/Status"), 1);
    assert_eq!(heard_of(b"/runtime.v1alpha2.RuntimeService/Status"), 1);
    assert_eq!(heard_of(b"/runtime.v1alpha2.RuntimeService/Version"), 1);
    assert_eq!(heard_of(&frame::encode(frame::SETTINGS, frame::ACK, 0, &[])), 1);
    assert_eq!(heard_of(&frame::encode(frame::PING, frame::ACK, 0, b"pingpong")), 1);
}

#[test]
fn a_status_counts_also_without_a_version() {
    let (place, _) = says([message(1, &ready()), refusal(3, "13", "no")].concat());
    let expected =
        Status { name: String::new(), version: String::new(), ..status(&place.socket(), LONG).unwrap() };
    assert_eq!(expected.conditions.len(), 1);
}

#[test]
fn refusals_are_told_apart_and_quoted() {
    let (place, _) =
        says([refusal(1, "12", "unknown service"), refusal(3, "12", "unknown service x")].concat());
    assert_eq!(place.reason(LONG), Reason::NotCri("unknown service x".into()));
    let (place, _) = says(refusal(1, "2", "server is not initialized yet"));
    let refused = Reason::Refused { code: 2, message: "server is not initialized yet".into() };
    assert_eq!(place.reason(LONG), refused);
    for nonsense in [&[0xff; 20][..], &[10, 3, 10, 1, 0xff]] {
        let (place, _) = says(message(1, nonsense));
        assert_eq!(place.reason(LONG), garbage("its status makes no sense"), "{nonsense:?}");
    }
}
