//! Calling a foreign plugin (CNI SPEC "Section 4: Plugin Delegation"): the one place where a program is
//! executed.
//!
//! The plugin gets the caller's environment and the exact bytes of stdin; only the verb may differ. Its
//! errors are passed on with their code. There is no time limit: the runtime has one and ends us both. What the plugin says
//! is read up to a limit.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{self, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread;
use std::time::Duration;

use super::error::{Code, Error, Result, reason};
use super::json::{self, Json, Object, mismatch};
use super::quote::quoted;
use super::request::{Request, Verb};
use super::result::AddResult;
use super::wire;

/// Bytes of an answer, and of what is said beside it. A result has some hundred; a node has 512 MiB for everything.
const LONGEST_ANSWER: u64 = 1024 * 1024;
const LONGEST_ASIDE: u64 = 64 * 1024;

/// How often, and with which pause, a plugin is tried again whose file is being written.
const BUSY: (u32, Duration) = (6, Duration::from_secs(1));

/// The first regular file of this name in the directories of `CNI_PATH`. An empty directory is the current
/// one. Errors have code 999.
pub fn find(plugin_type: &str, cni_path: &str) -> Result<PathBuf> {
    if plugin_type.is_empty() {
        return Err(Error::internal("no plugin name provided"));
    }
    if plugin_type.contains('/') {
        return Err(Error::internal(format_args!("invalid plugin name: {plugin_type}")));
    }
    if cni_path.is_empty() {
        return Err(Error::internal("no paths provided"));
    }
    // An empty directory must not leave a bare name: that would be looked up in PATH.
    let directories =
        cni_path.split(':').map(|dir| if dir.is_empty() { Path::new(".") } else { Path::new(dir) });
    directories.map(|dir| dir.join(plugin_type)).find(|file| file.is_file()).ok_or_else(|| {
        let searched = cni_path.replace(':', " ");
        Error::internal(format_args!("failed to find plugin {} in path [{searched}]", quoted(plugin_type)))
    })
}

/// ADD, and what it answered, in any version.
pub fn add(request: &Request, plugin_type: &str) -> Result<AddResult> {
    let output = execute(request, plugin_type, Verb::Add)?;
    let failed = |error: Error| error.with_code(Code::Internal).context("failed to unmarshal raw result");
    let object = match json::parse(&output).map_err(failed)? {
        Json::Object(object) => object,
        Json::Null => Object::default(),
        other => return Err(failed(mismatch(&format!("output of {plugin_type}"), "an object", &other))),
    };
    wire::parse_result(&object, request.version)
}

/// Any verb whose answer is only success or failure. `verb` need not be the request's.
pub fn call(request: &Request, plugin_type: &str, verb: Verb) -> Result<()> {
    execute(request, plugin_type, verb).map(drop)
}

fn execute(request: &Request, plugin_type: &str, verb: Verb) -> Result<Vec<u8>> {
    let file = find(plugin_type, &request.path)?;
    let silent =
        |why: &dyn Display| Error::internal(format_args!("netplugin failed with no error message: {why}"));
    let output = run(&file, request, verb).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Error::internal(format_args!("{}: {error}", file.display())),
        _ => silent(&format_args!("fork/exec {}: {}", file.display(), reason(&error))),
    })?;
    if output.status.success() {
        // Best effort: nobody may be listening, and the answer does not depend on it.
        let _ = io::stderr().write_all(&output.stderr);
        return Ok(output.stdout);
    }
    Err(match (output.stdout.is_empty(), output.stderr.is_empty()) {
        (true, true) => silent(&status_in_words(output.status)),
        (true, false) => Error::internal(format_args!("netplugin failed: {}", quoted(&output.stderr))),
        (false, _) => reported(&output.stdout).unwrap_or_else(|error| {
            let said = quoted(&output.stdout);
            Error::internal(format_args!(
                "netplugin failed but error parsing its diagnostic message {said}: {}",
                error.msg
            ))
        }),
    })
}

/// The error that a plugin wrote to stdout, unchanged.
fn reported(stdout: &[u8]) -> Result<Error> {
    let object = match json::parse(stdout)? {
        Json::Object(object) => object,
        other => return Err(mismatch("error", "an object", &other)),
    };
    let code = object.integer_in::<u32>("code", "0 to 4294967295")?.map_or(Code::Internal, Code::from);
    let msg = object.text("msg")?.unwrap_or_default();
    Ok(Error::new(code, msg).with_details(object.text("details")?.unwrap_or_default()))
}

fn run(file: &Path, request: &Request, verb: Verb) -> io::Result<Output> {
    // Backwards, because of a variable given twice `Command` keeps the last and getenv(3) the first.
    let environment = request.environment.iter().rev().filter(|(key, _)| key != "CNI_COMMAND");
    let environment = environment.map(|(key, value)| (key.as_os_str(), value.as_os_str()));
    let mut command = Command::new(file);
    command
        .env_clear()
        .envs(environment.chain([(OsStr::new("CNI_COMMAND"), OsStr::new(verb.as_str()))]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut tries = 0;
    let mut child = loop {
        match command.spawn() {
            // Somebody is installing the plugin at this moment.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY.0 => {
                tries += 1;
                thread::sleep(BUSY.1);
            }
            other => break other?,
        }
    };
    thread::scope(|scope| {
        let (stdin, stderr) = (child.stdin.take(), child.stderr.take());
        // Aside, because a plugin may fill the pipe of its output before it reads. One that ends without
        // reading all of its input has a status that says more than our broken pipe.
        thread::Builder::new().spawn_scoped(scope, move || {
            stdin.map(|mut pipe| pipe.write_all(&request.stdin));
        })?;
        let aside =
            thread::Builder::new().spawn_scoped(scope, move || stderr.map(aside).unwrap_or_default())?;
        let answer = answer(&mut child);
        if answer.is_err() {
            // Also what keeps the other two threads: nobody listens to it any more.
            let _ = child.kill();
        }
        let status = child.wait()?;
        Ok(Output { status, stdout: answer?, stderr: aside.join().unwrap_or_default() })
    })
}

/// All that the plugin writes to stdout.
fn answer(child: &mut Child) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Closed behind this, so that a child of its own cannot go on writing either.
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST_ANSWER + 1).read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > LONGEST_ANSWER {
        let words = format!("it answers with more than {LONGEST_ANSWER} bytes, and was ended");
        return Err(io::Error::new(io::ErrorKind::InvalidData, words));
    }
    Ok(bytes)
}

/// The beginning of what the plugin writes to stderr; the rest is read and dropped, so that it can go on.
fn aside(mut stderr: impl Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = stderr.by_ref().take(LONGEST_ASIDE).read_to_end(&mut bytes);
    let _ = io::copy(&mut stderr, &mut io::sink());
    bytes
}

/// As Go says it: `exit status 3`, `signal: killed`.
fn status_in_words(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return format!("exit status {}", status.code().unwrap_or_default());
    };
    let name = match signal {
        6 => "aborted",
        9 => "killed",
        11 => "segmentation fault",
        15 => "terminated",
        other => return format!("signal: signal {other}"),
    };
    let dumped = if status.core_dumped() { " (core dumped)" } else { "" };
    format!("signal: {name}{dumped}")
}

#[cfg(test)]
mod tests;
