//! Calls that come twice, too late, or find something else in their place.

use serde_json::{Value, json};

use super::super::{Act, Case, VERSIONS, call, merge};
use super::{LAYOUTS, ONE, bridge, life, subnet};

#[expect(clippy::too_many_lines, reason = "a table")]
pub(in crate::parity) fn disturbances() -> Vec<Case> {
    let gateway = json!({"isGateway": true, "ipam": subnet()});
    let with = |changes: Value| {
        let mut whole = gateway.clone();
        merge(&mut whole, changes);
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
            "del/namespace-is-a-file",
            json!({"ipam": subnet()}),
            ONE,
            vec![
                call("ADD").into(),
                call("DEL").env("CNI_NETNS", "/etc/passwd").into(),
                call("DEL").env("CNI_NETNS", "/etc/passwd").into(),
            ],
        ),
        bridge(
            "errors/own-namespace",
            json!({"ipam": subnet()}),
            ONE,
            vec![call("ADD").env("CNI_NETNS", "/proc/self/ns/net").into()],
        ),
        bridge(
            "errors/null-elements",
            json!({"ipam": subnet()}),
            ONE,
            [json!({"ipam": {"routes": [null]}}), json!({"runtimeConfig": {"ips": [null]}})]
                .into_iter()
                .map(|changes| call("ADD").with(changes).into())
                .collect(),
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
