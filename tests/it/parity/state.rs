//! What a call left in the kernel and in the lease directory, as a value that two sides can be compared by.
//!
//! Packet filters are not in it: the two sides do the same with different tables. Their effect is tested with packets.

use std::fs;

use serde_json::{Map, Value, json};

use super::{Side, normal_text};
use crate::lab::{Netns, Place, files};

/// Sysctls that the plugins write, by place.
const OF_NODE: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
const OF_POD: [&str; 4] = [
    "net/ipv4/conf/eth0/arp_notify",
    "net/ipv6/conf/eth0/accept_dad",
    "net/ipv6/conf/eth0/disable_ipv6",
    "net/ipv6/conf/eth0/keep_addr_on_down",
];

/// Links with addresses, routes, sysctls of both places, and the leases.
pub(super) fn of(node: &Netns, pod: &Netns, side: Side) -> Value {
    json!({
        "node": place(node, side, &OF_NODE),
        "pod": place(pod, side, &OF_POD),
        "leases": leases(side),
    })
}

fn place(place: &Netns, side: Side, sysctls: &[&str]) -> Value {
    let links = place.ip("-d addr show");
    let links: Vec<&Value> = links.as_array().into_iter().flatten().filter(|l| !fallback(l)).collect();
    let name_of = |index: &Value| {
        let found = links.iter().find(|l| &l["ifname"] == index).and_then(|l| l["ifname"].as_str());
        found.map(|name| normal_text(name, side))
    };
    let mut described = Map::new();
    for link in &links {
        let name = normal_text(link["ifname"].as_str().unwrap_or_default(), side);
        // Two pods have two host ends of the same normal name.
        let key = (0..).map(|n| if n == 0 { name.clone() } else { format!("{name}#{n}") });
        let key = key.into_iter().find(|key| !described.contains_key(key)).unwrap_or_default();
        let port = &link["linkinfo"]["info_slave_data"];
        described.insert(
            key,
            json!({
                "kind": link["linkinfo"]["info_kind"],
                "mtu": link["mtu"],
                "mac": normal_text(link["address"].as_str().unwrap_or_default(), side),
                "flags": flags(link),
                "promiscuity": link["promiscuity"],
                "master": name_of(&link["master"]),
                "hairpin": port["hairpin"],
                "isolated": port["isolated"],
                "addresses": addresses(link),
            }),
        );
    }
    let values: Map<String, Value> =
        sysctls.iter().map(|name| ((*name).to_owned(), sysctl(place, name).into())).collect();
    json!({"links": described, "routes": routes(place, side), "sysctls": values})
}

/// Tunnel drivers put their fallback device into every namespace, on machines that have them.
fn fallback(link: &Value) -> bool {
    link["link_type"] != "ether" && link["link_type"] != "loopback"
}

/// In the order of the alphabet. The operational state is not among them: it follows the carrier when the kernel comes to
/// it, and bridges follow their ports even later.
fn flags(link: &Value) -> Vec<String> {
    let kind = &link["linkinfo"]["info_kind"];
    let all = link["flags"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let mut kept: Vec<String> = all
        .filter(|f| *f != "NO-CARRIER" && (kind != "bridge" || *f != "LOWER_UP"))
        .map(str::to_owned)
        .collect();
    kept.sort();
    kept
}

/// Link-local IPv6 addresses come from random MACs, whenever the kernel is done with them.
fn addresses(link: &Value) -> Vec<String> {
    let all = link["addr_info"].as_array().into_iter().flatten().filter(|a| a["scope"] != "link");
    let text = |a: &Value| {
        let broadcast = a["broadcast"].as_str().map(|b| format!(" brd {b}")).unwrap_or_default();
        format!(
            "{}/{}{broadcast} scope {}",
            a["local"].as_str().unwrap_or_default(),
            a["prefixlen"],
            a["scope"]
        )
    };
    all.map(text).collect()
}

fn routes(place: &Netns, side: Side) -> Vec<String> {
    let mut lines = Vec::new();
    for family in ["-4", "-6"] {
        let routes = place.ip(&format!("{family} route show table all"));
        for route in routes.as_array().into_iter().flatten() {
            let dst = route["dst"].as_str().unwrap_or_default();
            // Multicast, link-local and the addresses' own entries come and go with DAD and carrier.
            if dst.starts_with("fe80")
                || dst.starts_with("ff00")
                || family == "-6" && route["table"] == "local"
            {
                continue;
            }
            let keys = ["type", "dst", "gateway", "dev", "table", "protocol", "scope", "metric", "metrics"];
            let words = keys.iter().filter(|key| !route[**key].is_null()).map(|key| match &route[*key] {
                Value::String(text) => format!("{key} {}", normal_text(text, side)),
                other => format!("{key} {other}"),
            });
            lines.push(words.collect::<Vec<_>>().join(" "));
        }
    }
    lines.sort();
    lines
}

/// `None` where the file is missing, such as for an interface that is not there.
fn sysctl(place: &Netns, name: &str) -> Option<String> {
    place.inside(|| fs::read_to_string(format!("/proc/sys/{name}"))).ok().map(|text| text.trim().to_owned())
}

/// Ours says here which boot the leases are of, and what it left of them. The Go plugin passes over names that are no
/// addresses; `exchange` proves that it does.
pub(super) const MARKER: &str = ".boot_id";

/// Every file of the lease directory of network `labnet`, with its bytes; but for our marker.
fn leases(side: Side) -> Value {
    let dir = format!("/run/leases-{}/labnet", side.name());
    let content = |name: String| {
        let bytes = fs::read(format!("{dir}/{name}")).unwrap_or_default();
        (name, String::from_utf8_lossy(&bytes).into_owned().into())
    };
    Value::Object(files(&dir).into_iter().filter(|name| name != MARKER).map(content).collect())
}
