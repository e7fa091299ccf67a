//! Who carries which address on this node: the kernel as the second source of truth about leases.
//!
//! Asked when memory is not enough: lease files are gone while pods run, or the pool is exhausted and some holder is
//! unknown. Reads only.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use rustix::io::Errno;

use super::mark::VethMark;
use super::session::Session;
use crate::kernel::link::Link;
use crate::kernel::netns::{Netns, OpenError};
use crate::kernel::{self, RouteSocket, address, link};
use crate::net::IfName;

/// Where runtimes and `ip netns` pin namespaces.
const PINNED: &[&str] = &["/run/netns", "/var/run/netns", "/run/docker/netns"];

/// The attachments that the node's links are marked with.
pub fn marked_attachments(session: &mut Session) -> kernel::Result<Vec<VethMark>> {
    let links = link::all(&mut session.node.route)?;
    Ok(links.into_iter().filter_map(|link| VethMark::parse(link.alias.as_deref()?)).collect())
}

/// All links of the node.
pub fn links(session: &mut Session) -> kernel::Result<Vec<Link>> {
    link::all(&mut session.node.route)
}

/// A host end of ours, as its mark says.
#[derive(Clone, Debug)]
pub struct MarkedPort {
    pub name: IfName,
    pub mark: VethMark,
    index: u32,
    /// Of the other end, in its namespace.
    peer: Option<u32>,
}

/// The host ends that carry a mark of ours.
pub fn marked_ports(session: &mut Session) -> kernel::Result<Vec<MarkedPort>> {
    let port = |link: Link| {
        let mark = VethMark::parse(link.alias.as_deref()?)?;
        let veth = link.kind.as_deref() == Some("veth");
        Some(MarkedPort {
            name: link.name.parse().ok().filter(|_| veth)?,
            mark,
            index: link.index,
            peer: link.peer,
        })
    };
    Ok(link::all(&mut session.node.route)?.into_iter().filter_map(port).collect())
}

/// Whether the other end is in a namespace that is pinned or in which a process lives. `None` when not all of them can be
/// looked into, and the other end is in none of the rest.
pub fn is_inhabited(port: &MarkedPort) -> Option<bool> {
    match home_of(port) {
        Ok(home) => Some(home.is_some()),
        Err(NotAll) => None,
    }
}

/// Not every namespace could be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAll;

/// A path of the namespace that the other end is in: that of a mount before that of a process. `None` when nobody is in it
/// any more.
pub fn home_of(port: &MarkedPort) -> Result<Option<PathBuf>, NotAll> {
    let mut seen = HashSet::new();
    let mut all = true;
    for path in namespace_paths() {
        let netns = match path.to_str().map(Netns::open) {
            Some(Ok(netns)) => netns,
            // Ended meanwhile.
            None | Some(Err(OpenError::Gone(_) | OpenError::NotNamespace(_))) => continue,
            Some(Err(OpenError::Other(error))) => {
                all &= error.is_missing();
                continue;
            }
        };
        if !seen.insert(netns.identity()) {
            continue;
        }
        match other_end_in(&netns, port) {
            Ok(true) => return Ok(Some(path)),
            Ok(false) => {}
            Err(_) => all = false,
        }
    }
    if all { Ok(None) } else { Err(NotAll) }
}

fn other_end_in(netns: &Netns, port: &MarkedPort) -> kernel::Result<bool> {
    let Some(peer) = port.peer else { return Ok(false) };
    let mut socket = netns.visit(RouteSocket::open)??;
    let link = link::by_index(&mut socket, peer)?;
    Ok(link.is_some_and(|link| link.kind.as_deref() == Some("veth") && link.peer == Some(port.index)))
}

/// Device and inode of every network namespace in which a process lives. One that is only mounted, or held open, is not among
/// them. `NotAll` also where the processes of the node are not seen.
pub fn inhabited() -> Result<HashSet<(u64, u64)>, NotAll> {
    let mut inhabited = HashSet::new();
    for path in processes() {
        match rustix::fs::stat(&path) {
            Ok(stat) => _ = inhabited.insert((stat.st_dev, stat.st_ino)),
            // Ended meanwhile, or a zombie.
            Err(Errno::NOENT | Errno::SRCH) => {}
            Err(_) => return Err(NotAll),
        }
    }
    if inhabited.is_empty() { Err(NotAll) } else { Ok(inhabited) }
}

/// Every address that some network namespace carries: those pinned by a mount and those of any process.
pub fn carried_addresses() -> HashSet<IpAddr> {
    let mut seen = HashSet::new();
    let mut carried = HashSet::new();
    for path in namespace_paths() {
        let Some(netns) = path.to_str().and_then(|path| Netns::open(path).ok()) else { continue };
        if !seen.insert(netns.identity()) {
            continue;
        }
        match addresses_in(&netns) {
            Ok(addresses) => carried.extend(addresses),
            Err(error) => tracing::warn!(%error, "cannot look into {}", path.display()),
        }
    }
    carried
}

fn addresses_in(netns: &Netns) -> kernel::Result<Vec<IpAddr>> {
    let mut socket = netns.visit(RouteSocket::open)??;
    Ok(address::all(&mut socket)?.into_iter().map(|address| address.address.ip()).collect())
}

fn namespace_paths() -> Vec<PathBuf> {
    PINNED.iter().flat_map(|directory| entries(directory)).chain(processes()).collect()
}

fn processes() -> impl Iterator<Item = PathBuf> {
    let numbers = entries("/proc").filter(|path| path.file_name().is_some_and(is_number));
    numbers.map(|process| process.join("ns/net"))
}

fn entries(directory: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn is_number(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}
