//! Where the node's name server answers instead of at port 53: `/run/smarter-cni/dns.fallback`, one address with its port
//! a line.
//!
//! Written by the server while somebody else has port 53, and gone when nobody has. It may change no rules; whoever may
//! finds here what to lead where, and hears of the file as soon as it changes. Only what it says: whether somebody listens
//! there is asked of the kernel.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;

use super::directory::Directory;
use super::error::Result;

/// In the directory of the records.
pub const FILE: &str = "dns.fallback";
const TEMPORARY: &str = ".dns.fallback.new";
/// A node has a handful of networks.
const LONGEST: usize = 8 * 1024;

/// Says where; nothing where there is nothing to say.
pub fn write(directory: &Path, at: &[SocketAddrV4]) -> Result<()> {
    if at.is_empty() {
        return match Directory::existing(directory)? {
            Some(directory) => directory.remove(FILE).map(drop),
            None => Ok(()),
        };
    }
    let lines: Vec<String> = at.iter().map(SocketAddrV4::to_string).collect();
    let text = lines.join("\n");
    Directory::create(directory, 0o700)?.replace(FILE, TEMPORARY, text.as_bytes())
}

/// The port of each address. A file with a line that makes no sense says nothing.
pub fn read(directory: &Path) -> Result<BTreeMap<Ipv4Addr, u16>> {
    let bytes = match Directory::existing(directory)? {
        Some(directory) => directory.read_up_to(FILE, LONGEST)?.unwrap_or_default(),
        None => Vec::new(),
    };
    Ok(parse(&bytes).unwrap_or_default())
}

fn parse(bytes: &[u8]) -> Option<BTreeMap<Ipv4Addr, u16>> {
    let line = |line: &str| {
        let at: SocketAddrV4 = line.parse().ok()?;
        (at.port() != 0).then_some((*at.ip(), at.port()))
    };
    std::str::from_utf8(bytes).ok()?.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_read_and_taken_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("smarter-cni");
        assert_eq!(read(&path).unwrap(), BTreeMap::new());
        write(&path, &[]).unwrap();
        let at: [SocketAddrV4; 2] = ["169.254.0.2:9053".parse().unwrap(), "10.38.0.1:9053".parse().unwrap()];
        write(&path, &at).unwrap();
        let said: Vec<_> = read(&path).unwrap().into_iter().collect();
        assert_eq!(said, [(*at[1].ip(), 9053), (*at[0].ip(), 9053)]);
        write(&path, &[]).unwrap();
        assert!(read(&path).unwrap().is_empty() && !path.join(FILE).exists());
    }

    #[test]
    fn a_file_that_makes_no_sense_says_nothing() {
        for text in [
            "169.254.0.2:9053\n169.254.0.2\n",
            "169.254.0.2:0\n",
            "[fd00::1]:9053\n",
            "\u{fffd}\n",
            "169.254.0.2:99999\n",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse(b"\xff\n"), None);
        assert_eq!(parse(b""), Some(BTreeMap::new()));
    }
}
