//! The network configurations that runtimes read.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::INSTALL;
use crate::conflist::{self, FILE_NAMES};
use crate::doctor::check::{Check, Finding, Group as G, Need, Pass, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::attachments::{self, Attachment};
use crate::doctor::evidence::configuration::{ConfFile, ConfiguredNetwork, Directory, LIST_WITHOUT_ITS_NAME};
use crate::doctor::evidence::installed::Installed;
use crate::plugins::{Difference, bridge, portmap};
use crate::spec::HostPorts;
use crate::text::typed;

use Severity::{Broken, Info, Warning};

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
    G::Configuration.check("conflist-drain", "our network takes new pods", Broken, CONFIGURED, drain),
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
    G::Configuration.check(
        "conflist-changed",
        "running pods have what the configuration says today",
        Info,
        WITH_PODS,
        changed,
    ),
];

const WITH_PODS: &[Need] = &[Need::Configuration, Need::Attachments];

/// Of whatever directory.
pub(super) fn readable(evidence: &Evidence) -> Result<Vec<(&ConfFile, &ConfiguredNetwork)>, Pass> {
    Ok(evidence.configuration()?.directories.iter().flat_map(Directory::readable).collect())
}

fn missing(evidence: &Evidence) -> Verdict {
    let configuration = evidence.configuration()?;
    let installed = &configuration.installed;
    // A runtime that reads another directory than the one with our network is named as that.
    let (elsewhere, judged): (Vec<_>, Vec<_>) = configuration
        .directories
        .iter()
        .partition(|directory| directory.reader.is_some() && installed.is_elsewhere(&directory.place));
    if judged.is_empty() && !elsewhere.is_empty() {
        return Err(Pass::skipped("the runtime reads another directory than ours was installed to"));
    }
    let mut findings = Vec::new();
    for directory in judged.into_iter().filter(|directory| directory.files.is_empty()) {
        findings.push(Finding::problem(
            format!("directory {}", directory.path.display()),
            "there is no network configuration in it: the runtime says that the CNI plugin is not initialised, and \
             the node is not ready",
            first_installation(installed, directory),
        ));
    }
    Ok(findings)
}

/// What it takes where nothing, or nothing any more, is known of an installation.
fn first_installation(installed: &Installed, directory: &Directory) -> String {
    let mut fix = INSTALL.to_owned();
    if installed.conf_dirs.is_empty() {
        fix.push_str(
            "\nwith --subnet and the pod range of the cluster (cluster-cidr), where that is not the default",
        );
    }
    if directory.reader.is_none() {
        fix.push_str("\nwhere the runtime reads another directory, name it: --conf-dir");
    }
    fix
}

/// Under a name that no runtime takes for a network.
fn out_of_the_way(path: &str) -> String {
    format!("mv {} {}", typed(path), typed(format!("{path}.disabled")))
}

/// A file that somebody wrote by hand may be the only network of the node: moved away, there would be none.
fn repair_of(evidence: &Evidence, path: &str) -> String {
    if FILE_NAMES.iter().any(|name| path.ends_with(name)) {
        return INSTALL.to_owned();
    }
    if readable(evidence).is_ok_and(|networks| !networks.is_empty()) {
        return format!("{}\nif nobody needs it; else write it anew", out_of_the_way(path));
    }
    format!(
        "correct it: it is the only network of this node\nruntimes read JSON as it is, without comments and without a byte \
         order mark; that is removed by: sed -i '1s/^\\xef\\xbb\\xbf//' {}",
        typed(path)
    )
}

fn renamed(path: &str) -> String {
    let right = Path::new(path).with_extension("conflist");
    format!("mv -n {} {}", typed(path), typed(right.display()))
}

fn invalid(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for file in evidence.configuration()?.directories.iter().flat_map(Directory::used) {
        if let Err(why) = &file.network {
            let fix = match Path::new(&file.path).extension() {
                Some(_) if why == LIST_WITHOUT_ITS_NAME => renamed(&file.path),
                _ => repair_of(evidence, &file.path),
            };
            findings.push(Finding::problem(
                format!("file {}", file.path),
                format!("{why}: the runtime passes over it, or refuses to start pods"),
                fix,
            ));
        }
    }
    Ok(findings)
}

fn drain(evidence: &Evidence) -> Verdict {
    let drained = readable(evidence)?.into_iter().filter(|(_, network)| network.drains);
    let findings = drained.map(|(file, network)| {
        Finding::problem(
            format!("file {}", file.path),
            format!(
                "it has the key `drain`: no new pod gets the network {}; an uninstallation waits for the last pods, or was \
                 left half-way",
                network.name
            ),
            format!("{INSTALL}\nto let pods come again; to finish it: smarter-cni uninstall --wait"),
        )
    });
    Ok(findings.collect())
}

/// Ours by its plugins, or by the pods that it has attached.
fn is_ours(evidence: &Evidence, network: &ConfiguredNetwork) -> bool {
    let attached = |pod: &Attachment| pod.record.id.network == network.name;
    network.is_ours() || evidence.records().is_ok_and(|records| records.live().any(attached))
}

fn not_first(evidence: &Evidence) -> Verdict {
    let networks = readable(evidence)?;
    if networks.is_empty() {
        return Err(Pass::skipped("there is no configuration that can be read"));
    }
    if !networks.iter().any(|(_, network)| is_ours(evidence, network)) {
        return Err(Pass::skipped("no configuration is ours"));
    }
    let mut findings = Vec::new();
    for directory in &evidence.configuration()?.directories {
        let ours = directory.readable().find(|(_, network)| is_ours(evidence, network));
        let (Some((file, _)), Some((first, network))) = (ours, directory.readable().next()) else { continue };
        // A meta-plugin hands pods on to ours.
        let hands_on = network.types.first().is_some_and(|first| conflist::hands_on(first));
        if file.path != first.path && !hands_on {
            findings.push(Finding::problem(
                format!("file {}", first.path),
                format!(
                    "it comes before {}: runtimes take the first by name, so new pods get network {} and not ours",
                    file.path, network.name
                ),
                format!("{}\nand restart the pods that it attached", out_of_the_way(&first.path)),
            ));
        }
    }
    Ok(findings)
}

fn range_in_use(evidence: &Evidence) -> Verdict {
    let mut findings = Vec::new();
    for (file, network) in readable(evidence)?.into_iter().filter(|(_, network)| !network.ranges.is_empty()) {
        let strangers = evidence.attachments()?.live().filter(|pod| pod.record.id.network == network.name);
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

/// No fault of anybody's: a pod has what was promised to it, and the configuration is the next one's.
fn changed(evidence: &Evidence) -> Verdict {
    let records = evidence.attachments()?;
    let mut findings = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for (file, network) in readable(evidence)? {
        // Of several files runtimes take the first.
        if seen.contains(&network.name.as_str()) {
            continue;
        }
        seen.push(&network.name);
        let mut changes: BTreeMap<Difference, BTreeSet<String>> = BTreeMap::new();
        for pod in records.live().filter(|pod| pod.record.id.network == network.name) {
            for difference in since_it_came(network, pod) {
                changes.entry(difference).or_default().insert(pod.words());
            }
        }
        let ported = records.ported.iter().filter(|pod| pod.live && pod.record.id.network == network.name);
        for (pod, then) in ported.filter_map(|pod| Some((pod, pod.record.host_ports()?))) {
            for difference in ports_since(network, then) {
                changes.entry(difference).or_default().insert(attachments::words(&pod.record));
            }
        }
        findings.extend(changes.iter().map(|(difference, pods)| note(&file.path, difference, pods)));
    }
    Ok(findings)
}

fn since_it_came(network: &ConfiguredNetwork, pod: &Attachment) -> Vec<Difference> {
    let (Some(config), Some(then)) = (&network.attaches, pod.record.attachment()) else { return Vec::new() };
    let mut differences = bridge::want::differences(config, then);
    differences.extend(bridge::want::ipam_difference(config, &pod.record));
    differences
}

fn ports_since(network: &ConfiguredNetwork, then: &HostPorts) -> Vec<Difference> {
    let Some(rules) = &network.maps else { return Vec::new() };
    // Whose ports they are, and which, is said by whoever starts the pod.
    let now = HostPorts {
        owner: then.owner.clone(),
        mappings: then.mappings.clone(),
        pods: then.pods.clone(),
        ..rules.clone()
    };
    portmap::want::differences(then, &now)
}

fn note(path: &str, Difference { key, was, is }: &Difference, pods: &BTreeSet<String>) -> Finding {
    let first = pods.first().map(String::as_str).unwrap_or_default();
    let who = match pods.len() {
        1 => format!("{first} came"),
        several => format!("{several} running pods ({first} and others) came"),
    };
    Finding::problem(
        format!("file {path}"),
        format!("{key} is {is} now, and {who} when it was {was}: takes effect with the next ADD"),
        "restart the pods that shall have it; those that stay are right as they are",
    )
}
