//! What is missing of the promised ports, who stands in the way, and what must go when an attachment goes.
//!
//! Pure.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{Entry, HostPorts, Limits, Mapping, Owner, family_words};
use crate::datapath::mark::OWNER;
use crate::datapath::step::Concern;
use crate::net::{Family, IfName, network_of};

/// What the kernel has. `observe` fills it in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Have {
    /// One per family with mappings.
    pub tables: Vec<TableHave>,
    /// Where packets to the pod leave the node, to its IPv4 address if it has one; `None` when no route leads there.
    pub pod_link: Option<PodLink>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is something of its own that can be missing")]
pub struct TableHave {
    pub family: Family,
    /// Maps, sets, chains and their own rules are all there.
    pub base: bool,
    /// The rule for clients of the pod's subnet.
    pub siblings: bool,
    /// The chain of the wanted limits, and the way to it.
    pub limits: bool,
    /// The pod's side of the node is known as such.
    pub pod_link: bool,
    /// Elements with a key that is wanted, and those that overlap.
    pub elements: Vec<Found>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodLink {
    pub name: IfName,
    /// Packets from 127.0.0.0/8 may leave through it.
    pub route_localnet: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub entry: Entry,
    pub comment: String,
    pub holder: Holder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This attachment.
    Ours,
    /// Another attachment of the same container: runtimes give every network of a container the same list of ports, and the
    /// first one keeps them.
    SameContainer,
    /// An attachment that is no more.
    Dead,
    Alive,
}

/// Another pod has the port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    pub wanted: Mapping,
    pub theirs: Mapping,
    /// Their element's comment.
    pub comment: String,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hostPort {} already used by {}", self.wanted.port_words(), Owner::words(&self.comment))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Base(Family),
    Siblings(IpNetwork),
    Limits(Family, Limits),
    /// Limits on interfaces are for what comes from elsewhere.
    PodLink(Family, IfName),
    RouteLocalnet(IfName),
    Remove(Entry),
    /// With its comment, empty for an element that belongs to several pods.
    Add(Entry, String),
    /// Flows that the mapping's coming or going would leave behind.
    ForgetFlows(Mapping),
}

impl Step {
    /// Whose trouble it is where it is missing of an attachment.
    pub fn concern(&self) -> Concern {
        match self {
            Self::Base(_)
            | Self::Siblings(_)
            | Self::Limits(..)
            | Self::PodLink(..)
            | Self::RouteLocalnet(_) => Concern::Shared,
            Self::Remove(_) | Self::Add(..) => Concern::Attachment,
            Self::ForgetFlows(_) => Concern::Nobody,
        }
    }

    /// Matters only while something changes.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::ForgetFlows(_))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Base(family) => write!(
                f,
                "node: nft -f - (table {} {OWNER}: chains and maps of host ports)",
                family_words(*family)
            ),
            Self::Siblings(subnet) => {
                let family = family_words(Family::of(subnet.ip()));
                write!(
                    f,
                    "node: nft add rule {family} {OWNER} postrouting ct status dnat {family} saddr {subnet} {family} daddr \
                     {subnet} {family} daddr @local_clients masquerade"
                )
            }
            Self::Limits(family, limits) => {
                let chain = limits.chain(*family).unwrap_or_default();
                write!(f, "node: nft add chain {} {OWNER} {chain}", family_words(*family))
            }
            Self::PodLink(family, link) => {
                write!(f, "node: nft add element {} {OWNER} pod_links {{ {link} }}", family_words(*family))
            }
            Self::RouteLocalnet(link) => write!(f, "node: sysctl -w net.ipv4.conf.{link}.route_localnet=1"),
            Self::Remove(entry) => {
                let family = family_words(entry.family());
                write!(f, "node: nft delete element {family} {OWNER} {} {{ {entry} }}", entry.set())
            }
            Self::Add(entry, _) => {
                let family = family_words(entry.family());
                write!(f, "node: nft add element {family} {OWNER} {} {{ {entry} }}", entry.set())
            }
            Self::ForgetFlows(mapping) => {
                let family = if mapping.family() == Family::V4 { "ipv4" } else { "ipv6" };
                write!(
                    f,
                    "node: conntrack -D -f {family} -p {} --orig-port-dst {}",
                    mapping.protocol, mapping.host_port
                )?;
                mapping.host_ip.map_or(Ok(()), |ip| write!(f, " --orig-dst {ip}"))
            }
        }
    }
}

/// The elements of an attachment in one family, each with its comment.
pub fn entries(want: &HostPorts, family: Family) -> Vec<(Entry, String)> {
    let comment = want.owner.comment();
    let mut entries = Vec::new();
    for mapping in want.mappings.iter().filter(|mapping| mapping.family() == family) {
        // Limits first: a port that is open for a moment is open.
        if let Some(chain) = want.limits.chain(family) {
            entries.push((Entry::Limited(chain, *mapping), comment.clone()));
        }
        entries.push((Entry::Port(*mapping), comment.clone()));
        if mapping.host_ip.is_some() {
            let at = Entry::PortAt(family, mapping.protocol, mapping.host_port);
            if !entries.iter().any(|(entry, _)| *entry == at) {
                entries.push((at, String::new()));
            }
        }
    }
    for pod in want.pods.iter().map(IpNetwork::ip).filter(|pod| Family::of(*pod) == family) {
        if want.snat {
            entries.push((Entry::LocalClients(pod), comment.clone()));
            entries.push((Entry::Hairpin(pod), comment.clone()));
            if want.masq_all {
                entries.push((Entry::AllClients(pod), comment.clone()));
            }
        }
    }
    entries
}

/// The pod's subnet, where it has neighbours in one.
pub fn siblings(want: &HostPorts, family: Family) -> Option<IpNetwork> {
    let pod = want.pods.iter().find(|pod| Family::of(pod.ip()) == family).filter(|_| want.snat)?;
    let alone = if family == Family::V4 { 32 } else { 128 };
    (pod.prefix() < alone).then(|| network_of(*pod))
}

/// The missing steps in order; empty when all is there.
pub fn plan(want: &HostPorts, have: &Have) -> Result<Vec<Step>, Conflict> {
    for table in &have.tables {
        refuse_conflicts(want, table)?;
    }
    let mut steps = Vec::new();
    for table in &have.tables {
        plan_table(want, table, have.pod_link.as_ref(), &mut steps);
    }
    // The guard stands before the door opens, and the door is open before anybody is sent there.
    if let Some(link) = have.pod_link.as_ref().filter(|link| want.snat && !link.route_localnet)
        && have.tables.iter().any(|table| table.family == Family::V4)
    {
        steps.push(Step::RouteLocalnet(link.name.clone()));
    }
    for table in &have.tables {
        plan_elements(want, table, &mut steps);
    }
    Ok(steps)
}

fn overlaps(wanted: &Mapping, other: &Mapping) -> bool {
    (wanted.protocol, wanted.host_port, wanted.family()) == (other.protocol, other.host_port, other.family())
        && (wanted.host_ip == other.host_ip || wanted.host_ip.is_none() || other.host_ip.is_none())
}

fn refuse_conflicts(want: &HostPorts, table: &TableHave) -> Result<(), Conflict> {
    for found in table.elements.iter().filter(|found| found.holder == Holder::Alive) {
        let Entry::Port(theirs) = found.entry else { continue };
        if let Some(wanted) = want.mappings.iter().find(|wanted| overlaps(wanted, &theirs)) {
            return Err(Conflict { wanted: *wanted, theirs, comment: found.comment.clone() });
        }
    }
    Ok(())
}

fn plan_table(want: &HostPorts, table: &TableHave, link: Option<&PodLink>, steps: &mut Vec<Step>) {
    if !table.base {
        steps.push(Step::Base(table.family));
    }
    if !table.limits {
        steps.push(Step::Limits(table.family, want.limits.clone()));
    }
    if let Some(subnet) = siblings(want, table.family).filter(|_| !table.siblings) {
        steps.push(Step::Siblings(subnet));
    }
    if let Some(link) = link.filter(|_| !table.pod_link) {
        steps.push(Step::PodLink(table.family, link.name.clone()));
    }
}

fn plan_elements(want: &HostPorts, table: &TableHave, steps: &mut Vec<Step>) {
    let wanted = entries(want, table.family);
    // The container is whose it is; what the pod is called may have been left out this time.
    let is_wanted = |found: &Found| {
        let same_owner = |comment: &str| Owner::named(comment) == Owner::named(&found.comment);
        wanted.iter().any(|(entry, comment)| *entry == found.entry && same_owner(comment))
    };
    // An address of the pod belongs to nobody else any more, whatever an element says.
    let gone = |found: &&Found| match found.entry {
        Entry::Port(_) => matches!(found.holder, Holder::Ours | Holder::Dead) && !is_wanted(found),
        Entry::PortAt(..) => false,
        _ => !is_wanted(found),
    };
    let mut added = Vec::new();
    for (entry, comment) in &wanted {
        let kept = |found: &Found| {
            found.entry.has_key_of(entry)
                && (is_wanted(found) || found.holder == Holder::SameContainer || is_shared(entry))
        };
        if !table.elements.iter().any(kept) {
            added.push((entry.clone(), comment.clone()));
        }
    }
    steps.extend(table.elements.iter().filter(gone).map(|found| Step::Remove(found.entry.clone())));
    steps.extend(idle_ports(want, table).into_iter().map(Step::Remove));
    let flows: Vec<_> = added
        .iter()
        .filter_map(|(entry, _)| match entry {
            Entry::Port(mapping) if mapping.protocol.keeps_flows() => Some(Step::ForgetFlows(*mapping)),
            _ => None,
        })
        .collect();
    steps.extend(added.into_iter().map(|(entry, comment)| Step::Add(entry, comment)));
    steps.extend(flows);
}

fn is_shared(entry: &Entry) -> bool {
    matches!(entry, Entry::PortAt(..))
}

/// Of a port that is now wanted on all addresses, nobody is left who had it on one.
fn idle_ports(want: &HostPorts, table: &TableHave) -> Vec<Entry> {
    let at = table.elements.iter().filter_map(|found| match found.entry {
        Entry::PortAt(family, protocol, port) => Some((family, protocol, port)),
        _ => None,
    });
    let idle = at.filter(|(family, protocol, port)| {
        let here = |mapping: &Mapping| {
            mapping.host_ip.is_some()
                && (mapping.family(), mapping.protocol, mapping.host_port) == (*family, *protocol, *port)
        };
        let lives = |found: &Found| {
            matches!(found.entry, Entry::Port(mapping) if here(&mapping))
                && matches!(found.holder, Holder::SameContainer | Holder::Alive)
        };
        !want.mappings.iter().any(here) && !table.elements.iter().any(lives)
    });
    idle.map(|(family, protocol, port)| Entry::PortAt(family, protocol, port)).collect()
}

impl Entry {
    /// Whether both stand in the same place of the same set.
    pub fn has_key_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Port(one), Self::Port(other)) => one.same_port(other),
            (Self::Limited(name, one), Self::Limited(other_name, other)) => {
                name == other_name && one.same_port(other)
            }
            (one, other) => one == other,
        }
    }
}

/// What the kernel still has of an attachment that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Elements that name the container, and what is idle without them.
    pub elements: Vec<Entry>,
    /// What it was promised, in the kernel or not.
    pub mappings: Vec<Mapping>,
}

/// Elements first: a flow that is forgotten earlier comes again.
pub fn plan_removal(remains: &Remains) -> Vec<Step> {
    let mut mappings = remains.mappings.clone();
    let found = remains.elements.iter().filter_map(|entry| match entry {
        Entry::Port(mapping) => Some(*mapping),
        _ => None,
    });
    mappings.extend(found);
    mappings.sort_unstable();
    mappings.dedup();
    let flows = mappings.into_iter().filter(|mapping| mapping.protocol.keeps_flows()).map(Step::ForgetFlows);
    remains.elements.iter().cloned().map(Step::Remove).chain(flows).collect()
}

/// An address and a port.
pub type End = (IpAddr, u16);

/// One flow: where its first packet came from and went to, and the same of its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub from: End,
    pub to: End,
    pub answer_from: End,
    pub answer_to: End,
}

/// What happens to a port while its flows are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Opens,
    Closes,
}

/// Whether a flow is one that the mapping's coming or going would leave behind. When a port opens: sent to the port of this
/// node (or to the one address), and not on to the pod. When it closes: sent on to the pod. Either way also an answer that was
/// given after its flow was forgotten, and so began a flow of its own in the other direction. `is_local` says what belongs
/// to the node. Flows to the same port of somebody else are none of ours, and neither are those of masqueraded pods that
/// happen to have the number.
pub fn is_stale(mapping: &Mapping, turn: Turn, flow: &Ends, is_local: impl Fn(IpAddr) -> bool) -> bool {
    let at_port = |(ip, port): End| {
        port == mapping.host_port && mapping.host_ip.map_or_else(|| is_local(ip), |own| own == ip)
    };
    let pod = (mapping.pod, mapping.pod_port);
    let sent_on = flow.to.1 == mapping.host_port && flow.to.0 != pod.0 && flow.answer_from == pod;
    match turn {
        Turn::Opens => {
            let belated = flow.from == flow.answer_to && at_port(flow.from);
            belated || (at_port(flow.to) && !sent_on)
        }
        Turn::Closes => sent_on || (flow.from == pod && at_port(flow.answer_to)),
    }
}
