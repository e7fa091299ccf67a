//! From where a mapped port may be used: lists of interfaces, and conditions on packets.
//!
//! Networks with the same limits share one chain and two sets, named by what the limits say: a pod adds elements, never
//! rules.
//!
//! Pure.

use std::fmt;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::net::{Family, IfName, network_of, stable_hash};

/// `eth0`, or every name that begins with the letters before the `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    name: IfName,
    prefix: bool,
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.to_string()
    }
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text, '*').ok_or_else(|| format!("{text:?} is no pattern of interface names"))
    }
}

impl Pattern {
    /// `mark` is what stands for the rest of a name: `*` to us and to `nft`, `+` to `iptables`.
    pub fn parse(text: &str, mark: char) -> Option<Self> {
        let (name, prefix) = match text.strip_suffix(mark) {
            Some(name) => (name, true),
            None => (text, false),
        };
        let plain = !name.contains(['*', '+', '?', '[', '"']);
        Some(Self { name: name.parse().ok().filter(|_| plain)?, prefix })
    }

    pub fn name(&self) -> &IfName {
        &self.name
    }

    pub fn is_prefix(&self) -> bool {
        self.prefix
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, if self.prefix { "*" } else { "" })
    }
}

/// What must hold of a packet.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Match {
    /// Where it comes in. A packet of the node itself comes in nowhere.
    Interface(Pattern),
    /// From any of them; there is at least one.
    From(Vec<IpNetwork>),
    To(Vec<IpNetwork>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
pub struct Condition {
    pub negated: bool,
    pub matches: Match,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let not = if self.negated { "!= " } else { "" };
        let (field, networks) = match &self.matches {
            Match::Interface(pattern) => return write!(f, "iifname {not}{pattern}"),
            Match::From(networks) => ("saddr", networks),
            Match::To(networks) => ("daddr", networks),
        };
        let family = networks.first().map_or(Family::V4, |network| Family::of(network.ip()));
        let names: Vec<_> = networks.iter().map(|network| network_of(*network).to_string()).collect();
        write!(f, "{} {field} {not}", family_words(family))?;
        match names.as_slice() {
            [one] => f.write_str(one),
            several => write!(f, "{{ {} }}", several.join(", ")),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(default)]
pub struct Limits {
    /// Only through these interfaces of the node; empty: through all. Pods and the node itself always may.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<Pattern>,
    /// Never through these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub denied: Vec<Pattern>,
    /// All of them, in IPv4; they hold for the node itself too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub v4: Vec<Condition>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub v6: Vec<Condition>,
}

impl Limits {
    pub fn conditions(&self, family: Family) -> &[Condition] {
        if family == Family::V4 { &self.v4 } else { &self.v6 }
    }

    /// The chain that knows these limits, in a family; `None` when there are none.
    pub fn chain(&self, family: Family) -> Option<String> {
        let conditions = self.conditions(family);
        if self.allowed.is_empty() && self.denied.is_empty() && conditions.is_empty() {
            return None;
        }
        let mut words: Vec<String> = vec![family_words(family).to_owned()];
        words.extend(self.allowed.iter().map(|pattern| format!("allow {pattern}")));
        words.extend(self.denied.iter().map(|pattern| format!("deny {pattern}")));
        words.extend(conditions.iter().map(ToString::to_string));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let hash = stable_hash(&words);
        Some(format!("{CHAIN}{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff)))
    }
}

/// The nft family of ours.
pub fn family_words(family: Family) -> &'static str {
    if family == Family::V4 { "ip" } else { "ip6" }
}

/// How such chains begin.
pub const CHAIN: &str = "limit_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_and_beginnings_of_names() {
        for (text, shown) in [("eth0", "eth0"), ("wwan*", "wwan*")] {
            assert_eq!(Pattern::parse(text, '*').unwrap().to_string(), shown);
        }
        assert_eq!(Pattern::parse("ppp+", '+').unwrap().to_string(), "ppp*");
        for bad in ["", "*", "w*an", "eth[01]", "a b", "0123456789abcdef"] {
            assert_eq!(Pattern::parse(bad, '*'), None, "{bad:?}");
        }
    }

    #[test]
    fn the_same_limits_have_the_same_chain_and_others_another() {
        let limits = Limits { denied: vec![Pattern::parse("wwan*", '*').unwrap()], ..Limits::default() };
        assert_eq!(Limits::default().chain(Family::V4), None);
        assert_eq!(limits.chain(Family::V4), limits.clone().chain(Family::V4));
        assert_ne!(limits.chain(Family::V4), limits.chain(Family::V6));
        let allowed = Limits { allowed: limits.denied.clone(), ..Limits::default() };
        assert_ne!(limits.chain(Family::V4), allowed.chain(Family::V4));
        let v6 = Condition { negated: false, matches: Match::From(vec!["fd00::/8".parse().unwrap()]) };
        let v6 = Limits { v6: vec![v6], ..Limits::default() };
        assert_eq!(v6.chain(Family::V4), None);
        assert!(v6.chain(Family::V6).unwrap().starts_with(CHAIN));
    }
}
