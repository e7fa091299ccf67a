//! The node's name server: what it says of itself, who else has its port, what the node's files name as upstream servers, and
//! what kubelets and pods were told. Observes; what should be is for the checks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use super::attachments::{Attachments, Promise};
use crate::dns;
use crate::host::kubelets::{self, Kubelet};
use crate::host::root::Root;
use crate::net::DNS_PORT;
use crate::state::{fallback, record};

#[derive(Clone, Debug, Default)]
pub struct Names {
    /// `None`: none runs.
    pub server: Option<Server>,
    /// Where it says it answers instead of at port 53, for those who lead questions there.
    pub fallback: BTreeMap<Ipv4Addr, u16>,
    /// Who has port 53 of an address of ours, in words.
    pub holders: BTreeMap<IpAddr, BTreeSet<String>>,
    /// Files in which the node's upstream servers can stand, with those they name, where they are there.
    pub files: Vec<(String, Vec<IpAddr>)>,
    pub kubelets: Vec<Kubelet>,
    /// Pods with the name servers that their resolv.conf names, where that is found.
    pub pods: Vec<(String, Vec<IpAddr>)>,
}

/// As it says itself.
#[derive(Clone, Debug, Default)]
pub struct Server {
    pub at: Vec<SocketAddr>,
    pub upstreams: Vec<String>,
}

impl Server {
    /// The port at which an address is served.
    pub fn port(&self, address: IpAddr) -> Option<u16> {
        self.at.iter().find(|at| at.ip() == address).map(SocketAddr::port)
    }
}

pub fn load(root: &Root, attachments: &Attachments) -> Result<Names, String> {
    let locate = |path: &str| root.locate(Path::new(path)).map_err(|error| format!("{path}: {error}"));
    let here = locate("/")?;
    let addresses: BTreeSet<IpAddr> = attachments.promises().values().flat_map(Promise::asked_at).collect();
    if addresses.is_empty() {
        return Ok(Names::default());
    }
    let server = match dns::running(&locate(dns::SOCKET)?) {
        dns::Running::Serves(report) => Some(Server::of(&report)),
        dns::Running::Nobody | dns::Running::Unknown(_) => None,
    };
    let is_served =
        |address: &IpAddr| server.as_ref().and_then(|server| server.port(*address)) == Some(DNS_PORT);
    let held = addresses.iter().filter(|address| !is_served(address));
    let holders = held.map(|address| (*address, dns::holders(*address))).collect();
    let mut files = Vec::new();
    for file in dns::UPSTREAM_FILES.iter().filter(|file| root.exists(Path::new(file))) {
        files.push(((*file).to_owned(), dns::servers_in(&locate(file)?)));
    }
    let resolver = |pod: &super::attachments::Attachment| {
        Some((pod.record.display_name(), dns::resolvers_of(&here, &pod.record.id.container)?))
    };
    Ok(Names {
        fallback: fallback::read(&locate(record::ROOT)?).map_err(|error| error.to_string())?,
        holders,
        files,
        kubelets: kubelets::running(root),
        pods: attachments.live().filter_map(resolver).collect(),
        server,
    })
}

impl Server {
    fn of(report: &serde_json::Value) -> Self {
        let texts = |value: &serde_json::Value| -> Vec<String> {
            let all = value.as_array().into_iter().flatten();
            all.filter_map(|text| text.as_str().map(str::to_owned)).collect()
        };
        let upstreams = report["forwarding"]["upstreams"].as_array().into_iter().flatten();
        Self {
            at: texts(&report["addresses"]).iter().filter_map(|at| at.parse().ok()).collect(),
            upstreams: upstreams.filter_map(|one| one["address"].as_str().map(str::to_owned)).collect(),
        }
    }
}
