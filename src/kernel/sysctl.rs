//! `/proc/sys`, the namespace of the calling thread: read and write single values.
//!
//! Names are paths below it (`net/ipv4/conf/eth0.100/forwarding`), because interface names may contain dots. Refuses
//! everything that would lead out of it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::error::{Error, Result};

/// The value without the line break; `None` when the kernel has no such setting.
pub fn read(path: &str) -> Result<Option<String>> {
    let refused = |cause| Error::new(format!("sysctl {}", Spelled(path)), cause);
    match text(&below_proc_sys(path).map_err(refused)?) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(refused(e)),
    }
}

/// Writes one value, which the kernel may refuse (`invalid argument`).
pub fn write(path: &str, value: &str) -> Result<()> {
    let refused = |cause| Error::new(format!("sysctl -w {}={value}", Spelled(path)), cause);
    let file = below_proc_sys(path).map_err(refused)?;
    // Neither created nor truncated: procfs knows no such thing, and a typing error must not make a file.
    let written =
        std::fs::OpenOptions::new().write(true).open(file).and_then(|mut f| f.write_all(value.as_bytes()));
    written.map_err(|e| {
        let read_only = e.raw_os_error() == Some(Errno::ROFS.raw_os_error());
        let error = refused(e);
        if read_only { error.with_hint("/proc/sys is mounted read-only here") } else { error }
    })
}

/// More than nearly every value has, so that one read is all of it: `std` asks for a size, which procfs does not have, and
/// begins with 32 bytes.
const USUAL: usize = 256;

/// What a file of procfs says.
pub(super) fn text(path: &Path) -> io::Result<String> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::with_capacity(USUAL);
    loop {
        match rustix::io::read(&file, spare_capacity(&mut bytes)) {
            // Less than there was room for is the end: the kernel fills the page before it hands it out.
            Ok(_) if bytes.len() < bytes.capacity() => break,
            Ok(_) => bytes.reserve(bytes.capacity()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

fn below_proc_sys(path: &str) -> io::Result<PathBuf> {
    if path.split('/').any(|element| matches!(element, "" | "." | "..")) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name below /proc/sys"));
    }
    Ok(PathBuf::from("/proc/sys").join(path))
}

/// As sysctl(8) spells it: `.` between the elements, and `/` for a dot within one.
struct Spelled<'a>(&'a str);

impl std::fmt::Display for Spelled<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use std::fmt::Write;
        self.0.chars().try_for_each(|c| {
            f.write_char(match c {
                '/' => '.',
                '.' => '/',
                other => other,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_proc_sys() {
        for bad in ["", "/etc/passwd", "net/../../etc", "net//ipv4", "net/ipv4/", "net/./ipv4"] {
            assert!(read(bad).is_err(), "{bad:?}");
            assert!(write(bad, "1").is_err(), "{bad:?}");
        }
    }

    #[test]
    fn missing_settings_are_absent_to_readers_and_errors_to_writers() {
        assert_eq!(read("net/no/such/setting").unwrap(), None);
        assert_eq!(
            write("net/ipv4/conf/eth0.100/no_such", "1").unwrap_err().to_string(),
            "sysctl -w net.ipv4.conf.eth0/100.no_such=1: no such file or directory"
        );
    }

    #[test]
    fn values_come_without_line_breaks() {
        let release = read("kernel/ostype").unwrap();
        assert_eq!(release.as_deref(), Some("Linux"));
    }
}
