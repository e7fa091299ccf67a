//! What runtimes ask for beside the configuration, and how they spell it.

use serde_json::json;

use super::super::{Case, call};
use super::{LAYOUTS, ONE, bridge, life, subnet};

pub(in crate::parity) fn requests() -> Vec<Case> {
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
