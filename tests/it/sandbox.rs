//! A network of our own for every test that needs the kernel.

use std::env;
use std::process::Command;
use std::thread;

/// Runs the calling test once more, as root of a network nobody else is in.
///
/// Works without root and under plain `cargo test`. If the machine forbids
/// user namespaces the test fails: a skipped test looks like a passed one.
#[expect(clippy::disallowed_methods, reason = "the environment tells the inner run from the outer")]
pub(crate) fn sandboxed(body: impl FnOnce()) {
    const INSIDE: &str = "SMARTER_CNI_SANDBOX";
    if env::var_os(INSIDE).is_some() {
        return body();
    }
    // libtest names the thread of each test after the test.
    let thread = thread::current();
    let test = thread.name().expect("called from a test");
    let run = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount"])
        .arg(env::current_exe().expect("this test binary"))
        .args([test, "--exact", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .expect("unshare, from util-linux");
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    // A name that matches no test succeeds too: only "1 passed" means that the body ran.
    let passed = run.status.success() && out.contains("test result: ok. 1 passed");
    assert!(passed, "{test} failed in its sandbox:\n{out}{err}");
}

/// Runs a tool of the distribution and returns what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(
        output.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}
