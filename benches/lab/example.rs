//! Programs of this repository that only benches start.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Result;
use crate::build::repository;

/// Optimised, unless this very program was built to be tried and not to measure.
pub(crate) fn build(name: &str) -> Result<PathBuf> {
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
