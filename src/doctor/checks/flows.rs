//! Rules of others that drop packets of pods, on whichever hook they stand.
//!
//! Pure.

use std::collections::BTreeMap;

use super::host::routed;
use crate::datapath::firewall::flows::{Base, Blocked, Flow, Heading, Layer, Owner, Point};
use crate::datapath::firewall::legacy;
use crate::datapath::firewall::way::Rule;
use crate::doctor::check::{Check, Finding, Group as G, Need, Severity, Verdict};
use crate::doctor::evidence::Evidence;
use crate::doctor::evidence::flows::Flows;
use crate::net::{Family, IfName};
use crate::text::typed;

use Severity::{Broken, Warning};

const FLOWS: &[Need] = &[Need::Filter, Need::Attachments, Need::Network, Need::Flows];

pub(super) const CHECKS: &[Check] = &[
    G::Host.check("packet-drop", "no rule drops packets of pods on their way", Broken, FLOWS, |evidence| {
        found(evidence, is_elsewhere)
    }),
    G::Host.check("input-drop", "pods reach the node itself", Warning, FLOWS, |evidence| {
        found(evidence, is_wished)
    }),
];

/// What pods send to the node may be refused on purpose; who lets a part of it through has thought of it.
fn is_wished(base: &Base, blocked: &Blocked) -> bool {
    base.layer == Layer::Network
        && base.point == Point::Input
        && matches!(blocked.flow, Flow::PodToNode | Flow::PodToNames)
        && blocked.heading == Heading::Original
}

fn is_elsewhere(base: &Base, blocked: &Blocked) -> bool {
    !is_wished(base, blocked) && !is_forwarded(base, blocked)
}

/// Chains in which accepts of ours help have a check of their own.
pub(super) fn is_forwarded(base: &Base, _blocked: &Blocked) -> bool {
    base.layer == Layer::Network && base.point == Point::Forward
}

/// One finding for each chain: its first rule that drops, and everything that is lost there.
pub(super) fn found(evidence: &Evidence, which: fn(&Base, &Blocked) -> bool) -> Verdict {
    evidence.filter()?;
    routed(evidence)?;
    let flows = evidence.flows()?;
    let mut lost: BTreeMap<usize, Lost> = BTreeMap::new();
    let mut unsure: BTreeMap<usize, Lost> = BTreeMap::new();
    for (members, travel) in &flows.groups {
        let here = |blocked: &&Blocked| which(&flows.bases[blocked.base], blocked);
        for blocked in travel.blocked.iter().filter(here).filter(|blocked| !blocked.partly) {
            lost.entry(blocked.base).or_insert_with(|| Lost::by(blocked)).add(blocked, members);
        }
        for blocked in travel.doubts.iter().filter(here) {
            unsure.entry(blocked.base).or_insert_with(|| Lost::by(blocked)).add(blocked, members);
        }
    }
    let mut findings = Vec::new();
    for (base, lost) in &lost {
        findings.push(lost.problem(evidence, flows, &flows.bases[*base]));
    }
    for (base, doubt) in unsure.iter().filter(|(base, _)| !lost.contains_key(base)) {
        findings.push(doubt.unknown(evidence, flows, &flows.bases[*base]));
    }
    for (family, table, why) in &flows.unread {
        // The filter table has a finding of its own where forwarding is looked at.
        if table != "filter" {
            let object = format!("table {table} of {}", legacy::program(*family));
            findings.push(Finding::Unknown { object, why: why.clone() });
        }
    }
    Ok(findings)
}

struct Lost {
    first: Blocked,
    flows: Vec<(Flow, Heading)>,
    /// By their place among the evidence's.
    pods: Vec<usize>,
}

impl Lost {
    fn by(first: &Blocked) -> Self {
        Self { first: first.clone(), flows: Vec::new(), pods: Vec::new() }
    }

    fn add(&mut self, blocked: &Blocked, members: &[usize]) {
        let flow = (blocked.flow, blocked.heading);
        if !self.flows.contains(&flow) {
            self.flows.push(flow);
        }
        let new: Vec<_> = members.iter().filter(|at| !self.pods.contains(at)).copied().collect();
        self.pods.extend(new);
    }

    fn problem(&self, evidence: &Evidence, flows: &Flows, base: &Base) -> Finding {
        let cause = match &self.first.rule {
            None => "its policy is drop".to_owned(),
            Some(spot) => format!("rule \"{}\" in {} drops", rule_words(evidence, base, self), spot.chain),
        };
        let lost = self.what_is_lost();
        let (whose, beyond) = (self.whose(flows), "nothing accepts");
        let found = match &self.first.rule {
            None => format!("{cause}, and {beyond} {lost}{whose}"),
            Some(_) => format!("{cause} {lost}{whose}"),
        };
        Finding::problem(object(base), found, Remedy { base, blocked: &self.first }.text())
    }

    fn unknown(&self, evidence: &Evidence, flows: &Flows, base: &Base) -> Finding {
        let chain = self.first.rule.as_ref().map(|spot| spot.chain.clone()).unwrap_or_default();
        let why = format!(
            "could not tell: rule \"{}\" in {chain} may drop {}{}, all or a part of it: it asks for something that only the \
             packets know",
            rule_words(evidence, base, self),
            self.what_is_lost(),
            self.whose(flows),
        );
        Finding::Unknown { object: object(base), why }
    }

    fn what_is_lost(&self) -> String {
        // Who loses everything loses names, too.
        let is_part = |(flow, heading): &&(Flow, Heading)| {
            *flow == Flow::PodToNames && self.flows.contains(&(Flow::PodToNode, *heading))
        };
        let flows = self.flows.iter().filter(|flow| !is_part(flow));
        let mut words: Vec<_> = flows.map(|(flow, heading)| flow.lost(*heading)).collect();
        words.dedup();
        words.join("; ")
    }

    /// Nobody is named where it is everybody.
    fn whose(&self, flows: &Flows) -> String {
        let of_family = |family: Family| flows.pods.iter().filter(|pod| pod.family == family).count();
        let all: usize = Family::BOTH
            .into_iter()
            .map(|family| {
                let any = self.pods.iter().any(|at| flows.pods[*at].family == family);
                if any { of_family(family) } else { 0 }
            })
            .sum();
        if self.pods.len() == all {
            return String::new();
        }
        let mut names: Vec<_> = self.pods.iter().map(|at| flows.pods[*at].words.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let more = names.len().saturating_sub(3);
        names.truncate(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!(" ({}{more})", names.join(", "))
    }
}

/// `chain ip mangle PREROUTING`, or `chain PREROUTING of iptables-legacy -t mangle`.
fn object(base: &Base) -> String {
    match &base.owner {
        Owner::Nft(table) => format!("chain {table} {}", base.chain),
        Owner::Legacy(family, table) => {
            let of = if table == "filter" { String::new() } else { format!(" -t {table}") };
            format!("chain {} of {}{of}", base.chain, legacy::program(*family))
        }
    }
}

fn rule_words(evidence: &Evidence, base: &Base, lost: &Lost) -> String {
    let text = lost.first.rule.as_ref().and_then(|spot| match &base.owner {
        Owner::Nft(table) => Some(evidence.filter().ok()?.rule_at(table, spot)?.text()),
        Owner::Legacy(family, table) => {
            let listings = &evidence.node().ok()?.legacy_listings;
            let listed = listings.iter().find(|old| old.family == *family && old.table == *table)?;
            legacy::line(listed.listing.as_ref().ok()?, &spot.chain, spot.index).map(str::to_owned)
        }
    });
    text.unwrap_or_default()
}

/// What a person types.
struct Remedy<'a> {
    base: &'a Base,
    blocked: &'a Blocked,
}

/// Tables that `iptables`, `ebtables` and `arptables` make on top of nf_tables: they refuse rules in words that are not
/// theirs.
const XTABLES: [&str; 5] = ["filter", "mangle", "nat", "raw", "security"];

impl Remedy<'_> {
    /// An accept in front of what drops everything; who singles packets out is asked to let go of them.
    fn text(&self) -> String {
        let Some(spot) = &self.blocked.rule else {
            return format!("{}\nor let its owner accept it; the policy stays as it is", self.accept(None));
        };
        let rule = self.base.chains.get(&spot.chain).ok().and_then(|rules| rules.get(spot.index));
        if rule.is_some_and(Rule::is_general) && self.base.layer == Layer::Network {
            return format!(
                "{}\nor let its owner accept it in front of that rule",
                self.accept(Some((&spot.chain, spot.index)))
            );
        }
        let delete = match self.program() {
            Some(program) => format!("{program} -D {} {}", typed(&spot.chain), spot.index + 1),
            None => format!(
                "nft delete rule {} {} handle {}",
                self.table(),
                typed(&spot.chain),
                rule.map(|rule| rule.handle).unwrap_or_default()
            ),
        };
        format!("{delete}\nunless somebody means it: then what it drops stays lost")
    }

    fn table(&self) -> String {
        let (Owner::Nft(table) | Owner::Legacy(_, table)) = &self.base.owner;
        match table.split_once(' ') {
            Some((family, name)) => format!("{family} {}", typed(name)),
            None => typed(table),
        }
    }

    /// The program of the x_tables that owns the chain, with its table.
    fn program(&self) -> Option<String> {
        let (program, table) = match &self.base.owner {
            Owner::Legacy(family, table) => (legacy::program(*family), table.as_str()),
            Owner::Nft(table) => {
                let (family, name) = table.split_once(' ')?;
                let program = match family {
                    "ip" => "iptables-nft",
                    "ip6" => "ip6tables-nft",
                    "bridge" => "ebtables-nft",
                    _ => return None,
                };
                let theirs =
                    XTABLES.contains(&name) && self.base.chain.chars().all(|c| c.is_ascii_uppercase());
                (theirs.then_some(program)?, name)
            }
        };
        Some(if table == "filter" { program.to_owned() } else { format!("{program} -t {table}") })
    }

    /// At the end of the base chain, or in front of a rule.
    fn accept(&self, before: Option<(&String, usize)>) -> String {
        let chain = before.map_or(&self.base.chain, |(chain, _)| chain);
        let (name, table) = (typed(chain), self.table());
        if let Some(program) = self.program() {
            let place = match before {
                None => format!("-A {name}"),
                Some((_, index)) => format!("-I {name} {}", index + 1),
            };
            let accept = |of: &str| format!("{program} {place}{}{of} -j ACCEPT", self.x_match());
            return match self.service() {
                None => accept(""),
                Some(end) => {
                    ["udp", "tcp"].map(|kind| accept(&format!(" -p {kind} --{end} 53"))).join(" && ")
                }
            };
        }
        let rules = self.base.chains.get(chain).unwrap_or_default();
        let place = match before.and_then(|(_, index)| rules.get(index)) {
            None => format!("add rule {table} {name}"),
            Some(rule) => format!("insert rule {table} {name} handle {}", rule.handle),
        };
        let service = self.service().map(|end| format!(" meta l4proto {{ tcp, udp }} th {end} 53"));
        format!("nft {place}{}{} accept", self.nft_match(), service.unwrap_or_default())
    }

    /// Names alone need no more than their port.
    fn service(&self) -> Option<&'static str> {
        let names = self.blocked.flow == Flow::PodToNames && self.base.layer == Layer::Network;
        names.then_some(if self.blocked.heading == Heading::Reply { "sport" } else { "dport" })
    }

    /// Interface of the packets at the hook, and whether only replies are meant.
    fn packets(&self) -> (Option<(&'static str, &IfName)>, bool) {
        let packet = &self.blocked.packet;
        let through = match (&packet.iif, &packet.oif) {
            (Some(iif), _) => Some(("in", iif)),
            (None, Some(oif)) => Some(("out", oif)),
            (None, None) => None,
        };
        // In front of connection tracking nobody knows what a reply is.
        let tracked = self.base.layer == Layer::Network && self.base.priority > -200;
        let replies = self.blocked.heading == Heading::Reply && self.blocked.flow != Flow::PodToNames;
        (through, tracked && replies)
    }

    fn x_match(&self) -> String {
        let (through, replies) = self.packets();
        let bridge = self.base.layer == Layer::Bridge;
        let through = through.map(|(way, name)| {
            let option = if way == "in" { "-i" } else { "-o" };
            if bridge { String::new() } else { format!(" {option} {}", typed(name)) }
        });
        let replies = if replies && !bridge { " -m conntrack --ctstate RELATED,ESTABLISHED" } else { "" };
        format!("{}{replies}", through.unwrap_or_default())
    }

    fn nft_match(&self) -> String {
        let (through, replies) = self.packets();
        let ends = |name: &IfName| match self.base.layer {
            // Not of one port alone.
            Layer::Bridge | Layer::Device => String::new(),
            Layer::Arp | Layer::Network => format!("ifname {}", typed(name)),
        };
        let through = through.map(|(way, name)| match ends(name) {
            empty if empty.is_empty() => empty,
            words if way == "in" => format!(" i{words}"),
            words => format!(" o{words}"),
        });
        let replies = if replies { " ct state established,related" } else { "" };
        format!("{}{replies}", through.unwrap_or_default())
    }
}
