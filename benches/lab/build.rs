//! What is measured, built as it ships, and a place for it.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::Result;

pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The binary that ships. What cargo builds for a bench is not that: it ignores `panic = "abort"` and takes another C library.
pub(crate) fn binary() -> Result<PathBuf> {
    let architecture = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "arm" => "armv7",
        other => {
            return Err(format!("image/build-binary does not know {other}; --ours names a binary").into());
        }
    };
    let out = repository().join("target/bench/smarter-cni");
    let status = Command::new(repository().join("image/build-binary"))
        .arg(architecture)
        .arg(&out)
        .status()
        .map_err(|error| format!("image/build-binary: {error}"))?;
    if status.success() { Ok(out) } else { Err(format!("image/build-binary failed ({status})").into()) }
}

/// On a disk where the repository is, and gone with its owner.
pub(crate) fn directory() -> Result<TempDir> {
    let target = repository().join("target");
    fs::create_dir_all(&target)?;
    Ok(tempfile::Builder::new().prefix("bench-").tempdir_in(target)?)
}
