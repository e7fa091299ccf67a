//! The network that container runtimes are given, and whether anything of its pods is left.

use serde_json::{Value, json};

use crate::lab::{self, Node, Place};

/// One network as a node has it: a bridge with a gateway, every pod with an address and a default route.
pub(crate) fn conflist() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "labnet",
        "plugins": [
            {
                "type": "bridge", "bridge": "lab0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {"type": "host-local", "dataDir": LEASES, "ranges": [[{"subnet": "10.77.0.0/24"}]]}
            },
            {"type": "portmap", "capabilities": {"portMappings": true}}
        ]
    })
}

const LEASES: &str = "/run/cni/networks";
pub(crate) const GATEWAY: &str = "10.77.0.1";

/// The host ends of pods' interfaces; both builds call them `veth…`.
pub(crate) fn host_ends() -> Vec<String> {
    let links = Node.ip("link show type veth");
    let names = links.as_array().into_iter().flatten().filter_map(|l| l["ifname"].as_str());
    names.filter(|name| name.starts_with("veth")).map(str::to_owned).collect()
}

/// Addresses that are reserved in the test network.
pub(crate) fn leases() -> Vec<String> {
    lab::files(format!("{LEASES}/labnet"))
        .into_iter()
        .filter(|f| f.parse::<std::net::IpAddr>().is_ok())
        .collect()
}

/// Rules and set elements of every packet filter that name one of the addresses.
fn rules_about(addresses: &[String]) -> Vec<String> {
    let ruleset = Node.run("nft list ruleset");
    let names = |line: &str| {
        // Whole words: 10.77.0.2 is also the beginning of 10.77.0.20.
        let mut words = line.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
        words.any(|word| addresses.iter().any(|a| a == word))
    };
    ruleset.lines().filter(|l| names(l)).map(str::to_owned).collect()
}

pub(crate) fn assert_nothing_is_left(addresses: &[String]) {
    let namespaces = lab::files("/run/netns").into_iter().filter(|name| name.starts_with("cni-"));
    assert_eq!(namespaces.collect::<Vec<_>>(), Vec::<String>::new(), "namespaces are left");
    assert_nothing_of_pods_is_left(addresses);
}

/// The same without the namespaces, which are the runtime's.
pub(crate) fn assert_nothing_of_pods_is_left(addresses: &[String]) {
    let nothing = Vec::<String>::new();
    assert_eq!(host_ends(), nothing, "veth links are left");
    assert_eq!(leases(), nothing, "leases are left");
    assert_eq!(lab::files("/run/smarter-cni/attachments"), nothing, "records are left");
    assert_eq!(rules_about(addresses), nothing, "rules are left");
}

pub(crate) fn ping(from: &impl Place, to: &str) {
    from.run(&format!("ping -c 1 -W 2 {to}"));
}
