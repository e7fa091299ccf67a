//! Somebody who asks all the time, and somebody who knows all names of the world.
//!
//! Four clients with five questions each on their way, as many as a node's pods have at once on a bad day. What they take is
//! theirs: only the server's own time is counted.

use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use crate::Result;

pub(crate) const UPSTREAM: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// What it says of every name, for an hour.
pub(crate) const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);
const CLIENTS: usize = 4;
const ON_THEIR_WAY: usize = 5;
/// Nothing gets lost on a loopback but where a server is too slow to take what waits.
const PATIENCE: Duration = Duration::from_secs(2);
const HEADER: usize = 12;

/// A question for an A record, and the answer that is right.
pub(crate) struct Question {
    wire: Vec<u8>,
    address: Ipv4Addr,
}

impl Question {
    /// With RD and without EDNS, as the resolvers of glibc and musl ask.
    pub(crate) fn new(name: &str, address: Ipv4Addr) -> Self {
        let mut wire = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            wire.push(u8::try_from(label.len()).unwrap_or(0));
            wire.extend(label.bytes());
        }
        wire.extend([0, 0, 1, 0, 1]);
        Self { wire, address }
    }
}

/// So many questions of the list, from its beginning and over again; all are answered as they should be.
pub(crate) fn ask(server: Ipv4Addr, questions: &[Question], count: usize) -> Result<()> {
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let own = (client..count).step_by(CLIENTS).map(|at| &questions[at % questions.len()]);
                scope.spawn(move || ask_own(server, own).map_err(|error| error.to_string()))
            })
            .collect();
        for client in clients {
            client.join().map_err(|_| "a client panicked")??;
        }
        Ok(())
    })
}

fn ask_own<'q>(server: Ipv4Addr, mut questions: impl Iterator<Item = &'q Question>) -> Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    // The number of a question is its place here.
    let mut open: Vec<Option<&Question>> = vec![None; ON_THEIR_WAY];
    let mut packet = Vec::new();
    let mut send = |at: usize, question: &Question| -> Result<()> {
        packet.clear();
        packet.extend_from_slice(&question.wire);
        packet[1] = u8::try_from(at)?;
        socket.send(&packet)?;
        Ok(())
    };
    for (at, place) in open.iter_mut().enumerate() {
        *place = questions.next();
        place.map_or(Ok(()), |question| send(at, question))?;
    }
    let mut answer = [0; 512];
    while open.iter().any(Option::is_some) {
        let length =
            socket.recv(&mut answer).map_err(|error| format!("{server} does not answer: {error}"))?;
        let at = usize::from(answer[1]);
        let place = open.get_mut(at).ok_or_else(|| format!("{server} answers what nobody has asked"))?;
        let asked = place.take().ok_or_else(|| format!("{server} answers twice"))?;
        if !is_right(&answer[..length], asked) {
            return Err(format!("{server} does not know a name: {:02x?}", &answer[..length]).into());
        }
        *place = questions.next();
        place.map_or(Ok(()), |question| send(at, question))?;
    }
    Ok(())
}

/// One record of the right address, and no failure.
fn is_right(answer: &[u8], question: &Question) -> bool {
    // Everything went well, and there is one.
    answer.len() > question.wire.len()
        && matches!(answer[3] & 0x0f, 0)
        && answer[6..8] == [0, 1]
        && answer.windows(4).any(|part| part == question.address.octets())
}

/// Answers until this process ends.
pub(crate) fn upstream() -> Result<()> {
    let socket = UdpSocket::bind((UPSTREAM, 53))?;
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if let Some(answer) = answer(&buffer[..length]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    Ok(())
}

/// Without what the asker can do besides.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let name = query.get(HEADER..)?.iter().position(|byte| *byte == 0)?;
    let question = query.get(HEADER..HEADER + name + 5)?;
    let is_for_an_address = question.ends_with(&[0, 1, 0, 1]);
    let count = u8::from(is_for_an_address);
    let mut answer = [query.get(..2)?, &[0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0], question].concat();
    if is_for_an_address {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0x0e, 0x10, 0, 4]);
        answer.extend(WORLD.octets());
    }
    Some(answer)
}
