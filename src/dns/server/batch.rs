//! Datagrams of a socket by the handful: of a server that is asked all the time, the kernel's way to the next datagram and back is
//! what costs most.
//!
//! Owns room for what comes, which grows when there was too little. Is for sockets of one family: the kernel writes the length of a
//! sender's address where the next call tells it how much room there is, so that behind a sender of IPv4 one of IPv6 would lose the
//! end of its address. Refuses to know what they say.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg};
use rustix::io::Errno;
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::LONGEST_QUESTION;

/// Of a batch: what waits at once when every pod of a busy node asks for both families.
pub(super) const MOST: usize = 16;
/// Room for more than the one question that comes alone: so it is seen that there is no other.
const FIRST: usize = 2;

/// Who sends from no port gets no answer.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Of sockets of one family.
#[derive(Debug)]
pub(super) struct Batch {
    headers: MultiHeaders<SockaddrStorage>,
    packets: Vec<Vec<u8>>,
    /// Of each that came: how long it is, and from whom.
    came: Vec<(usize, SocketAddr)>,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            headers: MultiHeaders::preallocate(MOST, None),
            packets: vec![vec![0; LONGEST_QUESTION]; FIRST],
            came: Vec::new(),
        }
    }

    /// What is there, without waiting; whether that was all of it.
    pub(super) fn receive(&mut self, socket: &UdpSocket) -> io::Result<bool> {
        if self.came.len() == self.packets.len() && self.came.len() < MOST {
            let more = vec![vec![0; LONGEST_QUESTION]; self.packets.len()];
            self.packets.extend(more);
        }
        self.came.clear();
        let Self { headers, packets, came } = self;
        socket.try_io(Interest::READABLE, || {
            let mut room: Vec<_> = packets.iter_mut().map(|packet| [IoSliceMut::new(packet)]).collect();
            let received =
                recvmmsg(socket.as_raw_fd(), headers, room.iter_mut(), MsgFlags::MSG_DONTWAIT, None)?;
            for message in received {
                let from = message.address.as_ref().and_then(sender);
                came.push((message.bytes, from.unwrap_or(NOBODY)));
            }
            Ok(())
        })?;
        let is_all = self.came.len() < self.packets.len();
        if is_all {
            // The socket is empty, and to hear that from the kernel would be one more system call for each lonely question.
            let _ = socket.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
        Ok(is_all)
    }

    /// Each with its sender.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&[u8], SocketAddr)> {
        let packets = self.packets.iter().zip(&self.came);
        packets.map(|(packet, (length, from))| (packet.get(..*length).unwrap_or_default(), *from))
    }
}

fn sender(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|from| SocketAddr::V4(SocketAddrV4::from(*from)));
    v4.or_else(|| address.as_sockaddr_in6().map(|from| SocketAddr::V6(SocketAddrV6::from(*from))))
}

/// Sends each its answer, without waiting: a client whose answer is lost asks again.
pub(super) fn send(socket: &UdpSocket, answers: &[(Vec<u8>, SocketAddr)]) {
    if let [(answer, to)] = answers {
        let _ = socket.try_send_to(answer, *to);
        return;
    }
    let addresses: Vec<SocketAddrAny> = answers.iter().map(|(_, to)| SocketAddrAny::from(*to)).collect();
    let words: Vec<_> = answers.iter().map(|(answer, _)| [IoSlice::new(answer)]).collect();
    let mut nothing: Vec<_> = answers.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let messages = addresses.iter().zip(&words).zip(&mut nothing);
    let mut messages: Vec<_> =
        messages.map(|((to, words), nothing)| MMsgHdr::new_with_addr(to, words, nothing)).collect();
    let mut rest = messages.as_mut_slice();
    while !rest.is_empty() {
        let sent = match sendmmsg(socket, rest, SendFlags::DONTWAIT) {
            Ok(sent) => sent,
            // There is no more room.
            Err(Errno::AGAIN) => return,
            // The first cannot be sent, which is no reason to keep the others waiting.
            Err(_) => 1,
        };
        rest = rest.get_mut(sent.max(1)..).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both families by turns, as a server with two sockets hears them.
    #[test]
    fn whoever_asks_is_known_whole() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(async {
            let mut batches = [Batch::new(), Batch::new()];
            let at = |text: &str| UdpSocket::from_std(nonblocking(std::net::UdpSocket::bind(text).unwrap()));
            let sockets = ["127.0.0.1:0", "[::1]:0"].map(|text| at(text).unwrap());
            for _ in 0..3 {
                for (socket, batch) in sockets.iter().zip(&mut batches) {
                    let own = socket.local_addr().unwrap();
                    let client = std::net::UdpSocket::bind((own.ip(), 0)).unwrap();
                    client.send_to(b"who?", own).unwrap();
                    socket.readable().await.unwrap();
                    batch.receive(socket).unwrap();
                    let came: Vec<_> = batch.datagrams().collect();
                    assert_eq!(came, [(&b"who?"[..], client.local_addr().unwrap())]);
                }
            }
        });
    }

    fn nonblocking(socket: std::net::UdpSocket) -> std::net::UdpSocket {
        socket.set_nonblocking(true).unwrap();
        socket
    }
}
