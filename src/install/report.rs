//! What was done, or why not: one line each for people, one object for machines.
//!
//! Pure.

use std::fmt::Write as _;

use serde::Serialize;

use crate::Outcome;
use crate::conflist::Network;
use crate::log::Entry;

/// The exit code of a node on which everything is in place and no pod would start.
const NOT_LOADED: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Result {
    /// Everything is in place, and something had to be done for it.
    Installed,
    Unchanged,
    /// Everything is in place, and no runtime that answers has loaded the network.
    NotLoaded,
    /// `--dry-run`.
    Planned,
    /// Nothing was touched.
    Refused,
    Failed,
    /// Another build was installed meanwhile.
    Superseded,
    Uninstalled,
    /// Pods are attached: no new ones come, and everything stays until they are gone.
    Waiting,
}

impl Result {
    pub(super) fn is_good(self) -> bool {
        matches!(self, Self::Installed | Self::Unchanged | Self::Planned | Self::Uninstalled)
    }

    fn status(self) -> u8 {
        if self == Self::NotLoaded { NOT_LOADED } else { u8::from(!self.is_good()) }
    }
}

/// A document of version 1: fields may be added to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Report {
    pub(super) version: u32,
    pub(super) program: &'static str,
    pub(super) result: Result,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) network: Option<NetworkReport>,
    /// Steps that were carried out, or would be.
    pub(super) steps: Vec<String>,
    pub(super) notes: Vec<String>,
    pub(super) warnings: Vec<String>,
    /// Those warnings that the watch repeats.
    #[serde(skip)]
    pub(super) collisions: Vec<String>,
    /// Whoever is remembered, to be compared: a change is a reason to look again.
    #[serde(skip)]
    pub(super) pods: usize,
    /// Why it was refused, where it failed, or what it waits for.
    pub(super) errors: Vec<String>,
    pub(super) runtimes: Vec<RuntimeReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct NetworkReport {
    name: String,
    bridge: String,
    ranges: Vec<RangeReport>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct RangeReport {
    subnet: String,
    gateway: String,
}

/// What a container runtime says about our network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RuntimeReport {
    pub(super) name: String,
    pub(super) bin_dirs: Vec<String>,
    pub(super) conf_dir: String,
    /// `null`: it could not be asked.
    pub(super) loaded: Option<bool>,
    pub(super) says: String,
}

impl From<&Network> for NetworkReport {
    fn from(network: &Network) -> Self {
        let range = |range: &crate::conflist::Range| RangeReport {
            subnet: range.subnet().to_string(),
            gateway: range.gateway().to_string(),
        };
        Self {
            name: network.name.to_string(),
            bridge: network.bridge.to_string(),
            ranges: network.ranges.iter().map(range).collect(),
        }
    }
}

impl Report {
    pub(super) fn new(result: Result) -> Self {
        Self {
            version: 1,
            program: env!("CARGO_PKG_VERSION"),
            result,
            network: None,
            steps: Vec::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
            collisions: Vec::new(),
            pods: 0,
            errors: Vec::new(),
            runtimes: Vec::new(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut lines = |word: &str, lines: &[String]| {
            for line in lines {
                let _ = writeln!(text, "{word:<8} {line}");
            }
        };
        lines(if self.result == Result::Planned { "would" } else { "done" }, &self.steps);
        lines("note", &self.notes);
        lines("warning", &self.warnings);
        for runtime in &self.runtimes {
            lines("runtime", &[format!("{}: {}", runtime.name, runtime.says)]);
        }
        let trouble = match self.result {
            Result::Refused => "refused",
            Result::Waiting | Result::Planned => "waiting",
            _ => "failed",
        };
        lines(trouble, &self.errors);
        text.push_str(&self.last_line());
        text
    }

    /// While it waits: whom for.
    pub(super) fn waits(&self) -> String {
        let mut text = String::new();
        for pod in &self.errors {
            let _ = writeln!(text, "waiting  {pod}");
        }
        text.push_str(
            "no new pods come; everything goes when these are gone: delete them, or drain the node\n",
        );
        text
    }

    fn last_line(&self) -> String {
        let network = self.network.as_ref().map(NetworkReport::line).unwrap_or_default();
        match self.result {
            Result::Installed => format!("installed: {network}\n"),
            Result::NotLoaded => {
                format!(
                    "in place, and NOT loaded: {network}; no pod starts until the runtime has loaded it\n"
                )
            }
            Result::Unchanged => format!("nothing to do: {network} is installed\n"),
            Result::Planned if self.steps.is_empty() => "nothing to do\n".to_owned(),
            Result::Planned => "nothing was done: this was a dry run\n".to_owned(),
            Result::Refused => "nothing was touched\n".to_owned(),
            Result::Superseded => "left to another build\n".to_owned(),
            Result::Failed => "not finished: run it again when the reason is gone\n".to_owned(),
            Result::Uninstalled => "smarter-cni is gone from this node\n".to_owned(),
            Result::Waiting => {
                "not finished: run it again when these pods are gone, or with --force\n".to_owned()
            }
        }
    }

    /// For the log; `None` when nothing was done and nothing is wrong.
    pub(super) fn entry(&self, command: &str) -> Option<Entry> {
        if self.result == Result::Planned {
            return None;
        }
        let refused = self.runtimes.iter().filter(|_| self.result == Result::NotLoaded);
        let refused = refused.filter(|runtime| runtime.loaded != Some(true));
        let refused = refused.map(|runtime| format!("{}: {}", runtime.name, runtime.says));
        let errors: Vec<String> = self.errors.iter().cloned().chain(refused).collect();
        Entry::of_command(command, self.steps.clone(), &errors)
    }

    /// Success goes to standard output, everything else to standard error; a machine always gets standard output.
    pub(super) fn outcome(&self, json: bool) -> Outcome {
        let status = self.result.status();
        if json {
            let mut stdout = serde_json::to_string_pretty(self).expect("texts and numbers");
            stdout.push('\n');
            return Outcome { stdout, status, ..Outcome::default() };
        }
        if status == 0 {
            return Outcome::printed(self.text());
        }
        Outcome { stderr: self.text(), status, ..Outcome::default() }
    }
}

impl NetworkReport {
    fn line(&self) -> String {
        let ranges: Vec<_> =
            self.ranges.iter().map(|range| format!("{} (gateway {})", range.subnet, range.gateway)).collect();
        format!("network {} on bridge {}, {}", self.name, self.bridge, ranges.join(" and "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            network: Some((&Network::default()).into()),
            steps: vec!["link /opt/cni/bin/loopback to smarter-cni".into()],
            notes: vec!["/opt/cni/bin/portmap is somebody else's and stays".into()],
            warnings: vec!["172.38.0.0/16 is public address space".into()],
            runtimes: vec![RuntimeReport {
                name: "containerd".into(),
                bin_dirs: vec!["/opt/cni/bin".into()],
                conf_dir: "/etc/cni/net.d".into(),
                loaded: Some(true),
                says: "has loaded network smartnet".into(),
            }],
            ..Report::new(Result::Installed)
        }
    }

    #[test]
    fn a_person_reads_line_by_line_and_the_outcome_last() {
        assert_eq!(
            report().text(),
            "done     link /opt/cni/bin/loopback to smarter-cni\n\
             note     /opt/cni/bin/portmap is somebody else's and stays\n\
             warning  172.38.0.0/16 is public address space\n\
             runtime  containerd: has loaded network smartnet\n\
             installed: network smartnet on bridge smartnet0, 172.38.0.0/16 (gateway 172.38.0.1)\n"
        );
        let refused = Report { errors: vec!["because".into()], ..Report::new(Result::Refused) };
        let outcome = refused.outcome(false);
        assert_eq!((outcome.stderr.as_str(), outcome.status), ("refused  because\nnothing was touched\n", 1));
    }

    #[test]
    fn what_no_runtime_has_loaded_is_no_success() {
        let mut report = Report { result: Result::NotLoaded, ..report() };
        report.runtimes[0].loaded = Some(false);
        report.runtimes[0].says = "has NOT loaded the network smartnet: it looks elsewhere".into();
        let outcome = report.outcome(false);
        assert_eq!(outcome.status, 3);
        assert!(outcome.stderr.contains("it looks elsewhere\nin place, and NOT loaded: network smartnet"));
        assert_eq!(report.outcome(true).status, 3);
        let errors = report.entry("install").unwrap().failure.unwrap().msg;
        assert_eq!(errors, "containerd: has NOT loaded the network smartnet: it looks elsewhere");
    }

    #[test]
    fn the_log_hears_of_what_was_done_or_failed() {
        let entry = report().entry("install").unwrap();
        assert_eq!((&*entry.verb, entry.changes.len(), entry.failure), ("install", 1, None));
        let refused = Report { errors: vec!["because".into()], ..Report::new(Result::Refused) };
        assert_eq!(refused.entry("install").unwrap().failure.unwrap().msg, "because");
        assert_eq!(Report::new(Result::Unchanged).entry("install"), None);
        let planned = Report { steps: vec!["would".into()], ..Report::new(Result::Planned) };
        assert_eq!(planned.entry("install"), None);
    }

    #[test]
    fn a_machine_reads_one_object() {
        let read: serde_json::Value = serde_json::from_str(&report().outcome(true).stdout).unwrap();
        assert_eq!(read["version"], 1);
        assert_eq!(read["result"], "installed");
        assert_eq!(
            read["network"],
            serde_json::json!({
                "name": "smartnet", "bridge": "smartnet0",
                "ranges": [{ "subnet": "172.38.0.0/16", "gateway": "172.38.0.1" }],
            })
        );
        assert_eq!(read["runtimes"][0]["loaded"], true);
        assert_eq!(read["errors"], serde_json::json!([]));
    }
}
