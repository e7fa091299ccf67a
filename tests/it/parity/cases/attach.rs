//! How bridge puts a pod on the network: layers, gateways, families.

use serde_json::json;

use super::super::{Case, VERSIONS};
use super::{CHECKED, LAYOUTS, bridge, dual, ipam, life, subnet};

pub(in crate::parity) fn bridges() -> Vec<Case> {
    let all = VERSIONS.as_slice();
    vec![
        bridge("bridge/layer2", json!({}), all, life()),
        bridge("bridge/layer2-hairpin-mtu", json!({"hairpinMode": true, "mtu": 1400}), CHECKED, life()),
        bridge("bridge/layer2-promisc", json!({"promiscMode": true}), CHECKED, life()),
        bridge("bridge/layer3", json!({"ipam": subnet()}), LAYOUTS, life()),
        bridge("bridge/gateway", json!({"isGateway": true, "ipam": subnet()}), LAYOUTS, life()),
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
            LAYOUTS,
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
