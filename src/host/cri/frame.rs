//! Frames of HTTP/2 (RFC 9113), as far as one gRPC call needs them. Nothing but bytes in and values out.
//!
//! Pure.

/// What a client says first.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes of every frame's head.
pub(super) const HEAD: usize = 9;

/// The most that a frame to us may have: we do not ask for more than the initial value.
pub(super) const MOST: usize = 16_384;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 0x1;
pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Settings of ours: no table for header compression, no pushed streams, room for a whole answer.
const SETTING_TABLE: u16 = 1;
const SETTING_PUSH: u16 = 2;
const SETTING_WINDOW: u16 = 4;
/// What a connection may carry to us before we make room.
const INITIAL_WINDOW: u32 = 65_535;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Head {
    pub(super) fn parse(bytes: [u8; HEAD]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        // The highest bit is reserved.
        let stream = u32::from_be_bytes(stream) & 0x7fff_ffff;
        Self { length: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c), kind, flags, stream }
    }
}

impl Frame {
    pub(super) fn is(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What it carries, without padding and priority. `None` when they are longer than the frame.
    pub(super) fn content(&self) -> Option<&[u8]> {
        let mut content = &self.payload[..];
        let mut padding = 0;
        if self.is(PADDED) {
            let (first, rest) = content.split_first()?;
            (padding, content) = (usize::from(*first), rest);
        }
        if self.kind == HEADERS && self.is(PRIORITY) {
            content = content.get(5..)?;
        }
        content.get(..content.len().checked_sub(padding)?)
    }
}

/// A frame as it is sent.
pub(super) fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, length @ ..] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Preface, settings and room for answers of up to `room` bytes.
pub(super) fn opening(room: u32) -> Vec<u8> {
    let setting = |id: u16, value: u32| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    let settings = [setting(SETTING_TABLE, 0), setting(SETTING_PUSH, 0), setting(SETTING_WINDOW, room)];
    let more = (room - INITIAL_WINDOW).to_be_bytes();
    [PREFACE, &encode(SETTINGS, 0, 0, &settings.concat()), &encode(WINDOW_UPDATE, 0, 0, &more)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Frame {
        Frame { kind, flags, stream: 1, payload: payload.to_vec() }
    }

    #[test]
    fn a_frame_that_is_sent_can_be_read() {
        let bytes = encode(DATA, END_STREAM, 3, b"text");
        let head = Head::parse(bytes[..HEAD].try_into().unwrap());
        assert_eq!(head, Head { length: 4, kind: DATA, flags: END_STREAM, stream: 3 });
        assert_eq!(&bytes[HEAD..], b"text");
        let reserved = [0x12, 0x34, 0x56, 1, 4, 0x80, 0, 0, 1];
        assert_eq!(Head::parse(reserved), Head { length: 0x12_3456, kind: 1, flags: 4, stream: 1 });
    }

    #[test]
    fn padding_and_priority_are_no_content() {
        assert_eq!(frame(DATA, 0, b"abc").content(), Some(&b"abc"[..]));
        assert_eq!(frame(DATA, PADDED, b"\x02abc\0\0").content(), Some(&b"abc"[..]));
        assert_eq!(frame(HEADERS, PRIORITY | PADDED, b"\x01\0\0\0\0\x10abc\0").content(), Some(&b"abc"[..]));
        // On DATA the flag has no meaning.
        assert_eq!(frame(DATA, PRIORITY, b"abcdef").content(), Some(&b"abcdef"[..]));
        assert_eq!(frame(DATA, PADDED, b"\x04abc").content(), None);
        assert_eq!(frame(DATA, PADDED, b"").content(), None);
        assert_eq!(frame(HEADERS, PRIORITY, b"abc").content(), None);
    }

    #[test]
    fn the_opening_makes_room_for_the_answer() {
        let opening = opening(1 << 20);
        let (preface, rest) = opening.split_at(PREFACE.len());
        assert_eq!(preface, PREFACE);
        assert_eq!(rest[..HEAD], [0, 0, 18, SETTINGS, 0, 0, 0, 0, 0]);
        assert_eq!(rest[HEAD..HEAD + 18], [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 4, 0, 16, 0, 0]);
        assert_eq!(rest[HEAD + 18..], [0, 0, 4, WINDOW_UPDATE, 0, 0, 0, 0, 0, 0, 0xf, 0, 1]);
    }
}
