//! The kernel's answers about packet filters and flows, whoever made the rules.
//!
//! Input: a datagram of netlink. It is taken for the answer to every question.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use smarter_cni::kernel::nft::{self, DataType, Datum, Set, Table, TableFamily};
use smarter_cni::kernel::{NetfilterSocket, conntrack};
use smarter_cni::net::Family;
use smarter_cni_fuzz::bounded;

thread_local! {
    static SOCKET: RefCell<NetfilterSocket> = RefCell::new(NetfilterSocket::open().expect("a socket"));
}

fuzz_target!(|input: &[u8]| SOCKET.with_borrow_mut(|socket| bounded(input, || ask(socket, input))));

fn replayed<'a>(socket: &'a mut NetfilterSocket, input: &[u8]) -> &'a mut NetfilterSocket {
    socket.replay(input);
    socket
}

fn ask(socket: &mut NetfilterSocket, input: &[u8]) {
    let table = Table::new(TableFamily::Ip, "smarter-cni");
    let _ = nft::table(replayed(socket, input), &table);
    for table in nft::tables(replayed(socket, input)).iter().flatten() {
        let _ = table.to_string();
    }
    let _ = nft::chains(replayed(socket, input), None);
    let _ = nft::rules(replayed(socket, input), &table, "egress");
    for placed in nft::all_rules(replayed(socket, input)).iter().flatten() {
        let _ = placed.rule.text();
    }
    let ports = Set::map(
        "hostports",
        &[DataType::InetProto, DataType::InetService],
        &[DataType::Ipv4Addr, DataType::InetService],
    );
    let networks = Set { interval: true, ..Set::new("networks", &[DataType::Ipv6Addr]) };
    for set in [&ports, &networks] {
        for element in nft::elements(replayed(socket, input), &table, set).iter().flatten() {
            let _ = element.to_string();
        }
    }
    let _ = nft::element(replayed(socket, input), &table, &ports, &[Datum::Protocol(6), Datum::Port(80)]);
    for family in Family::BOTH {
        let _ = conntrack::flows(replayed(socket, input), family);
    }
}
