//! The packet filter's side of forwarding: what stands in chains of somebody else and in ours, and the transactions that
//! put our part there.
//!
//! Asks for all chains in one dump; only where a chain of somebody else stands on the forward hook are its rules looked
//! at. Decides nothing: that is `firewall`'s.

use super::firewall::{ACCEPTS, ChainName, FirewallHave, ForwardChain, ForwardRule, inside};
use super::firewall_legacy;
use super::mark::OWNER;
use super::rules::lock;
use super::session::Session;
use super::spec::Attachment;
use crate::kernel::nft::{
    self, Chain, ChainInfo, Command, CtState, DataType, Datum, Element, Ending, Expr, Field, HookPoint, Kind,
    NamePattern, Op, Policy, Position, Rule, RuleInfo, Set, Table, TableFamily, Transaction, Way,
};
use crate::kernel::{self, Socket, legacy};
use crate::net::{Family, IfName};

const GUARD: &str = "forward_guard";
const CLAMP: &str = "mss_clamp";
/// `NF_IP_PRI_FILTER` and `NF_IP_PRI_MANGLE`, linux/netfilter_ipv4.h.
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_MANGLE: i32 = -150;

/// Asks for what `want` is about; nothing for a network that the node does not route for.
pub fn observe(session: &mut Session, want: &Attachment, have: &mut FirewallHave) -> kernel::Result<()> {
    if want.forwarding.is_empty() {
        return Ok(());
    }
    let chains = match session.netfilter().and_then(|socket| nft::chains(socket, None)) {
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
        if has_chain(&chains, *family, GUARD) {
            have.guards.push(*family);
            have.guarded.extend(members(socket, *family, &inside_set(), want)?);
        }
        if want.firewall.clamp_mss && has_chain(&chains, *family, CLAMP) {
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
    let loaded = std::fs::read_to_string(firewall_legacy::loaded_tables(family)).unwrap_or_default();
    if !loaded.lines().any(|table| table == "filter") {
        return Vec::new();
    }
    let program = firewall_legacy::program(family);
    match legacy::run(program, &["-S".to_owned(), "FORWARD".to_owned()]) {
        Ok(listing) => {
            let lacking = inside.iter().filter(|name| firewall_legacy::lacks_accepts(&listing, name));
            lacking.map(|interface| (family, interface.clone())).collect()
        }
        Err(error) => {
            for interface in inside {
                let typed = firewall_legacy::commands(program, interface);
                tracing::warn!(%error, "cannot see whether legacy iptables drops what pods send; if it does, type: {typed}");
            }
            Vec::new()
        }
    }
}

/// Each rule at the beginning of the chain, unless it is there.
pub fn accept_legacy(family: Family, interface: &IfName) -> kernel::Result<()> {
    let _lock = lock()?;
    let program = firewall_legacy::program(family);
    let command = |operation: &[&str], rule: &[String]| {
        let operation = operation.iter().map(|word| (*word).to_owned());
        legacy::run(program, &operation.chain(rule.iter().cloned()).collect::<Vec<_>>())
    };
    for rule in firewall_legacy::accepts(interface) {
        if command(&["-C", "FORWARD"], &rule).is_err() {
            command(&["-I", "FORWARD", "1"], &rule)?;
        }
    }
    Ok(())
}

fn has_chain(chains: &[ChainInfo], family: Family, name: &str) -> bool {
    chains.iter().any(|chain| chain.table == table(family) && chain.name == name)
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
fn is_foreign(chain: &ChainInfo, families: &[Family]) -> bool {
    let forward =
        chain.hook.as_ref().is_some_and(|hook| hook.point == HookPoint::Forward && hook.kind == Kind::Filter);
    let name = chain_name(chain);
    forward
        && chain.table.name != OWNER
        && name.is_some_and(|name| families.iter().any(|family| name.sees(*family)))
}

fn chain_name(chain: &ChainInfo) -> Option<ChainName> {
    let family = match chain.table.family {
        TableFamily::Inet => None,
        TableFamily::Ip => Some(Family::V4),
        TableFamily::Ip6 => Some(Family::V6),
        TableFamily::Bridge => return None,
    };
    Some(ChainName { family, table: chain.table.name.clone(), chain: chain.name.clone() })
}

fn observe_foreign(
    socket: &mut Socket,
    chain: &ChainInfo,
    inside: &[IfName],
) -> kernel::Result<Vec<ForwardChain>> {
    let Some(name) = chain_name(chain) else { return Ok(Vec::new()) };
    let rules = nft::rules(socket, &chain.table, &chain.name)?;
    let policy_drops = chain.hook.as_ref().is_some_and(|hook| hook.policy == Policy::Drop);
    let seen: Vec<_> = inside
        .iter()
        .map(|interface| ForwardChain {
            name: name.clone(),
            interface: interface.clone(),
            policy_drops,
            rules: classify(&name, interface, &rules),
        })
        .collect();
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

fn classify(name: &ChainName, interface: &IfName, rules: &[RuleInfo]) -> Vec<ForwardRule> {
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
    let mine = |rule: &RuleInfo| {
        let comment = rule.comment.as_ref().map(nft::Comment::as_str).unwrap_or_default();
        comment.strip_prefix(OWNER).is_some_and(|interface| interface.starts_with(' '))
    };
    for chain in nft::chains(socket, None)?.iter().filter(|chain| is_foreign(chain, &Family::BOTH)) {
        let rules = nft::rules(socket, &chain.table, &chain.name)?;
        let delete = rules.iter().filter(|rule| mine(rule)).map(|rule| Command::DeleteRule {
            table: chain.table.clone(),
            chain: chain.name.clone(),
            handle: rule.handle,
        });
        nft::commit(socket, &delete.collect())?;
    }
    Ok(())
}

fn table(family: Family) -> Table {
    Table::new(if family == Family::V4 { TableFamily::Ip } else { TableFamily::Ip6 }, OWNER)
}

/// Interfaces whose packets are forwarded where strangers' are not.
fn inside_set() -> Set {
    Set::new("bridges", &[DataType::IfName])
}

/// Interfaces whose connections are kept to what the route carries.
fn clamped_set() -> Set {
    Set::new("clamped", &[DataType::IfName])
}

fn key(interface: &IfName) -> Vec<Datum> {
    vec![Datum::IfName(interface.clone())]
}

fn through(way: Way, op: Op, set: &Set) -> Expr {
    Expr::Lookup { fields: vec![Field::Interface(way)], op, set: set.name.clone() }
}

/// Table, set, chain and the interface in the set; the rules only with a chain that these commands make.
fn own_transaction(
    family: Family,
    chain: Chain,
    set: Set,
    rules: Vec<Rule>,
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
    commands.extend(rules.into_iter().map(add));
    let elements = vec![Element::of(key(interface))];
    commands.push(Command::AddElements { table: table.clone(), set, elements });
    Transaction { commands }
}

/// Packets that neither come from a network of ours nor go to one are dropped. `frames`: except those that only pass
/// from one port of a bridge to another, which the filter also sees where br_netfilter is on.
pub fn guard_transaction(family: Family, interface: &IfName, fresh: bool, frames: bool) -> Transaction {
    let chain = Chain::base(GUARD, Kind::Filter, HookPoint::Forward, PRIORITY_FILTER);
    let bridged = Rule::new([
        Expr::Kind(Way::In, Op::Eq, "bridge"),
        Expr::Kind(Way::Out, Op::Eq, "bridge"),
        Expr::Return,
    ]);
    let strangers = Rule::new([
        through(Way::In, Op::Ne, &inside_set()),
        through(Way::Out, Op::Ne, &inside_set()),
        Expr::Drop,
    ]);
    let rules = match (fresh, frames) {
        (false, _) => vec![],
        (true, true) => vec![bridged, strangers],
        (true, false) => vec![strangers],
    };
    own_transaction(family, chain, inside_set(), rules, interface)
}

pub fn clamp_transaction(family: Family, interface: &IfName, fresh: bool) -> Transaction {
    let chain = Chain::base(CLAMP, Kind::Filter, HookPoint::Forward, PRIORITY_MANGLE);
    let rule = |way| Rule::new([through(way, Op::Eq, &clamped_set()), Expr::ClampMss]);
    let rules = if fresh { vec![rule(Way::In), rule(Way::Out)] } else { vec![] };
    own_transaction(family, chain, clamped_set(), rules, interface)
}

pub fn guard_forward(socket: &mut Socket, family: Family, interface: &IfName) -> kernel::Result<()> {
    let _lock = lock()?;
    let fresh = nft::rules(socket, &table(family), GUARD)?.is_empty();
    let guard = nft::commit(socket, &guard_transaction(family, interface, fresh, true));
    match guard {
        // Kernels before 5.6 do not know what kind a link is.
        Err(error)
            if fresh && (error.is_unsupported() || error.errno() == Some(rustix::io::Errno::INVAL)) =>
        {
            nft::commit(socket, &guard_transaction(family, interface, fresh, false))
        }
        other => other,
    }
}

pub fn clamp_mss(socket: &mut Socket, family: Family, interface: &IfName) -> kernel::Result<()> {
    let _lock = lock()?;
    let fresh = nft::rules(socket, &table(family), CLAMP)?.is_empty();
    nft::commit(socket, &clamp_transaction(family, interface, fresh))
}
