//! What a walk through the table of flows is asked for, and how that is said to the kernel. Pure.

use std::net::IpAddr;

use netlink_bindings::conntrack::{PushConntrackAttrs, PushTupleAttrs};
use netlink_bindings::utils::Pusher;

use super::{Tuple, generic};
use crate::net::Family;

/// What one walk through the table is asked for: all flows of a family, or those of them for which all of the rest holds.
/// Kernels before 5.8 answer with all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    pub family: Family,
    /// IANA number.
    pub protocol: Option<u8>,
    pub original: Sought,
    pub reply: Sought,
}

/// What is asked for of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sought {
    pub src: Option<IpAddr>,
    pub dst: Option<IpAddr>,
    /// Only together with a protocol.
    pub dst_port: Option<u16>,
}

impl Question {
    /// Every flow of the family, of the protocol if there is one.
    pub fn all(family: Family, protocol: Option<u8>) -> Self {
        Self { family, protocol, original: Sought::default(), reply: Sought::default() }
    }

    pub(super) fn fits(&self, original: &Tuple, reply: &Tuple) -> bool {
        self.protocol.is_none_or(|protocol| protocol == original.protocol)
            && self.original.fits(original)
            && self.reply.fits(reply)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // The kernel reads a port only of a protocol that it was told.
        let of_reply = self.protocol.filter(|_| self.reply.dst_port.is_some());
        let (original, reply) = (self.original.flags(self.protocol), self.reply.flags(of_reply));
        let mut attributes = PushConntrackAttrs::new(generic(self.family));
        if original != 0 {
            attributes = self.original.encode(attributes.nested_tuple_orig(), self.protocol).end_nested();
        }
        if reply != 0 {
            attributes = self.reply.encode(attributes.nested_tuple_reply(), of_reply).end_nested();
        }
        if original | reply != 0 {
            let mut filter = attributes.nested_filter();
            if original != 0 {
                filter = filter.push_orig_flags(original);
            }
            if reply != 0 {
                filter = filter.push_reply_flags(reply);
            }
            attributes = filter.end_nested();
        }
        attributes.end_nested()
    }
}

impl Sought {
    fn fits(&self, tuple: &Tuple) -> bool {
        self.src.is_none_or(|src| src == tuple.src)
            && self.dst.is_none_or(|dst| dst == tuple.dst)
            && self.dst_port.is_none_or(|port| tuple.dst_port == Some(port))
    }

    /// CTA_FILTER_F_CTA_…: bits of the kernel's own order, net/netfilter/nf_conntrack_netlink.c.
    fn flags(&self, protocol: Option<u8>) -> u32 {
        const SOURCE: u32 = 1;
        const DESTINATION: u32 = 1 << 1;
        const PROTOCOL: u32 = 1 << 3;
        const DST_PORT: u32 = 1 << 5;
        let flag = |asked: bool, flag: u32| if asked { flag } else { 0 };
        flag(self.src.is_some(), SOURCE)
            | flag(self.dst.is_some(), DESTINATION)
            | flag(protocol.is_some(), PROTOCOL)
            | flag(self.dst_port.is_some(), DST_PORT)
    }

    fn encode<Outer: Pusher>(
        &self,
        mut tuple: PushTupleAttrs<Outer>,
        protocol: Option<u8>,
    ) -> PushTupleAttrs<Outer> {
        if self.src.is_some() || self.dst.is_some() {
            let mut ip = tuple.nested_tuple_ip();
            for (address, source) in [(self.src, true), (self.dst, false)] {
                ip = match (address, source) {
                    (Some(IpAddr::V4(address)), true) => ip.push_ip_v4_src(address),
                    (Some(IpAddr::V4(address)), false) => ip.push_ip_v4_dst(address),
                    (Some(IpAddr::V6(address)), true) => ip.push_ip_v6_src(address),
                    (Some(IpAddr::V6(address)), false) => ip.push_ip_v6_dst(address),
                    (None, _) => ip,
                };
            }
            tuple = ip.end_nested();
        }
        if let Some(protocol) = protocol {
            let mut proto = tuple.nested_tuple_proto().push_proto_num(protocol);
            if let Some(port) = self.dst_port {
                proto = proto.push_proto_dst_port(port);
            }
            tuple = proto.end_nested();
        }
        tuple
    }
}
