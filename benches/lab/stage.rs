//! A contestant's programs as a node has them after an installation: real copies, written a moment ago, on a disk.
//!
//! How long ago and by whom a file was written decides more than the program in it: the kernel keeps what one write brought in
//! large pieces and what a linker wrote here and there page by page. The same binary attached a pod in 6.0 ms freshly copied,
//! and in 14.4 ms as the linker left it. So nobody runs from where it was built or unpacked.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Result;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stage {
    directory: PathBuf,
    /// Name there, and where it comes from.
    files: Vec<(String, PathBuf)>,
    /// Name there, and which of the files it is another name of.
    links: Vec<(String, String)>,
}

impl Stage {
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, files: Vec::new(), links: Vec::new() }
    }

    pub(crate) fn with_file(mut self, name: &str, from: PathBuf) -> Self {
        self.files.push((name.to_owned(), from));
        self
    }

    pub(crate) fn with_links(mut self, file: &str, names: &[&str]) -> Self {
        self.links.extend(names.iter().map(|name| ((*name).to_owned(), file.to_owned())));
        self
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What is there, without its other names.
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.files.iter().map(|(name, _)| self.file(name))
    }

    /// Copies everything once more, whatever was there.
    pub(crate) fn lay(&self) -> Result<()> {
        if self.directory.exists() {
            fs::remove_dir_all(&self.directory)?;
        }
        fs::create_dir_all(&self.directory)?;
        for (to, (_, from)) in self.files().zip(&self.files) {
            let copy = || -> Result<()> {
                // Not fs::copy: it may share the blocks, and the pages would be those of the original.
                fs::write(&to, fs::read(from)?)?;
                fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
                Ok(File::open(&to)?.sync_all()?)
            };
            copy().map_err(|error| format!("{} to {}: {error}", from.display(), to.display()))?;
        }
        for (name, file) in &self.links {
            symlink(file, self.file(name))?;
        }
        Ok(())
    }
}
