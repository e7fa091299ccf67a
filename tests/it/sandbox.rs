//! A network of our own for every test that needs the kernel.
//!
//! The calling test is executed once more in fresh network and mount namespaces, with a private /run and /var/lib/cni, so
//! that nothing it does can reach the machine or another test. It refuses to run the body anywhere else: a skipped test
//! looks like a passed one, and a test that runs outside would change somebody's network.

mod keep;

use std::env;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;

use rustix::mount::{MountFlags, mount, mount_bind};

/// Set in the inner process to the identity of the outer network namespace.
const OUTSIDE: &str = "SMARTER_CNI_SANDBOX";
/// Set in the inner process to the path below every cgroup hierarchy where its daemons put their containers.
const CGROUP: &str = "SMARTER_CNI_SANDBOX_CGROUP";
/// Seconds until a test that hangs is ended, with its name in the report.
const LIMIT: &str = "300";

/// The namespaces of tests that work with and without root.
const NETWORK: &[&str] = &["--net", "--mount"];
/// Where daemons are started: a process namespace ends whatever a failing test left behind.
const DAEMONS: &[&str] = &["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Runs the calling test once more, as root of a network nobody else is in.
///
/// Works without root and under plain `cargo test`. If the machine forbids user namespaces the test fails.
pub(crate) fn sandboxed(body: impl FnOnce()) {
    if entered() {
        return keep::held(body);
    }
    reexecute(if is_root() { &[] } else { &["--map-root-user"] }, NETWORK);
}

/// As [`sandboxed`], for tests with daemons that insist on being root of the machine; every process ends with the test.
pub(crate) fn sandboxed_daemons(body: impl FnOnce()) {
    if entered() {
        return keep::held(body);
    }
    assert!(is_root(), "COULD NOT RUN: container runtimes need root; run tests/run as root");
    reexecute(&[], DAEMONS);
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether this is the inner process; makes it fit for use when it is.
#[expect(clippy::disallowed_methods, reason = "the re-executed test is told so by its environment")]
fn entered() -> bool {
    let Some(outside) = env::var_os(OUTSIDE) else { return false };
    // Somebody may have exported the variable by hand: then this is the machine's own network.
    assert_ne!(outside.to_str(), Some(identity("net").as_str()), "{OUTSIDE} is set, but this is no sandbox");
    assert!(is_root(), "the sandbox did not make this process root");
    private_directories();
    silence();
    let lo = Command::new("ip").args(["link", "set", "lo", "up"]).status().expect("ip, from iproute2");
    assert!(lo.success(), "cannot set lo up");
    true
}

/// `/proc/self` is the main thread's view; a libtest body runs on another thread.
fn identity(namespace: &str) -> String {
    let link = fs::metadata(format!("/proc/thread-self/ns/{namespace}")).expect("/proc is mounted");
    format!("{}:{}", link.dev(), link.ino())
}

fn private_directories() {
    let tmpfs = |at: &Path| {
        mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")
            .unwrap_or_else(|e| panic!("tmpfs on {}: {e}", at.display()));
    };
    tmpfs(Path::new("/run"));
    let var_run = Path::new("/var/run");
    if var_run.exists() && !var_run.is_symlink() {
        mount_bind("/run", var_run).expect("bind /run to /var/run");
    }
    // An ordinary user cannot make the mount point, but may cover its parent.
    let leases = Path::new("/var/lib/cni");
    if !leases.is_dir() {
        tmpfs(Path::new("/var/lib"));
        fs::create_dir(leases).expect("create /var/lib/cni");
    }
    // Some tests make this one full, or read-only.
    tmpfs(leases);
}

/// What a program says about a test is not for the machine's own logs.
fn silence() {
    for log in ["/dev/log", "/dev/kmsg"] {
        if Path::new(log).exists() {
            mount_bind("/dev/null", log).unwrap_or_else(|e| panic!("/dev/null over {log}: {e}"));
        }
    }
}

/// Control groups have no private mount: containers of a test go below this path, which is removed after it.
#[expect(clippy::disallowed_methods, reason = "the re-executed test is told so by its environment")]
pub(crate) fn cgroup() -> String {
    env::var(CGROUP).expect("called from the body of a sandboxed test")
}

/// Removes the empty groups that runtimes leave behind, in every hierarchy of cgroup version 1 and in version 2.
fn remove_cgroup(group: &str) {
    fn remove(dir: &Path) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                remove(&entry.path());
            }
        }
        // One that is not empty belongs to somebody who still runs; there is nobody to tell.
        let _ = fs::remove_dir(dir);
    }
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    hierarchies.chain([root.to_owned()]).for_each(|hierarchy| remove(&hierarchy.join(group)));
}

fn reexecute(user: &[&str], namespaces: &[&str]) {
    // libtest names the thread of each test after the test.
    let thread = thread::current();
    let test = thread.name().expect("called from a test");
    let cgroup = format!("smarter-cni-tests-{}-{}", std::process::id(), test.replace(':', "_"));
    let mut command = Command::new("timeout");
    command.args(["--kill-after=10", LIMIT, "unshare"]);
    if keep::wanted() {
        command = Command::new("unshare");
    }
    command
        .args(user)
        .args(namespaces)
        .arg(env::current_exe().expect("this test binary"))
        .args([test, "--exact", "--nocapture", "--include-ignored"])
        .env(OUTSIDE, identity("net"))
        .env(CGROUP, &cgroup)
        // The place of an assertion is enough; a backtrace through two processes buries it.
        .env("RUST_BACKTRACE", "0");
    if keep::wanted() {
        let status = keep::run(command, user, namespaces);
        remove_cgroup(&cgroup);
        assert!(status.success(), "{test} failed in its sandbox ({status}), see above");
        return;
    }
    let run = command.output().expect("timeout, from coreutils");
    remove_cgroup(&cgroup);
    let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    // A name that matches no test succeeds too: only "1 passed" means that the body ran.
    let passed = run.status.success() && out.contains("test result: ok. 1 passed");
    assert!(passed, "{test} failed in its sandbox ({}):\n{out}{err}", run.status);
    eprint!("{err}");
}

/// Runs a tool of the distribution and returns what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {stderr}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_sandbox_is_private_and_hides_the_machine() {
    sandboxed(|| {
        let links = Command::new("ip").args(["-br", "link"]).output().expect("ip");
        let links = String::from_utf8(links.stdout).unwrap();
        let strangers: Vec<_> = links.lines().filter(|l| !l.starts_with("lo ")).collect();
        // Tunnel drivers put their fallback device (`tunl0`, `sit0`…) into every namespace; those are down.
        assert!(strangers.iter().all(|l| !l.contains(" UP ")), "not a fresh namespace: {links}");
        for private in ["/run", "/var/run", "/var/lib/cni"] {
            assert_eq!(fs::read_dir(private).expect(private).count(), 0, "{private} is not empty");
        }
    });
}
