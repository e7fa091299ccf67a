//! Asks the kernel what it has of host ports, key by key: the maps are never read whole for an ADD, however many pods have
//! mappings. Decides nothing.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::plan::{Found, Have, Holder, PodLink, Remains, TableHave, entries, siblings};
use super::{Entry, HostPorts, Mapping, Owner, Protocol, missing, tables};
use crate::datapath::session::Session;
use crate::kernel::nft::{self, Datum, Listing, RuleInfo};
use crate::kernel::{self, NetfilterSocket, link, route, sysctl};
use crate::net::{Family, IfName};

/// Whose a mapping with that comment is. Asked for mappings only.
pub type Judge<'a> = dyn Fn(&Mapping, &str) -> Holder + 'a;

/// Which interface of the node leads to the pod.
#[derive(Clone, Copy, Debug)]
pub enum Way<'a> {
    /// The routing table knows, as long as all is well.
    Ask,
    /// It led there when the pod came. While it is away the routing table would name an uplink, which must not be opened.
    Known(Option<&'a IfName>),
}

pub fn observe(
    session: &mut Session,
    want: &HostPorts,
    way: Way<'_>,
    judge: &Judge<'_>,
) -> kernel::Result<Have> {
    let mut pod_link = None;
    let mut found = Vec::new();
    for family in want.families() {
        let link = match way {
            Way::Ask => link_towards(session, want, family)?,
            Way::Known(link) => link.cloned(),
        };
        found.push(observe_table(session.netfilter()?, want, family, link.as_ref(), judge)?);
        pod_link = pod_link.or(link);
    }
    Ok(Have { tables: found, pod_link: pod_link.map(observe_pod_link).transpose()? })
}

fn observe_pod_link(name: IfName) -> kernel::Result<PodLink> {
    let value = sysctl::read(&route_localnet_key(&name))?;
    Ok(PodLink { name, route_localnet: value.as_deref() == Some("1") })
}

pub(super) fn route_localnet_key(link: &IfName) -> String {
    format!("net/ipv4/conf/{link}/route_localnet")
}

/// Where the node sends packets to the pod, whoever attached it. A pod without a way to it is not this plugin's failure.
fn link_towards(session: &mut Session, want: &HostPorts, family: Family) -> kernel::Result<Option<IfName>> {
    let pods = want.pods.iter().map(ipnetwork::IpNetwork::ip);
    let Some(pod) = pods.into_iter().find(|pod| Family::of(*pod) == family) else { return Ok(None) };
    let socket = &mut session.node.route;
    let Some(index) = route::link_towards(socket, pod)? else { return Ok(None) };
    Ok(link::by_index(socket, index)?.and_then(|link| link.name.parse().ok()))
}

fn observe_table(
    socket: &mut NetfilterSocket,
    want: &HostPorts,
    family: Family,
    link: Option<&IfName>,
    judge: &Judge<'_>,
) -> kernel::Result<TableHave> {
    // Four questions about the same chains.
    let (mut listing, table) = (Listing::default(), tables::table(family));
    let chains = &mut |chain: &str| listing.rules(socket, &table, chain);
    let base = missing::base(chains, family)?.is_empty();
    let siblings = match siblings(want, family) {
        Some(subnet) => missing::siblings(chains, subnet)?.is_empty(),
        None => true,
    };
    let limits = missing::limits(chains, family, &want.limits)?.is_empty();
    let known_limits = missing::known_limits(chains)?;
    let pod_link = match link {
        Some(link) => {
            let key = [Datum::IfName(link.clone())];
            nft::element(socket, &table, &tables::pod_links(), &key)?.is_some()
        }
        None => true,
    };
    let elements = observe_elements(socket, want, family, &known_limits, judge)?;
    Ok(TableHave { family, base, siblings, limits, pod_link, elements })
}

/// The chains of the table, as they are when the first of them is asked for.
pub(super) fn rules_of(
    socket: &mut NetfilterSocket,
    family: Family,
) -> impl FnMut(&str) -> kernel::Result<Vec<RuleInfo>> {
    let (mut listing, table) = (Listing::default(), tables::table(family));
    move |chain| listing.rules(socket, &table, chain)
}

fn observe_elements(
    socket: &mut NetfilterSocket,
    want: &HostPorts,
    family: Family,
    known_limits: &[String],
    judge: &Judge<'_>,
) -> kernel::Result<Vec<Found>> {
    let mut keys: Vec<Entry> = entries(want, family).into_iter().map(|(entry, _)| entry).collect();
    let mappings: Vec<_> = want.mappings.iter().filter(|mapping| mapping.family() == family).collect();
    for name in known_limits {
        keys.extend(mappings.iter().map(|mapping| Entry::Limited(name.clone(), **mapping)));
    }
    // What stands in the way under another key: the port on all addresses, or on one.
    for mapping in &mappings {
        match mapping.host_ip {
            Some(_) => keys.push(Entry::Port(Mapping { host_ip: None, ..**mapping })),
            None => keys.push(Entry::PortAt(family, mapping.protocol, mapping.host_port)),
        }
    }
    keys.sort_unstable();
    keys.dedup_by(|a, b| a.has_key_of(b));
    let mut found = Vec::new();
    for key in keys {
        let Some((entry, comment)) = look_up(socket, &key)? else { continue };
        if let Entry::PortAt(family, protocol, port) = entry
            && mappings.iter().any(|m| m.host_ip.is_none() && (m.protocol, m.host_port) == (protocol, port))
        {
            let theirs = mappings_at(socket, family)?.into_iter();
            let theirs = theirs.filter(|(m, _)| (m.protocol, m.host_port) == (protocol, port));
            found.extend(theirs.map(|(mapping, comment)| judged(Entry::Port(mapping), comment, judge)));
        }
        found.push(judged(entry, comment, judge));
    }
    Ok(found)
}

fn judged(entry: Entry, comment: String, judge: &Judge<'_>) -> Found {
    let holder = match &entry {
        Entry::Port(mapping) => judge(mapping, &comment),
        _ => Holder::Ours,
    };
    Found { entry, comment, holder }
}

/// What has the key of the entry.
fn look_up(socket: &mut NetfilterSocket, entry: &Entry) -> kernel::Result<Option<(Entry, String)>> {
    let table = tables::table(entry.family());
    let Some(element) = nft::element(socket, &table, &tables::set_of(entry), &tables::key_of(entry))? else {
        return Ok(None);
    };
    let there = match entry {
        Entry::Port(_) => tables::mapping_of(&element).map(Entry::Port),
        other => Some(other.clone()),
    };
    let comment = element.comment.map(|comment| comment.as_str().to_owned()).unwrap_or_default();
    Ok(there.map(|there| (there, comment)))
}

/// Mappings of single addresses of the node: there are few, and they are asked for only when a port is on both sides.
fn mappings_at(socket: &mut NetfilterSocket, family: Family) -> kernel::Result<Vec<(Mapping, String)>> {
    let elements = nft::elements(socket, &tables::table(family), &tables::hostports_at(family))?;
    let mapping = |element: nft::Element| {
        let mapping = tables::mapping_of(&element)?;
        Some((mapping, element.comment.map(|comment| comment.as_str().to_owned()).unwrap_or_default()))
    };
    Ok(elements.into_iter().filter_map(mapping).collect())
}

/// What the kernel has of a container's mappings. Elements that name another container stay, and so do those of another
/// attachment of this one: they lead to another address. Without addresses all that name the container are meant.
pub fn observe_remains(
    session: &mut Session,
    container: &str,
    mappings: &[Mapping],
    addresses: &[IpAddr],
) -> kernel::Result<Remains> {
    match look_for_remains(session, container, mappings, addresses) {
        // A kernel without nf_tables carries nobody's mapping, and a pod that could not get one must be able to go.
        Err(error)
            if lacks_nf_tables(&error) && available(session).is_err_and(|error| lacks_nf_tables(&error)) =>
        {
            Ok(Remains { elements: Vec::new(), mappings: mappings.to_vec() })
        }
        remains => remains,
    }
}

/// nfnetlink answers EINVAL to a question of a subsystem that it does not have.
fn lacks_nf_tables(error: &kernel::Error) -> bool {
    error.is_unsupported() || error.errno() == Some(rustix::io::Errno::INVAL)
}

fn look_for_remains(
    session: &mut Session,
    container: &str,
    mappings: &[Mapping],
    addresses: &[IpAddr],
) -> kernel::Result<Remains> {
    let mut remains = Remains { elements: Vec::new(), mappings: mappings.to_vec() };
    let mut addresses = addresses.to_vec();
    let any = addresses.is_empty();
    for family in Family::BOTH {
        let of_family: Vec<_> =
            mappings.iter().filter(|mapping| mapping.family() == family).copied().collect();
        if of_family.is_empty() {
            continue;
        }
        let socket = session.netfilter()?;
        let limits = missing::known_limits(&mut rules_of(socket, family))?;
        for mapping in of_family {
            let Some((Entry::Port(there), comment)) = look_up(socket, &Entry::Port(mapping))? else {
                continue;
            };
            if !Owner::is_named_by(container, &comment) || !(any || addresses.contains(&there.pod)) {
                continue;
            }
            remains.elements.push(Entry::Port(there));
            addresses.push(there.pod);
            let limited = limits.iter().map(|name| Entry::Limited(name.clone(), mapping));
            find_ours(socket, container, limited, &mut remains.elements)?;
        }
        idle_ports(socket, family, &mut remains.elements)?;
        let pods = addresses.iter().filter(|address| Family::of(**address) == family);
        let sets = [Entry::LocalClients, Entry::Hairpin, Entry::AllClients];
        let clients = pods.flat_map(|pod| sets.map(|set| set(*pod)));
        find_ours(socket, container, clients, &mut remains.elements)?;
    }
    let mut seen = BTreeSet::new();
    remains.elements.retain(|entry| seen.insert(entry.clone()));
    Ok(remains)
}

fn find_ours(
    socket: &mut NetfilterSocket,
    container: &str,
    entries: impl Iterator<Item = Entry>,
    found: &mut Vec<Entry>,
) -> kernel::Result<()> {
    for entry in entries {
        if let Some((there, comment)) = look_up(socket, &entry)?
            && Owner::is_named_by(container, &comment)
        {
            found.push(there);
        }
    }
    Ok(())
}

/// Ports of single addresses that nobody else has on another one.
fn idle_ports(socket: &mut NetfilterSocket, family: Family, elements: &mut Vec<Entry>) -> kernel::Result<()> {
    let leaving: Vec<Mapping> = elements
        .iter()
        .filter_map(|entry| match entry {
            Entry::Port(mapping) if mapping.host_ip.is_some() && mapping.family() == family => Some(*mapping),
            _ => None,
        })
        .collect();
    if leaving.is_empty() {
        return Ok(());
    }
    let all = mappings_at(socket, family)?;
    for mapping in &leaving {
        let stays = all.iter().any(|(other, _)| {
            (other.protocol, other.host_port) == (mapping.protocol, mapping.host_port)
                && !leaving.contains(other)
        });
        let port = Entry::PortAt(family, mapping.protocol, mapping.host_port);
        if !stays && look_up(socket, &port)?.is_some() {
            elements.push(port);
        }
    }
    Ok(())
}

/// As [`observe_remains`], for a container whose record cannot be read: all that names it, but for what leads to the `spared`
/// addresses of its other attachments.
pub fn observe_claimed(session: &mut Session, container: &str, spared: &[IpAddr]) -> kernel::Result<Remains> {
    let mut remains = Remains::default();
    if available(session).is_err_and(|error| lacks_nf_tables(&error)) {
        return Ok(remains);
    }
    let socket = session.netfilter()?;
    for family in Family::BOTH {
        let named = |(_, comment): &(Entry, String)| Owner::is_named_by(container, comment);
        let all: Vec<_> = all_entries(socket, family)?.into_iter().filter(named).collect();
        let kept: Vec<Mapping> = all
            .iter()
            .filter_map(|(entry, _)| match entry {
                Entry::Port(mapping) if spared.contains(&mapping.pod) => Some(*mapping),
                _ => None,
            })
            .collect();
        let goes = |entry: &Entry| match entry {
            Entry::Port(mapping) | Entry::Limited(_, mapping) => !kept.iter().any(|k| k.same_port(mapping)),
            Entry::LocalClients(pod) | Entry::Hairpin(pod) | Entry::AllClients(pod) => !spared.contains(pod),
            Entry::PortAt(..) => false,
        };
        remains.elements.extend(all.into_iter().map(|(entry, _)| entry).filter(goes));
        idle_ports(socket, family, &mut remains.elements)?;
    }
    Ok(remains)
}

/// The containers that elements name, as [`Owner::named`] has them.
pub fn observe_owners(session: &mut Session) -> kernel::Result<BTreeSet<String>> {
    let mut owners = BTreeSet::new();
    if available(session).is_err_and(|error| lacks_nf_tables(&error)) {
        return Ok(owners);
    }
    for family in Family::BOTH {
        let entries = all_entries(session.netfilter()?, family)?;
        owners.extend(entries.iter().map(|(_, comment)| Owner::named(comment).to_owned()));
    }
    Ok(owners)
}

/// Whether this kernel has nf_tables. Asks for a table, changes nothing.
pub fn available(session: &mut Session) -> kernel::Result<()> {
    nft::table(session.netfilter()?, &tables::table(Family::V4)).map(drop)
}

/// Every element of host ports in the family, with its comment. For whoever looks for what nobody remembers.
pub fn all_entries(socket: &mut NetfilterSocket, family: Family) -> kernel::Result<Vec<(Entry, String)>> {
    let mut found = Vec::new();
    let table = tables::table(family);
    let limits = missing::known_limits(&mut |chain| nft::rules(socket, &table, chain))?;
    let any = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let template =
        |host_ip| Mapping { protocol: Protocol::Tcp, host_ip, host_port: 0, pod: any, pod_port: 0 };
    // One entry of each set, to know the set by.
    let mut kinds = vec![
        Entry::Port(template(None)),
        Entry::Port(template(Some(any))),
        Entry::PortAt(family, Protocol::Tcp, 0),
        Entry::LocalClients(any),
        Entry::Hairpin(any),
        Entry::AllClients(any),
    ];
    for limit in limits {
        kinds.push(Entry::Limited(limit.clone(), template(None)));
        kinds.push(Entry::Limited(limit, template(Some(any))));
    }
    for kind in kinds {
        for element in nft::elements(socket, &table, &tables::set_of(&kind))? {
            let comment = element.comment.as_ref().map(|comment| comment.as_str().to_owned());
            found.extend(entry_of(&kind, &element).map(|entry| (entry, comment.unwrap_or_default())));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The entry that an element of the same set as `kind` is.
fn entry_of(kind: &Entry, element: &nft::Element) -> Option<Entry> {
    let protocol = |number: u8| Protocol::ALL.into_iter().find(|known| known.number() == number);
    Some(match (kind, element.key.as_slice()) {
        (Entry::Port(_), _) => Entry::Port(tables::mapping_of(element)?),
        (Entry::PortAt(family, ..), [Datum::Protocol(number), Datum::Port(port)]) => {
            Entry::PortAt(*family, protocol(*number)?, *port)
        }
        (Entry::Limited(name, like), [Datum::Protocol(number), Datum::Port(port)]) => {
            let mapping = Mapping { protocol: protocol(*number)?, host_port: *port, ..*like };
            Entry::Limited(name.clone(), mapping)
        }
        (Entry::Limited(name, like), [Datum::Address(ip), Datum::Protocol(number), Datum::Port(port)]) => {
            let mapping =
                Mapping { protocol: protocol(*number)?, host_ip: Some(*ip), host_port: *port, ..*like };
            Entry::Limited(name.clone(), mapping)
        }
        (Entry::LocalClients(_), [Datum::Address(pod)]) => Entry::LocalClients(*pod),
        (Entry::AllClients(_), [Datum::Address(pod)]) => Entry::AllClients(*pod),
        (Entry::Hairpin(_), [Datum::Address(pod), ..]) => Entry::Hairpin(*pod),
        _ => return None,
    })
}
