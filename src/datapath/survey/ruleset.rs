//! Every table, chain and rule of the packet filter in a few dumps, and what they say about our networks.
//!
//! Knows what ours looks like and reads what others wrote; nothing here judges. Reads only.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::datapath::firewall::observe::is_foreign;
use crate::datapath::firewall::{ForwardChain, rules as forward};
use crate::datapath::hostports::{Entry, Mapping, Protocol, missing, tables};
use crate::datapath::mark::OWNER;
use crate::datapath::rules;
use crate::kernel::nft::{self, ChainInfo, Datum, Instruction, PlacedRule, RuleInfo, Table, TableFamily};
use crate::kernel::{self, Socket};
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
}

/// Somebody else's rule that sends a port of the node elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignPort {
    /// `None`: whatever has ports.
    pub protocol: Option<Protocol>,
    pub port: u16,
    /// `None` in `inet`.
    pub family: Option<Family>,
    /// `ip nat DOCKER`.
    pub place: String,
}

/// A rule of somebody else that names addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressRule {
    /// `ip nat CNI-0a1b`.
    pub place: String,
    pub table: String,
    pub chain: String,
    pub handle: u64,
    pub family: &'static str,
    pub addresses: Vec<IpAddr>,
}

impl Ruleset {
    pub fn observe() -> kernel::Result<Self> {
        let socket = &mut Socket::netfilter()?;
        let mut ruleset = Self {
            tables: nft::tables(socket)?,
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
        let filtering: BTreeSet<_> = ruleset.foreign_chains().map(|chain| chain.table.name.clone()).collect();
        for table in ruleset.tables.clone() {
            if filtering.contains(&table.name) && nft::table(socket, &table)?.is_some_and(|info| info.owned) {
                ruleset.owned.push(table);
            }
        }
        Ok(ruleset)
    }

    fn read_elements(&mut self, socket: &mut Socket, family: Family) -> kernel::Result<()> {
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
        for (name, set) in [
            ("pod_links", tables::pod_links()),
            ("bridges", forward::inside_set()),
            ("clamped", forward::clamped_set()),
        ] {
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

    /// Whether packets of the subnet leave with the node's address.
    pub fn masquerades(&self, network: &str, subnet: IpNetwork) -> bool {
        let (table, chain) = rules::masquerade_place(subnet);
        let rule = rules::masquerade_rule(network, subnet);
        self.rules_of(&table, chain).iter().any(|has| has.is(table.family, &rule))
    }

    /// The rules that our chains for host ports lack, as `nft` would add them.
    pub fn lacking_for_ports(&self, family: Family) -> Vec<String> {
        let table = tables::table(family);
        let chains = &mut |chain: &str| Ok(self.rules_of(&table, chain));
        let commands = missing::base(chains, family).unwrap_or_default();
        commands.iter().filter(|command| matches!(command, nft::Command::AddRule { .. })).map(words).collect()
    }

    /// What is missing of the chain that keeps strangers' packets from being forwarded, once one of its kind stands.
    pub fn lacking_for_guard(&self, family: Family, interface: &IfName) -> Vec<String> {
        self.lacking_for(family, interface, forward::GUARD, "bridges")
    }

    /// The same of the chain that keeps TCP segments to what the route carries.
    pub fn lacking_for_clamp(&self, family: Family, interface: &IfName) -> Vec<String> {
        self.lacking_for(family, interface, forward::CLAMP, "clamped")
    }

    /// The rules of a chain that stands, and the interface in its set.
    fn lacking_for(&self, family: Family, interface: &IfName, chain: &str, set: &'static str) -> Vec<String> {
        let table = tables::table(family);
        if !self.chains.iter().any(|known| known.table == table && known.name == chain) {
            return Vec::new();
        }
        let mut lacking = Vec::new();
        if !self.interfaces.contains(&(family, set, interface.clone())) {
            lacking.push(format!("add element {table} {set} {{ {interface} }}"));
        }
        let has = self.rules_of(&table, chain);
        let transaction = if chain == forward::GUARD {
            // Kernels before 5.6 have the guard without its first rule.
            forward::guard_transaction(family, interface, true, false)
        } else {
            forward::clamp_transaction(family, interface, true)
        };
        lacking.extend(transaction.commands.iter().filter_map(|command| match command {
            nft::Command::AddRule { rule, .. } if !has.iter().any(|has| has.is(table.family, rule)) => {
                Some(words(command))
            }
            _ => None,
        }));
        lacking
    }

    pub fn has_guard(&self, family: Family) -> bool {
        let table = tables::table(family);
        self.chains.iter().any(|chain| chain.table == table && chain.name == forward::GUARD)
    }

    pub fn has_clamp(&self, family: Family) -> bool {
        let table = tables::table(family);
        self.chains.iter().any(|chain| chain.table == table && chain.name == forward::CLAMP)
    }

    /// Whether the kernel knows the interface as one that leads to pods, for limits of ports.
    pub fn knows_pod_link(&self, family: Family, interface: &IfName) -> bool {
        self.interfaces.contains(&(family, "pod_links", interface.clone()))
    }

    /// Whether the port's frames are dropped unless they carry this MAC.
    pub fn checks_source(&self, port: &IfName, mac: Mac) -> bool {
        let table = rules::spoof_table();
        let rule = rules::spoof_rule();
        self.rules_of(&table, rules::SPOOF_CHECK).iter().any(|has| has.is(table.family, &rule))
            && self.spoof_allowed.contains(&(port.clone(), mac))
    }

    /// Where a port of the node leads to, by the map that holds such keys.
    pub fn element(&self, wanted: &Mapping) -> Option<&(Mapping, String)> {
        self.mappings.iter().find(|(mapping, _)| Entry::Port(*mapping).has_key_of(&Entry::Port(*wanted)))
    }

    fn foreign_chains(&self) -> impl Iterator<Item = &ChainInfo> {
        self.chains.iter().filter(|chain| is_foreign(chain, &Family::BOTH))
    }

    /// Chains of somebody else on the forward hook, seen from an interface of ours, and whether only their maker may
    /// change them.
    pub fn forward_chains(&self, interface: &IfName) -> Vec<(ForwardChain, bool)> {
        let seen = self.foreign_chains().filter_map(|chain| {
            let rules = self.rules_of(&chain.table, &chain.name);
            let seen = crate::datapath::firewall::observe::seen_from(chain, interface, &rules)?;
            Some((seen, self.owned.contains(&chain.table)))
        });
        seen.collect()
    }

    /// Whether a rule of that table, other than ours, accepts packets by the interface's name: somebody has decided.
    pub fn names_interface(&self, table: &str, interface: &IfName) -> bool {
        let quoted = format!("\"{interface}\"");
        let ours = format!("{OWNER} {interface}");
        self.rules.iter().any(|placed| {
            placed.table.name == table
                && placed.rule.text.contains(&quoted)
                && placed.rule.comment.as_ref().is_none_or(|comment| comment.as_str() != ours)
                && placed.rule.text.ends_with("accept")
        })
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
        foreign.filter_map(foreign_port).collect()
    }

    /// Rules of the Go plugins that name addresses of pods.
    pub fn go_rules(&self) -> Vec<AddressRule> {
        let theirs = self.rules.iter().filter(|placed| {
            matches!(placed.table.name.as_str(), "cni_plugins_masquerade" | "cni_hostport")
                || placed.chain.starts_with("CNI-")
                || jumps_to_go(&placed.rule)
        });
        theirs
            .map(|placed| AddressRule {
                place: format!("{} {}", placed.table, placed.chain),
                table: placed.table.name.clone(),
                chain: placed.chain.clone(),
                handle: placed.rule.handle,
                family: match placed.table.family {
                    TableFamily::Inet => "inet",
                    TableFamily::Ip => "ip",
                    TableFamily::Ip6 => "ip6",
                    TableFamily::Bridge => "bridge",
                },
                addresses: addresses(&placed.rule),
            })
            .filter(|rule| !rule.addresses.is_empty())
            .collect()
    }
}

/// Only its family counts.
fn any(family: Family) -> IpAddr {
    family.default_route().ip()
}

fn words(command: &nft::Command) -> String {
    command.to_string()
}

fn is_iptables_hook(chain: &ChainInfo, table: &Table) -> bool {
    let names = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    chain.table == *table && chain.hook.is_some() && names.contains(&chain.name.as_str())
}

fn jumps_to_go(rule: &RuleInfo) -> bool {
    rule.instructions.iter().any(|instruction| match instruction {
        Instruction::Verdict { chain: Some(chain), .. } => chain.starts_with("CNI-"),
        _ => false,
    })
}

/// A rule with one destination port and an end that rewrites the destination.
fn foreign_port(placed: &PlacedRule) -> Option<ForeignPort> {
    let instructions = &placed.rule.instructions;
    let rewrites = instructions.iter().any(|instruction| match instruction {
        Instruction::Dnat { .. } => true,
        Instruction::Other { name, data } => match name.as_str() {
            // A translation of sources that looks at one destination port is nobody's habit.
            "redir" | "nat" => true,
            "target" => [&b"DNAT\0"[..], b"REDIRECT\0"].iter().any(|word| contains(data, word)),
            _ => false,
        },
        _ => false,
    });
    if !rewrites {
        return None;
    }
    let mut protocol = None;
    let mut port = None;
    let mut loaded = None;
    for instruction in instructions {
        match instruction {
            Instruction::Payload { base: 2, offset: 2, length: 2, .. } => loaded = Some(What::Port),
            // `ip protocol`, `ip6 nexthdr`.
            Instruction::Payload { base: 1, offset: 9 | 6, length: 1, .. } => loaded = Some(What::Protocol),
            // NFT_META_L4PROTO
            Instruction::Meta { key: 16, .. } => loaded = Some(What::Protocol),
            Instruction::Compare { op, data, .. } if op.0 == 0 => match (loaded.take(), data.as_slice()) {
                (Some(What::Port), [high, low]) => port = Some(u16::from_be_bytes([*high, *low])),
                (Some(What::Protocol), [number]) => protocol = Some(*number),
                _ => {}
            },
            // `struct xt_tcp` and `struct xt_udp`, linux/netfilter/xt_tcpudp.h: two source ports, two destination ports.
            Instruction::XtMatch { name, info, .. } if matches!(name.as_str(), "tcp" | "udp") => {
                let at = |at: usize| Some(u16::from_ne_bytes([*info.get(at)?, *info.get(at + 1)?]));
                port = at(4).filter(|first| at(6) == Some(*first)).or(port);
                protocol = Protocol::from_name(name).map(Protocol::number);
            }
            _ => loaded = None,
        }
    }
    Some(ForeignPort {
        protocol: match protocol {
            None => None,
            Some(number) => Some(Protocol::ALL.into_iter().find(|known| known.number() == number)?),
        },
        port: port?,
        family: match placed.table.family {
            TableFamily::Ip => Some(Family::V4),
            TableFamily::Ip6 => Some(Family::V6),
            TableFamily::Inet | TableFamily::Bridge => None,
        },
        place: format!("{} {}", placed.table, placed.chain),
    })
}

enum What {
    Port,
    Protocol,
}

fn contains(data: &[u8], word: &[u8]) -> bool {
    data.windows(word.len()).any(|window| window == word)
}

/// Single addresses that a rule compares with.
fn addresses(rule: &RuleInfo) -> Vec<IpAddr> {
    let mut found = Vec::new();
    let mut loaded = false;
    for instruction in &rule.instructions {
        match instruction {
            Instruction::Payload { base: 1, offset: 12 | 16, length: 4, .. }
            | Instruction::Payload { base: 1, offset: 8 | 24, length: 16, .. } => loaded = true,
            Instruction::Bitwise { mask, .. } if loaded => loaded = mask.iter().all(|byte| *byte == 0xff),
            Instruction::Compare { data, .. } if loaded => {
                found.extend(<[u8; 4]>::try_from(data.as_slice()).ok().map(IpAddr::from));
                found.extend(<[u8; 16]>::try_from(data.as_slice()).ok().map(IpAddr::from));
                loaded = false;
            }
            _ => loaded = false,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::nft::Instruction as I;

    fn placed(instructions: Vec<I>) -> PlacedRule {
        let rule = RuleInfo { handle: 7, comment: None, instructions, text: String::new() };
        PlacedRule { table: Table::new(TableFamily::Ip, "nat"), chain: "DOCKER".to_owned(), rule }
    }

    fn load(base: u32, offset: u32, length: u32) -> I {
        I::Payload { base, offset, length, register: 1 }
    }

    fn is(data: &[u8]) -> I {
        I::Compare { register: 1, op: nft::Comparison(0), data: data.to_vec() }
    }

    fn other(name: &str, data: &[u8]) -> I {
        I::Other { name: name.to_owned(), data: data.to_vec() }
    }

    #[test]
    fn ports_that_others_send_elsewhere_are_read_in_nft_and_in_iptables() {
        let nft =
            placed(vec![load(1, 9, 1), is(&[6]), load(2, 2, 2), is(&[0x1f, 0x90]), other("redir", &[])]);
        let expected = ForeignPort {
            protocol: Some(Protocol::Tcp),
            port: 8080,
            family: Some(Family::V4),
            place: "ip nat DOCKER".to_owned(),
        };
        assert_eq!(foreign_port(&nft), Some(expected.clone()));
        let mut info = vec![0; 12];
        info[4..6].copy_from_slice(&8080u16.to_ne_bytes());
        info[6..8].copy_from_slice(&8080u16.to_ne_bytes());
        let xt = I::XtMatch { name: "tcp".to_owned(), revision: 0, info };
        assert_eq!(foreign_port(&placed(vec![xt.clone(), other("target", b"DNAT\0")])), Some(expected));
        assert_eq!(foreign_port(&placed(vec![xt, other("target", b"MASQUERADE\0")])), None);
        let source = placed(vec![load(1, 12, 4), is(&[10, 0, 0, 5]), other("nat", &[])]);
        assert_eq!(foreign_port(&source), None, "no port");
        assert_eq!(addresses(&source.rule), ["10.0.0.5".parse::<IpAddr>().unwrap()]);
    }
}
