//! Our plugins beside those they replace, and beside the floor (`benches/floor.rs`): the table in the README.
//!
//! `cargo bench [-- --help]`, as root or in a user namespace, on Debian. All take turns in one run, each on a node of its own
//! (`bridge/contestant.rs`) and from copies that are as old as everybody else's (`lab/stage.rs`). State is in memory, programs
//! are on the disk. What one measurement is, is said in `bridge/cost.rs`, that the work was really done is seen by
//! `bridge/proof.rs`.
//!
//! The chain of bridge and portmap is two processes one after the other, timed each and summed, with one TCP port mapped.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use fastrand::Rng;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

#[path = "lab/build.rs"]
mod build;
#[path = "bridge/call.rs"]
mod call;
#[path = "bridge/contestant.rs"]
mod contestant;
#[path = "bridge/contestants.rs"]
mod contestants;
#[path = "bridge/cost.rs"]
mod cost;
#[path = "lab/example.rs"]
mod example;
#[path = "lab/machine.rs"]
mod machine;
#[path = "lab/network.rs"]
mod network;
#[path = "bridge/once.rs"]
mod once;
#[path = "lab/peers.rs"]
mod peers;
#[path = "lab/plugins.rs"]
mod plugins;
#[path = "bridge/present.rs"]
mod present;
#[path = "bridge/proof.rs"]
mod proof;
#[path = "bridge/race.rs"]
mod race;
#[path = "bridge/report.rs"]
mod report;
#[path = "lab/sandbox.rs"]
mod sandbox;
#[path = "lab/stage.rs"]
mod stage;

use contestant::{Contestant, Work};
use contestants::Peer;
use present::Place;
use race::{Heat, Pages, Turn};
use report::{Budget, Pick, Report, mebibytes};
use sandbox::note;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

/// Programs, and Debian's packages that have them.
const NEEDS: [(&str, &str); 7] = [
    ("unshare", "util-linux"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("iptables-restore", "iptables"),
    ("strace", "strace"),
    ("readelf", "binutils"),
];
/// How many mapped pods are on the node already, rising.
const PRESENT: [usize; 3] = [0, 150, 1000];
/// Among that many, a round of those with iptables takes more than a second.
const MANY: usize = 1000;
const PATIENCE: usize = 8;
const FOREIGN_RULES: usize = 10_000;

const ADD: Budget = Budget { floor: 1.3, go: Some(11.0) };
const ADD_DROPPED: Budget = Budget { floor: 1.6, go: Some(8.0) };
const CHAIN: Budget = Budget { floor: 1.5, go: Some(14.0) };
const DEL: Budget = Budget { floor: 1.1, go: None };

/// Measures our plugins beside those they replace and beside the least that any program must do; prints a table in Markdown.
#[derive(Parser)]
#[command(bin_name = "cargo bench --bench bridge --")]
struct Options {
    /// Turns of each contestant in each row
    #[arg(long, value_name = "N", default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Order of the turns: a number that an earlier run printed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Our binary, instead of what image/build-binary makes now
    #[arg(long, value_name = "FILE")]
    ours: Option<PathBuf>,
    /// The floor, instead of what cargo makes of benches/floor.rs now
    #[arg(long, value_name = "FILE")]
    floor: Option<PathBuf>,
    /// Whom to measure beside ours and the floor
    #[arg(
        long,
        value_name = "NAME,…",
        value_delimiter = ',',
        default_value = "newest,newest-nft,stable,netavark"
    )]
    against: Vec<Peer>,
    /// Other Go plugins in the place of Debian stable's
    #[arg(long, value_name = "DIR", default_value = contestants::STABLE)]
    peer: PathBuf,
    /// What cargo itself passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Serialize, Deserialize)]
struct Task {
    rounds: usize,
    seed: u64,
    contestants: Vec<Contestant>,
    meter: PathBuf,
    /// Below target, so on a disk.
    directory: PathBuf,
}

fn main() -> ExitCode {
    let mut directory = None;
    sandbox::run(&["--net", "--mount"], || prepare(&mut directory), measure)
}

/// Builds, fetches and looks for everything; `directory` lives as long as its owner.
fn prepare(directory: &mut Option<TempDir>) -> Result<Task> {
    let options = Options::parse();
    peers::require(&NEEDS)?;
    let directory = directory.insert(build::directory()?).path().to_owned();
    let ours = options.ours.map_or_else(build::binary, Ok)?.canonicalize()?;
    let floor = options.floor.map_or_else(|| example::build("floor"), Ok)?.canonicalize()?;
    let contestants = contestants::gather(ours, floor, &options.against, &options.peer, &directory)?;
    Ok(Task {
        rounds: options.rounds.try_into()?,
        seed: options.seed.unwrap_or_else(|| u64::from(fastrand::u32(..))),
        contestants,
        meter: example::build("meter")?,
        directory,
    })
}

fn measure(task: &Task) -> Result<String> {
    for contestant in &task.contestants {
        contestant.stage.lay()?;
        contestant.prepare()?;
    }
    let mut report = Report::new(&task.contestants)?;
    let mut chance = Rng::with_seed(task.seed);
    let bridge = task.race("bridge", Work::Bridge, Pages::Fresh, 1, &mut chance)?;
    let dropped =
        task.race("bridge, programs dropped from memory", Work::Bridge, Pages::Dropped, 1, &mut chance)?;
    report.times("bridge ADD with ipMasq", &bridge, |turn| turn.add.time, Some(ADD))?;
    report.times("the same, programs not in memory", &dropped, |turn| turn.add.time, Some(ADD_DROPPED))?;
    report.times("bridge DEL with ipMasq", &bridge, |turn| turn.del.time, Some(DEL))?;
    chain_rows(&mut report, &task.chains(&mut chance)?)?;
    usage_rows(&mut report, &bridge, &dropped)?;
    counted_rows(&mut report, task)?;
    report.finish(&format!(
        "medians of {} rounds (with iptables and {MANY} mapped pods 1/{PATIENCE} of them), --seed {}",
        task.rounds, task.seed
    ))
}

/// What was there already, and the turns among it.
type Chains = Vec<(String, Vec<Vec<Turn>>)>;

impl Task {
    fn race(
        &self,
        what: &str,
        work: Work,
        pages: Pages,
        patience: usize,
        chance: &mut Rng,
    ) -> Result<Vec<Vec<Turn>>> {
        note(&format!("{what}: {} rounds of {} contestants", self.rounds, self.contestants.len()));
        let turns = Heat { work, pages, rounds: self.rounds, patience }.run(&self.contestants, chance)?;
        note(&report::glance(&self.contestants, &turns));
        Ok(turns)
    }

    /// First among somebody else's rules, then among more and more pods.
    fn chains(&self, chance: &mut Rng) -> Result<Chains> {
        let mut chains = Vec::new();
        let mut chain = |there: String, patience| -> Result<()> {
            let what = format!("bridge + portmap, {there}");
            let turns = self.race(&what, Work::BridgeAndPort, Pages::Fresh, patience, chance)?;
            chains.push((there, turns));
            Ok(())
        };
        for (place, at) in [(Place::Elsewhere, "elsewhere"), (Place::Forward, "in the way of pods")] {
            self.contestants.iter().try_for_each(|who| who.add_foreign_rules(FOREIGN_RULES, place))?;
            chain(format!("{FOREIGN_RULES} foreign rules {at}"), 1)?;
            self.contestants.iter().try_for_each(Contestant::remove_foreign_rules)?;
        }
        for (at, present) in PRESENT.into_iter().enumerate() {
            let before = at.checked_sub(1).map_or(0, |at| PRESENT[at]);
            self.contestants.iter().try_for_each(|contestant| contestant.fill(before..present))?;
            chain(format!("{present} mapped pods there"), if present >= MANY { PATIENCE } else { 1 })?;
        }
        Ok(chains)
    }
}

fn chain_rows(report: &mut Report, chains: &Chains) -> Result<()> {
    let verbs: [(&str, Pick<Duration>, Budget); 2] =
        [("ADD", |turn| turn.add.time, CHAIN), ("DEL", |turn| turn.del.time, DEL)];
    for (verb, pick, budget) in verbs {
        for (there, turns) in chains {
            report.times(&format!("bridge + portmap {verb}, {there}"), turns, pick, Some(budget))?;
        }
    }
    if let [_, _, (_, few), .., (_, many)] = chains.as_slice() {
        for (verb, pick, _) in verbs {
            report.growth(&format!("flat? bridge + portmap {verb} with {MANY} / with 0"), few, many, pick)?;
        }
    }
    Ok(())
}

/// What the kernel counted during the turns.
fn usage_rows(report: &mut Report, fresh: &[Vec<Turn>], dropped: &[Vec<Turn>]) -> Result<()> {
    report.times("processor time of one bridge ADD", fresh, |turn| turn.add.processor, None)?;
    report.times("processor time of one bridge DEL", fresh, |turn| turn.del.processor, None)?;
    let bytes = |count: i64| mebibytes(count.unsigned_abs());
    report.counts(
        "page faults of one bridge ADD",
        fresh,
        |turn| turn.add.faults,
        |count| count.to_string(),
    )?;
    let what = "the same, programs not in memory: read from the disk";
    report.counts(what, dropped, |turn| turn.add.read, bytes)
}

fn counted_rows(report: &mut Report, task: &Task) -> Result<()> {
    note("what is counted once");
    let file = task.directory.join("count");
    let mut row = |what, count: &dyn Fn(&Contestant) -> Result<String>| -> Result<()> {
        let cells = task.contestants.iter().map(count).collect::<Result<Vec<_>>>()?;
        report.cells(what, &cells)
    };
    row("system calls of one bridge ADD", &|who| Ok(who.system_calls(&file)?.to_string()))?;
    row("processes started by one bridge ADD", &|who| Ok(who.processes(&file)?.to_string()))?;
    row("peak memory of one bridge ADD, largest process", &|who| {
        Ok(mebibytes(who.memory(&task.meter, &file)? << 10))
    })?;
    row("its programs on disk, without what they execute", &|who| {
        Ok(who.size()?.map_or_else(String::new, mebibytes))
    })
}
