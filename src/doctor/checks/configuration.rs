//! What the runtime reads: network configurations and the plugins they name.

use crate::conflist::FILE_NAME;
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::Attachment;
use crate::doctor::evidence::configuration::{ConfFile, ConfiguredNetwork};

use Severity::{Broken, Warning};

const CONFIGURED: &[Need] = &[Need::Configuration];

pub(super) const CHECKS: &[Check] = &[
    G::Configuration.check(
        "conflist-missing",
        "there is a network configuration",
        Broken,
        CONFIGURED,
        missing,
    ),
    G::Configuration.check(
        "conflist-invalid",
        "every network configuration can be read",
        Broken,
        CONFIGURED,
        invalid,
    ),
    G::Configuration.check(
        "conflist-not-first",
        "our network is the one that runtimes take",
        Broken,
        WITH_PODS,
        not_first,
    ),
    G::Configuration.check(
        "plugin-missing",
        "every plugin that a configuration names is there",
        Broken,
        CONFIGURED,
        plugin_missing,
    ),
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
    G::Configuration.check(
        "range-in-use",
        "pods have addresses of the configured range",
        Warning,
        WITH_PODS,
        range_in_use,
    ),
    G::Configuration.check(
        "pod-cidr",
        "the range is the one that the cluster gave",
        Broken,
        CONFIGURED,
        pod_cidr,
    ),
];

/// What puts our own files there again. Without its options it would choose a range by itself.
const INSTALL: &str = "smarter-cni install\nwith the options or variables that it was first installed with";

/// What puts a plugin there again: an installation of ours has those of ours and loopback.
fn again(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    if name.starts_with("smarter-") || name == "loopback" {
        INSTALL.to_owned()
    } else {
        format!("install the package that has the plugin {name} again")
    }
}

const WITH_PODS: &[Need] = &[Need::Configuration, Need::Attachments];

fn readable(evidence: &Evidence) -> Result<Vec<(&ConfFile, &ConfiguredNetwork)>, Pass> {
    let files = evidence.configuration()?.files.iter();
    Ok(files.filter_map(|file| Some((file, file.network.as_ref().ok()?))).collect())
}

fn missing(evidence: &Evidence) -> Verdict {
    let configuration = evidence.configuration()?;
    if !configuration.files.is_empty() {
        return Ok(Vec::new());
    }
    Ok(vec![Finding::problem(
        format!("directory {}", configuration.directory),
        "there is no network configuration in it: the runtime says that the CNI plugin is not initialised, and \
         the node is not ready",
        format!("{INSTALL}; where the runtime reads another directory, name it: --conf-dir"),
    )])
}

fn invalid(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for file in &evidence.configuration()?.files {
        if let Err(why) = &file.network {
            findings.push(Finding::problem(
                format!("file {}", file.path),
                format!("{why}: the runtime passes over it, or refuses to start pods"),
                if file.path.ends_with(FILE_NAME) {
                    INSTALL.to_owned()
                } else {
                    format!("mv {0} {0}.disabled\nif nobody needs it; else write it anew", file.path)
                },
            ));
        }
    }
    Ok(findings)
}

/// Ours by its plugins, or by the pods that it has attached.
fn is_ours(evidence: &Evidence, network: &ConfiguredNetwork) -> bool {
    let attached = |pod: &Attachment| pod.record.network == network.name;
    network.is_ours() || evidence.records().is_ok_and(|records| records.live().any(attached))
}

fn not_first(evidence: &Evidence) -> Verdict {
    let networks = readable(evidence)?;
    let Some((first, network)) = networks.first() else {
        return Err(Pass::skipped("there is no configuration that can be read"));
    };
    let ours = networks.iter().find(|(_, network)| is_ours(evidence, network));
    match ours {
        None => Err(Pass::skipped("no configuration is ours")),
        Some((file, _)) if file.path != first.path => Ok(vec![Finding::problem(
            format!("file {}", first.path),
            format!(
                "it comes before {}: runtimes take the first by name, so new pods get network {} and not ours",
                file.path, network.name
            ),
            format!("mv {0} {0}.disabled\nand restart the pods that it attached", first.path),
        )]),
        Some(_) => Ok(Vec::new()),
    }
}

fn plugin_missing(evidence: &Evidence) -> Verdict {
    let configuration = evidence.configuration()?;
    some_networks(evidence)?;
    let mut findings = Vec::new();
    for (name, _) in configuration.plugins.iter().filter(|(_, file)| file.is_none()) {
        let naming = readable(evidence)?.into_iter().find(|(_, network)| network.types.contains(name));
        let Some((file, _)) = naming else { continue };
        findings.push(Finding::problem(
            format!("plugin {name}"),
            format!(
                "{} names it, and there is no such file in {}",
                file.path,
                configuration.bin_dirs.join(", ")
            ),
            if name.starts_with("smarter-") {
                format!("{INSTALL}; where the runtime has another directory for plugins, name it: --bin-dir")
            } else {
                format!("install the package that has the plugin {name}, or take it out of {}", file.path)
            },
        ));
    }
    Ok(findings)
}

fn some_networks(evidence: &Evidence) -> Result<(), Pass> {
    if readable(evidence)?.is_empty() {
        return Err(Pass::skipped("there is no configuration that can be read"));
    }
    Ok(())
}

fn not_executable(evidence: &Evidence) -> Verdict {
    some_networks(evidence)?;
    let files = evidence.configuration()?.plugins.values().flatten();
    let wrong = files.filter(|file| !file.executable || file.size == 0);
    let findings = wrong.map(|file| {
        let (found, fix) = if file.size == 0 {
            ("it is empty, as after a power cut", again(&file.path))
        } else {
            ("it is not executable", format!("chmod 755 {}", file.path))
        };
        Finding::problem(format!("file {}", file.path), format!("{found}: no pod can be attached"), fix)
    });
    Ok(findings.collect())
}

/// Only under names that are ours alone.
fn version(evidence: &Evidence) -> Verdict {
    const OWN: &str = env!("CARGO_PKG_VERSION");
    let plugins = &evidence.configuration()?.plugins;
    let mut ours = plugins.iter().filter(|(name, _)| name.starts_with("smarter-")).peekable();
    if ours.peek().is_none() {
        return Err(Pass::skipped("no configuration names a plugin of ours"));
    }
    let mut findings = Vec::new();
    for file in ours.filter_map(|(_, file)| file.as_ref()).filter(|file| file.size > 0) {
        let found = match &file.version {
            Some(version) if version == OWN => continue,
            Some(version) => format!("it is version {version}, this program is {OWN}"),
            None => "it is not a build of smarter-cni".to_owned(),
        };
        findings.push(Finding::problem(format!("file {}", file.path), found, INSTALL));
    }
    Ok(findings)
}

/// containerd executes it by this name for every pod, whatever the configuration says.
fn loopback(evidence: &Evidence) -> Verdict {
    let configuration = evidence.configuration()?;
    some_networks(evidence)?;
    if configuration.has_loopback {
        return Ok(Vec::new());
    }
    let first = configuration.bin_dirs.first().cloned().unwrap_or_default();
    Ok(vec![Finding::problem(
        "plugin loopback",
        format!(
            "there is none in {}: containerd executes it for every pod",
            configuration.bin_dirs.join(", ")
        ),
        format!("{INSTALL}; or: ln -s smarter-cni {first}/loopback"),
    )])
}

fn range_in_use(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for (file, network) in readable(evidence)?.into_iter().filter(|(_, network)| !network.ranges.is_empty()) {
        let strangers = evidence.attachments()?.live().filter(|pod| pod.record.network == network.name);
        let outside = |pod: &&Attachment| {
            pod.addresses().any(|address| !network.ranges.iter().any(|set| set.contains(address.ip())))
        };
        let strangers: Vec<_> = strangers.filter(outside).collect();
        if let Some(first) = strangers.first() {
            let ranges: Vec<_> = network.ranges.iter().map(ToString::to_string).collect();
            findings.push(Finding::problem(
                format!("file {}", file.path),
                format!(
                    "its range is {}, and {} running {} ({}) addresses of another one",
                    ranges.join(" and "),
                    strangers.len(),
                    super::bridge::plural(strangers.len(), "pod has", "pods have"),
                    first.words()
                ),
                "restart those pods, or give the network its old range back",
            ));
        }
    }
    Ok(findings)
}

fn pod_cidr(evidence: &Evidence) -> Verdict {
    if evidence.pod_cidr.is_empty() {
        return Err(Pass::skipped("no range was given with --pod-cidr"));
    }
    let mut findings = Vec::new();
    for (file, network) in readable(evidence)?.into_iter().filter(|(_, network)| network.is_ours()) {
        for subnet in &network.subnets {
            let mut given =
                evidence.pod_cidr.iter().filter(|given| given.is_ipv4() == subnet.is_ipv4()).peekable();
            if given.peek().is_some()
                && !given
                    .clone()
                    .any(|given| given.prefix() <= subnet.prefix() && given.contains(subnet.network()))
            {
                let given: Vec<_> = given.map(ToString::to_string).collect();
                findings.push(Finding::problem(
                    format!("file {}", file.path),
                    format!("its range {subnet} is not in {}, which the cluster gave", given.join(", ")),
                    "give the network that range, and restart the pods",
                ));
            }
        }
    }
    Ok(findings)
}
