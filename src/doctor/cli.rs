//! The words of `doctor` on a command line, and which of them do not go together. Refuses to look at anything but words.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use super::check::{Check, Group};
use super::checks;

#[derive(Debug, clap::Parser)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
#[command(
    name = "smarter-cni doctor",
    about = "Say what is wrong with this node's pod network, and what to do about it; changes nothing without --fix",
    long_about = "Looks at the kernel, the host, bridges, addresses, rules, leases, pods, configuration and container \
                  runtimes, and names what is wrong, with the object and the fix. Needs no other program, no network and no \
                  API server. Changes nothing, unless --fix says so.\n\n\
                  Run it as root, in the host's network namespace: /proc/sys/net and netlink show the namespace \
                  of whoever asks, so in a container it needs hostNetwork and hostPID, and --root where the \
                  host's / is mounted.\n\n\
                  Exit code 0: nothing is broken; 1: something is, or with --strict there is a warning; 2: more checks \
                  could not look than did, as without the rights of root, or wrong usage.\n\
                  Every check is explained in docs/doctor.md and by --explain."
)]
pub(super) struct Options {
    /// Also list what is fine and what does not apply
    #[arg(short, long)]
    pub(super) verbose: bool,
    /// Print one JSON object (docs/doctor.md describes it)
    #[arg(long)]
    pub(super) json: bool,
    /// List the checks, one id and title per line
    #[arg(long)]
    pub(super) list: bool,
    /// Say what a check means, how it comes about and how to fix it
    #[arg(long, value_name = "ID")]
    pub(super) explain: Option<String>,
    /// Look, show what `smarter-cni reconcile` would do, do it, and look again: the exit code is that of the second look
    #[arg(long, conflicts_with_all = ["bundle", "list", "explain"])]
    pub(super) fix: bool,
    /// Write a tar for whoever helps: report, state, rules, links, routes, configuration, log. `-` is standard output
    #[arg(long, value_name = "FILE", conflicts_with_all = ["list", "explain"])]
    pub(super) bundle: Option<PathBuf>,
    /// In the bundle, give addresses, MACs and the host's name other names; the same ones to the same ones
    #[arg(long, requires = "bundle")]
    pub(super) redact: bool,
    /// Run these checks only: ids or groups, separated by commas. Not with --fix, which repairs more than one thing
    #[arg(long, value_name = "ID", value_delimiter = ',', conflicts_with = "fix")]
    pub(super) only: Vec<String>,
    /// Leave these checks out: ids or groups, separated by commas. What --fix repairs stays the same
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(super) skip: Vec<String>,
    /// Exit with 1 for warnings, too
    #[arg(long)]
    pub(super) strict: bool,
    /// Where the host's / is
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(super) root: PathBuf,
    /// Where network configurations are; otherwise where this node's container runtimes read them
    #[arg(long, value_name = "DIR")]
    pub(super) conf_dir: Option<PathBuf>,
    /// Where plugins are, as often as there are places; otherwise where the runtimes look for them
    #[arg(long, value_name = "DIR")]
    pub(super) bin_dir: Vec<PathBuf>,
    /// Also send packets between pods, node and router (TCP, UDP, ICMP), of which some fill the MTU
    #[arg(long)]
    pub(super) probe: bool,
    /// The range that the cluster gave this node (podCIDR)
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub(super) pod_cidr: Vec<IpNetwork>,
}

impl Options {
    pub(super) fn parse(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let name = std::iter::once(OsString::from("smarter-cni doctor"));
        <Self as clap::Parser>::try_parse_from(name.chain(arguments.iter().cloned()))
    }

    /// Whether the host's tree is the one that this process has.
    pub(super) fn is_at_home(&self) -> bool {
        self.root.components().eq(Path::new("/").components())
    }
}

/// The options, for whoever describes them.
pub(crate) fn command() -> clap::Command {
    <Options as clap::CommandFactory>::command()
}

pub(super) fn unknown(word: &str) -> String {
    format!("smarter-cni doctor: there is no check and no group {word:?}; --list lists the checks\n")
}

/// All checks, or those that were asked for; the first word that is neither a check nor a group is refused.
pub(super) fn chosen(only: &[String], skip: &[String]) -> Result<Vec<&'static Check>, String> {
    let names = |check: &Check, words: &[String]| {
        words.iter().any(|word| word == check.id || word == check.group.word())
    };
    let is_known = |word: &&String| {
        checks::all().any(|check| check.id == **word) || Group::ALL.iter().any(|group| group.word() == **word)
    };
    if let Some(word) = only.iter().chain(skip).find(|word| !is_known(word)) {
        return Err(word.clone());
    }
    let wanted = checks::all().filter(|check| only.is_empty() || names(check, only));
    Ok(wanted.filter(|check| !names(check, skip)).collect())
}
