//! Other names for addresses, MACs and the host: the same one for the same one, so that what belongs together still does.
//!
//! Looks at every place of a text, not at words: one address too many that has another name costs little, one that kept its
//! own is out. What says nothing about anybody stays: loopback, unspecified, multicast, broadcast, masks; and prefix lengths.
//!
//! Pure.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;

/// The longest text of an IPv6 address.
const LONGEST: usize = 45;
/// `aa:bb:cc:dd:ee:ff`
const MAC: usize = 17;
const HOST: &str = "node";

#[derive(Debug, Default)]
pub(super) struct Pseudonyms {
    /// The host's names, the longest first.
    hosts: Vec<String>,
    addresses: HashMap<IpAddr, String>,
    macs: HashMap<[u8; 6], String>,
}

impl Pseudonyms {
    /// `names`: what the host is called, with or without domain.
    pub(super) fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let mut hosts: Vec<String> = Vec::new();
        for name in names {
            let short = name.split('.').next().unwrap_or(name);
            hosts.extend([name, short].map(str::to_ascii_lowercase));
        }
        hosts.retain(|name| !name.is_empty() && name != HOST && name != "localhost");
        hosts.sort_unstable_by_key(|name| std::cmp::Reverse(name.len()));
        hosts.dedup();
        Self { hosts, ..Self::default() }
    }

    pub(super) fn json(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.text(text),
            Value::Array(values) => values.iter_mut().for_each(|value| self.json(value)),
            Value::Object(object) => {
                *object = std::mem::take(object)
                    .into_iter()
                    .map(|(key, mut value)| {
                        self.json(&mut value);
                        (self.text(&key), value)
                    })
                    .collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    pub(super) fn text(&mut self, text: &str) -> String {
        // A host may be called as a part of an address is, and an address may be a part of a host's name.
        let plain = |host: &str| host.chars().all(is_of_address);
        let text = self.without_host(text, |host| !plain(host));
        let mut hidden = String::with_capacity(text.len());
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let begin = rest.find(is_of_address).unwrap_or(rest.len());
            hidden.push_str(&rest[..begin]);
            rest = &rest[begin..];
            let end = rest.find(|c| !is_of_address(c)).unwrap_or(rest.len());
            self.hide_run(&mut hidden, &rest[..end]);
            rest = &rest[end..];
        }
        self.without_host(&hidden, plain)
    }

    /// As a word of its own, in whatever case.
    fn without_host(&self, text: &str, which: impl Fn(&str) -> bool) -> String {
        let mut text = text.to_owned();
        for host in self.hosts.iter().filter(|host| which(host)) {
            let lower = text.to_ascii_lowercase();
            let mut clean = String::with_capacity(text.len());
            let mut done = 0;
            for (at, _) in lower.match_indices(host.as_str()) {
                let end = at + host.len();
                let letter = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
                if !letter(text[..at].chars().next_back()) && !letter(text[end..].chars().next()) {
                    clean.push_str(&text[done..at]);
                    clean.push_str(HOST);
                    done = end;
                }
            }
            clean.push_str(&text[done..]);
            text = clean;
        }
        text
    }

    /// Digits, colons and dots in one piece.
    fn hide_run(&mut self, hidden: &mut String, run: &str) {
        if !run.contains(['.', ':']) {
            let name = self.bare(hidden, run);
            return hidden.push_str(name.as_deref().unwrap_or(run));
        }
        let v6 = run.matches(':').count() > 1;
        let mut at = 0;
        while at < run.len() {
            let rest = &run[at..];
            // The first letter may be the rest of `\f`: then this is no multicast address.
            let escaped = at == 0 && hidden.ends_with('\\');
            let found = if v6 { self.mac(rest).or_else(|| self.v6(rest, escaped)) } else { None };
            if let Some((length, name)) = found.or_else(|| self.v4(rest)) {
                hidden.push_str(&name);
                at += length;
            } else {
                hidden.push_str(&rest[..1]);
                at += 1;
            }
        }
    }

    /// `0x0a000001` of rules that nobody could read, and the MAC in the name of an interface (`enx…`, systemd.net-naming).
    fn bare(&mut self, before: &str, run: &str) -> Option<String> {
        let named = ["enx", "wlx", "wwx", "slx", "ibx"].iter().any(|kind| before.ends_with(kind));
        if !named && !before.ends_with("0x") {
            return None;
        }
        match run.len() {
            8 if !named => self.of_bits(Ipv4Addr::from(u32::from_str_radix(run, 16).ok()?).into()),
            12 => {
                let bytes = u64::from_str_radix(run, 16).ok()?.to_be_bytes();
                Some(self.of_mac(bytes[2..].try_into().ok()?, run))
            }
            32 if !named => self.of_bits(Ipv6Addr::from(u128::from_str_radix(run, 16).ok()?).into()),
            _ => None,
        }
    }

    /// As written where it is no address of anybody: a mark, a mask.
    fn of_bits(&mut self, address: IpAddr) -> Option<String> {
        (!is_public_knowledge(address)).then(|| self.of(address))
    }

    fn mac(&mut self, rest: &str) -> Option<(usize, String)> {
        let text = rest.get(..MAC)?;
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            *byte = u8::from_str_radix(parts.next().filter(|part| part.len() == 2)?, 16).ok()?;
        }
        Some((MAC, self.of_mac(bytes, text)))
    }

    fn v6(&mut self, rest: &str, escaped: bool) -> Option<(usize, String)> {
        let (length, address) = longest::<Ipv6Addr>(rest, LONGEST)?;
        Some((
            length,
            match IpAddr::from(address) {
                address if is_public_knowledge(address) && escaped => self.named(address),
                // As written: `::` is also a part of other things.
                address if is_public_knowledge(address) => rest[..length].to_owned(),
                address => self.of(address),
            },
        ))
    }

    fn v4(&mut self, rest: &str) -> Option<(usize, String)> {
        let (length, address) = longest::<Ipv4Addr>(rest, "255.255.255.255".len())?;
        Some((length, self.of(address.into())))
    }

    fn of(&mut self, address: IpAddr) -> String {
        if is_public_knowledge(address) {
            return address.to_string();
        }
        if let IpAddr::V6(v6) = address
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            return format!("::ffff:{}", self.of(v4.into()));
        }
        self.named(address)
    }

    fn named(&mut self, address: IpAddr) -> String {
        let family = if address.is_ipv4() { "ip4" } else { "ip6" };
        let next = self.addresses.len() + 1;
        self.addresses.entry(address).or_insert_with(|| format!("{family}-{next}")).clone()
    }

    fn of_mac(&mut self, mac: [u8; 6], text: &str) -> String {
        if mac == [0; 6] || mac == [0xff; 6] {
            return text.to_owned();
        }
        let next = self.macs.len() + 1;
        self.macs.entry(mac).or_insert_with(|| format!("mac-{next}")).clone()
    }
}

fn is_of_address(c: char) -> bool {
    c.is_ascii_hexdigit() || matches!(c, '.' | ':')
}

/// The longest beginning that is one.
fn longest<T: std::str::FromStr>(text: &str, most: usize) -> Option<(usize, T)> {
    (2..=most.min(text.len())).rev().find_map(|length| Some((length, text[..length].parse().ok()?)))
}

fn is_public_knowledge(address: IpAddr) -> bool {
    match address {
        // Of 240.0.0.0/4 only masks and the broadcast address are ever seen.
        IpAddr::V4(v4) => v4.is_loopback() || v4.octets()[0] == 0 || v4.octets()[0] >= 224,
        IpAddr::V6(v6) => {
            // Of solicited nodes: it ends as the address does that it is for (RFC 4291).
            let solicited = v6.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff];
            v6.is_loopback() || v6.is_unspecified() || (v6.is_multicast() && !solicited)
        }
    }
}

#[cfg(test)]
#[path = "pseudonyms_tests.rs"]
mod tests;
