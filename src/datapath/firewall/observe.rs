//! Have, for the firewall: what stands on the forward hook, in chains of somebody else and in ours. Reads only.
//!
//! Asks for all chains in one dump; only where a chain of somebody else stands on the forward hook are its rules looked
//! at, and only where the kernel names the old filter table is its listing asked for.

use super::legacy as filter;
use super::rules::{
    CLAMP, GUARD, Standing, clamp_rules, clamped_set, classify, guard_rule, inside_set, key, table,
};
use super::{ChainName, FirewallHave, ForwardChain, inside};
use crate::datapath::mark::OWNER;
use crate::datapath::session::Session;
use crate::datapath::spec::Attachment;
use crate::kernel::nft::{
    self, ChainInfo, HookPoint, Kind, Listing, Policy, Rule, RuleInfo, Set, TableFamily,
};
use crate::kernel::{self, Socket, legacy};
use crate::net::{Family, IfName};

/// Asks for what `want` is about; nothing for a network that the node does not route for.
pub fn observe(
    session: &mut Session,
    listing: &mut Listing,
    want: &Attachment,
    have: &mut FirewallHave,
) -> kernel::Result<()> {
    if want.forwarding.is_empty() {
        return Ok(());
    }
    let chains = match session.netfilter().and_then(nft::base_chains) {
        Ok(chains) => chains,
        // nfnetlink answers EINVAL to a question of a subsystem that it does not have.
        Err(error) if error.is_unsupported() || error.errno() == Some(rustix::io::Errno::INVAL) => {
            tracing::warn!(%error, "the node's packet filter stays as it is");
            have.without_nf_tables = true;
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let socket = session.netfilter()?;
    for family in &want.forwarding {
        if stands(socket, listing, &chains, *family, GUARD, &[guard_rule()])? {
            have.guards.push(*family);
            have.guarded.extend(members(socket, *family, &inside_set(), want)?);
        }
        if want.firewall.clamp_mss && stands(socket, listing, &chains, *family, CLAMP, &clamp_rules())? {
            have.clamped.extend(members(socket, *family, &clamped_set(), want)?);
        }
    }
    if want.firewall.accept {
        for chain in chains.iter().filter(|chain| is_foreign(chain, &want.forwarding)) {
            have.foreign.extend(observe_foreign(socket, chain, &inside(want))?);
        }
        for family in &want.forwarding {
            have.legacy.extend(observe_legacy(*family, &inside(want)));
        }
    }
    Ok(())
}

/// Executes nothing unless the kernel names the old filter table.
fn observe_legacy(family: Family, inside: &[IfName]) -> Vec<(Family, IfName)> {
    if !legacy::is_loaded(filter::loaded_tables(family), "filter") {
        return Vec::new();
    }
    let program = filter::program(family);
    match legacy::run(program, &["-S".to_owned(), "FORWARD".to_owned()]) {
        Ok(listing) => {
            let lacking = inside.iter().filter(|name| filter::lacks_accepts(&listing, name));
            lacking.map(|interface| (family, interface.clone())).collect()
        }
        Err(error) => {
            for interface in inside {
                let typed = filter::commands(program, interface);
                tracing::warn!(%error, "cannot see whether legacy iptables drops what pods send; if it does, type: {typed}");
            }
            Vec::new()
        }
    }
}

/// Whether a chain of ours is there with the rules that matter: a flushed table keeps its chains and its sets.
fn stands(
    socket: &mut Socket,
    listing: &mut Listing,
    chains: &[ChainInfo],
    family: Family,
    name: &str,
    rules: &[Rule],
) -> kernel::Result<bool> {
    if !chains.iter().any(|chain| chain.table == table(family) && chain.name == name) {
        return Ok(false);
    }
    let has = listing.rules(socket, &table(family), name)?;
    Ok(Standing::of(family, rules, &has) == Standing::Whole)
}

fn members(
    socket: &mut Socket,
    family: Family,
    set: &Set,
    want: &Attachment,
) -> kernel::Result<Vec<(Family, IfName)>> {
    let mut found = Vec::new();
    for interface in inside(want) {
        if nft::element(socket, &table(family), set, &key(&interface))?.is_some() {
            found.push((family, interface));
        }
    }
    Ok(found)
}

/// A base chain through which packets of these families are forwarded, and that is not ours.
pub(in crate::datapath) fn is_foreign(chain: &ChainInfo, families: &[Family]) -> bool {
    let forward =
        chain.hook.as_ref().is_some_and(|hook| hook.point == HookPoint::Forward && hook.kind == Kind::Filter);
    let name = chain_name(chain);
    forward
        && chain.table.name != OWNER
        && name.is_some_and(|name| families.iter().any(|family| name.sees(*family)))
}

pub(super) fn chain_name(chain: &ChainInfo) -> Option<ChainName> {
    let family = match chain.table.family {
        TableFamily::Inet => None,
        TableFamily::Ip => Some(Family::V4),
        TableFamily::Ip6 => Some(Family::V6),
        TableFamily::Bridge => return None,
    };
    Some(ChainName { family, table: chain.table.name.clone(), chain: chain.name.clone() })
}

/// The chain as an interface of ours meets it. `rules` are the chain's.
pub(in crate::datapath) fn seen_from(
    chain: &ChainInfo,
    interface: &IfName,
    rules: &[RuleInfo],
) -> Option<ForwardChain> {
    let name = chain_name(chain)?;
    let policy_drops = chain.hook.as_ref().is_some_and(|hook| hook.policy == Policy::Drop);
    let rules = classify(&name, interface, rules);
    Some(ForwardChain { name, interface: interface.clone(), policy_drops, rules })
}

fn observe_foreign(
    socket: &mut Socket,
    chain: &ChainInfo,
    inside: &[IfName],
) -> kernel::Result<Vec<ForwardChain>> {
    let Some(name) = chain_name(chain) else { return Ok(Vec::new()) };
    let rules = nft::rules(socket, &chain.table, &chain.name)?;
    let seen: Vec<_> = inside.iter().filter_map(|interface| seen_from(chain, interface, &rules)).collect();
    let lacking = seen.iter().any(|chain| chain.drops() && !chain.accepts());
    // The kernel lets nobody else into a table whose maker asked for that, as firewalld does since 2.1.
    if lacking && nft::table(socket, &chain.table)?.is_some_and(|table| table.owned) {
        let interface = &inside[0];
        tracing::warn!(
            "chain {name} drops forwarded packets and belongs to its maker alone; pods of {interface} reach nothing \
             beyond the node: firewall-cmd --permanent --zone=trusted --add-interface={interface} && firewall-cmd --reload"
        );
        return Ok(Vec::new());
    }
    Ok(seen)
}
