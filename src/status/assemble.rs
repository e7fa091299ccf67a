//! From facts to the view: who is attached to which network, and how much of a pool is used. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::view::{Attachment, HostPort, Network, Pool, State, View};
use crate::datapath::mark::VethMark;
use crate::datapath::session::Link;
use crate::net::{AttachmentId, Family, IfName};
use crate::plugins::bridge;
use crate::spec::{Mapping, families};
use crate::state::{Holder, Record, record};

#[derive(Debug, Default)]
pub(super) struct Facts {
    /// CLOCK_BOOTTIME.
    pub now: Duration,
    /// By attachment, of whichever plugin.
    pub records: BTreeMap<AttachmentId, Vec<Record>>,
    /// Those whose namespace is gone.
    pub gone: BTreeSet<AttachmentId>,
    /// `None` when the kernel did not tell.
    pub links: Option<Vec<Link>>,
    /// By address.
    pub leases: Vec<Leased>,
    /// Networks that take no new pods, each with the file that says so.
    pub drained: BTreeMap<String, String>,
    pub unread: Vec<String>,
    /// What could not be read although it may be: it is not what it has to be.
    pub damaged: bool,
}

/// An address that is leased.
#[derive(Debug)]
pub(super) struct Leased {
    pub network: String,
    pub address: IpAddr,
    /// `None` for a lease that names nobody, or may not be read.
    pub holder: Option<Holder>,
    pub reclaimable: bool,
}

impl Facts {
    /// The recorded attachments that a lease may be of.
    pub(super) fn records_of<'a>(
        &'a self,
        network: &'a str,
        holder: &'a Holder,
    ) -> impl Iterator<Item = &'a AttachmentId> {
        self.records.keys().filter(move |id| id.network == network && holder.covers(&Holder::of(id)))
    }
}

pub(super) fn assemble(facts: &Facts, filter: Option<&str>) -> View {
    let mut networks = Networks::default();
    for (id, records) in &facts.records {
        networks.add(&id.network, recorded(facts, records));
        networks.learn(records);
    }
    for (mark, link) in facts.links.iter().flatten().filter_map(marked) {
        if !facts.records.contains_key(&mark.id) {
            networks.add(&mark.id.network.clone(), unrecorded(mark, link));
        }
    }
    networks.add_leases(facts);
    for (network, file) in &facts.drained {
        networks.named(network).drained_by = Some(file.clone());
    }
    let mut networks: Vec<_> = networks.0.into_values().collect();
    networks.retain(|network| filter.is_none_or(|filter| filter == network.name));
    for network in &mut networks {
        network
            .attachments
            .sort_by_cached_key(|row| (row.pod.clone(), row.container.clone(), row.interface.clone()));
        for pool in &mut network.pools {
            count(pool, facts.leases.iter().filter(|leased| leased.network == network.name));
        }
    }
    View { networks, unread: facts.unread.clone(), damaged: facts.damaged, ..View::default() }
}

/// By name.
#[derive(Default)]
struct Networks(BTreeMap<String, Network>);

impl Networks {
    fn named(&mut self, name: &str) -> &mut Network {
        let network = self.0.entry(name.to_owned());
        network.or_insert_with(|| Network { name: name.to_owned(), ..Network::default() })
    }

    fn add(&mut self, network: &str, attachment: Attachment) {
        self.named(network).attachments.push(attachment);
    }

    /// What the records of an attachment tell about its network.
    fn learn(&mut self, records: &[Record]) {
        for record in records {
            let network = self.named(&record.id.network);
            if network.bridge.is_none() {
                network.bridge = record.attachment().map(|want| want.bridge.name.to_string());
            }
            for gateway in record.gateways().iter().map(ToString::to_string) {
                if !network.gateways.contains(&gateway) {
                    network.gateways.push(gateway);
                }
            }
            for pool in &record.leases.pools {
                if !network.pools.iter().any(|known| known.ranges == pool.ranges) {
                    let record::Pool { ranges, size } = pool.clone();
                    network.pools.push(Pool { ranges, size, used: 0, free: size, reclaimable: 0 });
                }
            }
        }
    }

    /// Leases that nobody has a record of: one row for each holder.
    fn add_leases(&mut self, facts: &Facts) {
        let mut others: BTreeMap<(&str, &Holder), Vec<String>> = BTreeMap::new();
        for Leased { network, address, holder, .. } in &facts.leases {
            self.named(network);
            let Some(holder) = holder else { continue };
            let known = self.0.get(network).is_some_and(|network| {
                network.attachments.iter().any(|row| {
                    row.container.as_deref() == Some(&holder.container)
                        && holder
                            .if_name
                            .as_ref()
                            .is_none_or(|name| row.interface.as_deref() == Some(name.as_str()))
                })
            });
            if !known {
                others.entry((network, holder)).or_default().push(address.to_string());
            }
        }
        for ((network, holder), addresses) in others {
            let row = Attachment {
                pod: None,
                container: Some(holder.container.clone()),
                interface: holder.if_name.as_ref().map(ToString::to_string),
                addresses,
                mac: None,
                host_interface: None,
                host_ports: Vec::new(),
                since_seconds: None,
                names: None,
                state: State::NotOurs,
            };
            self.add(network, row);
        }
    }
}

fn marked(link: &Link) -> Option<(VethMark, &Link)> {
    let mark = VethMark::parse(link.alias.as_deref()?)?;
    (link.kind.as_deref() == Some("veth")).then_some((mark, link))
}

fn recorded(facts: &Facts, records: &[Record]) -> Attachment {
    // The main plugin's record tells most.
    let main = records.iter().find(|record| record.plugin == bridge::PLUGIN).unwrap_or(&records[0]);
    let want = main.attachment();
    let pod = main.display_name();
    // Behind a foreign plugin the address management's record has them.
    let with_addresses = [main].into_iter().chain(records).find(|record| !record.addresses().is_empty());
    Attachment {
        pod: Some(pod).filter(|pod| *pod != main.id.container),
        container: Some(main.id.container.clone()),
        interface: Some(main.id.if_name.to_string()),
        addresses: with_addresses.iter().flat_map(|record| record.ips()).map(|ip| ip.to_string()).collect(),
        mac: want.and_then(|want| want.pod.mac).map(|mac| mac.to_string()),
        host_interface: want.map(|want| want.port.name.to_string()),
        host_ports: records.iter().flat_map(|record| host_ports(facts, record)).collect(),
        since_seconds: Some(facts.now.saturating_sub(main.created()).as_secs()),
        names: None,
        state: state(facts, main),
    }
}

/// Those that lead to this attachment. Runtimes give every network of a container the same list of ports, and whichever came
/// first has them.
fn host_ports(facts: &Facts, record: &Record) -> Vec<HostPort> {
    let came = |record: &Record| (record.created(), record.id.clone());
    let earlier = facts.records.values().flatten().filter(|other| {
        other.id.container == record.id.container
            && other.plugin == record.plugin
            && came(other) < came(record)
    });
    let taken: Vec<_> = earlier.flat_map(Record::mappings).collect();
    let mappings = record.mappings().iter().copied();
    let own: Vec<_> =
        mappings.filter(|mapping| !taken.iter().any(|other| other.same_port(mapping))).collect();
    let families = families(record.addresses());
    let mut ports = Vec::new();
    for mapping in &own {
        let port = shown(mapping, &own, &families);
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    ports
}

/// A port that is open in one of the pod's two families names that family's unspecified address.
fn shown(mapping: &Mapping, own: &[Mapping], families: &[Family]) -> HostPort {
    let Mapping { protocol, host_port, pod_port, .. } = *mapping;
    let is_same = |other: &Mapping| {
        (other.protocol, other.host_port, other.pod_port, other.host_ip)
            == (protocol, host_port, pod_port, None)
    };
    let is_open = |family: &Family| own.iter().any(|other| other.family() == *family && is_same(other));
    let any = match mapping.family() {
        Family::V4 => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    HostPort {
        protocol: protocol.name().to_owned(),
        host_ip: mapping.host_ip.or_else(|| (!families.iter().all(is_open)).then_some(any)),
        host_port,
        container_port: pod_port,
    }
}

fn state(facts: &Facts, main: &Record) -> State {
    if facts.gone.contains(&main.id) {
        return State::Dead;
    }
    // The record of host ports and leases alone is complete with the ADD that wrote it.
    if !main.complete {
        return State::Unfinished;
    }
    let (Some(links), Some(want)) = (&facts.links, main.attachment()) else { return State::Attached };
    let named = |name: &IfName| links.iter().find(|link| link.name == name.as_str());
    let Some(port) = named(&want.port.name) else { return State::NoLink };
    let bridge = named(&want.bridge.name);
    let joined = port.master.is_some() && port.master == bridge.map(|bridge| bridge.index);
    if joined && port.up { State::Attached } else { State::Detached }
}

fn unrecorded(mark: VethMark, link: &Link) -> Attachment {
    Attachment {
        pod: mark.pod,
        container: Some(mark.id.container),
        interface: Some(mark.id.if_name.to_string()),
        addresses: mark.addresses.iter().map(|address| address.ip().to_string()).collect(),
        mac: None,
        host_interface: Some(link.name.clone()),
        host_ports: Vec::new(),
        since_seconds: None,
        names: None,
        state: State::Unrecorded,
    }
}

fn count<'a>(pool: &mut Pool, leases: impl Iterator<Item = &'a Leased>) {
    for leased in leases.filter(|leased| is_within(&pool.ranges, leased.address)) {
        pool.used += 1;
        pool.reclaimable += u64::from(leased.reclaimable);
    }
    pool.free = pool.size.saturating_sub(pool.used);
}

/// Whether the address is in one of the ranges, as a pool writes them.
fn is_within(ranges: &str, address: IpAddr) -> bool {
    ranges.split(',').any(|range| {
        let ends =
            range.split_once('-').and_then(|(start, end)| Some((start.parse().ok()?, end.parse().ok()?)));
        ends.is_some_and(|(start, end): (IpAddr, IpAddr)| {
            Family::of(start) == Family::of(address) && (start..=end).contains(&address)
        })
    })
}

#[cfg(test)]
mod tests;
