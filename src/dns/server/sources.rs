//! Who may ask: pods and this node. Anybody else gets no answer, so that nothing on an uplink learns that somebody is here.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use ipnetwork::IpNetwork;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, getsockname, socket_with};

/// How long it is believed whether an address is the node's.
const BELIEVED: Duration = Duration::from_secs(5);
/// Addresses that this is remembered of.
const MOST: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Sources {
    ranges: Vec<IpNetwork>,
    others: HashMap<IpAddr, (bool, Instant)>,
}

impl Sources {
    pub(super) fn set_ranges(&mut self, ranges: Vec<IpNetwork>) {
        self.ranges = ranges;
    }

    pub(super) fn may_ask(&mut self, source: IpAddr) -> bool {
        source.is_loopback() || self.ranges.iter().any(|range| range.contains(source)) || self.is_ours(source)
    }

    fn is_ours(&mut self, source: IpAddr) -> bool {
        let now = Instant::now();
        if let Some((ours, at)) = self.others.get(&source)
            && now.duration_since(*at) < BELIEVED
        {
            return *ours;
        }
        if self.others.len() >= MOST {
            self.others.clear();
        }
        let ours = is_of_this_node(source);
        self.others.insert(source, (ours, now));
        ours
    }
}

/// Whether an interface of this node has the address: the kernel talks to itself under the very address it talks to
/// (fib_select_default and ip_route_output_key in the kernel), and under no foreign one. Nothing is sent.
pub(crate) fn is_of_this_node(address: IpAddr) -> bool {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let chosen = || {
        let socket = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        // The discard port; whichever it is does not matter.
        connect(&socket, &SocketAddr::new(address, 9))?;
        getsockname(&socket)
    };
    chosen().ok().and_then(|name| SocketAddr::try_from(name).ok()).is_some_and(|name| name.ip() == address)
}
