//! What CHECK notices.

use serde_json::json;

use super::super::{Act, Case, call};
use super::{CHECKED, bridge, dual, ipam};

pub(in crate::parity) fn checks() -> Vec<Case> {
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
        bridge(
            "check/layer2",
            json!({}),
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
