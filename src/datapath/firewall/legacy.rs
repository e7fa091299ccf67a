//! The words of iptables: what a listing of the old x_tables says, which netlink does not reach, and which commands change a
//! table.
//!
//! A listing is only asked for where the legacy filter table is loaded. A node whose `iptables` is the one on top of
//! nf_tables never gets here but for the commands.
//!
//! Pure.

use std::collections::BTreeSet;
use std::path::Path;

use super::ChainName;
use super::passage::{ACCEPTS, Change, ForwardTable, comment, recognized};
use super::way::{Chains, Condition, Direction, End, Maker, Rule, Verdict, track};
use crate::net::{Family, IfName};
use crate::text;

const BASE: &str = "FORWARD";
/// Targets behind which the next rule follows.
pub(super) const TARGETS_THAT_GO_ON: [&str; 12] =
    ["LOG", "NFLOG", "MARK", "CONNMARK", "TCPMSS", "CT", "CLASSIFY", "DSCP", "TOS", "TRACE", "AUDIT", "SET"];
/// Modules that single out a few packets, where they are not negated. Others could be true of all.
pub(super) const NARROW_MODULES: [&str; 22] = [
    "tcp",
    "udp",
    "sctp",
    "icmp",
    "icmp6",
    "ipv6-icmp",
    "multiport",
    "iprange",
    "mac",
    "limit",
    "hashlimit",
    "recent",
    "string",
    "set",
    "time",
    "u32",
    "connlimit",
    "owner",
    "cgroup",
    "socket",
    "physdev",
    // Those that have no way back.
    "rpfilter",
];

pub fn program(family: Family) -> &'static str {
    match family {
        Family::V4 => "iptables-legacy",
        Family::V6 => "ip6tables-legacy",
    }
}

/// Where the kernel names the tables that are loaded, for the namespace of whoever reads (net/netfilter/x_tables.c).
pub fn loaded_tables(family: Family) -> &'static Path {
    Path::new(match family {
        Family::V4 => "/proc/net/ip_tables_names",
        Family::V6 => "/proc/net/ip6_tables_names",
    })
}

/// The accepts of one interface, as arguments behind the name of the chain.
pub fn accepts(interface: &IfName) -> [Vec<String>; ACCEPTS] {
    let comment = comment(interface);
    let rule = |matches: &[&str]| {
        let rest = ["-m", "comment", "--comment", &comment, "-j", "ACCEPT"];
        matches.iter().chain(&rest).map(|word| (*word).to_owned()).collect()
    };
    let name = interface.as_str();
    let into = |states| rule(&["-o", name, "-m", "conntrack", "--ctstate", states]);
    [rule(&["-i", name]), into("RELATED,ESTABLISHED"), into("DNAT")]
}

/// As a person types it: a comment between `"`, as iptables lists it, and whatever else a shell would take apart quoted.
pub fn typed(program: &str, arguments: &[String]) -> String {
    let is_comment = |word: &str| word.contains(' ') && word.split(' ').all(|part| text::typed(part) == part);
    let words =
        arguments.iter().map(|word| if is_comment(word) { format!("\"{word}\"") } else { text::typed(word) });
    std::iter::once(program.to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// The arguments of the commands that make a change, in their order. Rules are counted from 1, as they stand by then.
pub fn commands(interface: &IfName, change: &Change) -> Vec<Vec<String>> {
    let accepts = accepts(interface);
    let mut commands = Vec::new();
    for removed in &change.remove {
        let rule = accepts[removed.accept].iter().cloned();
        commands.push(["-D".to_owned(), removed.chain.clone()].into_iter().chain(rule).collect());
    }
    for (at, (accept, place)) in change.insert.iter().enumerate() {
        let operation = match place.before {
            None => vec!["-A".to_owned(), place.chain.clone()],
            Some((_, index)) => {
                let gone = change.remove.iter();
                let gone = gone.filter(|rule| rule.chain == place.chain && rule.index < index).count();
                let come = change.insert[..at].iter().filter(|(_, other)| {
                    other.chain == place.chain && other.before.is_some_and(|(_, before)| before <= index)
                });
                let number = index + 1 + come.count() - gone;
                vec!["-I".to_owned(), place.chain.clone(), number.to_string()]
            }
        };
        commands.push(operation.into_iter().chain(accepts[*accept].iter().cloned()).collect());
    }
    commands
}

/// What a person types to let the interface's packets through a chain that nobody could look at.
pub fn blind_commands(program: &str, interface: &IfName) -> String {
    let rule = |rule: &Vec<String>| {
        typed(
            program,
            &["-A".to_owned(), BASE.to_owned()].into_iter().chain(rule.iter().cloned()).collect::<Vec<_>>(),
        )
    };
    accepts(interface).iter().map(rule).collect::<Vec<_>>().join("; ")
}

/// What `-S` printed of the filter table.
pub fn parse(family: Family, listing: &str) -> ForwardTable {
    let (chains, dropping) = parse_table(listing);
    let base = ChainName { family: Some(family), table: "filter".to_owned(), chain: BASE.to_owned() };
    ForwardTable { base, policy_drops: dropping.contains(BASE), chains }
}

/// What `-S` printed of any table, and the base chains whose policy drops.
pub fn parse_table(listing: &str) -> (Chains, BTreeSet<String>) {
    let mut chains = Chains { whole: true, ..Chains::default() };
    let mut dropping = BTreeSet::new();
    for line in listing.lines() {
        let words = split(line);
        match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["-P", chain, policy, ..] => {
                if *policy != "ACCEPT" {
                    dropping.insert((*chain).to_owned());
                }
                chains.rules.entry((*chain).to_owned()).or_default();
            }
            ["-N", chain] => {
                chains.rules.entry((*chain).to_owned()).or_default();
            }
            ["-A", chain, rule @ ..] => {
                chains.rules.entry((*chain).to_owned()).or_default().push(parse_rule(rule));
            }
            _ => {}
        }
    }
    // What is no chain is a target that a module brings.
    let known: Vec<String> = chains.rules.keys().cloned().collect();
    for rule in chains.rules.values_mut().flatten() {
        if matches!(&rule.verdict, Verdict::Jump(to) if !known.contains(to)) {
            rule.verdict = Verdict::Undecided;
        }
    }
    (chains, dropping)
}

/// The arguments of the commands that take the accepts of an interface away, wherever in the table they stand.
pub fn removals(listing: &str, interface: &IfName) -> Vec<Vec<String>> {
    let comment = comment(interface);
    let ours = |words: &Vec<String>| {
        words.first().is_some_and(|word| word == "-A")
            && words.windows(2).any(|pair| pair[0] == "--comment" && pair[1] == comment)
    };
    let rules = listing.lines().map(split).filter(ours);
    rules.map(|words| std::iter::once("-D".to_owned()).chain(words.into_iter().skip(1)).collect()).collect()
}

/// The line of a rule in a listing, by its chain and its place there.
pub fn line<'a>(listing: &'a str, chain: &str, index: usize) -> Option<&'a str> {
    let beginning = format!("-A {chain} ");
    listing.lines().filter(|line| line.starts_with(&beginning)).nth(index)
}

/// Words as a shell would take them apart: iptables quotes with `"`, and escapes with `\` in there.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted, mut escaped) = (Vec::new(), None::<String>, false, false);
    for c in line.chars() {
        match c {
            c if escaped => {
                word.get_or_insert_default().push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && !quoted => words.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

fn parse_rule(words: &[&str]) -> Rule {
    let mut rule =
        Rule { handle: 0, maker: Maker::Other, conditions: Vec::new(), verdict: Verdict::Continue };
    let mut words = words.iter().copied().peekable();
    let (mut negated, mut module, mut comment) = (false, "", None);
    while let Some(word) = words.next() {
        let vague = if negated { Condition::Obscure } else { Condition::Narrow };
        match word {
            "!" => {
                negated = true;
                continue;
            }
            "-i" | "-o" => {
                let direction = if word == "-i" { Direction::In } else { Direction::Out };
                let name = words.next().unwrap_or_default();
                let (name, prefix) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
                let name = name.to_owned();
                rule.conditions.push(Condition::Interface { direction, name, prefix, negated });
            }
            "-s" | "-d" => {
                let end = if word == "-s" { End::Source } else { End::Destination };
                let network = words.next().and_then(|text| text.parse().ok());
                let address = network.map(|network| Condition::Address { end, network, negated });
                rule.conditions.push(address.unwrap_or(vague));
            }
            "-p" => {
                let number = protocol(words.next().unwrap_or_default());
                let protocol = number.map(|number| Condition::Protocol { number, negated });
                rule.conditions.push(protocol.unwrap_or(vague));
            }
            "--dport" | "--sport" if ["tcp", "udp"].contains(&module) => {
                let end = if word == "--sport" { End::Source } else { End::Destination };
                let port = words.next().and_then(ports);
                let port = port.map(|(first, last)| Condition::Port { end, first, last, negated });
                rule.conditions.push(port.unwrap_or(vague));
            }
            "-m" => module = words.next().unwrap_or_default(),
            "--ctstate" | "--state" => {
                rule.conditions.push(states(words.next().unwrap_or_default(), negated));
            }
            "--comment" => comment = words.next(),
            "--mark" if module == "mark" => {
                let mark = words.next().and_then(bits);
                let mark = mark.map(|(value, mask)| Condition::Mark { mask, value, negated });
                rule.conditions.push(mark.unwrap_or(Condition::Obscure));
            }
            "--dst-type" if words.peek() == Some(&"LOCAL") => {
                rule.conditions.push(Condition::LocalDestination { negated });
            }
            "--set-xmark" if matches!(rule.verdict, Verdict::Continue) => {
                let mark = words.next().and_then(bits);
                rule.verdict = mark.map_or(Verdict::Continue, |(value, mask)| Verdict::Mark { mask, value });
            }
            "-j" | "-g" => {
                let target = words.next().unwrap_or_default();
                rule.verdict = verdict(word, target);
                if target != "MARK" {
                    break;
                }
            }
            option if option.starts_with("--") => {
                let known = NARROW_MODULES.contains(&module);
                rule.conditions.push(if known { vague } else { Condition::Obscure });
            }
            // The value of an option.
            _ => continue,
        }
        negated = false;
    }
    rule.conditions.dedup();
    recognized(rule, comment)
}

/// The numbers of those that somebody filters by; others are one of many.
fn protocol(name: &str) -> Option<u8> {
    Some(match name {
        "icmp" => 1,
        "tcp" => 6,
        "udp" => 17,
        "ipv6-icmp" | "icmpv6" => 58,
        number => number.parse().ok()?,
    })
}

/// `53`, or `1024:65535`.
fn ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// `value/mask` in hexadecimal, as iptables lists them.
fn bits(text: &str) -> Option<(u32, u32)> {
    let number = |text: &str| u32::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    match text.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(text)?, u32::MAX)),
    }
}

fn states(list: &str, negated: bool) -> Condition {
    let mut bits = 0;
    for state in list.split(',') {
        bits |= match state {
            "INVALID" => 1,
            "ESTABLISHED" => track::ESTABLISHED,
            "RELATED" => track::RELATED,
            "NEW" => track::NEW,
            "SNAT" => 1 << 6,
            "DNAT" => track::DNAT,
            "UNTRACKED" => 1 << 8,
            _ => return Condition::Obscure,
        };
    }
    Condition::Track { bits, negated }
}

fn verdict(option: &str, target: &str) -> Verdict {
    match target {
        "ACCEPT" => Verdict::Accept,
        "DROP" | "REJECT" => Verdict::Drop,
        "RETURN" => Verdict::Return,
        target if TARGETS_THAT_GO_ON.contains(&target) => Verdict::Continue,
        "QUEUE" | "NFQUEUE" | "TARPIT" | "STEAL" | "DNAT" | "SNAT" | "MASQUERADE" | "REDIRECT" => {
            Verdict::Undecided
        }
        chain if option == "-g" => Verdict::Goto(chain.to_owned()),
        chain => Verdict::Jump(chain.to_owned()),
    }
}
