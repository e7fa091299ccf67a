//! The chains of others on all hooks, as the flows of pods meet them. Reads nothing anew.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Ruleset;
use crate::datapath::firewall::accepts::seen_with_ports;
use crate::datapath::firewall::flows::{Base, Layer, Owner, Point};
use crate::datapath::firewall::legacy;
use crate::datapath::firewall::way::{Chains, Condition, Rule, Spot};
use crate::datapath::mark::OWNER;
use crate::datapath::survey::Network;
use crate::kernel::nft::{HookPoint, Kind, Policy, RuleInfo, Table, TableFamily};
use crate::net::{Family, IfName};

/// NF_IP_PRI_*, linux/netfilter_ipv4.h, of a table of the old x_tables on a hook.
fn legacy_priority(table: &str, point: Point) -> i32 {
    match (table, point) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", Point::Postrouting | Point::Input) => 100,
        ("nat", _) => -100,
        ("security", _) => 50,
        _ => 0,
    }
}

impl Ruleset {
    /// Those of nf_tables. `interfaces` are those whose membership in sets of names counts.
    pub fn bases(&self, network: &Network, interfaces: &[IfName]) -> Vec<Base> {
        let foreign = self.chains.iter().filter(|chain| {
            chain.hook.is_some() && chain.table.name != OWNER && !self.dormant.contains(&chain.table)
        });
        let mut read: BTreeMap<&Table, Rc<Chains>> = BTreeMap::new();
        let mut bases = Vec::new();
        for chain in foreign {
            let Some(hook) = &chain.hook else { continue };
            let chains = read
                .entry(&chain.table)
                .or_insert_with(|| Rc::new(self.whole(&chain.table, network, interfaces)));
            bases.push(Base {
                layer: layer(chain.table.family, hook.point),
                point: point(hook.point),
                family: match chain.table.family {
                    TableFamily::Ip => Some(Family::V4),
                    TableFamily::Ip6 => Some(Family::V6),
                    _ => None,
                },
                devices: chain.devices.clone(),
                priority: hook.priority,
                translates: hook.kind == Kind::Nat,
                policy_drops: hook.policy == Policy::Drop,
                owner: Owner::Nft(chain.table.to_string()),
                chain: chain.name.clone(),
                chains: Rc::clone(chains),
            });
        }
        bases
    }

    fn whole(&self, table: &Table, network: &Network, interfaces: &[IfName]) -> Chains {
        let mut chains = self.chains_of(table, interfaces);
        for (name, rules) in &mut chains.rules {
            let read = self.rules_of(table, name);
            *rules = read.iter().map(|rule| seen_with_ports(table.family, rule)).collect();
        }
        for rule in chains.rules.values_mut().flatten() {
            with_names(rule, network);
        }
        chains
    }

    /// A rule on that base chain, or behind it, as text with its handle.
    pub fn rule_at(&self, table: &str, spot: &Spot) -> Option<RuleInfo> {
        let table = self.tables.iter().find(|known| known.to_string() == table)?;
        self.rules_of(table, &spot.chain).into_iter().nth(spot.index)
    }

    /// Tables of ours whose chains see no packet.
    pub fn dormant_tables(&self) -> Vec<String> {
        self.dormant.iter().filter(|table| table.name == OWNER).map(ToString::to_string).collect()
    }
}

/// What a rule says by index it is read by name.
fn with_names(rule: &mut Rule, network: &Network) {
    for condition in &mut rule.conditions {
        if let Condition::Index { direction, index, negated } = *condition {
            let name = network.name_of(index);
            *condition = Condition::Interface { direction, name, prefix: false, negated };
        }
    }
}

fn layer(family: TableFamily, point: HookPoint) -> Layer {
    match family {
        TableFamily::Netdev => Layer::Device,
        TableFamily::Inet if point == HookPoint::Ingress => Layer::Device,
        TableFamily::Bridge => Layer::Bridge,
        TableFamily::Arp => Layer::Arp,
        TableFamily::Inet | TableFamily::Ip | TableFamily::Ip6 => Layer::Network,
    }
}

fn point(point: HookPoint) -> Point {
    match point {
        HookPoint::Ingress => Point::Ingress,
        HookPoint::Prerouting => Point::Prerouting,
        HookPoint::Input => Point::Input,
        HookPoint::Forward => Point::Forward,
        HookPoint::Output => Point::Output,
        HookPoint::Postrouting => Point::Postrouting,
        HookPoint::Egress => Point::Egress,
    }
}

/// The chains of one table of the old x_tables, of which that is the listing.
pub fn legacy_bases(family: Family, table: &str, listing: &str) -> Vec<Base> {
    let (chains, dropping) = legacy::parse_table(listing);
    let chains = Rc::new(chains);
    let points = [
        ("PREROUTING", Point::Prerouting),
        ("INPUT", Point::Input),
        ("FORWARD", Point::Forward),
        ("OUTPUT", Point::Output),
        ("POSTROUTING", Point::Postrouting),
    ];
    let there = points.into_iter().filter(|(name, _)| chains.rules.contains_key(*name));
    let base = |(name, point): (&str, Point)| Base {
        layer: Layer::Network,
        point,
        family: Some(family),
        devices: Vec::new(),
        priority: legacy_priority(table, point),
        translates: table == "nat",
        policy_drops: dropping.contains(name),
        owner: Owner::Legacy(family, table.to_owned()),
        chain: name.to_owned(),
        chains: Rc::clone(&chains),
    };
    there.map(base).collect()
}
