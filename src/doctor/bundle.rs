//! `doctor --bundle`: everything that somebody asks for who cannot look at the node, in one tar.
//!
//! Reads only, but for the file that it writes. Whatever cannot be had is named in errors.txt, and the rest is collected all
//! the same: it is for nodes on which something is broken. [`secrets`] says what does not go in, [`collection`] how much.

mod collection;
mod files;
mod network;
mod pseudonyms;
mod secrets;
mod system;
mod target;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

use self::collection::{Collection, Entry};
use self::pseudonyms::Pseudonyms;
use super::cli::Options;
use super::evidence::Given;
use super::report::{Report, Style};
use super::{blindness, refused};
use crate::Outcome;
use crate::datapath::survey::Network;
use crate::datapath::survey::ruleset::Ruleset;
use crate::reconcile;
use crate::status;

/// Standard output, as `tar` calls it.
const STANDARD_OUTPUT: &str = "-";

pub(super) struct Subject<'a> {
    pub(super) given: &'a Given,
    pub(super) report: &'a Report,
}

pub(super) fn run(
    options: &Options,
    file: &Path,
    subject: &Subject<'_>,
    out: &mut (impl Write + IsTerminal),
) -> Outcome {
    let to_output = file == Path::new(STANDARD_OUTPUT);
    let allowed = match to_output {
        true if out.is_terminal() => Err("this is a terminal; write > bundle.tar behind it".to_owned()),
        true => Ok(()),
        false => target::judge(file),
    };
    if let Err(why) = allowed {
        return refused(format_args!("smarter-cni doctor: nothing was written: {why}\n"));
    }
    let names = host_names(subject.given);
    let pseudonyms = options.redact.then(|| Pseudonyms::new(names.iter().map(String::as_str)));
    let mut collection = Collection::new(pseudonyms);
    collect(options, subject, &mut collection);
    let missed = collection.missed();
    let entries = collection.finish();
    let host = names.first().filter(|_| !options.redact).map_or("node", String::as_str);
    let written = archive(host, &entries).and_then(|archive| {
        if to_output {
            out.write_all(&archive).and_then(|()| out.flush())
        } else {
            target::put(file, &archive)
        }
        .map(|()| archive.len())
    });
    let place = if to_output { "standard output".to_owned() } else { file.display().to_string() };
    let size = match written {
        Ok(size) => size >> 10,
        Err(error) => return refused(format_args!("smarter-cni doctor: could not write {place}: {error}\n")),
    };
    let missing =
        if missed == 0 { String::new() } else { format!(", {missed} could not be had (errors.txt)") };
    let names = if options.redact {
        "addresses and the host's name replaced; names of pods as they are"
    } else {
        "addresses and names of pods and of the host as they are (--redact hides addresses)"
    };
    let stderr = format!(
        "wrote {place}: {} files, {size} KiB{missing}; without what is called or looks like a secret, {names}; read it before \
         you give it away\n",
        entries.len()
    );
    let stdout = match (to_output, options.json) {
        (true, _) => String::new(),
        (false, true) => subject.report.json(),
        (false, false) => subject.report.text(Style { verbose: options.verbose, ..Style::default() }),
    };
    let status = subject.report.status(options.strict);
    let stderr = stderr + &blindness(subject.report, status);
    Outcome { stdout, stderr, status, ..Outcome::default() }
}

/// The most telling first: what does not fit is left out.
fn collect(options: &Options, subject: &Subject<'_>, into: &mut Collection) {
    let Subject { given, report } = subject;
    into.text("report.txt", &report.text(Style { verbose: true, ..Style::default() }));
    into.document("report.json", &report.json());
    system::versions(&given.root, into);
    if options.is_at_home() {
        let (text, json) = status::shown();
        into.text("status.txt", &text);
        into.document("status.json", &json);
        match reconcile::plan_all(&given.root) {
            Ok(plan) => into.ours("reconcile-plan.json", plan.document()),
            Err(error) => into.missing("reconcile-plan.json", error),
        }
    } else {
        into.missing(
            "status and reconcile-plan.json",
            "they read / and not --root; run doctor on the host for those",
        );
    }
    let network = Network::of_node();
    match &network {
        Ok(network) => network::files(network).iter().for_each(|(name, text)| into.text(name, text)),
        Err(error) => into.missing("links, addresses, routes, policy rules, neighbours", error),
    }
    into.take("rules/nf_tables.txt", Ruleset::observe().map(|rules| rules.text()));
    system::switches(network.as_ref().ok(), into);
    system::counters(into);
    files::configurations(given, into);
    files::log(&given.root, into);
    system::messages(into);
    files::remembered(&given.root, into);
}

/// As the kernel and the host's files have it.
fn host_names(given: &Given) -> Vec<String> {
    let kernel = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let written = given.root.read_text(Path::new("/etc/hostname")).ok().flatten().unwrap_or_default();
    let mut names = vec![kernel, written.trim().to_owned()];
    names.retain(|name| !name.is_empty());
    names
}

/// One directory in which everything lies, so that it can be unpacked anywhere.
fn archive(host: &str, entries: &[Entry]) -> io::Result<Vec<u8>> {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-') { c } else { '_' };
    let host: String = host.chars().take(60).map(safe).collect();
    // As the node's clock has it, which may be wrong; versions.txt says how long it is up.
    // Not std's clock: with musl on armv7 it has 32 bits, and ends the program in 2038.
    let now = u64::try_from(clock_gettime(ClockId::Realtime).tv_sec).unwrap_or(0);
    let mut builder = tar::Builder::new(Vec::new());
    for Entry { name, text } in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o600);
        header.set_mtime(now);
        header.set_size(text.len() as u64);
        header.set_entry_type(tar::EntryType::Regular);
        builder.append_data(&mut header, format!("{}{host}-bundle/{name}", target::NAME), text.as_bytes())?;
    }
    builder.into_inner()
}
