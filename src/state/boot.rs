//! Which boot this is, and how long it lasts already. Knows no wall clock.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

/// The kernel's random identity of this boot, `/proc/sys/kernel/random/boot_id` (random(4)): a UUID in text form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(String);

impl BootId {
    pub fn current() -> io::Result<Self> {
        const PATH: &str = "/proc/sys/kernel/random/boot_id";
        let file = rustix::fs::open(PATH, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        // It is longer than an identity by the line break, and said in one piece.
        let mut bytes = [0; 64];
        let length = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes))?;
        let text = std::str::from_utf8(&bytes[..length]).unwrap_or_default();
        Self::parse(text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the kernel's boot_id is not a UUID"))
    }

    /// 36 characters of hexadecimal digits and dashes; white space around them is dropped.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let right = text.len() == 36 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        right.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Time since the boot, suspended time included (CLOCK_BOOTTIME); the same for every process and never set back.
pub fn boottime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_has_an_identity_and_an_age() {
        let boot = BootId::current().unwrap();
        assert_eq!(BootId::parse(&format!("{boot}\n")), Some(boot));
        let before = boottime();
        assert!(before > Duration::ZERO && boottime() >= before);
        assert_eq!(BootId::parse(""), None);
        assert_eq!(
            BootId::parse("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            None
        );
    }
}
