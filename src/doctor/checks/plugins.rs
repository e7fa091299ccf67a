//! The plugins that network configurations name.
//!
//! Names of ours are links to one file, so whatever is wrong with a file is said of the file and once.
//!
//! Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::INSTALL;
use super::configuration::readable;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::configuration::{ConfFile, Directory, Search};
use crate::doctor::evidence::plugins::Condition;
use crate::text::typed;

use Severity::{Broken, Warning};

const CONFIGURED: &[Need] = &[Need::Configuration];

pub(super) const CHECKS: &[Check] = &[
    G::Configuration.check(
        "plugin-missing",
        "every plugin that a configuration names is there",
        Broken,
        CONFIGURED,
        missing,
    ),
    G::Configuration.check("plugin-damaged", "plugins are whole programs", Broken, CONFIGURED, damaged),
    G::Configuration.check(
        "plugin-not-executable",
        "plugins can be executed",
        Broken,
        CONFIGURED,
        not_executable,
    ),
    G::Configuration.check("plugin-version", "plugins are of this version", Warning, CONFIGURED, version),
    G::Configuration.check(
        "plugin-loopback",
        "there is a plugin named loopback",
        Warning,
        CONFIGURED,
        loopback,
    ),
];

/// Executed by containerd for every pod, whatever the configuration says.
const LOOPBACK: &str = "loopback";
/// What the installer provides beside the names that are ours alone.
const STANDARD: [&str; 2] = [LOOPBACK, "portmap"];

fn some_networks(evidence: &Evidence) -> Result<(), Pass> {
    if readable(evidence)?.is_empty() {
        return Err(Pass::skipped("there is no configuration that can be read"));
    }
    Ok(())
}

/// Where plugins are looked for and should be found: a runtime that looks elsewhere than where ours are is named as that.
fn searches(evidence: &Evidence) -> Result<Vec<(&Directory, &Search)>, Pass> {
    some_networks(evidence)?;
    let configuration = evidence.configuration()?;
    let mut found = Vec::new();
    for directory in &configuration.directories {
        let searches = directory.searches.iter().filter(|search| {
            let places: Vec<_> = search.places.iter().map(PathBuf::as_path).collect();
            search.searcher.is_none() || !configuration.installed.has_plugins_elsewhere(&places)
        });
        found.extend(searches.map(|search| (directory, search)));
    }
    if found.is_empty() {
        return Err(Pass::skipped("the runtime looks in other directories than ours were installed to"));
    }
    Ok(found)
}

fn missing(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for (directory, search) in searches(evidence)? {
        for (name, _) in search.plugins.iter().filter(|(_, file)| file.is_none()) {
            let names =
                |file: &&ConfFile| file.network.as_ref().is_ok_and(|network| network.types.contains(name));
            let Some(file) = directory.used().iter().find(names) else { continue };
            let fix = if !name.starts_with("smarter-") {
                format!("install the package that has the plugin {name}, or take it out of {}", file.path)
            } else if search.searcher.is_some() {
                INSTALL.to_owned()
            } else {
                format!("{INSTALL}\nwhere the runtime has another directory for plugins, name it: --bin-dir")
            };
            findings.push(Finding::problem(
                format!("plugin {name}"),
                format!("{} names it, and there is no such file in {}", file.path, search.in_words()),
                fix,
            ));
        }
    }
    Ok(findings)
}

/// A file, and the names under which plugins are it.
struct Named<'a> {
    path: &'a str,
    names: Vec<&'a str>,
    condition: &'a Condition,
}

fn files(evidence: &Evidence) -> Result<Vec<Named<'_>>, Pass> {
    let mut files: BTreeMap<&str, Named<'_>> = BTreeMap::new();
    for (_, search) in searches(evidence)? {
        for (name, file) in &search.plugins {
            let Some(file) = file else { continue };
            let (path, condition) = (file.path.as_str(), &file.condition);
            let named = files.entry(path).or_insert_with(|| Named { path, names: Vec::new(), condition });
            if !named.names.contains(&name.as_str()) {
                named.names.push(name);
            }
        }
    }
    Ok(files.into_values().collect())
}

impl Named<'_> {
    /// Whether the installer puts it there.
    fn is_installed(&self) -> bool {
        self.names.iter().any(|name| name.starts_with("smarter-") || STANDARD.contains(name))
    }

    /// Behind what was found: nothing where the file has the name of the plugin.
    fn of_names(&self) -> String {
        match self.names[..] {
            [name] if self.path.ends_with(&format!("/{name}")) => String::new(),
            [name] => format!("; the plugin {name} is a link to it"),
            _ => format!("; the plugins {} are links to it", self.names.join(", ")),
        }
    }

    fn problem(&self, found: &str, fix: String) -> Finding {
        Finding::problem(format!("file {}", self.path), found, fix)
    }
}

fn damaged(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for file in files(evidence)? {
        let why = match file.condition {
            Condition::Damaged(why) => why.as_str(),
            Condition::Gone => "is not there",
            Condition::Unknown(why) => {
                let (object, why) = (format!("file {}", file.path), why.clone());
                findings.push(Finding::Unknown { object, why });
                continue;
            }
            Condition::Sound(_) | Condition::NotExecutable => continue,
        };
        let fix = if file.is_installed() {
            INSTALL.to_owned()
        } else {
            format!("install the package that has the plugin {} once more", file.names.join(", "))
        };
        findings.push(file.problem(&format!("it {why}{}: no pod can be attached", file.of_names()), fix));
    }
    Ok(findings)
}

fn not_executable(evidence: &Evidence) -> Verdict {
    let files = files(evidence)?.into_iter().filter(|file| *file.condition == Condition::NotExecutable);
    let findings = files.map(|file| {
        let found = format!("it is not executable{}: no pod can be attached", file.of_names());
        file.problem(&found, format!("chmod 755 {}", typed(file.path)))
    });
    Ok(findings.collect())
}

/// Only under names that are ours alone.
fn version(evidence: &Evidence) -> Verdict {
    const OWN: &str = env!("CARGO_PKG_VERSION");
    let is_ours = |file: &Named<'_>| file.names.iter().any(|name| name.starts_with("smarter-"));
    let mut ours = files(evidence)?.into_iter().filter(is_ours).peekable();
    if ours.peek().is_none() {
        return Err(Pass::skipped("no configuration names a plugin of ours"));
    }
    let mut findings = Vec::new();
    for file in ours {
        let found = match file.condition {
            Condition::Sound(Some(version)) if version == OWN => continue,
            Condition::Sound(Some(version)) => format!("it is version {version}, this program is {OWN}"),
            Condition::Sound(None) => "it is not a build of smarter-cni".to_owned(),
            _ => continue,
        };
        findings.push(file.problem(&format!("{found}{}", file.of_names()), INSTALL.to_owned()));
    }
    Ok(findings)
}

fn loopback(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for (_, search) in searches(evidence)? {
        if search.plugins.get(LOOPBACK).is_some_and(Option::is_some) {
            continue;
        }
        let first = search.bin_dirs.first().map(|path| path.display().to_string()).unwrap_or_default();
        findings.push(Finding::problem(
            "plugin loopback",
            format!("there is none in {}: containerd executes it for every pod", search.in_words()),
            format!("{INSTALL}\nor: ln -s smarter-cni {}", typed(format!("{first}/loopback"))),
        ));
    }
    Ok(findings)
}
