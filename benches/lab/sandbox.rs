//! A place where a bench can be root of networks nobody else is in: the program executes itself once more there.
//!
//! Everything that needs the machine (compilers, downloads) happens outside, before; what it made goes in as one value. /run
//! and /var/lib inside are memory and empty. It measures nothing.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use rustix::mount::{MountFlags, mount};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Result;

/// Set in the inner process to a [`Message`].
const INSIDE: &str = "SMARTER_CNI_BENCH";

#[derive(Serialize, Deserialize)]
struct Message<T> {
    /// The network that must not be the inner one: somebody may have exported the variable by hand.
    outside: String,
    task: T,
}

/// Runs `prepare` outside and `body` inside, and prints what that returned.
pub(crate) fn run<T: Serialize + DeserializeOwned>(
    namespaces: &[&str],
    prepare: impl FnOnce() -> Result<T>,
    body: impl FnOnce(&T) -> Result<String>,
) -> ExitCode {
    match run_either(namespaces, prepare, body) {
        Ok(report) => {
            let _ = io::stdout().write_all(report.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            note(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

/// Words for whoever waits; the report alone goes to standard output.
pub(crate) fn note(words: &str) {
    let _ = writeln!(io::stderr(), "bench: {words}");
}

#[expect(clippy::disallowed_methods, reason = "the re-executed bench is told so by its environment")]
fn run_either<T: Serialize + DeserializeOwned>(
    namespaces: &[&str],
    prepare: impl FnOnce() -> Result<T>,
    body: impl FnOnce(&T) -> Result<String>,
) -> Result<String> {
    let Some(text) = env::var_os(INSIDE) else {
        let task = prepare()?;
        return reexecute(namespaces, &Message { outside: identity()?, task });
    };
    let message: Message<T> = serde_json::from_slice(text.as_encoded_bytes())?;
    if message.outside == identity()? {
        return Err(format!("{INSIDE} is set, but this is no sandbox").into());
    }
    private_directories()?;
    body(&message.task)
}

fn reexecute<T: Serialize>(namespaces: &[&str], message: &Message<T>) -> Result<String> {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let run = unshare
        .args(namespaces)
        .arg(env::current_exe()?)
        .env(INSIDE, serde_json::to_string(message)?)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("unshare: {error}"))?;
    if !run.status.success() {
        return Err(format!("failed in its sandbox ({})", run.status).into());
    }
    Ok(String::from_utf8(run.stdout)?)
}

fn identity() -> Result<String> {
    let namespace = fs::metadata("/proc/thread-self/ns/net")?;
    Ok(format!("{}:{}", namespace.dev(), namespace.ino()))
}

fn private_directories() -> Result<()> {
    for dir in ["/run", "/var/run", "/var/lib"] {
        if !Path::new(dir).is_symlink() {
            mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")
                .map_err(|error| format!("tmpfs on {dir}: {error}"))?;
        }
    }
    fs::create_dir("/var/lib/cni")?;
    Ok(())
}
