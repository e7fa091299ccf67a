//! What an installation takes, and what the resident watch costs when nothing happens.
//!
//! `cargo bench --bench install [-- --rounds N]`, as root. Prints a markdown table. The host is a directory tree below
//! `target`, so on this machine's disk: an installation waits for it (fsync), a second one does not touch it. The network
//! is a namespace of its own with nothing in it.

use std::env;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Set in the inner process.
const INSIDE: &str = "SMARTER_CNI_BENCH_INSTALL";
/// Longer than the watch's one timer.
const IDLE: Duration = Duration::from_secs(70);

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match bench() {
        Ok(report) => {
            let _ = io::stdout().write_all(report.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the re-executed bench is told so by its environment")]
fn bench() -> Result<String> {
    let words: Vec<String> = env::args().skip(1).collect();
    let rounds = words.iter().position(|word| word == "--rounds").and_then(|at| words.get(at + 1));
    let rounds: usize = rounds.map_or(Ok(20), |number| number.parse())?;
    if env::var_os(INSIDE).is_none() {
        let mut run = Command::new("unshare");
        run.args(["--net", "--mount"]).arg(env::current_exe()?).args(words);
        let output = run.env(INSIDE, "1").stderr(Stdio::inherit()).output()?;
        return if output.status.success() {
            Ok(String::from_utf8(output.stdout)?)
        } else {
            Err(format!("the inner run failed ({})", output.status).into())
        };
    }
    let host = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/bench-install");
    let _ = fs::remove_dir_all(&host);
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let _ = fs::remove_dir_all(&host);
        for directory in ["opt/cni/bin", "etc/cni/net.d", "var/lib"] {
            fs::create_dir_all(host.join(directory))?;
        }
        first.push(install(&host)?);
        again.push(install(&host)?);
    }
    let report = report(rounds, first, again, &idle(&host)?)?;
    fs::remove_dir_all(&host)?;
    Ok(report)
}

fn command(host: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_smarter-cni"));
    command.args(["install", "--subnet", "10.38.0.0/16", "--root"]).arg(host).stdout(Stdio::null());
    command
}

fn install(host: &Path) -> Result<Duration> {
    let begin = Instant::now();
    let status = command(host).status()?;
    let took = begin.elapsed();
    if status.success() { Ok(took) } else { Err(format!("install failed ({status})").into()) }
}

#[derive(Debug)]
struct Idle {
    resident: String,
    written: String,
    /// How often it gave up the processor: each is one time that it woke up.
    wakes: u64,
}

fn idle(host: &Path) -> Result<Idle> {
    let mut child = command(host).arg("--watch").spawn()?;
    thread::sleep(Duration::from_secs(2));
    let proc = PathBuf::from(format!("/proc/{}", child.id()));
    let value = |file: &str, key: &str| -> Result<String> {
        let text = fs::read_to_string(proc.join(file))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        Ok(line.ok_or(key.to_owned())?.trim().to_owned())
    };
    let wakes = || -> Result<u64> { Ok(value("status", "voluntary_ctxt_switches:")?.parse()?) };
    let (before, written) = (wakes()?, value("io", "write_bytes:")?.parse::<u64>()?);
    thread::sleep(IDLE);
    let idle = Idle {
        resident: value("status", "VmRSS:")?,
        written: (value("io", "write_bytes:")?.parse::<u64>()? - written).to_string(),
        wakes: wakes()? - before,
    };
    child.kill()?;
    child.wait()?;
    Ok(idle)
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1000.0
}

fn report(rounds: usize, first: Vec<Duration>, again: Vec<Duration>, idle: &Idle) -> Result<String> {
    let mut text = String::from("| | |\n|---|---|\n");
    writeln!(text, "| installation on a bare node, median of {rounds} | {:.0} ms |", median(first))?;
    writeln!(text, "| installation where everything is there | {:.1} ms |", median(again))?;
    writeln!(text, "| resident memory of `install --watch`, idle | {} |", idle.resident)?;
    writeln!(text, "| bytes it writes in {} s | {} |", IDLE.as_secs(), idle.written)?;
    writeln!(text, "| times it wakes up in {} s, its one look included | {} |", IDLE.as_secs(), idle.wakes)?;
    Ok(text)
}
