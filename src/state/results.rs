//! libcni's cache of results: which of its files nobody can read any more.
//!
//! Older runtimes fail on such a file before they call any plugin, for ever: the pod cannot be deleted (containerd issue
//! 8197). Reads only; what a whole file says of its pod is [`super::holders`]' business.

use std::fs;
use std::io;
use std::path::Path;

use crate::file;

/// Names of files in `directory` ([`super::holders::LIBCNI_RESULTS`] on a node) that are results of `network` and no
/// JSON object, sorted.
pub fn damaged(directory: &Path, network: &str) -> io::Result<Vec<String>> {
    let mut damaged = Vec::new();
    for name in names(directory)?.into_iter().filter(|name| is_of_network(name, network)) {
        match file::bytes(&directory.join(&name), file::MOST) {
            Ok(bytes) if !is_object(&bytes) => damaged.push(name),
            Ok(_) => {}
            Err(error) => match error.kind() {
                // A pipe there would hold the runtime up, too.
                io::ErrorKind::InvalidInput => damaged.push(name),
                // Nobody can say what is wrong with these.
                io::ErrorKind::NotFound | io::ErrorKind::FileTooLarge | io::ErrorKind::IsADirectory => {}
                _ => return Err(error),
            },
        }
    }
    Ok(damaged)
}

fn names(directory: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok()));
    let mut names: Vec<String> = names.filter_map(io::Result::transpose).collect::<io::Result<_>>()?;
    names.sort();
    Ok(names)
}

fn is_object(bytes: &[u8]) -> bool {
    serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(bytes).is_ok()
}

/// `<network>-<container>-<interface>`, where the damaged file cannot say itself whose it is: names of other networks that
/// begin like ours have one more dash.
fn is_of_network(name: &str, network: &str) -> bool {
    let rest = name.strip_prefix(network).and_then(|rest| rest.strip_prefix('-'));
    rest.is_some_and(|rest| rest.matches('-').count() == 1)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_results_of_our_network_are_looked_at() {
        assert!(is_of_network("smartnet-c0ffee-eth0", "smartnet"));
        for other in ["smartnet-edge-c0ffee-eth0", "smartnet2-c0ffee-eth0", "cbr0-c0ffee-eth0", "smartnet-x"]
        {
            assert!(!is_of_network(other, "smartnet"), "{other}");
        }
    }

    #[test]
    fn damaged_is_what_libcni_cannot_decode() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("smartnet-c1-eth0", r#"{"kind":"cniCacheV1"}"#),
            ("smartnet-c2-eth0", ""),
            ("smartnet-c3-eth0", r#"{"kind":"cniCa"#),
            ("cbr0-c4-eth0", ""),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let found = damaged(directory.path(), "smartnet").unwrap();
        assert_eq!(found, ["smartnet-c2-eth0", "smartnet-c3-eth0"]);

        let at = |name: &str| directory.path().join(name);
        mknodat(CWD, at("smartnet-c5-eth0"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        symlink("/dev/zero", at("smartnet-c6-eth0")).unwrap();
        fs::File::create(at("smartnet-c7-eth0")).unwrap().set_len(1 << 40).unwrap();
        fs::create_dir(at("smartnet-c8-eth0")).unwrap();
        let found = damaged(directory.path(), "smartnet").unwrap();
        assert_eq!(found[2..], ["smartnet-c5-eth0", "smartnet-c6-eth0"], "no plain files");
        assert_eq!(damaged(&directory.path().join("none"), "smartnet").unwrap(), Vec::<String>::new());
    }
}
