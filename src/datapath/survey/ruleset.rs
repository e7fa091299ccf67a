//! Every table, chain and rule of the packet filter in a few dumps, and what they say about our networks.
//!
//! Knows what ours looks like and reads what others wrote; nothing here judges. Reads only.

mod bases;
mod foreign;
mod listing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

pub use bases::legacy_bases;
pub use foreign::{AddressRule, ForeignPort};

use crate::datapath::firewall::observe::{forward_table, is_foreign};
use crate::datapath::firewall::passage::ForwardTable;
use crate::datapath::firewall::way::{Chains, Condition, Spot};
use crate::datapath::firewall::{ChainName, accepts, rules as forward};
use crate::datapath::hostports::{Entry, Mapping, tables};
use crate::datapath::mark::OWNER;
use crate::datapath::rules;
use crate::kernel::nft::{self, ChainInfo, Datum, PlacedRule, RuleInfo, Table, TableFamily, TableInfo};
use crate::kernel::{self, NetfilterSocket};
use crate::net::{Family, IfName, Mac};

/// The packet filter of the node.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    tables: Vec<Table>,
    chains: Vec<ChainInfo>,
    rules: Vec<PlacedRule>,
    /// Elements of `hostports` and `hostports_at` with their comments.
    pub mappings: Vec<(Mapping, String)>,
    /// Interfaces in our sets, by family and name of the set.
    interfaces: BTreeSet<(Family, &'static str, IfName)>,
    /// Pods whose clients on the node are masqueraded: those get through by 127.0.0.1.
    pub local_clients: BTreeSet<IpAddr>,
    spoof_allowed: Vec<(IfName, Mac)>,
    /// Tables that only their maker may change.
    owned: Vec<Table>,
    /// Tables whose chains see no packet.
    dormant: Vec<Table>,
    /// Sets of interfaces in tables of others that stand on a hook.
    foreign_names: BTreeMap<(Table, String), BTreeSet<IfName>>,
}

impl Ruleset {
    pub fn observe() -> kernel::Result<Self> {
        let socket = &mut NetfilterSocket::open()?;
        let tables = nft::tables_with_info(socket)?;
        let those = |which: fn(&TableInfo) -> bool| {
            tables.iter().filter(|(_, info)| which(info)).map(|(table, _)| table.clone()).collect()
        };
        let mut ruleset = Self {
            owned: those(|info| info.owned),
            dormant: those(|info| info.dormant),
            tables: tables.iter().map(|(table, _)| table.clone()).collect(),
            chains: nft::chains(socket, None)?,
            rules: nft::all_rules(socket)?,
            ..Self::default()
        };
        for family in Family::BOTH.into_iter().filter(|family| ruleset.has_table(*family)).collect::<Vec<_>>()
        {
            ruleset.read_elements(socket, family)?;
        }
        let bridge = rules::spoof_table();
        if ruleset.tables.contains(&bridge) {
            for element in nft::elements(socket, &bridge, &rules::spoof_allowed())? {
                if let [Datum::IfName(port), Datum::Ether(mac)] = element.key.as_slice() {
                    ruleset.spoof_allowed.push((port.clone(), *mac));
                }
            }
        }
        let foreign = ruleset.chains.iter().filter(|chain| chain.hook.is_some() && chain.table.name != OWNER);
        let filtering: BTreeSet<_> = foreign.map(|chain| chain.table.clone()).collect();
        for table in &filtering {
            let own = ruleset.rules.iter_mut().filter(|placed| placed.table == *table);
            nft::fill_braces(socket, table, own.map(|placed| &mut placed.rule))?;
        }
        ruleset.read_foreign_names(socket, &filtering)?;
        Ok(ruleset)
    }

    fn read_foreign_names(
        &mut self,
        socket: &mut NetfilterSocket,
        tables: &BTreeSet<Table>,
    ) -> kernel::Result<()> {
        let foreign = self.rules.iter().filter(|placed| tables.contains(&placed.table));
        let mut sets = BTreeSet::new();
        for placed in foreign {
            for condition in accepts::seen(placed.table.family, &placed.rule).conditions {
                if let Condition::Member { set, .. } = condition {
                    sets.insert((placed.table.clone(), set));
                }
            }
        }
        for (table, set) in sets {
            let elements = nft::elements(socket, &table, &nft::Set::new(&set, &[nft::DataType::IfName]))?;
            let names = elements.iter().filter_map(|element| match element.key.as_slice() {
                [Datum::IfName(name)] => Some(name.clone()),
                _ => None,
            });
            let names = names.collect();
            self.foreign_names.insert((table, set), names);
        }
        Ok(())
    }

    fn read_elements(&mut self, socket: &mut NetfilterSocket, family: Family) -> kernel::Result<()> {
        let table = tables::table(family);
        for map in [tables::hostports(family), tables::hostports_at(family)] {
            for element in nft::elements(socket, &table, &map)? {
                let comment = element.comment.as_ref().map(|comment| comment.as_str().to_owned());
                let mapping = tables::mapping_of(&element);
                self.mappings.extend(mapping.map(|mapping| (mapping, comment.unwrap_or_default())));
            }
        }
        for element in nft::elements(socket, &table, &tables::set_of(&Entry::LocalClients(any(family))))? {
            if let [Datum::Address(pod)] = element.key.as_slice() {
                self.local_clients.insert(*pod);
            }
        }
        for (name, set) in [("pod_links", tables::pod_links()), ("clamped", forward::clamped_set())] {
            for element in nft::elements(socket, &table, &set)? {
                if let [Datum::IfName(interface)] = element.key.as_slice() {
                    self.interfaces.insert((family, name, interface.clone()));
                }
            }
        }
        Ok(())
    }

    /// Whether our table of the family is there.
    pub fn has_table(&self, family: Family) -> bool {
        self.tables.contains(&tables::table(family))
    }

    /// Whether somebody has a table of that name, in whatever family.
    pub fn has_table_of(&self, name: &str) -> bool {
        self.tables.iter().any(|table| table.name == name)
    }

    /// Whether a table of that name has a chain whose name begins so: what tells whose it is.
    pub fn has_chain_like(&self, table: &str, beginning: &str) -> bool {
        self.chains.iter().any(|chain| chain.table.name == table && chain.name.starts_with(beginning))
    }

    fn rules_of(&self, table: &Table, chain: &str) -> Vec<RuleInfo> {
        let here = |placed: &&PlacedRule| placed.table == *table && placed.chain == chain;
        self.rules.iter().filter(here).map(|placed| placed.rule.clone()).collect()
    }

    fn foreign_chains(&self) -> impl Iterator<Item = &ChainInfo> {
        let awake = self.chains.iter().filter(|chain| !self.dormant.contains(&chain.table));
        awake.filter(|chain| is_foreign(chain, &Family::BOTH))
    }

    /// Chains of somebody else on the forward hook with all of their tables, as an interface of ours meets them, and
    /// whether only their maker may change them.
    pub fn forward_tables(&self, interface: &IfName) -> Vec<(ForwardTable, bool)> {
        let seen = self.foreign_chains().filter_map(|chain| {
            let mut table = forward_table(chain)?;
            table.chains = self.chains_of(&chain.table, std::slice::from_ref(interface));
            Some((table, self.owned.contains(&chain.table)))
        });
        seen.collect()
    }

    fn chains_of(&self, table: &Table, interfaces: &[IfName]) -> Chains {
        let mut chains = Chains { whole: true, ..Chains::default() };
        for chain in self.chains.iter().filter(|chain| chain.table == *table) {
            chains.rules.insert(chain.name.clone(), Vec::new());
            chains.uses.insert(chain.name.clone(), chain.uses);
        }
        for placed in self.rules.iter().filter(|placed| placed.table == *table) {
            let rules = chains.rules.entry(placed.chain.clone()).or_default();
            rules.push(accepts::seen(table.family, &placed.rule));
        }
        let sets = self.foreign_names.iter().filter(|((of, _), _)| of == table);
        for ((_, set), names) in sets {
            let each = interfaces.iter().map(|name| ((set.clone(), name.clone()), names.contains(name)));
            chains.members.extend(each);
        }
        chains
    }

    /// A rule of that table as text, with its handle.
    pub fn rule_of(&self, base: &ChainName, spot: &Spot) -> Option<(String, u64)> {
        let table = accepts::foreign_table(base);
        let rule = self.rules_of(&table, &spot.chain).into_iter().nth(spot.index)?;
        Some((rule.text(), rule.handle))
    }

    /// Tables of `iptables-nft` that have rules, such as `ip filter`.
    pub fn iptables_tables(&self) -> Vec<String> {
        let names = ["filter", "nat", "mangle", "raw", "security"];
        let mut found: Vec<String> = self
            .rules
            .iter()
            .filter(|placed| matches!(placed.table.family, TableFamily::Ip | TableFamily::Ip6))
            .filter(|placed| names.contains(&placed.table.name.as_str()))
            .filter(|placed| self.chains.iter().any(|chain| is_iptables_hook(chain, &placed.table)))
            .map(|placed| placed.table.to_string())
            .collect();
        found.dedup();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Ports that rules of others send elsewhere.
    pub fn foreign_ports(&self) -> Vec<ForeignPort> {
        let foreign = self.rules.iter().filter(|placed| placed.table.name != OWNER);
        foreign.filter_map(foreign::port).collect()
    }

    /// Rules of the Go plugins that name addresses of pods.
    pub fn go_rules(&self) -> Vec<AddressRule> {
        self.rules.iter().filter_map(foreign::go_rule).collect()
    }
}

/// Only its family counts.
fn any(family: Family) -> IpAddr {
    family.default_route().ip()
}

fn is_iptables_hook(chain: &ChainInfo, table: &Table) -> bool {
    let names = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    chain.table == *table && chain.hook.is_some() && names.contains(&chain.name.as_str())
}
