//! From words to settings that make sense, or a refusal that names the word.
//!
//! Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnetwork::IpNetwork;

use super::cli::{Word, Words};
use super::host_dns::{DOMAIN, Domain};
use crate::conflist::{HostPorts, Mtu, Network, NetworkName, Range, Ranges};
use crate::log::Level;
use crate::net::{Family, IfName, is_nobodys};

/// What is wanted on this node. Cannot be wrong by itself; whether the node can have it is for the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) ranges: Wish,
    /// The rest of the network; its ranges are those of [`Self::ranges`] or a default to be replaced.
    pub(super) network: Network,
    /// Of the names that programs of the node look for by its own resolver, too.
    pub(super) host_dns: Option<Domain>,
    /// As the host sees them. Empty: where the runtimes look.
    pub(super) bin_dirs: Vec<PathBuf>,
    pub(super) conf_dirs: Vec<PathBuf>,
    pub(super) take_over: bool,
    /// The words that all of this was made of, to be written down.
    pub(super) words: Words,
    /// Words that count as not said, and why.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nobody said anything: the default, or what a predecessor on this node used.
    Default,
    Given(Ranges),
    /// A free IPv4 range, beside a given IPv6 one.
    Auto(Option<Range>),
}

/// Smallest that IPv4 and IPv6 work with (RFC 791, RFC 8200), and what a Linux link can have.
const LEAST_MTU: [u32; 2] = [68, 1280];
const MOST_MTU: u32 = 65535;

/// The text names the word and says what would be right.
pub(super) fn settings(words: &Words) -> Result<Settings, String> {
    let default = Network::default();
    let (ranges, notes) = wish(words)?;
    let network = Network {
        name: named(words.network.as_ref(), NetworkName::parse)?.unwrap_or(default.name),
        bridge: named(words.bridge.as_ref(), interface)?.unwrap_or(default.bridge),
        ranges: match &ranges {
            Wish::Given(ranges) => ranges.clone(),
            Wish::Default | Wish::Auto(_) => default.ranges,
        },
        mtu: named(words.mtu.as_ref(), |text| mtu(text, &ranges))?.unwrap_or_default(),
        hairpin: named(words.hairpin.as_ref(), boolean)?.unwrap_or(true),
        masquerade: named(words.masquerade.as_ref(), boolean)?.unwrap_or(true),
        forward_others: named(words.forward_others.as_ref(), boolean)?.unwrap_or(false),
        dns: named(words.dns.as_ref(), name_server)?.flatten(),
        dns_intercept: named(words.dns_intercept.as_ref(), boolean)?.unwrap_or(false),
        host_ports: host_ports(words)?,
        log_level: named(words.log_level.as_ref(), log_level)?,
        shared: default.shared,
    };
    if network.dns_intercept && network.dns.is_none() {
        return Err("dns-intercept leads what pods ask to the node's name server, and dns is off: say where it is asked, such \
                    as --dns 169.254.0.2"
            .to_owned());
    }
    Ok(Settings {
        ranges,
        host_dns: host_dns(words, network.dns)?,
        network,
        bin_dirs: named(words.bin_dir.as_ref(), directories)?.unwrap_or_default(),
        conf_dirs: named(words.conf_dir.as_ref(), directories)?.unwrap_or_default(),
        take_over: named(words.take_over.as_ref(), boolean)?.unwrap_or(false),
        words: words.clone(),
        notes,
    })
}

/// Reads a word and says where it was said when it is wrong.
fn named<T>(word: Option<&Word>, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    let Some(word) = word else { return Ok(None) };
    read(&word.text).map(Some).map_err(|wrong| format!("{}={}: {wrong}", word.source, word.text))
}

fn wish(words: &Words) -> Result<(Wish, Vec<String>), String> {
    let gateways = named(words.gateway.as_ref(), |text| list(text).iter().map(|one| address(one)).collect())?;
    let gateways: Vec<IpAddr> = gateways.unwrap_or_default();
    let Some(subnet) = &words.subnet else {
        return match &words.gateway {
            None => Ok((Wish::Default, Vec::new())),
            // The old ConfigMap gives both; one alone belongs to the default range.
            Some(word) => with_gateways(&[crate::conflist::SUBNET.to_owned()], gateways)
                .map(|ranges| Wish::Given(Ranges::new(ranges).unwrap_or_else(|_| Network::default().ranges)))
                .map(|wish| (wish, Vec::new()))
                .map_err(|wrong| format!("{}={}: {wrong}", word.source, word.text)),
        };
    };
    let (gateways, note) = chosen(gateways, &list(&subnet.text));
    let wish = named(Some(subnet), |text| {
        let (automatic, given): (Vec<String>, Vec<String>) =
            list(text).into_iter().partition(|word| word.eq_ignore_ascii_case("auto"));
        let ranges = with_gateways(&given, gateways)?;
        match (automatic.len(), ranges.as_slice()) {
            (0, _) => Ranges::new(ranges).map(Wish::Given),
            (1, []) => Ok(Wish::Auto(None)),
            (1, [range]) if range.family() == Family::V6 => Ok(Wish::Auto(Some(*range))),
            _ => Err("`auto` stands for one IPv4 range, alone or beside one IPv6 range".to_owned()),
        }
    })?;
    Ok((wish.unwrap_or(Wish::Default), note.into_iter().collect()))
}

/// The gateways that somebody chose. The manifest has both keys with their defaults, and who changes `subnet` in it has not
/// chosen the gateway that still stands beside it: that of the default range, where no range that is given holds it.
fn chosen(mut gateways: Vec<IpAddr>, subnets: &[String]) -> (Vec<IpAddr>, Option<String>) {
    let default = Network::default().ranges.first().gateway();
    let holds = |subnet: &String| subnet.parse().is_ok_and(|subnet: IpNetwork| subnet.contains(default));
    if !gateways.contains(&default) || subnets.iter().any(holds) {
        return (gateways, None);
    }
    gateways.retain(|gateway| *gateway != default);
    let note = format!(
        "the gateway {default} belongs to the default range and is not in {}: it counts as not said",
        subnets.join(", ")
    );
    (gateways, Some(note))
}

/// Each range with the gateway that was given for it.
fn with_gateways(subnets: &[String], mut gateways: Vec<IpAddr>) -> Result<Vec<Range>, String> {
    let mut ranges = Vec::new();
    for text in subnets {
        let subnet = text
            .parse()
            .map_err(|_| format!("\"{text}\" is no network; one looks like 10.38.0.0/16 or fd00:38::/64"))?;
        if !text.contains('/') {
            return Err(format!("\"{text}\" has no prefix; a network looks like 10.38.0.0/16"));
        }
        // A gateway that is in the range; else one of its family, which is then refused by name.
        let family = |gateway: &IpAddr| gateway.is_ipv4() == IpNetwork::is_ipv4(&subnet);
        let at = gateways
            .iter()
            .position(|gateway| subnet.contains(*gateway))
            .or_else(|| gateways.iter().position(family));
        ranges.push(Range::new(subnet, at.map(|at| gateways.remove(at)))?);
    }
    match gateways.first() {
        None => Ok(ranges),
        Some(gateway) => Err(format!("the gateway {gateway} belongs to no range that is given")),
    }
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no address; one looks like 10.38.0.1 or fd00:38::1"))
}

fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("say true or false".to_owned()),
    }
}

/// `None`: at the gateways alone.
fn name_server(text: &str) -> Result<Option<Ipv4Addr>, String> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let address = text.parse().ok().filter(|address| !is_nobodys(*address));
    address.map(Some).ok_or_else(|| {
        "say off, or an IPv4 address that belongs to nobody else, such as 169.254.0.2".to_owned()
    })
}

/// A resolver has to be given an address.
fn host_dns(words: &Words, dns: Option<Ipv4Addr>) -> Result<Option<Domain>, String> {
    named(words.host_dns.as_ref(), |text| match domain(text)? {
        Some(_) if dns.is_none() => {
            Err("the node's resolver needs an address to ask: say --dns 169.254.0.2, too, or --host-dns off"
                .to_owned())
        }
        domain => Ok(domain),
    })
    .map(Option::flatten)
}

/// `None`: the resolver is told nothing.
fn domain(text: &str) -> Result<Option<Domain>, String> {
    match boolean(text) {
        Ok(false) => Ok(None),
        Ok(true) => domain(DOMAIN),
        Err(_) => Domain::parse(text)
            .map(Some)
            .ok_or_else(|| format!("say off, or the domain of the pods' names, such as {DOMAIN}")),
    }
}

fn log_level(text: &str) -> Result<Level, String> {
    Level::parse(text).ok_or_else(|| format!("say {}", Level::WORDS))
}

fn interface(text: &str) -> Result<IfName, String> {
    text.parse().map_err(|wrong: crate::net::IfNameError| wrong.to_string())
}

fn mtu(text: &str, ranges: &Wish) -> Result<Mtu, String> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(Mtu::Uplink);
    }
    let has_ipv6 = match ranges {
        Wish::Default => false,
        Wish::Given(ranges) => ranges.iter().any(|range| range.family() == Family::V6),
        Wish::Auto(range) => range.is_some(),
    };
    let least = LEAST_MTU[usize::from(has_ipv6)];
    match text.parse() {
        Ok(bytes) if (least..=MOST_MTU).contains(&bytes) => Ok(Mtu::Bytes(bytes)),
        _ => Err(format!("say a number of bytes from {least} to {MOST_MTU}, or auto")),
    }
}

fn host_ports(words: &Words) -> Result<Option<HostPorts>, String> {
    let default = HostPorts::default();
    let ports = HostPorts {
        snat: named(words.host_port_snat.as_ref(), boolean)?.unwrap_or(default.snat),
        strict: named(words.host_port_strict.as_ref(), boolean)?.unwrap_or(default.strict),
        interfaces: named(words.host_port_interfaces.as_ref(), patterns)?.unwrap_or_default(),
        deny_interfaces: named(words.deny_host_port_interfaces.as_ref(), patterns)?.unwrap_or_default(),
    };
    let wanted = named(words.host_ports.as_ref(), boolean)?.unwrap_or(true);
    if !wanted && ports != default {
        return Err(
            "host ports are switched off, and settings for them are given: leave one of both out".to_owned()
        );
    }
    Ok(wanted.then_some(ports))
}

/// Names of interfaces, or beginnings of names with a `*` behind.
fn patterns(text: &str) -> Result<Vec<String>, String> {
    let words = list(text);
    for word in &words {
        let name = word.strip_suffix('*').unwrap_or(word);
        if name.contains('*') {
            return Err(format!("\"{word}\": a * can only stand at the end"));
        }
        interface(name).map_err(|wrong| format!("\"{word}\": {wrong}"))?;
    }
    Ok(words)
}

fn directories(text: &str) -> Result<Vec<PathBuf>, String> {
    let words = list(text);
    match words.iter().find(|word| !word.starts_with('/')) {
        Some(relative) => {
            Err(format!("\"{relative}\" does not begin with /; say the path as the host sees it"))
        }
        None => Ok(words.into_iter().map(PathBuf::from).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[allow(clippy::unnecessary_wraps, reason = "words are optional")]
    fn word(text: &str) -> Option<Word> {
        Some(Word { text: text.to_owned(), source: "--it".to_owned() })
    }

    fn ranges(subnet: &str, gateway: Option<&str>) -> Result<Wish, String> {
        let words = Words { subnet: word(subnet), gateway: gateway.and_then(word), ..Words::default() };
        settings(&words).map(|settings| settings.ranges)
    }

    fn given(subnet: &str, gateway: Option<&str>) -> Vec<String> {
        match ranges(subnet, gateway).unwrap() {
            Wish::Given(ranges) => ranges.iter().map(ToString::to_string).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_said_is_the_default_network() {
        let settings = settings(&Words::default()).unwrap();
        assert_eq!(settings.ranges, Wish::Default);
        assert_eq!(settings.network, Network::default());
        assert!(settings.bin_dirs.is_empty() && settings.conf_dirs.is_empty() && !settings.take_over);
    }

    #[test]
    fn ranges_of_one_or_both_families_each_with_its_gateway() {
        assert_eq!(given("10.38.0.0/16", None), ["10.38.0.0/16 (gateway 10.38.0.1)"]);
        assert_eq!(given("10.38.0.0/16", Some("10.38.0.9")), ["10.38.0.0/16 (gateway 10.38.0.9)"]);
        assert_eq!(
            given("fd00:38::/64, 10.38.0.0/16", Some("10.38.0.9,fd00:38::9")),
            ["fd00:38::/64 (gateway fd00:38::9)", "10.38.0.0/16 (gateway 10.38.0.9)"]
        );
        let old = Words { gateway: word("172.38.0.254"), ..Words::default() };
        let Wish::Given(ranges) = settings(&old).unwrap().ranges else { panic!("a gateway was given") };
        assert_eq!(ranges.first().to_string(), "172.38.0.0/16 (gateway 172.38.0.254)");
    }

    #[test]
    fn the_default_gateway_beside_another_range_was_not_chosen() {
        for (subnet, gateway, ranges) in [
            ("10.38.0.0/16", "172.38.0.1", vec!["10.38.0.0/16 (gateway 10.38.0.1)"]),
            ("fd00:38::/64", "172.38.0.1", vec!["fd00:38::/64 (gateway fd00:38::1)"]),
            (
                "10.38.0.0/16,fd00:38::/64",
                "172.38.0.1,fd00:38::9",
                vec!["10.38.0.0/16 (gateway 10.38.0.1)", "fd00:38::/64 (gateway fd00:38::9)"],
            ),
        ] {
            let words = Words { subnet: word(subnet), gateway: word(gateway), ..Words::default() };
            let settings = settings(&words).unwrap();
            assert_eq!(given(subnet, Some(gateway)), ranges);
            let [note] = settings.notes.as_slice() else { panic!("{:?}", settings.notes) };
            assert!(note.starts_with("the gateway 172.38.0.1 belongs to the default range"), "{note}");
        }
        assert_eq!(ranges("auto", Some("172.38.0.1")).unwrap(), Wish::Auto(None));
        for (subnet, gateway) in [("172.38.0.0/16", "172.38.0.1"), ("172.0.0.0/8", "172.38.0.1")] {
            let words = Words { subnet: word(subnet), gateway: word(gateway), ..Words::default() };
            let settings = settings(&words).unwrap();
            assert!(settings.notes.is_empty(), "it is in {subnet}");
            let Wish::Given(ranges) = settings.ranges else { panic!("{subnet} was given") };
            assert_eq!(ranges.first().gateway().to_string(), gateway);
        }
        let two = ranges("10.38.0.0/16", Some("172.38.0.1,10.39.0.1")).unwrap_err();
        assert!(two.contains("the gateway 10.39.0.1 is not in 10.38.0.0/16"), "{two}");
    }

    #[test]
    fn auto_stands_for_ipv4() {
        assert_eq!(ranges("auto", None).unwrap(), Wish::Auto(None));
        let Wish::Auto(Some(range)) = ranges("AUTO,fd00:38::/64", None).unwrap() else { panic!("both") };
        assert_eq!(range.to_string(), "fd00:38::/64 (gateway fd00:38::1)");
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (subnet, gateway, wrong) in [
            (
                "10.38.0.0",
                None,
                "--it=10.38.0.0: \"10.38.0.0\" has no prefix; a network looks like 10.38.0.0/16",
            ),
            ("ten", None, "--it=ten: \"ten\" is no network; one looks like 10.38.0.0/16 or fd00:38::/64"),
            (
                "10.38.0.1/16",
                None,
                "--it=10.38.0.1/16: 10.38.0.1/16 has host bits set: the network is 10.38.0.0/16",
            ),
            (
                "10.38.0.0/31",
                None,
                "--it=10.38.0.0/31: 10.38.0.0/31 has no room for pods: the prefix of an IPv4 range is /30 at most",
            ),
            (
                "10.38.0.0/16",
                Some("10.39.0.1"),
                "--it=10.38.0.0/16: the gateway 10.39.0.1 is not in 10.38.0.0/16",
            ),
            (
                "10.38.0.0/16",
                Some("fd00::1"),
                "--it=10.38.0.0/16: the gateway fd00::1 belongs to no range that is given",
            ),
            (
                "10.38.0.0/16",
                Some("me"),
                "--it=me: \"me\" is no address; one looks like 10.38.0.1 or fd00:38::1",
            ),
            (
                "10.38.0.0/16,10.38.4.0/24",
                None,
                "--it=10.38.0.0/16,10.38.4.0/24: 10.38.0.0/16 and 10.38.4.0/24 overlap",
            ),
            (
                "auto,10.0.0.0/8",
                None,
                "--it=auto,10.0.0.0/8: `auto` stands for one IPv4 range, alone or beside one IPv6 range",
            ),
            ("auto", Some("10.0.0.1"), "--it=auto: the gateway 10.0.0.1 belongs to no range that is given"),
            (",", None, "--it=,: no range is given"),
        ] {
            assert_eq!(ranges(subnet, gateway).unwrap_err(), wrong);
        }
        let wrong = |words: Words| settings(&words).unwrap_err();
        let base = Words::default;
        for (words, text) in [
            (Words { mtu: word("67"), ..base() }, "--it=67: say a number of bytes from 68 to 65535, or auto"),
            (
                Words { mtu: word("1200"), subnet: word("fd00::/64"), ..base() },
                "--it=1200: say a number of bytes from 1280 to 65535, or auto",
            ),
            (Words { hairpin: word("maybe"), ..base() }, "--it=maybe: say true or false"),
            (Words { log_level: word("loud"), ..base() }, "--it=loud: say off, error, warn, info or debug"),
            (
                Words { bridge: word("a/b"), ..base() },
                "--it=a/b: interface name contains / or : or whitespace characters",
            ),
            (
                Words { bin_dir: word("opt/bin"), ..base() },
                "--it=opt/bin: \"opt/bin\" does not begin with /; say the path as the host sees it",
            ),
            (
                Words { host_port_interfaces: word("l*n"), ..base() },
                "--it=l*n: \"l*n\": a * can only stand at the end",
            ),
            (
                Words { host_ports: word("false"), host_port_strict: word("true"), ..base() },
                "host ports are switched off, and settings for them are given: leave one of both out",
            ),
        ] {
            assert_eq!(wrong(words), text);
        }
        let contradiction =
            "the node's resolver needs an address to ask: say --dns 169.254.0.2, too, or --host-dns off";
        for dns in [None, word("off")] {
            let words = Words { host_dns: word("cluster.local"), dns, ..base() };
            assert_eq!(wrong(words), format!("--it=cluster.local: {contradiction}"));
        }
        for text in
            ["a b", "-a.local", "a..b", ".", "169.254.0.2", "a\nserver=/x/y", "ä.local", &"a".repeat(64)]
        {
            let words = Words { host_dns: word(text), dns: word("169.254.0.2"), ..base() };
            assert!(
                wrong(words).ends_with("say off, or the domain of the pods' names, such as cluster.local"),
                "{text}"
            );
        }
        assert!(
            wrong(Words { network: word("../x"), ..base() })
                .starts_with("--it=../x: \"../x\" is no network name")
        );
    }

    #[test]
    fn the_domain_for_programs_of_the_node() {
        let told = |text: &str| {
            let words = Words { host_dns: word(text), dns: word("169.254.0.2"), ..Words::default() };
            settings(&words).unwrap().host_dns.map(|domain| domain.to_string())
        };
        assert_eq!(told("Edge.Example.").as_deref(), Some("edge.example"));
        assert_eq!(told("true").as_deref(), Some("cluster.local"));
        for off in ["off", "false"] {
            assert_eq!(told(off), None);
            let alone = Words { host_dns: word(off), ..Words::default() };
            assert_eq!(settings(&alone).unwrap().host_dns, None, "nothing to contradict");
        }
    }

    #[test]
    fn everything_else_that_can_be_said() {
        let words = Words {
            mtu: word("auto"),
            hairpin: word("0"),
            forward_others: word("yes"),
            dns_intercept: word("true"),
            dns: word("169.254.0.2"),
            masquerade: word("No"),
            host_port_snat: word("false"),
            host_port_interfaces: word("lan*, eth0"),
            network: word("edge"),
            bridge: word("edge0"),
            bin_dir: word("/opt/cni/bin,/usr/lib/cni"),
            take_over: word("true"),
            log_level: word("Debug"),
            ..Words::default()
        };
        let settings = settings(&words).unwrap();
        let network = &settings.network;
        assert_eq!((network.name.as_str(), network.bridge.as_str()), ("edge", "edge0"));
        assert_eq!((network.mtu, network.hairpin, network.masquerade), (Mtu::Uplink, false, false));
        assert!(network.forward_others && network.dns_intercept);
        assert_eq!(network.dns, Some(Ipv4Addr::new(169, 254, 0, 2)));
        assert_eq!(network.log_level, Some(Level::Debug));
        let ports = network.host_ports.as_ref().unwrap();
        assert_eq!(
            (ports.snat, ports.interfaces.as_slice()),
            (false, &["lan*".to_owned(), "eth0".to_owned()][..])
        );
        assert_eq!(settings.bin_dirs.len(), 2);
        assert!(settings.take_over);
    }
}
