//! A token that is sent from one namespace to another and comes back: over TCP, or as datagrams of which one fills a packet
//! and may not be split. Proves both directions.
//!
//! Opens ports of the kernel's choice for a moment; refuses to wait: whoever sends many looks at all of them together.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use rustix::io::Errno;
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::error::{Error, Result};

/// In front of it is what the datagram is: small, or one that fills a packet.
const TOKEN: usize = 16;
/// What a buffer must hold that is given to look with.
pub const LONGEST: usize = 64 * 1024;

/// Somebody who sends back what comes.
#[derive(Debug)]
pub enum Listener {
    Tcp(TcpListener, Option<TcpStream>),
    Udp(UdpSocket),
}

impl Listener {
    /// The socket belongs to the namespace of the calling thread.
    pub fn tcp(at: IpAddr) -> Result<Self> {
        let open = || {
            let listener = TcpListener::bind((at, 0))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        open().map(|listener| Self::Tcp(listener, None)).map_err(|error| failed("listen on", at, error))
    }

    pub fn udp(at: IpAddr) -> Result<Self> {
        let open = || {
            let socket = UdpSocket::bind((at, 0))?;
            whole(&socket, at)?;
            Ok(socket)
        };
        open().map(Self::Udp).map_err(|error| failed("bind", at, error))
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(listener, _) => listener.local_addr(),
            Self::Udp(socket) => socket.local_addr(),
        }
    }

    /// Sends back what has come since the last look.
    pub fn echo(&mut self, bytes: &mut [u8]) {
        match self {
            Self::Tcp(listener, stream) => {
                if stream.is_none() {
                    *stream = listener.accept().ok().and_then(|(stream, _)| {
                        stream.set_nonblocking(true).ok()?;
                        Some(stream)
                    });
                }
                if let Some(stream) = stream
                    && let Ok(length) = stream.read(bytes)
                {
                    let _ = stream.write_all(bytes.get(..length).unwrap_or_default());
                }
            }
            Self::Udp(socket) => {
                while let Ok((length, from)) = socket.recv_from(bytes) {
                    let _ = socket.send_to(bytes.get(..length).unwrap_or_default(), from);
                }
            }
        }
    }
}

/// What has come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    pub small: bool,
    /// The datagram that fills a packet. TCP cuts its bytes as it likes.
    pub whole: bool,
}

/// Whoever sent the token.
#[derive(Debug)]
pub enum Sender {
    Tcp { stream: TcpStream, token: [u8; TOKEN], sent: bool },
    Udp { socket: UdpSocket, token: [u8; TOKEN] },
}

impl Sender {
    /// From the namespace of the calling thread.
    pub fn tcp(to: SocketAddr, token: [u8; TOKEN]) -> Result<Self> {
        let open = || -> rustix::io::Result<TcpStream> {
            let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = socket_with(family, SocketType::STREAM, flags, None)?;
            match connect(&socket, &to) {
                Ok(()) | Err(Errno::INPROGRESS) => Ok(TcpStream::from(socket)),
                Err(errno) => Err(errno),
            }
        };
        let stream = open().map_err(|errno| Error::new(format!("connect to {to}"), errno.into()))?;
        Ok(Self::Tcp { stream, token, sent: false })
    }

    /// Two datagrams: a small one, and one that makes a packet of `size` bytes.
    pub fn udp(to: SocketAddr, token: [u8; TOKEN], size: usize) -> Result<Self> {
        let any = if to.is_ipv4() { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let open = || {
            let socket = UdpSocket::bind((any, 0))?;
            whole(&socket, any)?;
            socket.connect(to)?;
            Ok(socket)
        };
        let socket = open().map_err(|error| failed("connect to", to.ip(), error))?;
        socket.send(&token).map_err(|error| failed("send to", to.ip(), error))?;
        let headers = if to.is_ipv4() { 28 } else { 48 };
        let mut long = token.to_vec();
        long.resize(size.saturating_sub(headers).clamp(TOKEN + 1, LONGEST - headers), 0);
        // What is refused as too long does not arrive either.
        let _ = socket.send(&long);
        Ok(Self::Udp { socket, token })
    }

    /// What has come back since the last look.
    pub fn heard(&mut self, bytes: &mut [u8]) -> Heard {
        let mut heard = Heard::default();
        match self {
            Self::Tcp { stream, token, sent } => {
                if !*sent {
                    *sent = stream.write_all(&token[..]).is_ok();
                }
                if let Ok(length) = stream.read(bytes) {
                    heard.small = bytes.get(..length) == Some(&token[..]);
                    heard.whole = heard.small;
                }
            }
            Self::Udp { socket, token } => loop {
                match socket.recv(bytes) {
                    Ok(length) if bytes.starts_with(&token[..]) => {
                        heard.small |= length == TOKEN;
                        heard.whole |= length > TOKEN;
                    }
                    Ok(_) => {}
                    // Nothing more has come, or the other end refuses.
                    Err(_) => break,
                }
            },
        }
        heard
    }
}

/// Packets go out as they are, or not at all.
fn whole(socket: &UdpSocket, at: IpAddr) -> io::Result<()> {
    match at {
        IpAddr::V4(_) => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::DO)?,
        IpAddr::V6(_) => set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::DO)?,
    }
    socket.set_nonblocking(true)
}

fn failed(what: &str, at: IpAddr, error: io::Error) -> Error {
    Error::new(format!("{what} {at}"), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(mut done: impl FnMut() -> bool) -> bool {
        (0..2000).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            done()
        })
    }

    #[test]
    fn a_token_comes_back_and_nothing_else_does() {
        let here = IpAddr::from([127, 0, 0, 1]);
        let (mut tcp, mut udp) = (Listener::tcp(here).unwrap(), Listener::udp(here).unwrap());
        let mut by_tcp = Sender::tcp(tcp.address().unwrap(), *b"0123456789abcdef").unwrap();
        let mut by_udp = Sender::udp(udp.address().unwrap(), *b"0123456789abcdef", 1500).unwrap();
        let mut bytes = vec![0; LONGEST];
        let nothing = (Heard::default(), Heard::default());
        assert_eq!((by_tcp.heard(&mut bytes), by_udp.heard(&mut bytes)), nothing);
        let (mut small, mut long) = (false, false);
        assert!(until(|| {
            udp.echo(&mut bytes);
            let heard = by_udp.heard(&mut bytes);
            (small, long) = (small | heard.small, long | heard.whole);
            small && long
        }));
        assert!(until(|| {
            tcp.echo(&mut bytes);
            by_tcp.heard(&mut bytes).whole
        }));
    }
}
