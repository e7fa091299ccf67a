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
use crate::datapath::hostports::Entry;
use crate::datapath::mark::BridgeMark;
use crate::datapath::observe;
use crate::datapath::plan::PodHave;
use crate::datapath::rules::masquerade_comment;
use crate::datapath::session::{Link, Netns};
use crate::datapath::surplus::{self, MemberSet, Present, Wanted};
use crate::net::{IfName, Route, network_of};
use crate::plugins::{bridge, portmap};
use crate::spec::{
    Attachment, Bridge, Firewall, Gateway, HostPorts, Limits, Mapping, Owner, Pod as PodWant, Port, families,
    subnets,
};
use crate::state::lease::DATA_DIR;
use crate::state::lock::NodeLock;
use crate::state::record::{Pod, Want};
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
            .map(|record| Owner::short_name(&record.id.container))
            .collect();
        let owners = present.entries.iter().map(|(_, comment)| Owner::named(comment));
        let lost: BTreeSet<&str> =
            owners.filter(|owner| !owner.is_empty() && !known.contains(*owner)).collect();
        if lost.is_empty() {
            return Vec::new();
        }
        let is_lost = |record: &&Record| {
            record.plugin == bridge::PLUGIN && lost.contains(Owner::short_name(&record.id.container).as_str())
        };
        let ports: Vec<_> =
            all.iter().filter(is_lost).filter_map(|record| self.of_elements(record, present)).collect();
        ports.into_iter().filter_map(|record| self.keep(record)).collect()
    }

    /// Unless somebody wrote it meanwhile, or files of records cannot be read: theirs may be among them. A dry run only
    /// remembers it.
    fn keep(&mut self, record: Record) -> Option<Record> {
        let of_other_network =
            self.scope.network.as_ref().is_some_and(|network| *network != record.id.network);
        if of_other_network || !self.records.damaged().is_ok_and(|damaged| damaged.is_empty()) {
            return None;
        }
        let subject = Subject::of(&record);
        let step = Step::Recall { plugin: record.plugin.clone(), container: record.id.container.clone() };
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
        let Some(_lock) = self.records.try_lock(&record.id, &record.plugin)? else {
            return Ok(false);
        };
        let ported = record.plugin == portmap::PLUGIN;
        let _node = ported.then(NodeLock::take).transpose()?;
        let stands = if ported {
            let present = surplus::observe::observe(&mut self.session).unwrap_or_default();
            present.entries.iter().any(|(_, comment)| Owner::is_named_by(&record.id.container, comment))
        } else {
            let want = record.attachment();
            want.is_some_and(|want| matches!(self.session.node.look_up(&want.port.name), Ok(Some(_))))
        };
        if !stands || self.records.read(&record.id, &record.plugin)?.is_some() {
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
        let id = &port.mark.id;
        let inside = observe::observe_pod_interface(&mut self.session, &id.if_name).ok().flatten()?;
        // Which VLANs were asked for, nothing tells.
        if link.kind.as_deref() != Some("bridge") || link.vlan_filtering == Some(true) {
            return None;
        }
        let mut record = Record::begin(self.records, bridge::PLUGIN, id, Some(path));
        record.complete = true;
        record.pod = port.mark.pod.as_deref().and_then(pod);
        let want = want(port, &host, &link, &inside, present)?;
        if let Some((ipam, data_dir)) = leased(&record, &want.pod.addresses) {
            record.leases.ipam = Some(ipam.to_owned());
            record.leases.data_dir = Some(data_dir.to_owned());
        }
        record.want = Some(Want::Attachment(Box::new(want)));
        Some(record)
    }

    /// The record of the host ports of an attachment whose other record is there.
    fn of_elements(&self, bridge: &Record, present: &Present) -> Option<Record> {
        let own = |(_, comment): &&(Entry, String)| Owner::is_named_by(&bridge.id.container, comment);
        let entries: Vec<&Entry> = present.entries.iter().filter(own).map(|(entry, _)| entry).collect();
        let carries = |pod| bridge.ips().any(|own| own == pod);
        let mapping = |entry: &&Entry| match entry {
            Entry::Port(mapping) if carries(mapping.pod) => Some(*mapping),
            _ => None,
        };
        let mappings: Vec<Mapping> = entries.iter().filter_map(mapping).collect();
        if mappings.is_empty() {
            return None;
        }
        let mut record = Record::begin(self.records, portmap::PLUGIN, &bridge.id, bridge.netns.as_deref());
        (record.complete, record.pod) = (true, bridge.pod.clone());
        record.pod_link = bridge.attachment().map(|want| want.bridge.name.clone());
        let pods = bridge.addresses().to_vec();
        // In which words limits were asked for, nothing tells; without them the ports are not repaired, and stay.
        let limited = entries.iter().any(|entry| matches!(entry, Entry::Limited(..)));
        record.want = Some(if limited {
            Want::Mappings { mappings, pods }
        } else {
            Want::HostPorts(HostPorts {
                owner: Owner {
                    container: bridge.id.container.clone(),
                    pod: bridge.pod.as_ref().and_then(Pod::full_name),
                },
                mappings,
                pods,
                snat: entries.iter().any(|entry| matches!(entry, Entry::LocalClients(_))),
                masq_all: entries.iter().any(|entry| matches!(entry, Entry::AllClients(_))),
                limits: Limits::default(),
            })
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

/// What the attachment is seen to have been promised. `None` where its bridge has a name that nobody can give.
fn want(
    port: &MarkedPort,
    host: &Link,
    bridge: &Link,
    inside: &PodHave,
    present: &Present,
) -> Option<Attachment> {
    let (id, addresses) = (port.mark.id.clone(), port.mark.addresses.clone());
    let name = bridge.name.parse::<IfName>().ok()?;
    let mark = bridge.alias.as_deref().and_then(BridgeMark::parse).unwrap_or_default();
    let own = |gateway: &IpNetwork| addresses.iter().any(|own| network_of(*own).contains(gateway.ip()));
    let gateways: Vec<IpNetwork> = mark.gateways.into_iter().filter(own).collect();
    let is_member =
        |set: MemberSet| present.members.iter().any(|member| member.set == set && member.interface == name);
    let accepted = present.accepts.iter().any(|(_, interface)| *interface == name);
    let masqueraded = present.masquerade.iter().any(|rule| {
        rule.network == masquerade_comment(&id.network)
            && addresses.iter().any(|address| rule.subnet == Some(network_of(*address)))
    });
    let clamp_mss = is_member(MemberSet::Clamped);
    let intercept = present.intercepted.iter().any(|(_, link)| *link == name);
    // The guard names uplinks and no network. A node that was no router before is kept from being one, as by default.
    let managed = accepted || clamp_mss;
    Some(Attachment {
        pod_name: port.mark.pod.clone(),
        bridge: Bridge {
            mac: bridge.mac.unwrap_or_else(|| Bridge::derived_mac(&name)),
            name,
            mtu: None,
            vlan_filtering: false,
            promiscuous: bridge.promiscuous,
        },
        port: Port {
            name: port.name.clone(),
            mac: host.mac,
            mtu: None,
            hairpin: host.hairpin.unwrap_or(false),
            isolated: host.isolated.unwrap_or(false),
            vlans: None,
        },
        masquerade: if masqueraded { subnets(&addresses) } else { Vec::new() },
        pod: PodWant {
            name: id.if_name.clone(),
            mac: inside.mac,
            mtu: None,
            up: inside.up,
            addresses,
            routes: routes(inside),
            detect_duplicates: false,
        },
        forwarding: families(&gateways),
        gateway: (!gateways.is_empty()).then_some(Gateway {
            addresses: gateways,
            force: false,
            vlan: None,
            dns: None,
            intercept,
        }),
        spoof_check: present.checked.contains(&port.name),
        firewall: Firewall { accept: managed, guard: managed, clamp_mss },
        id,
    })
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
    let holder = Holder::of(&record.id);
    let holds = |data_dir: &str| {
        let store = Store::glance(Path::new(data_dir), &record.id.network).ok().flatten();
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

/// `namespace/name`, or a name alone.
fn pod(words: &str) -> Option<Pod> {
    let (namespace, name) = match words.split_once('/') {
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, words),
    };
    (!name.is_empty()).then(|| Pod { namespace, name: Some(name.to_owned()), uid: None })
}
