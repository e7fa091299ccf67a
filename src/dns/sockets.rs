//! The sockets on which we are asked: UDP and TCP at each of our addresses.
//!
//! Each is bound to one address, so that answers come from where the question went. Addresses may come later than we do
//! (IP_FREEBIND), and a successor may bind the same while we still serve (SO_REUSEPORT). Where port 53 is taken, another
//! port serves, to which the node's rules lead; it goes on when port 53 is ours again, for who is still led there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
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
    pairs: BTreeMap<SocketAddr, Pair>,
    inherited: BTreeMap<(SocketAddr, Kind), OwnedFd>,
    /// What somebody else has.
    refused: BTreeSet<SocketAddr>,
    /// Nobody is served meanwhile: a successor does.
    paused: bool,
}

#[derive(Debug)]
struct Pair {
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

/// A port that somebody else has.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) at: SocketAddr,
    pub(crate) kind: Kind,
    pub(crate) error: io::Error,
    /// Where it is served instead.
    pub(crate) port: Option<u16>,
}

impl Sockets {
    pub(crate) fn new(inherited: Inherited) -> Self {
        let inherited = inherited.into_iter().map(|(fd, at, kind)| ((at, kind), fd)).collect();
        Self { inherited, ..Self::default() }
    }

    /// Serves each of the addresses, and none but these; some at another port besides, to which questions for others are led.
    /// Returns what is not served as it should be and was not known to be.
    pub(crate) fn serve(
        &mut self,
        server: &Rc<Server>,
        addresses: &[IpAddr],
        besides: &[SocketAddr],
        fallback: u16,
    ) -> Vec<Taken> {
        let at_their_port = addresses.iter().take(MOST).map(|address| SocketAddr::new(*address, DNS_PORT));
        let wanted: Vec<_> = at_their_port.chain(besides.iter().take(MOST).copied()).collect();
        self.pairs.retain(|at, _| addresses.contains(&at.ip()));
        self.refused.retain(|at| wanted.contains(at));
        let mut taken = Vec::new();
        for at in wanted {
            match self.open(at, server) {
                Ok(()) => {
                    self.refused.remove(&at);
                }
                Err((kind, error)) => {
                    let other = SocketAddr::new(at.ip(), fallback);
                    let instead = at.port() == DNS_PORT && self.open(other, server).is_ok();
                    if self.refused.insert(at) {
                        taken.push(Taken { at, kind, error, port: instead.then_some(fallback) });
                    }
                }
            }
        }
        // What nobody asked for is closed.
        self.inherited.clear();
        taken
    }

    /// Both sockets, unless they are there.
    fn open(&mut self, at: SocketAddr, server: &Rc<Server>) -> Result<(), (Kind, io::Error)> {
        if !self.pairs.contains_key(&at) {
            let mut pair = self.pair(at)?;
            if !self.paused {
                pair.start(server);
            }
            self.pairs.insert(at, pair);
        }
        Ok(())
    }

    fn pair(&mut self, at: SocketAddr) -> Result<Pair, (Kind, io::Error)> {
        let mut socket = |kind| match self.inherited.remove(&(at, kind)) {
            Some(fd) => Ok(fd),
            None => bound(at, kind).map_err(|error| (kind, error)),
        };
        let (udp, tcp) = (socket(Kind::Udp)?, socket(Kind::Tcp)?);
        let made = || {
            let udp = UdpSocket::from_std(std::net::UdpSocket::from(udp))?;
            let tcp = TcpListener::from_std(std::net::TcpListener::from(tcp))?;
            Ok(Pair { udp: Rc::new(udp), tcp: Rc::new(tcp), tasks: Vec::new() })
        };
        made().map_err(|error| (Kind::Udp, error))
    }

    /// Whether somebody else has a port that should be served.
    pub(crate) fn lacks(&self) -> bool {
        !self.refused.is_empty()
    }

    fn has_port(&self, address: IpAddr) -> bool {
        self.pairs.contains_key(&SocketAddr::new(address, DNS_PORT))
    }

    /// Where it answers instead of at port 53, as far as rules can lead there.
    pub(crate) fn instead(&self, fallback: u16) -> Vec<SocketAddrV4> {
        let instead = self.pairs.keys().filter(|at| at.port() == fallback && !self.has_port(at.ip()));
        let v4 = instead.filter_map(|at| match at {
            SocketAddr::V4(at) => Some(*at),
            SocketAddr::V6(_) => None,
        });
        v4.collect()
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
        self.pairs
            .iter()
            .flat_map(|(at, pair)| [(*at, Kind::Udp, pair.udp.as_fd()), (*at, Kind::Tcp, pair.tcp.as_fd())])
    }

    /// As people read it.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.pairs.keys().copied().collect()
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
