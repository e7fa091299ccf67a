//! Messages of netlink, written and read byte by byte.

use std::io;

use super::Result;

// linux/netlink.h
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const REQUEST: u16 = 0x1;
pub(super) const ACK: u16 = 0x4;
pub(super) const DUMP: u16 = 0x300;
pub(super) const REPLACE: u16 = 0x100;
pub(super) const EXCL: u16 = 0x200;
pub(super) const CREATE: u16 = 0x400;

pub(super) struct Netlink {
    pub(super) socket: netlink_sys::Socket,
    pub(super) sequence: u32,
}

impl Netlink {
    pub(super) fn open(protocol: isize) -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(protocol)?;
        socket.bind_auto()?;
        // Without it the kernel ignores the filters of a dump.
        let _ = socket.set_netlink_get_strict_chk(true);
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one message and reads to its acknowledgement, its only answer or the end of its dump. Returns the first answer.
    pub(super) fn ask(&mut self, kind: u16, flags: u16, payload: &[u8]) -> Result<Vec<u8>> {
        self.sequence += 1;
        let mut message = Vec::with_capacity(16 + payload.len());
        message.extend(u32::try_from(16 + payload.len())?.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST | flags).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(payload);
        self.socket.send(&message, 0)?;
        let (mut answer, mut buffer) = (Vec::new(), Vec::with_capacity(32 * 1024));
        loop {
            buffer.clear();
            self.socket.recv(&mut buffer, 0)?;
            let mut rest = buffer.as_slice();
            while rest.len() >= 16 {
                let length = usize::try_from(u32_at(rest, 0))?;
                let payload = &rest[16..length];
                match u16::from_ne_bytes([rest[4], rest[5]]) {
                    NLMSG_ERROR | NLMSG_DONE => match u32_at(payload, 0).cast_signed() {
                        0 => return Ok(answer),
                        errno => {
                            return Err(
                                format!("message {kind}: {}", io::Error::from_raw_os_error(-errno)).into()
                            );
                        }
                    },
                    _ if answer.is_empty() => answer = payload.to_vec(),
                    _ => {}
                }
                if flags & (ACK | DUMP) == 0 {
                    return Ok(answer);
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

pub(super) fn terminated(text: &str) -> Vec<u8> {
    [text.as_bytes(), &[0]].concat()
}

pub(super) fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("attributes here are short");
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
