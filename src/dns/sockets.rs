//! The sockets on which we are asked: UDP and TCP at each of our addresses.
//!
//! Each is bound to one address, so that answers come from where the question went. Addresses may come later than we do
//! (IP_FREEBIND), and a successor may bind the same while we still serve (SO_REUSEPORT). Where port 53 is taken, another
//! port serves, which the node's rules can lead to.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::{AbortHandle, spawn_local};

use super::server::{Server, accept, receive};
use crate::net::DNS_PORT;

/// Connections that wait until we take them.
const BACKLOG: i32 = 128;
/// Bytes of questions that wait until we read them; the kernel's own limit (net.core.rmem_max) may be lower.
const RECEIVE_BUFFER: usize = 1 << 20;
/// Addresses that are served; a node has a handful.
const MOST: usize = 64;

/// What came from a predecessor or from systemd, by the address and the kind.
pub(crate) type Inherited = Vec<(OwnedFd, SocketAddr, Kind)>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Udp,
    Tcp,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Sockets {
    pairs: BTreeMap<IpAddr, Pair>,
    inherited: BTreeMap<(IpAddr, u16, Kind), OwnedFd>,
    /// Nobody is served meanwhile: a successor does.
    paused: bool,
}

#[derive(Debug)]
struct Pair {
    port: u16,
    udp: Rc<UdpSocket>,
    tcp: Rc<TcpListener>,
    tasks: Vec<AbortHandle>,
}

impl Pair {
    fn start(&mut self, server: &Rc<Server>) {
        let udp = spawn_local(receive(server.clone(), self.udp.clone()));
        let tcp = spawn_local(accept(server.clone(), self.tcp.clone()));
        self.tasks = vec![udp.abort_handle(), tcp.abort_handle()];
    }

    fn stop(&mut self) {
        self.tasks.drain(..).for_each(|task| task.abort());
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.stop();
    }
}

/// An address whose port 53 somebody else has.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) address: IpAddr,
    pub(crate) kind: Kind,
    pub(crate) error: io::Error,
    /// Where it is served instead.
    pub(crate) port: Option<u16>,
}

impl Sockets {
    pub(crate) fn new(inherited: Inherited) -> Self {
        let inherited =
            inherited.into_iter().map(|(fd, at, kind)| ((at.ip(), at.port(), kind), fd)).collect();
        Self { inherited, ..Self::default() }
    }

    /// Serves each of the addresses, and none but these. Returns what is not served as it should be and was not known to be.
    pub(crate) fn serve(&mut self, server: &Rc<Server>, addresses: &[IpAddr], fallback: u16) -> Vec<Taken> {
        self.pairs.retain(|address, _| addresses.contains(address));
        let mut taken = Vec::new();
        for &address in addresses.iter().take(MOST) {
            if self.pairs.get(&address).is_some_and(|pair| pair.port == DNS_PORT) {
                continue;
            }
            let known = self.pairs.contains_key(&address);
            match self.pair(address, DNS_PORT) {
                Ok(pair) => self.put(address, pair, server),
                Err((kind, error)) => {
                    if !known {
                        let other = self.pair(address, fallback);
                        let port = other.is_ok().then_some(fallback);
                        taken.push(Taken { address, kind, error, port });
                        if let Ok(pair) = other {
                            self.put(address, pair, server);
                        }
                    }
                }
            }
        }
        // What nobody asked for is closed.
        self.inherited.clear();
        taken
    }

    fn put(&mut self, address: IpAddr, mut pair: Pair, server: &Rc<Server>) {
        if !self.paused {
            pair.start(server);
        }
        self.pairs.insert(address, pair);
    }

    fn pair(&mut self, address: IpAddr, port: u16) -> Result<Pair, (Kind, io::Error)> {
        let at = SocketAddr::new(address, port);
        let mut socket = |kind| match self.inherited.remove(&(address, port, kind)) {
            Some(fd) => Ok(fd),
            None => bound(at, kind).map_err(|error| (kind, error)),
        };
        let (udp, tcp) = (socket(Kind::Udp)?, socket(Kind::Tcp)?);
        let made = || {
            let udp = UdpSocket::from_std(std::net::UdpSocket::from(udp))?;
            let tcp = TcpListener::from_std(std::net::TcpListener::from(tcp))?;
            Ok(Pair { port, udp: Rc::new(udp), tcp: Rc::new(tcp), tasks: Vec::new() })
        };
        made().map_err(|error| (Kind::Udp, error))
    }

    /// Whether any address is not served at its port.
    pub(crate) fn lacks(&self, addresses: &[IpAddr]) -> bool {
        addresses
            .iter()
            .take(MOST)
            .any(|address| self.pairs.get(address).is_none_or(|pair| pair.port != DNS_PORT))
    }

    /// Nothing is read any more, and nothing is lost: whoever has the same sockets reads it.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
        self.pairs.values_mut().for_each(Pair::stop);
    }

    pub(crate) fn resume(&mut self, server: &Rc<Server>) {
        self.paused = false;
        self.pairs.values_mut().for_each(|pair| pair.start(server));
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (SocketAddr, Kind, std::os::fd::BorrowedFd<'_>)> {
        use std::os::fd::AsFd as _;
        self.pairs.iter().flat_map(|(address, pair)| {
            let at = SocketAddr::new(*address, pair.port);
            [(at, Kind::Udp, pair.udp.as_fd()), (at, Kind::Tcp, pair.tcp.as_fd())]
        })
    }

    /// As people read it.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.pairs.iter().map(|(address, pair)| SocketAddr::new(*address, pair.port)).collect()
    }
}

fn bound(at: SocketAddr, kind: Kind) -> io::Result<OwnedFd> {
    let family = if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let how = if kind == Kind::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    let socket = socket_with(family, how, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    if at.is_ipv4() {
        sockopt::set_ip_freebind(&socket, true)?;
    } else {
        sockopt::set_ipv6_v6only(&socket, true)?;
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    if kind == Kind::Udp {
        // Less than wanted is still something.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
    }
    bind(&socket, &at)?;
    if kind == Kind::Tcp {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

/// What a descriptor from elsewhere is; `None` for what cannot serve.
pub(crate) fn known(fd: &OwnedFd) -> Option<(SocketAddr, Kind)> {
    let at = SocketAddr::try_from(getsockname(fd).ok()?).ok()?;
    let kind = match sockopt::socket_type(fd).ok()? {
        SocketType::DGRAM => Kind::Udp,
        SocketType::STREAM if sockopt::socket_acceptconn(fd).ok()? => Kind::Tcp,
        _ => return None,
    };
    rustix::io::ioctl_fionbio(fd, true).ok()?;
    Some((at, kind))
}
