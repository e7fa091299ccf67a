//! What a reconcile does, as values: one step of any kind, and what can stand in the way of one. Pure.

use std::fmt;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::datapath::hostports::plan as ports;
use crate::datapath::step as links;
use crate::datapath::surplus::Removal;
use crate::net::IfName;

/// One step. Displays as the command a person would type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Of an attachment's links, addresses, routes and rules.
    Link(links::Step),
    /// Of its host ports.
    Port(ports::Step),
    /// Something of ours that no attachment wants.
    Surplus(Removal),
    /// A living pod's address is leased again: the lease's file.
    Lease(PathBuf),
    /// The lease of a pod that is gone is given back.
    Release(PathBuf),
    /// The lost record of an attachment that lives is written again, from what the kernel carries of it.
    Recall { plugin: String, container: String },
    /// The record of an attachment that is gone.
    Forget { plugin: String, container: String },
}

impl Step {
    /// Whether it changes what pods share: then it is missing once, however many pods miss it. Steps within pods read alike
    /// and are not the same.
    pub fn is_of_the_node(&self) -> bool {
        !matches!(self, Self::Link(step) if step.is_in_pod())
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(step) => step.fmt(f),
            Self::Port(step) => step.fmt(f),
            Self::Surplus(removal) => removal.fmt(f),
            Self::Lease(file) => write!(f, "node: lease {}", file.display()),
            Self::Release(file) => write!(f, "node: release the lease {}", file.display()),
            Self::Recall { plugin, container } => {
                write!(
                    f,
                    "node: write the {plugin} record of {container} again, from its mark and the kernel"
                )
            }
            Self::Forget { plugin, container } => {
                write!(f, "node: forget the {plugin} record of {container}")
            }
        }
    }
}

/// As it is displayed.
impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What kind of obstacle a failure met: whoever explains it must not read its words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The kernel, a file or a lock refused, or could not be asked.
    Refused,
    /// The record does not say what was promised.
    NoPromise,
    /// A link has the name of the bridge and is none.
    NoBridge(IfName),
    /// A link of somebody else has the host end's name.
    LinkTaken(IfName),
    /// The step needs the pod's namespace, which cannot be entered from here.
    OutOfReach,
    /// A link that leads nowhere is where a directory must be.
    Dangling(PathBuf),
    /// Another container holds the lease of an address of the attachment: its file.
    LeaseTaken(PathBuf),
    /// Another pod that lives has a promised host port, in these words.
    PortTaken(String),
}
