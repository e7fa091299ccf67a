//! portmap by itself: what it passes on, and which configurations it refuses. That ports are forwarded is tested with packets.

use serde_json::{Value, json};

use super::super::{Act, Case, call};
use super::{CHECKED, ONE, story};

/// What bridge would have answered, in a form that 0.3 and 1.x share.
fn previous() -> Value {
    json!({
        "interfaces": [{"name": "lab0"}, {"name": "veth0"}, {"name": "eth0", "sandbox": "/run/netns/pod-SIDE"}],
        "ips": [{"version": "4", "address": "10.1.2.5/24", "gateway": "10.1.2.1", "interface": 2}],
        "routes": [{"dst": "0.0.0.0/0"}]
    })
}

fn mapping(host: i64, container: i64) -> Value {
    json!([{"hostPort": host, "containerPort": container, "protocol": "tcp"}])
}

pub(in crate::parity) fn portmaps() -> Vec<Case> {
    let ports =
        |mapping: Value| json!({"prevResult": previous(), "runtimeConfig": {"portMappings": mapping}});
    let adds = |changes: Vec<Value>| -> Vec<Act> {
        changes.into_iter().map(|c| call("ADD").with(c).into()).collect()
    };
    let life = |changes: Value| -> Vec<Act> {
        ["ADD", "CHECK", "DEL", "DEL"].map(|verb| call(verb).with(changes.clone()).into()).into()
    };
    vec![
        story(
            "portmap/first-in-chain",
            "portmap",
            json!({}),
            ONE,
            vec![call("ADD").says("must be called as chained plugin").into()],
        ),
        story(
            "portmap/nothing-to-map",
            "portmap",
            json!({}),
            CHECKED,
            life(json!({"prevResult": previous()})),
        ),
        story("portmap/one-port", "portmap", json!({}), CHECKED, life(ports(mapping(8080, 80)))),
        story(
            "portmap/keys-of-containerd",
            "portmap",
            json!({}),
            CHECKED,
            life(ports(json!([{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}]))),
        ),
        story(
            "portmap/both-protocols-and-an-address",
            "portmap",
            json!({}),
            ONE,
            life(ports(json!([
                {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}, {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
                {"hostPort": 8081, "containerPort": 81, "protocol": "tcp", "hostIP": "192.0.2.1"}
            ]))),
        ),
        story("portmap/without-snat", "portmap", json!({"snat": false}), ONE, life(ports(mapping(8080, 80)))),
        story(
            "portmap/wrong-ports",
            "portmap",
            json!({}),
            ONE,
            adds(vec![
                ports(mapping(0, 80)),
                ports(mapping(8080, 0)),
                ports(mapping(-1, 80)),
                ports(json!([{"hostPort": "8080", "containerPort": 80}])),
                ports(json!({"hostPort": 8080})),
            ]),
        ),
        story(
            "portmap/wrong-options",
            "portmap",
            json!({}),
            ONE,
            adds(vec![
                json!({"prevResult": previous(), "snat": "yes"}),
                json!({"prevResult": "x"}),
                json!({"prevResult": previous(), "markMasqBit": 32}),
                json!({"prevResult": previous(), "markMasqBit": 5, "externalSetMarkChain": "KUBE-MARK-MASQ"}),
            ]),
        ),
        story(
            "portmap/del-before-add",
            "portmap",
            json!({}),
            ONE,
            vec![call("DEL").into(), call("DEL").with(ports(mapping(1, 2))).into()],
        ),
    ]
}
