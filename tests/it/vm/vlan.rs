//! VLANs on a bridge: what a port lets through, where the gateway is, and which frames arrive.
//!
//! Needs a kernel with bridge VLAN filtering, which not every machine has: tests/vm/run boots one and runs these there.
//! `SMARTER_CNI_PLUGINS` names a directory of other plugins to tell the same to, to see whether an expectation is right.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use crate::lab::{Netns, Node, Output, Place, Plugin, ask_udp, our_plugins, serve_udp};
use crate::sandbox::sandboxed;

#[expect(clippy::disallowed_methods, reason = "tests/vm/run says whose plugins these are")]
fn plugins() -> PathBuf {
    std::env::var_os("SMARTER_CNI_PLUGINS").map_or_else(|| our_plugins().to_owned(), PathBuf::from)
}

/// A pod with one interface on `br0`, configured by `config`.
struct Pod {
    name: &'static str,
    netns: Netns,
    config: Value,
    result: Value,
}

impl Pod {
    /// ADD with `keys` on top of a bridge and a lease of 10.98.0.0/24; `"ipam": {}` leaves the addresses out.
    fn add(name: &'static str, keys: &Value) -> Self {
        let mut config = json!({
            "cniVersion": "1.0.0", "name": "vlans", "type": "bridge", "bridge": "br0",
            "ipam": { "type": "host-local", "subnet": "10.98.0.0/24" },
        });
        for (key, value) in keys.as_object().expect("an object of keys") {
            config[key] = value.clone();
        }
        let mut pod = Self { name, netns: Netns::new(name), config, result: Value::Null };
        pod.result = pod.call("ADD").json;
        pod
    }

    fn call(&self, verb: &str) -> Output {
        let mut config = self.config.clone();
        if !self.result.is_null() {
            config["prevResult"] = self.result.clone();
        }
        let plugin = Plugin::new(plugins(), "bridge").command(verb).container(self.name).ifname("eth0");
        plugin.netns(&self.netns).json(&config).succeed()
    }

    fn address(&self) -> Ipv4Addr {
        let text = self.result["ips"][0]["address"].as_str().expect("an address");
        text.split('/').next().and_then(|a| a.parse().ok()).expect("an IPv4 address")
    }

    fn mac(&self) -> &str {
        self.result["interfaces"][2]["mac"].as_str().expect("a MAC")
    }

    /// What its port on the bridge carries.
    fn vlans(&self) -> Vec<String> {
        vlans(self.result["interfaces"][1]["name"].as_str().expect("a host interface"))
    }

    /// Whether a server in the other pod answers.
    fn reaches(&self, other: &Self) -> bool {
        let server = serve_udp(&other.netns, (other.address(), 0), other.name);
        ask_udp(&self.netns, server).is_ok_and(|answer| answer.token == other.name)
    }
}

/// The VLANs of a port, in the words of `bridge vlan`.
fn vlans(port: &str) -> Vec<String> {
    let text = Node.run(&format!("bridge -j vlan show dev {port}"));
    let ports: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let of_port = ports.as_array().into_iter().flatten().filter(|p| p["ifname"] == port);
    let vlans = of_port.filter_map(|p| p["vlans"].as_array()).flatten();
    vlans
        .map(|v| {
            let flags = v["flags"].as_array().into_iter().flatten().filter_map(Value::as_str);
            [v["vlan"].to_string()].into_iter().chain(flags.map(str::to_owned)).collect::<Vec<_>>().join(" ")
        })
        .collect()
}

fn filters(bridge: &str) -> bool {
    Node.link(bridge).expect("the bridge")["linkinfo"]["info_data"]["vlan_filtering"] == 1
}

/// Names of all links of the node that are not there from the beginning.
fn links() -> Vec<String> {
    let links = Node.ip("link show");
    let names = links.as_array().into_iter().flatten().filter_map(|l| l["ifname"].as_str());
    names.filter(|name| *name != "lo").map(str::to_owned).collect()
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn an_access_port_carries_its_vlan_and_nothing_else() {
    sandboxed(|| {
        let pod = Pod::add("pod", &json!({ "vlan": 100, "preserveDefaultVlan": false }));
        assert!(filters("br0"));
        assert_eq!(pod.vlans(), ["100 PVID Egress Untagged"]);
        pod.call("CHECK");
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn the_default_vlan_stays_only_when_asked_for() {
    sandboxed(|| {
        let gone = Pod::add("gone", &json!({ "vlan": 100 }));
        assert_eq!(gone.vlans(), ["100 PVID Egress Untagged"]);
        let kept = Pod::add("kept", &json!({ "vlan": 100, "preserveDefaultVlan": true }));
        assert_eq!(kept.vlans(), ["1 Egress Untagged", "100 PVID Egress Untagged"]);
        kept.call("CHECK");
    });
}

/// One by one, so many do not fit into a message of the kernel: its list ended there, for the ports behind it, too.
#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn a_trunk_of_all_vlans_hides_neither_its_own_nor_those_of_others() {
    sandboxed(|| {
        let whole = Pod::add("whole", &json!({ "vlanTrunk": [{ "minID": 1, "maxID": 4094 }] }));
        let behind = Pod::add("behind", &json!({ "vlan": 100 }));
        for pod in [&whole, &behind] {
            pod.call("CHECK");
        }
        assert_eq!(behind.vlans(), ["100 PVID Egress Untagged"]);
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn vlan_0_is_no_vlan() {
    sandboxed(|| {
        let pod = Pod::add("pod", &json!({ "vlan": 0 }));
        assert!(!filters("br0"));
        assert_eq!(pod.vlans(), ["1 PVID Egress Untagged"]);
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn a_trunk_carries_every_vlan_of_its_list_once_and_1_untagged() {
    sandboxed(|| {
        let trunk = json!([{ "minID": 200, "maxID": 202 }, { "id": 300 }, { "id": 201 }, {}]);
        let wanted = ["1 PVID Egress Untagged", "200", "201", "202", "300"];
        for (name, preserve) in [("removed", false), ("preserved", true)] {
            let pod = Pod::add(name, &json!({ "vlanTrunk": trunk, "preserveDefaultVlan": preserve }));
            assert!(filters("br0"));
            assert_eq!(pod.vlans(), wanted, "{name}");
            pod.call("CHECK");
        }
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn a_trunk_with_a_vlan_has_that_one_untagged() {
    sandboxed(|| {
        let trunk = json!([{ "minID": 200, "maxID": 201, "id": 7 }]);
        let pod = Pod::add("pod", &json!({ "vlan": 50, "vlanTrunk": trunk, "preserveDefaultVlan": false }));
        assert_eq!(pod.vlans(), ["7", "50 PVID Egress Untagged", "200", "201"]);
        let kept = Pod::add("kept", &json!({ "vlan": 50, "vlanTrunk": trunk, "preserveDefaultVlan": true }));
        assert_eq!(kept.vlans(), ["1 Egress Untagged", "7", "50 PVID Egress Untagged", "200", "201"]);
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn an_empty_trunk_turns_filtering_on_and_leaves_the_port_alone() {
    sandboxed(|| {
        let pod = Pod::add("pod", &json!({ "vlanTrunk": [] }));
        assert!(filters("br0"));
        assert_eq!(pod.vlans(), ["1 PVID Egress Untagged"]);
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn a_bridge_that_does_not_filter_is_left_so() {
    sandboxed(|| {
        Node.run("ip link add br0 type bridge");
        let pod = Pod::add("pod", &json!({ "vlan": 100, "preserveDefaultVlan": false }));
        assert!(!filters("br0"));
        assert_eq!(pod.vlans(), ["100 PVID Egress Untagged"]);
    });
}

const GATEWAY: &str = "br0.100";

fn with_gateway() -> Value {
    json!({ "vlan": 100, "isDefaultGateway": true, "preserveDefaultVlan": false, "mtu": 1400 })
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn the_gateway_of_a_vlan_is_a_link_of_its_own() {
    sandboxed(|| {
        let pod = Pod::add("pod", &with_gateway());
        let interfaces = pod.result["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), 4, "{interfaces:?}");
        let gateway = Node.link(GATEWAY).expect("the gateway's link");
        assert_eq!(interfaces[3], json!({ "name": GATEWAY, "mac": gateway["address"] }));
        assert_eq!(Node.addresses(GATEWAY), ["10.98.0.1/24"]);
        assert_eq!(Node.addresses("br0"), [""; 0]);
        assert_eq!(gateway["mtu"], 1400);
        assert_eq!(gateway.get("master"), None, "{gateway}");

        let port = Node.link(gateway["link"].as_str().expect("a peer")).expect("the other end");
        // Tools find the pair by it, since the port's name is random.
        assert_eq!(port["ifindex"].as_u64(), gateway["ifindex"].as_u64().map(|index| index - 1));
        assert_eq!((&port["master"], &port["mtu"]), (&json!("br0"), &json!(1400)));
        assert_eq!(vlans(port["ifname"].as_str().unwrap()), ["100 PVID Egress Untagged"]);

        assert_eq!(pod.result["ips"][0]["gateway"], "10.98.0.1");
        assert_eq!(pod.netns.ip("route show default")[0]["gateway"], "10.98.0.1");
        let server = serve_udp(&Node, ([10, 98, 0, 1], 7000), "gateway");
        assert_eq!(ask_udp(&pod.netns, server).unwrap().seen_as, pod.address());
        pod.call("CHECK");
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn pods_of_a_vlan_share_its_gateway_and_every_vlan_has_its_own() {
    sandboxed(|| {
        let first = Pod::add("first", &with_gateway());
        let before = links();
        let second = Pod::add("second", &with_gateway());
        assert_eq!(first.result["interfaces"][3], second.result["interfaces"][3]);
        assert_eq!(links().len(), before.len() + 1, "{:?}", links());

        let elsewhere = Pod::add(
            "elsewhere",
            &json!({
                "vlan": 200, "isDefaultGateway": true, "preserveDefaultVlan": false, "name": "others",
                "ipam": { "type": "host-local", "subnet": "10.99.0.0/24" },
            }),
        );
        assert_eq!(elsewhere.result["interfaces"][3]["name"], "br0.200");
        assert_eq!(Node.addresses("br0.200"), ["10.99.0.1/24"]);
        for (pod, gateway) in
            [(&first, [10, 98, 0, 1]), (&second, [10, 98, 0, 1]), (&elsewhere, [10, 99, 0, 1])]
        {
            let server = serve_udp(&Node, (gateway, 0), "gateway");
            assert!(ask_udp(&pod.netns, server).is_ok(), "{} does not reach its gateway", pod.name);
        }
    });
}

/// Sends datagrams by all ways a frame could take and returns the first that arrived.
fn arrived(from: &Pod, to: &Pod) -> io::Result<String> {
    let receiver = to.netns.inside(|| UdpSocket::bind(("0.0.0.0", 7000)))?;
    receiver.set_read_timeout(Some(Duration::from_secs(1)))?;
    // Without it the sender would only ask who has the address, and no answer proves less than no frame.
    from.netns.run(&format!("ip neigh replace {} lladdr {} dev eth0", to.address(), to.mac()));
    let sender = from.netns.inside(|| UdpSocket::bind(("0.0.0.0", 0)))?;
    sender.set_broadcast(true)?;
    for (to, text) in [(to.address(), "unicast"), (Ipv4Addr::BROADCAST, "broadcast")] {
        // A pod without a default route has nowhere to broadcast to but its subnet.
        let to = if to.is_broadcast() { Ipv4Addr::new(10, 98, 0, 255) } else { to };
        sender.send_to(text.as_bytes(), SocketAddr::from((to, 7000)))?;
    }
    let mut text = [0; 16];
    let (length, _) = receiver.recv_from(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn frames_stay_in_their_vlan() {
    sandboxed(|| {
        let [red, rouge, blue] = [("red", 100), ("rouge", 100), ("blue", 200)]
            .map(|(name, vlan)| Pod::add(name, &json!({ "vlan": vlan, "preserveDefaultVlan": false })));
        assert!(red.reaches(&rouge) && rouge.reaches(&red));
        assert_eq!(arrived(&red, &rouge).unwrap(), "unicast");
        for (from, to) in [(&red, &blue), (&blue, &rouge)] {
            let leak = arrived(from, to);
            assert!(leak.is_err(), "{} got the {} of {}", to.name, leak.unwrap(), from.name);
        }
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn an_untagged_pod_is_not_in_a_vlan() {
    sandboxed(|| {
        let red = Pod::add("red", &json!({ "vlan": 100, "preserveDefaultVlan": false }));
        let [plain, simple] = ["plain", "simple"].map(|name| Pod::add(name, &json!({})));
        assert!(plain.reaches(&simple));
        assert!(arrived(&plain, &red).is_err());
        assert!(arrived(&red, &plain).is_err());
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn a_trunk_pod_reaches_every_vlan_of_its_list_by_tag_and_no_other() {
    sandboxed(|| {
        let access = |name, vlan| Pod::add(name, &json!({ "vlan": vlan, "preserveDefaultVlan": false }));
        let trunk = Pod::add("trunk", &json!({ "vlanTrunk": [{ "id": 200 }, { "id": 201 }], "ipam": {} }));
        let pods = [access("inside", 200), access("other", 201), access("outside", 300)];
        let untagged = Pod::add("untagged", &json!({}));
        let reached = |server: &Pod, link: &str, vlan: Option<u16>| {
            if let Some(vlan) = vlan {
                trunk.netns.run(&format!("ip link add link eth0 name {link} type vlan id {vlan}"));
            }
            trunk.netns.run(&format!("ip addr add 10.98.0.250/24 dev {link}"));
            trunk.netns.run(&format!("ip link set {link} up"));
            let at = serve_udp(&server.netns, (server.address(), 0), server.name);
            let answer = ask_udp(&trunk.netns, at);
            trunk.netns.run(&format!("ip addr flush dev {link}"));
            answer.is_ok()
        };
        assert!(reached(&pods[0], "eth0.200", Some(200)));
        assert!(reached(&pods[1], "eth0.201", Some(201)));
        assert!(!reached(&pods[2], "eth0.300", Some(300)));
        assert!(reached(&untagged, "eth0", None), "the native VLAN of a trunk is 1");
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn the_last_del_leaves_the_bridge_and_the_gateway() {
    sandboxed(|| {
        let first = Pod::add("first", &with_gateway());
        let second = Pod::add("second", &with_gateway());
        for pod in [first, second] {
            pod.call("DEL");
            // Runtimes repeat it.
            pod.call("DEL");
            assert_eq!(pod.netns.link("eth0"), None);
        }
        let gateway = Node.link(GATEWAY).expect("the gateway's link");
        let port = gateway["link"].as_str().expect("a peer").to_owned();
        let mut left = links();
        left.sort();
        let mut wanted = ["br0".to_owned(), GATEWAY.to_owned(), port];
        wanted.sort();
        assert_eq!(left, wanted);
        let leases: Vec<_> = crate::lab::files("/var/lib/cni/networks/vlans")
            .into_iter()
            .filter(|name| name.parse::<Ipv4Addr>().is_ok())
            .collect();
        assert_eq!(leases, [""; 0]);

        let third = Pod::add("third", &with_gateway());
        assert_eq!(third.result["interfaces"][3]["mac"], gateway["address"], "the gateway did not change");
        let server = serve_udp(&Node, ([10, 98, 0, 1], 7000), "gateway");
        assert!(ask_udp(&third.netns, server).is_ok());
    });
}

#[test]
#[ignore = "needs bridge VLAN filtering: run by tests/vm/run"]
fn vlans_that_no_frame_can_carry_are_refused() {
    sandboxed(|| {
        let netns = Netns::new("pod");
        let cases = [
            (json!({ "vlan": 4095 }), "invalid VLAN ID 4095 (must be between 0 and 4094)"),
            (json!({ "vlan": -1 }), "invalid VLAN ID -1 (must be between 0 and 4094)"),
            (json!({ "vlanTrunk": [{ "minID": 0, "maxID": 9 }] }), "incorrect trunk minID parameter"),
            (json!({ "vlanTrunk": [{ "minID": 9, "maxID": 4095 }] }), "incorrect trunk maxID parameter"),
            (json!({ "vlanTrunk": [{ "minID": 9, "maxID": 8 }] }), "minID is greater than maxID"),
            (json!({ "vlanTrunk": [{ "maxID": 8 }] }), "minID is missing"),
            (json!({ "vlanTrunk": [{ "minID": 8 }] }), "maxID is missing"),
            (json!({ "vlanTrunk": [{ "id": 0 }] }), "incorrect trunk id parameter"),
        ];
        for (keys, words) in cases {
            let mut config =
                json!({ "cniVersion": "1.0.0", "name": "vlans", "type": "bridge", "bridge": "br0" });
            config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
            let plugin = Plugin::new(plugins(), "bridge").command("ADD").container("pod").ifname("eth0");
            let out = plugin.netns(&netns).json(&config).run();
            assert_eq!(out.status, 1, "{keys}: {out}");
            assert!(out.json["msg"].as_str().is_some_and(|msg| msg.contains(words)), "{keys}: {out}");
        }
        assert_eq!(links(), [""; 0], "nothing was made");
    });
}
