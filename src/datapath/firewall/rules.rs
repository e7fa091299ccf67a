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
use crate::kernel::{self, NetfilterSocket};
use crate::net::{Family, IfName};

pub(in crate::datapath) const GUARD: &str = "forward_guard";
pub(in crate::datapath) const CLAMP: &str = "mss_clamp";
/// `NF_IP_PRI_MANGLE`, linux/netfilter_ipv4.h.
const PRIORITY_MANGLE: i32 = -150;

pub(super) fn table(family: Family) -> Table {
    Table::new(if family == Family::V4 { TableFamily::Ip } else { TableFamily::Ip6 }, OWNER)
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

/// Connections keep to what the route carries, from either side.
pub(super) fn clamp_rules() -> [Rule; 2] {
    [Way::In, Way::Out].map(|way| Rule::new([through(way, Op::Eq, &clamped_set()), Expr::ClampMss]))
}

pub fn clamp_transaction(family: Family, interface: &IfName, standing: Standing) -> Transaction {
    let chain = Chain::base(CLAMP, Kind::Filter, HookPoint::Forward, PRIORITY_MANGLE);
    own_transaction(family, chain, clamped_set(), (standing, clamp_rules().to_vec()), interface)
}

pub fn clamp_mss(socket: &mut NetfilterSocket, family: Family, interface: &IfName) -> kernel::Result<()> {
    let _lock = lock()?;
    let standing = Standing::of(family, &clamp_rules(), &nft::rules(socket, &table(family), CLAMP)?);
    nft::commit(socket, &clamp_transaction(family, interface, standing))
}
