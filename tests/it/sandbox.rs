//! A network of our own for every test that needs the kernel.
//!
//! Refuses to skip: where the machine forbids namespaces the test fails, because a skipped test looks like a passed one.

use std::env;
use std::process::Command;
use std::thread;

/// Runs the calling test once more, as root of a network nobody else is in. Works without root.
#[expect(clippy::disallowed_methods, reason = "the re-executed test is told so by its environment")]
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
