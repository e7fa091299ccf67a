//! Who carries which address on this node: the kernel as the second source of truth about leases.
//!
//! Asked when memory is not enough: lease files are gone while pods run, or the pool is exhausted and some holder is
//! unknown. Reads only.

use std::collections::HashSet;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use super::mark::VethMark;
use super::session::Session;
use crate::kernel::netns::Netns;
use crate::kernel::{self, Socket, address, link};

/// Where runtimes and `ip netns` pin namespaces.
const PINNED: &[&str] = &["/run/netns", "/var/run/netns"];

/// The attachments that the node's links are marked with.
pub fn marked_attachments(session: &mut Session) -> kernel::Result<Vec<VethMark>> {
    let links = link::all(&mut session.node.route)?;
    Ok(links.into_iter().filter_map(|link| VethMark::parse(link.alias.as_deref()?)).collect())
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
    let mut socket = netns.visit(Socket::route)??;
    Ok(address::all(&mut socket)?.into_iter().map(|address| address.address.ip()).collect())
}

fn namespace_paths() -> Vec<PathBuf> {
    let entries =
        |directory: &str| fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let pinned = PINNED.iter().flat_map(|directory| entries(directory));
    let processes = entries("/proc").filter(|path| path.file_name().is_some_and(is_number));
    pinned.chain(processes.map(|process| process.join("ns/net"))).collect()
}

fn is_number(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
}
