//! The host's own legacy iptables: the only program that is executed while a pod waits, and only on a node that has the
//! old filter table loaded. Its tables have no netlink interface.
//!
//! Found in the directories where distributions put it, whatever PATH says, and run with an empty environment: a file that
//! only root can have put there. Waits neither for the lock of iptables nor for the program without end.

use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Stat, lstat};
use rustix::io::Errno;

use super::error::{Error, Result};
use super::sysctl;
use crate::file::lock::{self, Holder};

const DIRECTORIES: [&str; 6] =
    ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin", "/usr/local/bin"];
/// XT_LOCK_NAME, iptables/xshared.h.
const LOCK: &str = "/run/xtables.lock";
/// Seconds that iptables waits for whoever changes the same tables.
const PATIENCE: &str = "5";
/// For all of it: the lock, and the largest tables on the slowest boards.
const LONGEST: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);
/// `RESOURCE_PROBLEM` of iptables/xshared.h: the lock was not to be had, among others.
const RESOURCE_PROBLEM: i32 = 4;
/// As the kernel counts (MAXSYMLINKS).
const MOST_LINKS: usize = 40;

/// Whether the kernel has loaded a table of that name. `names` is the file of procfs that lists them, which a kernel without
/// the old tables does not have.
pub fn is_loaded(names: &Path, table: &str) -> bool {
    sysctl::text(names).is_ok_and(|text| text.lines().any(|name| name == table))
}

/// The first that is there and safe. Where none is, the first that is there and why it is not.
fn find(program: &str) -> Result<Option<PathBuf>> {
    let mut refused = None;
    for path in DIRECTORIES.iter().map(|directory| Path::new(directory).join(program)) {
        match roots_own(&path) {
            Ok(()) => return Ok(Some(path)),
            Err(Unsafe::Missing) => {}
            Err(Unsafe::Because(why)) => {
                refused = refused.or(Some(Error::new(
                    format!("execute {}", path.display()),
                    io::Error::new(io::ErrorKind::PermissionDenied, why),
                )));
            }
        }
    }
    refused.map_or(Ok(None), Err)
}

/// Why a file is not executed.
#[derive(Debug, PartialEq, Eq)]
enum Unsafe {
    Missing,
    Because(String),
}

/// Whether nobody but root can have put the file there, or can put another in its place: it, every directory above it and
/// every link on the way belong to root, and neither group nor others may write to them.
fn roots_own(path: &Path) -> std::result::Result<(), Unsafe> {
    let mut rest: Vec<PathBuf> = parts(path);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    loop {
        let stat = lstat(&here).map_err(|errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Unsafe::Missing,
            errno => Unsafe::Because(format!("{}: {errno}", here.display())),
        })?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        judge(&here, kind, &stat)?;
        if kind == FileType::Symlink {
            links += 1;
            let target = std::fs::read_link(&here).map_err(|_| Unsafe::Missing)?;
            if links > MOST_LINKS {
                return Err(Unsafe::Because(format!("{} leads in circles", path.display())));
            }
            here = if target.is_absolute() { PathBuf::from("/") } else { above(&here) };
            rest.extend(parts(&target));
        } else if rest.is_empty() {
            return if kind == FileType::RegularFile { Ok(()) } else { Err(Unsafe::Missing) };
        }
        let Some(next) = rest.pop() else { continue };
        here = if next == Path::new("..") { above(&here) } else { here.join(next) };
    }
}

/// The parts of a path, the last one first.
fn parts(path: &Path) -> Vec<PathBuf> {
    let named = path.components().rev();
    let named = named.filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    named.map(|part| PathBuf::from(part.as_os_str())).collect()
}

fn above(path: &Path) -> PathBuf {
    path.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

fn judge(path: &Path, kind: FileType, stat: &Stat) -> std::result::Result<(), Unsafe> {
    const GROUP_OR_OTHERS_WRITE: u32 = 0o022;
    let because = |why: String| Err(Unsafe::Because(why));
    let path = path.display();
    if stat.st_uid != 0 {
        return because(format!(
            "{path} belongs to user {}, who could put anything there; chown root {path}",
            stat.st_uid
        ));
    }
    // A link has no permissions of its own: whoever may change it may write to its directory.
    if kind != FileType::Symlink && stat.st_mode & GROUP_OR_OTHERS_WRITE != 0 {
        return because(format!("others than root may write to {path}; chmod go-w {path}"));
    }
    Ok(())
}

/// What the program prints. `is_missing` when the host does not have it, `is_busy` when somebody holds the lock of iptables,
/// whose name is in the error then.
pub fn run(program: &str, arguments: &[String]) -> Result<String> {
    let typed = || format!("{program} -w {PATIENCE} {}", arguments.join(" "));
    let path = find(program)?.ok_or_else(|| Error::new(typed(), Errno::NOENT.into()))?;
    let child = Command::new(path)
        // What it does it knows by its name, which is a link to all of them.
        .arg0(program)
        .args(["-w", PATIENCE])
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        // Not `is_missing`: it is there, and something that it needs is not (its loader, /dev/null).
        .map_err(|error| Error::new(typed(), io::Error::other(error)))?;
    let Ended { status, stdout, stderr } = finish(child).map_err(|error| Error::new(typed(), error))?;
    if status == Some(0) {
        return Ok(stdout);
    }
    let words = stderr.trim().replace('\n', "; ");
    if status == Some(RESOURCE_PROBLEM) && words.contains("xtables lock") {
        let lock = Path::new(LOCK);
        let holder = Holder::of(lock).into_iter().next();
        let held = format!(
            "the lock {LOCK} was not to be had in {PATIENCE} s: {}",
            lock::in_words(holder.as_ref(), lock)
        );
        return Err(Error::new(typed(), io::Error::new(io::ErrorKind::TimedOut, held)));
    }
    Err(Error::with_words(typed(), io::ErrorKind::Other.into(), Some(words)))
}

struct Ended {
    /// `None` when a signal ended it.
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Waits for the end of the program and of what it says, and ends it when that takes too long.
fn finish(mut child: Child) -> io::Result<Ended> {
    let read = |pipe: Option<Box<dyn Read + Send>>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let read = pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut bytes));
            read.map(|_| String::from_utf8_lossy(&bytes).into_owned())
        })
    };
    let stdout = read(child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let stderr = read(child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn Read + Send>));
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > LONGEST {
            let pid = child.id();
            child.kill()?;
            child.wait()?;
            let text = format!("process {pid} had not ended after {} s, and was killed", LONGEST.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        thread::sleep(PAUSE);
    };
    let said = |reader: thread::JoinHandle<io::Result<String>>| {
        reader.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))
    };
    Ok(Ended { status: status.code(), stdout: said(stdout)?, stderr: said(stderr)? })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn why(path: &Path) -> String {
        match roots_own(path) {
            Err(Unsafe::Because(why)) => why,
            other => format!("{other:?}"),
        }
    }

    /// Directories for everybody's temporary files are written to by everybody: nothing below them is executed.
    #[test]
    fn what_others_could_have_put_there_is_not_executed() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("iptables-legacy");
        fs::write(&program, "").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(
            why(&program).contains("others than root may write to /tmp; chmod go-w /tmp"),
            "{}",
            why(&program)
        );
        assert_eq!(roots_own(Path::new("/usr/sbin/no-such-program")), Err(Unsafe::Missing));
        assert_eq!(roots_own(Path::new("/usr")), Err(Unsafe::Missing), "a directory is no program");
    }

    #[test]
    fn links_are_followed_by_the_same_rule() {
        let directory = tempfile::tempdir_in("/tmp").unwrap();
        let link = directory.path().join("sh");
        symlink("/bin/sh", &link).unwrap();
        assert!(why(&link).contains("/tmp"), "{}", why(&link));
        assert_eq!(
            parts(Path::new("../a/./b")),
            [PathBuf::from("b"), PathBuf::from("a"), PathBuf::from("..")]
        );
    }
}
