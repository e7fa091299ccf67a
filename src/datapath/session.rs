//! The sockets and namespaces of one run: the node's side always, the pod's side where there is a pod.
//!
//! Opened once, because a netlink socket stays in the namespace where it was opened: one visit to the pod's namespace
//! serves all link, address and route work. Remembers the links it has seen, and which chains of
//! others need nothing.

use std::collections::{BTreeMap, HashSet};

pub use crate::kernel::Error;
pub use crate::kernel::link::Link;
use crate::kernel::netns::Home;
pub use crate::kernel::netns::{Netns, OpenError};
use crate::kernel::{self, NetfilterSocket, RouteSocket, link};
use crate::net::IfName;
use crate::state::BootId;

/// One side of the veth pair.
#[derive(Debug)]
pub struct Side {
    pub route: RouteSocket,
    seen: BTreeMap<IfName, Link>,
}

impl Side {
    fn new(route: RouteSocket) -> Self {
        Self { route, seen: BTreeMap::new() }
    }

    /// The link of that name, from the kernel.
    pub fn look_up(&mut self, name: &IfName) -> kernel::Result<Option<Link>> {
        let link = link::by_name(&mut self.route, name.as_str())?;
        match &link {
            Some(link) => self.seen.insert(name.clone(), link.clone()),
            None => self.seen.remove(name),
        };
        Ok(link)
    }

    /// As [`Self::look_up`], for a link whose index somebody else named.
    pub fn look_up_index(&mut self, index: u32) -> kernel::Result<Option<Link>> {
        let link = link::by_index(&mut self.route, index)?;
        if let Some((link, Ok(name))) = link.as_ref().map(|link| (link, link.name.parse())) {
            self.seen.insert(name, link.clone());
        }
        Ok(link)
    }

    /// The link as it was when this run last looked. For what does not change behind its back: index, kind, MAC of a
    /// link of ours.
    pub fn seen(&mut self, name: &IfName) -> kernel::Result<Option<Link>> {
        match self.seen.get(name) {
            Some(link) => Ok(Some(link.clone())),
            None => self.look_up(name),
        }
    }

    /// The index of a link that must be there.
    pub fn index(&mut self, name: &IfName) -> kernel::Result<u32> {
        if let Some(link) = self.seen.get(name) {
            return Ok(link.index);
        }
        match self.look_up(name)? {
            Some(link) => Ok(link.index),
            None => Err(Error::new(format!("ip link show {name}"), rustix::io::Errno::NODEV.into())),
        }
    }

    /// After the link was removed or made anew.
    pub fn forget(&mut self, name: &IfName) {
        self.seen.remove(name);
    }
}

#[derive(Debug)]
pub struct Session {
    pub node: Side,
    pub pod: Option<PodSide>,
    netfilter: Option<NetfilterSocket>,
    boot: Option<BootId>,
    /// Chains of others that were read in this session and need nothing, as they look from afar. Of a hundred pods the first
    /// reads ten thousand rules, and the others do not.
    pub(super) settled: HashSet<u64>,
}

#[derive(Debug)]
pub struct PodSide {
    pub netns: Netns,
    pub side: Side,
    home: Home,
}

impl PodSide {
    fn open(netns: Netns) -> kernel::Result<Self> {
        let home = Home::of_thread()?;
        let route = netns.visit_from(&home, RouteSocket::open)??;
        Ok(Self { netns, side: Side::new(route), home })
    }

    /// Runs `body` in the pod's namespace, on the thread that opened the session.
    pub fn visit<T>(&self, body: impl FnOnce() -> T) -> kernel::Result<T> {
        self.netns.visit_from(&self.home, body)
    }
}

impl Session {
    /// `netns` is the pod's; without one only the node's side can be seen and changed.
    pub fn open(netns: Option<Netns>) -> kernel::Result<Self> {
        let node = Side::new(RouteSocket::open()?);
        let pod = netns.map(PodSide::open).transpose()?;
        Ok(Self { node, pod, netfilter: None, boot: None, settled: HashSet::new() })
    }

    /// For whoever knows which boot this is: then nobody asks again.
    #[must_use]
    pub fn of_boot(self, boot: &BootId) -> Self {
        Self { boot: Some(boot.clone()), ..self }
    }

    /// Which boot this is, by whose identity memory is told from that of another one.
    pub fn boot(&mut self) -> kernel::Result<BootId> {
        let boot = match self.boot.take() {
            Some(boot) => boot,
            None => BootId::current().map_err(|error| Error::new("which boot is this?", error))?,
        };
        Ok(self.boot.insert(boot).clone())
    }

    /// Goes on with another pod, or with none; what was seen of the node is forgotten. On failure there is none.
    pub fn turn_to(&mut self, netns: Option<Netns>) -> kernel::Result<()> {
        self.pod = None;
        self.node.seen.clear();
        self.pod = netns.map(PodSide::open).transpose()?;
        Ok(())
    }

    /// The link of that name in the pod; `None` also without a pod.
    pub fn look_up_in_pod(&mut self, name: &IfName) -> kernel::Result<Option<Link>> {
        match &mut self.pod {
            Some(pod) => pod.side.look_up(name),
            None => Ok(None),
        }
    }

    /// Opened at first use: a plugin without rules never loads nf_tables.
    pub fn netfilter(&mut self) -> kernel::Result<&mut NetfilterSocket> {
        let socket = match self.netfilter.take() {
            Some(socket) => socket,
            None => NetfilterSocket::open()?,
        };
        Ok(self.netfilter.insert(socket))
    }
}
