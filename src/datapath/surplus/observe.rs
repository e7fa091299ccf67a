//! Asks the kernel for everything of ours that could be left over: links, sets, maps and rules, each in one dump. Reads
//! only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{MasqueradeRule, Member, MemberSet, Present};
use crate::datapath::hostports::{Entry, Mapping, Protocol, missing, tables};
use crate::datapath::mark::BridgeMark;
use crate::datapath::session::Session;
use crate::datapath::{firewall, rules};
use crate::kernel::nft::{self, DataType, Datum, Element, Set};
use crate::kernel::{self, Socket, link};
use crate::net::{Family, IfName};

pub fn observe(session: &mut Session) -> kernel::Result<Present> {
    let mut present = Present::default();
    for link in link::all(&mut session.node.route)? {
        let mark = link.alias.as_deref().and_then(BridgeMark::parse);
        present.gateways.extend(mark.into_iter().flat_map(|mark| mark.gateways));
        present.links.extend(link.name.parse::<IfName>());
    }
    let socket = session.netfilter()?;
    match firewall::accepts::standing_accepts(socket) {
        Ok(accepts) => present.accepts = accepts,
        // A kernel without nf_tables has nothing of ours in it.
        Err(error) if error.is_unsupported() || error.errno() == Some(rustix::io::Errno::INVAL) => {
            return Ok(present);
        }
        Err(error) => return Err(error),
    }
    present.checked = rules::checked_ports(socket)?;
    for family in Family::BOTH {
        present.masquerade.extend(masquerade(socket, family)?);
        for set in MemberSet::ALL {
            let members = interfaces(socket, family, set)?.into_iter();
            present.members.extend(members.map(|interface| Member { family, set, interface }));
        }
        observe_entries(socket, family, &mut present.entries)?;
    }
    Ok(present)
}

pub(super) fn set_of(set: MemberSet) -> Set {
    Set::new(set.name(), &[DataType::IfName])
}

fn interfaces(socket: &mut Socket, family: Family, set: MemberSet) -> kernel::Result<Vec<IfName>> {
    let elements = nft::elements(socket, &tables::table(family), &set_of(set))?;
    let mut found: Vec<_> = elements
        .into_iter()
        .filter_map(|element| match element.key.first() {
            Some(Datum::IfName(name)) => Some(name.clone()),
            _ => None,
        })
        .collect();
    found.sort_unstable();
    Ok(found)
}

fn masquerade(socket: &mut Socket, family: Family) -> kernel::Result<Vec<MasqueradeRule>> {
    let table = tables::table(family);
    let standing = nft::rules(socket, &table, rules::MASQUERADE)?.into_iter().map(|rule| {
        let network = rule.comment.as_ref().map(|comment| comment.as_str().to_owned()).unwrap_or_default();
        let text = rule.text();
        // `ip saddr <subnet> …`, and then exactly as we would write it.
        let subnet = text.split_whitespace().nth(2).and_then(|word| word.parse().ok());
        let subnet =
            subnet.filter(|subnet| rule.is(table.family, &rules::masquerade_rule(&network, *subnet)));
        MasqueradeRule { family, handle: rule.handle, network, subnet, text }
    });
    Ok(standing.collect())
}

fn observe_entries(
    socket: &mut Socket,
    family: Family,
    found: &mut Vec<(Entry, String)>,
) -> kernel::Result<()> {
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
            found.extend(entry(&kind, &element).map(|entry| (entry, comment.unwrap_or_default())));
        }
    }
    found.sort_unstable();
    Ok(())
}

/// The entry that an element of the same set as `kind` is.
fn entry(kind: &Entry, element: &Element) -> Option<Entry> {
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
