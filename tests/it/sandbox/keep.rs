//! A sandbox that stays, for a person who wants to look into it: SMARTER_CNI_KEEP=1, and the name of one test.
//!
//! It stays where the test fails, before anything is cleaned up, or at the end of a test that passes. Nothing of this
//! happens without the variable: a test that waits for somebody would wait forever where nobody is.

use std::env;
use std::io::{self, Write as _};
use std::panic;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

const VARIABLE: &str = "SMARTER_CNI_KEEP";
/// Of the sandbox's own /run, so it is made inside.
const GO_ON: &str = "/run/go-on";

#[expect(clippy::disallowed_methods, reason = "a person asks for it by the environment")]
pub(super) fn wanted() -> bool {
    env::var_os(VARIABLE).is_some_and(|value| !value.is_empty() && value != "0")
}

/// Runs the body of a test, inside; stays where it fails, else behind it.
pub(super) fn held(body: impl FnOnce()) {
    if !wanted() {
        return body();
    }
    let say = panic::take_hook();
    // In the hook, because unwinding removes namespaces, files and daemons.
    panic::set_hook(Box::new(move |failure| {
        say(failure);
        stay("failed here");
    }));
    body();
    stay("passed");
}

fn stay(why: &str) {
    announce(&format!("{why}; the sandbox stays until somebody does in there: touch {GO_ON}"));
    while !Path::new(GO_ON).exists() {
        thread::sleep(Duration::from_millis(200));
    }
}

/// Not `eprintln!`, which cargo keeps to itself until a test has failed.
fn announce(words: &str) {
    // libtest names the thread of each test after the test.
    let test = thread::current().name().unwrap_or_default().to_owned();
    let _ = writeln!(io::stderr(), "{VARIABLE}: {test}: {words}");
}

/// The outside of a sandbox that stays: everything is shown as it comes, and it has all the time in the world.
pub(super) fn run(mut unshare: Command, user: &[&str], namespaces: &[&str]) -> ExitStatus {
    let mut child = unshare.spawn().expect("unshare, from util-linux");
    let target = child.id();
    // The program of a new process namespace is not unshare itself but its child.
    let processes = if namespaces.contains(&"--pid") {
        format!(" --pid=/proc/{target}/ns/pid_for_children")
    } else {
        String::new()
    };
    let user = if user.is_empty() { "" } else { " --user --preserve-credentials" };
    announce(&format!("to enter: nsenter --target {target}{user} --net --mount{processes}"));
    child.wait().expect("the test ends")
}
