//! What fuzz targets reach of this room: each reader of a text, without the tree of files around it.

use super::{containerd, crio, glob, options};

/// One file of containerd, alone and beside another one, of whatever version the program is.
pub fn containerd(text: &str, other: &str) {
    let files: Vec<_> = [text, other].iter().filter_map(|text| containerd::File::parse(text).ok()).collect();
    for builtin in [None, Some(2), Some(3)] {
        let _ = containerd::Effective::of(&files, builtin);
    }
}

/// Two files of CRI-O, one after the other. One that is refused changes nothing.
pub fn crio(text: &str, other: &str) {
    let mut effective = crio::Effective::default();
    for text in [text, other] {
        let before = effective.clone();
        if effective.add(text).is_err() {
            assert_eq!(effective, before);
        }
    }
    let _ = effective.plugin_dirs(Vec::new());
}

/// The options of k3s and rke2: a file and a unit; and the arguments of microk8s.
pub fn options(text: &str, other: &str) {
    let mut read = options::Options::default();
    read.add_file(text);
    read.add_unit(other);
    let _ = options::option(&options::words(text), "--address");
}

/// A pattern of imports against a name.
pub fn pattern(pattern: &[u8], name: &[u8]) {
    let _ = glob::matches(pattern, name);
}
