//! Everything of ours that the kernel carries, and how it is taken away: for the day this program leaves the node.
//!
//! Known by its marks, not by memory: links by their `ifalias`, tables by their name, rules in chains of others by their
//! comment. Switches of the host are the exception, they have no room for a mark. Refuses to ask whether anybody still
//! needs it: that is asked before.

use std::fmt;

use super::firewall::{accepts, legacy as filter};
use super::mark::{BridgeMark, OWNER, VethMark};
use super::session::Session;
use super::switches;
use crate::kernel::nft::{self, Command, Table, TableFamily, Transaction};
use crate::kernel::{self, legacy, link};
use crate::net::{Family, IfName};

/// In the order in which it goes: while a link of a pod is there, its rules are needed; while forwarding is on, the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    RemoveLink(IfName),
    /// The bridge of somebody else that we used.
    Unmark(IfName),
    /// Out of chains of somebody else, by its comment.
    WithdrawAccepts,
    WithdrawLegacy(Family, IfName),
    /// Back to what they were, unless somebody else turned them since.
    GiveBackSwitches(Vec<String>),
    DeleteTable(TableFamily),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RemoveLink(link) => write!(f, "ip link del {link}"),
            Self::Unmark(link) => write!(f, "ip link set {link} alias \"\""),
            Self::WithdrawAccepts => {
                write!(
                    f,
                    "remove the rules with comment \"{OWNER} <interface>\" from forward chains of others"
                )
            }
            Self::WithdrawLegacy(family, interface) => {
                write!(
                    f,
                    "remove the rules with comment \"{OWNER} {interface}\" with {}",
                    filter::program(*family)
                )
            }
            Self::GiveBackSwitches(switches) => write!(f, "give back {}", switches.join(", ")),
            Self::DeleteTable(family) => write!(f, "nft delete table {} {OWNER}", family_word(*family)),
        }
    }
}

fn family_word(family: TableFamily) -> &'static str {
    match family {
        TableFamily::Ip => "ip",
        TableFamily::Ip6 => "ip6",
        TableFamily::Arp => "arp",
        TableFamily::Bridge => "bridge",
        TableFamily::Inet => "inet",
        TableFamily::Netdev => "netdev",
    }
}

/// What there is to take away in this namespace. A bridge in `foreign` was there before us and stays.
pub fn plan(session: &mut Session, foreign: &[IfName]) -> kernel::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut bridges = Vec::new();
    let links = link::all(&mut session.node.route)?;
    for link in &links {
        let Ok(name) = link.name.parse::<IfName>() else { continue };
        let alias = link.alias.as_deref().unwrap_or_default();
        if BridgeMark::parse(alias).is_some() {
            bridges.push(name);
        } else if VethMark::parse(alias).is_some() {
            steps.push(Step::RemoveLink(name));
        }
    }
    // The gateway of a VLAN is a veth named after the bridge; it carries no mark.
    let is_gateway = |name: &str| {
        let (bridge, vlan) = name.rsplit_once('.').unwrap_or_default();
        bridges.iter().any(|known| known.as_str() == bridge) && vlan.parse::<u16>().is_ok()
    };
    let gateways = links.iter().filter(|link| link.kind.as_deref() == Some("veth") && is_gateway(&link.name));
    let gateways: Vec<IfName> = gateways.filter_map(|link| link.name.parse().ok()).collect();
    let inside = bridges.iter().chain(&gateways).cloned().collect::<Vec<_>>();
    steps.extend(gateways.into_iter().map(Step::RemoveLink));
    steps.extend(rules(session, &inside)?);
    let (foreign, own): (Vec<_>, Vec<_>) = bridges.into_iter().partition(|name| foreign.contains(name));
    steps.extend(own.into_iter().map(Step::RemoveLink));
    steps.extend(foreign.into_iter().map(Step::Unmark));
    Ok(steps)
}

fn rules(session: &mut Session, interfaces: &[IfName]) -> kernel::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let socket = match session.netfilter() {
        Ok(socket) => Some(socket),
        // A kernel without nf_tables has no rule of ours.
        Err(error) if error.is_unsupported() => None,
        Err(error) => return Err(error),
    };
    let mut tables = Vec::new();
    if let Some(socket) = socket {
        match accepts::has_accepts(socket) {
            Ok(true) => steps.push(Step::WithdrawAccepts),
            Err(error) if !error.is_unsupported() => return Err(error),
            _ => {}
        }
        for family in [TableFamily::Ip, TableFamily::Ip6, TableFamily::Arp, TableFamily::Bridge] {
            match nft::table(socket, &Table::new(family, OWNER)) {
                Ok(Some(_)) => tables.push(Step::DeleteTable(family)),
                Ok(None) => {}
                Err(error) if error.is_unsupported() || error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
    }
    for family in Family::BOTH {
        let listing = legacy_listing(family)?;
        let ours = |interface: &&IfName| !filter::removals(&listing, interface).is_empty();
        let legacy = interfaces.iter().filter(ours);
        steps.extend(legacy.cloned().map(|interface| Step::WithdrawLegacy(family, interface)));
    }
    let switches = switches::turned(&session.boot()?)?;
    if !switches.is_empty() {
        steps.push(Step::GiveBackSwitches(switches));
    }
    // The guard against strangers' packets goes when forwarding is off again.
    steps.extend(tables);
    Ok(steps)
}

/// The rules of the old filter table; empty where that table is not loaded, or nobody has a program for it.
fn legacy_listing(family: Family) -> kernel::Result<String> {
    if !legacy::is_loaded(filter::loaded_tables(family), "filter") {
        return Ok(String::new());
    }
    match legacy::run(filter::program(family), &["-S".to_owned()]) {
        Err(error) if error.is_missing() => Ok(String::new()),
        // It opens a raw socket: a container needs a capability that nothing else here needs.
        other => other.map_err(|error| error.with_hint("in a container it needs the capability NET_RAW")),
    }
}

/// What is gone already is fine.
pub fn apply(session: &mut Session, step: &Step) -> kernel::Result<()> {
    match step {
        Step::RemoveLink(name) => match session.node.look_up(name)? {
            Some(found) => gone(link::delete(&mut session.node.route, found.index, name.as_str())),
            None => Ok(()),
        },
        Step::Unmark(name) => match session.node.look_up(name)? {
            Some(found) => {
                let change = link::Change { alias: Some(String::new()), ..link::Change::default() };
                link::change(&mut session.node.route, found.index, name.as_str(), &change)
            }
            None => Ok(()),
        },
        Step::WithdrawAccepts => accepts::withdraw_accepts(session.netfilter()?),
        Step::WithdrawLegacy(family, interface) => {
            for command in filter::removals(&legacy_listing(*family)?, interface) {
                legacy::run(filter::program(*family), &command)?;
            }
            Ok(())
        }
        Step::GiveBackSwitches(_) => switches::undo(&session.boot()?),
        Step::DeleteTable(family) => {
            let commands = vec![Command::DeleteTable { table: Table::new(*family, OWNER) }];
            gone(nft::commit(session.netfilter()?, &Transaction { commands }))
        }
    }
}

fn gone(outcome: kernel::Result<()>) -> kernel::Result<()> {
    match outcome {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}
