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
pub(super) enum Manner {
    /// Its own address for every name.
    Answers,
    Silent,
    /// A guess with a wrong number, one for another name, one from another port; and then its own address.
    Lies,
    /// Over UDP only that there is more.
    Truncates,
}

/// An uplink of the node, `upN`, to 198.51.N.0/24; the other end is `.2` and fe80::N.
pub(super) struct Uplink {
    pub(super) number: u8,
    namespace: Netns,
    asked: Arc<AtomicUsize>,
    pub(super) names: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Uplink {
    pub(super) fn new(number: u8, manner: Manner) -> Self {
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

    pub(super) fn address(&self) -> String {
        format!("198.51.{}.2", self.number)
    }

    pub(super) fn scoped(&self) -> String {
        // Its own address of this kind comes with the link, after a moment (duplicate address detection).
        let link = format!("up{}", self.number);
        let ready = || {
            let shown = Node.run(&format!("ip -6 addr show dev {link} scope link"));
            shown.contains("fe80::") && !shown.contains("tentative")
        };
        eventually("the link has an address", Duration::from_secs(10), ready);
        format!("fe80::{}%{link}", self.number)
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// The cable is pulled at the far end.
    pub(super) fn cut(&self) {
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
