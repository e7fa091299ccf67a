//! Addresses, routes and dns on their way from the configuration through IPAM into pod and result.

use serde_json::{Value, json};

use super::super::{Case, VERSIONS, call};
use super::{LAYOUTS, ONE, bridge, ipam, life, subnet};

pub(in crate::parity) fn addresses_and_routes() -> Vec<Case> {
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
            "routes/default-without-gw-and-default-gateway",
            json!({"isDefaultGateway": true, "ipam": routed(json!([{"dst": "0.0.0.0/0"}]))}),
            ONE,
            life(),
        ),
        bridge(
            "routes/with-mtu",
            json!({"isGateway": true, "ipam": routed(json!([{"dst": "10.7.0.0/16", "mtu": 1300, "advmss": 1200}]))}),
            ONE,
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
            life(),
        ),
    ]
}
