//! Asks the kernel for everything of ours that could be left over: links, sets, maps and rules, each in one dump. Reads
//! only.

use super::{MasqueradeRule, Member, MemberSet, Present};
use crate::datapath::hostports::{self, tables};
use crate::datapath::mark::BridgeMark;
use crate::datapath::session::Session;
use crate::datapath::{firewall, names, rules};
use crate::kernel::nft::{self, DataType, Datum, Set};
use crate::kernel::{self, NetfilterSocket, link};
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
        let links = names::intercept::links(socket, family)?.into_iter();
        present.intercepted.extend(links.map(|link| (family, link)));
        present.entries.extend(hostports::observe::all_entries(socket, family)?);
    }
    Ok(present)
}

pub(super) fn set_of(set: MemberSet) -> Set {
    Set::new(set.name(), &[DataType::IfName])
}

fn interfaces(socket: &mut NetfilterSocket, family: Family, set: MemberSet) -> kernel::Result<Vec<IfName>> {
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

fn masquerade(socket: &mut NetfilterSocket, family: Family) -> kernel::Result<Vec<MasqueradeRule>> {
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
