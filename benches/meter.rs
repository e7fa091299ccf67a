//! Runs a program and appends one line about what it took: of the benches alone.
//!
//! `meter FILE PROGRAM WORDS…` writes about that program. Under any other name it is a CNI plugin of that name: it runs the plugin
//! of the directory in METER_PLUGINS and writes to the file in METER_FILE. Whatever that plugin executes itself is taken from that
//! directory, too, so that nothing is counted twice. What the meter itself takes is not in its line.
//!
//! Called `pause` it is the whole contents of a pod: it says so to whoever connects to port 80.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        // A signal has no code.
        Ok(status) => ExitCode::from(status.code().and_then(|code| code.try_into().ok()).unwrap_or(u8::MAX)),
        Err(error) => {
            let _ = writeln!(io::stderr(), "meter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitStatus> {
    let mut words = env::args_os();
    let name = words.next().ok_or("no name")?;
    let name = Path::new(&name).file_name().ok_or("no name")?.to_owned();
    if name == "pause" {
        pause()?;
    }
    let (file, mut command) = if name == "meter" {
        let (file, program) = (words.next().ok_or("which file?")?, words.next().ok_or("which program?")?);
        let mut command = Command::new(program);
        command.args(words);
        (file, command)
    } else {
        let plugins = PathBuf::from(variable("METER_PLUGINS")?);
        let mut command = Command::new(plugins.join(&name));
        command.env("CNI_PATH", plugins);
        (variable("METER_FILE")?, command)
    };
    let status = command.status().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    let taken = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let verb = variable("CNI_COMMAND").unwrap_or_else(|_| "-".into());
    let line = format!(
        "{} {} microseconds={} kib={}\n",
        name.display(),
        verb.display(),
        (taken.user_time() + taken.system_time()).num_microseconds(),
        taken.max_rss()
    );
    // One write of a short line: many of us append at once.
    File::options().append(true).create(true).open(file)?.write_all(line.as_bytes())?;
    Ok(status)
}

fn pause() -> Result<()> {
    for client in TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80))?.incoming() {
        // Whoever left again is not interested.
        let _ = client.and_then(|mut client| client.write_all(b"pod"));
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a runtime says everything in the environment")]
fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).ok_or_else(|| format!("{name} is not set").into())
}
