//! The throw-away world: a node, two pods and a host behind the node's uplink, each a network namespace.
//!
//! Everything lives in namespaces of this process: when it ends, by whatever means, the kernel takes all of it back.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use super::{Result, tried};
use crate::kernel::link::{self, Change, NewVeth, Peer};
use crate::kernel::netns::Netns;
use crate::kernel::route::RouteEntry;
use crate::kernel::{self, RouteSocket, address, route};
use crate::net::IfName;

/// The node's address on its uplink, and the host it reaches there (RFC 5737, documentation).
pub(super) const UPLINK: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// The port of the node that leads to `pod-b`, and the port there.
pub(super) const MAPPED: (u16, u16) = (8083, 8080);
const PLACE: &str = "/run/smarter-cni-selftest";

/// A network namespace with a name for people and a path for CNI.
#[derive(Debug)]
pub(super) struct Host {
    pub name: &'static str,
    pub path: String,
    pub netns: Netns,
    /// Port of the node and port of this pod.
    pub mapped_port: Option<(u16, u16)>,
}

#[derive(Debug)]
pub(super) struct World {
    pub node: Host,
    pub pod_a: Host,
    pub pod_b: Host,
    pub outside: Host,
}

impl World {
    /// Moves this process into namespaces of its own and builds the hosts.
    pub(super) fn create() -> Result<Self> {
        leave_the_machine()?;
        private_directories()?;
        fs::create_dir_all(PLACE).map_err(tried("make a place for the namespaces"))?;
        let node = Netns::current().map_err(|error| error.to_string())?;
        let world = Self {
            node: Host { name: "node", path: "/proc/self/ns/net".to_owned(), netns: node, mapped_port: None },
            pod_a: new_host("pod-a")?,
            pod_b: Host { mapped_port: Some(MAPPED), ..new_host("pod-b")? },
            outside: new_host("outside")?,
        };
        world.connect_uplink().map_err(|error| format!("connect the uplink: {error}"))?;
        Ok(world)
    }

    /// `uplink0` of the node to `eth0` of the outside host, and the node's default route through it.
    fn connect_uplink(&self) -> kernel::Result<()> {
        let (uplink, eth0) = (name("uplink0"), name("eth0"));
        let mut node = RouteSocket::open()?;
        let mut outside = self.outside.netns.visit(RouteSocket::open)??;
        let peer = Peer { name: &eth0, mac: None, mtu: None, netns: Some(self.outside.netns.fd()) };
        let veth = NewVeth { name: &uplink, mtu: None, mac: None, up: true, master: None, peer };
        link::add_veth(&mut node, &veth)?;
        bring_up(&mut node, &name("lo"), None)?;
        bring_up(&mut node, &uplink, Some(UPLINK))?;
        bring_up(&mut outside, &eth0, Some(OUTSIDE))?;
        let default = RouteEntry {
            dst: crate::net::Family::V4.default_route(),
            gw: Some(OUTSIDE.into()),
            index: None,
            table: 254,
            priority: None,
            scope: 0,
            mtu: None,
            advmss: None,
            protocol: 3,
        };
        route::add(&mut node, &default)
    }
}

/// The node's, where this process is. With the link its routes go, that to everywhere among them.
pub(super) fn cut_uplink() -> kernel::Result<()> {
    let mut node = RouteSocket::open()?;
    let Some(uplink) = link::by_name(&mut node, "uplink0")? else { return Ok(()) };
    link::change(&mut node, uplink.index, "uplink0", &Change { up: Some(false), ..Change::default() })
}

fn name(text: &str) -> IfName {
    text.parse().expect("a name written in this file")
}

fn bring_up(socket: &mut RouteSocket, name: &IfName, address: Option<Ipv4Addr>) -> kernel::Result<()> {
    let Some(link) = link::by_name(socket, name.as_str())? else { return Ok(()) };
    if let Some(address) = address {
        let address = ipnetwork::Ipv4Network::new(address, 24).expect("24 is a prefix length");
        address::add(socket, link.index, name.as_str(), address.into())?;
    }
    link::change(socket, link.index, name.as_str(), &Change { up: Some(true), ..Change::default() })
}

/// A user namespace makes an ordinary user root of what follows. Root can do without where the machine forbids them.
fn leave_the_machine() -> Result<()> {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let spaces = UnshareFlags::NEWNET | UnshareFlags::NEWNS;
    match unshare(spaces | UnshareFlags::NEWUSER) {
        Ok(()) => become_root(uid.as_raw(), gid.as_raw())?,
        Err(_) if uid.is_root() => unshare(spaces).map_err(tried("make network and mount namespaces"))?,
        Err(error) => {
            return Err(format!(
                "make user, network and mount namespaces: {error}; this machine forbids them to ordinary users \
                 (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone): run it as root"
            ));
        }
    }
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(tried("keep mounts to ourselves"))
}

#[expect(
    deprecated,
    reason = "deprecated for unsharing open files, which is not done here; the new one is unsafe"
)]
fn unshare(spaces: UnshareFlags) -> rustix::io::Result<()> {
    rustix::thread::unshare(spaces)
}

/// user_namespaces(7): groups must be given up before an ordinary user may map its own.
fn become_root(uid: u32, gid: u32) -> Result<()> {
    let _ = fs::write("/proc/self/setgroups", "deny");
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).map_err(tried("map the user"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).map_err(tried("map the group"))
}

/// The plugins' state of this run must not meet the machine's.
fn private_directories() -> Result<()> {
    for directory in ["/run", "/var/run", "/var/lib/cni"] {
        let is_link = fs::symlink_metadata(directory).map(|metadata| metadata.is_symlink());
        if is_link.is_ok_and(|is_link| !is_link) {
            rustix::mount::mount("tmpfs", directory, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
                .map_err(|error| format!("a private {directory}: {error}"))?;
        }
    }
    Ok(())
}

/// A fresh network namespace, kept by a mount: the thread that made it may end.
fn new_host(name: &'static str) -> Result<Host> {
    let path = Path::new(PLACE).join(name);
    fs::write(&path, "").map_err(tried("make a file for the namespace"))?;
    let made = thread::spawn({
        let path = path.clone();
        move || -> rustix::io::Result<()> {
            unshare(UnshareFlags::NEWNET)?;
            rustix::mount::mount_bind("/proc/thread-self/ns/net", &path)
        }
    });
    made.join().map_err(|_| "a thread died".to_owned())?.map_err(tried("make a network namespace"))?;
    let path = path.display().to_string();
    let netns = Netns::open(&path).map_err(|error| error.to_string())?;
    Ok(Host { name, path, netns, mapped_port: None })
}

/// Where a runtime would look for plugins.
pub(super) fn plugin_directory() -> PathBuf {
    Path::new(PLACE).join("bin")
}
