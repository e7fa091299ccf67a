//! The packet filter's side of forwarding: the rules that let pods through chains of somebody else, our own chains, and
//! the transactions that put both there.
//!
//! Decides nothing: that is `firewall`'s. Whatever would be there twice if it were added twice is added under the node's
//! lock, after another look.

use std::collections::BTreeSet;

use super::legacy as filter;
use super::observe::{chain_name, is_foreign};
use super::{ACCEPTS, ChainName, ForwardChain, ForwardRule};
use crate::datapath::mark::OWNER;
use crate::datapath::rules::lock;
use crate::kernel::nft::{
    self, Chain, ChainInfo, Command, CtState, DataType, Datum, Element, Ending, Expr, Field, HookPoint, Kind,
    NamePattern, Op, Position, Rule, RuleInfo, Set, Table, TableFamily, Transaction, Way,
};
use crate::kernel::{self, Socket, legacy};
use crate::net::{Family, IfName};

pub(in crate::datapath) const GUARD: &str = "forward_guard";
pub(in crate::datapath) const CLAMP: &str = "mss_clamp";
/// `NF_IP_PRI_FILTER` and `NF_IP_PRI_MANGLE`, linux/netfilter_ipv4.h.
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_MANGLE: i32 = -150;

/// Each rule at the beginning of the chain, unless it is there.
pub fn accept_legacy(family: Family, interface: &IfName) -> kernel::Result<()> {
    let _lock = lock()?;
    let program = filter::program(family);
    let command = |operation: &[&str], rule: &[String]| {
        let operation = operation.iter().map(|word| (*word).to_owned());
        legacy::run(program, &operation.chain(rule.iter().cloned()).collect::<Vec<_>>())
    };
    for rule in filter::accepts(interface) {
        if command(&["-C", "FORWARD"], &rule).is_err() {
            command(&["-I", "FORWARD", "1"], &rule)?;
        }
    }
    Ok(())
}

pub(super) fn classify(name: &ChainName, interface: &IfName, rules: &[RuleInfo]) -> Vec<ForwardRule> {
    let wanted = accepts(name, interface);
    let family = foreign_table(name).family;
    let kind = |rule: &RuleInfo| match wanted.iter().position(|wanted| rule.is(family, wanted)) {
        Some(at) => ForwardRule::Ours(at),
        None => match rule.verdict_for_all() {
            Some(Ending::Accept) => ForwardRule::AcceptAll,
            Some(Ending::Drop) => ForwardRule::DropAll,
            None => ForwardRule::Other,
        },
    };
    rules.iter().map(kind).collect()
}

fn foreign_table(name: &ChainName) -> Table {
    let family = match name.family {
        None => TableFamily::Inet,
        Some(Family::V4) => TableFamily::Ip,
        Some(Family::V6) => TableFamily::Ip6,
    };
    Table::new(family, &name.table)
}

fn comment(interface: &IfName) -> String {
    format!("{OWNER} {interface}")
}

/// Out of the interface everything; into it replies, and what was sent there by name (a hostPort). In the words that the
/// chain's owner reads: `iptables` counts, and refuses a whole table in which it finds `ct state`.
pub(super) fn accepts(chain: &ChainName, interface: &IfName) -> [Rule; ACCEPTS] {
    let iptables = chain.is_iptables();
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

/// The accepts at the beginning of the chain, in place of whatever we had there. `old` are handles.
pub fn accept_transaction(chain: &ChainName, interface: &IfName, old: &[u64]) -> Transaction {
    let table = foreign_table(chain);
    let delete = old.iter().map(|handle| Command::DeleteRule {
        table: table.clone(),
        chain: chain.chain.clone(),
        handle: *handle,
    });
    // Each goes before those inserted earlier.
    let insert = accepts(chain, interface).into_iter().rev().map(|rule| Command::InsertRule {
        table: table.clone(),
        chain: chain.chain.clone(),
        position: Position::First,
        rule,
    });
    delete.chain(insert).collect()
}

/// Under the node's lock, because a rule that is added twice is there twice. A chain that is gone drops nothing.
pub fn accept_forward(socket: &mut Socket, chain: &ChainName, interface: &IfName) -> kernel::Result<()> {
    let _lock = lock()?;
    let table = foreign_table(chain);
    let rules = nft::rules(socket, &table, &chain.chain)?;
    let policy_drops = true;
    let classified = classify(chain, interface, &rules);
    let seen =
        ForwardChain { name: chain.clone(), interface: interface.clone(), policy_drops, rules: classified };
    if seen.accepts() {
        return Ok(());
    }
    let ours = comment(interface);
    let is_ours = |rule: &&RuleInfo| rule.comment.as_ref().is_some_and(|comment| comment.as_str() == ours);
    let old: Vec<_> = rules.iter().filter(is_ours).map(|rule| rule.handle).collect();
    nft::commit(socket, &accept_transaction(chain, interface, &old))
}

/// Takes every accept of ours out of chains of somebody else. What remains is what they had without us.
pub fn withdraw_accepts(socket: &mut Socket) -> kernel::Result<()> {
    let _lock = lock()?;
    let chains = nft::chains(socket, None)?;
    for (chain, interface) in standing_accepts(socket, &chains)? {
        remove_accepts(socket, &chain, &interface)?;
    }
    Ok(())
}

/// Whether any chain of somebody else has an accept of ours.
pub fn has_accepts(socket: &mut Socket) -> kernel::Result<bool> {
    let chains = nft::chains(socket, None)?;
    Ok(!standing_accepts(socket, &chains)?.is_empty())
}

/// The chains of somebody else that have accepts of ours, and for which interfaces; each pair once.
pub fn standing_accepts(
    socket: &mut Socket,
    chains: &[ChainInfo],
) -> kernel::Result<Vec<(ChainName, IfName)>> {
    let mut found = BTreeSet::new();
    for chain in chains.iter().filter(|chain| is_foreign(chain, &Family::BOTH)) {
        let Some(name) = chain_name(chain) else { continue };
        let rules = nft::rules(socket, &chain.table, &chain.name)?;
        found.extend(rules.iter().filter_map(accepted).map(|interface| (name.clone(), interface)));
    }
    Ok(found.into_iter().collect())
}

/// The interface whose accept a rule is: its comment says so.
fn accepted(rule: &RuleInfo) -> Option<IfName> {
    let comment = rule.comment.as_ref()?.as_str();
    comment.strip_prefix(OWNER)?.strip_prefix(' ')?.parse().ok()
}

/// Whoever calls holds the node's lock.
pub fn remove_accepts(socket: &mut Socket, chain: &ChainName, interface: &IfName) -> kernel::Result<()> {
    let table = foreign_table(chain);
    let rules = nft::rules(socket, &table, &chain.chain)?;
    let ours = rules.iter().filter(|rule| accepted(rule).as_ref() == Some(interface));
    let delete = ours.map(|rule| Command::DeleteRule {
        table: table.clone(),
        chain: chain.chain.clone(),
        handle: rule.handle,
    });
    nft::commit(socket, &delete.collect())
}

pub(super) fn table(family: Family) -> Table {
    Table::new(if family == Family::V4 { TableFamily::Ip } else { TableFamily::Ip6 }, OWNER)
}

/// Interfaces whose packets are forwarded where strangers' are not.
pub(in crate::datapath) fn inside_set() -> Set {
    Set::new("bridges", &[DataType::IfName])
}

/// Interfaces whose connections are kept to what the route carries.
pub(in crate::datapath) fn clamped_set() -> Set {
    Set::new("clamped", &[DataType::IfName])
}

pub(super) fn key(interface: &IfName) -> Vec<Datum> {
    vec![Datum::IfName(interface.clone())]
}

fn through(way: Way, op: Op, set: &Set) -> Expr {
    Expr::Lookup { fields: vec![Field::Interface(way)], op, set: set.name.clone() }
}

/// What there is of a chain of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Whole,
    /// Rules of it are gone, as after `nft flush table` or a deletion by hand.
    Broken,
    Missing,
}

impl Standing {
    /// Whether all of the rules that matter stand.
    pub(super) fn of(family: Family, needed: &[Rule], has: &[RuleInfo]) -> Self {
        let family = table(family).family;
        let stands = |rule: &Rule| has.iter().any(|has| has.is(family, rule));
        match (needed.iter().all(stands), has.is_empty()) {
            (true, _) => Self::Whole,
            (false, true) => Self::Missing,
            (false, false) => Self::Broken,
        }
    }
}

/// Table, set, chain, its rules as far as they do not stand, and the interface in the set.
fn own_transaction(
    family: Family,
    chain: Chain,
    set: Set,
    (standing, rules): (Standing, Vec<Rule>),
    interface: &IfName,
) -> Transaction {
    let table = table(family);
    let name = chain.name.clone();
    let add = |rule| Command::AddRule { table: table.clone(), chain: name.clone(), rule };
    let mut commands = vec![
        Command::AddTable { table: table.clone(), comment: None },
        Command::AddSet { table: table.clone(), set: set.clone() },
        Command::AddChain { table: table.clone(), chain },
    ];
    if standing == Standing::Broken {
        commands.push(Command::FlushChain { table: table.clone(), chain: name.clone() });
    }
    if standing != Standing::Whole {
        commands.extend(rules.into_iter().map(add));
    }
    let elements = vec![Element::of(key(interface))];
    commands.push(Command::AddElements { table: table.clone(), set, elements });
    Transaction { commands }
}

/// Packets that neither come from a network of ours nor go to one are dropped.
pub(super) fn guard_rule() -> Rule {
    Rule::new([through(Way::In, Op::Ne, &inside_set()), through(Way::Out, Op::Ne, &inside_set()), Expr::Drop])
}

/// Connections keep to what the route carries, from either side.
pub(super) fn clamp_rules() -> [Rule; 2] {
    [Way::In, Way::Out].map(|way| Rule::new([through(way, Op::Eq, &clamped_set()), Expr::ClampMss]))
}

/// `frames`: except packets that only pass from one port of a bridge to another, which the filter also sees where
/// br_netfilter is on.
pub fn guard_transaction(
    family: Family,
    interface: &IfName,
    standing: Standing,
    frames: bool,
) -> Transaction {
    let chain = Chain::base(GUARD, Kind::Filter, HookPoint::Forward, PRIORITY_FILTER);
    let bridged = Rule::new([
        Expr::Kind(Way::In, Op::Eq, "bridge"),
        Expr::Kind(Way::Out, Op::Eq, "bridge"),
        Expr::Return,
    ]);
    let rules = if frames { vec![bridged, guard_rule()] } else { vec![guard_rule()] };
    own_transaction(family, chain, inside_set(), (standing, rules), interface)
}

pub fn clamp_transaction(family: Family, interface: &IfName, standing: Standing) -> Transaction {
    let chain = Chain::base(CLAMP, Kind::Filter, HookPoint::Forward, PRIORITY_MANGLE);
    own_transaction(family, chain, clamped_set(), (standing, clamp_rules().to_vec()), interface)
}

pub fn guard_forward(socket: &mut Socket, family: Family, interface: &IfName) -> kernel::Result<()> {
    let _lock = lock()?;
    let standing = Standing::of(family, &[guard_rule()], &nft::rules(socket, &table(family), GUARD)?);
    let guard = nft::commit(socket, &guard_transaction(family, interface, standing, true));
    match guard {
        // Kernels before 5.6 do not know what kind a link is.
        Err(error)
            if standing != Standing::Whole
                && (error.is_unsupported() || error.errno() == Some(rustix::io::Errno::INVAL)) =>
        {
            nft::commit(socket, &guard_transaction(family, interface, standing, false))
        }
        other => other,
    }
}

pub fn clamp_mss(socket: &mut Socket, family: Family, interface: &IfName) -> kernel::Result<()> {
    let _lock = lock()?;
    let standing = Standing::of(family, &clamp_rules(), &nft::rules(socket, &table(family), CLAMP)?);
    nft::commit(socket, &clamp_transaction(family, interface, standing))
}
