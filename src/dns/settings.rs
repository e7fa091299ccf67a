//! From variables of the environment to settings that make sense, or a refusal that names the variable.
//!
//! They are the keys of the ConfigMap `smarterdnsconfig`; those that smarter-dns had are understood, and where they mean
//! nothing here that is said.
//!
//! Pure.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

use super::name::Name;
use super::upstreams::Upstream;
use super::zone::Host;
use crate::net::{DNS_INTERCEPT_PORT, DNS_PORT};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where pods and the node ask.
    pub(crate) address: IpAddr,
    pub(crate) domain: Name,
    /// A line per question.
    pub(crate) logging: bool,
    /// Empty: those of the node.
    pub(crate) upstreams: Vec<Upstream>,
    /// Who else knows names of the domain.
    pub(crate) cluster_upstreams: Vec<Upstream>,
    pub(crate) hosts: Vec<Host>,
    /// Seconds that clients keep an answer of ours.
    pub(crate) ttl: u32,
    /// Bytes of answers of others that are kept.
    pub(crate) cache: usize,
    /// How long after its end an answer is given when nobody can be asked.
    pub(crate) stale: Duration,
    pub(crate) forwards_single_labels: bool,
    /// Taken where port 53 is not to be had.
    pub(crate) fallback_port: u16,
    /// Who is asked for pods of the host's network, if anybody is.
    pub(crate) host_network: Option<Runtimes>,
    /// What was said and has no effect, and why.
    pub(crate) notes: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Runtimes {
    /// Those that are found on the node.
    #[default]
    Found,
    /// The one that listens there.
    At(PathBuf),
}

/// The address that SMARTER's kubelets are told.
pub(crate) const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 0, 2));
const DOMAIN: &str = "cluster.local";
const TTL: u32 = 5;
/// Longer than a pod lives is longer than its name is true.
const LONGEST_TTL: u32 = 3600;
const CACHE: usize = 4 << 20;
/// All of a small node's memory.
const LARGEST_CACHE: usize = 256 << 20;
/// RFC 8767 section 5: one to three days.
const STALE: Duration = Duration::from_hours(72);
const LONGEST_STALE: Duration = Duration::from_hours(24 * 7);
/// Servers that are asked; nobody waits for the ninth.
const MOST_UPSTREAMS: usize = 8;

/// Of smarter-dns, and why they mean nothing here.
const UNUSED: [(&str, &str); 4] = [
    (
        "CRI_",
        "names come from the records of attached pods; dns-host-network-names may be the path of a runtime's socket",
    ),
    ("CRICTL_BIN", "no other program is started"),
    ("WAIT_INTERVAL", "a name is there as soon as its pod is"),
    ("IFACE", "it was never used"),
];

impl Settings {
    /// The text of a refusal names the variable, what it says, and what would be right.
    pub(crate) fn parse(environment: &[(OsString, OsString)]) -> Result<Self, String> {
        let words = Words::new(environment);
        let domain = |text: &str| Name::parse(text).ok_or("it is no domain, such as cluster.local");
        let address = words.read(&["dns-address", "CLUSTER_DNS"], address)?.unwrap_or(ADDRESS);
        Ok(Self {
            address,
            domain: match words.read(&["domain", "CLUSTER_DOMAIN"], domain)? {
                Some(domain) => domain,
                None => domain(DOMAIN)?,
            },
            logging: words.read(&["DNS_LOGGING"], boolean)?.unwrap_or(false),
            upstreams: words.read(&["dns-upstream"], upstreams)?.unwrap_or_default(),
            cluster_upstreams: words.read(&["dns-cluster-upstream"], upstreams)?.unwrap_or_default(),
            hosts: words.read(&["dns-hosts"], hosts)?.unwrap_or_default(),
            ttl: words.read(&["dns-ttl"], |text| number(text, LONGEST_TTL))?.unwrap_or(TTL),
            cache: words.read(&["dns-cache"], bytes)?.unwrap_or(CACHE),
            stale: words.read(&["dns-stale"], duration)?.unwrap_or(STALE),
            forwards_single_labels: words.read(&["dns-single-labels"], single_labels)?.unwrap_or(false),
            fallback_port: words.read(&["dns-fallback-port"], port)?.unwrap_or(DNS_INTERCEPT_PORT),
            host_network: words.read(&["dns-host-network-names"], host_network)?.flatten(),
            notes: words.notes(),
        })
    }
}

/// What is said, by its variable.
struct Words(BTreeMap<String, String>);

impl Words {
    /// An empty value is none: that is what an empty key of a ConfigMap becomes.
    fn new(environment: &[(OsString, OsString)]) -> Self {
        let texts = environment.iter().filter_map(|(name, value)| {
            let value = value.to_string_lossy().trim().to_owned();
            (!value.is_empty()).then(|| Some((name.to_str()?.to_owned(), value))).flatten()
        });
        Self(texts.collect())
    }

    /// A key as it stands in the ConfigMap, and as a shell can set it.
    fn get(&self, key: &str) -> Option<(&str, &str)> {
        let forms = [key.to_owned(), key.replace('-', "_"), key.replace('-', "_").to_uppercase()];
        let found = forms.iter().find_map(|form| self.0.get_key_value(form));
        found.map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// The first of the keys that is said counts.
    fn read<T, E: std::fmt::Display>(
        &self,
        keys: &[&str],
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Option<T>, String> {
        let Some((name, text)) = keys.iter().find_map(|key| self.get(key)) else { return Ok(None) };
        read(text).map(Some).map_err(|wrong| format!("{name}={text}: {wrong}"))
    }

    fn notes(&self) -> Vec<String> {
        let is_unused = |name: &str| {
            UNUSED
                .iter()
                .find(|(unused, _)| name == *unused || (unused.ends_with('_') && name.starts_with(unused)))
        };
        let note = |name: &String| is_unused(name).map(|(_, why)| format!("{name} is not used: {why}"));
        self.0.keys().filter_map(note).collect()
    }
}

fn address(text: &str) -> Result<IpAddr, &'static str> {
    let address: IpAddr = text.parse().map_err(|_| "it is no address, such as 169.254.0.2")?;
    if address.is_unspecified() || address.is_multicast() || address.is_loopback() {
        return Err(
            "it is no address that pods could ask: name one that belongs to nobody else, such as 169.254.0.2",
        );
    }
    Ok(address)
}

fn boolean(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("it is neither true nor false"),
    }
}

/// Separated by commas or blanks.
fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|word| !word.is_empty())
}

fn upstreams(text: &str) -> Result<Vec<Upstream>, String> {
    let read = |word: &str| word.parse::<Upstream>().map_err(|refusal| format!("{word} {refusal}"));
    let upstreams = list(text).map(read).collect::<Result<Vec<_>, _>>()?;
    if upstreams.len() > MOST_UPSTREAMS {
        return Err(format!("these are more than {MOST_UPSTREAMS} servers"));
    }
    Ok(upstreams)
}

/// As in hosts(5): an address and its names; entries end with the line or with a semicolon.
fn hosts(text: &str) -> Result<Vec<Host>, String> {
    let mut hosts = Vec::new();
    for entry in text.split(['\n', ';']) {
        let entry = entry.split('#').next().unwrap_or_default();
        let mut words = entry.split_whitespace();
        let Some(first) = words.next() else { continue };
        let address = first.parse().map_err(|_| format!("{first} is no address"))?;
        let before = hosts.len();
        for word in words {
            let name = Name::parse(word).ok_or_else(|| format!("{word} is no name"))?;
            hosts.push(Host { address, name });
        }
        if hosts.len() == before {
            return Err(format!("{first} has no name behind it"));
        }
    }
    Ok(hosts)
}

fn number(text: &str, most: u32) -> Result<u32, String> {
    text.parse()
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("it is no number from 0 to {most}"))
}

/// A number of bytes, as Kubernetes writes it: `4Mi`.
fn bytes(text: &str) -> Result<usize, String> {
    let wrong =
        || format!("it is no number of bytes up to {}Mi, such as 4Mi; 0 keeps nothing", LARGEST_CACHE >> 20);
    let units = [("Ki", 10), ("Mi", 20), ("K", 10), ("M", 20), ("", 0)];
    let (digits, shift) =
        units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift))).ok_or_else(wrong)?;
    let number: usize = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|bytes| *bytes <= LARGEST_CACHE).ok_or_else(wrong)
}

/// Seconds, or with a unit: `90s`, `3h`, `2d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "it is no time of at most 7 days, such as 72h; 0 gives no old answers".to_owned();
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86400), ("", 1)];
    let (digits, seconds) = units
        .iter()
        .find_map(|(unit, seconds)| Some((text.strip_suffix(unit)?, *seconds)))
        .ok_or_else(wrong)?;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let duration = number.checked_mul(seconds).map(Duration::from_secs);
    duration.filter(|duration| *duration <= LONGEST_STALE).ok_or_else(wrong)
}

fn single_labels(text: &str) -> Result<bool, &'static str> {
    match text {
        "local" => Ok(false),
        "forward" => Ok(true),
        _ => Err(
            "it is neither local (a name without a dot is a pod's or none) nor forward (the upstream is asked)",
        ),
    }
}

fn port(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|port| *port != 0 && *port != DNS_PORT).ok_or("it is no free port, such as 9053")
}

/// Whether, and if a path is said, that of the one to ask.
fn host_network(text: &str) -> Result<Option<Runtimes>, &'static str> {
    let path = text.strip_prefix("unix://").unwrap_or(text);
    if path.starts_with('/') {
        return Ok(Some(Runtimes::At(path.into())));
    }
    boolean(text).map(|wanted| wanted.then_some(Runtimes::Found)).map_err(|_| {
        "it is neither true nor false nor the path of a runtime's socket, such as /run/containerd/containerd.sock"
    })
}

#[cfg(test)]
mod tests;
