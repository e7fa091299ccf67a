//! One question to one upstream: over UDP, and over TCP where the answer does not fit.
//!
//! Owns the sockets, one for each question, so that a stranger has to guess the port, too; the kernel draws the port, and the
//! number of the question. The socket is connected: what comes from another address or port the kernel keeps away. Refuses to
//! wait for an end: whoever asks ends it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice};
use rustix::rand::{GetRandomFlags, getrandom};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::answer::Answer;
use super::question::{Wishes, query};
use super::reply::{Asked, Verdict, judge};
use super::schedule::Failure;
use crate::dns::upstreams::{Scope, Upstream};

/// More than any upstream sends that keeps to what we can take (1232).
const DATAGRAM: usize = 4096;
/// Messages on our socket that answer something else: more than chance brings, and far fewer than guessing takes. Then the
/// question goes over TCP, where nobody can guess.
const MOST_FOREIGN: u32 = 8;
/// An answer has up to 64 KiB; all that are on their way together have this many times that.
pub(super) const MOST_STREAMS: usize = 32;

/// What is asked.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) upstream: Upstream,
    /// Name, type and class.
    pub(super) question: Box<[u8]>,
    pub(super) wishes: Wishes,
    pub(super) edns: bool,
}

impl Query {
    pub(super) async fn ask(&self, streams: &Semaphore) -> Result<Answer, Failure> {
        let over_udp = self.over_udp().await.map_err(|error| failure(&error))?;
        let (partial, verdict) = match over_udp {
            Some(Verdict::Truncated(partial)) => (partial, self.over_tcp(streams).await),
            None => (None, self.over_tcp(streams).await),
            Some(verdict) => return settle(verdict),
        };
        match verdict {
            Ok(verdict @ (Verdict::Answer(_) | Verdict::Refused(..))) => settle(verdict),
            _ => Err(Failure::Cut(partial)),
        }
    }

    /// The first message that answers it; `None` where somebody guesses.
    async fn over_udp(&self) -> io::Result<Option<Verdict>> {
        let to = address(&self.upstream)?;
        let from: IpAddr =
            if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
        socket.connect(to).await?;
        let id = id()?;
        socket.send(&query(id, &self.question, self.wishes, self.edns)).await?;
        let mut foreign = 0;
        while foreign < MOST_FOREIGN {
            socket.readable().await?;
            match received(&socket, &self.asked(id)) {
                Ok(Verdict::Foreign) => foreign += 1,
                Ok(verdict) => return Ok(Some(verdict)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    async fn over_tcp(&self, streams: &Semaphore) -> io::Result<Verdict> {
        // It is never closed.
        let _place = streams.acquire().await;
        let mut stream = TcpStream::connect(address(&self.upstream)?).await?;
        let id = id()?;
        let message = query(id, &self.question, self.wishes, self.edns);
        let length = u16::try_from(message.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &message].concat()).await?;
        let length = stream.read_u16().await?;
        let mut answer = Vec::new();
        stream.take(length.into()).read_to_end(&mut answer).await?;
        Ok(judge(&answer, &self.asked(id)))
    }

    fn asked(&self, id: u16) -> Asked<'_> {
        Asked { id, question: &self.question, edns: self.edns, dnssec: self.wishes.dnssec }
    }
}

/// The buffer is nobody's while nothing has come.
fn received(socket: &UdpSocket, asked: &Asked<'_>) -> io::Result<Verdict> {
    let mut buffer = [0; DATAGRAM];
    let length = socket.try_recv(&mut buffer)?;
    Ok(judge(buffer.get(..length).unwrap_or_default(), asked))
}

fn settle(verdict: Verdict) -> Result<Answer, Failure> {
    Err(match verdict {
        Verdict::Answer(answer) => return Ok(answer),
        Verdict::Truncated(partial) => Failure::Cut(partial),
        Verdict::Refused(_, reason) => Failure::Refused(reason),
        Verdict::OnlyPlain => Failure::OnlyPlain,
        Verdict::Wrong(_) | Verdict::Foreign => Failure::Wrong,
    })
}

fn failure(error: &io::Error) -> Failure {
    match Errno::from_io_error(error) {
        Some(Errno::CONNREFUSED) => Failure::Closed,
        // EPERM: a rule of this node drops it (netfilter's verdict for a local sender).
        Some(
            Errno::NETUNREACH
            | Errno::HOSTUNREACH
            | Errno::NETDOWN
            | Errno::ADDRNOTAVAIL
            | Errno::NODEV
            | Errno::NXIO
            | Errno::INVAL
            | Errno::PERM
            | Errno::ACCESS,
        ) => Failure::NoRoute,
        _ => Failure::Local,
    }
}

/// The number that a link has now: it may have come back under another one.
fn address(upstream: &Upstream) -> io::Result<SocketAddr> {
    let scope = match &upstream.scope {
        None => 0,
        Some(Scope::Index(index)) => *index,
        Some(Scope::Name(name)) => {
            let any = rustix::net::socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
            netdevice::name_to_index(&any, name.as_str())?
        }
    };
    Ok(match upstream.address {
        IpAddr::V4(address) => SocketAddr::new(address.into(), upstream.port),
        IpAddr::V6(address) => SocketAddrV6::new(address, upstream.port, 0, scope).into(),
    })
}

fn id() -> io::Result<u16> {
    let mut bytes = [0; 2];
    getrandom(&mut bytes, GetRandomFlags::empty())?;
    Ok(u16::from_ne_bytes(bytes))
}
