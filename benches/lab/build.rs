//! The programs of this repository that are measured or that measure, built as they are to be used.

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

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

/// An example of this package: optimised, unless this very program was built to be tried and not to measure.
pub(crate) fn example(name: &str) -> Result<PathBuf> {
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--example", name, "--message-format=json-render-diagnostics"])
        .args(if cfg!(debug_assertions) { &[][..] } else { &["--release"] })
        .current_dir(repository())
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(cargo.stdout)?;
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let built = messages
        .filter(|m| m["target"]["name"] == name)
        .find_map(|m| m["executable"].as_str().map(PathBuf::from));
    built.ok_or_else(|| format!("cargo did not build {name} ({})", cargo.status).into())
}
