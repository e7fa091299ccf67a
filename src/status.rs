//! `status`: which pods are attached, with which addresses, MACs, links and ports of the node, since when; and how much of
//! each pool is used. Changes nothing and takes no lock, so it works while pods come and go.

mod assemble;
mod gather;
mod names;
mod render;
mod view;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use crate::Outcome;
use crate::host::enter::enter;
use crate::text::printable;

#[derive(Debug, clap::Parser)]
#[command(
    name = "smarter-cni status",
    about = "Show attached pods, their addresses and ports of the node, and how much of each pool is used",
    long_about = "Shows every attachment with its addresses, MAC, host interface, ports of the node and age, network by \
                  network, and the pools of addresses; with --names the names under which pods are found, and whether a name server \
                  runs. Reads records, leases and links; what may not be read is named. \
                  Exit code 0: what there is was shown, also that there is nothing; 1: records or leases are damaged; 2: nothing \
                  could be read, as without the rights of root, or wrong options."
)]
struct Options {
    /// Only this network
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Show under which names pods are found, and whether a server answers them
    #[arg(long)]
    names: bool,
    /// Where the host's / is, in a container that has it mounted
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    /// Print one JSON object: {"version":1,"networks":[{"name",…,"pools":[…],"attachments":[…]}],"unread":[…]}
    #[arg(long)]
    json: bool,
    /// Show it again whenever it changed, until interrupted
    #[arg(long)]
    watch: bool,
}

/// Nothing could be read, or the words on the command line are wrong.
const COULD_NOT_RUN: u8 = 2;
/// Between two looks.
const PAUSE: Duration = Duration::from_secs(2);
/// Cursor home, and everything behind it gone.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// The options, for whoever describes them.
pub(crate) fn command() -> clap::Command {
    <Options as clap::CommandFactory>::command()
}

/// The command. `out` is written to only while it watches.
/// `environment` has the settings of names, as `dns` reads them.
pub fn run(
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
    out: &mut (impl Write + IsTerminal),
) -> Outcome {
    let name = std::iter::once(OsString::from("smarter-cni status"));
    let options = match <Options as clap::Parser>::try_parse_from(name.chain(arguments.iter().cloned())) {
        Ok(options) => options,
        Err(error) if error.use_stderr() => {
            return Outcome { stderr: error.to_string(), status: COULD_NOT_RUN, ..Outcome::default() };
        }
        Err(help) => return Outcome::printed(help.to_string()),
    };
    if let Err(why) = enter(&options.root).and_then(|()| is_known(options.network.as_deref())) {
        return Outcome { stderr: format!("smarter-cni status: {why}\n"), status: 2, ..Outcome::default() };
    }
    if !options.watch {
        let shown = show(&options, environment);
        let (status, stderr) = shown.verdict();
        return Outcome { stdout: shown.text, stderr: stderr.to_owned(), status, ..Outcome::default() };
    }
    let terminal = out.is_terminal();
    let error = watch(&options, environment, terminal, out);
    // Whoever read it has seen enough.
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Outcome::default();
    }
    let words = format!("smarter-cni status: could not write to standard output: {error}\n");
    Outcome { stderr: words, status: 1, ..Outcome::default() }
}

/// What it shows of all networks: as text and as JSON.
pub fn shown() -> (String, String) {
    let view = assemble::assemble(&gather::gather(), None);
    (render::text(&view, None), render::json(&view))
}

/// A network that nothing is known of is a slip of the pen.
fn is_known(network: Option<&str>) -> Result<(), String> {
    let Some(network) = network else { return Ok(()) };
    let view = assemble::assemble(&gather::gather(), None);
    // What could not be read may be there.
    if !view.unread.is_empty() {
        return Ok(());
    }
    let known: Vec<String> = view.networks.into_iter().map(|network| network.name).collect();
    match known.iter().any(|known| known == network) {
        true => Ok(()),
        false if known.is_empty() => Err(format!("there is no network {network:?}: no pod is attached")),
        false => Err(format!("there is no network {network:?}; there are {}", known.join(", "))),
    }
}

/// One look at the node.
struct Shown {
    /// What is to be printed.
    text: String,
    /// The same without what changes by itself.
    essence: String,
    damaged: bool,
    /// Nothing is known, because nothing could be read.
    blind: bool,
}

impl Shown {
    /// The exit code, and what to say beside it.
    fn verdict(&self) -> (u8, &'static str) {
        if self.damaged {
            return (
                1,
                "smarter-cni status: what is remembered of pods is damaged: smarter-cni doctor says more\n",
            );
        }
        if self.blind {
            return (
                COULD_NOT_RUN,
                "smarter-cni status: nothing could be read; only root can: sudo smarter-cni status\n",
            );
        }
        (0, "")
    }
}

fn show(options: &Options, environment: &[(OsString, OsString)]) -> Shown {
    let mut view = assemble::assemble(&gather::gather(), options.network.as_deref());
    let blind = view.networks.is_empty() && !view.unread.is_empty();
    // A program asks for everything; a person looks at pods.
    if options.json || options.names {
        names::add(&mut view, environment, options.names);
    }
    let text = match (options.json, options.names) {
        (true, _) => render::json(&view),
        (false, true) => render::names(&view, options.network.as_deref()),
        (false, false) => render::text(&view, options.network.as_deref()),
    };
    for attachment in view.networks.iter_mut().flat_map(|network| &mut network.attachments) {
        attachment.since_seconds = None;
    }
    view.dns = None;
    Shown { text, essence: render::json(&view), damaged: view.damaged, blind }
}

/// Ends by a signal, or when nobody reads any more: then it says why. A terminal shows one picture with its ages; anything
/// else gets one after the other, when something happened.
fn watch(
    options: &Options,
    environment: &[(OsString, OsString)],
    terminal: bool,
    out: &mut impl Write,
) -> io::Error {
    let mut last = String::new();
    loop {
        let Shown { text, essence, .. } = show(options, environment);
        let picture = if terminal { text.clone() } else { essence };
        if picture != last {
            let before = match (terminal, options.json || last.is_empty()) {
                (true, _) => CLEAR,
                (false, true) => "",
                (false, false) => "\n",
            };
            let written =
                out.write_all(before.as_bytes()).and_then(|()| out.write_all(printable(&text).as_bytes()));
            if let Err(error) = written.and_then(|()| out.flush()) {
                return error;
            }
            last = picture;
        }
        thread::sleep(PAUSE);
    }
}
