//! Who has our port, in words.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::sockets::Kind;
use crate::datapath::hostports::listeners::{self, Listener};
use crate::datapath::hostports::{Mapping, Protocol};
use crate::text::printable;

/// `dnsmasq (process 612) on 0.0.0.0:53`; what is not known of it is left out.
pub(super) fn of_port(address: IpAddr, port: u16, kind: Kind) -> String {
    let words = all(address, port, kind);
    if words.is_empty() {
        return "a program that this one cannot see".to_owned();
    }
    words.into_iter().collect::<Vec<_>>().join(", ")
}

/// All that listen there, but for this process.
pub(super) fn all(address: IpAddr, port: u16, kind: Kind) -> BTreeSet<String> {
    let protocol = if kind == Kind::Udp { Protocol::Udp } else { Protocol::Tcp };
    let wanted = Mapping { protocol, host_ip: Some(address), host_port: port, pod: address, pod_port: port };
    let found = listeners::read_only(&[wanted]);
    // All processes are looked into for it.
    if found.is_empty() {
        return BTreeSet::new();
    }
    let inodes: BTreeSet<u64> = found.iter().map(|listener| listener.inode).collect();
    let owners = listeners::owners(&inodes);
    let ours = std::process::id();
    let in_words = |listener: &Listener| {
        let who = match owners.get(&listener.inode) {
            Some((pid, _)) if *pid == ours => return None,
            Some((pid, name)) => format!("{} (process {pid})", printable(name)),
            None => "a program that this one cannot see".to_owned(),
        };
        Some(format!(
            "{who} on {}/{}",
            std::net::SocketAddr::new(listener.address, listener.port),
            kind.name()
        ))
    };
    found.iter().filter_map(in_words).collect()
}
