//! The name server as a process of the node, and pods that ask it.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde_json::Value;

use super::world::Host;
use super::{Result, tried};

/// Where pods ask on a node that was installed with the manifests.
pub(super) const ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 0, 2);
const SOCKET: &str = "/run/smarter-cni/dns.sock";
/// For its start and for its end; only failures wait for it.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(2);

/// `smarter-cni dns`, which stays until it is ended.
pub(super) struct Server(Child);

impl Server {
    /// From the main thread: the kernel ends it with the thread that started it.
    pub(super) fn start() -> Result<Self> {
        let mut command = Command::new(binary()?);
        command.args(["selftest", "--serve-names"]).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(Stdio::piped()).spawn().map(Self).map_err(tried("start the name server"))
    }

    /// The address that `from` finds under the name, as soon as it is served.
    pub(super) fn find(&mut self, from: &Host, name: &str) -> Result<IpAddr> {
        let begun = Instant::now();
        loop {
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(format!("the name server ended ({status}): {}", self.words()));
            }
            match ask(from, name) {
                Err(why) if begun.elapsed() >= PATIENCE => return Err(why),
                Err(_) => sleep(PAUSE),
                found => return found,
            }
        }
    }

    /// It goes when it is asked to, and takes its socket along.
    pub(super) fn end(mut self) -> Result<()> {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).ok_or("it has no number")?;
        kill_process(pid, Signal::TERM).map_err(tried("end the name server"))?;
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.0.try_wait().map_err(tried("wait for the name server"))? {
                Some(status) if !status.success() => {
                    return Err(format!("the name server ended with {status}: {}", self.words()));
                }
                Some(_) if fs::symlink_metadata(SOCKET).is_ok() => {
                    return Err(format!("the name server left {SOCKET}"));
                }
                Some(_) => return Ok(()),
                None => sleep(PAUSE),
            }
        }
        Err("the name server does not end when it is asked to".to_owned())
    }

    /// What it printed until its end.
    fn words(&mut self) -> String {
        let words = self.0.stderr.take().map(std::io::read_to_string);
        words.and_then(std::io::Result::ok).unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the started process does: it becomes the name server, which ends with this self test however that ends. Returns
/// only the reason why not.
pub(super) fn serve() -> String {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return tried("end with the self test")(error);
    }
    match binary() {
        Ok(binary) => tried("execute the name server")(role(&binary).arg("dns").exec()),
        Err(why) => why,
    }
}

/// As a program in the pod would, which may have settings of another server in its environment.
fn ask(from: &Host, name: &str) -> Result<IpAddr> {
    let words = ["dns", "--query", name, "A", "--json", "--server"].map(OsString::from);
    let mut command = role(&binary()?);
    command.args(words).arg(ADDRESS.to_string()).stdin(Stdio::null());
    let output = from.netns.visit(|| command.output()).map_err(|error| error.to_string())?;
    let output = output.map_err(tried("ask for a name"))?;
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let found = answer["answers"][0]["data"].as_str().and_then(|address| address.parse().ok());
    found.ok_or_else(|| {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let why = if why.is_empty() { format!("the answer is {}", answer["status"]) } else { why };
        format!("{} does not find {name}: {why}", from.name)
    })
}

fn role(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command.env_clear().env("DNS_ADDRESS", ADDRESS.to_string());
    command
}

fn binary() -> Result<PathBuf> {
    std::env::current_exe().map_err(tried("find this binary"))
}
