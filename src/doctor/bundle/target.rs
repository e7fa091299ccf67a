//! Where a bundle goes: a new file, in place of an earlier bundle, or standard output. Refuses everything else that may
//! stand there, because whoever runs this is root and may have mistyped.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::file;
use crate::host::place;

/// It names pods, addresses and paths: nobody else's business.
const MODE: u32 = 0o600;

/// The beginning of the name of every file in a bundle.
pub(super) const NAME: &str = "smarter-cni-";

/// Whether a bundle may be put there.
pub(super) fn judge(path: &Path) -> Result<(), String> {
    let place = path.display();
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("{place}: {error}")),
    };
    if !found.is_file() {
        return Err(format!("{place} is no plain file; take another name, or - for standard output"));
    }
    match is_bundle(path) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(format!("{place} is there and is no bundle of this program; take another name, or remove it"))
        }
        Err(error) => Err(format!("{place}: {error}")),
    }
}

/// By the first name in it and the word that every ustar archive has (pax(1)).
fn is_bundle(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    file::open(path)?.take(512).read_to_end(&mut head)?;
    Ok(head.len() == 512 && head.starts_with(NAME.as_bytes()) && &head[257..262] == b"ustar")
}

/// Complete under its name, or not at all.
pub(super) fn put(path: &Path, archive: &[u8]) -> io::Result<()> {
    place::file(path, MODE, &mut &*archive, |_| Ok(()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_a_new_name_or_an_earlier_bundle_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let mut bundle = vec![0; 1024];
        bundle[..12].copy_from_slice(b"smarter-cni-");
        bundle[257..262].copy_from_slice(b"ustar");
        fs::write(at("bundle.tar"), &bundle).unwrap();
        fs::write(at("diary.txt"), "dear").unwrap();
        fs::write(at("empty"), "").unwrap();
        symlink(at("bundle.tar"), at("link")).unwrap();
        assert_eq!(judge(&at("new.tar")), Ok(()));
        assert_eq!(judge(&at("bundle.tar")), Ok(()));
        for (name, why) in [
            ("diary.txt", "is no bundle"),
            ("empty", "is no bundle"),
            ("link", "is no plain file"),
            (".", "is no plain file"),
            ("diary.txt/x", "Not a directory"),
        ] {
            let error = judge(&at(name)).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert!(judge(Path::new("/dev/full")).unwrap_err().contains("- for standard output"));
    }
}
