//! The kernel's answers about links, addresses, routes, rules, neighbours and VLANs, and what it announces of them.
//!
//! Input: a datagram of netlink. It is taken for the answer to every question.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use smarter_cni::datapath::mark::{BridgeMark, VethMark};
use smarter_cni::kernel::{RouteSocket, address, events, link, neighbour, route, rule, vlan};
use smarter_cni::net::Family;
use smarter_cni_fuzz::bounded;

thread_local! {
    static SOCKET: RefCell<RouteSocket> = RefCell::new(RouteSocket::open().expect("a socket"));
}

fuzz_target!(|input: &[u8]| SOCKET.with_borrow_mut(|socket| bounded(input, || ask(socket, input))));

fn replayed<'a>(socket: &'a mut RouteSocket, input: &[u8]) -> &'a mut RouteSocket {
    socket.replay(input);
    socket
}

fn ask(socket: &mut RouteSocket, input: &[u8]) {
    for link in link::all(replayed(socket, input)).iter().flatten() {
        let alias = link.alias.as_deref().unwrap_or_default();
        if let Some(mark) = VethMark::parse(alias) {
            let again = VethMark::parse(&mark.render());
            assert!(mark.render().len() >= 255 || again.as_ref() == Some(&mark), "{mark:?}");
        }
        if let Some(mark) = BridgeMark::parse(alias) {
            assert_eq!(BridgeMark::parse(&mark.render()).map(|again| again.render()), Some(mark.render()));
        }
    }
    let _ = link::by_index(replayed(socket, input), 1);
    let _ = address::all(replayed(socket, input));
    for family in Family::BOTH {
        for route in route::list(replayed(socket, input), family).iter().flatten() {
            let _ = route.to_string();
        }
        for rule in rule::list(replayed(socket, input), family).iter().flatten() {
            let _ = rule.to_string();
        }
    }
    let _ = neighbour::all(replayed(socket, input));
    let _ = vlan::of_port(replayed(socket, input), 1);
    events::replay(input);
}
