//! What a table was made with, in its first line.

use std::env;
use std::fs;
use std::process::Command;
use std::thread;

use crate::Result;

pub(crate) fn describe() -> Result<String> {
    let date = String::from_utf8(Command::new("date").args(["-u", "+%F"]).output()?.stdout)?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    // x86 says it here, Arm boards in the device tree.
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_owned()));
    let board = || fs::read_to_string("/proc/device-tree/model").ok();
    let model = model.or_else(board).unwrap_or_else(|| env::consts::ARCH.to_owned());
    Ok(format!(
        "smarter-cni {}, {}, Linux {}, {} × {}",
        env!("CARGO_PKG_VERSION"),
        date.trim(),
        kernel.trim(),
        thread::available_parallelism()?,
        model.trim_end_matches('\0').trim(),
    ))
}
