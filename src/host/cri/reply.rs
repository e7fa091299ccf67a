//! What comes back of a gRPC call, frame by frame. Nothing but frames in and an answer out.
//!
//! Pure.

use super::frame::{self, Frame};
use super::{Reason, garbage, hpack};

/// No runtime has more to say about itself, its whole configuration and every network included; what does not end is no
/// answer. A byte of it can become forty in memory.
pub(super) const ROOM: u32 = 1 << 20;

/// Of all its headers. gRPC's own limit for a peer (`max_header_list_size`) is 8 KiB in C and 16 MiB in Go; what is read
/// here is a number and a sentence.
const HEADERS: usize = 64 << 10;

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Message(Vec<u8>),
    /// gRPC's status, which is not zero, and its message.
    Refusal {
        code: u32,
        message: String,
    },
}

/// What has come of an answer.
#[derive(Debug, Default)]
pub(super) struct Reply {
    body: Vec<u8>,
    /// Bytes of header blocks so far.
    headers: usize,
    /// A header block until it is complete.
    block: Vec<u8>,
    fields: Vec<hpack::Field>,
    ended: bool,
    /// The block that is being received is the last thing.
    last: bool,
}

impl Reply {
    pub(super) fn is_complete(&self) -> bool {
        self.ended
    }

    pub(super) fn add(&mut self, frame: &Frame) -> Result<(), Reason> {
        let content = frame.content().ok_or_else(|| garbage("a frame of it is shorter than its padding"))?;
        match frame.kind {
            frame::DATA => {
                self.body.extend_from_slice(content);
                self.ended = frame.is(frame::END_STREAM);
            }
            frame::HEADERS | frame::CONTINUATION => {
                self.headers += content.len();
                if self.headers > HEADERS {
                    return Err(garbage("its headers do not end"));
                }
                self.block.extend_from_slice(content);
                self.last |= frame.kind == frame::HEADERS && frame.is(frame::END_STREAM);
                if frame.is(frame::END_HEADERS) {
                    let block = std::mem::take(&mut self.block);
                    let fields =
                        hpack::fields(&block).map_err(|_| garbage("a header of it makes no sense"))?;
                    self.fields.extend(fields);
                    self.ended = self.last;
                }
            }
            frame::RST_STREAM => return Err(garbage("it breaks the call off (RST_STREAM)")),
            _ => {}
        }
        if self.body.len() > ROOM as usize {
            return Err(garbage("its answer does not end"));
        }
        Ok(())
    }

    pub(super) fn answer(self) -> Result<Answer, Reason> {
        let field = |name: &str| self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value);
        let code = field("grpc-status").ok_or_else(|| garbage("its answer has no gRPC status"))?;
        let code: u32 = code.parse().map_err(|_| garbage("its gRPC status is no number"))?;
        if code != 0 {
            let message = field("grpc-message").map(|text| percent_decoded(text)).unwrap_or_default();
            return Ok(Answer::Refusal { code, message });
        }
        // One byte for "not compressed", four for the length.
        let Some(([compressed, length @ ..], message)) = self.body.split_first_chunk::<5>() else {
            return Err(garbage("its answer is empty"));
        };
        let length = u32::from_be_bytes(*length) as usize;
        if *compressed != 0 || length != message.len() {
            return Err(garbage("its answer is not one message"));
        }
        Ok(Answer::Message(message.to_vec()))
    }
}

/// `grpc-message` has bytes outside printable ASCII, and the percent sign, as `%XX`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.filter(|_| *first == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Frame {
        Frame { kind, flags, stream: 1, payload: payload.to_vec() }
    }

    /// A literal field without compression.
    fn field(name: &str, value: &str) -> Vec<u8> {
        let part = |text: &str| [&[u8::try_from(text.len()).unwrap()][..], text.as_bytes()].concat();
        [vec![0], part(name), part(value)].concat()
    }

    fn of(frames: &[Frame]) -> Result<Answer, Reason> {
        let mut reply = Reply::default();
        for (place, frame) in frames.iter().enumerate() {
            assert!(!reply.is_complete(), "frame {place} comes too late");
            reply.add(frame)?;
        }
        assert!(reply.is_complete());
        reply.answer()
    }

    const END: u8 = frame::END_STREAM | frame::END_HEADERS;

    #[test]
    fn a_message_may_come_in_pieces() {
        let trailers = field("grpc-status", "0");
        let (first, second) = trailers.split_at(4);
        let answer = of(&[
            frame(frame::HEADERS, frame::END_HEADERS, &[0x88]),
            frame(frame::DATA, 0, &[0, 0, 0, 0]),
            frame(frame::DATA, 0, b"\x05he"),
            frame(frame::WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
            frame(frame::DATA, 0, b"llo"),
            frame(frame::HEADERS, frame::END_STREAM, first),
            frame(frame::CONTINUATION, frame::END_HEADERS, second),
        ]);
        assert_eq!(answer, Ok(Answer::Message(b"hello".to_vec())));
    }

    #[test]
    fn a_refusal_has_a_code_and_words() {
        let block = [field("grpc-status", "13"), field("grpc-message", "50%25 of %22it%22%2")].concat();
        let answer = of(&[frame(frame::HEADERS, END, &block)]);
        assert_eq!(answer, Ok(Answer::Refusal { code: 13, message: "50% of \"it\"%2".into() }));
        let bare = of(&[frame(frame::HEADERS, END, &field("grpc-status", "12"))]);
        assert_eq!(bare, Ok(Answer::Refusal { code: 12, message: String::new() }));
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        let fine = || frame(frame::HEADERS, END, &field("grpc-status", "0"));
        let data = |bytes: &[u8]| frame(frame::DATA, 0, bytes);
        for (frames, what) in [
            (vec![frame(frame::HEADERS, END, &[0x88])], "its answer has no gRPC status"),
            (vec![frame(frame::HEADERS, END, &field("grpc-status", "x"))], "its gRPC status is no number"),
            (vec![fine()], "its answer is empty"),
            (vec![data(&[0, 0, 0]), fine()], "its answer is empty"),
            (vec![data(b"\0\0\0\0\x02a"), fine()], "its answer is not one message"),
            (vec![data(b"\x01\0\0\0\x01a"), fine()], "its answer is not one message"),
            (vec![frame(frame::HEADERS, END, &[0])], "a header of it makes no sense"),
            (vec![frame(frame::RST_STREAM, 0, &[0; 4])], "it breaks the call off (RST_STREAM)"),
            (vec![frame(frame::DATA, 0x8, &[9, 1])], "a frame of it is shorter than its padding"),
        ] {
            assert_eq!(of(&frames), Err(garbage(what)));
        }
        let mut reply = Reply::default();
        let endless = data(&vec![0; frame::MOST]);
        let refused = (0..=ROOM as usize / frame::MOST).find_map(|_| reply.add(&endless).err());
        assert_eq!(refused, Some(garbage("its answer does not end")));

        // One block that goes on, and one block after the other.
        for flags in [0, frame::END_HEADERS] {
            let mut reply = Reply::default();
            let endless = frame(frame::CONTINUATION, flags, &[0; 3 * 1024]);
            let refused = (0..=HEADERS / (3 * 1024)).find_map(|_| reply.add(&endless).err());
            assert_eq!(refused, Some(garbage("its headers do not end")));
            let kept = reply.fields.capacity() * size_of::<hpack::Field>();
            assert!(kept <= 64 * HEADERS, "{kept} bytes of fields");
        }
    }

    proptest! {
        #[test]
        fn no_frames_make_reading_panic(
            frames in proptest::collection::vec((0u8..10, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..24)), 0..8),
        ) {
            let mut reply = Reply::default();
            let fine = frames.iter().all(|(kind, flags, payload)| reply.add(&frame(*kind, *flags, payload)).is_ok());
            if fine {
                let _ = reply.answer();
            }
        }

        #[test]
        fn any_words_can_be_read(text in ".{0,20}(%[0-9a-f%]{0,3}){0,4}") {
            let _ = percent_decoded(&text);
        }
    }
}
