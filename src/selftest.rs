//! `selftest`: two throw-away pods through the real verbs, and bytes that must arrive.
//!
//! Makes namespaces of its own, executes this binary by the plugins' names as a container runtime would, with the built-in
//! default configuration, and proves the effect with random tokens and with names. Changes nothing on the machine, needs no privilege
//! beyond user namespaces, and needs no other program.

mod names;
mod probe;
mod report;
mod runtime;
mod world;

use std::ffi::OsString;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use self::report::Report;
use self::runtime::Runtime;
use self::world::World;
use crate::Outcome;
use crate::conflist::{Network, conflist};
use crate::log::Level;

/// Why a step failed, for a person.
type Result<T, E = String> = std::result::Result<T, E>;

#[derive(Debug, clap::Parser)]
#[command(
    name = "smarter-cni selftest",
    about = "Attach two throw-away pods with the default configuration and prove that bytes arrive",
    long_about = "Attaches two pods in throw-away namespaces by executing this binary as a container runtime would, with the \
                  built-in default configuration, and sends random tokens between the pods, the node and a host behind the \
                  uplink. Starts the name server there, too, and has each pod find the other by its name without an uplink. \
                  Changes nothing on this machine. Exit code 0: everything arrived and nothing is left; 1: the failed \
                  step is named."
)]
struct Options {
    /// Print one JSON object: {"version":1,"passed":…,"steps":[{"name","passed","detail","milliseconds"}]}
    #[arg(long)]
    json: bool,
    /// Become the name server of the self test that started this process
    #[arg(long, hide = true)]
    serve_names: bool,
}

/// The options, for whoever describes them.
pub(crate) fn command() -> clap::Command {
    <Options as clap::CommandFactory>::command()
}

pub fn run(arguments: &[OsString]) -> Outcome {
    let name = std::iter::once(OsString::from("smarter-cni selftest"));
    let options = match <Options as clap::Parser>::try_parse_from(name.chain(arguments.iter().cloned())) {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            return Outcome { stderr: error.to_string(), status: 2, ..Outcome::default() };
        }
        Err(help) => return Outcome::printed(help.to_string()),
    };
    if options.serve_names {
        return Outcome { stderr: format!("{}\n", names::serve()), status: 1, ..Outcome::default() };
    }
    let mut report = Report::default();
    let passed = walk(&mut report).is_ok();
    let text = if options.json { report.json(passed) } else { report.text(passed) };
    if passed { Outcome::printed(text) } else { Outcome::failed(text) }
}

/// Every step in order; the first that fails ends the walk.
fn walk(report: &mut Report) -> Result<(), ()> {
    // What happens to throw-away pods is printed here; the node's log is for those that stay.
    let network = Network { log_level: Some(Level::Off), dns: Some(names::ADDRESS), ..Network::default() };
    let world = report.step("make throw-away namespaces", || {
        let world = World::create()?;
        Ok((world, "node, pod-a, pod-b and an outside host behind the uplink".to_owned()))
    })?;
    let runtime = report.step("put the binary under the plugins' names", || {
        let runtime = Runtime::prepare(&world, conflist(&network))?;
        let detail = runtime.directory.display().to_string();
        Ok((runtime, detail))
    })?;
    let mut addresses = Vec::new();
    for pod in [&world.pod_a, &world.pod_b] {
        let address = report.step(&format!("attach {}", pod.name), || {
            let address = runtime.add(pod)?;
            runtime.check(pod)?;
            Ok((address, format!("{address} on {}", network.bridge)))
        })?;
        addresses.push(address);
    }
    let [a, b] = addresses[..] else { return Err(()) };
    send_tokens(report, &world, &network, a, b)?;
    report.step("find pod-b by name from pod-a, and pod-a from pod-b, without an uplink", || {
        find_names(&world, a, b).map(|found| ((), found))
    })?;
    for pod in [&world.pod_a, &world.pod_b] {
        report.step(&format!("detach {}", pod.name), || runtime.del(pod).map(|()| ((), String::new())))?;
    }
    report.step("look for anything left behind", || {
        runtime.nothing_left(&world)?;
        Ok(((), "no link, no lease, no record, no rule of a pod".to_owned()))
    })
}

fn send_tokens(
    report: &mut Report,
    world: &World,
    network: &Network,
    a: IpAddr,
    b: IpAddr,
) -> Result<(), ()> {
    let mut arrives = |name: &str, run: &dyn Fn() -> Result<String>| report.step(name, || Ok(((), run()?)));
    arrives("send a token from pod-a to pod-b", &|| {
        let source = probe::token_arrives(&world.pod_a, &world.pod_b, SocketAddr::new(b, 8080))?;
        expect_source(source, a)
    })?;
    arrives("send a token from pod-b to pod-a", &|| {
        let source = probe::token_arrives(&world.pod_b, &world.pod_a, SocketAddr::new(a, 8080))?;
        expect_source(source, b)
    })?;
    arrives("send a token from pod-a to the gateway", &|| {
        let source = probe::token_arrives(
            &world.pod_a,
            &world.node,
            SocketAddr::new(network.ranges.first().gateway(), 8081),
        )?;
        expect_source(source, a)
    })?;
    arrives("send a token from pod-a to the outside host", &|| {
        let to = SocketAddr::new(world::OUTSIDE.into(), 8082);
        let source = probe::token_arrives(&world.pod_a, &world.outside, to)?;
        expect_source(source, world::UPLINK.into()).map(|seen| format!("{seen}, the uplink's address"))
    })?;
    let (port, at_pod) = (world::MAPPED.0, SocketAddr::new(b, world::MAPPED.1));
    arrives("send a token from outside to the node's port that leads to pod-b", &|| {
        let node = SocketAddr::new(world::UPLINK.into(), port);
        let source = probe::token_is_led(&world.outside, node, &world.pod_b, at_pod)?;
        expect_source(source, world::OUTSIDE.into())
    })?;
    arrives("send a token from the node to 127.0.0.1 and that port", &|| {
        let node = SocketAddr::new(std::net::Ipv4Addr::LOCALHOST.into(), port);
        let source = probe::token_is_led(&world.node, node, &world.pod_b, at_pod)?;
        expect_source(source, network.ranges.first().gateway())
    })?;
    arrives("send a token from outside to pod-a's address", &|| {
        probe::token_is_lost(&world.outside, &world.pod_a, SocketAddr::new(a, 8083))
    })
}

/// Behind everything that needs the uplink.
fn find_names(world: &World, a: IpAddr, b: IpAddr) -> Result<String> {
    world::cut_uplink().map_err(|error| format!("cut the uplink: {error}"))?;
    let mut server = names::Server::start()?;
    for (from, name, expected) in [(&world.pod_a, world.pod_b.name, b), (&world.pod_b, world.pod_a.name, a)] {
        let found = server.find(from, name)?;
        if found != expected {
            return Err(format!("{} finds {name} at {found} instead of {expected}", from.name));
        }
    }
    server.end()?;
    Ok(format!("{b} and {a}, from {}", names::ADDRESS))
}

fn expect_source(seen: IpAddr, expected: IpAddr) -> Result<String> {
    if seen == expected {
        return Ok(format!("arrived from {seen}"));
    }
    Err(format!("the token arrived from {seen} instead of {expected}"))
}

/// How long something took, for the report.
fn milliseconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

/// What was tried, in front of what the system said.
fn tried<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> String + '_ {
    move |error| format!("{what}: {error}")
}

/// A random text that nothing else on the machine sends.
fn token() -> io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/uuid").map(|uuid| uuid.trim().to_owned())
}
