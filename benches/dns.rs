//! What an answer of the name server costs, beside Debian's dnsmasq and unbound and sid's aardvark-dns; what it costs to have one that nobody asks.
//!
//! `cargo bench --bench dns [-- --help]`. Prints a markdown table. All servers are in one network of their own with nothing but
//! its loopback, each at an address of its own, know the same names, and ask the same upstream, which is a thread of this bench.

use std::error::Error;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use fastrand::Rng;
use rustix::mount::mount_bind;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[path = "lab/build.rs"]
mod build;
#[path = "dns/contestant.rs"]
mod contestant;
#[path = "dns/load.rs"]
mod load;
#[path = "lab/machine.rs"]
mod machine;
#[path = "dns/names.rs"]
mod names;
#[path = "lab/network.rs"]
#[expect(dead_code, reason = "there is only one network")]
mod network;
#[path = "lab/peers.rs"]
#[expect(dead_code, reason = "versions are asked of the programs")]
mod peers;
#[path = "dns/report.rs"]
mod report;
#[path = "lab/sandbox.rs"]
mod sandbox;

use contestant::{Contestant, Kind, Server};
use load::Question;
use names::Pods;
use peers::Newest;
use report::Report;
use sandbox::note;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Measures what an answer of the name server costs, beside dnsmasq and unbound; prints a table in Markdown.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench dns --")]
struct Options {
    /// Turns of each contestant
    #[arg(long, value_name = "N", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Questions in one turn
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    questions: u32,
    /// Seconds to watch ours do nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    idle: u64,
    /// Our binary, instead of what image/build-binary makes now
    #[arg(long, value_name = "FILE")]
    ours: Option<PathBuf>,
    /// unbound, instead of this machine's: to install it starts it
    #[arg(long, value_name = "FILE")]
    unbound: Option<PathBuf>,
    /// Repeats the order of turns of an earlier run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What cargo itself passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Serialize, Deserialize)]
struct Task {
    rounds: u32,
    questions: u32,
    idle: Duration,
    seed: u64,
    directory: PathBuf,
    contestants: Vec<Contestant>,
}

/// Pods that are there while questions are answered.
const FEW: usize = 50;
/// Six names each.
const MANY: usize = 1667;
/// Names of the world that everybody keeps.
const KEPT: usize = 1000;
/// Until the kernel has announced what is new, and allocators have given back what they do not need.
const SETTLE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut directory = None;
    sandbox::run(&["--net", "--mount"], || prepare(&mut directory), measure)
}

/// `directory` lives as long as its owner.
fn prepare(directory: &mut Option<TempDir>) -> Result<Task> {
    let options = Options::parse();
    let directory = directory.insert(build::directory()?).path().to_owned();
    let mut needs = vec![("ip", "iproute2"), ("dnsmasq", "dnsmasq-base")];
    needs.extend(options.unbound.is_none().then_some(("unbound", "unbound")));
    peers::require(&needs)?;
    let unbound = options.unbound.map_or_else(|| peers::find("unbound"), Ok)?;
    let contestants = [
        (Kind::Ours, options.ours.map_or_else(build::binary, Ok)?),
        (Kind::Dnsmasq, peers::find("dnsmasq")?),
        (Kind::Unbound, unbound),
        (Kind::Aardvark, Newest::fetch()?.file("usr/lib/podman/aardvark-dns")),
    ];
    let staged = contestants.into_iter().map(|(kind, file)| Contestant::stage(kind, &file, &directory));
    Ok(Task {
        rounds: options.rounds,
        questions: options.questions,
        idle: Duration::from_secs(options.idle),
        seed: options.seed.unwrap_or_else(|| fastrand::u64(..)),
        contestants: staged.collect::<Result<_>>()?,
        directory,
    })
}

fn measure(task: &Task) -> Result<String> {
    network::run("ip link set lo up")?;
    for address in task.contestants.iter().map(Contestant::address).chain([load::UPSTREAM]) {
        network::run(&format!("ip addr add {address}/32 dev lo"))?;
    }
    load::upstream()?;
    upstream_of_the_node()?;
    let mut report = Report::new(&task.contestants);
    note(&format!("answers, {} rounds; --seed {}", task.rounds, task.seed));
    task.answers(&mut report)?;
    note(&format!("memory, idle and with {MANY} pods"));
    task.memory(&mut report)?;
    note(&format!("ours, idle for {} s", task.idle.as_secs()));
    task.idle(&mut report)?;
    report.text(task.rounds, task.questions)
}

impl Task {
    fn start(&self, pods: &Pods) -> Result<Vec<Server<'_>>> {
        pods.attach()?;
        self.contestants.iter().map(|contestant| contestant.start(pods, &self.directory)).collect()
    }

    /// Turn by turn, so that whatever the machine does meanwhile hits all of them.
    fn answers(&self, report: &mut Report) -> Result<()> {
        let pods = Pods(FEW);
        let mut servers = self.start(&pods)?;
        let local: Vec<Question> =
            pods.names().map(|(name, address)| Question::new(&name, address)).collect();
        let world = |at| Question::new(&format!("n{at}.example.org"), load::WORLD);
        let kept: Vec<Question> = (0..KEPT).map(world).collect();
        // Also the proof that all of them know all names.
        for server in &mut servers {
            load::ask(server.address(), &local, local.len())?;
            load::ask(server.address(), &kept, kept.len())?;
        }
        let mut costs = vec![[Vec::new(), Vec::new()]; servers.len()];
        let mut chance = Rng::with_seed(self.seed);
        let mut order: Vec<usize> = (0..servers.len()).collect();
        for _ in 0..self.rounds {
            chance.shuffle(&mut order);
            for &who in &order {
                for (what, questions) in [&local, &kept].into_iter().enumerate() {
                    let before = servers[who].processor_time()?;
                    load::ask(servers[who].address(), questions, usize::try_from(self.questions)?)?;
                    let took = servers[who].processor_time()?.saturating_sub(before);
                    costs[who][what].push(took / self.questions);
                }
            }
        }
        let of = |what: usize| costs.iter().map(|costs| costs[what].clone()).collect::<Vec<_>>();
        report.times("processor time of one answer, names of pods", of(0), Some(report::LOCAL))?;
        report.times("processor time of one answer, kept from upstream", of(1), Some(report::KEPT))
    }

    fn memory(&self, report: &mut Report) -> Result<()> {
        let few = self.memories(&Pods(0))?;
        report.memory("resident memory, idle", &few, |memory| memory.resident, Some(report::IDLE))?;
        report.memory("of that, what is not the program's files", &few, |memory| memory.own, None)?;
        let pods = Pods(MANY);
        let what = format!("resident memory with {} names", pods.names().count());
        let many = self.memories(&pods)?;
        report.memory(&what, &many, |memory| memory.resident, Some(report::MANY))
    }

    fn memories(&self, pods: &Pods) -> Result<Vec<contestant::Memory>> {
        let servers = self.start(pods)?;
        thread::sleep(SETTLE);
        servers.iter().map(Server::memory).collect()
    }

    /// A server that its pods have used and leave alone now.
    fn idle(&self, report: &mut Report) -> Result<()> {
        let pods = Pods(FEW);
        pods.attach()?;
        let ours = self.contestants.iter().find(|contestant| contestant.kind == Kind::Ours);
        let server = ours.ok_or("we do not take part")?.start(&pods, &self.directory)?;
        thread::sleep(SETTLE);
        let before = (server.wakes()?, server.written()?);
        thread::sleep(self.idle);
        let seconds = self.idle.as_secs();
        report.ours(&format!("times it wakes up in {seconds} s, idle"), server.wakes()? - before.0);
        report.ours(&format!("bytes it writes in {seconds} s, idle"), server.written()? - before.1);
        Ok(())
    }
}

/// aardvark-dns asks whom the node asks.
fn upstream_of_the_node() -> Result<()> {
    const FILE: &str = "/run/resolv.conf";
    let place = fs::canonicalize("/etc/resolv.conf").map_err(|error| format!("/etc/resolv.conf: {error}"))?;
    write(FILE.as_ref(), &format!("nameserver {}\n", load::UPSTREAM))?;
    Ok(mount_bind(FILE, place)?)
}

/// Where a contestant finds what it is told.
fn write(path: &std::path::Path, text: &str) -> Result<()> {
    Ok(fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// The address of a pod, as questions expect it.
fn pod_address(at: usize) -> Result<Ipv4Addr> {
    let [third, fourth] = [at / 250, at % 250 + 2].map(u8::try_from);
    Ok(Ipv4Addr::new(10, 97, third?, fourth?))
}
