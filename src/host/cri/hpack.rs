//! Header fields as HTTP/2 carries them (RFC 7541), as far as one gRPC call needs it.
//!
//! We ask the peer for a table of size zero, so that every field that is not in the static table comes as a literal; fields
//! that come as a reference are passed over, gRPC's own (`grpc-status`, `grpc-message`) are never among them. Nothing but
//! bytes in and values out.
//!
//! Pure.

/// Not a header block that may answer us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Name and value of what was sent as a literal with a literal name.
pub(super) type Field = (String, String);

/// Entries of the static table (RFC 7541, appendix A).
const METHOD_POST: u64 = 3;
const SCHEME_HTTP: u64 = 6;
const AUTHORITY: u64 = 1;
const PATH: u64 = 4;
const CONTENT_TYPE: u64 = 31;

/// The header of a gRPC request (gRPC over HTTP2, "Requests").
pub(super) fn request(path: &str) -> Vec<u8> {
    let mut block = Vec::new();
    put_integer(&mut block, 0x80, 7, METHOD_POST);
    put_integer(&mut block, 0x80, 7, SCHEME_HTTP);
    for (name, value) in [(PATH, path), (AUTHORITY, "localhost"), (CONTENT_TYPE, "application/grpc")] {
        put_integer(&mut block, 0, 4, name);
        put_text(&mut block, value);
    }
    block.push(0);
    put_text(&mut block, "te");
    put_text(&mut block, "trailers");
    block
}

fn put_integer(block: &mut Vec<u8>, marks: u8, prefix: u32, value: u64) {
    let most = (1 << prefix) - 1;
    let byte = |value: u64| value.to_le_bytes()[0];
    if value < most {
        return block.push(marks | byte(value));
    }
    block.push(marks | byte(most));
    let mut rest = value - most;
    while rest >= 0x80 {
        block.push(byte(rest & 0x7f | 0x80));
        rest >>= 7;
    }
    block.push(byte(rest));
}

/// As it is: compressing it is the sender's choice.
fn put_text(block: &mut Vec<u8>, text: &str) {
    put_integer(block, 0, 7, text.len() as u64);
    block.extend_from_slice(text.as_bytes());
}

/// The literal fields of a header block.
pub(super) fn fields(block: &[u8]) -> Result<Vec<Field>, Malformed> {
    let mut rest = block;
    let mut fields = Vec::new();
    while let Some(first) = rest.first().copied() {
        if first & 0x80 != 0 {
            integer(&mut rest, 7)?;
            continue;
        }
        if first & 0xe0 == 0x20 {
            // The size of the table that we do not keep.
            integer(&mut rest, 5)?;
            continue;
        }
        // With a place in the table, without, and never with one.
        let prefix = if first & 0x40 == 0 { 4 } else { 6 };
        let name = match integer(&mut rest, prefix)? {
            0 => Some(text(&mut rest)?),
            _ => None,
        };
        let value = text(&mut rest)?;
        fields.extend(name.map(|name| (name, value)));
    }
    Ok(fields)
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, after) = rest.split_at_checked(length).ok_or(Malformed)?;
    *rest = after;
    Ok(taken)
}

fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, Malformed> {
    let most = (1 << prefix) - 1;
    let mut value = usize::from(take(rest, 1)?[0]) & most;
    if value < most {
        return Ok(value);
    }
    // Nothing of ours is longer than 21 bits.
    for shift in [0, 7, 14] {
        let byte = usize::from(take(rest, 1)?[0]);
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

fn text(rest: &mut &[u8]) -> Result<String, Malformed> {
    let compressed = rest.first().ok_or(Malformed)? & 0x80 != 0;
    let length = integer(rest, 7)?;
    let bytes = take(rest, length)?;
    let bytes = if compressed { expand(bytes)? } else { bytes.to_vec() };
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The code of RFC 7541, appendix B, is canonical: codes of one length follow each other in the order of their bytes, and
/// the first of a length follows the last of the one before. Lengths in bits, with their bytes. What is longer is no
/// printable character, and gRPC has others percent-encoded.
const CODE: [(u32, &[u8]); 11] = [
    (5, b"012aceiost"),
    (6, b" %-./3456789=A_bdfghlmnpru"),
    (7, b":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (8, b"&*,;XZ"),
    (10, b"!\"()?"),
    (11, b"'+|"),
    (12, b"#>"),
    (13, b"\0$@[]~"),
    (14, b"^}"),
    (15, b"<`{"),
    (19, b"\\\xc3\xd0"),
];

fn expand(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut text = Vec::new();
    let (mut code, mut length) = (0u32, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |place| byte >> place & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        if let Some(byte) = decoded(code, length) {
            text.push(byte);
            (code, length) = (0, 0);
        } else if length >= 19 {
            return Err(Malformed);
        }
    }
    // What is left fills the last byte with ones.
    let filled = length < 8 && code == (1 << length) - 1;
    if filled { Ok(text) } else { Err(Malformed) }
}

fn decoded(code: u32, length: u32) -> Option<u8> {
    let mut first = 0u32;
    let mut before = 0;
    for (bits, bytes) in CODE {
        first <<= bits - before;
        before = bits;
        if bits == length {
            return bytes.get(usize::try_from(code.checked_sub(first)?).ok()?).copied();
        }
        first += u32::try_from(bytes.len()).ok()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: String = hex.split_whitespace().collect();
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    #[test]
    fn compressed_text_of_the_specification_is_read() {
        // RFC 7541, C.4 and C.6.
        for (hex, text) in [
            ("f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"),
            ("a8eb 1064 9cbf", "no-cache"),
            ("25a8 49e9 5bb8 e8b4 bf", "custom-value"),
            ("d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            ("9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3", "https://www.example.com"),
            (
                "94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed \
                 4ee5 b106 3d50 07",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
        ] {
            assert_eq!(expand(&bytes(hex)).unwrap(), text.as_bytes(), "{text}");
        }
    }

    #[test]
    fn every_printable_character_has_a_code() {
        let mut printable: Vec<u8> = CODE.iter().flat_map(|(_, bytes)| *bytes).copied().collect();
        printable.retain(|byte| (b' '..=b'~').contains(byte));
        printable.sort_unstable();
        assert_eq!(printable, (b' '..=b'~').collect::<Vec<_>>());
    }

    #[test]
    fn an_answer_of_containerd_1_6_is_read() {
        let block = bytes(
            "20 88 0f10 8b 1d75d0620d263d4c4d6564 00 88 9acac8b21234da8f 02 3132 00 89 9acac8b5254207317f \
             9e b6aeb51fc54a20b677310aa596d4935255fb857db6d493525dc5b3b9885f",
        );
        let expected = [
            ("grpc-status".to_owned(), "12".to_owned()),
            ("grpc-message".to_owned(), "unknown service runtime.v1.RuntimeService".to_owned()),
        ];
        assert_eq!(fields(&block), Ok(expected.to_vec()));
    }

    #[test]
    fn every_way_to_send_a_field_is_understood() {
        // Indexed, with a place in the table, never with one, with an indexed name, without compression (RFC 7541, C.2).
        let block =
            [
                &bytes("82 400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")[..],
                &bytes(
                    "1008 7061 7373 776f 7264 0673 6563 7265 74 040c 2f73 616d 706c 652f 7061 7468 3fe1 1f",
                )[..],
            ]
            .concat();
        let expected = [("custom-key", "custom-header"), ("password", "secret")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(fields(&block), Ok(expected.to_vec()));
    }

    #[test]
    fn nonsense_is_refused() {
        for hex in
            ["00", "0001", "00 01 61", "00 7f ffffffff", "ff ffff ff", "00 01 61 81 00", "00 01 61 83 ffffff"]
        {
            assert_eq!(fields(&bytes(hex)), Err(Malformed), "{hex}");
        }
        assert_eq!(fields(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_we_send_can_be_read_back() {
        let path = format!("/{}", "x".repeat(300));
        let block = request(&path);
        assert_eq!(fields(&block), Ok(vec![("te".to_owned(), "trailers".to_owned())]));
        let mut rest = &block[2..];
        assert_eq!(integer(&mut rest, 4), Ok(4));
        assert_eq!(text(&mut rest), Ok(path));
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = fields(&bytes);
            let _ = expand(&bytes);
        }

        #[test]
        fn integers_survive_the_wire(value in 0usize..(1 << 20), prefix in 4u32..8) {
            let mut bytes = Vec::new();
            put_integer(&mut bytes, 0, prefix, value as u64);
            prop_assert_eq!(integer(&mut &bytes[..], prefix), Ok(value));
        }
    }
}
