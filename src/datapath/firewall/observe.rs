//! Have, for the firewall: what stands on the forward hook, in chains of somebody else and in ours. Reads only.
//!
//! Asks for all chains in one dump; only where a chain of somebody else stands on the forward hook are its rules looked
//! at, and only where the kernel names the old filter table is its listing asked for.

use std::collections::HashSet;

use super::guard::{guard_rule, standing_pairs};
use super::legacy as filter;
use super::passage::{ForwardTable, Traffic};
use super::rules::{CLAMP, GUARD, Standing, clamp_rules, clamped_set, key, table};
use super::settled::{Memory, print};
use super::way::Chains;
use super::{ChainName, FirewallHave, accepts, inside, traffic};
use crate::datapath::mark::OWNER;
use crate::datapath::session::Session;
use crate::kernel::nft::{self, ChainInfo, HookPoint, Kind, Listing, Policy, Rule, Set, Table, TableFamily};
use crate::kernel::{self, NetfilterSocket, legacy};
use crate::net::{Family, IfName};
use crate::spec::Attachment;
use crate::state::BootId;

/// Asks for what `want` is about; nothing for a network that the node does not route for. What is not `complete` may rely on
/// what an earlier ADD found.
pub fn observe(
    session: &mut Session,
    listing: &mut Listing,
    want: &Attachment,
    complete: bool,
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
    let boot = if complete { None } else { session.boot().ok() };
    let mut settled = std::mem::take(&mut session.settled);
    let socket = session.netfilter()?;
    for family in &want.forwarding {
        if stands(socket, listing, &chains, *family, GUARD, &[guard_rule()])? {
            have.guards.push((*family, standing_pairs(socket, *family)?));
        }
        if want.firewall.clamp_mss && stands(socket, listing, &chains, *family, CLAMP, &clamp_rules())? {
            have.clamped.extend(members(socket, *family, &clamped_set(), want)?);
        }
    }
    if want.firewall.accept {
        observe_all_foreign(socket, &chains, want, boot, (&mut settled, have))?;
        for family in &want.forwarding {
            have.legacy.extend(observe_legacy(*family, &inside(want))?);
        }
    }
    session.settled = settled;
    Ok(())
}

fn observe_all_foreign(
    socket: &mut NetfilterSocket,
    chains: &[ChainInfo],
    want: &Attachment,
    boot: Option<BootId>,
    (settled, have): (&mut HashSet<u64>, &mut FirewallHave),
) -> kernel::Result<()> {
    let mut foreign = chains.iter().filter(|chain| is_foreign(chain, &want.forwarding)).peekable();
    if foreign.peek().is_none() {
        return Ok(());
    }
    let traffic = traffic(want);
    let mut memory = boot.and_then(|boot| Memory::of(&want.bridge.name, boot));
    for chain in foreign {
        if let Some(memory) = &mut memory
            && memory.knows(socket, chain, &traffic)?
        {
            continue;
        }
        let print = print(chain, &traffic);
        if settled.contains(&print) {
            continue;
        }
        let Some(table) = observe_foreign(socket, chain, &traffic)? else { continue };
        let needs_nothing =
            traffic.iter().all(|traffic| table.change(traffic).is_ok_and(|change| change.is_empty()));
        if needs_nothing {
            settled.insert(print);
            if let Some(memory) = &mut memory {
                memory.learn(chain, &traffic, &table);
            }
        }
        have.foreign.push(table);
    }
    if let Some(memory) = memory {
        memory.keep();
    }
    Ok(())
}

/// Executes nothing unless the kernel names the old filter table.
fn observe_legacy(family: Family, inside: &[IfName]) -> kernel::Result<Option<ForwardTable>> {
    if !legacy::is_loaded(filter::loaded_tables(family), "filter") {
        return Ok(None);
    }
    let program = filter::program(family);
    match legacy::run(program, &["-S".to_owned()]) {
        Ok(listing) => Ok(Some(filter::parse(family, &listing))),
        // The next try may find the lock free; a pod that starts now might never get out.
        Err(error) if error.is_busy() => Err(error),
        Err(error) => {
            for interface in inside {
                let typed = filter::blind_commands(program, interface);
                tracing::warn!(%error, "cannot see whether legacy iptables drops what pods send; if it does, type: {typed}");
            }
            Ok(None)
        }
    }
}

/// Whether a chain of ours is there with the rules that matter: a flushed table keeps its chains and its sets.
fn stands(
    socket: &mut NetfilterSocket,
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
    socket: &mut NetfilterSocket,
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
    named(&chain.table, &chain.name)
}

/// `None` for the families whose chains see no packet that is forwarded.
pub(super) fn named(table: &Table, chain: &str) -> Option<ChainName> {
    let family = match table.family {
        TableFamily::Inet => None,
        TableFamily::Ip => Some(Family::V4),
        TableFamily::Ip6 => Some(Family::V6),
        TableFamily::Bridge | TableFamily::Arp | TableFamily::Netdev => return None,
    };
    Some(ChainName { family, table: table.name.clone(), chain: chain.to_owned() })
}

/// The base chain, and nothing of its rules yet.
pub(in crate::datapath) fn forward_table(chain: &ChainInfo) -> Option<ForwardTable> {
    let policy_drops = chain.hook.as_ref().is_some_and(|hook| hook.policy == Policy::Drop);
    Some(ForwardTable { base: chain_name(chain)?, policy_drops, chains: Chains::default() })
}

fn observe_foreign(
    socket: &mut NetfilterSocket,
    chain: &ChainInfo,
    traffic: &[Traffic],
) -> kernel::Result<Option<ForwardTable>> {
    let Some(table) = accepts::load(socket, chain, traffic)? else { return Ok(None) };
    let lacking = traffic.iter().find(|traffic| table.change(traffic).is_ok_and(|change| !change.is_empty()));
    // The kernel lets nobody else into a table whose maker asked for that, as firewalld does since 2.1.
    if let Some(Traffic { interface, .. }) = lacking
        && nft::table(socket, &chain.table)?.is_some_and(|table| table.owned)
    {
        tracing::warn!(
            "chain {} drops forwarded packets and belongs to its maker alone; pods of {interface} reach nothing \
             beyond the node: firewall-cmd --permanent --zone=trusted --add-interface={interface} && firewall-cmd --reload",
            table.base
        );
        return Ok(None);
    }
    Ok(Some(table))
}
