//! What the tables of host ports lack, as the commands that would bring it. Pure: chains are given.

use ipnetwork::IpNetwork;

use super::limits::{CHAIN, Limits};
use super::tables::{
    self, OUTPUT, POSTROUTING, PREROUTING, TO_PODS, add_rule, limit_rules, local_limit_rules, ways_to,
};
use crate::kernel;
use crate::kernel::nft::{Chain, Command, Instruction, Position, RuleInfo, Set};
use crate::net::Family;

/// The rules of a chain of the table; none when there is no such chain.
pub type Chains<'a> = dyn FnMut(&str) -> kernel::Result<Vec<RuleInfo>> + 'a;

/// What makes the table complete; nothing when it is. Chains that lack a rule get it; the one whose order counts is made
/// anew.
pub fn base(chains: &mut Chains<'_>, family: Family) -> kernel::Result<Vec<Command>> {
    let table = tables::table(family);
    let mut rules = Vec::new();
    for (chain, wanted) in tables::skeleton(family) {
        let has = chains(&chain.name)?;
        let missing: Vec<_> =
            wanted.iter().filter(|rule| !has.iter().any(|has| has.is(table.family, rule))).cloned().collect();
        if missing.is_empty() {
            continue;
        }
        let again = chain.name == TO_PODS && !has.is_empty();
        if again {
            rules.push(Command::FlushChain { table: table.clone(), chain: chain.name.clone() });
        }
        let added = if again { wanted } else { missing };
        rules.extend(added.into_iter().map(|rule| add_rule(&table, &chain.name, rule)));
    }
    if rules.is_empty() {
        return Ok(Vec::new());
    }
    let mut commands = tables::declarations(family);
    commands.extend(rules);
    Ok(commands)
}

/// The rule for a subnet, unless it is there.
pub fn siblings(chains: &mut Chains<'_>, subnet: IpNetwork) -> kernel::Result<Vec<Command>> {
    let table = tables::table(Family::of(subnet.ip()));
    let rule = tables::siblings_rule(subnet);
    let there = chains(POSTROUTING)?.iter().any(|has| has.is(table.family, &rule));
    Ok(if there { Vec::new() } else { vec![add_rule(&table, POSTROUTING, rule)] })
}

/// The chains of the limits and the ways to them, as far as they are missing.
pub fn limits(chains: &mut Chains<'_>, family: Family, limits: &Limits) -> kernel::Result<Vec<Command>> {
    let Some(name) = limits.chain(family) else { return Ok(Vec::new()) };
    let table = tables::table(family);
    let at = format!("{name}_at");
    let mut commands = vec![
        Command::AddSet { table: table.clone(), set: tables::pod_links() },
        Command::AddSet { table: table.clone(), set: Set::new(&name, &tables::PORT) },
        Command::AddSet { table: table.clone(), set: Set::new(&at, &tables::port_at(family)) },
    ];
    let before = commands.len();
    let local = (OUTPUT, format!("{name}_local"), local_limit_rules(limits, family));
    let outside = (PREROUTING, name.clone(), limit_rules(limits, family));
    for (hook, chain, wanted) in [outside, local] {
        if wanted.is_empty() {
            continue;
        }
        let has = chains(&chain)?;
        let same = has.len() == wanted.len()
            && has.iter().zip(&wanted).all(|(has, rule)| has.is(table.family, rule));
        if !same {
            commands.push(Command::AddChain { table: table.clone(), chain: Chain::regular(&chain) });
            commands.push(Command::FlushChain { table: table.clone(), chain: chain.clone() });
            commands.extend(wanted.into_iter().map(|rule| add_rule(&table, &chain, rule)));
        }
        let entered = chains(hook)?;
        for rule in ways_to(family, &name, &at, &chain) {
            if !entered.iter().any(|has| has.is(table.family, &rule)) {
                // In front of the way to the maps.
                let position = Position::First;
                let (table, chain) = (table.clone(), hook.to_owned());
                commands.push(Command::InsertRule { table, chain, position, rule });
            }
        }
    }
    Ok(if commands.len() == before { Vec::new() } else { commands })
}

/// The names of all limits that this table knows.
pub fn known_limits(chains: &mut Chains<'_>) -> kernel::Result<Vec<String>> {
    let mut names = Vec::new();
    for hook in [PREROUTING, OUTPUT] {
        for rule in chains(hook)? {
            let target = rule.instructions.iter().find_map(|instruction| match instruction {
                Instruction::Verdict { chain: Some(chain), .. } => Some(chain.as_str()),
                _ => None,
            });
            if let Some(name) = target.filter(|target| target.starts_with(CHAIN)) {
                names.push(name.strip_suffix("_local").unwrap_or(name).to_owned());
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
