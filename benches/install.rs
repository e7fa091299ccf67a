//! What an installation takes, and what the resident watch costs when nothing happens.
//!
//! `cargo bench --bench install [-- --help]`, as root. Prints a markdown table. The host is a directory tree below `target`, so
//! on this machine's disk: an installation waits for it (fsync), a second one does not touch it. The network is a namespace of
//! its own with nothing in it.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use rustix::mount::mount_bind;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[path = "lab/build.rs"]
mod build;
#[path = "lab/machine.rs"]
mod machine;
#[path = "lab/sandbox.rs"]
mod sandbox;

use sandbox::note;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Measures what an installation takes and what staying costs; prints a table in Markdown.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench install --")]
struct Options {
    /// Installations on a bare node, and as many again
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds to watch the watch do nothing; its one timer takes a minute
    #[arg(long, value_name = "SECONDS", default_value_t = 70)]
    idle: u64,
    /// Our binary, instead of what image/build-binary makes now
    #[arg(long, value_name = "FILE")]
    ours: Option<PathBuf>,
    /// What cargo itself passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Serialize, Deserialize)]
struct Task {
    rounds: u32,
    idle: Duration,
    ours: PathBuf,
    host: PathBuf,
}

fn main() -> ExitCode {
    let mut directory = None;
    sandbox::run(&["--net", "--mount"], || prepare(&mut directory), measure)
}

/// `directory` lives as long as its owner.
fn prepare(directory: &mut Option<TempDir>) -> Result<Task> {
    let options = Options::parse();
    let directory = directory.insert(build::directory()?);
    let ours = options.ours.map_or_else(build::binary, Ok)?.canonicalize()?;
    // A copy, as an image brings one: not as the linker left it.
    let copy = directory.path().join("smarter-cni");
    fs::copy(ours, &copy)?;
    Ok(Task {
        rounds: options.rounds,
        idle: Duration::from_secs(options.idle),
        ours: copy,
        host: directory.path().join("host"),
    })
}

fn measure(task: &Task) -> Result<String> {
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..task.rounds {
        let _ = fs::remove_dir_all(&task.host);
        for directory in ["opt/cni/bin", "etc/cni/net.d", "var/lib"] {
            fs::create_dir_all(task.host.join(directory))?;
        }
        first.push(task.install()?);
        again.push(task.install()?);
    }
    note(&format!("the watch, idle for {} s", task.idle.as_secs()));
    let idle = task.idle()?;
    task.report(first, again, &idle)
}

#[derive(Debug)]
struct Idle {
    resident: String,
    /// Of that, what is not the program's file.
    own: String,
    written: u64,
    /// How often it gave up the processor: each is one time that it woke up.
    wakes: u64,
}

impl Task {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.ours);
        command.args(["install", "--subnet", "10.38.0.0/16", "--root"]).arg(&self.host).stdout(Stdio::null());
        command
    }

    fn install(&self) -> Result<Duration> {
        let begin = Instant::now();
        let status = self.command().status()?;
        let took = begin.elapsed();
        if !status.success() {
            return Err(format!("install failed ({status})").into());
        }
        // What it is there for.
        self.host.join("opt/cni/bin/smarter-bridge").metadata()?;
        Ok(took)
    }

    fn idle(&self) -> Result<Idle> {
        // As a host's directory is mounted in its pod: it looks after the pods' networks only when it finds processes there.
        for mounted in ["proc", "run"] {
            let at = self.host.join(mounted);
            fs::create_dir_all(&at)?;
            mount_bind(Path::new("/").join(mounted), at)?;
        }
        let mut child = self.command().arg("--watch").spawn()?;
        thread::sleep(Duration::from_secs(2));
        let proc = PathBuf::from(format!("/proc/{}", child.id()));
        let wakes = || -> Result<u64> { Ok(value(&proc, "status", "voluntary_ctxt_switches:")?.parse()?) };
        let written = || -> Result<u64> { Ok(value(&proc, "io", "write_bytes:")?.parse()?) };
        let before = (wakes()?, written()?);
        thread::sleep(self.idle);
        let idle = Idle {
            resident: value(&proc, "status", "VmRSS:")?,
            own: value(&proc, "status", "RssAnon:")?,
            written: written()? - before.1,
            wakes: wakes()? - before.0,
        };
        child.kill()?;
        child.wait()?;
        Ok(idle)
    }

    fn report(&self, first: Vec<Duration>, again: Vec<Duration>, idle: &Idle) -> Result<String> {
        let mut text =
            format!("{}; medians of {} rounds\n\n| | |\n|---|---|\n", machine::describe()?, self.rounds);
        let seconds = self.idle.as_secs();
        writeln!(text, "| installation on a bare node | {:.0} ms |", median(first))?;
        writeln!(text, "| installation where everything is there | {:.1} ms |", median(again))?;
        writeln!(
            text,
            "| resident memory of `install --watch`, idle | {}, of which {} are its own and not the program's file |",
            idle.resident, idle.own
        )?;
        writeln!(text, "| bytes it writes in {seconds} s | {} |", idle.written)?;
        writeln!(
            text,
            "| times it wakes up in {seconds} s, its one look a minute included | {} |",
            idle.wakes
        )?;
        Ok(text)
    }
}

fn value(proc: &Path, file: &str, key: &str) -> Result<String> {
    let text = fs::read_to_string(proc.join(file))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    Ok(line.ok_or_else(|| format!("no {key} in {file}"))?.trim().to_owned())
}

/// Milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3
}
