//! Which boot this is, and how long it has lasted. No wall clock: boards without a battery start in the past.

use std::io;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The kernel's random name for this boot, `random(4)`.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string(BOOT_ID)?.trim().to_owned())
}

/// Time since boot, suspended time included (CLOCK_BOOTTIME).
pub fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}
