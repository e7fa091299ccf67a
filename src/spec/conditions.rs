//! The lists `conditionsV4` and `conditionsV6`: words of iptables or of nft, as far as our tables have rules for them.
//!
//! Pure.

use ipnetwork::IpNetwork;

use super::limits::{Condition, Match, Pattern};
use crate::net::{Family, network_of};

/// Which program's words these are; `None` when there are none.
pub fn is_iptables(words: Option<&[String]>) -> Option<bool> {
    let first = words?.first().filter(|word| !word.is_empty())?;
    Some(first.starts_with(['-', '!']))
}

/// The error is the word that was not understood, in a sentence.
pub fn parse(family: Family, words: &[String]) -> Result<Vec<Condition>, String> {
    match is_iptables(Some(words)) {
        None => Ok(Vec::new()),
        Some(iptables) => {
            // nft joins its words with blanks, so an element may be several.
            let words: Vec<&str> = words.iter().flat_map(|word| word.split_whitespace()).collect();
            if iptables { of_iptables(family, &words) } else { of_nft(family, &words) }
        }
    }
}

fn of_iptables(family: Family, words: &[&str]) -> Result<Vec<Condition>, String> {
    let mut conditions = Vec::new();
    let mut words = words.iter().copied().peekable();
    while let Some(mut option) = words.next() {
        let mut negated = option == "!";
        if negated {
            option = words.next().unwrap_or_default();
        }
        if words.next_if_eq(&"!").is_some() {
            negated = true;
        }
        let value = words.next().unwrap_or_default();
        let matches = match option {
            "-s" | "--source" | "--src" => Match::From(networks(family, value)?),
            "-d" | "--destination" | "--dst" => Match::To(networks(family, value)?),
            "-i" | "--in-interface" => Match::Interface(interface(value, '+')?),
            other => return Err(format!("iptables' {other:?} cannot be served by our nftables")),
        };
        conditions.push(Condition { negated, matches });
    }
    Ok(conditions)
}

fn of_nft(family: Family, words: &[&str]) -> Result<Vec<Condition>, String> {
    let mut conditions = Vec::new();
    let mut words = words.iter().copied().peekable();
    let ours = if family == Family::V4 { "ip" } else { "ip6" };
    while let Some(first) = words.next() {
        let field = match first {
            "meta" => words.next_if_eq(&"iifname"),
            "ip" | "ip6" if first == ours => words.next(),
            "iifname" => Some(first),
            _ => None,
        };
        let negated = words.next_if_eq(&"!=").is_some();
        let _ = words.next_if_eq(&"==");
        let value = value_of_nft(&mut words);
        let matches = match field {
            Some("iifname") => Match::Interface(interface(value.trim_matches('"'), '*')?),
            Some("saddr") => Match::From(networks(family, &value)?),
            Some("daddr") => Match::To(networks(family, &value)?),
            _ => return Err(format!("nft's {first:?} is none of the words that our tables have")),
        };
        conditions.push(Condition { negated, matches });
    }
    Ok(conditions)
}

/// One word, or what stands between braces.
fn value_of_nft<'a>(words: &mut impl Iterator<Item = &'a str>) -> String {
    let first = words.next().unwrap_or_default();
    let Some(opened) = first.strip_prefix('{') else { return first.to_owned() };
    let mut value = opened.to_owned();
    while !value.ends_with('}') {
        match words.next() {
            Some(word) => value.push_str(word),
            None => return String::new(),
        }
    }
    value.trim_end_matches('}').to_owned()
}

/// Both programs take several, with commas between them.
fn networks(family: Family, list: &str) -> Result<Vec<IpNetwork>, String> {
    list.split(',').map(|text| network(family, text)).collect()
}

fn network(family: Family, text: &str) -> Result<IpNetwork, String> {
    let network = text.parse::<IpNetwork>().ok().filter(|network| Family::of(network.ip()) == family);
    // Host bits say nothing: `-s 10.1.2.3/8` is 10.0.0.0/8, to iptables too.
    network.map(network_of).ok_or_else(|| format!("{text:?} is no network of its family"))
}

fn interface(text: &str, mark: char) -> Result<Pattern, String> {
    Pattern::parse(text, mark).ok_or_else(|| format!("{text:?} is no interface"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split('|').map(str::to_owned).collect()
    }

    fn read(family: Family, text: &str) -> Result<String, String> {
        let conditions = parse(family, &words(text))?;
        Ok(conditions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }

    #[test]
    fn both_languages_say_the_same() {
        for (text, means) in [
            ("", ""),
            ("-s|10.0.0.0/8|!|-i|ppp+", "ip saddr 10.0.0.0/8, iifname != ppp*"),
            ("!|-d|192.0.2.1", "ip daddr != 192.0.2.1/32"),
            ("-s|!|10.1.0.0/16", "ip saddr != 10.1.0.0/16"),
            ("ip saddr 10.0.0.0/8|iifname != \"ppp*\"", "ip saddr 10.0.0.0/8, iifname != ppp*"),
            ("ip|daddr|!=|192.0.2.1", "ip daddr != 192.0.2.1/32"),
            ("meta|iifname|eth0", "iifname eth0"),
            ("-s|10.0.0.0/8,192.168.0.0/16", "ip saddr { 10.0.0.0/8, 192.168.0.0/16 }"),
            ("!|-d|192.0.2.1,192.0.2.2", "ip daddr != { 192.0.2.1/32, 192.0.2.2/32 }"),
            (
                "ip saddr { 10.0.0.0/8, 192.168.0.0/16 }|iifname eth0",
                "ip saddr { 10.0.0.0/8, 192.168.0.0/16 }, iifname eth0",
            ),
            ("ip|daddr|!=|{192.0.2.1,192.0.2.2}", "ip daddr != { 192.0.2.1/32, 192.0.2.2/32 }"),
        ] {
            assert_eq!(read(Family::V4, text).as_deref(), Ok(means), "{text}");
        }
        assert_eq!(read(Family::V6, "ip6 saddr fd00::/8").as_deref(), Ok("ip6 saddr fd00::/8"));
    }

    #[test]
    fn what_our_tables_cannot_say_is_refused() {
        for text in [
            "-m|comment|--comment|x",
            "-s",
            "-s|fd00::/8",
            "-s|10.0.0.0/8,",
            "-s|10.0.0.0/8,fd00::/8",
            "ip saddr { 10.0.0.0/8",
            "ip saddr {}",
            "ip6 saddr fd00::1",
            "ct state new",
            "-i|a+b",
            "!",
        ] {
            assert!(read(Family::V4, text).is_err(), "{text}");
        }
    }
}
