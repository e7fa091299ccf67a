//! Accepts of ours in chains of somebody else: which rules they are, what is read to find their place, and the transactions
//! that put them there and take them away.
//!
//! Decides nothing: that is `passage`'s. Whatever would be there twice if it were added twice is added under the node's
//! lock, after another look.

use std::collections::{BTreeMap, BTreeSet};

use super::legacy as filter;
use super::observe::{chain_name, forward_table, named};
use super::passage::{ACCEPTS, Change, ForwardTable, Traffic, comment, commented, recognized};
use super::way::{Chains, Condition, Missing, Rule as Seen};
use super::{ChainName, reading};
use crate::datapath::mark::OWNER;
use crate::datapath::rules::lock;
use crate::kernel::nft::{
    self, ChainInfo, Command, CtState, DataType, Datum, Expr, NamePattern, Op, PlacedRule, Position, Rule,
    RuleInfo, Set, Table, TableFamily, Transaction, Way,
};
use crate::kernel::{self, NetfilterSocket, legacy};
use crate::net::{Family, IfName};

pub(in crate::datapath) fn foreign_table(name: &ChainName) -> Table {
    let family = match name.family {
        None => TableFamily::Inet,
        Some(Family::V4) => TableFamily::Ip,
        Some(Family::V6) => TableFamily::Ip6,
    };
    Table::new(family, &name.table)
}

/// Out of the interface everything; into it replies, and what was sent there by name (a hostPort). In the words that the
/// chain's owner reads: `iptables` counts, and refuses a whole table in which it finds `ct state`.
pub(super) fn accepts(base: &ChainName, interface: &IfName) -> [Rule; ACCEPTS] {
    let iptables = base.is_iptables();
    let rule = |way, condition: Option<Expr>| {
        let through = Expr::Interface(way, Op::Eq, NamePattern::Exact(interface.clone()));
        let counter = iptables.then_some(Expr::Counter);
        let words = [Some(through), condition, counter, Some(Expr::Accept)].into_iter().flatten();
        Rule::new(words.collect::<Vec<_>>()).comment(&comment(interface))
    };
    let replies = vec![CtState::Established, CtState::Related];
    let (replies, dnatted) = if iptables {
        (Expr::XtState(replies), Expr::XtDnatted)
    } else {
        (Expr::State(replies), Expr::Dnatted)
    };
    [rule(Way::In, None), rule(Way::Out, Some(replies)), rule(Way::Out, Some(dnatted))]
}

/// The change of a table in words of nf_tables. Displays as what a person would type.
pub fn transaction(base: &ChainName, interface: &IfName, change: &Change) -> Transaction {
    let table = foreign_table(base);
    let accepts = accepts(base, interface);
    let delete = change.remove.iter().map(|removed| Command::DeleteRule {
        table: table.clone(),
        chain: removed.chain.clone(),
        handle: removed.handle,
    });
    let insert = change.insert.iter().map(|(accept, place)| {
        let (table, chain, rule) = (table.clone(), place.chain.clone(), accepts[*accept].clone());
        match place.before {
            None => Command::AddRule { table, chain, rule },
            Some((handle, _)) => {
                Command::InsertRule { table, chain, position: Position::Before(handle), rule }
            }
        }
    });
    delete.chain(insert).collect()
}

/// A rule as the walk needs it, with its maker.
pub(in crate::datapath) fn seen(family: TableFamily, rule: &RuleInfo) -> Seen {
    let comment = reading::comment(rule);
    recognized(reading::read(family, rule), comment.as_deref())
}

/// The same for whoever follows packets to a known port.
pub(in crate::datapath) fn seen_with_ports(family: TableFamily, rule: &RuleInfo) -> Seen {
    let comment = reading::comment(rule);
    recognized(reading::read_with_ports(family, rule), comment.as_deref())
}

/// What was read of a chain so far, and how to read more.
struct Loader<'a> {
    socket: &'a mut NetfilterSocket,
    table: Table,
    traffic: &'a [Traffic],
}

impl Loader<'_> {
    fn chain(&mut self, chains: &mut Chains, name: &str) -> kernel::Result<()> {
        let family = self.table.family;
        // Of thousands of rules nobody keeps more than the walk needs; those with braces are read again when these are known.
        let rules = nft::rules_as(self.socket, &self.table, name, |rule| {
            (seen(family, &rule), rule.has_braces().then_some(rule))
        })?;
        let (mut rules, mut open): (Vec<_>, Vec<_>) = rules.into_iter().unzip();
        nft::fill_braces(self.socket, &self.table, open.iter_mut().flatten())?;
        for (rule, whole) in rules.iter_mut().zip(&open) {
            if let Some(whole) = whole {
                *rule = seen(family, whole);
            }
        }
        self.members(&mut chains.members, &rules)?;
        chains.rules.insert(name.to_owned(), rules);
        Ok(())
    }

    /// Whether the interfaces are in the sets that these rules ask.
    fn members(
        &mut self,
        members: &mut BTreeMap<(String, IfName), bool>,
        rules: &[Seen],
    ) -> kernel::Result<()> {
        let conditions = rules.iter().flat_map(|rule| &rule.conditions);
        let sets = conditions.filter_map(|condition| match condition {
            Condition::Member { set, .. } => Some(set.as_str()),
            _ => None,
        });
        let sets: BTreeSet<_> = sets.collect();
        let interfaces: Vec<_> = self.traffic.iter().map(|traffic| &traffic.interface).collect();
        for (set, interface) in sets.iter().flat_map(|set| interfaces.iter().map(move |name| (*set, *name))) {
            if let Some(is_member) = is_member(self.socket, &self.table, set, interface)? {
                members.insert((set.to_owned(), interface.clone()), is_member);
            }
        }
        Ok(())
    }

    fn uses(&mut self, chains: &mut Chains) -> kernel::Result<()> {
        let known = nft::chains(self.socket, Some(self.table.family))?;
        let own = known.into_iter().filter(|chain| chain.table == self.table);
        chains.uses = own.map(|chain| (chain.name, chain.uses)).collect();
        Ok(())
    }

    fn more(&mut self, chains: &mut Chains, missing: &Missing) -> kernel::Result<()> {
        if chains.uses.is_empty() {
            self.uses(chains)?;
        }
        match missing {
            Missing::Chain(name) => self.chain(chains, name),
            Missing::WholeTable => {
                for name in chains.uses.keys().cloned().collect::<Vec<_>>() {
                    if !chains.rules.contains_key(&name) {
                        self.chain(chains, &name)?;
                    }
                }
                chains.whole = true;
                Ok(())
            }
        }
    }
}

/// `None` where the set is of another type than names of interfaces.
pub(in crate::datapath) fn is_member(
    socket: &mut NetfilterSocket,
    table: &Table,
    set: &str,
    interface: &IfName,
) -> kernel::Result<Option<bool>> {
    let set = Set::new(set, &[DataType::IfName]);
    match nft::element(socket, table, &set, &[Datum::IfName(interface.clone())]) {
        Ok(element) => Ok(Some(element.is_some())),
        Err(error) if error.errno() == Some(rustix::io::Errno::INVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A base chain of somebody else, with as much of its table as it takes to say where accepts for these packets go.
pub(super) fn load(
    socket: &mut NetfilterSocket,
    chain: &ChainInfo,
    traffic: &[Traffic],
) -> kernel::Result<Option<ForwardTable>> {
    let Some(mut table) = forward_table(chain) else { return Ok(None) };
    let mut loader = Loader { socket, table: chain.table.clone(), traffic };
    loader.chain(&mut table.chains, &chain.name)?;
    while let Some(missing) = traffic.iter().find_map(|traffic| table.change(traffic).err()) {
        loader.more(&mut table.chains, &missing)?;
    }
    Ok(Some(table))
}

/// Under the node's lock, because a rule that is added twice is there twice. A chain that is gone drops nothing.
pub fn accept_forward(
    socket: &mut NetfilterSocket,
    base: &ChainName,
    traffic: &Traffic,
) -> kernel::Result<()> {
    let _lock = lock()?;
    let chains = nft::base_chains(socket)?;
    let Some(chain) = chains.iter().find(|chain| chain_name(chain).as_ref() == Some(base)) else {
        return Ok(());
    };
    let Some(table) = load(socket, chain, std::slice::from_ref(traffic))? else { return Ok(()) };
    let change = table.change(traffic).unwrap_or_default();
    nft::commit(socket, &transaction(base, &traffic.interface, &change))
}

/// The same in the old x_tables.
pub fn accept_legacy(family: Family, traffic: &Traffic) -> kernel::Result<()> {
    let _lock = lock()?;
    let program = filter::program(family);
    let table = filter::parse(family, &legacy::run(program, &["-S".to_owned()])?);
    let change = table.change(traffic).unwrap_or_default();
    for command in filter::commands(&traffic.interface, &change) {
        legacy::run(program, &command)?;
    }
    Ok(())
}

/// Takes every accept of ours out of chains of somebody else. What remains is what they had without us.
pub fn withdraw_accepts(socket: &mut NetfilterSocket) -> kernel::Result<()> {
    let _lock = lock()?;
    let ours = commented_rules(socket)?;
    nft::commit(socket, &ours.into_iter().map(delete).collect())
}

/// Whether any chain of somebody else has an accept of ours.
pub fn has_accepts(socket: &mut NetfilterSocket) -> kernel::Result<bool> {
    Ok(!commented_rules(socket)?.is_empty())
}

/// The chains of somebody else that have accepts of ours, and for which interfaces; each pair once.
pub fn standing_accepts(socket: &mut NetfilterSocket) -> kernel::Result<Vec<(ChainName, IfName)>> {
    let found: BTreeSet<_> = commented_rules(socket)?
        .into_iter()
        .filter_map(|placed| {
            let interface = accepted(&placed.rule)?;
            Some((name_of(&placed)?, interface))
        })
        .collect();
    Ok(found.into_iter().collect())
}

/// Whoever calls holds the node's lock.
pub fn remove_accepts(
    socket: &mut NetfilterSocket,
    chain: &ChainName,
    interface: &IfName,
) -> kernel::Result<()> {
    let ours = commented_rules(socket)?.into_iter().filter(|placed| {
        name_of(placed).as_ref() == Some(chain) && accepted(&placed.rule).as_ref() == Some(interface)
    });
    nft::commit(socket, &ours.map(delete).collect())
}

/// Rules of ours in tables of others, in whichever chain.
fn commented_rules(socket: &mut NetfilterSocket) -> kernel::Result<Vec<PlacedRule>> {
    nft::rules_that(socket, |placed| placed.table.name != OWNER && accepted(&placed.rule).is_some())
}

fn delete(placed: PlacedRule) -> Command {
    Command::DeleteRule { table: placed.table, chain: placed.chain, handle: placed.rule.handle }
}

fn name_of(placed: &PlacedRule) -> Option<ChainName> {
    named(&placed.table, &placed.chain)
}

/// The interface whose accept a rule is: its comment says so.
fn accepted(rule: &RuleInfo) -> Option<IfName> {
    commented(&reading::comment(rule)?)
}
