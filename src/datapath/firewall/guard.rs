//! The guard's side of the kernel: which uplinks there are, the chain that keeps them apart, and how node and guard become
//! again what they were when the last pod has left.

use std::collections::BTreeSet;

use super::rules::{GUARD, Standing, table};
use super::uplinks::{Candidate, Pair};
use crate::datapath::mark::{OWNER, VethMark};
use crate::datapath::rules::lock;
use crate::datapath::session::{Session, Side};
use crate::datapath::switches;
use crate::kernel::link::Link;
use crate::kernel::nft::{
    self, Chain, Command, DataType, Datum, Element, Expr, Field, HookPoint, Kind, Op, Rule, Set, Transaction,
    Way,
};
use crate::kernel::{self, NetfilterSocket, address, link, route};
use crate::net::{Family, IfName};

/// `NF_IP_PRI_FILTER`, linux/netfilter_ipv4.h.
const PRIORITY_FILTER: i32 = 0;
/// RT_SCOPE_UNIVERSE, rtnetlink(7): addresses of more than a link or the machine itself.
const SCOPE_UNIVERSE: u8 = 0;
/// What the guard of version 0.1.0 asked: the bridges whose packets it let pass.
const FORMER_SET: &str = "bridges";

/// Pairs of uplinks between which nothing is forwarded.
pub(in crate::datapath) fn pair_set() -> Set {
    Set::new("uplink_pairs", &[DataType::IfName, DataType::IfName])
}

/// What comes in by one uplink and leaves by another is dropped.
pub(super) fn guard_rule() -> Rule {
    let fields = vec![Field::Interface(Way::In), Field::Interface(Way::Out)];
    Rule::new([Expr::Lookup { fields, op: Op::Eq, set: pair_set().name }, Expr::Drop])
}

fn element((from, to): &Pair) -> Element {
    Element::of([Datum::IfName(from.clone()), Datum::IfName(to.clone())])
}

/// The pairs that are kept apart now.
pub(in crate::datapath) fn standing_pairs(
    socket: &mut NetfilterSocket,
    family: Family,
) -> kernel::Result<BTreeSet<Pair>> {
    let elements = nft::elements(socket, &table(family), &pair_set())?;
    let pairs = elements.iter().filter_map(|element| match element.key.as_slice() {
        [Datum::IfName(from), Datum::IfName(to)] => Some((from.clone(), to.clone())),
        _ => None,
    });
    Ok(pairs.collect())
}

/// Table, set, chain and its rule as far as they do not stand, then the pairs that come and go.
pub fn guard_transaction(
    family: Family,
    standing: Standing,
    add: &BTreeSet<Pair>,
    remove: &BTreeSet<Pair>,
) -> Transaction {
    let (table, set) = (table(family), pair_set());
    let chain = Chain::base(GUARD, Kind::Filter, HookPoint::Forward, PRIORITY_FILTER);
    let mut commands = vec![
        Command::AddTable { table: table.clone(), comment: None },
        Command::AddSet { table: table.clone(), set: set.clone() },
        Command::AddChain { table: table.clone(), chain },
    ];
    if standing == Standing::Broken {
        // The set that the former rule asked goes with it: made, where it is not there, so that it can.
        let former = Set::new(FORMER_SET, &[DataType::IfName]);
        commands.extend([
            Command::FlushChain { table: table.clone(), chain: GUARD.to_owned() },
            Command::AddSet { table: table.clone(), set: former.clone() },
            Command::DeleteSet { table: table.clone(), set: former },
        ]);
    }
    if standing != Standing::Whole {
        let rule = guard_rule();
        commands.push(Command::AddRule { table: table.clone(), chain: GUARD.to_owned(), rule });
    }
    let elements = |pairs: &BTreeSet<Pair>| pairs.iter().map(element).collect::<Vec<_>>();
    if !add.is_empty() {
        commands.push(Command::AddElements {
            table: table.clone(),
            set: set.clone(),
            elements: elements(add),
        });
    }
    if !remove.is_empty() {
        commands.push(Command::DeleteElements { table, set, elements: elements(remove) });
    }
    Transaction { commands }
}

/// Under the node's lock, after another look: another first pod may have been quicker.
pub fn guard_forward(
    socket: &mut NetfilterSocket,
    family: Family,
    add: &BTreeSet<Pair>,
    remove: &BTreeSet<Pair>,
) -> kernel::Result<()> {
    let _lock = lock()?;
    keep_apart(socket, family, add, remove)
}

fn keep_apart(
    socket: &mut NetfilterSocket,
    family: Family,
    add: &BTreeSet<Pair>,
    remove: &BTreeSet<Pair>,
) -> kernel::Result<()> {
    let standing = Standing::of(family, &[guard_rule()], &nft::rules(socket, &table(family), GUARD)?);
    let remove = standing_pairs(socket, family)?.intersection(remove).cloned().collect();
    nft::commit(socket, &guard_transaction(family, standing, add, &remove))
}

/// The uplinks of a family. `inside` lead to pods, whether they are there yet or not.
pub(in crate::datapath) fn observe_uplinks(
    node: &mut Side,
    family: Family,
    inside: &[IfName],
) -> kernel::Result<BTreeSet<IfName>> {
    let routes = route::list(&mut node.route, family)?.into_iter();
    let defaults: BTreeSet<u32> =
        routes.filter(|route| route.dst.prefix() == 0).filter_map(|route| route.index).collect();
    let addresses = address::of_family(&mut node.route, family)?.into_iter();
    let with_address: BTreeSet<u32> =
        addresses.filter(|address| address.scope == SCOPE_UNIVERSE).map(|address| address.index).collect();
    let mut uplinks = BTreeSet::new();
    for index in defaults.union(&with_address) {
        let Some(link) = node.look_up_index(*index)? else { continue };
        let Ok(name) = link.name.parse::<IfName>() else { continue };
        let candidate = Candidate {
            ours: inside.contains(&name) || is_marked(&link),
            kinds: kinds(node, &link)?,
            has_default_route: defaults.contains(index),
            has_address: with_address.contains(index),
            name,
        };
        if candidate.is_uplink() {
            uplinks.insert(candidate.name);
        }
    }
    Ok(uplinks)
}

fn is_marked(link: &Link) -> bool {
    link.alias.as_deref().is_some_and(|alias| alias.starts_with(OWNER))
}

/// A VLAN names the link below it, in the same namespace as far as it is seen from here.
fn kinds(node: &mut Side, link: &Link) -> kernel::Result<Vec<Option<String>>> {
    let mut kinds = vec![link.kind.clone()];
    let mut below = link.peer.filter(|_| link.kind.as_deref() == Some("vlan"));
    while let Some(index) = below {
        let Some(link) = node.look_up_index(index)? else { break };
        // Nobody stacks that many.
        if kinds.len() > 8 {
            break;
        }
        below = link.peer.filter(|_| link.kind.as_deref() == Some("vlan"));
        kinds.push(link.kind);
    }
    Ok(kinds)
}

/// After the last pod: forwarding becomes what it was before the first one, and the guard goes. `is_needed` says whether an
/// attachment is promised forwarding; one that is about to be made has said so before it looks at the kernel, so whoever
/// comes meanwhile finds everything as it was.
///
/// Forwarding stays on where something else may have come to need it, and then the node is the router that this one made it.
pub fn release(session: &mut Session, is_needed: &dyn Fn() -> bool) -> kernel::Result<()> {
    if !switches::were_turned() || is_needed() {
        return Ok(());
    }
    let boot = session.boot()?;
    if !switches::any_turned(&boot)? {
        return Ok(());
    }
    let lock = lock()?;
    let links = link::all(&mut session.node.route)?;
    // A pod that lost its record still works.
    let has_pods =
        links.iter().any(|link| link.alias.as_deref().is_some_and(|alias| VethMark::parse(alias).is_some()));
    if has_pods || is_needed() {
        return Ok(());
    }
    let uplinks: BTreeSet<_> = Family::BOTH
        .into_iter()
        .map(|family| observe_uplinks(&mut session.node, family, &[]))
        .collect::<kernel::Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .collect();
    let others = links
        .iter()
        .find(|link| may_forward(link, &links) && !uplinks.iter().any(|name| name.as_str() == link.name));
    let given_back = match others {
        Some(other) => {
            tracing::warn!(
                "forwarding stays on although the last pod has left: {} may need it; to switch it off: sysctl -w \
                 net.ipv4.ip_forward=0",
                other.name
            );
            Vec::new()
        }
        None => switches::give_back_all(&boot, &lock)?,
    };
    let guards = match session.netfilter().and_then(remove_guards) {
        // A kernel without nf_tables has no guard.
        Err(error) if error.is_unsupported() || error.errno() == Some(rustix::io::Errno::INVAL) => Vec::new(),
        other => other?,
    };
    if is_needed() {
        for (family, pairs) in guards {
            keep_apart(session.netfilter()?, family, &pairs, &BTreeSet::new())?;
        }
        switches::turn_again(&boot, &lock, given_back)?;
    }
    Ok(())
}

/// A link of somebody else through which packets could come that the node shall forward: a bridge, a tunnel, the end of a
/// pair. Hardware is not what needs a router.
fn may_forward(link: &Link, links: &[Link]) -> bool {
    let of_ours = |link: &Link| {
        let bridge = link.name.rsplit_once('.').map(|(bridge, _)| bridge);
        is_marked(link) || links.iter().any(|other| Some(other.name.as_str()) == bridge && is_marked(other))
    };
    let port_of_ours = || {
        link.master.is_some_and(|index| links.iter().any(|other| other.index == index && is_marked(other)))
    };
    let kind = link.kind.as_deref();
    link.up
        && kind.is_some_and(|kind| !matches!(kind, "dummy" | "ifb" | "bond" | "team" | "vlan" | "wwan"))
        && !of_ours(link)
        && !port_of_ours()
}

/// Says which there were.
fn remove_guards(socket: &mut NetfilterSocket) -> kernel::Result<Vec<(Family, BTreeSet<Pair>)>> {
    let chains = nft::base_chains(socket)?;
    let mut removed = Vec::new();
    for family in Family::BOTH {
        let (table, set) = (table(family), pair_set());
        if !chains.iter().any(|chain| chain.table == table && chain.name == GUARD) {
            continue;
        }
        removed.push((family, standing_pairs(socket, family)?));
        let commands = vec![
            Command::FlushChain { table: table.clone(), chain: GUARD.to_owned() },
            Command::DeleteChain { table: table.clone(), chain: GUARD.to_owned() },
            Command::AddSet { table: table.clone(), set: set.clone() },
            Command::DeleteSet { table, set },
        ];
        nft::commit(socket, &Transaction { commands })?;
    }
    Ok(removed)
}
