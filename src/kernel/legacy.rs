//! The host's own legacy iptables: the only program that is executed while a pod waits, and only on a node that has the
//! old filter table loaded. Its tables have no netlink interface.
//!
//! Found in the directories where distributions put it, whatever PATH says, and run with an empty environment.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;

use super::error::{Error, Result};
use super::sysctl;

const DIRECTORIES: [&str; 6] =
    ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin", "/usr/local/bin"];

/// Whether the kernel has loaded a table of that name. `names` is the file of procfs that lists them, which a kernel without
/// the old tables does not have.
pub fn is_loaded(names: &Path, table: &str) -> bool {
    sysctl::text(names).is_ok_and(|text| text.lines().any(|name| name == table))
}

fn find(program: &str) -> Option<PathBuf> {
    DIRECTORIES.iter().map(|directory| Path::new(directory).join(program)).find(|path| path.is_file())
}

/// What the program prints. It waits for others that change the same tables (`-w`). `is_missing` when the host does not
/// have it.
pub fn run(program: &str, arguments: &[String]) -> Result<String> {
    let typed = || format!("{program} -w {}", arguments.join(" "));
    let path = find(program).ok_or_else(|| Error::new(typed(), Errno::NOENT.into()))?;
    let output = Command::new(path)
        .arg("-w")
        .args(arguments)
        .env_clear()
        .output()
        // Not `is_missing`: it is there, and something that it needs is not (its loader, /dev/null).
        .map_err(|error| Error::new(typed(), std::io::Error::other(error)))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Error::with_words(typed(), std::io::ErrorKind::Other.into(), Some(words)))
}
