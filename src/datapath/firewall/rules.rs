//! The packet filter's side of forwarding: our own chains, and the transactions that put them there.
//!
//! Decides nothing: that is `firewall`'s. Whatever would be there twice if it were added twice is added under the node's
//! lock, after another look.

use crate::datapath::mark::OWNER;
use crate::datapath::rules::lock;
use crate::kernel::nft::{
    self, Chain, Command, DataType, Datum, Element, Expr, Field, HookPoint, Kind, Op, Rule, RuleInfo, Set,
    Table, TableFamily, Transaction, Way,
};
use crate::kernel::{self, Socket};
use crate::net::{Family, IfName};

pub(in crate::datapath) const GUARD: &str = "forward_guard";
pub(in crate::datapath) const CLAMP: &str = "mss_clamp";
/// `NF_IP_PRI_FILTER` and `NF_IP_PRI_MANGLE`, linux/netfilter_ipv4.h.
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_MANGLE: i32 = -150;

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
