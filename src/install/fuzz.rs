//! What fuzz targets reach of this room: its readers of files.

use super::installation::Installation;
use super::observe;

/// Somebody's configuration. Drained, it is for the same network and the same plugins.
pub fn configuration(bytes: &[u8]) {
    let content = observe::content(bytes);
    if let Some(drained) = crate::conflist::drained(bytes) {
        assert_eq!(content, observe::content(drained.to_string().as_bytes()));
    }
}

/// What an installation wrote down. What was read is written so that it reads the same.
pub fn installation(bytes: &[u8]) {
    if let Ok(read) = Installation::parse(bytes) {
        let again = Installation::parse(&read.render()).expect("what it wrote itself");
        assert_eq!(Installation { version: read.version, ..again }, read);
    }
}
