//! Where we differ from the Go plugins on purpose, and why: from 1.1.1, from 1.9 and later, or from both.
//!
//! A difference is known when release, story, path and both values match an entry. Every entry has to be needed: see
//! [`Ledger::not_needed`]. docs/migration.md says the same to users.

mod ledger;

pub(super) use ledger::Ledger;

use crate::lab::Plugins;

/// What a build of the Go plugins is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// 1.1.1, which Debian 12 has.
    Old,
    /// 1.9 and later.
    New,
}

impl Release {
    pub(super) fn of(plugins: Plugins) -> Self {
        if plugins.speak_1_1() { Self::New } else { Self::Old }
    }
}

const BOTH: &[Release] = &[Release::Old, Release::New];
const OLD: &[Release] = &[Release::Old];
const NEW: &[Release] = &[Release::New];

/// `*` in names of stories and in paths stands for anything.
struct Known {
    of: &'static [Release],
    stories: &'static [&'static str],
    differences: &'static [Difference],
    /// For whoever migrates: what changes for them.
    reason: &'static str,
}

/// Path, Go's value, ours. Values are JSON; `*` for any.
type Difference = (&'static str, &'static str, &'static str);

const FORWARDING: &str = "The node is a router as long as it has pods: DEL of the last one gives forwarding back where an ADD had \
                          switched it on. Go leaves it on.";

const KNOWN: &[Known] = &[
    // Results and versions.
    Known {
        of: OLD,
        stories: &[
            "bridge/*",
            "check/*",
            "again/*",
            "leases/*",
            "loopback/*",
            "mac/*",
            "ip/*",
            "args/*",
            "json/*",
            "routes/*",
            "ranges/*",
            "dns/*",
            "del/*",
            "portmap/*",
        ],
        differences: &[("* ADD/answer/dns", "{}", "null")],
        reason: "An empty `dns` is left out of results of specification 1.x, as by the Go plugins since 1.2.",
    },
    Known {
        of: OLD,
        stories: &["dns/of-ipam"],
        differences: &[("* ADD/answer/dns/*", "null", "*")],
        reason: "What IPAM says about DNS is passed on when the network says nothing, as by later Go plugins.",
    },
    Known {
        of: OLD,
        stories: &["protocol/version"],
        differences: &[
            (
                "*/answer/supportedVersions",
                "*",
                r#"["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]"#,
            ),
            ("*/answer/cniVersion", "*", r#""1.1.0""#),
        ],
        reason: "Specification 1.1.0 is newer than Debian's plugins; ours speak it.",
    },
    Known {
        of: BOTH,
        stories: &["loopback/life"],
        differences: &[
            ("* ADD/answer/interfaces", "*", "null"),
            ("* ADD/answer/ips", "*", "null"),
            ("* ADD/answer/ip4", "null", r#"{"ip":"127.0.0.1/8"}"#),
            ("* ADD/answer/ip6", "null", r#"{"ip":"::1/128"}"#),
        ],
        reason: "loopback's results for 0.1.0 and 0.2.0 have the layout of these versions, not that of 1.x.",
    },
    Known {
        of: BOTH,
        stories: &["loopback/*"],
        differences: &[
            ("* ADD/answer/ips/0/version", "null", r#""4""#),
            ("* ADD/answer/ips/1/version", "null", r#""6""#),
        ],
        reason: "loopback's results for 0.3.0 to 0.4.0 have the layout of these versions, not that of 1.x.",
    },
    Known {
        of: NEW,
        stories: &["loopback/life", "loopback/check"],
        differences: &[("* ADD/answer/dns", "null", "{}")],
        reason: "The layout of 0.1.0 to 0.4.0 has an empty `dns`; 1.1.1 printed one by mistake.",
    },
    Known {
        of: BOTH,
        stories: &["leases/route-attributes"],
        differences: &[("* ADD/answer/*routes/1/dst", r#""10.8.1.1/16""#, r#""10.8.0.0/16""#)],
        reason: "The destination of a route is the network, without host bits; with them the kernel refuses the route.",
    },
    // What stands in the kernel.
    Known {
        of: BOTH,
        stories: &[
            "bridge/*",
            "check/layer2",
            "mac/of-layer2",
            "json/*",
            "new/*",
            "routes/without-gateway",
            "routes/default-without-gw-*",
            "dns/*",
            "del/*",
        ],
        differences: &[("*/state/node/links/*/mac", r#""00:00:00:00:00:00""#, r#""<mac>""#)],
        reason: "A bridge has a fixed MAC from its creation. The Go plugin's follows its ports until a gateway comes, and \
                 is lost with the last of them.",
    },
    Known {
        of: BOTH,
        stories: &[
            "bridge/*", "check/*", "again/*", "mac/*", "ip/*", "args/*", "json/*", "routes/*", "ranges/*",
            "new/*", "dns/*", "del/*",
        ],
        differences: &[("*/state/pod/sysctls/net/ipv6/conf/eth0/accept_dad", r#""0""#, r#""1""#)],
        reason: "No IPv6 setting of a pod is touched when it gets no IPv6 address.",
    },
    Known {
        of: OLD,
        stories: &[
            "bridge/dual-stack*",
            "bridge/ipv6-only",
            "bridge/masquerade-dual",
            "bridge/everything",
            "check/dual-stack",
            "routes/dual",
        ],
        differences: &[("*/state/pod/sysctls/net/ipv6/conf/eth0/keep_addr_on_down", r#""0""#, r#""1""#)],
        reason: "A pod keeps its IPv6 addresses when its link goes down, as with later Go plugins.",
    },
    Known {
        of: BOTH,
        stories: &["bridge/exists-with-another-address"],
        differences: &[
            ("/00 ADD/status", "1", "0"),
            ("/00 ADD/answer/code", "999", "null"),
            ("/00 ADD/answer/*", "null", "*"),
            ("/00 ADD/state/leases/10.1.2.2", "null", "*"),
            ("*/state/node/links/lab0/addresses", "*", "*"),
            ("*/state/node/routes", "*", "*"),
            ("*/state/node/sysctls/net/ipv4/ip_forward", r#""0""#, r#""1""#),
        ],
        reason: "An address of somebody else on the bridge is no error; the gateway's is added beside it.",
    },
    Known {
        of: BOTH,
        stories: &["ranges/two-in-one-set"],
        differences: &[
            ("/01 ADD/status", "1", "0"),
            ("/01 ADD/answer/code", "999", "null"),
            ("/01 ADD/answer/*", "null", "*"),
            ("/01 ADD/state/leases/10.1.3.2", "null", "*"),
            ("*/state/node/links/lab0/addresses", "*", "*"),
            ("*/state/node/routes", "*", "*"),
        ],
        reason: "Ranges of one family work together, each with its gateway on the bridge; with Go the second one conflicts.",
    },
    Known {
        of: BOTH,
        stories: &["routes/with-mtu"],
        differences: &[("/00 ADD/state/pod/routes/*", "*", "*")],
        reason: "`mtu` and `advmss` of routes are applied. Go only prints them.",
    },
    Known {
        of: OLD,
        stories: &["routes/with-mtu"],
        differences: &[
            ("/00 ADD/answer/routes/0/mtu", "null", "1300"),
            ("/00 ADD/answer/routes/0/advmss", "null", "1200"),
        ],
        reason: "Attributes of routes are in the result, as with later Go plugins.",
    },
    Known {
        of: BOTH,
        stories: &["routes/default-without-gw-and-default-gateway"],
        differences: &[
            ("/00 ADD/status", "1", "0"),
            ("/00 ADD/answer/code", "999", "null"),
            ("/00 ADD/answer/*", "null", "*"),
            ("/00 ADD/state/leases/10.1.2.2", "null", "*"),
            ("*/state/node/links/lab0/addresses", "[]", r#"["10.1.2.1/24 brd 10.1.2.255 scope \"global\""]"#),
            ("*/state/node/routes", "*", "*"),
            ("*/state/node/sysctls/net/ipv4/ip_forward", r#""0""#, r#""1""#),
        ],
        reason: "A default route of IPAM without `gw` and `isDefaultGateway` work together; Go adds it twice and fails.",
    },
    // Failures leave nothing.
    Known {
        of: BOTH,
        stories: &["bridge/layer2"],
        differences: &[
            ("/00 ADD/state/node/links/<veth>", "*", "null"),
            ("/00 ADD/state/pod/links/eth0", "*", "null"),
            ("/00 ADD/state/pod/sysctls/*", "*", "null"),
        ],
        reason: "0.1.0 and 0.2.0 have no words for layer 2: the same error, but the pod's interface does not stay behind.",
    },
    Known {
        of: BOTH,
        stories: &["errors/no-such-ipam", "errors/ipam-config", "ip/of-a-network-nobody-has"],
        differences: &[
            ("* ADD/state/node/links/lab0", "*", "null"),
            ("* ADD/state/node/links/<veth>", "*", "null"),
            ("* ADD/state/pod/links/eth*", "*", "null"),
        ],
        reason: "The address is leased before any interface is made, so an ADD that gets none leaves none behind.",
    },
    Known {
        of: BOTH,
        stories: &["errors/no-such-ipam", "ip/of-a-network-nobody-has"],
        differences: &[
            ("/00 ADD/state/pod/sysctls/*", "*", "null"),
            ("/01 DEL/state/node/links/lab0", "*", "null"),
        ],
        reason: "The same.",
    },
    Known {
        of: BOTH,
        stories: &["errors/namespace", "mac/wrong"],
        differences: &[("*/state/node/links/lab0", "*", "null")],
        reason: "Values and namespace are looked at before anything is touched, so no bridge is made for a bad request.",
    },
    Known {
        of: BOTH,
        stories: &["again/interface-is-taken", "bridge/is-no-bridge", "mac/multicast"],
        differences: &[
            ("/00 ADD/state/leases/lock", "null", r#""""#),
            ("*/state/leases/last_reserved_ip.0", "null", r#""10.1.2.2""#),
        ],
        reason: "The address is leased before any interface is made. An ADD that fails at the interface gives it back, and \
                 the next one gets the next address.",
    },
    Known {
        of: BOTH,
        stories: &["again/interface-is-taken"],
        differences: &[
            ("/02 ADD/answer/ips/0/address", r#""10.1.2.2/24""#, r#""10.1.2.3/24""#),
            ("/02 ADD/state/leases/10.1.2.2", "*", "null"),
            ("/02 ADD/state/leases/10.1.2.3", "null", "*"),
            ("*/state/leases/last_reserved_ip.0", r#""10.1.2.2""#, r#""10.1.2.3""#),
            ("/02 ADD/state/pod/links/eth0/addresses/0", "*", "*"),
            ("/02 ADD/state/pod/routes/2", "*", "*"),
        ],
        reason: "The same.",
    },
    Known {
        of: OLD,
        stories: &["errors/own-namespace"],
        differences: &[
            ("/00 ADD/status", "0", "1"),
            ("/00 ADD/answer/code", "null", "8"),
            ("/00 ADD/answer/*", "*", "null"),
            ("/00 ADD/state/node/routes", "*", "*"),
        ],
        reason: "A plugin's own namespace as the pod's is refused before anything is done. 1.1.1 attaches the node to \
                 itself.",
    },
    Known {
        of: NEW,
        stories: &["errors/own-namespace"],
        differences: &[("/00 ADD/answer/code", "0", "8")],
        reason: "It is refused by bridge, with a code that says so. In Go the IPAM plugin notices when it has given the \
                 address, and bridge passes its two answers on as none.",
    },
    Known {
        of: BOTH,
        stories: &["errors/own-namespace"],
        differences: &[("/00 ADD/state/leases/*", "*", "null"), ("/00 ADD/state/node/links/*", "*", "null")],
        reason: "It leaves no lease and no interface behind.",
    },
    Known {
        of: BOTH,
        stories: &["errors/null-elements"],
        differences: &[
            ("/00 ADD/status", "2", "1"),
            ("/00 ADD/answer/code", "null", "999"),
            ("/01 ADD/answer/code", "999", "7"),
            ("* ADD/state/leases/*", "*", "null"),
            ("* ADD/state/node/links/*", "*", "null"),
            ("* ADD/state/pod/links/eth0", "*", "null"),
            ("* ADD/state/pod/routes", "*", "[]"),
            ("* ADD/state/pod/sysctls/*", "*", "null"),
        ],
        reason: "`null` as an element of an array is an error; it crashes Go half way.",
    },
    // DEL and CHECK.
    Known {
        of: BOTH,
        stories: &["check/layer2"],
        differences: &[("/01 CHECK/status", "1", "0"), ("/01 CHECK/answer", r#"{"code":999}"#, "null")],
        reason: "CHECK works on layer 2, where Go asks for an IPAM plugin.",
    },
    Known {
        of: BOTH,
        stories: &["del/namespace-is-a-file"],
        differences: &[
            ("* DEL/status", "1", "0"),
            ("* DEL/answer", r#"{"code":999}"#, "null"),
            ("* DEL/state/leases/10.1.2.2", "*", "null"),
            ("* DEL/state/node/links/<veth>", "*", "null"),
            ("* DEL/state/pod/links/eth0", "*", "null"),
            ("* DEL/state/pod/routes", "*", "[]"),
            ("* DEL/state/pod/sysctls/*", "*", "null"),
        ],
        reason: "A plain file, which is what is left when the mount is gone, is a namespace that is gone. Go fails for \
                 ever and keeps the address.",
    },
    Known {
        of: BOTH,
        stories: &["del/without-namespace", "del/namespace-is-gone"],
        differences: &[
            ("/01 DEL/state/node/links/<veth>", "*", "null"),
            ("/01 DEL/state/pod/links/eth0", "*", "null"),
            ("/01 DEL/state/pod/routes", "*", "[]"),
            ("/01 DEL/state/pod/sysctls/*", "*", "null"),
        ],
        reason: "DEL removes the interface of the attachment also when nobody says where the namespace is.",
    },
    Known {
        of: BOTH,
        stories: &["leases/wrong-configurations", "leases/two-of-a-family"],
        differences: &[("* DEL/status", "1", "0"), ("* DEL/answer", r#"{"code":999}"#, "null")],
        reason: "DEL does not validate what it does not need, so a pod whose configuration became invalid can go.",
    },
    Known {
        of: BOTH,
        stories: &[
            "del/before-add",
            "errors/hairpin-and-promisc",
            "mac/wrong",
            "new/container-interface-down-with-ipam",
            "leases/check",
            "leases/wrong-configurations",
        ],
        differences: &[("*/state/leases/lock", r#""""#, "null")],
        reason: "DEL and CHECK make no directory for the leases of a network that never had one.",
    },
    Known {
        of: NEW,
        stories: &["new/masquerade-nftables", "new/masquerade-unknown"],
        differences: &[("* DEL/status", "1", "0"), ("* DEL/answer", r#"{"code":999}"#, "null")],
        reason: "DEL knows what was made. Go tries to remove what either backend would have made, and \
                 reports the iptables chain that never was.",
    },
    Known {
        of: NEW,
        stories: &["new/masquerade-unknown"],
        differences: &[
            ("*/state/leases/lock", r#""""#, "null"),
            ("*/state/leases/last_reserved_ip.0", r#""10.1.2.2""#, "null"),
            ("*/state/node/links/*", "*", "null"),
            ("*/state/node/routes", "*", "*"),
            ("*/state/node/sysctls/net/ipv4/ip_forward", r#""1""#, r#""0""#),
            ("/00 ADD/state/pod/links/eth0", "*", "null"),
            ("/00 ADD/state/pod/routes", "*", "[]"),
            ("/00 ADD/state/pod/sysctls/*", "*", "null"),
        ],
        reason: "An unknown backend is refused before anything is done. Go finds it at the very end, and leaves the pod \
                 half attached.",
    },
    Known {
        of: NEW,
        stories: &["new/status-of-a-full-range"],
        differences: &[("*/state/node/links/<veth>*", "*", "null"), ("*/state/pod/links/eth1", "*", "null")],
        reason: "The address is leased before any interface is made, so an ADD that gets none leaves none behind.",
    },
    Known {
        of: NEW,
        stories: &["new/gc-without-the-pod"],
        differences: &[
            ("/01 GC/state/leases/10.1.2.2", "*", "null"),
            ("/01 GC/state/node/links/<veth>", "*", "null"),
            ("/01 GC/state/pod/links/eth0", "*", "null"),
            ("/01 GC/state/pod/routes", "*", "[]"),
            ("/01 GC/state/pod/sysctls/*", "*", "null"),
        ],
        reason: "GC frees what the runtime does not list; Go has no GC and does nothing.",
    },
    Known {
        of: OLD,
        stories: &["portmap/*"],
        differences: &[("/01 CHECK/status", "1", "0"), ("/01 CHECK/answer", r#"{"code":999}"#, "null")],
        reason: "CHECK of a pod with IPv4 alone asks Debian's build for IPv6 rules too, and fails; later ones and ours do not.",
    },
    Known {
        of: BOTH,
        stories: &[
            "again/interface-is-taken",
            "again/second-add-fails",
            "args/kubernetes",
            "bridge/default-gateway",
            "bridge/default-name",
            "bridge/dual-stack",
            "bridge/everything",
            "bridge/exists-with-mtu",
            "bridge/exists-with-the-address",
            "bridge/force-address",
            "bridge/gateway",
            "bridge/masquerade",
            "bridge/masquerade-dual",
            "check/address-is-gone",
            "check/bridge-is-gone",
            "check/default-route-is-gone",
            "check/dual-stack",
            "check/interface-is-gone",
            "check/lease-is-gone",
            "check/link-is-down",
            "check/mac-changed",
            "check/no-prev-result",
            "check/too-old",
            "ip/args",
            "ip/cni-args",
            "ip/runtime-config",
            "json/case-of-keys",
            "mac/args",
            "mac/cni-args",
            "mac/precedence",
            "mac/runtime-config",
            "ranges/start-end-gateway",
            "ranges/two-in-one-set",
            "routes/default-from-ipam",
            "routes/default-with-gw-and-default-gateway",
            "routes/dual",
            "routes/static",
            "routes/with-mtu",
        ],
        differences: &[("*/state/node/sysctls/net/ipv4/ip_forward", r#""1""#, r#""0""#)],
        reason: FORWARDING,
    },
    Known {
        of: NEW,
        stories: &[
            "new/backend-without-masquerade",
            "new/dad",
            "new/gc-with-the-pod",
            "new/gc-without-the-pod",
            "new/masquerade-iptables",
            "new/masquerade-nftables",
            "new/routes-with-everything",
            "new/status",
        ],
        differences: &[("*/state/node/sysctls/net/ipv4/ip_forward", r#""1""#, r#""0""#)],
        reason: FORWARDING,
    },
    Known {
        of: BOTH,
        stories: &[
            "bridge/dual-stack",
            "bridge/everything",
            "bridge/ipv6-only",
            "bridge/masquerade-dual",
            "check/dual-stack",
            "routes/dual",
        ],
        differences: &[("*/state/node/sysctls/net/ipv6/conf/all/forwarding", r#""1""#, r#""0""#)],
        reason: FORWARDING,
    },
    Known {
        of: NEW,
        stories: &["new/dad"],
        differences: &[("*/state/node/sysctls/net/ipv6/conf/all/forwarding", r#""1""#, r#""0""#)],
        reason: FORWARDING,
    },
];
