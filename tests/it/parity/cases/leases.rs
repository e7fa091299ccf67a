//! host-local by itself: ranges, requests, files, and configurations that make no sense.

use serde_json::json;

use super::super::{Act, Case, VERSIONS, call};
use super::{CHECKED, LAYOUTS, ONE, host_local, life};

#[expect(clippy::too_many_lines, reason = "a table")]
pub(in crate::parity) fn leases() -> Vec<Case> {
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
