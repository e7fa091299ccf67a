//! The stories that are told to both sides.

use std::fs;

use serde_json::{Value, json};

use super::{Act, Case, VERSIONS, call, compare, merge};
use crate::sandbox::sandboxed;

/// The versions that have CHECK.
const CHECKED: &[&str] = &["0.4.0", "1.0.0", "1.1.0"];
/// One version of each layout, for what does not depend on the version.
const LAYOUTS: &[&str] = &["0.2.0", "0.4.0", "1.0.0"];
const ONE: &[&str] = &["1.0.0"];

/// ADD, then DEL twice: the second must find nothing to complain about.
fn life() -> Vec<Act> {
    vec![call("ADD").into(), call("DEL").into(), call("DEL").into()]
}

fn story(
    name: &'static str,
    plugin: &'static str,
    config: Value,
    versions: &'static [&'static str],
    acts: Vec<Act>,
) -> Case {
    let mut whole = json!({"name": "labnet", "type": plugin});
    merge(&mut whole, &config);
    Case { name, plugin, config: whole, versions, acts }
}

fn bridge(name: &'static str, config: Value, versions: &'static [&'static str], acts: Vec<Act>) -> Case {
    let mut whole = json!({"bridge": "lab0"});
    merge(&mut whole, &config);
    story(name, "bridge", whole, versions, acts)
}

/// host-local's part of a configuration.
fn ipam(rest: Value) -> Value {
    let mut whole = json!({"type": "host-local", "dataDir": "/run/leases-SIDE"});
    merge(&mut whole, &rest);
    whole
}

fn subnet() -> Value {
    ipam(json!({"subnet": "10.1.2.0/24"}))
}

fn dual() -> Value {
    ipam(json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd01:2::/64"}]]}))
}

fn host_local(name: &'static str, part: Value, versions: &'static [&'static str], acts: Vec<Act>) -> Case {
    story(name, "host-local", json!({"ipam": ipam(part)}), versions, acts)
}

fn bridges() -> Vec<Case> {
    let all = VERSIONS.as_slice();
    vec![
        bridge("bridge/layer2", json!({}), all, life()),
        bridge("bridge/layer2-hairpin-mtu", json!({"hairpinMode": true, "mtu": 1400}), CHECKED, life()),
        bridge("bridge/layer2-promisc", json!({"promiscMode": true}), CHECKED, life()),
        bridge("bridge/layer3", json!({"ipam": subnet()}), all, life()),
        bridge("bridge/gateway", json!({"isGateway": true, "ipam": subnet()}), all, life()),
        bridge("bridge/default-gateway", json!({"isDefaultGateway": true, "ipam": subnet()}), all, life()),
        bridge("bridge/dual-stack", json!({"isDefaultGateway": true, "ipam": dual()}), all, life()),
        bridge("bridge/dual-stack-plain", json!({"ipam": dual()}), LAYOUTS, life()),
        bridge(
            "bridge/ipv6-only",
            json!({"isGateway": true, "ipam": ipam(json!({"ranges": [[{"subnet": "fd01:2::/64"}]]}))}),
            all,
            life(),
        ),
        bridge(
            "bridge/masquerade",
            json!({"isGateway": true, "ipMasq": true, "ipam": subnet()}),
            all,
            life(),
        ),
        bridge(
            "bridge/masquerade-dual",
            json!({"isGateway": true, "ipMasq": true, "ipam": dual()}),
            LAYOUTS,
            life(),
        ),
        bridge(
            "bridge/everything",
            json!({"isDefaultGateway": true, "ipMasq": true, "hairpinMode": true, "mtu": 1420, "ipam": dual()}),
            all,
            life(),
        ),
        bridge(
            "bridge/default-name",
            json!({"bridge": null, "isGateway": true, "ipam": subnet()}),
            LAYOUTS,
            life(),
        ),
    ]
}

fn addresses_and_routes() -> Vec<Case> {
    let all = VERSIONS.as_slice();
    let routed = |routes: Value| {
        let mut part = subnet();
        part["routes"] = routes;
        part
    };
    vec![
        bridge(
            "routes/static",
            json!({"isGateway": true, "ipam": routed(json!([{"dst": "10.7.0.0/16"}, {"dst": "10.8.0.0/16", "gw": "10.1.2.9"}]))}),
            all,
            life(),
        ),
        bridge(
            "routes/default-from-ipam",
            json!({"isGateway": true, "ipam": routed(json!([{"dst": "0.0.0.0/0"}]))}),
            all,
            life(),
        ),
        bridge(
            "routes/default-with-gw-and-default-gateway",
            json!({"isDefaultGateway": true, "ipam": routed(json!([{"dst": "0.0.0.0/0", "gw": "10.1.2.7"}]))}),
            LAYOUTS,
            life(),
        ),
        bridge(
            "routes/without-gateway",
            json!({"ipam": ipam(json!({"subnet": "10.1.2.0/24", "routes": [{"dst": "192.168.0.0/16"}]}))}),
            LAYOUTS,
            life(),
        ),
        bridge(
            "routes/dual",
            json!({"isGateway": true, "ipam": ipam(json!({
                "ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd01:2::/64"}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "fd99::/48"}]
            }))}),
            all,
            life(),
        ),
        bridge(
            "ranges/start-end-gateway",
            json!({"isGateway": true, "ipam": ipam(json!({"ranges": [[
                {"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.20", "rangeEnd": "10.1.2.21", "gateway": "10.1.2.254"}
            ]]}))}),
            LAYOUTS,
            life(),
        ),
        bridge(
            "ranges/two-in-one-set",
            json!({"isGateway": true, "ipam": ipam(json!({"ranges": [[
                {"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.20", "rangeEnd": "10.1.2.20"}, {"subnet": "10.1.3.0/24"}
            ]]}))}),
            LAYOUTS,
            vec![
                call("ADD").into(),
                call("ADD").env("CNI_CONTAINERID", "c2").env("CNI_IFNAME", "eth1").into(),
                call("DEL").env("CNI_CONTAINERID", "c2").env("CNI_IFNAME", "eth1").into(),
                call("DEL").into(),
            ],
        ),
        bridge(
            "dns/of-the-network",
            json!({"dns": {"nameservers": ["10.1.2.1"], "domain": "lab", "search": ["a", "b"], "options": ["ndots:2"]}, "ipam": subnet()}),
            all,
            life(),
        ),
        bridge("dns/empty-list", json!({"dns": {"nameservers": []}, "ipam": subnet()}), LAYOUTS, life()),
        bridge(
            "dns/of-ipam",
            json!({"ipam": ipam(json!({"subnet": "10.1.2.0/24", "resolvConf": "/run/resolv.conf"}))}),
            all,
            [
                vec![Act::OnNode("cp /etc/passwd /run/resolv.conf"), call("ADD").into(), call("DEL").into()],
                vec![Act::OnNode("sh /run/write-resolv-conf"), call("ADD").into(), call("DEL").into()],
            ]
            .concat(),
        ),
    ]
}

fn requests() -> Vec<Case> {
    let gateway = json!({"isGateway": true, "ipam": subnet()});
    let add = |changes| vec![call("ADD").with(changes).into(), call("DEL").into()];
    vec![
        bridge(
            "mac/cni-args",
            gateway.clone(),
            LAYOUTS,
            vec![call("ADD").env("CNI_ARGS", "IgnoreUnknown=1;MAC=02:11:22:33:44:55").into(), call("DEL").into()],
        ),
        bridge("mac/args", gateway.clone(), LAYOUTS, add(json!({"args": {"cni": {"mac": "02:11:22:33:44:55"}}}))),
        bridge(
            "mac/runtime-config",
            gateway.clone(),
            LAYOUTS,
            add(json!({"runtimeConfig": {"mac": "02:11:22:33:44:55"}})),
        ),
        bridge(
            "mac/precedence",
            gateway.clone(),
            ONE,
            vec![
                call("ADD")
                    .env("CNI_ARGS", "IgnoreUnknown=1;MAC=02:00:00:00:00:01")
                    .with(json!({
                        "args": {"cni": {"mac": "02:00:00:00:00:02"}}, "runtimeConfig": {"mac": "02:11:22:33:44:55"}
                    }))
                    .into(),
                call("DEL").into(),
            ],
        ),
        bridge("mac/of-layer2", json!({}), ONE, add(json!({"runtimeConfig": {"mac": "02-11-22-33-44-55"}}))),
        bridge("mac/wrong", gateway.clone(), ONE, add(json!({"runtimeConfig": {"mac": "zz"}}))),
        bridge("mac/multicast", gateway.clone(), ONE, add(json!({"runtimeConfig": {"mac": "03:11:22:33:44:55"}}))),
        bridge(
            "ip/cni-args",
            gateway.clone(),
            LAYOUTS,
            vec![call("ADD").env("CNI_ARGS", "IgnoreUnknown=1;IP=10.1.2.77").into(), call("DEL").into()],
        ),
        bridge("ip/args", gateway.clone(), LAYOUTS, add(json!({"args": {"cni": {"ips": ["10.1.2.77"]}}}))),
        bridge(
            "ip/runtime-config",
            gateway.clone(),
            LAYOUTS,
            add(json!({"runtimeConfig": {"ips": ["10.1.2.77/24"]}})),
        ),
        bridge(
            "ip/of-a-network-nobody-has",
            gateway.clone(),
            ONE,
            add(json!({"runtimeConfig": {"ips": ["10.9.9.9"]}})),
        ),
        bridge(
            "args/kubernetes",
            gateway.clone(),
            LAYOUTS,
            vec![
                call("ADD")
                    .env("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=p;K8S_POD_UID=u")
                    .into(),
                call("DEL").env("CNI_ARGS", "IgnoreUnknown=true;K8S_POD_NAME=p").into(),
            ],
        ),
        bridge(
            "args/unknown",
            gateway.clone(),
            ONE,
            vec![
                call("ADD").env("CNI_ARGS", "K8S_POD_NAME=p").into(),
                call("ADD").env("CNI_ARGS", "IgnoreUnknown=0;K8S_POD_NAME=p").into(),
                call("ADD").env("CNI_ARGS", "IgnoreUnknown=maybe").into(),
                call("ADD").env("CNI_ARGS", "MAC=02:11:22:33:44:55;").into(),
                call("ADD").env("CNI_ARGS", "MAC").into(),
                call("ADD").env("CNI_ARGS", "mac=02:11:22:33:44:55").into(),
            ],
        ),
        bridge(
            "json/case-of-keys",
            json!({"BRIDGE": "lab1", "isgateway": true, "Ipam": subnet(), "runtimeconfig": {"MAC": "02:11:22:33:44:55"}}),
            LAYOUTS,
            life(),
        ),
        bridge(
            "json/null-is-absent",
            json!({"isGateway": true, "mtu": null, "dns": null, "args": null, "runtimeConfig": null, "ipam": subnet()}),
            ONE,
            vec![
                call("ADD").raw(
                    r#"{"cniVersion":"1.0.0","name":"labnet","type":"bridge","bridge":null,"mtu":null,"dns":null,"args":null,
                        "hairpinMode":null,"runtimeConfig":null,"prevResult":null,"ipam":
                        {"type":"host-local","dataDir":"/run/leases-SIDE","subnet":"10.1.2.0/24","ranges":null,"routes":null}}"#,
                ).into(),
                call("DEL").into(),
            ],
        ),
    ]
}

fn disturbances() -> Vec<Case> {
    let gateway = json!({"isGateway": true, "ipam": subnet()});
    let with = |changes: Value| {
        let mut whole = gateway.clone();
        merge(&mut whole, &changes);
        whole
    };
    let existing = |address: &'static str| {
        vec![
            Act::OnNode("ip link add lab0 type bridge"),
            Act::OnNode(address),
            Act::OnNode("ip link set lab0 up"),
        ]
    };
    vec![
        bridge(
            "again/second-add-fails",
            gateway.clone(),
            LAYOUTS,
            vec![call("ADD").into(), call("ADD").into(), call("DEL").into()],
        ),
        bridge(
            "again/interface-is-taken",
            gateway.clone(),
            ONE,
            vec![
                Act::InPod("ip link add eth0 type veth peer name other0"),
                call("ADD").says("already exists").into(),
                call("DEL").into(),
                call("ADD").into(),
                call("DEL").into(),
            ],
        ),
        bridge("del/before-add", gateway.clone(), VERSIONS.as_slice(), vec![call("DEL").into()]),
        bridge(
            "del/without-namespace",
            json!({"ipam": subnet()}),
            LAYOUTS,
            vec![call("ADD").into(), call("DEL").env("CNI_NETNS", "").into()],
        ),
        bridge(
            "del/namespace-is-gone",
            json!({"ipam": subnet()}),
            LAYOUTS,
            vec![call("ADD").into(), call("DEL").env("CNI_NETNS", "/run/netns/gone").into()],
        ),
        bridge(
            "del/interface-is-gone",
            json!({"ipam": subnet()}),
            LAYOUTS,
            vec![call("ADD").into(), Act::InPod("ip link del eth0"), call("DEL").into()],
        ),
        bridge(
            "bridge/exists-with-the-address",
            gateway.clone(),
            ONE,
            [existing("ip addr add 10.1.2.1/24 dev lab0"), life()].concat(),
        ),
        bridge(
            "bridge/exists-with-another-address",
            gateway.clone(),
            ONE,
            [existing("ip addr add 10.9.0.1/24 dev lab0"), vec![call("ADD").into(), call("DEL").into()]]
                .concat(),
        ),
        bridge(
            "bridge/force-address",
            with(json!({"forceAddress": true})),
            ONE,
            [existing("ip addr add 10.9.0.1/24 dev lab0"), life()].concat(),
        ),
        bridge(
            "bridge/exists-with-mtu",
            with(json!({"mtu": 1300})),
            ONE,
            [existing("ip link set lab0 mtu 1280"), life()].concat(),
        ),
        bridge(
            "bridge/is-no-bridge",
            gateway.clone(),
            ONE,
            vec![
                Act::OnNode("ip link add lab0 type veth peer name other0"),
                call("ADD").says("already exists but is not a bridge").into(),
            ],
        ),
        bridge(
            "errors/hairpin-and-promisc",
            with(json!({"hairpinMode": true, "promiscMode": true})),
            ONE,
            vec![call("ADD").says("hairpin").into(), call("DEL").into()],
        ),
        bridge(
            "errors/no-such-ipam",
            json!({"ipam": {"type": "nobody"}}),
            ONE,
            vec![call("ADD").into(), call("DEL").into()],
        ),
        bridge("errors/vlan", with(json!({"vlan": 4095})), ONE, vec![call("ADD").says("4095").into()]),
        bridge(
            "errors/namespace",
            gateway.clone(),
            ONE,
            vec![
                call("ADD").env("CNI_NETNS", "/run/netns/gone").says("/run/netns/gone").into(),
                call("ADD").env("CNI_NETNS", "/etc/passwd").says("/etc/passwd").into(),
            ],
        ),
        bridge(
            "errors/types",
            gateway.clone(),
            ONE,
            [
                json!({"mtu": "1500"}),
                json!({"mtu": 1500.5}),
                json!({"isGateway": "true"}),
                json!({"bridge": 1}),
                json!({"ipam": []}),
            ]
            .into_iter()
            .chain([json!({"dns": "10.0.0.1"}), json!({"vlan": "5"}), json!({"runtimeConfig": {"mac": 1}})])
            .map(|changes| call("ADD").with(changes).into())
            .collect(),
        ),
        bridge(
            "errors/ipam-config",
            gateway.clone(),
            ONE,
            [
                json!({"ipam": {"subnet": "10.1.2.5/24"}}),
                json!({"ipam": {"subnet": "10.1.2.0/31"}}),
                json!({"ipam": {"subnet": "x"}}),
            ]
            .into_iter()
            .map(|changes| call("ADD").env("CNI_IFNAME", "eth9").with(changes).into())
            .collect(),
        ),
    ]
}

fn checks() -> Vec<Case> {
    let gateway = json!({"isGateway": true, "ipam": ipam(json!({"subnet": "10.1.2.0/24", "routes": [{"dst": "0.0.0.0/0"}]}))});
    let disturbed = |name, act: Act| {
        bridge(
            name,
            gateway.clone(),
            CHECKED,
            vec![call("ADD").into(), call("CHECK").into(), act, call("CHECK").into(), call("DEL").into()],
        )
    };
    vec![
        bridge(
            "check/too-old",
            gateway.clone(),
            &["0.1.0", "0.3.1"],
            vec![call("ADD").into(), call("CHECK").into(), call("DEL").into()],
        ),
        bridge(
            "check/dual-stack",
            json!({"isDefaultGateway": true, "ipMasq": true, "hairpinMode": true, "ipam": dual()}),
            CHECKED,
            vec![call("ADD").into(), call("CHECK").into(), call("DEL").into()],
        ),
        disturbed("check/address-is-gone", Act::InPod("ip addr del 10.1.2.2/24 dev eth0")),
        disturbed("check/default-route-is-gone", Act::InPod("ip route del default")),
        disturbed("check/link-is-down", Act::InPod("ip link set eth0 down")),
        disturbed("check/mac-changed", Act::InPod("ip link set eth0 address 02:00:00:00:00:09")),
        disturbed("check/interface-is-gone", Act::InPod("ip link del eth0")),
        disturbed("check/bridge-is-gone", Act::OnNode("ip link del lab0")),
        disturbed("check/lease-is-gone", Act::OnNode("rm /run/leases-SIDE/labnet/10.1.2.2")),
        disturbed("check/no-prev-result", call("CHECK").with(json!({"prevResult": null})).into()),
    ]
}

fn leases() -> Vec<Case> {
    let all = VERSIONS.as_slice();
    let plain = json!({"subnet": "10.1.2.0/24"});
    let id = |verb, id| call(verb).env("CNI_CONTAINERID", id);
    let small =
        json!({"ranges": [[{"subnet": "10.1.2.0/29", "rangeStart": "10.1.2.2", "rangeEnd": "10.1.2.3"}]]});
    vec![
        host_local("leases/life", plain.clone(), all, life()),
        host_local(
            "leases/dual",
            json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd01:2::/64"}]], "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0", "gw": "fd01:2::9"}]}),
            all,
            life(),
        ),
        host_local(
            "leases/two-of-a-family",
            json!({"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.3.0/24"}]]}),
            all,
            life(),
        ),
        host_local("leases/check", plain.clone(), CHECKED, vec![call("CHECK").into(), call("ADD").into(), call("CHECK").into(), call("DEL").into(), call("CHECK").into()]),
        host_local(
            "leases/duplicate",
            plain.clone(),
            LAYOUTS,
            vec![call("ADD").into(), call("ADD").says("10.1.2.2 has been allocated to c1").into(), call("ADD").env("CNI_IFNAME", "eth1").into(), call("DEL").into()],
        ),
        host_local(
            "leases/exhaustion-and-wrap",
            small,
            ONE,
            vec![
                id("ADD", "a").into(),
                id("ADD", "b").into(),
                id("ADD", "c").says("no IP addresses available in range set: 10.1.2.2-10.1.2.3").into(),
                id("DEL", "a").into(),
                id("ADD", "d").into(),
                id("DEL", "b").into(),
                id("ADD", "e").into(),
            ],
        ),
        host_local(
            "leases/not-reused-at-once",
            plain.clone(),
            ONE,
            vec![id("ADD", "a").into(), id("DEL", "a").into(), id("ADD", "b").into(), id("DEL", "b").into(), id("ADD", "a").into()],
        ),
        host_local(
            "leases/requested",
            plain.clone(),
            ONE,
            vec![
                id("ADD", "a").env("CNI_ARGS", "IP=10.1.2.9").into(),
                id("ADD", "b").env("CNI_ARGS", "IP=10.1.2.9").says("10.1.2.9").into(),
                id("ADD", "b").env("CNI_ARGS", "IP=10.1.2.1").says("10.1.2.1").into(),
                id("ADD", "b").env("CNI_ARGS", "IP=10.3.3.3").says("10.3.3.3").into(),
                id("ADD", "b").env("CNI_ARGS", "IP=x").into(),
                id("ADD", "b").with(json!({"args": {"cni": {"ips": ["10.1.2.40/24"]}}})).into(),
                id("ADD", "c").with(json!({"runtimeConfig": {"ips": ["10.1.2.41"]}})).into(),
                id("ADD", "d").with(json!({"runtimeConfig": {"ips": ["10.1.2.42", "10.1.2.42"]}})).into(),
                id("ADD", "e").with(json!({"runtimeConfig": {"ips": [""]}})).into(),
                id("ADD", "f").into(),
            ],
        ),
        host_local(
            "leases/ranges-of-the-runtime",
            plain.clone(),
            ONE,
            vec![
                call("ADD").with(json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.5.0.0/24"}]]}})).into(),
                call("DEL").with(json!({"runtimeConfig": {"ipRanges": [[{"subnet": "10.5.0.0/24"}]]}})).into(),
                call("ADD").with(json!({"runtimeConfig": {"ipRanges": [[{"Subnet": "10.6.0.0/24", "RangeStart": "10.6.0.7"}]]}})).into(),
            ],
        ),
        host_local(
            "leases/found-files",
            plain.clone(),
            ONE,
            vec![
                Act::OnNode("mkdir -p /run/leases-SIDE/labnet"),
                Act::OnNode("cp /run/legacy-lease /run/leases-SIDE/labnet/10.1.2.2"),
                Act::OnNode("cp /run/last-reserved /run/leases-SIDE/labnet/last_reserved_ip.0"),
                id("ADD", "legacy").into(),
                id("ADD", "new").into(),
                id("DEL", "legacy").into(),
                id("ADD", "legacy").into(),
            ],
        ),
        host_local(
            "leases/wrong-configurations",
            json!({}),
            ONE,
            [
                json!({"ipam": {"ranges": []}}),
                json!({"ipam": {"ranges": [[]]}}),
                json!({"ipam": {"ranges": [[{}]]}}),
                json!({"ipam": {"subnet": "10.1.2.0/31"}}),
                json!({"ipam": {"subnet": "10.1.2.3/24"}}),
                json!({"ipam": {"subnet": "10.1.2.0/33"}}),
                json!({"ipam": {"subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1"}}),
                json!({"ipam": {"subnet": "10.1.2.0/24", "rangeEnd": "10.1.3.1"}}),
                json!({"ipam": {"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.8"}}),
                json!({"ipam": {"subnet": "10.1.2.0/24", "gateway": "x"}}),
                json!({"ipam": {"ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "fd01::/64"}]]}}),
                json!({"ipam": {"ranges": [[{"subnet": "10.1.0.0/16"}, {"subnet": "10.1.2.0/24"}]]}}),
                json!({"ipam": {"ranges": [[{"subnet": "10.1.0.0/16"}], [{"subnet": "10.1.2.0/24"}]]}}),
                json!({"ipam": {"ranges": {"subnet": "10.1.2.0/24"}}}),
                json!({"ipam": {"subnet": "10.1.2.0/24", "resolvConf": "/nowhere"}}),
                json!({"ipam": {"subnet": "10.1.2.0/24", "dataDir": 1}}),
                json!({"ipam": null}),
                json!({"ipam": "host-local"}),
            ]
            .into_iter()
            .flat_map(|changes| [call("ADD").with(changes.clone()).into(), call("DEL").with(changes).into()])
            .collect(),
        ),
        host_local("leases/odd-ends", json!({"subnet": "10.1.2.0/30", "rangeStart": "10.1.2.0", "rangeEnd": "10.1.2.3"}), ONE, vec![id("ADD", "a").into(), id("ADD", "b").into(), id("ADD", "c").into(), id("ADD", "d").into()]),
        host_local("leases/gateway-in-the-range", json!({"subnet": "10.1.2.0/29", "gateway": "10.1.2.3"}), ONE, vec![id("ADD", "a").into(), id("ADD", "b").into(), id("ADD", "c").into()]),
        host_local("leases/route-attributes", json!({"subnet": "10.1.2.0/24", "routes": [{"dst": "10.9.0.0/16", "gw": "10.1.2.5"}, {"dst": "10.8.1.1/16"}]}), all, life()),
    ]
}

fn loopbacks() -> Vec<Case> {
    let all = VERSIONS.as_slice();
    vec![
        story("loopback/life", "loopback", json!({}), all, vec![call("ADD").env("CNI_IFNAME", "lo").into(), call("DEL").env("CNI_IFNAME", "lo").into(), call("DEL").env("CNI_IFNAME", "lo").into()]),
        story("loopback/any-interface-name", "loopback", json!({}), ONE, life()),
        story("loopback/check", "loopback", json!({}), CHECKED, vec![call("CHECK").into(), call("ADD").into(), call("CHECK").into(), call("DEL").into(), call("CHECK").into()]),
        story("loopback/arguments-are-not-read", "loopback", json!({}), ONE, vec![call("ADD").env("CNI_ARGS", "none").into()]),
        story("loopback/namespace", "loopback", json!({}), ONE, vec![call("DEL").env("CNI_NETNS", "").into(), call("DEL").env("CNI_NETNS", "/run/netns/gone").into(), call("ADD").env("CNI_NETNS", "/run/netns/gone").into()]),
        story("loopback/previous-result", "loopback", json!({}), ONE, vec![call("ADD").with(json!({"prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "ips": [{"address": "10.1.2.3/24", "interface": 0}]}})).into()]),
    ]
}

fn protocol() -> Vec<Case> {
    let plugins = ["bridge", "host-local", "loopback", "portmap"];
    let good = r#"{"cniVersion":"1.0.0","name":"labnet"}"#;
    let errors: Vec<Act> = vec![
        call("ADD").env("CNI_CONTAINERID", "").says("[CNI_CONTAINERID]").into(),
        call("ADD").env("CNI_NETNS", "").says("[CNI_NETNS]").into(),
        call("ADD").env("CNI_IFNAME", "").says("[CNI_IFNAME]").into(),
        call("ADD").env("CNI_PATH", "").says("[CNI_PATH]").into(),
        call("ADD")
            .env("CNI_CONTAINERID", "")
            .env("CNI_NETNS", "")
            .env("CNI_IFNAME", "")
            .env("CNI_PATH", "")
            .says("CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME,CNI_PATH")
            .into(),
        call("DEL").env("CNI_CONTAINERID", "").says("[CNI_CONTAINERID]").into(),
        call("DEL").env("CNI_IFNAME", "").into(),
        call("CHECK").env("CNI_NETNS", "").into(),
        call("ADD").env("CNI_CONTAINERID", "../x").says("invalid characters in containerID").into(),
        call("ADD").env("CNI_CONTAINERID", "-x").says("-x").into(),
        call("ADD").env("CNI_IFNAME", "longer-than-fifteen").says("interface name is too long").into(),
        call("ADD").env("CNI_IFNAME", "..").says("interface name is . or ..").into(),
        call("ADD")
            .env("CNI_IFNAME", "a/b")
            .says("interface name contains / or : or whitespace characters")
            .into(),
        call("ADD").env("CNI_IFNAME", "a b").into(),
        call("ADD").env("CNI_IFNAME", "a:b").into(),
        call("FROB").raw(good).says("unknown CNI_COMMAND: FROB").into(),
        call("add").raw(good).says("unknown CNI_COMMAND: add").into(),
        call("ADD").raw("").into(),
        call("ADD").raw("{").into(),
        call("ADD").raw("[]").into(),
        call("ADD").raw("null").into(),
        call("ADD").raw(r#"{"cniVersion":"1.0.0","name":"labnet"}x"#).into(),
        call("ADD").raw(r#"{"cniVersion":"1.0.0"}"#).says("missing network name").into(),
        call("ADD").raw(r#"{"cniVersion":"1.0.0","name":""}"#).says("missing network name").into(),
        call("ADD")
            .raw(r#"{"cniVersion":"1.0.0","name":"a/b"}"#)
            .says("invalid characters found in network name")
            .into(),
        call("ADD").raw(r#"{"cniVersion":"1.0.0","name":1}"#).into(),
        call("ADD").raw(r#"{"cniVersion":1,"name":"labnet"}"#).into(),
        call("ADD").raw(r#"{"cniVersion":"9.0.0","name":"labnet"}"#).says("incompatible CNI versions").into(),
        call("ADD").raw(r#"{"cniVersion":"1.0","name":"labnet"}"#).says("incompatible CNI versions").into(),
        call("CHECK")
            .raw(r#"{"cniVersion":"0.3.1","name":"labnet"}"#)
            .says("config version does not allow CHECK")
            .into(),
        call("CHECK").raw(r#"{"name":"labnet"}"#).says("config version does not allow CHECK").into(),
        call("CHECK").raw(r#"{"cniVersion":"abc","name":"labnet"}"#).into(),
    ];
    let mut cases: Vec<Case> = plugins
        .into_iter()
        .map(|plugin| story("protocol/errors", plugin, json!({}), ONE, errors.clone()))
        .collect();
    let version =
        vec![call("VERSION").raw("").into(), call("VERSION").raw(r#"{"cniVersion":"0.4.0"}"#).into()];
    cases.extend(plugins.map(|plugin| story("protocol/version", plugin, json!({}), ONE, version.clone())));
    cases
}

/// Files that stories copy into place.
fn prepare() {
    let resolv = "# made by hand\nnameserver 10.0.0.53\nnameserver fd00::53\ndomain lab\nsearch a b\noptions ndots:5\n";
    fs::write("/run/good-resolv.conf", resolv).unwrap();
    fs::write("/run/write-resolv-conf", "cp /run/good-resolv.conf /run/resolv.conf\n").unwrap();
    fs::write("/run/legacy-lease", "legacy").unwrap();
    fs::write("/run/last-reserved", "10.1.2.100").unwrap();
}

fn told_to_both(cases: impl FnOnce() -> Vec<Case>) {
    sandboxed(|| {
        prepare();
        compare(&cases());
    });
}

#[test]
fn bridge_attaches_alike() {
    told_to_both(bridges);
}

#[test]
fn addresses_routes_and_dns_are_alike() {
    told_to_both(addresses_and_routes);
}

#[test]
fn requests_of_runtimes_are_heard_alike() {
    told_to_both(requests);
}

#[test]
fn disturbances_are_met_alike() {
    told_to_both(disturbances);
}

#[test]
fn check_finds_the_same() {
    told_to_both(checks);
}

#[test]
fn host_local_gives_the_same_addresses() {
    told_to_both(leases);
}

#[test]
fn loopback_is_alike() {
    told_to_both(loopbacks);
}

#[test]
fn the_protocol_is_spoken_alike() {
    told_to_both(protocol);
}
