//! The pod's `lo`: what it is and how it is switched. Too small for a plan.

use ipnetwork::IpNetwork;

use crate::kernel::link::{Change, Link};
use crate::kernel::netns::Netns;
use crate::kernel::{self, RouteSocket, address, link};

const LO: &str = "lo";

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lo {
    pub up: bool,
    /// IPv4 first.
    pub addresses: Vec<IpNetwork>,
}

/// Sets `lo` up and tells what it then has.
pub fn bring_up(netns: &Netns) -> kernel::Result<Lo> {
    let (mut socket, link) = look_up(netns)?;
    if !link.up {
        set(&mut socket, &link, true)?;
    }
    let mut addresses: Vec<_> =
        address::of_link(&mut socket, link.index)?.into_iter().map(|a| a.address).collect();
    addresses.sort_by_key(IpNetwork::is_ipv6);
    Ok(Lo { up: true, addresses })
}

pub fn observe(netns: &Netns) -> kernel::Result<Lo> {
    let (_, link) = look_up(netns)?;
    Ok(Lo { up: link.up, addresses: Vec::new() })
}

pub fn take_down(netns: &Netns) -> kernel::Result<()> {
    let (mut socket, link) = look_up(netns)?;
    set(&mut socket, &link, false)
}

fn look_up(netns: &Netns) -> kernel::Result<(RouteSocket, Link)> {
    let mut socket = netns.visit(RouteSocket::open)??;
    let link = link::by_name(&mut socket, LO)?;
    let missing = || kernel::Error::new("ip link show lo", rustix::io::Errno::NODEV.into());
    Ok((socket, link.ok_or_else(missing)?))
}

fn set(socket: &mut RouteSocket, link: &Link, up: bool) -> kernel::Result<()> {
    link::change(socket, link.index, LO, &Change { up: Some(up), ..Change::default() })
}
