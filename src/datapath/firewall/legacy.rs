//! The old x_tables, which netlink does not reach: what their listing says and which commands change it. Pure.
//!
//! Only asked where the legacy filter table is loaded. A node whose `iptables` is the one on top of nf_tables never gets
//! here.

use std::path::Path;

use super::ACCEPTS;
use crate::datapath::mark::OWNER;
use crate::net::{Family, IfName};

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
    let comment = format!("{OWNER} {interface}");
    let rule = |matches: &[&str]| {
        let rest = ["-m", "comment", "--comment", &comment, "-j", "ACCEPT"];
        matches.iter().chain(&rest).map(|word| (*word).to_owned()).collect()
    };
    let name = interface.as_str();
    let into = |states| rule(&["-o", name, "-m", "conntrack", "--ctstate", states]);
    [rule(&["-i", name]), into("RELATED,ESTABLISHED"), into("DNAT")]
}

/// As a person types it.
fn typed(program: &str, operation: &str, rule: &[String]) -> String {
    let words = rule.iter().map(|word| if word.contains(' ') { format!("\"{word}\"") } else { word.clone() });
    let words: Vec<_> = words.collect();
    format!("{program} {operation} {}", words.join(" "))
}

/// What a person types to let the interface's packets through, in the words that all flavours of iptables share.
pub fn commands(program: &str, interface: &IfName) -> String {
    accepts(interface).map(|rule| typed(program, "-I FORWARD 1", &rule)).join("; ")
}

/// Whether the listing of `-S FORWARD` drops what no rule takes, without both accepts of the interface before that.
pub fn lacks_accepts(listing: &str, interface: &IfName) -> bool {
    let mut missing: Vec<String> = accepts(interface).iter().map(|rule| typed("", "", rule)).collect();
    let mut drops = false;
    for line in listing.lines() {
        if let Some(policy) = line.strip_prefix("-P FORWARD ") {
            drops = policy != "ACCEPT";
        }
        let Some(rule) = line.strip_prefix("-A FORWARD ") else { continue };
        missing.retain(|wanted| !wanted.ends_with(&format!(" {rule}")));
        match rule.split(' ').collect::<Vec<_>>()[..] {
            ["-j", "ACCEPT"] => return false,
            ["-j", "DROP"] | ["-j", "REJECT", ..] => return !missing.is_empty(),
            _ => {}
        }
    }
    drops && !missing.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bridge() -> IfName {
        "smartnet0".parse().unwrap()
    }

    #[test]
    fn a_table_that_drops_lacks_the_accepts_until_they_stand() {
        assert!(lacks_accepts("-P FORWARD DROP\n", &bridge()));
        assert!(!lacks_accepts("-P FORWARD ACCEPT\n-A FORWARD -i eth0 -j DROP\n", &bridge()));
        assert!(lacks_accepts(
            "-P FORWARD ACCEPT\n-A FORWARD -j REJECT --reject-with icmp-port-unreachable\n",
            &bridge()
        ));
        assert!(!lacks_accepts("-P FORWARD DROP\n-A FORWARD -j ACCEPT\n", &bridge()));
        let ours = "-A FORWARD -i smartnet0 -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT
-A FORWARD -o smartnet0 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT
-A FORWARD -o smartnet0 -m conntrack --ctstate DNAT -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT
";
        assert!(!lacks_accepts(&format!("-P FORWARD DROP\n{ours}"), &bridge()));
        assert!(!lacks_accepts(&format!("-P FORWARD ACCEPT\n{ours}-A FORWARD -j DROP\n"), &bridge()));
        assert!(lacks_accepts(&format!("-P FORWARD ACCEPT\n-A FORWARD -j DROP\n{ours}"), &bridge()));
        assert!(lacks_accepts(&format!("-P FORWARD DROP\n{ours}"), &"cni0".parse().unwrap()));
    }

    #[test]
    fn the_commands_are_those_a_person_would_type() {
        assert_eq!(
            commands(program(Family::V6), &bridge()),
            "ip6tables-legacy -I FORWARD 1 -i smartnet0 -m comment --comment \"smarter-cni smartnet0\" -j ACCEPT; \
             ip6tables-legacy -I FORWARD 1 -o smartnet0 -m conntrack --ctstate RELATED,ESTABLISHED -m comment --comment \
             \"smarter-cni smartnet0\" -j ACCEPT; ip6tables-legacy -I FORWARD 1 -o smartnet0 -m conntrack --ctstate DNAT -m \
             comment --comment \"smarter-cni smartnet0\" -j ACCEPT"
        );
    }
}
