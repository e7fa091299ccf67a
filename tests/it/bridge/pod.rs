//! The pod's end: its MAC, addresses and routes, and what happens when an address is taken.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::{Attached, Network, assert_nothing_remains, flags, ping, refused, sysctl};
use crate::lab::{Netns, Node, Place, our_plugins};
use crate::sandbox::sandboxed;

#[test]
fn in_layer_2_the_pod_has_a_link_that_is_up_and_nothing_else() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = Network::layer2(&json!({})).add(&pod);
        attached.check();
        assert!(flags(&attached.eth0()).contains(&"UP"));
        assert_eq!(pod.addresses("eth0"), Vec::<String>::new());
        assert_eq!(attached.result["ips"], Value::Null);
        pod.run("ip link set eth0 down");
        attached.check_fails("ip link set eth0 up");
        attached.del();
        assert_nothing_remains();
        assert!(pod.link("eth0").is_none());
    });
}

#[test]
fn a_disabled_container_interface_stays_down_and_gets_no_address() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let network = Network::layer2(&json!({"disableContainerInterface": true}));
        let attached = network.add(&pod);
        attached.check();
        assert!(!flags(&attached.eth0()).contains(&"UP"));
        attached.del();
        let both = network.with(&json!({"ipam": {"type": "host-local", "subnet": "10.1.2.0/24"}}));
        refused(&both.call("ADD", &pod), "cannot use IPAM when DisableContainerInterface flag is set");
        assert_nothing_remains();
    });
}

#[test]
fn the_mac_comes_from_the_runtime_before_the_configuration_before_the_arguments() {
    sandboxed(|| {
        let (runtime, args, words) = ("02:00:00:00:0a:01", "02:00:00:00:0a:02", "MAC=02-00-00-00-0A-03");
        let keys = |runtime: Option<&str>, args: Option<&str>| json!({"runtimeConfig": {"mac": runtime}, "args": {"cni": {"mac": args}}});
        for (at, (keys, words, mac)) in [
            (keys(Some(runtime), Some(args)), words, runtime),
            (keys(None, Some(args)), words, args),
            (keys(None, None), words, "02:00:00:00:0a:03"),
        ]
        .into_iter()
        .enumerate()
        {
            let pod = Netns::new(&format!("pod{at}"));
            let network = Network::layer2(&keys);
            let attached = network.attached(&pod, network.call("ADD", &pod).env("CNI_ARGS", words).succeed());
            attached.check();
            assert_eq!((attached.eth0()["address"].as_str(), attached.mac()), (Some(mac), mac));
        }
        let pod = Netns::new("bad");
        for (mac, says) in [("zz", "zz"), ("01:00:5e:00:00:01", "failed to make veth pair")] {
            let network = Network::layer2(&keys(Some(mac), None));
            refused(&network.call("ADD", &pod), says);
            assert!(pod.link("eth0").is_none());
        }
    });
}

#[test]
fn routes_are_installed_with_every_attribute() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let routes = json!([
            {"dst": "10.7.0.0/16", "mtu": 1300, "advmss": 1200},
            {"dst": "10.8.0.0/16", "table": 100, "priority": 77},
            {"dst": "10.9.0.0/16", "scope": 253},
            {"dst": "10.10.0.0/16", "gw": "10.1.2.99"},
            {"dst": "10.11.0.0/16", "table": 1000},
            {"dst": "0.0.0.0/0"}
        ]);
        let attached = Network::gateway(&json!({})).ipam(&json!({"routes": routes})).add(&pod);
        attached.check();
        let route = |words: &str| pod.ip(&format!("-4 -d route show {words}"))[0].clone();
        let metrics = route("10.7.0.0/16")["metrics"][0].clone();
        assert_eq!((metrics["mtu"].clone(), metrics["advmss"].clone()), (1300.into(), 1200.into()));
        let in_table = route("10.8.0.0/16 table 100");
        assert_eq!((in_table["metric"].clone(), in_table["gateway"].clone()), (77.into(), "10.1.2.1".into()));
        let on_link = route("10.9.0.0/16");
        assert_eq!((on_link["scope"].clone(), on_link["gateway"].clone()), ("link".into(), Value::Null));
        assert_eq!(route("10.10.0.0/16")["gateway"], "10.1.2.99");
        assert_eq!(route("10.11.0.0/16 table 1000")["gateway"], "10.1.2.1");
        assert_eq!(route("default")["gateway"], "10.1.2.1");
        assert_eq!(attached.result["routes"], routes);
    });
}

#[test]
fn dns_of_the_configuration_replaces_that_of_ipam() {
    sandboxed(|| {
        let (a, b, c) = (Netns::new("a"), Netns::new("b"), Netns::new("c"));
        fs::write("/run/resolv.conf", "nameserver 192.0.2.53\nsearch lab.example\n").expect("write");
        let ipam = json!({"resolvConf": "/run/resolv.conf"});
        let network = Network::gateway(&json!({})).ipam(&ipam);
        assert_eq!(
            network.add(&a).result["dns"],
            json!({"nameservers": ["192.0.2.53"], "search": ["lab.example"]})
        );
        let own = json!({"nameservers": ["198.51.100.53"], "domain": "edge.example"});
        assert_eq!(network.clone().with(&json!({"dns": own})).add(&b).result["dns"], own);
        let erased = network.with(&json!({"dns": {"nameservers": []}})).add(&c).result;
        assert_eq!(erased["dns"], Value::Null);
    });
}

/// Plugins of ours, and one that is a shell script.
pub(super) fn with_script(name: &str, script: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for plugin in ["bridge", "host-local"] {
        std::os::unix::fs::symlink(our_plugins().join(plugin), dir.path().join(plugin)).expect("link");
    }
    let path = dir.path().join(name);
    fs::write(&path, script).expect("write the script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
    dir
}

/// Clouds give every pod one address, and routes to the gateway.
const ONE_ADDRESS: &str = r#"#!/bin/sh
cat >/dev/null
echo "$CNI_COMMAND" >>/run/ipam.log
[ "$CNI_COMMAND" = ADD ] && cat <<END
{"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.7/32", "gateway": "10.1.2.1"}],
 "routes": [{"dst": "10.1.2.1/32", "scope": 253}, {"dst": "0.0.0.0/0", "gw": "10.1.2.1"}]}
END
exit 0
"#;

#[test]
fn an_ipam_plugin_of_somebody_else_may_give_an_address_without_subnet() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let plugins = with_script("one-address", ONE_ADDRESS);
        let network = Network::layer2(&json!({"isGateway": true, "ipam": {"type": "one-address"}}));
        let network = Network { plugins: plugins.path().to_owned(), ..network };
        let attached = network.add(&pod);
        attached.check();
        assert_eq!(pod.addresses("eth0"), ["10.1.2.7/32"]);
        assert_eq!(Node.addresses("br0"), ["10.1.2.1/32"]);
        Node.run("ip route add 10.1.2.7/32 dev br0");
        assert!(ping(&pod, "10.1.2.1"));
        pod.run("ip addr del 10.1.2.7/32 dev eth0");
        attached.check_fails("Failed to match addr 10.1.2.7/32 on interface eth0");
        attached.del();
        let calls = fs::read_to_string("/run/ipam.log").expect("the script's log");
        assert_eq!(calls, "ADD\nCHECK\nCHECK\nDEL\n");
        assert_nothing_remains();
    });
}

/// Another host on the bridge that has the address already.
fn squatter(address: &str) -> Netns {
    let squatter = Netns::new("squatter");
    Node.run("ip link add br0 type bridge");
    Node.run("ip link set br0 up");
    Node.run("ip link add squat0 type veth peer name eth0 netns squatter");
    Node.run("ip link set squat0 master br0 up");
    squatter.run("ip link set eth0 up");
    squatter.run(&format!("ip addr add {address} dev eth0 nodad"));
    squatter
}

#[test]
fn enabledad_finds_an_ipv6_address_that_another_host_has() {
    sandboxed(|| {
        let (pod, squatter) = (Netns::new("pod"), squatter("fd00:1::2/64"));
        let network = Network::dual(&json!({"enabledad": true}));
        let add = network.call("ADD", &pod);
        refused(&add, "link eth0 has address fd00:1::2 in DADFAILED state");
        assert!(pod.link("eth0").is_none());
        assert_eq!(super::remains(), ["link squat0"]);

        squatter.run("ip addr del fd00:1::2/64 dev eth0");
        let attached = network.add(&pod);
        attached.check();
        assert_eq!(pod.run("ip -6 addr show dev eth0 tentative").trim(), "");
        assert_eq!(sysctl(&pod, "net/ipv6/conf/eth0/accept_dad"), "1");
    });
}

#[test]
fn without_enabledad_nobody_waits_for_duplicates() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let _squatter = squatter("fd00:1::2/64");
        let attached: Attached = Network::dual(&json!({})).add(&pod);
        attached.check();
        assert_eq!(pod.run("ip -6 addr show dev eth0 tentative").trim(), "");
        let settings = ["accept_dad", "disable_ipv6", "keep_addr_on_down"];
        let values = settings.map(|name| sysctl(&pod, &format!("net/ipv6/conf/eth0/{name}")));
        assert_eq!(values, ["0", "0", "1"]);
        assert_eq!(sysctl(&pod, "net/ipv4/conf/eth0/arp_notify"), "1");
    });
}

#[test]
fn a_node_without_ipv6_attaches_pods_with_ipv4_and_touches_no_ipv6_setting() {
    sandboxed(|| {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        let network =
            Network::gateway(&json!({"isDefaultGateway": true, "ipMasq": true, "macspoofchk": true}));
        let disable = |place: &dyn Fn(&str) -> String| {
            for which in ["all", "default"] {
                place(&format!("sysctl -qw net.ipv6.conf.{which}.disable_ipv6=1"));
            }
        };
        disable(&|line| Node.run(line));
        disable(&|line| a.run(line));
        let first = network.add(&a);
        first.check();
        let settings = ["disable_ipv6", "accept_dad", "keep_addr_on_down", "accept_ra", "ndisc_notify"];
        let values = settings.map(|name| sysctl(&a, &format!("net/ipv6/conf/eth0/{name}")));
        assert_eq!(values, ["1", "1", "0", "1", "0"], "{settings:?} as the kernel sets them");
        assert!(ping(&a, "10.1.2.1"));

        // As if the kernel had no IPv6 at all.
        assert!(Path::new("/proc/sys/net/ipv6").is_dir());
        Node.run("mount -t tmpfs none /proc/sys/net/ipv6");
        let second = network.add(&b);
        second.check();
        assert!(ping(&b, first.address(0)));
        first.del();
        second.del();
        assert_nothing_remains();
        assert_eq!(crate::lab::files("/proc/sys/net/ipv6"), Vec::<String>::new());
        Node.run("umount /proc/sys/net/ipv6");
    });
}
