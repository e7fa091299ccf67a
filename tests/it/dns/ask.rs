//! One question in one datagram, and what it brings: hundreds of them cost less than a handful of `dig`s.

use std::net::{IpAddr, UdpSocket};

use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, Rtype};
use domain::rdata::A;

use super::PATIENCE;
use crate::lab::Place;

/// The IPv4 addresses of a name, sorted; or what the server says instead. Asked once, and never again: a name that comes a moment
/// later is not found.
pub(crate) fn ask(place: &impl Place, server: &str, name: &str) -> Result<Vec<IpAddr>, Rcode> {
    let mut question = MessageBuilder::new_vec().question();
    question.header_mut().set_rd(true);
    question.push((name.parse::<Name<Vec<u8>>>().expect("a name"), Rtype::A)).expect("room");
    let bytes = place.inside(|| {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.connect((server, 53)).expect("a way to it");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.send(&question.finish()).expect("it can be sent");
        let mut bytes = vec![0; 4096];
        let length = socket.recv(&mut bytes).unwrap_or_else(|error| panic!("{name} at {server}: {error}"));
        bytes.truncate(length);
        bytes
    });
    let message = Message::from_octets(bytes).expect("a header");
    if message.header().rcode() != Rcode::NOERROR {
        return Err(message.header().rcode());
    }
    assert!(!message.header().tc(), "{name} at {server}: more than fits");
    let records = message.answer().expect("a message").limit_to::<A>();
    let mut addresses: Vec<IpAddr> =
        records.map(|record| record.expect("a record").data().addr().into()).collect();
    addresses.sort_unstable();
    Ok(addresses)
}
