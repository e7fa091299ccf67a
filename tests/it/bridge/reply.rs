//! The result as every version of the specification has it.

use serde_json::{Value, json};

use super::{Network, assert_nothing_remains, refused};
use crate::lab::{Netns, Node, Place};
use crate::sandbox::sandboxed;

/// The keys of an object, sorted.
fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys
}

fn result(version: &str, pod: &Netns) -> Value {
    let attached = Network::dual(&json!({"cniVersion": version})).add(pod);
    if version >= "0.4.0" {
        attached.check();
    }
    attached.del();
    assert_nothing_remains();
    assert_eq!(attached.result["cniVersion"], version);
    attached.result
}

#[test]
fn versions_0_1_and_0_2_have_one_address_of_each_family() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        for (at, version) in ["0.1.0", "0.2.0"].into_iter().enumerate() {
            let result = result(version, &pod);
            assert_eq!(keys(&result), ["cniVersion", "dns", "ip4", "ip6"]);
            let host = at + 2;
            assert_eq!(
                (&result["ip4"], &result["ip6"], &result["dns"]),
                (
                    &json!({"ip": format!("10.1.2.{host}/24"), "gateway": "10.1.2.1",
                        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}]}),
                    &json!({"ip": format!("fd00:1::{host}/64"), "gateway": "fd00:1::1",
                        "routes": [{"dst": "::/0", "gw": "fd00:1::1"}]}),
                    &json!({})
                )
            );
        }
    });
}

#[test]
fn from_version_0_3_on_addresses_point_to_the_container_end() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let result = result(version, &pod);
            let old = version < "1.0.0";
            let top: &[&str] = if old {
                &["cniVersion", "dns", "interfaces", "ips", "routes"]
            } else {
                &["cniVersion", "interfaces", "ips", "routes"]
            };
            assert_eq!(keys(&result), top, "{version}");
            let versions: Vec<&Value> =
                result["ips"].as_array().unwrap().iter().map(|ip| &ip["version"]).collect();
            let expected = if old { [&json!("4"), &json!("6")] } else { [&Value::Null; 2] };
            assert_eq!(versions, expected, "{version}");

            let interfaces = result["interfaces"].as_array().expect("interfaces");
            let names: Vec<_> = interfaces.iter().filter_map(|i| i["name"].as_str()).collect();
            assert_eq!((names[0], &names[1][..4], names[1].len(), names[2]), ("br0", "veth", 12, "eth0"));
            let sandboxes: Vec<_> = interfaces.iter().map(|i| i["sandbox"].clone()).collect();
            assert_eq!(sandboxes, [Value::Null, Value::Null, pod.path().into()], "verbatim");
            for interface in interfaces {
                let all = ["mac", "name", "sandbox"];
                assert!(keys(interface).iter().all(|key| all.contains(key)), "{interface}");
            }
            for ip in result["ips"].as_array().expect("ips") {
                assert_eq!(ip["interface"], 2, "{version}");
            }
        }
    });
}

/// An answer that nobody can read is none, and an ADD without is no success.
#[test]
fn a_closed_standard_output_is_a_failed_add() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let network = Network::dual(&json!({}));
        let out = network.call("ADD", &pod).under(&["sh", "-c", "exec \"$@\" >&-", "sh"]).run();
        assert!(out.status == 1 && out.stderr.contains("standard output is closed"), "{out}");
        // Whoever does not want to know may say so; and the attachment was not final.
        let out = network.call("ADD", &pod).under(&["sh", "-c", "exec \"$@\" >/dev/null", "sh"]).run();
        assert_eq!(out.status, 0, "{out}");
        network.call("DEL", &pod).under(&["sh", "-c", "exec \"$@\" >&-", "sh"]).succeed();
        assert_nothing_remains();
    });
}

#[test]
fn macs_in_the_result_are_those_of_the_links() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = Network::dual(&json!({})).add(&pod);
        let mac = |at: usize| attached.result["interfaces"][at]["mac"].clone();
        assert_eq!(mac(0), Node.link("br0").expect("br0")["address"]);
        assert_eq!(mac(1), Node.link(attached.port()).expect("the host end")["address"]);
        assert_eq!(mac(2), attached.eth0()["address"]);
    });
}

/// A result without addresses has no words in these versions, but who looks for the bridge finds it.
#[test]
fn layer_2_has_no_result_in_version_0_2_and_leaves_nothing_but_the_bridge() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        for version in ["0.1.0", "0.2.0"] {
            let network = Network::layer2(&json!({"cniVersion": version}));
            refused(&network.call("ADD", &pod), "cannot convert: no valid IP addresses");
            assert!(pod.link("eth0").is_none() && Node.link("br0").is_some());
            assert_nothing_remains();
        }
        Network::layer2(&json!({})).add(&pod).check();
    });
}
