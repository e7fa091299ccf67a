//! The network configuration list of this node: what can be said about a network, and the text a runtime reads.
//!
//! A [`Network`] cannot be wrong: ranges that no plugin could lease from do not get into it. Refuses to know where the
//! list is kept and who asked for it.
//!
//! Pure.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use serde_json::{Map, Value, json};

use crate::log::Level;
use crate::net::{Family, IfName};

/// Names and numbers of the default network. The pod range must be the cluster's `cluster-cidr`.
pub const NETWORK: &str = "smartnet";
pub const BRIDGE: &str = "smartnet0";
/// What every runtime reads. libcni before 1.2 (containerd 1.6) knows no other key and refuses what is newer.
pub const CNI_VERSION: &str = "1.0.0";
/// Of these a newer libcni takes the highest that it knows: from 1.1.0 on runtimes call STATUS and GC.
pub const CNI_VERSIONS: [&str; 2] = [CNI_VERSION, "1.1.0"];
/// Under which containerd and CRI-O hand a pod's annotations to the plugins that ask for them.
pub const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";
pub const SUBNET: &str = "172.38.0.0/16";
/// On a temporary file system: a lease is worth nothing after a reboot.
pub const DATA_DIR: &str = "/var/run/cni/networks";
/// Of several files the runtime takes the first by name. Arm's smarter-cni used the same one.
pub const FILE_NAME: &str = "0-smarter-bridge.conflist";
/// In the order of a runtime: the usual one, and those behind a meta-plugin's file.
pub const FILE_NAMES: [&str; 6] = [
    FILE_NAME,
    "01-smarter-bridge.conflist",
    "10-smarter-bridge.conflist",
    "50-smarter-bridge.conflist",
    "99-smarter-bridge.conflist",
    "zz-smarter-bridge.conflist",
];

/// Plugins that give pods no network of their own but hand them on to that of another file.
pub fn hands_on(kind: &str) -> bool {
    matches!(kind, "multus" | "multus-shim" | "genie" | "danm")
}

/// What can be said about a network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Network {
    pub name: NetworkName,
    pub bridge: IfName,
    pub ranges: Ranges,
    pub mtu: Mtu,
    pub hairpin: bool,
    /// Packets that leave the range get the uplink's address.
    pub masquerade: bool,
    /// Where forwarding is on because of pods, uplinks reach each other too.
    pub forward_others: bool,
    /// Where pods ask the node's name server, beside the gateways.
    pub dns: Option<Ipv4Addr>,
    /// What pods ask of other name servers comes to the node's.
    pub dns_intercept: bool,
    /// `None`: pods get no ports of the node.
    pub host_ports: Option<HostPorts>,
    /// `None`: what the plugins take for the best.
    pub log_level: Option<Level>,
    /// Several runtimes read the list: GC of one would remove the pods of the other, because it names only its own.
    pub shared: bool,
}

/// Keys of the plugin for ports of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPorts {
    pub snat: bool,
    pub strict: bool,
    /// Names of interfaces or beginnings of names (`lan*`). Empty: all.
    pub interfaces: Vec<String>,
    pub deny_interfaces: Vec<String>,
}

impl Default for HostPorts {
    fn default() -> Self {
        Self { snat: true, strict: false, interfaces: Vec::new(), deny_interfaces: Vec::new() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mtu {
    /// What the kernel gives a new bridge.
    #[default]
    Kernel,
    /// That of the default route's uplink when a pod comes.
    Uplink,
    Bytes(u32),
}

impl Default for Network {
    fn default() -> Self {
        let range = SUBNET.parse().ok().and_then(|subnet| Range::new(subnet, None).ok());
        Self {
            name: NetworkName(NETWORK.to_owned()),
            bridge: BRIDGE.parse().expect("a name written in this file"),
            ranges: Ranges(vec![range.expect("a network written in this file")]),
            mtu: Mtu::Kernel,
            hairpin: true,
            masquerade: true,
            forward_others: false,
            dns: None,
            dns_intercept: false,
            host_ports: Some(HostPorts::default()),
            log_level: None,
            shared: false,
        }
    }
}

/// The name of a network: a letter or digit, then letters, digits, `_`, `.`, `-` (CNI SPEC "Configuration format"; libcni
/// checks it so). Safe as one element of a path, except that it is as long as somebody made it: at most 64 bytes here,
/// because it becomes part of file names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkName(String);

impl NetworkName {
    pub fn parse(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let right = text.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
            && text.bytes().all(plain)
            && text.len() <= 64;
        if !right {
            return Err(format!(
                "\"{text}\" is no network name: a letter or digit, then letters, digits, `_`, `.` or `-`, 64 at most"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Addresses of one family that pods can get, and the one of the bridge among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    subnet: IpNetwork,
    gateway: IpAddr,
}

impl Range {
    /// `gateway` is the first address of the subnet unless said otherwise. The text says what is wrong and what would be
    /// right.
    pub fn new(subnet: IpNetwork, gateway: Option<IpAddr>) -> Result<Self, String> {
        let (longest, family) = if subnet.is_ipv4() { (30, "IPv4") } else { (126, "IPv6") };
        if subnet.prefix() > longest {
            return Err(format!(
                "{subnet} has no room for pods: the prefix of an {family} range is /{longest} at most"
            ));
        }
        if subnet.ip() != subnet.network() {
            return Err(format!(
                "{subnet} has host bits set: the network is {}/{}",
                subnet.network(),
                subnet.prefix()
            ));
        }
        if let IpNetwork::V6(v6) = subnet
            && v6.ip().to_ipv4_mapped().is_some()
        {
            return Err(format!("{subnet} is an IPv4 network written as IPv6: write it as IPv4"));
        }
        if let Some(purpose) = reserved(subnet) {
            return Err(format!("{subnet} cannot be given to pods: it is for {purpose}"));
        }
        let gateway = gateway.unwrap_or_else(|| next(subnet.network()));
        if gateway.is_ipv4() != subnet.is_ipv4() || !subnet.contains(gateway) {
            return Err(format!("the gateway {gateway} is not in {subnet}"));
        }
        if gateway == subnet.network() {
            return Err(format!("the gateway {gateway} is the address of the network {subnet} itself"));
        }
        if subnet.is_ipv4() && gateway == subnet.broadcast() {
            return Err(format!("the gateway {gateway} is the broadcast address of {subnet}"));
        }
        Ok(Self { subnet, gateway })
    }

    pub fn subnet(&self) -> IpNetwork {
        self.subnet
    }

    pub fn gateway(&self) -> IpAddr {
        self.gateway
    }

    pub fn family(&self) -> Family {
        if self.subnet.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// The bridge's address, with the prefix of the range.
    pub fn gateway_network(&self) -> IpNetwork {
        IpNetwork::new(self.gateway, self.subnet.prefix()).unwrap_or(self.subnet)
    }

    /// Whether somebody on the Internet may own these addresses. Private are RFC 1918, RFC 6598 (carriers' NAT) and RFC
    /// 4193; those of documentation and benchmarks (RFC 5737, 2544, 3849) belong to nobody either.
    pub fn is_public(&self) -> bool {
        const PRIVATE: &[&str] = &[
            "10.0.0.0/8",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "100.64.0.0/10",
            "192.0.2.0/24",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "198.18.0.0/15",
            "fc00::/7",
            "2001:db8::/32",
        ];
        !PRIVATE.iter().any(|private| is_within(self.subnet, private))
    }
}

/// As `172.38.0.0/16 (gateway 172.38.0.1)`.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (gateway {})", self.subnet, self.gateway)
    }
}

fn is_within(subnet: IpNetwork, outer: &str) -> bool {
    let outer: IpNetwork = outer.parse().expect("a network written in this file");
    outer.is_ipv4() == subnet.is_ipv4()
        && outer.prefix() <= subnet.prefix()
        && outer.contains(subnet.network())
}

/// What a range that overlaps with special addresses would take away (RFC 6890).
fn reserved(subnet: IpNetwork) -> Option<&'static str> {
    const RESERVED: &[(&str, &str)] = &[
        ("0.0.0.0/8", "\"this network\""),
        ("127.0.0.0/8", "the node's own loopback"),
        ("169.254.0.0/16", "link-local addresses"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "future use and broadcast"),
        ("::/127", "the node's own loopback"),
        ("fe80::/10", "link-local addresses"),
        ("ff00::/8", "multicast"),
    ];
    let overlaps = |other: &&(&str, &str)| {
        other.0.parse().is_ok_and(|other: IpNetwork| crate::net::overlap(subnet, other))
    };
    RESERVED.iter().find(overlaps).map(|(_, purpose)| *purpose)
}

fn next(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) => Ipv4Addr::from(u32::from(v4).wrapping_add(1)).into(),
        IpAddr::V6(v6) => std::net::Ipv6Addr::from(u128::from(v6).wrapping_add(1)).into(),
    }
}

/// One range, or one of each family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges(Vec<Range>);

impl Ranges {
    pub fn new(ranges: Vec<Range>) -> Result<Self, String> {
        match ranges.as_slice() {
            [] => Err("no range is given".to_owned()),
            [_] => Ok(Self(ranges)),
            [first, second] if first.family() != second.family() => Ok(Self(ranges)),
            [first, second, ..] if crate::net::overlap(first.subnet, second.subnet) => {
                Err(format!("{} and {} overlap", first.subnet, second.subnet))
            }
            [first, second, ..] if first.family() == second.family() => Err(format!(
                "{} and {} are of one family: a network has one IPv4 range, one IPv6 range, or one of each",
                first.subnet, second.subnet
            )),
            _ => Err("a network has one IPv4 range, one IPv6 range, or one of each".to_owned()),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Range> {
        self.0.iter()
    }

    /// The range of pods' primary addresses.
    pub fn first(&self) -> Range {
        self.0[0]
    }
}

/// The list as a runtime reads it (CNI SPEC "Configuration format"). The plugins are called by our own names, so that a
/// package which owns the standard ones is not picked up by accident.
pub fn conflist(network: &Network) -> Value {
    let ranges = network
        .ranges
        .iter()
        .map(|range| json!([{ "subnet": range.subnet.to_string(), "gateway": range.gateway.to_string() }]));
    let mut bridge = json!({
        "type": "smarter-bridge",
        "bridge": network.bridge.as_str(),
        "isDefaultGateway": true,
        "ipMasq": network.masquerade,
        "hairpinMode": network.hairpin,
        "ipam": { "type": "smarter-ipam", "dataDir": DATA_DIR, "ranges": ranges.collect::<Vec<_>>() },
    });
    if network.forward_others {
        bridge["forwardOthers"] = json!(true);
    }
    if let Some(dns) = network.dns {
        bridge["nodeDns"] = json!(dns.to_string());
        // Names that pods are given by their annotations.
        bridge["capabilities"] = json!({ ANNOTATIONS: true });
    }
    if network.dns_intercept {
        bridge["nodeDnsIntercept"] = json!(true);
    }
    match network.mtu {
        Mtu::Kernel => {}
        Mtu::Uplink => bridge["mtu"] = json!("auto"),
        Mtu::Bytes(bytes) => bridge["mtu"] = json!(bytes),
    }
    let mut plugins: Vec<Value> =
        std::iter::once(bridge).chain(network.host_ports.as_ref().map(portmap)).collect();
    if let Some(level) = network.log_level {
        for plugin in &mut plugins {
            plugin["logLevel"] = json!(level.as_str());
        }
    }
    let mut list = json!({
        "cniVersion": CNI_VERSION,
        "cniVersions": CNI_VERSIONS,
        "name": network.name.as_str(),
        "plugins": plugins,
    });
    if network.shared {
        list["disableGC"] = json!(true);
    }
    list
}

/// The list with its first plugin told to take no new pods; `None` when it cannot be read.
pub fn drained(bytes: &[u8]) -> Option<Value> {
    let mut list: Value = serde_json::from_slice(bytes).ok()?;
    let plugin = list.get_mut("plugins")?.get_mut(0)?.as_object_mut()?;
    plugin.insert("drain".to_owned(), Value::Bool(true));
    Some(list)
}

/// The name of the network, where the list lets no new pods come.
pub fn drains(bytes: &[u8]) -> Option<String> {
    let list: Value = serde_json::from_slice(bytes).ok()?;
    let is_drained = list.get("plugins")?.get(0)?.get("drain")? == &Value::Bool(true);
    is_drained.then(|| list.get("name")?.as_str().map(str::to_owned)).flatten()
}

fn portmap(ports: &HostPorts) -> Value {
    let mut plugin = Map::new();
    plugin.insert("type".to_owned(), json!("smarter-portmap"));
    plugin.insert("capabilities".to_owned(), json!({ "portMappings": true }));
    plugin.insert("snat".to_owned(), json!(ports.snat));
    if ports.strict {
        plugin.insert("strictHostPorts".to_owned(), json!(true));
    }
    for (key, patterns) in
        [("hostPortInterfaces", &ports.interfaces), ("denyHostPortInterfaces", &ports.deny_interfaces)]
    {
        if !patterns.is_empty() {
            plugin.insert(key.to_owned(), json!(patterns));
        }
    }
    Value::Object(plugin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::applet::{APPLETS, Applet};

    fn range(subnet: &str, gateway: &str) -> Result<Range, String> {
        Range::new(subnet.parse().unwrap(), (!gateway.is_empty()).then(|| gateway.parse().unwrap()))
    }

    #[test]
    fn every_type_of_the_default_network_is_a_plugin_of_ours() {
        let list = conflist(&Network::default());
        for plugin in list["plugins"].as_array().unwrap() {
            for name in [&plugin["type"], &plugin["ipam"]["type"]].into_iter().filter(|name| !name.is_null())
            {
                let known = |(known, applet, _): &(&str, Applet, &str)| {
                    name == known && matches!(applet, Applet::Plugin(_))
                };
                assert!(APPLETS.iter().any(known), "{name}");
            }
        }
    }

    #[test]
    fn everything_that_can_be_said_stands_in_the_list() {
        let network = Network {
            name: NetworkName::parse("edge").unwrap(),
            bridge: "edge0".parse().unwrap(),
            ranges: Ranges::new(vec![
                range("10.38.0.0/16", "10.38.0.254").unwrap(),
                range("fd00:38::/64", "").unwrap(),
            ])
            .unwrap(),
            mtu: Mtu::Bytes(1400),
            hairpin: false,
            masquerade: false,
            forward_others: true,
            dns: Some(Ipv4Addr::new(169, 254, 0, 2)),
            dns_intercept: true,
            host_ports: Some(HostPorts {
                snat: false,
                strict: true,
                interfaces: vec!["lan*".into()],
                deny_interfaces: vec!["wwan*".into()],
            }),
            log_level: Some(Level::Warn),
            shared: true,
        };
        assert_eq!(
            conflist(&network),
            json!({
                "cniVersion": "1.0.0", "cniVersions": ["1.0.0", "1.1.0"], "disableGC": true, "name": "edge",
                "plugins": [{
                    "type": "smarter-bridge", "bridge": "edge0", "isDefaultGateway": true, "ipMasq": false,
                    "hairpinMode": false, "forwardOthers": true, "nodeDns": "169.254.0.2", "nodeDnsIntercept": true, "mtu": 1400, "logLevel": "warn",
                    "capabilities": { "io.kubernetes.cri.pod-annotations": true },
                    "ipam": {
                        "type": "smarter-ipam", "dataDir": "/var/run/cni/networks",
                        "ranges": [
                            [{ "subnet": "10.38.0.0/16", "gateway": "10.38.0.254" }],
                            [{ "subnet": "fd00:38::/64", "gateway": "fd00:38::1" }],
                        ],
                    },
                }, {
                    "type": "smarter-portmap", "capabilities": { "portMappings": true }, "snat": false,
                    "strictHostPorts": true, "hostPortInterfaces": ["lan*"], "denyHostPortInterfaces": ["wwan*"],
                    "logLevel": "warn",
                }],
            })
        );
        let bare = Network { host_ports: None, mtu: Mtu::Uplink, shared: false, ..network };
        assert_eq!(conflist(&bare).get("disableGC"), None);
        assert_eq!(conflist(&bare)["plugins"].as_array().unwrap().len(), 1);
        assert_eq!(conflist(&bare)["plugins"][0]["mtu"], "auto");
    }

    #[test]
    fn a_list_that_lets_no_pods_come_says_so() {
        let list = conflist(&Network::default()).to_string();
        assert_eq!(drains(list.as_bytes()), None);
        let closed = drained(list.as_bytes()).unwrap().to_string();
        assert_eq!(drains(closed.as_bytes()), Some(NETWORK.to_owned()));
        for broken in ["", "{", "{}", r#"{"name":"n","plugins":[]}"#] {
            assert_eq!((drained(broken.as_bytes()), drains(broken.as_bytes())), (None, None), "{broken}");
        }
    }

    #[test]
    fn a_range_that_makes_no_sense_is_refused_by_name() {
        for (subnet, gateway, wrong) in [
            (
                "10.1.0.0/31",
                "",
                "10.1.0.0/31 has no room for pods: the prefix of an IPv4 range is /30 at most",
            ),
            (
                "fd00::/127",
                "",
                "fd00::/127 has no room for pods: the prefix of an IPv6 range is /126 at most",
            ),
            ("10.1.2.3/16", "", "10.1.2.3/16 has host bits set: the network is 10.1.0.0/16"),
            ("127.1.0.0/16", "", "127.1.0.0/16 cannot be given to pods: it is for the node's own loopback"),
            ("0.0.0.0/0", "", "0.0.0.0/0 cannot be given to pods: it is for \"this network\""),
            ("224.1.0.0/16", "", "224.1.0.0/16 cannot be given to pods: it is for multicast"),
            ("fe80::/64", "", "fe80::/64 cannot be given to pods: it is for link-local addresses"),
            ("10.1.0.0/16", "10.2.0.1", "the gateway 10.2.0.1 is not in 10.1.0.0/16"),
            ("10.1.0.0/16", "fd00::1", "the gateway fd00::1 is not in 10.1.0.0/16"),
            (
                "10.1.0.0/16",
                "10.1.0.0",
                "the gateway 10.1.0.0 is the address of the network 10.1.0.0/16 itself",
            ),
            (
                "10.1.0.0/16",
                "10.1.255.255",
                "the gateway 10.1.255.255 is the broadcast address of 10.1.0.0/16",
            ),
        ] {
            assert_eq!(range(subnet, gateway).unwrap_err(), wrong);
        }
    }

    #[test]
    fn one_range_of_each_family() {
        let v4 = range("10.1.0.0/16", "").unwrap();
        let v6 = range("fd00::/64", "").unwrap();
        assert_eq!(v4.to_string(), "10.1.0.0/16 (gateway 10.1.0.1)");
        assert!(Ranges::new(vec![v6, v4]).is_ok());
        assert_eq!(Ranges::new(vec![]).unwrap_err(), "no range is given");
        let inner = range("10.1.5.0/24", "").unwrap();
        assert_eq!(Ranges::new(vec![v4, inner]).unwrap_err(), "10.1.0.0/16 and 10.1.5.0/24 overlap");
        let other = range("10.2.0.0/16", "").unwrap();
        assert!(Ranges::new(vec![v4, other]).unwrap_err().contains("are of one family"));
        assert!(Ranges::new(vec![v4, v6, other]).is_err());
    }

    #[test]
    fn the_default_range_is_public_and_private_ones_are_not() {
        assert!(Network::default().ranges.first().is_public());
        for private in ["10.0.0.0/8", "172.31.0.0/16", "192.168.4.0/24", "100.64.0.0/16", "fd12::/48"] {
            assert!(!range(private, "").unwrap().is_public(), "{private}");
        }
        assert!(range("172.32.0.0/16", "").unwrap().is_public());
        assert!(range("2001:470::/64", "").unwrap().is_public());
    }

    #[test]
    fn network_names_are_safe_in_paths() {
        for wrong in ["", "-x", "a/b", "..", "a b", &"x".repeat(65)] {
            assert!(NetworkName::parse(wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(NetworkName::parse("edge_1.a-b").unwrap().as_str(), "edge_1.a-b");
    }
}
