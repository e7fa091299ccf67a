//! Questions over TCP (RFC 7766): several on one connection, answered in the order in which answers are there.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{Fate, LONGEST_QUESTION, Server, Transport, Waiting};

/// Without a question, or in the middle of one.
const IDLE: Duration = Duration::from_secs(10);
/// Connections of all clients, and of one: who opens many keeps nobody else out.
const MOST: usize = 256;
const MOST_OF_ONE: usize = 16;
/// Questions of one connection that wait for somebody else, with their answers. Until one of them is gone no other is read.
const MOST_WAITING: usize = 32;
/// When there is no descriptor left for another connection.
const PAUSE: Duration = Duration::from_millis(100);

thread_local! {
    /// There is one thread, and sockets of several addresses share its connections.
    static CONNECTIONS: Connections = Connections::default();
}

#[derive(Debug, Default)]
struct Connections {
    all: Cell<usize>,
    by_source: RefCell<HashMap<IpAddr, usize>>,
}

/// A connection that is counted.
struct Counted(IpAddr);

impl Counted {
    fn new(source: IpAddr) -> Option<Self> {
        CONNECTIONS.with(|connections| {
            let mut by_source = connections.by_source.borrow_mut();
            let of_one = by_source.entry(source).or_default();
            if connections.all.get() >= MOST || *of_one >= MOST_OF_ONE {
                return None;
            }
            *of_one += 1;
            connections.all.set(connections.all.get() + 1);
            Some(Self(source))
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        CONNECTIONS.with(|connections| {
            connections.all.set(connections.all.get().saturating_sub(1));
            let mut by_source = connections.by_source.borrow_mut();
            if let Some(of_one) = by_source.get_mut(&self.0) {
                *of_one = of_one.saturating_sub(1);
                if *of_one == 0 {
                    by_source.remove(&self.0);
                }
            }
        });
    }
}

/// Takes every connection of a listener. Ends with the task.
pub(crate) async fn accept(server: Rc<Server>, listener: Rc<TcpListener>) {
    loop {
        let Ok((stream, source)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        if !server.may_ask(source) {
            continue;
        }
        let Some(counted) = Counted::new(source.ip()) else {
            server.counters.connections_refused.add();
            continue;
        };
        server.counters.connections.add();
        let server = server.clone();
        tokio::task::spawn_local(async move {
            serve(server, stream, source).await;
            drop(counted);
        });
    }
}

async fn serve(server: Rc<Server>, stream: TcpStream, source: SocketAddr) {
    let _ = stream.set_nodelay(true);
    let (mut read, write) = stream.into_split();
    let (answers, answered) = mpsc::channel(MOST_WAITING);
    let writer = tokio::task::spawn_local(write_all(write, answered));
    let mut come = Vec::new();
    // A slow reader of answers is a slow asker of questions.
    while let Ok(permit) = answers.clone().reserve_owned().await {
        let packet = match timeout(IDLE, next(&mut read, &mut come)).await {
            Ok(Some(packet)) => packet,
            // Answers that others owe us are waited for, and so long there is nothing to close.
            Err(_) if answers.capacity() + 1 < MOST_WAITING && come.is_empty() => continue,
            _ => break,
        };
        server.news.read().await;
        match server.fate(&packet, source.ip(), Transport::Stream, &mut Vec::new()) {
            // Nobody speaks like this who wants an answer.
            Fate::Silence => break,
            Fate::Answer(answer) => drop(permit.send(answer)),
            Fate::Forward { to_cluster, .. } => {
                let (server, waiting) = (server.clone(), Waiting::new(&server));
                tokio::task::spawn_local(async move {
                    let answer = server.forwarded(waiting, &packet, source.ip(), to_cluster).await;
                    drop(permit.send(answer));
                });
            }
        }
    }
    drop(answers);
    let _ = writer.await;
}

/// The next message. What has come of it stays in `come` when somebody stops waiting. `None` at the end of the connection, and
/// for what is longer than a question.
async fn next(read: &mut OwnedReadHalf, come: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let Some((length, rest)) = come.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > LONGEST_QUESTION {
                return None;
            }
            if let Some(packet) = rest.get(..length).map(<[u8]>::to_vec) {
                come.drain(..2 + length);
                return Some(packet);
            }
        }
        if read.read_buf(come).await.ok()? == 0 {
            return None;
        }
    }
}

/// Ends when nobody can answer any more, or the client takes nothing.
async fn write_all(mut write: OwnedWriteHalf, mut answered: mpsc::Receiver<Vec<u8>>) {
    while let Some(answer) = answered.recv().await {
        let Ok(length) = u16::try_from(answer.len()) else { continue };
        let mut framed = Vec::with_capacity(2 + answer.len());
        framed.extend(length.to_be_bytes());
        framed.extend(answer);
        if !matches!(timeout(IDLE, write.write_all(&framed)).await, Ok(Ok(()))) {
            return;
        }
    }
}
