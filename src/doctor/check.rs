//! What a check is and what it finds: data and values.
//!
//! A check looks at [`Evidence`] and at nothing else. Three outcomes are kept apart: something is wrong, the check does
//! not apply to this node, and we could not look. The last is never taken for one of the others.
//!
//! Pure.

use super::evidence::Evidence;
use super::planned;

/// In the order in which they are shown, and in which it makes sense to look: the node before its pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Kernel,
    Host,
    Bridge,
    Addresses,
    Rules,
    Leases,
    Pods,
    Configuration,
    Runtime,
}

impl Group {
    pub const ALL: [Self; 9] = [
        Self::Kernel,
        Self::Host,
        Self::Bridge,
        Self::Addresses,
        Self::Rules,
        Self::Leases,
        Self::Pods,
        Self::Configuration,
        Self::Runtime,
    ];

    /// A check of this group, for tables.
    pub const fn check(
        self,
        id: &'static str,
        title: &'static str,
        severity: Severity,
        needs: &'static [Need],
        run: fn(&Evidence) -> Verdict,
    ) -> Check {
        Check { id, group: self, title, severity, needs, run: Some(run) }
    }

    /// A check that explains the plan of `reconcile`, and decides nothing itself.
    pub const fn planned(
        self,
        id: &'static str,
        title: &'static str,
        severity: Severity,
        needs: &'static [Need],
    ) -> Check {
        Check { id, group: self, title, severity, needs, run: None }
    }

    /// As on the command line and in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Host => "host",
            Self::Bridge => "bridge",
            Self::Addresses => "addresses",
            Self::Rules => "rules",
            Self::Leases => "leases",
            Self::Pods => "pods",
            Self::Configuration => "configuration",
            Self::Runtime => "runtime",
        }
    }

    /// As a heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Addresses => "addresses and routes",
            Self::Configuration => "plugins and configuration",
            other => other.word(),
        }
    }
}

/// How bad it is when the check finds something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Pods have no network, or the next one will have none.
    Broken,
    /// Pods work; something else may not, or they will stop working.
    Warning,
    /// Nothing is wrong; somebody may want to know.
    Info,
}

impl Severity {
    pub fn word(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// A source of evidence. It is asked once, and only when a check that was chosen needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// A throw-away namespace in which things are tried out.
    Scratch,
    /// Links, addresses, routes and switches of the node.
    Network,
    /// Tables, chains and rules of the packet filter.
    Filter,
    /// Configuration files of the host.
    Files,
    /// Attachment records, and the namespaces they lead to.
    Attachments,
    /// Lease directories.
    Leases,
    /// Network configurations and plugins.
    Configuration,
    /// Packets that are sent and answered.
    Packets,
    /// What container runtimes say of themselves.
    Runtime,
    /// What `reconcile` would do.
    Plan,
    /// Rules and routes on the way of pods' packets.
    Flows,
    /// The node's name server, and who was told to ask it.
    Names,
}

impl Need {
    pub const ALL: [Self; 12] = [
        Self::Scratch,
        Self::Network,
        Self::Filter,
        Self::Files,
        Self::Attachments,
        Self::Leases,
        Self::Configuration,
        Self::Packets,
        Self::Runtime,
        Self::Plan,
        Self::Flows,
        Self::Names,
    ];
}

/// Something that was found, about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    Problem {
        /// `bridge smartnet0`, `pod default/web-0`, `port 8080/tcp`, or the path of a file.
        object: String,
        found: String,
        /// What to do about it, with the command where there is one. May have several lines.
        fix: String,
    },
    Unknown {
        object: String,
        why: String,
    },
}

impl Finding {
    pub fn problem(object: impl Into<String>, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Problem { object: object.into(), found: found.into(), fix: fix.into() }
    }

    pub fn object(&self) -> &str {
        match self {
            Self::Problem { object, .. } | Self::Unknown { object, .. } => object,
        }
    }
}

/// Why a check says nothing about this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Does not apply.
    Skipped(String),
    /// Could not look.
    Unknown(String),
}

impl Pass {
    pub fn skipped(why: impl Into<String>) -> Self {
        Self::Skipped(why.into())
    }
}

/// No findings: all is fine.
pub type Verdict = Result<Vec<Finding>, Pass>;

#[derive(Clone, Copy, Debug)]
pub struct Check {
    /// Stable: people put it behind `--skip` and search the documentation for it.
    pub id: &'static str,
    pub group: Group,
    /// What is true when all is fine.
    pub title: &'static str,
    pub severity: Severity,
    pub needs: &'static [Need],
    /// None for a check that only explains the plan.
    pub run: Option<fn(&Evidence) -> Verdict>,
}

impl Check {
    pub fn verdict(&self, evidence: &Evidence) -> Verdict {
        match self.run {
            Some(run) => run(evidence),
            // The plan takes a packet filter that it may not read for one that the node lacks.
            None if self.needs.contains(&Need::Filter) => {
                evidence.filter()?;
                planned::verdict(evidence, self.id)
            }
            None => planned::verdict(evidence, self.id),
        }
    }
}
