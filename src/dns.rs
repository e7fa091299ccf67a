//! `dns`: the node's own name server. Pods and programs of the node find the node's pods by name, with and without an uplink;
//! any other name is asked of the node's upstream servers.
//!
//! ```text
//!  resident      puts it together, and stays
//!  server        answers; sockets, control, handover: how one is asked
//!  data          whose names there are
//!  listed        the same for whoever asks no server
//!  zone message  decide and speak; pure, as are name and settings
//!  forward cache upstreams   what others know
//! ```
//!
//! One process, no child, and one thread, unless a runtime shall be asked as well; nothing is written but the socket beside the
//! records, and, where it has another port than 53, which. Refuses to ask an API server, to change an address or a rule of the
//! node, and to answer anybody but its pods and itself.

mod cache;
mod control;
mod data;
mod forward;
#[cfg(fuzzing)]
pub mod fuzz;
mod handover;
mod listed;
mod message;
mod name;
mod owner;
mod query;
mod resident;
mod server;
mod settings;
mod signals;
mod sockets;
mod upstreams;
mod zone;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;

use crate::Outcome;
use crate::net::DNS_PORT;
use settings::Settings;

pub(crate) use handover::SOCKET;
pub(crate) use listed::{Names, names};
pub(crate) use upstreams::FILES as UPSTREAM_FILES;

#[derive(Debug, Default, clap::Parser)]
#[command(
    name = "smarter-cni dns",
    about = "Serve the names of this node's pods to them and to this node, and ask upstream for all others",
    long_about = "Serves until it is ended: names of this node's pods come from their attachment records, all other names from the \
                  node's upstream servers. Settings are variables of the environment, the keys of the ConfigMap smarterdnsconfig: \
                  dns-address (CLUSTER_DNS), domain (CLUSTER_DOMAIN), DNS_LOGGING, dns-upstream, dns-cluster-upstream, dns-hosts, \
                  dns-ttl, dns-cache, dns-stale, dns-single-labels, dns-fallback-port, dns-host-network-names. SIGHUP reads \
                  everything again, SIGTERM ends it when nobody waits for an answer any more. A second one takes over from the \
                  first without a lost question.\n\n\
                  With --query it asks the running one instead. Exit code then 0: there are records; 1: there are none; 2: nobody \
                  answers, or the words make no sense."
)]
struct Options {
    /// Ask for a name, as a pod would; TYPE is A and AAAA unless said
    #[arg(long, value_names = ["NAME", "TYPE"], num_args = 1..=2)]
    query: Option<Vec<String>>,
    /// Ask this server instead of the one of this node
    #[arg(long, value_name = "ADDRESS", requires = "query")]
    server: Option<String>,
    /// Print one JSON object: {"version":1,"name",…,"status","answers":[…]}
    #[arg(long, requires = "query")]
    json: bool,
}

/// Wrong words, or nobody to ask.
const COULD_NOT_RUN: u8 = 2;

/// The options, for whoever describes them.
pub(crate) fn command() -> clap::Command {
    <Options as clap::CommandFactory>::command()
}

/// Whether a server runs on this node.
#[derive(Debug)]
pub(crate) enum Running {
    /// With what it says of itself, counters among it.
    Serves(serde_json::Value),
    Nobody,
    /// It is not known, and why.
    Unknown(String),
}

/// Asks at its socket, where it answers at once or not.
pub(crate) fn running(socket: &Path) -> Running {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
    let error = match query::counters(socket) {
        Ok(report) => return Running::Serves(report),
        Err(error) => error,
    };
    match error.kind() {
        NotFound | ConnectionRefused => Running::Nobody,
        PermissionDenied => Running::Unknown("only root may ask it; run as root".to_owned()),
        _ => Running::Unknown(format!("{}: {error}", socket.display())),
    }
}

/// Who has our port of an address, in words.
pub(crate) fn holders(address: IpAddr) -> BTreeSet<String> {
    let of = |kind| owner::all(address, DNS_PORT, kind);
    [sockets::Kind::Udp, sockets::Kind::Tcp].into_iter().flat_map(of).collect()
}

/// The servers that a file in the form of resolv.conf names.
pub(crate) fn servers_in(file: &Path) -> Vec<IpAddr> {
    upstreams::watch::read(file).into_iter().map(|server| server.address).collect()
}

/// The name servers that a pod's resolv.conf names; `None` where the runtime's file is not found.
pub(crate) fn resolvers_of(root: &Path, container: &str) -> Option<Vec<IpAddr>> {
    let text = data::Places::below(root).resolv_conf(container)?;
    Some(upstreams::resolv_conf(&text).into_iter().map(|server| server.address).collect())
}

/// The command. `environment` is read once, at the edge.
pub fn run(arguments: &[OsString], environment: &[(OsString, OsString)]) -> Outcome {
    let options = match parse(arguments) {
        Ok(options) => options,
        Err(error) if error.use_stderr() => return failed(COULD_NOT_RUN, &error.to_string()),
        Err(help) => return Outcome::printed(help.to_string()),
    };
    let settings = match Settings::parse(environment) {
        Ok(settings) => settings,
        Err(wrong) => {
            let words = format!(
                "smarter-cni dns: {wrong}\n`smarter-cni dns --help` names the settings; docs/dns.md explains them\n"
            );
            return failed(COULD_NOT_RUN, &words);
        }
    };
    match options.query {
        Some(words) => query::run(&words, options.server.as_deref(), options.json, &settings),
        None => match resident::run(settings, environment) {
            Ok(()) => Outcome::default(),
            Err(error) => failed(1, &format!("smarter-cni dns: {error}\n")),
        },
    }
}

/// Whoever stays keeps in memory what was touched once, and the parser is large: with nothing to parse it is left alone.
fn parse(arguments: &[OsString]) -> Result<Options, clap::Error> {
    if arguments.is_empty() {
        return Ok(Options::default());
    }
    let name = std::iter::once(OsString::from("smarter-cni dns"));
    <Options as clap::Parser>::try_parse_from(name.chain(arguments.iter().cloned()))
}

fn failed(status: u8, words: &str) -> Outcome {
    Outcome { stderr: words.to_owned(), status, ..Outcome::default() }
}
