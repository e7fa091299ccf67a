//! Processes of this node that listen on a port: a mapped port takes their clients away.
//!
//! Asks by binding the port, which costs the same on every node. Only where that fails, reads
//! `/proc/net/{tcp,tcp6,udp,udp6}` of the calling thread's namespace (proc_net_tcp in the kernel's documentation) to name
//! the listener; the parser is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with, sockopt};

use super::{Mapping, Protocol};
use crate::net::Family;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    pub protocol: Protocol,
    pub address: IpAddr,
    pub port: u16,
    /// By which `/proc/<pid>/fd` names it.
    pub inode: u64,
}

impl Listener {
    /// Whether the mapping takes packets away that would reach it. A socket on `::` takes IPv4 too, unless it was told
    /// not to, which these files do not say.
    pub fn is_shadowed_by(&self, mapping: &Mapping) -> bool {
        if (self.protocol, self.port) != (mapping.protocol, mapping.host_port) {
            return false;
        }
        if self.address == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            return true;
        }
        let same_family = Family::of(self.address) == mapping.family();
        same_family && (self.address.is_unspecified() || mapping.host_ip.is_none_or(|ip| ip == self.address))
    }
}

/// The kernel walks its whole table of connections for every read, however short: half a millisecond for a table of 8192
/// buckets.
const FILE: usize = 64 * 1024;

/// What listens on one of the ports. A file that is missing, or that cannot be read, tells nothing.
pub fn load(mappings: &[Mapping]) -> Vec<Listener> {
    let suspected: Vec<_> =
        mappings.iter().filter(|mapping| mapping.protocol != Protocol::Sctp && !is_free(mapping)).collect();
    shadowed_by(&suspected)
}

/// As [`load`], and binds nothing.
pub fn read_only(mappings: &[Mapping]) -> Vec<Listener> {
    shadowed_by(&mappings.iter().collect::<Vec<_>>())
}

/// Those addresses and ports of IPv4 that are meant, at exactly which somebody listens for TCP.
pub fn listening(is_meant: impl Fn(SocketAddr) -> bool) -> BTreeSet<SocketAddr> {
    let text = read("/proc/thread-self/net/tcp").unwrap_or_default();
    let listeners = text.lines().filter_map(|line| parse(Protocol::Tcp, line));
    let at = listeners.map(|listener| SocketAddr::new(listener.address, listener.port));
    at.filter(|at| is_meant(*at)).collect()
}

/// A connection of TCP that is open, as one of its ends on this node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub local: SocketAddr,
    pub peer: SocketAddr,
}

/// Those open connections of the node of which an end has an address that is meant. Read line by line: a node may have tens of
/// thousands.
pub fn connections(is_meant: impl Fn(IpAddr) -> bool) -> Vec<Connection> {
    let mut found = Vec::new();
    for file in ["tcp", "tcp6"] {
        let Ok(file) = std::fs::File::open(format!("/proc/thread-self/net/{file}")) else { continue };
        let lines = io::BufReader::with_capacity(FILE, file).lines().map_while(Result::ok);
        let open = lines.filter_map(|line| connection(&line));
        found.extend(open.filter(|open| is_meant(open.local.ip()) || is_meant(open.peer.ip())));
    }
    found
}

/// Which processes have these sockets, with their names: `/proc/<pid>/fd` says `socket:[<inode>]`. One of another process
/// namespace, or that may not be looked into, is not found.
pub fn owners(inodes: &BTreeSet<u64>) -> BTreeMap<u64, (u32, String)> {
    let mut found = BTreeMap::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        for descriptor in std::fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten() {
            let Ok(target) = std::fs::read_link(descriptor.path()) else { continue };
            let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
            let Some(inode) = inode.and_then(|inode| inode.parse().ok()) else { continue };
            if inodes.contains(&inode) {
                found.entry(inode).or_insert_with(|| (pid, command(pid)));
            }
        }
    }
    found
}

fn command(pid: u32) -> String {
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
    name.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

fn shadowed_by(suspected: &[&Mapping]) -> Vec<Listener> {
    let mut found = Vec::new();
    for (protocol, files) in [(Protocol::Tcp, ["tcp", "tcp6"]), (Protocol::Udp, ["udp", "udp6"])] {
        if !suspected.iter().any(|mapping| mapping.protocol == protocol) {
            continue;
        }
        for file in files {
            let text = read(&format!("/proc/thread-self/net/{file}")).unwrap_or_default();
            let listeners = text.lines().filter_map(|line| parse(protocol, line));
            found.extend(listeners.filter(|listener| suspected.iter().any(|m| listener.is_shadowed_by(m))));
        }
    }
    found
}

/// Whether nothing is bound to the port on any address of the mapping's family. A `true` is sure; a `false` may be a
/// connection, or a lack of rights.
fn is_free(mapping: &Mapping) -> bool {
    bound(mapping.protocol, mapping.pod, mapping.host_port).is_ok()
}

/// A socket that is bound and does not listen takes nothing from anybody, and is closed at once.
fn bound(protocol: Protocol, pod: IpAddr, port: u16) -> io::Result<()> {
    let (domain, any) = match Family::of(pod) {
        Family::V4 => (AddressFamily::INET, IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Family::V6 => (AddressFamily::INET6, IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    let kind = if protocol == Protocol::Udp { SocketType::DGRAM } else { SocketType::STREAM };
    let socket = socket_with(domain, kind, SocketFlags::CLOEXEC, None)?;
    if protocol == Protocol::Tcp {
        // Connections that are over do not count; listeners do all the same (inet_csk_bind_conflict).
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if domain == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(bind(&socket, &SocketAddr::new(any, port))?)
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::with_capacity(FILE);
    std::fs::File::open(path)?.read_to_string(&mut text)?;
    Ok(text)
}

/// One line: `  0: 0100007F:1F90 00000000:0000 0A …`. `None` for the heading, and for sockets with a peer.
fn parse(protocol: Protocol, line: &str) -> Option<Listener> {
    // `TCP_LISTEN` and, of a UDP socket that is bound and not connected, `TCP_CLOSE`; net/tcp_states.h.
    let waiting = if protocol == Protocol::Tcp { "0A" } else { "07" };
    let mut words = line.split_whitespace().skip(1);
    let at = words.next()?;
    let (_, state) = (words.next()?, words.next()?);
    if state != waiting {
        return None;
    }
    // Queues, timer, retransmissions, user and timeout stand before it.
    let inode = words.nth(5).and_then(|word| word.parse().ok()).unwrap_or(0);
    let at = end(at)?;
    Some(Listener { protocol, address: at.ip(), port: at.port(), inode })
}

/// The same of a connection: what both ends are.
fn connection(line: &str) -> Option<Connection> {
    const ESTABLISHED: &str = "01";
    let mut words = line.split_whitespace().skip(1);
    let (local, peer, state) = (words.next()?, words.next()?, words.next()?);
    if state != ESTABLISHED {
        return None;
    }
    Some(Connection { local: end(local)?, peer: end(peer)? })
}

fn end(words: &str) -> Option<SocketAddr> {
    let (address, port) = words.split_once(':')?;
    // 32-bit words as the machine has them.
    let word =
        |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            let address = Ipv6Addr::from(bytes);
            address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4)
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, port: u16) -> Listener {
        Listener { protocol: Protocol::Tcp, address: address.parse().unwrap(), port, inode: 0 }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn listening_sockets_are_read_and_others_are_not() {
        let tcp = |line| parse(Protocol::Tcp, line);
        assert_eq!(tcp("  sl  local_address rem_address   st tx_queue rx_queue tr"), None);
        assert_eq!(
            tcp(
                "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 77 1 0"
            ),
            Some(Listener { inode: 77, ..listener("127.0.0.1", 8080) })
        );
        assert_eq!(tcp("   1: 0100007F:1F90 0100007F:C350 01 00000000:00000000"), None);
        assert_eq!(
            tcp("   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A 0"),
            Some(listener("::", 22))
        );
        assert_eq!(
            tcp("   0: 0000000000000000FFFF00000100007F:0016 00000000000000000000000000000000:0000 0A 0"),
            Some(listener("127.0.0.1", 22))
        );
        assert_eq!(
            connection("   1: 0100007F:1F90 0200FEA9:0CBC 01 00000000:00000000"),
            Some(Connection {
                local: "127.0.0.1:8080".parse().unwrap(),
                peer: "169.254.0.2:3260".parse().unwrap()
            })
        );
        assert_eq!(connection("   1: 0100007F:1F90 0200FEA9:0CBC 02 00000000:00000000"), None);
        let udp = parse(Protocol::Udp, "  10: 00000000:0035 00000000:0000 07 00000000:00000000");
        assert_eq!(udp.map(|found| found.port), Some(53));
        assert_eq!(parse(Protocol::Udp, "  10: 0100007F:0035 0100007F:9000 01 00000000:00000000"), None);
    }

    #[test]
    fn a_port_that_something_listens_on_is_not_free() {
        let (tcp, udp) = (
            std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
            std::net::UdpSocket::bind("127.0.0.1:0").unwrap(),
        );
        let mapping = |protocol, host_port| Mapping {
            protocol,
            host_ip: None,
            host_port,
            pod: "10.1.2.5".parse().unwrap(),
            pod_port: 80,
        };
        let tcp_port = tcp.local_addr().unwrap().port();
        let both =
            [mapping(Protocol::Tcp, tcp_port), mapping(Protocol::Udp, udp.local_addr().unwrap().port())];
        assert!(both.iter().all(|mapping| !is_free(mapping)));
        let same = |found: &Listener| Listener { inode: 0, ..*found } == listener("127.0.0.1", tcp_port);
        assert!(load(&both[..1]).iter().any(same) && read_only(&both[..1]).iter().any(same));
        drop((tcp, udp));
        assert!(both.iter().all(is_free));
        assert_eq!(load(&both), []);
    }

    #[test]
    fn a_mapping_shadows_what_would_have_got_the_packet() {
        let mapping = |host_ip: Option<&str>, pod: &str| Mapping {
            protocol: Protocol::Tcp,
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port: 8080,
            pod: pod.parse().unwrap(),
            pod_port: 80,
        };
        let v4 = mapping(None, "10.1.2.5");
        assert!(listener("0.0.0.0", 8080).is_shadowed_by(&v4) && listener("::", 8080).is_shadowed_by(&v4));
        assert!(listener("127.0.0.1", 8080).is_shadowed_by(&v4));
        assert!(!listener("0.0.0.0", 8081).is_shadowed_by(&v4));
        assert!(!listener("fd00::1", 8080).is_shadowed_by(&v4));
        let at = mapping(Some("192.0.2.1"), "10.1.2.5");
        assert!(
            listener("192.0.2.1", 8080).is_shadowed_by(&at) && listener("0.0.0.0", 8080).is_shadowed_by(&at)
        );
        assert!(!listener("127.0.0.1", 8080).is_shadowed_by(&at));
        assert!(!listener("0.0.0.0", 8080).is_shadowed_by(&mapping(None, "fd00::5")));
    }
}
