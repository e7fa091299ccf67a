//! What one call costs whoever waits for it: fork, exec, configuration into a pipe, result out of a pipe, exit.

use std::io::Write;
use std::ops::AddAssign;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::Result;
use crate::call::Call;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cost {
    pub(crate) time: Duration,
    /// User and system time, of the program and of all that it waited for.
    pub(crate) processor: Duration,
    /// Pages that the kernel had to map, of the same.
    pub(crate) faults: i64,
    /// Of these, the ones that waited for the disk.
    pub(crate) major_faults: i64,
    /// Bytes that came from the disk.
    pub(crate) read: i64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.time += other.time;
        self.processor += other.processor;
        self.faults += other.faults;
        self.major_faults += other.major_faults;
        self.read += other.read;
    }
}

impl Call {
    /// Returns what it wrote to standard output.
    pub(crate) fn run(&self, wrapper: &[&str]) -> Result<(Vec<u8>, Cost)> {
        let mut command = match wrapper {
            [] => Command::new(&self.program),
            [tool, words @ ..] => {
                let mut command = Command::new(tool);
                command.args(words).arg(&self.program);
                command
            }
        };
        command
            .args(&self.words)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());

        let before = children()?;
        let start = Instant::now();
        let mut child = command.spawn().map_err(|error| format!("{}: {error}", self.title))?;
        // The floor does not read; then the pipe may be gone.
        let _ = child.stdin.take().ok_or("no pipe")?.write_all(&self.stdin);
        let out = child.wait_with_output()?;
        let time = start.elapsed();
        let after = children()?;

        if !out.status.success() {
            let (stdout, stderr) =
                (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
            return Err(format!("{} failed ({}): {stdout}{stderr}", self.title, out.status).into());
        }
        let major_faults = after.major_page_faults() - before.major_page_faults();
        let cost = Cost {
            time,
            processor: processor(&after)?.saturating_sub(processor(&before)?),
            faults: after.minor_page_faults() - before.minor_page_faults() + major_faults,
            major_faults,
            // Counted in blocks of 512 bytes, whatever the disk has.
            read: (after.block_reads() - before.block_reads()) * 512,
        };
        Ok((out.stdout, cost))
    }
}

/// All that were waited for, and all that these waited for.
fn children() -> Result<Usage> {
    Ok(getrusage(UsageWho::RUSAGE_CHILDREN)?)
}

fn processor(usage: &Usage) -> Result<Duration> {
    let time = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(time.num_microseconds().try_into()?))
}
