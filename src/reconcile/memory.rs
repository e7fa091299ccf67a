//! Lost memory is not death. What the kernel still carries of us (marks on links, living namespaces, elements of our tables)
//! proves that a pod lives, and tells most of what it was promised: its records are written again from that.
//!
//! Refuses to guess. What a mark and the kernel do not tell (VLANs, limits of host ports, a foreign plugin's attachment) is
//! left as it is, and spared from removal.

use std::collections::BTreeSet;
use std::path::Path;

use ipnetwork::IpNetwork;

use super::{Action, Obstacle, Pass, Step, Subject};
use crate::conflist;
use crate::datapath::census::{self, MarkedPort};
use crate::datapath::hostports::{Entry, Mapping, Owner};
use crate::datapath::mark::BridgeMark;
use crate::datapath::observe;
use crate::datapath::plan::PodHave;
use crate::datapath::rules::masquerade_comment;
use crate::datapath::session::{Link, Netns};
use crate::datapath::surplus::{self, MemberSet, Present, Wanted};
use crate::net::{Family, IfName, Route, network_of};
use crate::plugins::{bridge, portmap};
use crate::state::lease::DATA_DIR;
use crate::state::lock::NodeLock;
use crate::state::record::{Attachment, Firewall, Flags, HostPort, Pod, PortRules, PromisedAddress};
use crate::state::{Holder, Lease, Record, Store};

/// `RT_TABLE_MAIN`, linux/rtnetlink.h.
const MAIN: u32 = 254;

impl Pass<'_> {
    /// Writes the records again that are gone while their attachments live, and adds them to `all`.
    pub(super) fn recall(&mut self, all: &mut Vec<Record>) {
        let ports = match census::marked_ports(&mut self.session) {
            Ok(ports) => ports,
            Err(error) => return self.report.failure(&Subject::Node, None, Obstacle::Refused, error),
        };
        // Asked for after the links: whoever made one had written its record before.
        let lost: Vec<_> = ports.iter().filter(|port| !self.is_recorded(port)).collect();
        if lost.is_empty() {
            return;
        }
        let Ok(present) = surplus::observe::observe(&mut self.session) else { return };
        for port in lost {
            let record = self.of_mark(port, &present);
            all.extend(record.and_then(|record| self.keep(record)));
        }
        all.extend(self.recall_ports(all, &present));
    }

    /// Records of host ports that are gone while the record of their attachment is there.
    pub(super) fn recall_ports(&mut self, all: &[Record], present: &Present) -> Vec<Record> {
        let known: BTreeSet<String> = all
            .iter()
            .filter(|record| record.plugin == portmap::PLUGIN)
            .map(|record| Owner::short_name(&record.container_id))
            .collect();
        let owners = present.entries.iter().map(|(_, comment)| Owner::named(comment));
        let lost: BTreeSet<&str> =
            owners.filter(|owner| !owner.is_empty() && !known.contains(*owner)).collect();
        if lost.is_empty() {
            return Vec::new();
        }
        let is_lost = |record: &&Record| {
            record.plugin == bridge::PLUGIN && lost.contains(Owner::short_name(&record.container_id).as_str())
        };
        let ports: Vec<_> =
            all.iter().filter(is_lost).filter_map(|record| self.of_elements(record, present)).collect();
        ports.into_iter().filter_map(|record| self.keep(record)).collect()
    }

    /// Unless somebody wrote it meanwhile, or files of records cannot be read: theirs may be among them. A dry run only
    /// remembers it.
    fn keep(&mut self, record: Record) -> Option<Record> {
        let of_other_network = self.scope.network.as_ref().is_some_and(|network| *network != record.network);
        if of_other_network || !self.records.damaged().is_ok_and(|damaged| damaged.is_empty()) {
            return None;
        }
        let subject = Subject::of(&record);
        let step = Step::Recall { plugin: record.plugin.clone(), container: record.container_id.clone() };
        if self.scope.dry_run {
            self.plan(&subject, Action::Repair, vec![step]);
            self.recalled.push(record.clone());
            return Some(record);
        }
        self.be_alone();
        match self.write_lost(&record) {
            Ok(true) => self.report.change(&subject, Action::Repair, vec![step]),
            Ok(false) => return None,
            Err(error) => {
                self.report.failure(&subject, Some(step), Obstacle::Refused, error);
                return None;
            }
        }
        Some(record)
    }

    /// Under the locks by which verbs make and remove such an attachment, when it is still as it was.
    fn write_lost(&mut self, record: &Record) -> crate::state::Result<bool> {
        let Some(_lock) = self.records.try_lock(&record.attachment(), &record.plugin)? else {
            return Ok(false);
        };
        let ported = record.plugin == portmap::PLUGIN;
        let _node = ported.then(NodeLock::take).transpose()?;
        let stands = if ported {
            let present = surplus::observe::observe(&mut self.session).unwrap_or_default();
            present.entries.iter().any(|(_, comment)| Owner::is_named_by(&record.container_id, comment))
        } else {
            let host = record.promised.host_if.as_ref();
            host.is_some_and(|host| matches!(self.session.node.look_up(host), Ok(Some(_))))
        };
        if !stands || self.records.read(&record.attachment(), &record.plugin)?.is_some() {
            return Ok(false);
        }
        self.records.write(record)?;
        Ok(true)
    }

    /// The record of the attachment that a host end is marked with. `None` when its pod is gone, or the kernel does not tell
    /// enough.
    fn of_mark(&mut self, port: &MarkedPort, present: &Present) -> Option<Record> {
        let home = census::home_of(port).ok().flatten()?;
        let path = home.to_str()?;
        self.session.turn_to(Some(Netns::open(path).ok()?)).ok()?;
        let host = self.session.node.look_up(&port.name).ok().flatten()?;
        let link = self.session.node.look_up_index(host.master?).ok().flatten()?;
        let identity = &port.mark.identity;
        let inside = observe::observe_pod_interface(&mut self.session, &identity.if_name).ok().flatten()?;
        // Which VLANs were asked for, nothing tells.
        if link.kind.as_deref() != Some("bridge") || link.vlan_filtering == Some(true) {
            return None;
        }
        let attachment = Attachment {
            network: &identity.network,
            container: &identity.container,
            if_name: &identity.if_name,
        };
        let mut record = Record::begin(self.records, bridge::PLUGIN, &attachment, Some(path));
        record.complete = true;
        record.pod = port.mark.pod.as_deref().and_then(pod);
        promise(&mut record, port, &host, &link, &inside, present);
        Some(record)
    }

    /// The record of the host ports of an attachment whose other record is there.
    fn of_elements(&self, bridge: &Record, present: &Present) -> Option<Record> {
        let own = |(_, comment): &&(Entry, String)| Owner::is_named_by(&bridge.container_id, comment);
        let entries: Vec<&Entry> = present.entries.iter().filter(own).map(|(entry, _)| entry).collect();
        let carries = |pod| bridge.promised.addresses.iter().any(|own| own.address.ip() == pod);
        let mapping = |entry: &&Entry| match entry {
            Entry::Port(mapping) if carries(mapping.pod) => Some(*mapping),
            _ => None,
        };
        let mappings: Vec<Mapping> = entries.iter().filter_map(mapping).collect();
        if mappings.is_empty() {
            return None;
        }
        let mut record =
            Record::begin(self.records, portmap::PLUGIN, &bridge.attachment(), bridge.netns.as_deref());
        (record.complete, record.pod) = (true, bridge.pod.clone());
        let addresses = bridge.promised.addresses.iter();
        record.promised.addresses =
            addresses.map(|own| PromisedAddress { address: own.address, gateway: None }).collect();
        record.promised.host_ports = host_ports(&mappings);
        let limited = entries.iter().any(|entry| matches!(entry, Entry::Limited(..)));
        // In which words the limits were asked for, nothing tells; without them the ports are not repaired, and stay.
        record.promised.port_rules = (!limited).then(|| PortRules {
            snat: entries.iter().any(|entry| matches!(entry, Entry::LocalClients(_))),
            masq_all: entries.iter().any(|entry| matches!(entry, Entry::AllClients(_))),
            pod_link: bridge.promised.bridge.clone(),
            ..PortRules::default()
        });
        Some(record)
    }

    /// What nobody remembers and what lives all the same, whoever attached it: the address that an element leads to is
    /// carried by some namespace, and no record tells that it is another pod's now.
    pub(super) fn spare(&mut self, wanted: &mut Wanted, present: &Present) {
        let orphans: Vec<_> = present
            .entries
            .iter()
            .filter_map(|(entry, comment)| Some((entry.pod()?, comment)))
            .filter(|(pod, comment)| {
                !comment.is_empty()
                    && !wanted.addresses.contains(pod)
                    && !wanted.containers.iter().any(|name| Owner::is_named_by(name, comment))
            })
            .collect();
        if orphans.is_empty() {
            return;
        }
        let carried = census::carried_addresses();
        for (pod, comment) in orphans.into_iter().filter(|(pod, _)| carried.contains(pod)) {
            let owner = Owner::named(comment).to_owned();
            if wanted.containers.insert(owner) {
                let text = format!(
                    "host ports of {} are left alone: it has no record any more, and {pod} lives in some namespace",
                    Owner::words(comment)
                );
                self.report.note(&Subject::Node, text);
            }
        }
    }
}

fn promise(
    record: &mut Record,
    port: &MarkedPort,
    host: &Link,
    bridge: &Link,
    inside: &PodHave,
    present: &Present,
) {
    let network = record.network.clone();
    let name = bridge.name.parse::<IfName>().ok();
    let addresses = &port.mark.addresses;
    let mark = bridge.alias.as_deref().and_then(BridgeMark::parse).unwrap_or_default();
    let gateways: Vec<IpNetwork> = mark
        .gateways
        .into_iter()
        .filter(|gateway| addresses.iter().any(|address| network_of(*address).contains(gateway.ip())))
        .collect();
    let is_member = |set: MemberSet| {
        present.members.iter().any(|member| member.set == set && Some(&member.interface) == name.as_ref())
    };
    let accepted = present.accepts.iter().any(|(_, interface)| Some(interface) == name.as_ref());
    let masqueraded = present.masquerade.iter().any(|rule| {
        rule.network == masquerade_comment(&network)
            && addresses.iter().any(|address| rule.subnet == Some(network_of(*address)))
    });
    let clamp_mss = is_member(MemberSet::Clamped);
    let lease = leased(record, addresses);
    let promised = &mut record.promised;
    (promised.bridge, promised.host_if) = (name, Some(port.name.clone()));
    (promised.bridge_mac, promised.host_mac, promised.pod_mac) = (bridge.mac, host.mac, inside.mac);
    let gateway_of = |address: IpNetwork| {
        gateways.iter().find(|gateway| network_of(address).contains(gateway.ip())).map(IpNetwork::ip)
    };
    promised.addresses = addresses
        .iter()
        .map(|address| PromisedAddress { address: *address, gateway: gateway_of(*address) })
        .collect();
    promised.routes = routes(inside);
    promised.flags = Flags {
        hairpin: host.hairpin.unwrap_or(false),
        isolated: host.isolated.unwrap_or(false),
        promisc: bridge.promiscuous,
        ip_masq: masqueraded,
        mac_spoof_check: present.checked.contains(&port.name),
        is_gateway: !gateways.is_empty(),
        container_interface_disabled: !inside.up,
        ..Flags::default()
    };
    promised.gateways = gateways;
    // The guard names uplinks and no network. A node that was no router before is kept from being one, as by default.
    let managed = accepted || clamp_mss;
    promised.firewall = Some(Firewall { accept: managed, guard: managed, clamp_mss });
    if let Some((ipam, data_dir)) = lease {
        (promised.ipam, promised.data_dir) = (Some(ipam.to_owned()), Some(data_dir.to_owned()));
    }
}

/// Those that the kernel did not make by itself for the addresses.
fn routes(inside: &PodHave) -> Vec<Route> {
    let own = |route: &&Route| {
        let direct = inside.addresses.iter().any(|address| network_of(*address) == route.dst);
        let of_every_link = match route.dst {
            IpNetwork::V6(v6) => v6.ip().is_unicast_link_local() || v6.ip().is_multicast(),
            IpNetwork::V4(_) => false,
        };
        route.table == Some(MAIN) && !(route.gw.is_none() && (direct || of_every_link))
    };
    let asked = |route: &Route| Route {
        table: None,
        // What the kernel puts in when nobody says anything.
        priority: route.priority.filter(|priority| !matches!(priority, 0 | 1024)),
        scope: route.scope.filter(|scope| *scope != 0),
        ..route.clone()
    };
    inside.routes.iter().filter(own).map(asked).collect()
}

/// Where our own address management has the lease of one of the addresses, if it has.
fn leased(record: &Record, addresses: &[IpNetwork]) -> Option<(&'static str, &'static str)> {
    let holder = Holder::new(&record.container_id, &record.if_name);
    let holds = |data_dir: &str| {
        let store = Store::glance(Path::new(data_dir), &record.network).ok().flatten();
        store.is_some_and(|store| {
            addresses.iter().any(|address| {
                matches!(store.lease(address.ip()), Ok(Some(Lease::Held(held))) if held.covers(&holder))
            })
        })
    };
    [("smarter-ipam", conflist::DATA_DIR), ("host-local", DATA_DIR)]
        .into_iter()
        .find(|(_, data_dir)| holds(data_dir))
}

/// Asked for in one family only, a port names that family's unspecified address.
fn host_ports(mappings: &[Mapping]) -> Vec<HostPort> {
    let mut ports: Vec<HostPort> = Vec::new();
    let families = |family: Family| mappings.iter().any(|mapping| mapping.family() == family);
    let dual = families(Family::V4) && families(Family::V6);
    for mapping in mappings {
        let twin = mappings.iter().any(|other| {
            other.family() != mapping.family()
                && (other.protocol, other.host_port, other.pod_port)
                    == (mapping.protocol, mapping.host_port, mapping.pod_port)
                && other.host_ip.is_none()
        });
        let any = match mapping.family() {
            Family::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let port = HostPort {
            protocol: mapping.protocol.name().to_owned(),
            host_port: mapping.host_port,
            container_port: mapping.pod_port,
            host_ip: mapping.host_ip.or_else(|| (!(dual && twin)).then_some(any)),
        };
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

/// `namespace/name`, or a name alone.
fn pod(words: &str) -> Option<Pod> {
    let (namespace, name) = match words.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, words),
    };
    (!name.is_empty()).then(|| Pod { namespace, name: Some(name.to_owned()), uid: None })
}
