//! The container runtimes: do they answer, do they look where ours is, and have they loaded it?
//!
//! One fault has one name. A runtime that does not answer, or that looks elsewhere, is named as that and not once more as one
//! that has not loaded the network; neither is one whose configurations are themselves at fault.
//!
//! Pure.

use std::path::{Path, PathBuf};

use crate::conflist;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::configuration::{Configuration, ConfiguredNetwork, Directory};
use crate::doctor::evidence::plugins::{Condition, PluginFile};
use crate::doctor::evidence::runtime::{Asked, Runtimes};
use crate::host::cri::{self, Loaded, Reason, Status, Wanted};
use crate::host::runtimes::Runtime;
use crate::text::typed;

use Severity::{Broken, Warning};

const ASKED: &[Need] = &[Need::Runtime];
const COMPARED: &[Need] = &[Need::Runtime, Need::Configuration];

pub(super) const CHECKS: &[Check] = &[
    G::Runtime.check("runtime-config", "the runtime's configuration makes sense", Warning, ASKED, config),
    G::Runtime.check("runtime-socket", "the runtime answers", Broken, ASKED, socket),
    G::Runtime.check("runtime-ready", "the runtime says that it is ready", Broken, ASKED, ready),
    G::Runtime.check(
        "runtime-directories",
        "the runtime looks where ours was installed",
        Broken,
        COMPARED,
        directories,
    ),
    G::Runtime.check("runtime-network", "the runtime has loaded our network", Broken, COMPARED, network),
    G::Runtime.check(
        "runtime-host-ports",
        "settings of host ports reach the pods of every runtime",
        Warning,
        COMPARED,
        host_ports,
    ),
    G::Runtime.check("cache-damaged", "libcni can read its results of our pods", Warning, ASKED, cache),
];

fn used(evidence: &Evidence) -> Result<&Runtimes, Pass> {
    let runtimes = evidence.runtimes()?;
    if runtimes.all.is_empty() {
        let why: Vec<_> = runtimes.left_out.iter().map(ToString::to_string).collect();
        return Err(Pass::Skipped(if why.is_empty() {
            "there is no container runtime on this node".to_owned()
        } else {
            why.join("; ")
        }));
    }
    Ok(runtimes)
}

fn object(asked: &Asked) -> String {
    format!("runtime {}", asked.runtime.kind)
}

fn config(evidence: &Evidence) -> Verdict {
    let problems = &evidence.runtimes()?.problems;
    if problems.is_empty() {
        used(evidence)?;
    }
    let findings = problems.iter().map(|problem| {
        Finding::problem(
            format!("file {}", problem.file.display()),
            format!("{}; assumed: {}", problem.what, problem.assumed),
            format!(
                "correct it, and {}; until then say where it looks, with --bin-dir and --conf-dir",
                problem.kind.restart()
            ),
        )
    });
    Ok(findings.collect())
}

fn socket(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for asked in &used(evidence)?.all {
        let Err(error) = &asked.answer else { continue };
        findings.push(match error.reason {
            Reason::NotPermitted => Finding::Unknown { object: object(asked), why: error.to_string() },
            _ => Finding::problem(
                object(asked),
                format!("{error}; pods that are attached stay, and no new one starts"),
                revival(&asked.runtime, &error.reason),
            ),
        });
    }
    Ok(findings)
}

fn revival(runtime: &Runtime, reason: &Reason) -> String {
    let (restart, log) = (runtime.kind.restart(), runtime.kind.log());
    match reason {
        Reason::NotCri(_) => {
            format!(
                "take cri out of disabled_plugins in {}, then {restart}; see {log}",
                listed(&runtime.config)
            )
        }
        _ => format!("{restart}\nif that does not help, see {log}"),
    }
}

/// Those that answer. When there is none, that is named by `runtime-socket`.
fn answering(evidence: &Evidence) -> Result<Vec<(&Asked, &Status)>, Pass> {
    let all = &used(evidence)?.all;
    let answering: Vec<_> =
        all.iter().filter_map(|asked| Some((asked, asked.answer.as_ref().ok()?))).collect();
    if !answering.is_empty() {
        return Ok(answering);
    }
    let unseen = all.iter().filter_map(|asked| asked.answer.as_ref().err());
    match unseen.clone().find(|error| error.reason == Reason::NotPermitted) {
        Some(error) => Err(Pass::Unknown(error.to_string())),
        None => Err(Pass::skipped("no runtime answers")),
    }
}

/// The runtime's own word that it cannot work.
fn unready(status: &Status) -> Option<String> {
    status.runtime_ready().filter(|condition| !condition.met).map(cri::Condition::in_words)
}

fn ready(evidence: &Evidence) -> Verdict {
    let unready =
        answering(evidence)?.into_iter().filter_map(|(asked, status)| Some((asked, unready(status)?)));
    let findings = unready.map(|(asked, why)| {
        let fix =
            format!("{}\nwhat it says is in {}", asked.runtime.kind.restart(), asked.runtime.kind.log());
        Finding::problem(object(asked), format!("{why}: no new pod starts"), fix)
    });
    Ok(findings.collect())
}

/// What is not where something of ours is, of the directories that a runtime reads.
fn strange(evidence: &Evidence, (conf_dir, bin_dirs): (&Path, &[PathBuf])) -> Result<Option<String>, Pass> {
    let (runtimes, installed) = (evidence.runtimes()?, &evidence.configuration()?.installed);
    let mut strange = Vec::new();
    if installed.is_elsewhere(runtimes.place(conf_dir)) {
        let ours = listed(&installed.conf_dirs);
        strange.push(format!("reads networks from {}, and ours is in {ours}", conf_dir.display()));
    }
    let places: Vec<_> = bin_dirs.iter().map(|path| runtimes.place(path)).collect();
    if installed.has_plugins_elsewhere(&places) {
        let ours = listed(&installed.bin_dirs);
        strange.push(format!("looks for plugins in {}, and ours are in {ours}", listed(bin_dirs)));
    }
    Ok((!strange.is_empty()).then(|| strange.join("; it ")))
}

fn directories(evidence: &Evidence) -> Verdict {
    let runtimes = used(evidence)?;
    if evidence.configuration()?.installed.conf_dirs.is_empty() {
        return Err(Pass::skipped("nothing of ours is installed"));
    }
    let mut findings = Vec::new();
    for asked in &runtimes.all {
        let Runtime { kind, config, .. } = &asked.runtime;
        if let Some(found) = strange(evidence, asked.configured())? {
            let by = if config.is_empty() { String::new() } else { format!(" (as {} says)", listed(config)) };
            findings.push(Finding::problem(object(asked), format!("it {found}{by}"), super::INSTALL));
        } else if let Some(found) = strange(evidence, asked.directories())? {
            let (conf_dir, bin_dirs) = asked.directories();
            let first = bin_dirs.first().map(|path| path.display().to_string()).unwrap_or_default();
            findings.push(Finding::problem(
                object(asked),
                format!("it {found}, though its configuration says otherwise"),
                format!(
                    "{}\nif its configuration was changed since it was started; else: smarter-cni install --conf-dir {} \
                     --bin-dir {first}",
                    kind.restart(),
                    conf_dir.display(),
                ),
            ));
        }
    }
    Ok(findings)
}

fn network(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    let mut passed = None;
    let mut judged = false;
    for (asked, status) in answering(evidence)? {
        match expected(evidence, asked, status)? {
            Err(why) => passed = Some(format!("{}: {why}", asked.runtime.kind)),
            Ok(name) => {
                judged = true;
                findings.extend(not_loaded(evidence, (asked, status), name)?);
            }
        }
    }
    match passed {
        Some(why) if !judged => Err(Pass::Skipped(why)),
        _ => Ok(findings),
    }
}

/// The network that the runtime should have loaded, or why something else is to be repaired first.
fn expected<'a>(
    evidence: &'a Evidence,
    asked: &Asked,
    status: &Status,
) -> Result<Result<&'a str, &'static str>, Pass> {
    if unready(status).is_some() {
        return Ok(Err("it is not ready itself"));
    }
    if strange(evidence, asked.configured())?.is_some() || strange(evidence, asked.directories())?.is_some() {
        return Ok(Err("it looks in other directories"));
    }
    let place = evidence.runtimes()?.place(asked.directories().0);
    let Configuration { directories, installed } = evidence.configuration()?;
    let Some(directory) = directories.iter().find(|directory| directory.place == place) else {
        return Ok(Err("another directory was looked at"));
    };
    let failed = status.cni.as_ref().is_some_and(|cni| cni.load_error.is_some());
    if failed && directory.files.iter().any(|file| file.network.is_err()) {
        return Ok(Err("a configuration is invalid"));
    }
    Ok(match directory.readable().next() {
        Some((_, first)) if first.types.first().is_some_and(|kind| conflist::hands_on(kind)) => {
            Err("the first configuration hands pods on to others")
        }
        Some((_, first)) if is_loaded(status, &first.name) && is_at_fault(directory, first) => {
            Err("its own configuration or its plugins are what is wrong")
        }
        Some((_, first)) if first.is_ours() || installed.networks.contains(&first.name) => Ok(&first.name),
        Some(_) => Err("the first configuration is not ours"),
        None => Err("there is no configuration that can be read"),
    })
}

fn is_loaded(status: &Status, network: &str) -> bool {
    let first = status.cni.as_ref().and_then(|cni| cni.networks.first());
    first.is_some_and(|first| first.name == network)
}

/// Its plugins answer STATUS with what other checks name: they take no new pods, or cannot be executed.
fn is_at_fault(directory: &Directory, network: &ConfiguredNetwork) -> bool {
    let is_sound = |file: &PluginFile| matches!(file.condition, Condition::Sound(_) | Condition::Unknown(_));
    let plugins = directory.searches.iter().flat_map(|search| &search.plugins);
    let mut named = plugins.filter(|(name, _)| network.types.contains(name));
    network.drains || named.any(|(_, file)| !file.as_ref().is_some_and(is_sound))
}

fn not_loaded(
    evidence: &Evidence,
    (asked, status): (&Asked, &Status),
    network: &str,
) -> Result<Option<Finding>, Pass> {
    let Runtime { kind, only_network, config, .. } = &asked.runtime;
    if let Some(only) = only_network.as_deref().filter(|only| *only != network) {
        let found = format!("it takes the network {only} and no other, and ours is {network}");
        let fix = format!("take cni_default_network out of {}, then {}", listed(config), kind.restart());
        return Ok(Some(Finding::problem(object(asked), found, fix)));
    }
    let runtimes = evidence.runtimes()?;
    let (conf_dir, bin_dirs) = asked.directories();
    let same = |one: &Path, other: &Path| runtimes.place(one) == runtimes.place(other);
    let wanted = Wanted { kind: *kind, network, conf_dir, bin_dirs, same: &same };
    let Loaded::No { why, next_move } = cri::network_loaded(status, &wanted) else { return Ok(None) };
    // Ours is the first by now: what it has loaded instead is what it saw before.
    let loaded = status.cni.as_ref().and_then(|cni| cni.networks.first());
    let next_move = match loaded {
        Some(first) if first.name != network => kind.restart().to_owned(),
        _ => next_move,
    };
    Ok(Some(Finding::problem(object(asked), why, next_move)))
}

/// Whoever keeps a modem out by a setting has to know where it does not hold.
fn host_ports(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    let mut makes_its_own = None;
    for asked in &used(evidence)?.all {
        let kind = asked.runtime.kind;
        if !kind.makes_host_ports() {
            continue;
        }
        makes_its_own = Some(kind);
        let place = evidence.runtimes()?.place(asked.directories().0);
        let read = evidence.configuration()?.directories.iter().filter(|directory| directory.place == place);
        let limited =
            read.flat_map(Directory::readable).filter(|(_, network)| !network.port_limits.is_empty());
        findings.extend(limited.map(|(file, network)| {
            Finding::problem(
                format!("network {}", network.name),
                format!(
                    "{kind} makes the host ports of its pods itself: {} of {} does not hold for them",
                    network.port_limits.join(", "),
                    file.path
                ),
                format!(
                    "limit host ports in the node's own firewall, where {kind} is to run the pods; or take {} out of {}",
                    network.port_limits.join(", "),
                    typed(&file.path)
                ),
            )
        }));
    }
    match makes_its_own {
        None => Err(Pass::skipped("no runtime makes host ports itself")),
        Some(kind) if findings.is_empty() => Err(Pass::Skipped(format!(
            "{kind} makes the host ports of its pods itself: 127.0.0.1 and `status` do not have them"
        ))),
        Some(_) => Ok(findings),
    }
}

fn cache(evidence: &Evidence) -> Verdict {
    let runtimes = evidence.runtimes()?;
    if let Some(why) = &runtimes.unread {
        return Err(Pass::Unknown(why.clone()));
    }
    let findings = runtimes.damaged.iter().map(|path| {
        Finding::problem(
            format!("file {}", path.display()),
            "libcni cannot read it: with an older runtime the pod cannot be deleted, because no plugin is called",
            format!("rm {}", typed(path.display())),
        )
    });
    Ok(findings.collect())
}

fn listed<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> String {
    let paths: Vec<_> = paths.into_iter().map(|path| path.display().to_string()).collect();
    paths.join(", ")
}

#[cfg(test)]
#[path = "runtime_tests.rs"]
mod tests;
