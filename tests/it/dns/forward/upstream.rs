//! Name servers that do what a test says, each in a network of its own at the other end of an uplink.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::lab::{Netns, Node, Place as _, eventually};

/// What a server sends back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Its own address for every name.
    Answers,
    Silent,
    /// Its own address for every name, and that there is nothing else.
    World,
    /// The same, for a second.
    Brief,
    /// Signs for whoever asks for it, and says then that it has checked.
    Signs,
    /// That it failed.
    Fails,
    /// A guess with a wrong number, one for another name, one from another port; and then its own address.
    Lies,
    /// Over UDP only that there is more.
    Truncates,
}

/// An uplink of the node, `upN`, to 198.51.N.0/24; the other end is `.2` and fe80::N.
pub(crate) struct Uplink {
    pub(crate) number: u8,
    namespace: Netns,
    asked: Arc<AtomicUsize>,
    pub(crate) names: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Uplink {
    pub(crate) fn new(number: u8, manner: Manner) -> Self {
        let namespace = Netns::new(&format!("isp{number}"));
        let (here, there) = (format!("up{number}"), format!("isp{number}"));
        Node.run(&format!("ip link add {here} type veth peer name {there} netns {}", namespace.name()));
        Node.run(&format!("ip addr add 198.51.{number}.1/24 dev {here}"));
        Node.run(&format!("ip link set {here} up"));
        namespace.run(&format!("ip addr add 198.51.{number}.2/24 dev {there}"));
        // It must not answer from another address of its own.
        namespace.run(&format!("ip link set {there} addrgenmode none"));
        namespace.run(&format!("ip addr add fe80::{number}/64 dev {there} nodad"));
        namespace.run(&format!("ip link set {there} up"));
        let uplink = Self { number, namespace, asked: Arc::default(), names: Arc::default() };
        uplink.serve(manner);
        uplink
    }

    pub(crate) fn address(&self) -> String {
        format!("198.51.{}.2", self.number)
    }

    pub(crate) fn scoped(&self) -> String {
        // Its own address of this kind comes with the link, after a moment (duplicate address detection).
        let link = format!("up{}", self.number);
        let ready = || {
            let shown = Node.run(&format!("ip -6 addr show dev {link} scope link"));
            shown.contains("fe80::") && !shown.contains("tentative")
        };
        eventually("the link has an address", Duration::from_secs(10), ready);
        format!("fe80::{}%{link}", self.number)
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The cable is pulled at the far end.
    pub(crate) fn cut(&self) {
        self.namespace.run(&format!("ip link set isp{} down", self.number));
    }

    /// Threads that end with the test's process.
    fn serve(&self, manner: Manner) {
        let (udp, tcp, other) = self.namespace.inside(|| {
            let udp = UdpSocket::bind("[::]:53").expect("port 53");
            let tcp = TcpListener::bind("[::]:53").expect("port 53");
            (udp, tcp, UdpSocket::bind("[::]:5300").expect("another port"))
        });
        let own = [198, 51, self.number, 2];
        let (asked, names) = (self.asked.clone(), self.names.clone());
        thread::spawn(move || {
            let mut buffer = [0; 2048];
            while let Ok((length, from)) = udp.recv_from(&mut buffer) {
                asked.fetch_add(1, Ordering::Relaxed);
                let query = &buffer[..length];
                if manner != Manner::Silent {
                    names.lock().expect("whole").push(question(query).to_vec());
                }
                over_udp(manner, query, own, from, &udp, &other);
            }
        });
        let asked = self.asked.clone();
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let Ok(mut stream) = stream else { return };
                asked.fetch_add(1, Ordering::Relaxed);
                let mut length = [0; 2];
                let mut query = Vec::new();
                if stream.read_exact(&mut length).is_ok() {
                    query.resize(u16::from_be_bytes(length).into(), 0);
                }
                if stream.read_exact(&mut query).is_ok() && query.len() > 12 {
                    let answer = answer(&query, own, 200);
                    let length = u16::try_from(answer.len()).expect("short").to_be_bytes();
                    let _ = stream.write_all(&[&length[..], &answer].concat());
                }
            }
        });
    }
}

fn over_udp(
    manner: Manner,
    query: &[u8],
    own: [u8; 4],
    from: SocketAddr,
    udp: &UdpSocket,
    other: &UdpSocket,
) {
    let poison = answer(query, [203, 0, 113, 66], 1);
    let send = |message: &[u8]| {
        let _ = udp.send_to(message, from);
    };
    match manner {
        Manner::Answers => send(&answer(query, own, 1)),
        Manner::World => send(&answer(query, own, u16::from(is_for_an_address(query)))),
        Manner::Brief => {
            let mut brief = answer(query, own, 1);
            let at = brief.len() - 7;
            brief[at] = 1;
            send(&brief);
        }
        Manner::Signs => send(&signed(query, own)),
        Manner::Fails => {
            let mut failure = answer(query, own, 0);
            failure[3] |= 2;
            send(&failure);
        }
        Manner::Silent => {}
        Manner::Truncates => {
            let mut cut = answer(query, own, 0);
            cut[2] |= 0x02;
            send(&cut);
        }
        Manner::Lies => {
            let mut guess = poison.clone();
            guess[1] ^= 1;
            send(&guess);
            let mut elsewhere = poison.clone();
            // The first letter of the name.
            elsewhere[13] ^= 1;
            send(&elsewhere);
            let _ = other.send_to(&poison, from);
            send(&answer(query, own, 1));
        }
    }
}

/// Name, type and class of a query.
fn question(query: &[u8]) -> &[u8] {
    let mut at = 12;
    while query[at] != 0 {
        at += usize::from(query[at]) + 1;
    }
    &query[12..at + 5]
}

fn is_for_an_address(query: &[u8]) -> bool {
    question(query).ends_with(&[0, 1, 0, 1])
}

/// With DO (RFC 3225) a signature of zeros besides, and AD.
fn signed(query: &[u8], own: [u8; 4]) -> Vec<u8> {
    let mut answer = answer(query, own, 1);
    let behind = &query[12 + question(query).len()..];
    // The root, type 41, size, code and version: then the flag.
    if behind.get(7).is_none_or(|flags| flags & 0x80 == 0) {
        return answer;
    }
    answer[3] |= 0x20;
    answer[7] = 2;
    // RFC 4034 section 3.1: what is covered, algorithm, labels, three times, the key's number, its owner, the signature.
    let data = [&[0, 1, 13, 3][..], &[0; 12], &[0, 7, 0], &[0; 64]].concat();
    answer.extend([0xc0, 12, 0, 46, 0, 1, 0, 0, 0, 60, 0, u8::try_from(data.len()).expect("short")]);
    answer.extend(data);
    answer
}

/// So many addresses for the name, for a minute.
fn answer(query: &[u8], address: [u8; 4], count: u16) -> Vec<u8> {
    let mut wire = [&query[..2], &[0x81, 0x80, 0, 1], &count.to_be_bytes(), &[0; 4]].concat();
    wire.extend(question(query));
    for _ in 0..count {
        wire.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        wire.extend(address);
    }
    wire
}
