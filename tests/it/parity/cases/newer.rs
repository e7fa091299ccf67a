//! What came after 1.1.1: specification 1.1.0 with STATUS and GC, and keys that 1.1.1 does not know.

use serde_json::{Value, json};

use super::super::{Act, Case, call};
use super::{ONE, bridge, dual, host_local, ipam, life, story, subnet};

const LAST: &[&str] = &["1.1.0"];

/// ADD, CHECK, DEL.
fn checked() -> Vec<Act> {
    ["ADD", "CHECK", "DEL"].map(|verb| call(verb).into()).into()
}

pub(in crate::parity) fn newer() -> Vec<Case> {
    keys().into_iter().chain(verbs()).map(Case::newer).collect()
}

fn keys() -> Vec<Case> {
    let masquerade = |backend: Value| json!({"isGateway": true, "ipMasq": true, "ipMasqBackend": backend, "ipam": subnet()});
    let trunks = [
        json!([{"id": 0}]),
        json!([{"id": 4095}]),
        json!([{"minID": 5, "maxID": 4}]),
        json!([{"minID": 5}]),
        json!([{"maxID": 5}]),
        json!([{"minID": 0, "maxID": 5}]),
        json!([{"minID": 5, "maxID": 4095}]),
    ];
    vec![
        bridge("new/masquerade-nftables", masquerade(json!("nftables")), LAST, checked()),
        bridge("new/masquerade-iptables", masquerade(json!("iptables")), LAST, checked()),
        bridge(
            "new/masquerade-unknown",
            masquerade(json!("pf")),
            LAST,
            vec![call("ADD").says("pf").into(), call("DEL").into()],
        ),
        bridge(
            "new/backend-without-masquerade",
            json!({"isGateway": true, "ipMasqBackend": "pf", "ipam": subnet()}),
            LAST,
            checked(),
        ),
        bridge("new/backend-on-layer2", json!({"ipMasq": true, "ipMasqBackend": "pf"}), LAST, life()),
        bridge("new/isolated-port", json!({"portIsolation": true, "ipam": subnet()}), LAST, checked()),
        bridge("new/container-interface-down", json!({"disableContainerInterface": true}), LAST, life()),
        bridge(
            "new/container-interface-down-with-ipam",
            json!({"disableContainerInterface": true, "ipam": subnet()}),
            LAST,
            vec![
                call("ADD").says("cannot use IPAM when DisableContainerInterface flag is set").into(),
                call("DEL").into(),
            ],
        ),
        bridge("new/spoof-check", json!({"macspoofchk": true, "ipam": subnet()}), LAST, checked()),
        bridge("new/dad", json!({"enabledad": true, "isGateway": true, "ipam": dual()}), LAST, checked()),
        bridge(
            "new/default-vlan-without-vlan",
            json!({"preserveDefaultVlan": false, "ipam": subnet()}),
            LAST,
            life(),
        ),
        bridge(
            "new/wrong-trunks",
            json!({}),
            LAST,
            trunks.map(|trunk| call("ADD").with(json!({"vlanTrunk": trunk})).into()).into(),
        ),
        bridge(
            "new/routes-with-everything",
            json!({"isGateway": true, "ipam": ipam(json!({"subnet": "10.1.2.0/24", "routes": [
                {"dst": "10.7.0.0/16", "priority": 7}, {"dst": "10.8.0.0/16", "table": 77},
                {"dst": "10.9.0.0/16", "gw": "10.1.2.9", "table": 77, "priority": 9, "scope": 0}
            ]}))}),
            LAST,
            life(),
        ),
        host_local(
            "new/route-attributes",
            json!({"subnet": "10.1.2.0/24", "routes": [
                {"dst": "10.7.0.0/16", "mtu": 1300, "advmss": 1200, "priority": 7, "table": 77, "scope": 253}
            ]}),
            &["0.4.0", "1.0.0", "1.1.0"],
            life(),
        ),
        bridge(
            "new/check-finds-a-route-through-another-interface",
            json!({"isGateway": true, "ipam": ipam(json!({"subnet": "10.1.2.0/24", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.7.0.0/16"}]}))}),
            LAST,
            [
                vec![call("ADD").into()],
                [
                    "ip link add other0 type veth peer name other1",
                    "ip addr add 10.9.9.2/24 dev other0",
                    "ip link set other1 up",
                    "ip link set other0 up",
                    "ip route replace default via 10.9.9.1 dev other0",
                    "ip route replace 10.7.0.0/16 dev other0",
                ]
                .map(Act::InPod)
                .into(),
                vec![call("CHECK").into(), Act::InPod("ip route del 10.7.0.0/16"), call("CHECK").into()],
            ]
            .concat(),
        ),
    ]
}

/// What an attachment looks like to portmap, with everything that 1.1.0 can say about it.
fn result() -> Value {
    json!({
        "interfaces": [
            {"name": "lab0", "mac": "02:00:00:00:00:01", "mtu": 1400},
            {"name": "eth0", "sandbox": "/run/netns/pod-SIDE", "mtu": 1400, "socketPath": "/run/vhost", "pciID": "0000:00:01.0"}
        ],
        "ips": [{"address": "10.1.2.5/24", "gateway": "10.1.2.1", "interface": 1}],
        "routes": [{"dst": "10.7.0.0/16", "mtu": 1300, "advmss": 1200, "priority": 7, "table": 77, "scope": 0}]
    })
}

fn with_result(changes: &Value) -> Value {
    let mut whole = json!({"prevResult": result()});
    super::merge(&mut whole, changes.clone());
    whole
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn verbs() -> Vec<Case> {
    let port = |changes: Value| {
        let mut asked = json!({"prevResult": result(), "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}});
        super::merge(&mut asked, changes);
        asked
    };
    let ports = |changes: Value| -> Vec<Act> {
        ["ADD", "CHECK", "DEL"].map(|verb| call(verb).with(port(changes.clone())).into()).into()
    };
    let valid = |list: Value| Act::from(call("GC").with(json!({"cni.dev/valid-attachments": list})));
    // Null in a change would take the key away.
    let null = call("GC").raw(
        r#"{"cniVersion":"1.1.0","name":"labnet","type":"bridge","bridge":"lab0","cni.dev/valid-attachments":null,
            "ipam":{"type":"host-local","dataDir":"/run/leases-SIDE","subnet":"10.1.2.0/24"}}"#,
    );
    let gateway = json!({"isGateway": true, "ipam": subnet()});
    vec![
        story("new/ports-by-nftables", "portmap", json!({"backend": "nftables"}), LAST, ports(json!({}))),
        story("new/ports-by-iptables", "portmap", json!({"backend": "iptables"}), ONE, ports(json!({}))),
        story(
            "new/ports-by-nobody",
            "portmap",
            json!({"backend": "pf"}),
            LAST,
            vec![call("ADD").with(port(json!({}))).says("pf").into()],
        ),
        story(
            "new/options-of-the-other-backend",
            "portmap",
            json!({}),
            LAST,
            [
                json!({"backend": "nftables", "conditionsV4": ["-s", "10.0.0.0/8"]}),
                json!({"backend": "nftables", "externalSetMarkChain": "X"}),
                json!({"backend": "iptables", "conditionsV4": ["ip saddr 10.0.0.0/8"]}),
            ]
            .into_iter()
            .map(|changes| call("ADD").with(port(changes)).into())
            .collect(),
        ),
        story(
            "new/words-about-ports-for-a-pod-without",
            "portmap",
            json!({"prevResult": result()}),
            LAST,
            [
                json!({"externalSetMarkChain": "KUBE-MARK-MASQ"}),
                json!({"conditionsV4": ["-m", "owner", "--uid-owner", "0"]}),
                json!({"backend": "nftables", "conditionsV6": ["ct state new"]}),
            ]
            .into_iter()
            .flat_map(|changes| ["ADD", "CHECK", "DEL"].map(|verb| call(verb).with(with_result(&changes))))
            .map(Act::from)
            .collect(),
        ),
        story(
            "new/one-port-twice",
            "portmap",
            json!({}),
            LAST,
            ports(json!({"runtimeConfig": {"portMappings": [
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, {"hostPort": 8080, "containerPort": 81, "protocol": "tcp"}
            ]}})),
        ),
        bridge(
            "new/status",
            gateway.clone(),
            LAST,
            vec![call("STATUS").into(), call("ADD").into(), call("STATUS").into(), call("DEL").into()],
        ),
        bridge(
            "new/status-of-a-full-range",
            json!({"ipam": ipam(json!({"subnet": "10.1.2.0/30"}))}),
            LAST,
            vec![
                call("ADD").into(),
                call("ADD").env("CNI_IFNAME", "eth1").says("no IP addresses available in range set").into(),
                call("STATUS").into(),
                call("DEL").into(),
            ],
        ),
        bridge(
            "new/status-and-gc-too-old",
            gateway.clone(),
            &["0.3.1", "1.0.0"],
            vec![call("STATUS").into(), call("GC").into()],
        ),
        bridge("new/gc-of-nothing", gateway.clone(), LAST, vec![valid(json!([]))]),
        bridge(
            "new/gc-with-the-pod",
            gateway.clone(),
            LAST,
            vec![
                call("ADD").into(),
                valid(json!([{"containerID": "c1", "ifname": "eth0"}])),
                call("CHECK").into(),
                call("DEL").into(),
            ],
        ),
        bridge("new/gc-without-the-pod", gateway, LAST, vec![call("ADD").into(), null.into()]),
        host_local(
            "new/status-of-leases",
            json!({"subnet": "10.1.2.0/24"}),
            LAST,
            vec![call("STATUS").into(), call("ADD").into(), call("STATUS").into(), call("DEL").into()],
        ),
        story(
            "new/status-of-loopback",
            "loopback",
            json!({}),
            LAST,
            vec![call("STATUS").into(), call("GC").into()],
        ),
    ]
}
