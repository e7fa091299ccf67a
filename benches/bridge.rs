//! Our bridge beside the Go bridge it replaces, and beside the floor (`benches/floor.rs`).
//!
//! `cargo bench [-- --rounds N] [--ours DIR] [--peer DIR]`, as root, on Debian with the packages
//! `containernetworking-plugins strace time nftables iptables`. Prints a markdown table.
//!
//! All three run in one fresh sandbox (network, mounts, /run, /var/lib: memory, not disk), each on its own bridge, subnet
//! and pod, turn by turn, so that whatever the machine does meanwhile hits all of them. One measurement is what a
//! runtime waits for: fork, exec, configuration into a pipe, result out of a pipe, exit. The bridge and another pod are
//! there already: a node creates its bridge once, and a bridge that loses its last port goes down, which costs extra. The
//! pod's namespace is the same in every round, so that dismantling old ones disturbs nobody.
//!
//! The chain of bridge and portmap is two such processes one after the other, timed each and summed, with one TCP port
//! mapped; first with no other mapped pod on the node, then with more and more (`bridge/present.rs`).

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};

#[path = "bridge/present.rs"]
mod present;

/// Set in the inner process to the identity of the outer network namespace.
const OUTSIDE: &str = "SMARTER_CNI_BENCH";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What the four roles are called on disk.
const PLUGINS: [&str; 4] = ["bridge", "host-local", "portmap", "loopback"];
/// The kernel finishes some work of a call behind its back; the next contestant shall not pay for it.
const SETTLE: Duration = Duration::from_millis(30);
/// How many mapped pods are on the node already, rising.
const PRESENT: [usize; 3] = [0, 150, 1000];
/// Among that many, the Go plugins take more than a second for a round: they get this part of the rounds only.
const MANY: usize = 1000;
const PATIENCE: usize = 8;

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
    let options = Options::parse(env::args().skip(1))?;
    let Some(outside) = env::var_os(OUTSIDE) else { return reexecute(options) };
    if outside == identity()? {
        return Err(format!("{OUTSIDE} is set, but this is no sandbox").into());
    }
    sandbox()?;
    let contestants = contestants(&options)?;
    for contestant in &contestants {
        contestant.prepare()?;
    }
    let bridge = race(&contestants, options.rounds, 1, Contestant::attach)?;
    let rest = once(&contestants)?;
    for contestant in &contestants {
        contestant.prepare_chain()?;
    }
    let mut chains = Vec::new();
    for (at, present) in PRESENT.into_iter().enumerate() {
        let before = at.checked_sub(1).map_or(0, |at| PRESENT[at]);
        for contestant in &contestants {
            present::fill(contestant, before..present)?;
        }
        let part = if present >= MANY { PATIENCE } else { 1 };
        chains.push((present, race(&contestants, options.rounds, part, Contestant::attach_chain)?));
    }
    report(options.rounds, &bridge, &chains, &rest)
}

/// Where things are. The inner process gets all of them; on the command line of `cargo bench` all may be missing.
struct Options {
    rounds: usize,
    ours: Option<PathBuf>,
    peer: PathBuf,
    floor: Option<PathBuf>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { rounds: 40, ours: None, peer: "/usr/lib/cni".into(), floor: None };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => options.rounds = value()?.parse()?,
                "--ours" => options.ours = Some(value()?.into()),
                "--peer" => options.peer = value()?.into(),
                "--floor" => options.floor = Some(value()?.into()),
                // What cargo itself passes to every bench.
                "--bench" => {}
                _ => {
                    return Err(
                        format!("{word}? I know --rounds N, --ours DIR, --peer DIR, --floor FILE").into()
                    );
                }
            }
        }
        Ok(options)
    }
}

/// Builds what is to be measured, then runs this program once more as root of a network nobody else is in.
fn reexecute(options: Options) -> Result<String> {
    let built = build()?;
    let links = tempfile::tempdir()?;
    let ours = if let Some(dir) = options.ours {
        dir
    } else {
        for name in PLUGINS {
            symlink(&built.ours, links.path().join(name))?;
        }
        links.path().to_owned()
    };
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.arg("--map-root-user");
    }
    let run = unshare
        .args(["--net", "--mount"])
        .arg(env::current_exe()?)
        .args(["--rounds", &options.rounds.to_string()])
        .args([OsString::from("--ours"), ours.into(), "--peer".into(), options.peer.into()])
        .args([OsString::from("--floor"), options.floor.unwrap_or(built.floor).into()])
        .env(OUTSIDE, identity()?)
        .stderr(Stdio::inherit())
        .output()?;
    if !run.status.success() {
        return Err(format!("failed in its sandbox ({})", run.status).into());
    }
    Ok(String::from_utf8(run.stdout)?)
}

struct Built {
    ours: PathBuf,
    floor: PathBuf,
}

/// The binary as it is released. What cargo builds for a bench is not that: it ignores `panic = "abort"`.
fn build() -> Result<Built> {
    let cargo = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--bin",
            "smarter-cni",
            "--example",
            "floor",
            "--message-format=json-render-diagnostics",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(cargo.stdout)?;
    let messages: Vec<Value> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let executable = |name: &str| {
        let artifact = messages.iter().find(|m| m["target"]["name"] == name && m["executable"].is_string());
        let path = artifact.and_then(|m| m["executable"].as_str()).map(PathBuf::from);
        path.ok_or(format!("cargo did not build {name} ({})", cargo.status))
    };
    Ok(Built { ours: executable("smarter-cni")?, floor: executable("floor")? })
}

fn identity() -> Result<OsString> {
    let namespace = fs::metadata("/proc/thread-self/ns/net")?;
    Ok(format!("{}:{}", namespace.dev(), namespace.ino()).into())
}

fn sandbox() -> Result<()> {
    for dir in ["/run", "/var/run", "/var/lib"] {
        if !Path::new(dir).is_symlink() {
            mount("tmpfs", dir, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")
                .map_err(|e| format!("tmpfs on {dir}: {e}"))?;
        }
    }
    fs::create_dir("/var/lib/cni")?;
    for line in [
        "ip link set lo up",
        // What the floor reads: a table of the size of ours.
        "nft add table ip floor",
        "nft add map ip floor hostports { type inet_proto . inet_service : ipv4_addr . inet_service ; }",
        "nft add set ip floor hostports_at_ports { type inet_proto . inet_service ; }",
        "nft add set ip floor local_clients { type ipv4_addr ; }",
        "nft add set ip floor hairpin { type ipv4_addr . ipv4_addr ; }",
        "nft add set ip floor masq { type ipv4_addr ; flags interval ; elements = { 10.97.2.0/24 } ; }",
        "nft add chain ip floor postrouting { type nat hook postrouting priority 100 ; }",
        "nft add rule ip floor postrouting ip saddr @masq ip daddr != @masq masquerade",
    ] {
        run(line)?;
    }
    Ok(())
}

fn run(line: &str) -> Result<()> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let out = Command::new(words[0]).args(&words[1..]).output().map_err(|e| format!("{line}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    Err(format!("{line}: {}", String::from_utf8_lossy(&out.stderr)).into())
}

enum Program {
    /// A plugin directory.
    Plugins(PathBuf),
    Floor(PathBuf),
}

struct Contestant {
    title: &'static str,
    /// Short; also names the bridge, the network and the pod.
    name: &'static str,
    /// The third byte of its subnet 10.97.x.0/24.
    subnet: u8,
    program: Program,
}

fn contestants(options: &Options) -> Result<[Contestant; 3]> {
    let ours = options.ours.clone().ok_or("--ours is missing")?;
    let floor = options.floor.clone().ok_or("--floor is missing")?;
    let peer = options.peer.clone();
    for (dir, help) in [(&ours, ""), (&peer, ": apt-get install containernetworking-plugins")] {
        for name in PLUGINS {
            if !dir.join(name).exists() {
                return Err(format!("{} is missing{help}", dir.join(name).display()).into());
            }
        }
    }
    Ok([
        Contestant { title: "ours", name: "ours", subnet: 0, program: Program::Plugins(ours) },
        Contestant { title: "Go plugins", name: "peer", subnet: 1, program: Program::Plugins(peer) },
        Contestant { title: "floor", name: "floor", subnet: 2, program: Program::Floor(floor) },
    ])
}

/// `host` is the last byte of the address that the floor gives it, `port` the port of the node that leads to it.
struct Pod {
    name: &'static str,
    host: u8,
    port: u16,
}

/// Stays.
const RESIDENT: Pod = Pod { name: "resident", host: 2, port: 18_002 };
/// Comes and goes.
const GUEST: Pod = Pod { name: "guest", host: 3, port: 18_003 };

/// A plugin of the chain.
#[derive(Clone, Copy)]
enum Role {
    Bridge,
    Portmap,
}

/// One ADD and the DEL that takes it back.
struct Times {
    add: Duration,
    del: Duration,
}

type Pick = fn(&Times) -> Duration;

impl Contestant {
    /// The pods' namespaces, the bridge, the pod that stays, and a first round for the caches.
    fn prepare(&self) -> Result<()> {
        for pod in [&RESIDENT, &GUEST] {
            run(&format!("ip netns add {}-{}", self.name, pod.name))?;
        }
        if let Program::Floor(_) = self.program {
            // The plugins make their bridges themselves. A bridge without a MAC of its own takes one of its ports', and
            // forgets all neighbours when that port leaves.
            run(&format!("ip link add br-{} address 02:00:00:00:00:01 type bridge", self.name))?;
            run(&format!("ip addr add 10.97.{}.1/24 dev br-{}", self.subnet, self.name))?;
            run(&format!("ip link set br-{} up", self.name))?;
        }
        self.timed(Role::Bridge, "ADD", &RESIDENT, None, &[])?;
        self.attach()?;
        Ok(())
    }

    /// The pod that stays gets its port, as the first one of the node.
    fn prepare_chain(&self) -> Result<()> {
        let result = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{ "name": "eth0", "sandbox": format!("/run/netns/{}-resident", self.name) }],
            "ips": [{ "interface": 0, "address": format!("10.97.{}.{}/24", self.subnet, RESIDENT.host) }],
        });
        self.timed(Role::Portmap, "ADD", &RESIDENT, Some(&result), &[])?;
        self.attach_chain()?;
        Ok(())
    }

    fn attach(&self) -> Result<Times> {
        let (added, add) = self.timed(Role::Bridge, "ADD", &GUEST, None, &[])?;
        let result: Value = serde_json::from_slice(&added.stdout)?;
        thread::sleep(SETTLE);
        let (_, del) = self.timed(Role::Bridge, "DEL", &GUEST, Some(&result), &[])?;
        thread::sleep(SETTLE);
        Ok(Times { add, del })
    }

    fn attach_chain(&self) -> Result<Times> {
        let (attached, bridge) = self.timed(Role::Bridge, "ADD", &GUEST, None, &[])?;
        let result: Value = serde_json::from_slice(&attached.stdout)?;
        let (mapped, portmap) = self.timed(Role::Portmap, "ADD", &GUEST, Some(&result), &[])?;
        let add = bridge + portmap;
        let result: Value = serde_json::from_slice(&mapped.stdout)?;
        thread::sleep(SETTLE);
        let (_, portmap) = self.timed(Role::Portmap, "DEL", &GUEST, Some(&result), &[])?;
        let (_, bridge) = self.timed(Role::Bridge, "DEL", &GUEST, Some(&result), &[])?;
        thread::sleep(SETTLE);
        Ok(Times { add, del: portmap + bridge })
    }

    /// Runs one verb for one pod below `wrapper` (a tracer, a meter, nothing) and returns how long it took.
    fn timed(
        &self,
        role: Role,
        verb: &str,
        pod: &Pod,
        previous: Option<&Value>,
        wrapper: &[&str],
    ) -> Result<(Output, Duration)> {
        let stdin = self.stdin(role, pod, previous);
        let mut command = self.command(role, verb, pod, wrapper);
        let start = Instant::now();
        let mut child = command.spawn().map_err(|e| format!("{} {verb}: {e}", self.title))?;
        // The floor does not read; then the pipe may be gone.
        let _ = child.stdin.take().ok_or("no pipe")?.write_all(&stdin);
        let out = child.wait_with_output()?;
        let time = start.elapsed();
        if out.status.success() {
            return Ok((out, time));
        }
        let (stdout, stderr) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        Err(format!("{} {verb} failed ({}): {stdout}{stderr}", self.title, out.status).into())
    }

    fn stdin(&self, role: Role, pod: &Pod, previous: Option<&Value>) -> Vec<u8> {
        let network = format!("bench-{}", self.name);
        let mut config = match role {
            Role::Bridge => json!({
                "cniVersion": "1.0.0", "name": network, "type": "bridge",
                "bridge": format!("br-{}", self.name), "isGateway": true, "isDefaultGateway": true, "ipMasq": true,
                "ipam": { "type": "host-local", "subnet": format!("10.97.{}.0/24", self.subnet) },
            }),
            Role::Portmap => json!({
                "cniVersion": "1.0.0", "name": network, "type": "portmap", "capabilities": { "portMappings": true },
                "runtimeConfig": {
                    "portMappings": [{ "hostPort": self.port(pod), "containerPort": 80, "protocol": "tcp" }],
                },
            }),
        };
        if let Some(result) = previous {
            config["prevResult"] = result.clone();
        }
        config.to_string().into_bytes()
    }

    /// Each contestant has its own: their tables are asked one after the other for every packet.
    fn port(&self, pod: &Pod) -> u16 {
        pod.port + 10 * u16::from(self.subnet)
    }

    fn command(&self, role: Role, verb: &str, pod: &Pod, wrapper: &[&str]) -> Command {
        let netns = format!("/run/netns/{}-{}", self.name, pod.name);
        let (program, words) = match &self.program {
            Program::Plugins(dir) => match role {
                Role::Bridge => (dir.join("bridge"), Vec::new()),
                Role::Portmap => (dir.join("portmap"), Vec::new()),
            },
            Program::Floor(file) => {
                let (subnet, host, port, pod) = (self.subnet, pod.host, self.port(pod), pod.name);
                let line = match (role, verb) {
                    (Role::Bridge, _) => format!(
                        "{verb} br-floor {netns} eth0 veth{pod} 10.97.{subnet}.{host} 24 10.97.{subnet}.1 floor \
                         /var/lib/cni/{pod}.lease /run/{pod}.record",
                        verb = verb.to_lowercase(),
                    ),
                    (Role::Portmap, verb) => format!(
                        "{word} floor {port} 10.97.{subnet}.{host} 80 /run/{pod}.ports",
                        word = if verb == "ADD" { "map" } else { "unmap" },
                    ),
                };
                (file.clone(), line.split(' ').map(str::to_owned).collect())
            }
        };
        let mut command = match wrapper {
            [] => Command::new(program),
            [tool, words @ ..] => {
                let mut command = Command::new(tool);
                command.args(words).arg(program);
                command
            }
        };
        command.args(words).env_clear().env("PATH", PATH);
        command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", format!("{}-{}", self.name, pod.name));
        command.env("CNI_NETNS", netns).env("CNI_IFNAME", "eth0");
        if let Program::Plugins(dir) = &self.program {
            command.env("CNI_PATH", dir);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// ADD and DEL below a tool that writes to a file; returns what it wrote about the ADD.
    fn under(&self, tool: &[&str]) -> Result<String> {
        let file = tempfile::NamedTempFile::new()?;
        let path = file.path().to_str().ok_or("not UTF-8")?;
        let (added, _) = self.timed(Role::Bridge, "ADD", &GUEST, None, &[tool, &["-o", path]].concat())?;
        let text = fs::read_to_string(path)?;
        self.timed(Role::Bridge, "DEL", &GUEST, Some(&serde_json::from_slice(&added.stdout)?), &[])?;
        Ok(text)
    }

    /// Programs started by one ADD, itself included.
    fn processes(&self) -> Result<usize> {
        let trace = self.under(&["/usr/bin/strace", "-f", "-qq", "-e", "trace=execve,execveat"])?;
        Ok(trace.lines().filter(|line| line.ends_with(" = 0")).count())
    }

    /// Peak resident memory, in KiB, of the largest process of one ADD.
    fn memory(&self) -> Result<u64> {
        Ok(self.under(&["/usr/bin/time", "-f", "%M"])?.trim().parse()?)
    }

    /// Bytes on disk; four names of one file count once.
    fn size(&self) -> Result<u64> {
        let Program::Plugins(dir) = &self.program else { return Ok(0) };
        let mut files = Vec::new();
        for name in PLUGINS {
            let file = dir.join(name).canonicalize()?;
            if !files.contains(&file) {
                files.push(file);
            }
        }
        files.iter().map(|file| Ok(file.metadata()?.len())).sum()
    }
}

/// Every round gives each contestant one turn, and every contestant each place in the order equally often. The Go plugins
/// get `part` times fewer.
fn race(
    contestants: &[Contestant; 3],
    rounds: usize,
    part: usize,
    attach: fn(&Contestant) -> Result<Times>,
) -> Result<[Vec<Times>; 3]> {
    let mut times = [const { Vec::new() }; 3];
    for round in 0..rounds {
        for turn in 0..contestants.len() {
            let who = (round + turn) % contestants.len();
            if contestants[who].name != "peer" || round % part == 0 {
                times[who].push(attach(&contestants[who])?);
            }
        }
    }
    Ok(times)
}

/// Milliseconds.
fn median(times: &[Times], pick: Pick) -> f64 {
    percentile(times, pick, 50)
}

fn percentile(times: &[Times], pick: Pick, percent: usize) -> f64 {
    let mut all: Vec<Duration> = times.iter().map(pick).collect();
    all.sort();
    let at = all.get(all.len() * percent / 100).copied().unwrap_or_default();
    at.as_secs_f64() * 1e3
}

/// What needs no repetition, as rows.
fn once([ours, peer, floor]: &[Contestant; 3]) -> Result<String> {
    let mut text = String::new();
    let [o, p, f] = [ours.processes()?, peer.processes()?, floor.processes()?];
    writeln!(text, "| processes started by one bridge ADD | {o} | {p} | {f} | | |")?;
    let [o, p, f] = [ours.memory()?, peer.memory()?, floor.memory()?].map(tenths);
    writeln!(text, "| peak memory of one bridge ADD, largest process | {o} MiB | {p} MiB | {f} MiB | | |")?;
    let [o, p] = [ours.size()? / 1024, peer.size()? / 1024].map(tenths);
    writeln!(text, "| bridge, host-local, portmap and loopback on disk | {o} MiB | {p} MiB | | | |")?;
    Ok(text)
}

fn report(
    rounds: usize,
    bridge: &[Vec<Times>; 3],
    chains: &[(usize, [Vec<Times>; 3])],
    rest: &str,
) -> Result<String> {
    let mut text = header(rounds)?;
    text += "| | ours | Go plugins | floor | ours / floor | Go / ours |\n|---|---|---|---|---|---|\n";
    let verbs: [(&str, Pick); 2] = [("ADD", |times| times.add), ("DEL", |times| times.del)];
    for (verb, pick) in verbs {
        row(&mut text, &format!("bridge {verb} with ipMasq"), bridge, pick)?;
    }
    for (verb, pick) in verbs {
        for (present, times) in chains {
            let what = format!("bridge + portmap {verb}, {present} mapped pods there");
            row(&mut text, &what, times, pick)?;
        }
    }
    text += rest;
    let [(_, few), .., (most, many)] = chains else { return Ok(text) };
    for (verb, pick) in verbs {
        // The two were measured a minute apart: what the machine did meanwhile shows least in the faster rounds.
        let ratio = |who: usize| percentile(&many[who], pick, 25) / percentile(&few[who], pick, 25);
        let [o, p, f] = [ratio(0), ratio(1), ratio(2)];
        writeln!(
            text,
            "| flat? bridge + portmap {verb} with {most} / without | {o:.2} | {p:.2} | {f:.2} | | |"
        )?;
    }
    Ok(text)
}

fn row(text: &mut String, what: &str, times: &[Vec<Times>; 3], pick: Pick) -> Result<()> {
    let [o, p, f] = [0, 1, 2].map(|who| median(&times[who], pick));
    Ok(writeln!(text, "| {what} | {o:.1} ms | {p:.1} ms | {f:.1} ms | {:.2} | {:.1} |", o / f, p / o)?)
}

/// KiB as MiB.
fn tenths(kib: u64) -> String {
    format!("{}.{}", kib / 1024, kib % 1024 * 10 / 1024)
}

fn header(rounds: usize) -> Result<String> {
    let date = String::from_utf8(Command::new("date").args(["-u", "+%F"]).output()?.stdout)?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let cpuinfo = fs::read_to_string("/proc/cpuinfo")?;
    // x86 says it here, Arm boards in the device tree.
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": ").map(|(_, m)| m.to_owned()));
    let board = || fs::read_to_string("/proc/device-tree/model").ok();
    let model = model.or_else(board).unwrap_or_else(|| env::consts::ARCH.to_owned());
    let cpus = thread::available_parallelism()?;
    Ok(format!(
        "smarter-cni {}, {}, Linux {}, {} × {}; medians of {rounds} rounds\n\n\
         Mapped pods that are there already: elements and records, not real pods (nft -f; iptables-restore for the Go \
         plugins, with 1/{PATIENCE} of the rounds from {MANY} on).\n\n",
        env!("CARGO_PKG_VERSION"),
        date.trim(),
        kernel.trim(),
        cpus,
        model.trim_end_matches('\0').trim(),
    ))
}
