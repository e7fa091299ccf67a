//! The floor below every bridge plugin: the kernel's own price of one pod, and nothing else.
//!
//! Sends the netlink messages that a bridge ADD or DEL cannot do without, encoded by hand in the only order that works, and
//! waits for each acknowledgement. It reads no configuration, decides nothing, locks nothing, syncs nothing, undoes nothing
//! and takes every name from argv. It does not use the crate, so that it does not move when the crate does.
//!
//! ADD: open the pod's namespace and a route socket in it and outside · GETLINK the bridge by name · GETADDR dump of the
//! bridge · NEWLINK veth (host end up and on the bridge, peer born in the pod) · GETLINK the host end · SETLINK its alias ·
//! in the pod GETLINK, NEWADDR, SETLINK up, NEWROUTE default · GETLINK the host end until it is operationally up · NEWNEIGH
//! for the pod on the bridge · nf_tables GETRULE dump of one table · write a lease and a record · print an answer.
//!
//! DEL: open the pod's namespace and a route socket in it and outside · in the pod GETLINK by name, DELLINK · DELNEIGH on
//! the bridge · conntrack dump · unlink lease and record.
//!
//! Port mapping: `floor/hostport.rs`.

use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

#[path = "floor/hostport.rs"]
mod hostport;
#[path = "floor/netlink.rs"]
mod netlink;

use netlink::{ACK, CREATE, DUMP, EXCL, Netlink, REPLACE, attribute, terminated, u32_at};

const USAGE: &str = "usage: floor add|del BRIDGE NETNS PODLINK HOSTLINK ADDRESS PREFIX GATEWAY TABLE LEASE RECORD\n\
    or: floor map|unmap TABLE HOSTPORT ADDRESS PODPORT RECORD";

// linux/rtnetlink.h
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const NEWADDR: u16 = 20;
const GETADDR: u16 = 22;
const NEWROUTE: u16 = 24;
const NEWNEIGH: u16 = 28;
const DELNEIGH: u16 = 29;

// linux/if_link.h, linux/if.h
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_OPERSTATE: u16 = 16;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_NET_NS_FD: u16 = 28;
const IFF_UP: u32 = 1;
const OPERSTATE_UP: u8 = 6;

const AF_INET: u8 = 2;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Words<'a> {
    bridge: &'a str,
    netns: &'a str,
    pod_link: &'a str,
    host_link: &'a str,
    address: Ipv4Addr,
    prefix: u8,
    gateway: Ipv4Addr,
    table: &'a str,
    lease: &'a Path,
    record: &'a Path,
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "floor: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    if let Some(mapping) = hostport::Words::parse(words)? {
        return mapping.run();
    }
    let [verb, bridge, netns, pod_link, host_link, address, prefix, gateway, table, lease, record] = words
    else {
        return Err(USAGE.into());
    };
    let words = Words {
        bridge,
        netns,
        pod_link,
        host_link,
        address: address.parse()?,
        prefix: prefix.parse()?,
        gateway: gateway.parse()?,
        table,
        lease: Path::new(lease),
        record: Path::new(record),
    };
    match verb.as_str() {
        "add" => add(&words),
        "del" => del(&words),
        _ => Err(USAGE.into()),
    }
}

fn add(words: &Words<'_>) -> Result<()> {
    let netns = File::open(words.netns)?;
    let (mut host, mut pod) = sockets(&netns)?;

    let bridge = index(&host.link(words.bridge)?)?;
    host.ask(GETADDR, DUMP, &address_header(AF_INET, 0, bridge))?;
    host.ask(NEWLINK, ACK | CREATE | EXCL, &veth(words, bridge, netns.as_raw_fd())?)?;
    let host_link = index(&host.link(words.host_link)?)?;
    let mut alias = link_header(host_link, 0);
    attribute(&mut alias, IFLA_IFALIAS, format!("floor {}", words.netns).as_bytes());
    host.ask(NEWLINK, ACK, &alias)?;

    let link = pod.link(words.pod_link)?;
    let mac = find(&link, IFLA_ADDRESS).ok_or("the pod's link has no MAC")?.to_vec();
    let pod_link = index(&link)?;
    let mut address = address_header(AF_INET, words.prefix, pod_link);
    attribute(&mut address, 1, &words.address.octets()); // IFA_ADDRESS
    attribute(&mut address, 2, &words.address.octets()); // IFA_LOCAL
    pod.ask(NEWADDR, ACK | CREATE | EXCL, &address)?;
    pod.ask(NEWLINK, ACK, &link_header(pod_link, IFF_UP))?;
    // struct rtmsg: main table, protocol boot, scope universe, unicast.
    let mut route = vec![AF_INET, 0, 0, 0, 254, 3, 0, 1, 0, 0, 0, 0];
    attribute(&mut route, 4, &pod_link.to_ne_bytes()); // RTA_OIF
    attribute(&mut route, 5, &words.gateway.octets()); // RTA_GATEWAY
    pod.ask(NEWROUTE, ACK | CREATE, &route)?;

    let start = Instant::now();
    while find(&host.link(words.host_link)?, IFLA_OPERSTATE) != Some(&[OPERSTATE_UP]) {
        if start.elapsed() > Duration::from_secs(2) {
            return Err("the host end does not come up".into());
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    let mut neighbour = neighbour(words, bridge);
    attribute(&mut neighbour, 2, &mac); // NDA_LLADDR
    host.ask(NEWNEIGH, ACK | CREATE | REPLACE, &neighbour)?;

    // NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE, struct nfgenmsg, NFTA_RULE_TABLE.
    let mut rules = vec![AF_INET, 0, 0, 0];
    attribute(&mut rules, 1, &terminated(words.table));
    Netlink::open(NETLINK_NETFILTER)?.ask(10 << 8 | 7, DUMP, &rules)?;

    fs::write(words.lease, format!("{}\n{}", words.netns, words.pod_link))?;
    let answer = format!(
        r#"{{"cniVersion":"1.0.0","interfaces":[{{"name":"{}"}},{{"name":"{}"}},{{"name":"{}","sandbox":"{}"}}],"ips":[{{"interface":2,"address":"{}/{}","gateway":"{gateway}"}}],"routes":[{{"dst":"0.0.0.0/0","gw":"{gateway}"}}]}}"#,
        words.bridge,
        words.host_link,
        words.pod_link,
        words.netns,
        words.address,
        words.prefix,
        gateway = words.gateway,
    );
    fs::write(words.record, &answer)?;
    Ok(io::stdout().write_all(answer.as_bytes())?)
}

fn del(words: &Words<'_>) -> Result<()> {
    let (mut host, mut pod) = sockets(&File::open(words.netns)?)?;
    let pod_link = index(&pod.link(words.pod_link)?)?;
    pod.ask(DELLINK, ACK, &link_header(pod_link, 0))?;
    let bridge = index(&host.link(words.bridge)?)?;
    host.ask(DELNEIGH, ACK, &neighbour(words, bridge))?;
    // NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET, struct nfgenmsg.
    Netlink::open(NETLINK_NETFILTER)?.ask(1 << 8 | 1, DUMP, &[AF_INET, 0, 0, 0])?;
    fs::remove_file(words.lease)?;
    Ok(fs::remove_file(words.record)?)
}

/// A route socket here and one in the pod: a socket stays where it was opened.
fn sockets(netns: &File) -> Result<(Netlink, Netlink)> {
    let host = Netlink::open(NETLINK_ROUTE)?;
    let here = File::open("/proc/thread-self/ns/net")?;
    move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network))?;
    let pod = Netlink::open(NETLINK_ROUTE)?;
    move_into_link_name_space(here.as_fd(), Some(LinkNameSpaceType::Network))?;
    Ok((host, pod))
}

impl Netlink {
    fn link(&mut self, name: &str) -> Result<Vec<u8>> {
        let mut link = link_header(0, 0);
        attribute(&mut link, IFLA_IFNAME, &terminated(name));
        self.ask(GETLINK, 0, &link)
    }
}

/// `struct ifinfomsg`; `up` is IFF_UP or nothing.
fn link_header(index: u32, up: u32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    header.extend(up.to_ne_bytes());
    header.extend(up.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`.
fn address_header(family: u8, prefix: u8, link: u32) -> Vec<u8> {
    let mut header = vec![family, prefix, 0, 0];
    header.extend(link.to_ne_bytes());
    header
}

/// `struct ndmsg` of a stale entry, NDA_DST.
fn neighbour(words: &Words<'_>, bridge: u32) -> Vec<u8> {
    let mut entry = vec![AF_INET, 0, 0, 0];
    entry.extend(bridge.to_ne_bytes());
    entry.extend(4u16.to_ne_bytes());
    entry.extend([0, 0]);
    attribute(&mut entry, 1, &words.address.octets());
    entry
}

fn veth(words: &Words<'_>, bridge: u32, netns: i32) -> Result<Vec<u8>> {
    let mut peer = link_header(0, 0);
    attribute(&mut peer, IFLA_IFNAME, &terminated(words.pod_link));
    attribute(&mut peer, IFLA_NET_NS_FD, &u32::try_from(netns)?.to_ne_bytes());
    let (mut data, mut info, mut link) = (Vec::new(), Vec::new(), link_header(0, IFF_UP));
    attribute(&mut data, 1, &peer); // VETH_INFO_PEER
    attribute(&mut info, 1, b"veth"); // IFLA_INFO_KIND
    attribute(&mut info, 2, &data); // IFLA_INFO_DATA
    attribute(&mut link, IFLA_IFNAME, &terminated(words.host_link));
    attribute(&mut link, IFLA_MASTER, &bridge.to_ne_bytes());
    attribute(&mut link, IFLA_LINKINFO, &info);
    Ok(link)
}

fn index(link: &[u8]) -> Result<u32> {
    link.get(4..8).map(|_| u32_at(link, 4)).ok_or_else(|| "no such link".into())
}

/// An attribute of a link, behind its `struct ifinfomsg`.
fn find(link: &[u8], kind: u16) -> Option<&[u8]> {
    let mut rest = link.get(16..)?;
    while rest.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([rest[0], rest[1]])).max(4);
        if u16::from_ne_bytes([rest[2], rest[3]]) == kind {
            return rest.get(4..length);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}
