//! One netlink socket: a request goes out, its acknowledgement or answers come back.
//!
//! Owns sequence numbers, acknowledgements and what is done about a refusal. Refuses to know any message: callers bring a type,
//! flags and an encoded payload.
//!
//! Blocking on purpose. A plugin lives for three milliseconds and has one question in flight at a time; an asynchronous
//! runtime would add its own sockets, wake-ups and half a megabyte to every pod start.
//!
//! A socket stays in the network namespace in which it was opened.

use std::cell::Cell;
use std::io;
use std::ops::{Deref, DerefMut};

use netlink_sys::{SocketAddr, protocols};
use rustix::net::sockopt::set_socket_send_buffer_size_force;

use super::error::{Error, Result};
use super::link::UNKNOWN_KIND;
use super::modules::{self, Retry};
use message::{HEADER, Heard, Hearing, Message, NLMSG_ERROR, Refusal};
pub(super) use message::{Messages, encoded};
pub use message::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_MULTI, NLM_F_REPLACE, NLM_F_REQUEST,
    push_header,
};

mod message;

/// Large enough for every part of a dump: the kernel fills at most 32 KiB per part for a reader that offers it.
const BUFFER: usize = 32 * 1024;

thread_local! {
    /// Where answers are read to. One question is in flight at a time, whatever sockets are open: each with a buffer of its
    /// own would touch, and have the kernel clear, as many pages again. Empty until it is first needed, and while it is in
    /// use: whoever asks while another answer is read gets one more.
    static BUFFER_OF_ALL: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A refusal repeats the refused message, unless it is told not to. This much of one is no question of room.
const REPEATED: usize = BUFFER / 2;

/// For recv(2): the length of the whole datagram is returned, also where the buffer is shorter (linux/socket.h).
#[cfg(not(fuzzing))]
const MSG_TRUNC: i32 = 0x20;

/// net.core.wmem_default of every kernel with 4 KiB pages.
const DEFAULT_SEND_BUFFER: usize = 212_992;

/// A dump that others changed meanwhile is asked again; a busy node settles long before this.
const DUMP_ATTEMPTS: usize = 10;

/// What both kinds have in common: how to ask, and to wait for what the kernel says.
pub struct Socket {
    inner: netlink_sys::Socket,
    sequence: u32,
    /// Refusals do not repeat what was refused.
    capped: bool,
    /// Read instead of the kernel's answers, once.
    #[cfg(fuzzing)]
    replayed: Option<Vec<u8>>,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Socket").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

/// What the kernel answers to one message: its type and its payload behind the netlink header.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    pub kind: u16,
    pub payload: &'a [u8],
}

/// For links, addresses, routes and neighbours (NETLINK_ROUTE), of the namespace in which it was opened.
#[derive(Debug)]
pub struct RouteSocket(Socket);

/// For nf_tables and conntrack (NETLINK_NETFILTER), of the namespace in which it was opened.
#[derive(Debug)]
pub struct NetfilterSocket(Socket);

impl RouteSocket {
    pub fn open() -> Result<Self> {
        let socket = Socket::open(protocols::NETLINK_ROUTE, "open a route netlink socket")?;
        // Old kernels do not know it; they look at more than they were asked for, and whoever reads passes over it.
        let _ = socket.inner.set_netlink_get_strict_chk(true);
        Ok(Self(socket))
    }
}

impl NetfilterSocket {
    pub fn open() -> Result<Self> {
        let opened = Socket::open(protocols::NETLINK_NETFILTER, "open a netfilter netlink socket");
        opened.map(Self).map_err(|error| {
            if error.is_unsupported() {
                error.with_hint("does this kernel have nfnetlink? module nfnetlink, CONFIG_NETFILTER_NETLINK")
            } else {
                error
            }
        })
    }
}

/// The numbers of requests mean something else in each family, so whoever makes one takes the socket of its kind.
macro_rules! is_a_socket {
    ($($kind:ty),*) => {$(
        impl Deref for $kind {
            type Target = Socket;

            fn deref(&self) -> &Socket {
                &self.0
            }
        }

        impl DerefMut for $kind {
            fn deref_mut(&mut self) -> &mut Socket {
                &mut self.0
            }
        }
    )*};
}
is_a_socket!(RouteSocket, NetfilterSocket);

impl Socket {
    fn open(protocol: isize, operation: &str) -> Result<Self> {
        let open = || -> io::Result<_> {
            let inner = netlink_sys::Socket::new(protocol)?;
            // Also gives it an address of its own (netlink_autobind), and nobody but the kernel can write to it any more.
            inner.connect(&SocketAddr::new(0, 0))?;
            // Old kernels do not know it; we only lose words.
            let _ = inner.set_ext_ack(true);
            Ok(inner)
        };
        let mut retry = Retry::default();
        let inner = loop {
            match open() {
                Err(e) if modules::may_be_missing(e.raw_os_error().unwrap_or(0)) && retry.again() => {}
                other => break other.map_err(|e| Error::new(operation, e))?,
            }
        };
        Ok(Self {
            inner,
            sequence: 1,
            capped: false,
            #[cfg(fuzzing)]
            replayed: None,
        })
    }

    /// For fuzz targets: the next question is not sent, and answered by this datagram, whatever its number.
    #[cfg(fuzzing)]
    pub fn replay(&mut self, datagram: &[u8]) {
        self.sequence = Messages(datagram).next().map_or(1, |message| message.sequence).wrapping_sub(1);
        self.replayed = Some(datagram.to_vec());
    }

    /// Asks for a change and waits until the kernel has made it.
    ///
    /// `operation` is what a person would type (`ip link add …`); it is only rendered when the kernel refuses.
    pub fn change(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        operation: impl Fn() -> String,
    ) -> Result<()> {
        let mut retry = Retry::default();
        loop {
            let sequence = self
                .send(kind, flags | NLM_F_REQUEST | NLM_F_ACK, payload)
                .map_err(|e| Error::new(operation(), e))?;
            match self.receive(Hearing::of(sequence, false), |_| More::Follows) {
                Ok(_) => return Ok(()),
                Err(refusal) if refusal.words.as_deref() == Some(UNKNOWN_KIND) && retry.again() => {}
                Err(refusal) => return Err(refusal.into_error(operation())),
            }
        }
    }

    /// Asks a question with one answer; `None` when the kernel says that the object does not exist.
    ///
    /// With an acknowledgement, because some questions are answered with nothing at all: that for the end of a range without
    /// an end in a set of nf_tables.
    pub fn get<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        operation: impl Fn() -> String,
        read: impl FnMut(Answer<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        self.ask(kind, NLM_F_REQUEST | NLM_F_ACK, payload, operation, read)
    }

    /// As [`Self::get`], for a question that the kernel answers with the object or with a refusal and never with nothing:
    /// one datagram to read instead of two. Read rtnl_getlink and its like before another question is asked this way,
    /// which would wait for ever.
    pub fn get_answered<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        operation: impl Fn() -> String,
        read: impl FnMut(Answer<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        self.ask(kind, NLM_F_REQUEST, payload, operation, read)
    }

    fn ask<T>(
        &mut self,
        kind: u16,
        flags: u16,
        payload: &[u8],
        operation: impl Fn() -> String,
        mut read: impl FnMut(Answer<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        let (mut found, mut retry) = (None, Retry::default());
        loop {
            let sequence = self.send(kind, flags, payload).map_err(|e| Error::new(operation(), e))?;
            let read = |answer: Answer<'_>| {
                found = read(answer);
                if flags & NLM_F_ACK == 0 { More::Nothing } else { More::Follows }
            };
            match self.receive(Hearing::of(sequence, false), read) {
                Ok(_) => return Ok(found),
                Err(refusal) if modules::may_be_missing_in_question(refusal.errno) && retry.again() => {}
                Err(refusal) => {
                    let error = refusal.into_error(operation());
                    return if error.is_missing() { Ok(None) } else { Err(error) };
                }
            }
        }
    }

    /// Asks for all objects of a kind. When the table changes during the dump the kernel says so, and all is asked
    /// again: `read` then sees objects twice, the result holds each once.
    pub fn dump<T>(
        &mut self,
        kind: u16,
        payload: &[u8],
        operation: impl Fn() -> String,
        mut read: impl FnMut(Answer<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let (mut found, mut retry) = (Vec::new(), Retry::default());
        for _ in 0..DUMP_ATTEMPTS {
            found.clear();
            let sequence = self
                .send(kind, NLM_F_REQUEST | NLM_F_DUMP, payload)
                .map_err(|e| Error::new(operation(), e))?;
            let read = |answer: Answer<'_>| {
                found.extend(read(answer));
                More::Follows
            };
            match self.receive(Hearing::of(sequence, true), read) {
                Ok(true) => return Ok(found),
                Ok(false) => {}
                Err(refusal) if modules::may_be_missing_in_question(refusal.errno) && retry.again() => {}
                Err(refusal) => return Err(refusal.into_error(operation())),
            }
        }
        Err(Error::new(operation(), io::Error::from(io::ErrorKind::Interrupted)))
    }

    /// Sends messages that belong together in one write (an nf_tables transaction) and waits for the answers to
    /// those that asked for one. `encode` gets the first sequence number and returns the bytes with headers and the
    /// sequence numbers that will be answered: from the message that begins the batch to the last that asked for an
    /// acknowledgement. `operation` gets the position of the refused message in that range.
    ///
    /// The first refusal is the answer; the kernel has then undone the whole batch. A refusal may name a message that
    /// asked for no answer: a missing subsystem or a failed commit is blamed on the message that begins the batch
    /// (nfnetlink_rcv_batch).
    pub fn batch(
        &mut self,
        encode: impl Fn(u32) -> (Vec<u8>, std::ops::RangeInclusive<u32>),
        operation: impl Fn(usize) -> String,
    ) -> Result<()> {
        let mut retry = Retry::default();
        loop {
            match self.send_batch(&encode, &operation)? {
                None => return Ok(()),
                Some((_, refusal)) if modules::may_be_missing_in_batch(refusal.errno) && retry.again() => {}
                Some((position, refusal)) => return Err(refusal.into_error(operation(position))),
            }
        }
    }

    /// The position of the refused message and why.
    fn send_batch(
        &mut self,
        encode: &impl Fn(u32) -> (Vec<u8>, std::ops::RangeInclusive<u32>),
        operation: &impl Fn(usize) -> String,
    ) -> Result<Option<(usize, Refusal)>> {
        let (bytes, answered) = encode(self.sequence + 1);
        let (first, last) = (*answered.start(), *answered.end());
        // The message that ends the batch has a number too.
        self.sequence = last + 1;
        if bytes.len() > DEFAULT_SEND_BUFFER / 2 {
            // A message larger than the buffer is refused with EMSGSIZE. Without the privilege the default remains.
            let _ = set_socket_send_buffer_size_force(&self.inner, bytes.len() * 2);
        }
        self.cap(bytes.len());
        self.inner.send(&bytes, 0).map_err(|e| Error::new(operation(0), e))?;
        self.read(|message| {
            if message.kind != NLMSG_ERROR || !answered.contains(&message.sequence) {
                return None;
            }
            let refusal = Refusal::parse(message);
            if refusal.errno != 0 {
                // Refusals of later messages, mostly consequences, wait in the socket; their numbers are never
                // looked for again.
                let position = usize::try_from(message.sequence - first).unwrap_or(0);
                return Some(Some((position, refusal)));
            }
            (message.sequence == last).then_some(None)
        })
        .map_err(|e| Error::new(operation(0), e))
    }

    fn send(&mut self, kind: u16, flags: u16, payload: &[u8]) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        #[cfg(fuzzing)]
        if self.replayed.is_some() {
            return Ok(self.sequence);
        }
        let mut message = Vec::with_capacity(HEADER + payload.len());
        push_header(&mut message, kind, flags, self.sequence, payload.len());
        message.extend_from_slice(payload);
        self.cap(message.len());
        self.inner.send(&message, 0)?;
        Ok(self.sequence)
    }

    /// Before so many bytes are sent: a refusal must fit into the buffer.
    fn cap(&mut self, bytes: usize) {
        if bytes > REPEATED && !self.capped {
            // Old kernels do not know it.
            let _ = self.inner.set_cap_ack(true);
            self.capped = true;
        }
    }

    /// Reads until the answer is complete; `Ok(false)` when that is no answer, because a dump was interrupted by a change.
    fn receive(
        &mut self,
        mut hearing: Hearing,
        mut each: impl FnMut(Answer<'_>) -> More,
    ) -> std::result::Result<bool, Refusal> {
        self.read(|message| match hearing.hear(message) {
            Heard::Other => None,
            Heard::End(end) => Some(end),
            Heard::Part => match each(Answer { kind: message.kind, payload: message.payload }) {
                More::Follows => None,
                More::Nothing => Some(Ok(hearing.whole)),
            },
        })
        .unwrap_or_else(|error| Err(Refusal::from(error)))
    }

    /// Shows each message that comes, until one of them decides.
    fn read<T>(&mut self, mut decide: impl FnMut(&Message<'_>) -> Option<T>) -> io::Result<T> {
        let mut buffer = BUFFER_OF_ALL.take();
        let decided = loop {
            buffer.clear();
            buffer.reserve(BUFFER);
            match self.next_datagram(&mut buffer) {
                // Cut off: what is missing may be what was asked for, and its end.
                Ok(length) if length > buffer.len() => {
                    break Err(io::Error::from(rustix::io::Errno::MSGSIZE));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => break Err(error),
            }
            if let Some(decided) = Messages(&buffer).find_map(|message| decide(&message)) {
                break Ok(decided);
            }
        };
        BUFFER_OF_ALL.set(buffer);
        decided
    }

    #[cfg(not(fuzzing))]
    fn next_datagram(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.inner.recv(buffer, MSG_TRUNC)
    }

    #[cfg(fuzzing)]
    fn next_datagram(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let Some(datagram) = &mut self.replayed else { return self.inner.recv(buffer, 0) };
        if datagram.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.append(datagram);
        Ok(buffer.len())
    }
}

/// Whether the kernel has more to say to a question.
enum More {
    Follows,
    Nothing,
}
