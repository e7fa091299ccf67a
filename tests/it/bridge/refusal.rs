//! ADD that does not work out: says why, leaves nothing, and does not stand in the way of the next.

use serde_json::{Value, json};

use super::pod::with_script;
use super::{Network, assert_nothing_remains, ping, refused, remains};
use crate::lab::{Netns, Node, Place};
use crate::sandbox::sandboxed;

#[test]
fn a_second_add_says_already_exists_and_leaves_the_first_alone() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        for network in
            [Network::dual(&json!({"ipMasq": true, "macspoofchk": true})), Network::layer2(&json!({}))]
        {
            let attached = network.add(&pod);
            let before = remains();
            refused(&network.call("ADD", &pod), "already exists");
            refused(&network.call("ADD", &pod), "already exists");
            assert_eq!(remains(), before);
            attached.check();
            attached.del();
            assert_nothing_remains();
        }
    });
}

/// The kernel would make br0 of it, then br1, one for each pod.
#[test]
fn a_name_with_a_percent_sign_makes_no_links() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let network = Network::dual(&json!({"bridge": "br%d"}));
        refused(&network.call("ADD", &pod), "interface name contains %");
        refused(&Network::dual(&json!({})).call("ADD", &pod).ifname("eth%d"), "interface name contains %");
        assert!(Node.link("br0").is_none() && pod.link("eth0").is_none());
        assert_nothing_remains();
        network.call("DEL", &pod).succeed();
    });
}

#[test]
fn an_interface_of_somebody_else_is_not_replaced() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        pod.run("ip link add eth0 address 02:00:00:00:00:55 type veth peer name other0");
        let network = Network::dual(&json!({"ipMasq": true}));
        refused(&network.call("ADD", &pod), "already exists");
        assert_eq!(pod.link("eth0").expect("still there")["address"], "02:00:00:00:00:55");
        assert_nothing_remains();
    });
}

/// The node's rules after a failed ADD.
fn rules() -> String {
    Node.run("nft list ruleset")
}

#[test]
fn after_a_failed_add_nothing_is_left_and_the_next_one_works() {
    sandboxed(|| {
        let good = Network::dual(&json!({"ipMasq": true, "macspoofchk": true}));
        let unreachable = json!({"routes": [{"dst": "10.7.0.0/16", "gw": "10.99.0.1"}]});
        let exhausted = json!({"ranges": [[{"subnet": "10.1.2.0/30", "rangeStart": "10.1.2.1", "rangeEnd": "10.1.2.1"}]]});
        let bad_range = json!({"ranges": [[{"subnet": "10.1.2.1/24"}]]});
        let failures: [(Network, &str); 6] = [
            (good.clone().ipam(&unreachable), "failed to add route '10.7.0.0/16 via 10.99.0.1 dev eth0"),
            (good.clone().ipam(&exhausted), "no IP addresses available in range set"),
            (good.clone().ipam(&bad_range), "host bits"),
            (good.clone().with(&json!({"ipam": {"type": "nowhere"}})), "failed to find plugin \"nowhere\""),
            (
                good.clone().with(&json!({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}})),
                "failed to make veth pair",
            ),
            (good.clone().with(&json!({"mtu": 70000})), "failed"),
        ];
        let pod = Netns::new("pod");
        for (bad, says) in failures {
            for time in ["first", "second"] {
                refused(&bad.call("ADD", &pod), says);
                assert_eq!(remains(), Vec::<String>::new(), "after the {time} ADD that says {says:?}");
                assert!(pod.link("eth0").is_none(), "{says}");
                assert_eq!(rules().matches("comment \"net\"").count(), 0, "{says}: {}", rules());
            }
            let attached = good.add(&pod);
            attached.check();
            assert!(ping(&pod, "10.1.2.1"));
            attached.del();
            assert_nothing_remains();
            let _ = Node.command("ip link del br0").output();
            Node.run("nft flush ruleset");
        }
    });
}

#[test]
fn an_add_that_fails_on_a_bridge_without_ports_does_not_spoil_its_mac() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let good = Network::gateway(&json!({}));
        let bad = good.clone().ipam(&json!({"routes": [{"dst": "10.7.0.0/16", "gw": "10.99.0.1"}]}));
        refused(&bad.call("ADD", &pod), "failed to add route");
        let mac = Node.link("br0").expect("br0")["address"].clone();
        assert_ne!(mac, "00:00:00:00:00:00");
        let attached = good.add(&pod);
        assert_eq!(attached.result["interfaces"][0]["mac"], mac);
        // One that somebody else made, without a MAC of its own choice.
        Node.run("ip link add mine0 type bridge");
        let other = Netns::new("other");
        let mine = |network: &Network| network.clone().with(&json!({"bridge": "mine0", "name": "mine"}));
        refused(&mine(&bad).call("ADD", &other), "failed to add route");
        mine(&good).add(&other).check();
    });
}

#[test]
fn a_foreign_ipam_plugins_error_comes_through_and_it_is_asked_to_clean_up() {
    const FAILING: &str = r#"#!/bin/sh
cat >/dev/null
echo "$CNI_COMMAND" >>/run/ipam.log
echo '{"cniVersion": "1.0.0", "code": 11, "msg": "no lease now", "details": "later"}'
exit 1
"#;
    sandboxed(|| {
        let pod = Netns::new("pod");
        let plugins = with_script("failing", FAILING);
        let network = Network::layer2(&json!({"isGateway": true, "ipam": {"type": "failing"}}));
        let network = Network { plugins: plugins.path().to_owned(), ..network };
        let out = refused(&network.call("ADD", &pod), "no lease now");
        assert_eq!((out.json["code"].clone(), out.json["details"].clone()), (json!(11), json!("later")));
        assert_eq!(std::fs::read_to_string("/run/ipam.log").expect("a log"), "ADD\nDEL\n");
        assert_nothing_remains();
        assert!(pod.link("eth0").is_none());
    });
}

#[test]
fn the_nodes_own_namespace_is_refused_before_any_work() {
    sandboxed(|| {
        let network = Network::gateway(&json!({}));
        let own = |verb: &str| {
            network.call_all(verb).container("pod").ifname("eth0").env("CNI_NETNS", "/proc/self/ns/net")
        };
        for verb in ["ADD", "DEL"] {
            let out = refused(&own(verb), "plugin's netns and netns from CNI_NETNS should not be the same");
            assert_eq!(out.json["code"], 8);
            assert!(Node.link("br0").is_none(), "work was done before");
            assert_nothing_remains();
        }
        for overriding in ["1", "true", "TRUE"] {
            let own = |verb: &str| own(verb).env("CNI_NETNS_OVERRIDE", overriding);
            let added = own("ADD").succeed();
            assert_eq!(Node.addresses("eth0"), ["10.1.2.2/24"]);
            let with_result = network.clone().with(&json!({"prevResult": added.json}));
            own("CHECK").json(&with_result.config).succeed();
            own("DEL").succeed();
            assert_nothing_remains();
            std::fs::remove_dir_all(super::LEASES).expect("begin anew");
        }
        refused(&own("ADD").env("CNI_NETNS_OVERRIDE", "yes"), "should not be the same");
    });
}

#[test]
fn a_namespace_that_is_not_there_is_named() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let add = |path: &str| Network::gateway(&json!({})).call("ADD", &pod).env("CNI_NETNS", path);
        let out = refused(&add("/run/netns/nobody"), "failed to open netns \"/run/netns/nobody\"");
        assert_ne!(out.json["details"], Value::Null, "no word of what to do");
        std::fs::write("/run/plain", "").expect("a plain file");
        refused(&add("/run/plain"), "unknown FS magic on \"/run/plain\": 1021994");
        assert_nothing_remains();
    });
}
