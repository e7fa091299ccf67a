//! Which program are we today?
//!
//! A container runtime executes a CNI plugin by its path and without arguments, so the last part of `argv[0]` decides.
//! Under any other name (`smarter-cni` itself, or a copy that somebody renamed) the first argument decides, which is what
//! a person types. Names match whole: `my-bridge` is not `bridge`.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::path::Path;

/// One of the CNI plugins in this binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plugin {
    Bridge,
    HostLocal,
    Loopback,
    Portmap,
}

impl Plugin {
    /// The name that the about text and error messages give the plugin, whatever it was called by.
    pub fn standard_name(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::HostLocal => "host-local",
            Self::Loopback => "loopback",
            Self::Portmap => "portmap",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applet {
    Plugin(Plugin),
    Dns,
    Install,
    Uninstall,
    Doctor,
    Reconcile,
    Selftest,
    Status,
}

/// Every name this binary answers to: dispatch, `--help` and the tests walk this table, and there is no other.
pub const APPLETS: &[(&str, Applet, &str)] = &[
    ("bridge", Applet::Plugin(Plugin::Bridge), "CNI plugin: join a pod to the node's bridge"),
    ("smarter-bridge", Applet::Plugin(Plugin::Bridge), "the same, under the name our own configuration uses"),
    ("host-local", Applet::Plugin(Plugin::HostLocal), "CNI plugin: lease addresses from ranges of this node"),
    (
        "smarter-ipam",
        Applet::Plugin(Plugin::HostLocal),
        "the same, under the name our own configuration uses",
    ),
    (
        "smarter-host-local",
        Applet::Plugin(Plugin::HostLocal),
        "the same, under the name in the configuration of Arm's smarter-cni",
    ),
    ("loopback", Applet::Plugin(Plugin::Loopback), "CNI plugin: bring up the pod's lo"),
    (
        "smarter-loopback",
        Applet::Plugin(Plugin::Loopback),
        "the same, under the name our own configuration uses",
    ),
    ("portmap", Applet::Plugin(Plugin::Portmap), "CNI plugin: lead ports of the node to a pod"),
    (
        "smarter-portmap",
        Applet::Plugin(Plugin::Portmap),
        "the same, under the name our own configuration uses",
    ),
    ("reconcile", Applet::Reconcile, "bring back what attached pods were promised, remove what no pod wants"),
    (
        "install",
        Applet::Install,
        "put plugins and configuration on this node, and keep them there with --watch",
    ),
    ("uninstall", Applet::Uninstall, "take everything away again"),
    (
        "doctor",
        Applet::Doctor,
        "say what is wrong with this node's pod network, and the fix; changes nothing",
    ),
    (
        "selftest",
        Applet::Selftest,
        "attach two throw-away pods and prove that bytes arrive; changes nothing here",
    ),
    ("dns", Applet::Dns, "serve the names of this node's pods to them and to the node; ask one with --query"),
    ("status", Applet::Status, "show attached pods, their addresses and host ports, and the pools"),
];

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    Run(Applet, &'a [OsString]),
    Help,
    Version,
    /// No applet has this name; `None` means that no name was given.
    Unknown(Option<&'a OsStr>),
}

pub fn select(argv: &[OsString]) -> Choice<'_> {
    let [argv0, rest @ ..] = argv else { return Choice::Unknown(None) };
    // A command is a thing to say, not a name to link: a program that happens to be called `install` is not ours.
    if let Some(applet @ Applet::Plugin(_)) = Path::new(argv0).file_name().and_then(find) {
        return Choice::Run(applet, rest);
    }
    let [word, rest @ ..] = rest else { return Choice::Unknown(None) };
    match (find(word), word.to_str()) {
        (Some(applet), _) => Choice::Run(applet, rest),
        (None, Some("help" | "--help" | "-h")) => Choice::Help,
        (None, Some("version" | "--version" | "-V")) => Choice::Version,
        (None, _) => Choice::Unknown(Some(word)),
    }
}

fn find(name: &OsStr) -> Option<Applet> {
    APPLETS.iter().find(|(known, ..)| name == *known).map(|(_, applet, _)| *applet)
}

/// The plugin that answers to a name, if one does.
pub fn plugin(name: &str) -> Option<Plugin> {
    match find(OsStr::new(name)) {
        Some(Applet::Plugin(plugin)) => Some(plugin),
        _ => None,
    }
}

/// What this program is. Every build since the first has this line, and no other program: an installer tells by it whose
/// a file is.
pub const ABOUT: &str = "The pod network of an edge node in one binary.";

/// The text of `--help`.
pub fn help() -> String {
    let mut text = format!(
        "{ABOUT}\n\n\
         Usage: smarter-cni <command> [options]\n       \
         <plugin>   executed by a container runtime under the plugin's name, with CNI_COMMAND set\n\nCommands:\n",
    );
    for (name, _, about) in APPLETS {
        let _ = writeln!(text, "  {name:<18} {about}");
    }
    text.push_str("\nOptions:\n  -h, --help     this text; after a command, what that command takes\n  -V, --version  the version\n");
    text
}

/// The known name that a mistyped one is nearest to, when it is near.
pub fn suggestion(typed: &OsStr) -> Option<&'static str> {
    let typed = typed.to_str()?;
    let (name, distance) = APPLETS
        .iter()
        .map(|(name, ..)| (*name, edit_distance(typed, name)))
        .min_by_key(|(_, distance)| *distance)?;
    (distance <= typed.len().div_ceil(3)).then_some(name)
}

/// Insertions, deletions and replacements from one word to the other (Levenshtein), and swapped neighbours as one.
fn edit_distance(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(a != b);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn argv(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn every_plugin_name_works_as_link_and_every_name_as_word() {
        for (name, applet, _) in APPLETS {
            let word = argv(&["smarter-cni", name, "-x"]);
            assert_eq!(select(&word), Choice::Run(*applet, &word[2..]));
            let link = argv(&[&format!("/opt/cni/bin/{name}"), "-x"]);
            match applet {
                Applet::Plugin(_) => assert_eq!(select(&link), Choice::Run(*applet, &link[1..])),
                _ => assert_eq!(select(&link), Choice::Unknown(Some(OsStr::new("-x")))),
            }
        }
    }

    #[test]
    fn names_match_whole() {
        assert_eq!(select(&argv(&["/opt/cni/bin/my-bridge"])), Choice::Unknown(None));
        assert_eq!(select(&argv(&["smarter-cni", "brigde"])), Choice::Unknown(Some(OsStr::new("brigde"))));
        assert_eq!(select(&[]), Choice::Unknown(None));
    }

    #[test]
    fn a_near_miss_gets_a_suggestion_and_a_far_one_none() {
        assert_eq!(suggestion(OsStr::new("brigde")), Some("bridge"));
        assert_eq!(suggestion(OsStr::new("self-test")), Some("selftest"));
        assert_eq!(suggestion(OsStr::new("frobnicate")), None);
    }

    #[test]
    fn help_names_every_command() {
        let help = help();
        assert!(APPLETS.iter().all(|(name, ..)| help.contains(&format!("  {name} "))));
    }
}
