//! What status shows, as values. Pure.

use std::net::IpAddr;

use serde::Serialize;

/// Everything that is known of this node's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct View {
    /// By name.
    pub networks: Vec<Network>,
    /// What could not be read, and why: then something may be missing above.
    pub unread: Vec<String>,
    /// What the name server of this node has counted, in its own words; absent where none runs, or may not be asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<serde_json::Value>,
    /// Where names were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Served>,
    /// Some of that is not what it has to be: nobody can read it.
    #[serde(skip)]
    pub damaged: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Network {
    pub name: String,
    pub bridge: Option<String>,
    /// With prefix.
    pub gateways: Vec<String>,
    pub pools: Vec<Pool>,
    /// The configuration that lets no new pods come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drained_by: Option<String>,
    /// By pod.
    pub attachments: Vec<Attachment>,
}

/// A set of ranges from which pods get addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Pool {
    /// `10.1.2.1-10.1.2.254`, several joined by `,`.
    pub ranges: String,
    /// How many addresses can be leased.
    pub size: u64,
    /// How many are.
    pub used: u64,
    pub free: u64,
    /// How many of those that are used are leased to pods that are gone.
    pub reclaimable: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Attachment {
    /// `namespace/name`, where the runtime said it.
    pub pod: Option<String>,
    /// Not known from a lease that cannot be read.
    pub container: Option<String>,
    pub interface: Option<String>,
    pub addresses: Vec<String>,
    pub mac: Option<String>,
    pub host_interface: Option<String>,
    pub host_ports: Vec<HostPort>,
    pub since_seconds: Option<u64>,
    /// The canonical one first. Absent where no record says who it is, and where names are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    pub state: State,
}

/// Under what the names of pods are found, and whether they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Served {
    pub domain: String,
    pub server: Server,
    /// With their ports, where one runs.
    pub addresses: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Server {
    Serving,
    None,
    /// It may not be asked.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the keys of the JSON are those of a runtime's portMappings")]
pub(super) struct HostPort {
    pub protocol: String,
    pub host_ip: Option<IpAddr>,
    pub host_port: u16,
    pub container_port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    Attached,
    /// Its ADD runs, or was interrupted.
    Unfinished,
    /// Its namespace is gone.
    Dead,
    /// Its host end is gone.
    NoLink,
    /// Its host end is down or not on its bridge.
    Detached,
    /// Its host end says whose it is; no record does, or none that we may read.
    Unrecorded,
    /// A lease without a record: another plugin attached it.
    NotOurs,
}

impl State {
    /// Whether an attachment record says whose it is.
    pub(super) fn is_recorded(self) -> bool {
        !matches!(self, Self::Unrecorded | Self::NotOurs)
    }

    /// What a person should know; nothing where all is well.
    pub(super) fn remark(self) -> Option<&'static str> {
        Some(match self {
            Self::Attached => return None,
            Self::Unfinished => "unfinished: its ADD runs, or was interrupted",
            Self::Dead => "dead: its namespace is gone; smarter-cni reconcile clears up",
            Self::NoLink => "no link: its host end is gone; smarter-cni reconcile repairs",
            Self::Detached => "detached: its host end is down or not on its bridge",
            Self::Unrecorded => "no record: known from its link alone",
            Self::NotOurs => "not ours: known from its lease alone",
        })
    }
}
