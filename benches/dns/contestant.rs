//! A name server of somebody, with the same names and the same upstream as the others, and what the kernel says of it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise, fdatasync};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::load::{self, Question, UPSTREAM, WORLD};
use crate::names::Pods;
use crate::{Result, write};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Ours,
    Dnsmasq,
    Unbound,
    Aardvark,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Contestant {
    pub(crate) kind: Kind,
    /// With its version.
    pub(crate) title: String,
    file: PathBuf,
}

/// Where aardvark-dns finds what it is told, a file for each network.
const NETWORKS: &str = "/run/aardvark-dns";
/// A loaded machine takes its time to start one.
const PATIENCE: Duration = Duration::from_secs(20);

impl Contestant {
    /// A copy, as an installer brings one: not as a linker left it, and of the same age as the others. And not in memory: a name
    /// server's program is read from the disk when its node starts, and the kernel maps what was written a moment ago in larger
    /// pieces (folios), of which each counts as the server's as a whole.
    pub(crate) fn stage(kind: Kind, from: &Path, directory: &Path) -> Result<Self> {
        let file = directory.join(format!("{kind:?}").to_lowercase());
        fs::write(&file, fs::read(from).map_err(|error| format!("{}: {error}", from.display()))?)?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755))?;
        let title = match kind {
            Kind::Ours => "ours".to_owned(),
            Kind::Dnsmasq => format!("dnsmasq {}", version(&file, "--version", "Dnsmasq version ")?),
            Kind::Unbound => format!("unbound {}", version(&file, "-V", "Version ")?),
            Kind::Aardvark => format!("aardvark-dns {}", version(&file, "--version", "aardvark-dns ")?),
        };
        let staged = File::open(&file)?;
        fdatasync(&staged)?;
        fadvise(&staged, 0, None, Advice::DontNeed)?;
        Ok(Self { kind, title, file })
    }

    pub(crate) fn address(&self) -> Ipv4Addr {
        let last = match self.kind {
            Kind::Ours => 2,
            Kind::Dnsmasq => 3,
            Kind::Unbound => 4,
            Kind::Aardvark => 5,
        };
        Ipv4Addr::new(169, 254, 0, last)
    }

    /// Answers when this returns.
    pub(crate) fn start(&self, pods: &Pods, directory: &Path) -> Result<Server<'_>> {
        let mut command = match self.kind {
            Kind::Ours => self.ours(),
            Kind::Dnsmasq => self.dnsmasq(pods, directory)?,
            Kind::Unbound => self.unbound(pods, directory)?,
            Kind::Aardvark => self.aardvark(pods)?,
        };
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let mut child = child.map_err(|error| format!("{}: {error}", self.title))?;
        // The others stay what was started; this one leaves a process behind that serves.
        let pid = if self.kind == Kind::Aardvark {
            child.wait()?;
            fs::read_to_string(Path::new(NETWORKS).join("aardvark.pid"))?.trim().parse()?
        } else {
            child.id()
        };
        let server = Server { contestant: self, child, pid };
        let question = [Question::new("ready.example.org", WORLD)];
        let begun = Instant::now();
        while let Err(error) = load::ask(self.address(), &question, 1) {
            if begun.elapsed() > PATIENCE {
                return Err(format!("{}: {error}", self.title).into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    fn ours(&self) -> Command {
        let mut command = Command::new(&self.file);
        command.arg("dns").env_clear().env("DNS_UPSTREAM", UPSTREAM.to_string());
        command.stderr(Stdio::null());
        command
    }

    /// It is given its names as smarter-dns gave them to CoreDNS: as a file of hosts(5).
    fn dnsmasq(&self, pods: &Pods, directory: &Path) -> Result<Command> {
        let hosts = directory.join("hosts");
        let lines = pods.by_address().map(|(address, names)| format!("{address} {}\n", names.join(" ")));
        write(&hosts, &lines.collect::<String>())?;
        let mut command = Command::new(&self.file);
        command.args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--conf-file=/dev/null",
            "--pid-file=",
        ]);
        command.args(["--user=root", "--bind-interfaces", "--local=/cluster.local/", "--cache-size=10000"]);
        command.arg(format!("--addn-hosts={}", hosts.display()));
        command.arg(format!("--listen-address={}", self.address())).arg(format!("--server={UPSTREAM}"));
        command.stderr(Stdio::null());
        Ok(command)
    }

    /// One thread, and no validation: nobody else here validates.
    fn unbound(&self, pods: &Pods, directory: &Path) -> Result<Command> {
        let mut text = format!(
            "server:\n interface: {}\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n \
             num-threads: 1\n access-control: 0.0.0.0/0 allow\n module-config: \"iterator\"\n directory: \"{}\"\n \
             local-zone: \"cluster.local.\" static\n",
            self.address(),
            directory.display()
        );
        for (name, address) in pods.names() {
            writeln!(text, " local-data: \"{name}. A {address}\"")?;
        }
        write!(
            text,
            "remote-control:\n control-enable: no\nforward-zone:\n name: \".\"\n forward-addr: {UPSTREAM}\n"
        )?;
        let file = directory.join("unbound.conf");
        write(&file, &text)?;
        let mut command = Command::new(&self.file);
        command.arg("-c").arg(file).stderr(Stdio::null());
        Ok(command)
    }

    /// podman's: it knows the containers of a network, and asks for everything else each time anew.
    fn aardvark(&self, pods: &Pods) -> Result<Command> {
        // Who asks must be a container, too.
        let mut text = format!("{0}\n{1:064x} {0}  asker\n", self.address(), u32::MAX);
        for (at, (address, names)) in pods.by_address().enumerate() {
            writeln!(text, "{at:064x} {address}  {}", names.join(","))?;
        }
        fs::create_dir_all(NETWORKS)?;
        write(&Path::new(NETWORKS).join("lab"), &text)?;
        let mut command = Command::new(&self.file);
        command.args(["--config", NETWORKS, "--port", "53", "run"]).stderr(Stdio::null());
        Ok(command)
    }
}

fn version(file: &Path, option: &str, before: &str) -> Result<String> {
    let out =
        Command::new(file).arg(option).output().map_err(|error| format!("{}: {error}", file.display()))?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let found = text.lines().find_map(|line| line.strip_prefix(before)?.split_whitespace().next());
    Ok(found.ok_or_else(|| format!("{} does not say its version", file.display()))?.to_owned())
}

/// A contestant that runs; it ends with this value.
#[derive(Debug)]
pub(crate) struct Server<'c> {
    contestant: &'c Contestant,
    child: Child,
    pid: u32,
}

/// Bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    /// What is not pages of files.
    pub(crate) own: u64,
}

impl Server<'_> {
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.contestant.address()
    }

    /// User and system, of all threads. In nanoseconds, where `stat` counts hundredths of a second.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let mut whole = 0;
        for task in fs::read_dir(self.place("task"))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            whole += text.split_whitespace().next().ok_or("an empty schedstat")?.parse::<u64>()?;
        }
        Ok(Duration::from_nanos(whole))
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        let bytes = |key: &str| -> Result<u64> {
            Ok(self.value("status", key)?.trim_end_matches(" kB").trim().parse::<u64>()? << 10)
        };
        Ok(Memory { resident: bytes("VmRSS:")?, own: bytes("RssAnon:")? })
    }

    /// How often it gave up the processor: each is one time that it woke up.
    pub(crate) fn wakes(&self) -> Result<u64> {
        Ok(self.value("status", "voluntary_ctxt_switches:")?.parse()?)
    }

    pub(crate) fn written(&self) -> Result<u64> {
        Ok(self.value("io", "write_bytes:")?.parse()?)
    }

    fn value(&self, file: &str, key: &str) -> Result<String> {
        let text = fs::read_to_string(self.place(file))?;
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        Ok(line.ok_or_else(|| format!("no {key} in {file}"))?.trim().to_owned())
    }

    fn place(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}", self.pid)).join(file)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
        let _ = self.child.wait();
    }
}
