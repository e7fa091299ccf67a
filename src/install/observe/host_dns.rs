//! What stands where files of ours for the node's own resolvers would.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{failed, leftovers_in, missing};
use crate::file;
use crate::host::root::Root;
use crate::install::apply::here;
use crate::install::have::ResolverFile;
use crate::install::host_dns::{Reader, Standing};

pub(super) fn files(root: &Root, leftovers: &mut Vec<PathBuf>) -> Result<Vec<ResolverFile>, String> {
    let mut files = Vec::new();
    for reader in Reader::ALL {
        let path = reader.path();
        let standing = standing(root, path).map_err(failed(path))?;
        let directory = path.parent().unwrap_or(Path::new("/"));
        leftovers_in(root, directory, leftovers)?;
        files.push(ResolverFile { reader, missing: missing(root, directory), standing });
    }
    Ok(files)
}

/// Links are not followed: whoever put one there meant something by it, and it is not ours.
fn standing(root: &Root, path: &Path) -> io::Result<Standing> {
    let here = here(root, path)?;
    match fs::symlink_metadata(&here) {
        Ok(metadata) if metadata.is_symlink() => return Ok(Standing::Foreign("somebody else's link")),
        Ok(metadata) if !metadata.is_file() => return Ok(Standing::Foreign("no plain file")),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Standing::Absent);
        }
        Err(error) => return Err(error),
    }
    match file::bytes(&here, file::MOST) {
        Ok(bytes) => Ok(Standing::of(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Standing::Absent),
        Err(error) if file::is_no_file_of_ours(&error) => Ok(Standing::Foreign("somebody else's")),
        Err(error) => Err(error),
    }
}
