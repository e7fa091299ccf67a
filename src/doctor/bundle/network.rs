//! The node's network as lines in the manner of `ip`, which a helper can read without a program.
//!
//! Pure.

use std::fmt::Write as _;

use crate::datapath::survey::{Link, Network};

/// Name of the file and its text.
pub(super) fn files(network: &Network) -> [(&'static str, String); 5] {
    [
        ("network/links.txt", links(network)),
        ("network/addresses.txt", addresses(network)),
        ("network/routes.txt", routes(network)),
        ("network/policy-rules.txt", rules(network)),
        ("network/neighbours.txt", neighbours(network)),
    ]
}

fn links(network: &Network) -> String {
    network.links.iter().fold(String::new(), |mut text, link| {
        let _ = write!(text, "{}: {} mtu {} state {}", link.index, link.name, link.mtu, link.state);
        text.push_str(if link.up { " up" } else { " down" });
        let mut word = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                let _ = write!(text, " {name} {value}");
            }
        };
        let on_off = |value: Option<bool>| value.map(|on| if on { "on" } else { "off" }.to_owned());
        word("type", link.kind.clone());
        word("address", link.mac.map(|mac| mac.to_string()));
        word("master", link.master.map(|index| network.name_of(index)));
        word("peer", link.peer.map(|index| format!("if{index}")));
        word("stp", on_off(link.spanning_tree));
        word("vlan_filtering", on_off(link.vlan_filtering));
        word("forwarding", on_off(link.forwarding));
        word("hairpin", on_off(link.hairpin));
        word("isolated", on_off(link.isolated));
        word("promisc", link.promiscuous.then(|| "on".to_owned()));
        word("alias", link.alias.as_ref().map(|alias| format!("{alias:?}")));
        text.push('\n');
        text
    })
}

fn addresses(network: &Network) -> String {
    network.addresses.iter().fold(String::new(), |mut text, address| {
        let name = network.name_of(address.index);
        let _ = write!(text, "{} dev {name} scope {}", address.address, address.scope);
        text.push_str(if address.tentative { " tentative" } else { "" });
        text.push_str(if address.dad_failed { " dadfailed" } else { "" });
        text.push('\n');
        text
    })
}

fn routes(network: &Network) -> String {
    network.routes.iter().fold(String::new(), |mut text, route| {
        let name = route.index.map_or_else(|| "none".to_owned(), |index| network.name_of(index));
        // The link's index is a part of what a route prints.
        let _ = writeln!(text, "{route} proto {} ({name})", route.protocol);
        text
    })
}

fn rules(network: &Network) -> String {
    network.rules.iter().fold(String::new(), |mut text, rule| {
        let _ = writeln!(text, "{:?} {}: {rule}", rule.family, rule.priority);
        text
    })
}

fn neighbours(network: &Network) -> String {
    let name = |link: Option<&Link>| link.map_or_else(String::new, |link| link.name.clone());
    network.neighbours.iter().fold(String::new(), |mut text, neighbour| {
        let mac = neighbour.mac.map_or_else(|| "unanswered".to_owned(), |mac| format!("lladdr {mac}"));
        let _ = writeln!(text, "{} dev {} {mac}", neighbour.ip, name(network.by_index(neighbour.index)));
        text
    })
}
