//! Many pods at once through today's containerd: what the plugins cost a node when it starts.
//!
//! `cargo bench --bench pods [-- --help]`, as root. Ours and the Go plugins of Debian's sid take turns, each with a containerd and a
//! node of its own. The processor time is that of all plugin processes, counted by a program that stands in their place
//! (`benches/meter.rs`); the rest of a pod's start (containerd, runc, the kernel's namespaces) is the same for both.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[path = "lab/build.rs"]
mod build;
#[path = "pods/containerd.rs"]
mod containerd;
#[path = "pods/cri.rs"]
mod cri;
#[path = "lab/example.rs"]
mod example;
#[path = "lab/machine.rs"]
mod machine;
#[path = "lab/network.rs"]
mod network;
#[path = "lab/peers.rs"]
mod peers;
#[path = "lab/plugins.rs"]
mod plugins;
#[path = "lab/sandbox.rs"]
mod sandbox;
#[path = "lab/stage.rs"]
mod stage;
#[path = "pods/turn.rs"]
mod turn;

use containerd::{Containerd, Site};
use network::{inside, run};
use sandbox::note;
use stage::Stage;
use turn::{Cost, Turn};

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Programs, and Debian's packages that have them.
const NEEDS: [(&str, &str); 7] = [
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("curl", "curl"),
    ("tar", "tar"),
    ("sha256sum", "coreutils"),
    ("readelf", "binutils"),
];
/// Go's processor time is at least so many times ours.
const BUDGET: f64 = 8.0;

/// Starts and stops many pods at once through Debian's newest containerd, with our plugins and with Go's; prints a table in Markdown.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench pods --")]
struct Options {
    /// Turns of each contestant in each row
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Pods that come and go at once
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    pods: u16,
    /// Order of the turns: a number that an earlier run printed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Our binary, instead of what image/build-binary makes now
    #[arg(long, value_name = "FILE")]
    ours: Option<PathBuf>,
    /// What cargo itself passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Serialize, Deserialize)]
struct Task {
    rounds: u32,
    pods: u16,
    seed: u64,
    /// Ours, then Go's.
    contestants: [Contestant; 2],
    runtime: PathBuf,
    meter: PathBuf,
    /// Below target, so on a disk.
    directory: PathBuf,
    cgroup: String,
}

#[derive(Serialize, Deserialize)]
struct Contestant {
    title: String,
    name: String,
    plugins: Stage,
}

fn main() -> ExitCode {
    let mut directory = None;
    let cgroup = format!("/smarter-cni-bench-{}", std::process::id());
    // A process namespace ends whatever a failing run left behind.
    let namespaces = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let code = sandbox::run(&namespaces, || prepare(&mut directory, &cgroup), measure);
    remove_cgroup(&cgroup);
    code
}

/// Builds, fetches and looks for everything; `directory` lives as long as its owner.
fn prepare(directory: &mut Option<TempDir>, cgroup: &str) -> Result<Task> {
    let options = Options::parse();
    if !rustix::process::geteuid().is_root() {
        return Err("container runtimes need root".into());
    }
    peers::require(&NEEDS)?;
    let newest = peers::Newest::fetch()?;
    let directory = directory.insert(build::directory()?).path().to_owned();
    let ours = options.ours.map_or_else(build::binary, Ok)?.canonicalize()?;
    let go = Stage::new(directory.join("go/programs"))
        .with_go_plugins(&newest.file("usr/lib/cni"))?
        .with_iptables()?;
    Ok(Task {
        rounds: options.rounds,
        pods: options.pods,
        seed: options.seed.unwrap_or_else(|| u64::from(fastrand::u32(..))),
        contestants: [
            Contestant {
                title: "ours".to_owned(),
                name: "ours".to_owned(),
                plugins: Stage::new(directory.join("ours/programs")).with_our_plugins(ours),
            },
            Contestant {
                title: format!("Go {}", newest.version("containernetworking-plugins")?),
                name: "go".to_owned(),
                plugins: go,
            },
        ],
        runtime: newest.file(""),
        meter: example::build("meter")?,
        directory,
        cgroup: cgroup.to_owned(),
    })
}

type Pick = fn(&Turn) -> Cost;

fn measure(task: &Task) -> Result<String> {
    let nodes = task.contestants.iter().map(|who| task.node(who)).collect::<Result<Vec<_>>>()?;
    let mut chance = Rng::with_seed(task.seed);
    let mut rows = String::new();
    for (what, ports) in [("", false), (" with a port", true)] {
        let mut turns = [Vec::new(), Vec::new()];
        for round in 0..task.rounds {
            note(&format!("{} pods{what} at once: round {} of {}", task.pods, round + 1, task.rounds));
            let mut order = [0, 1];
            chance.shuffle(&mut order);
            for who in order {
                turns[who].push(task.turn(&task.contestants[who], &nodes[who], ports)?);
            }
        }
        task.rows(&mut rows, what, &turns)?;
    }
    let [ours, go] = &task.contestants;
    Ok(format!(
        "{}; medians of {} rounds, --seed {}\n\n| | {} | {} | {} / {} | budget |\n|---|---|---|---|---|\n{rows}",
        machine::describe()?,
        task.rounds,
        task.seed,
        ours.title,
        go.title,
        go.title,
        ours.title,
    ))
}

impl Task {
    fn node(&self, who: &Contestant) -> Result<Containerd> {
        note(&format!("containerd for {}", who.title));
        who.plugins.lay()?;
        run(&format!("ip netns add {}", who.name))?;
        inside(&who.name, || {
            run("ip link set lo up")?;
            let site = Site {
                directory: self.directory.join(&who.name),
                name: &who.name,
                runtime: &self.runtime,
                plugins: &who.plugins,
                meter: &self.meter,
            };
            site.start()
        })
    }

    fn rows(&self, text: &mut String, what: &str, turns: &[Vec<Turn>; 2]) -> Result<()> {
        let pods = self.pods;
        let verbs: [(&str, Pick); 2] = [("ADD", |turn| turn.add), ("DEL", |turn| turn.del)];
        let mut row = |what: String, pick: &dyn Fn(&Turn) -> Duration, budget: Option<f64>| -> Result<()> {
            let [ours, go] = [0, 1].map(|who| median(&turns[who], pick));
            let ratio = go / ours;
            let budget = budget.map_or_else(String::new, |least| {
                format!("≥ {least}{}", if ratio >= least { "" } else { " (missed)" })
            });
            Ok(writeln!(text, "| {what} | {ours:.0} ms | {go:.0} ms | {ratio:.1} | {budget} |")?)
        };
        let both = |turn: &Turn| turn.add.processor + turn.del.processor;
        row(format!("processor time of the plugins, {pods} pods{what}"), &both, Some(BUDGET))?;
        for (verb, pick) in verbs {
            row(format!("of that for {verb}"), &|turn| pick(turn).processor, None)?;
        }
        for (verb, pick) in verbs {
            row(format!("until the last {verb} is done, {pods} pods{what}"), &|turn| pick(turn).wall, None)?;
        }
        let kib =
            |who: usize| turns[who].iter().map(|turn| turn.add.kib.max(turn.del.kib)).max().unwrap_or(0);
        let [ours, go] = [0, 1].map(|who| format!("{}.{} MiB", kib(who) >> 10, kib(who) % 1024 * 10 / 1024));
        Ok(writeln!(
            text,
            "| peak memory of the largest plugin process, {pods} pods{what} | {ours} | {go} | | |"
        )?)
    }
}

/// Milliseconds.
fn median(turns: &[Turn], pick: impl Fn(&Turn) -> Duration) -> f64 {
    let mut all: Vec<Duration> = turns.iter().map(pick).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default().as_secs_f64() * 1e3
}

/// runc leaves the empty group of all pods, in every hierarchy of cgroup version 1 and in version 2.
fn remove_cgroup(group: &str) {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_owned()]) {
        // One that is not empty belongs to somebody who still runs; there is nobody to tell.
        let _ = fs::remove_dir(hierarchy.join(group.trim_start_matches('/')));
    }
}
