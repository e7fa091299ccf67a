//! The floor below every port mapping: one TCP port of the node in the maps of one nf_tables table, and nothing else.
//!
//! map: GETSETELEM of the port on all addresses and on single ones (is it free?) · one transaction with an element in
//! `hostports`, `local_clients` and `hairpin` · write a record · print an answer.
//!
//! unmap: GETSETELEM of the port (whose is it?) · one transaction that deletes the three · unlink the record.

use std::fs;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::Path;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::netlink::{ACK, CREATE, EXCL, NLMSG_ERROR, Netlink, REQUEST, attribute, terminated, u32_at};
use super::{AF_INET, Result};

// linux/netfilter/nfnetlink.h
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFNL_SUBSYS_NFTABLES: u16 = 10;

// linux/netfilter/nf_tables.h
const NEWSETELEM: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 0x0c;
const GETSETELEM: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 0x0d;
const DELSETELEM: u16 = (NFNL_SUBSYS_NFTABLES << 8) | 0x0e;
const NFTA_SET_ELEM_KEY: u16 = 1;
const NFTA_SET_ELEM_DATA: u16 = 2;

const TCP: u8 = 6;

pub(super) struct Words<'a> {
    map: bool,
    table: &'a str,
    host_port: u16,
    pod: Ipv4Addr,
    pod_port: u16,
    record: &'a Path,
}

impl<'a> Words<'a> {
    /// `None` when the words are about something else.
    pub(super) fn parse(words: &'a [String]) -> Result<Option<Self>> {
        let [verb, table, host_port, pod, pod_port, record] = words else { return Ok(None) };
        let map = match verb.as_str() {
            "map" => true,
            "unmap" => false,
            _ => return Ok(None),
        };
        let (host_port, pod, pod_port) = (host_port.parse()?, pod.parse()?, pod_port.parse()?);
        Ok(Some(Self { map, table, host_port, pod, pod_port, record: Path::new(record) }))
    }

    pub(super) fn run(&self) -> Result<()> {
        let mut netfilter = Netlink::open(NETLINK_NETFILTER)?;
        if !self.map {
            netfilter.ask(GETSETELEM, 0, &self.elements("hostports", &[(NFTA_SET_ELEM_KEY, self.port())]))?;
            netfilter.transaction(DELSETELEM, 0, &self.changes(false))?;
            return Ok(fs::remove_file(self.record)?);
        }
        for set in ["hostports", "hostports_at_ports"] {
            let key = self.elements(set, &[(NFTA_SET_ELEM_KEY, self.port())]);
            if netfilter.ask(GETSETELEM, 0, &key).is_ok() {
                return Err("the port is taken".into());
            }
        }
        netfilter.transaction(NEWSETELEM, CREATE | EXCL, &self.changes(true))?;
        let answer = format!(r#"{{"cniVersion":"1.0.0","ips":[{{"address":"{}/24"}}]}}"#, self.pod);
        fs::write(self.record, &answer)?;
        Ok(io::stdout().write_all(answer.as_bytes())?)
    }

    /// `inet_proto . inet_service`: every part is padded to 32 bits.
    fn port(&self) -> Vec<u8> {
        let [high, low] = self.host_port.to_be_bytes();
        vec![TCP, 0, 0, 0, high, low, 0, 0]
    }

    fn changes(&self, with_data: bool) -> [Vec<u8>; 3] {
        let pod = self.pod.octets();
        let [high, low] = self.pod_port.to_be_bytes();
        let mut mapping = vec![(NFTA_SET_ELEM_KEY, self.port())];
        if with_data {
            mapping.push((NFTA_SET_ELEM_DATA, [pod, [high, low, 0, 0]].concat()));
        }
        [
            self.elements("hostports", &mapping),
            self.elements("local_clients", &[(NFTA_SET_ELEM_KEY, pod.to_vec())]),
            self.elements("hairpin", &[(NFTA_SET_ELEM_KEY, [pod, pod].concat())]),
        ]
    }

    /// `struct nfgenmsg` and a list of one element.
    fn elements(&self, set: &str, element: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let (mut message, mut list, mut parts) = (vec![AF_INET, 0, 0, 0], Vec::new(), Vec::new());
        for (kind, value) in element {
            let mut data = Vec::new();
            attribute(&mut data, 1, value); // NFTA_DATA_VALUE
            attribute(&mut parts, *kind, &data);
        }
        attribute(&mut list, 1, &parts); // NFTA_LIST_ELEM
        attribute(&mut message, 1, &terminated(self.table)); // NFTA_SET_ELEM_LIST_TABLE
        attribute(&mut message, 2, &terminated(set)); // NFTA_SET_ELEM_LIST_SET
        attribute(&mut message, 3, &list); // NFTA_SET_ELEM_LIST_ELEMENTS
        message
    }
}

impl Netlink {
    /// All or nothing; the last one is acknowledged, and whatever the kernel refuses.
    fn transaction(&mut self, kind: u16, flags: u16, payloads: &[Vec<u8>]) -> Result<()> {
        let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
        let frame = vec![0, 0, high, low];
        let mut bytes = Vec::new();
        let mut push = |kind: u16, flags: u16, payload: &[u8]| -> Result<u32> {
            self.sequence += 1;
            bytes.extend(u32::try_from(16 + payload.len())?.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend((REQUEST | flags).to_ne_bytes());
            bytes.extend(self.sequence.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(payload);
            Ok(self.sequence)
        };
        push(NFNL_MSG_BATCH_BEGIN, 0, &frame)?;
        let mut last = 0;
        for (at, payload) in payloads.iter().enumerate() {
            let ack = if at + 1 == payloads.len() { ACK } else { 0 };
            last = push(kind, flags | ack, payload)?;
        }
        push(NFNL_MSG_BATCH_END, 0, &frame)?;
        self.socket.send(&bytes, 0)?;
        let mut buffer = Vec::with_capacity(4096);
        loop {
            buffer.clear();
            self.socket.recv(&mut buffer, 0)?;
            if u16::from_ne_bytes([buffer[4], buffer[5]]) != NLMSG_ERROR {
                continue;
            }
            match u32_at(&buffer, 16).cast_signed() {
                0 if u32_at(&buffer, 8) == last => return Ok(()),
                0 => {}
                errno => return Err(io::Error::from_raw_os_error(-errno).into()),
            }
        }
    }
}
