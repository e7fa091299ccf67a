//! A node on which Arm's smarter-cni runs pods: the Go plugins under its names, with its configuration.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use super::host::{BIN, CONF, CONFLIST, Host, kernel, works};
use crate::lab::{DEBIAN_PLUGINS, Netns, Node, Place};
use crate::sandbox::sandboxed;

/// As its installer writes it.
fn arms_list(subnet: &str, gateway: &str) -> Value {
    json!({
        "cniVersion": "0.3.1", "name": "smartnet",
        "plugins": [{
            "type": "smarter-bridge", "bridge": "smartnet0", "isDefaultGateway": true, "forceAddress": false,
            "ipMasq": true, "hairpinMode": true,
            "ipam": {
                "type": "smarter-host-local", "subnet": subnet, "gateway": gateway,
                "dataDir": "/var/run/cni/networks"
            }
        }, { "type": "smarter-portmap", "snat": true, "capabilities": { "portMappings": true } }]
    })
}

fn arms_node() -> (Host, Value) {
    let host = Host::new();
    for (name, plugin) in [
        ("smarter-bridge", "bridge"),
        ("smarter-host-local", "host-local"),
        ("smarter-portmap", "portmap"),
        ("loopback", "loopback"),
    ] {
        let bytes = fs::read(format!("{DEBIAN_PLUGINS}/{plugin}")).expect("containernetworking-plugins");
        host.write_program(&format!("{BIN}/{name}"), bytes);
    }
    let list = arms_list("172.39.0.0/16", "172.39.0.1");
    host.write(CONFLIST, list.to_string());
    (host, list)
}

#[test]
fn its_pods_keep_running_and_are_detached_by_ours() {
    sandboxed(|| {
        let (host, list) = arms_node();
        let (old, new) = (Netns::new("old"), Netns::new("new"));
        let added = host.plugin_with(&list, "ADD", "c1", &old);
        assert_eq!(added.json["ips"][0]["address"], "172.39.0.2/16", "{added}");

        let out = host.installed("");
        assert!(
            out.stdout.contains("is taken over: its pods, leases and bridge (network smartnet) stay"),
            "{out}"
        );
        works(&host).expect("a conflist");
        assert_eq!(host.conflist()["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "172.39.0.0/16");
        old.run("ping -c 1 -W 2 172.39.0.1");

        let added = host.plugin("ADD", "c2", &new);
        assert_eq!(added.json["ips"][0]["address"], "172.39.0.3/16", "{added}");
        new.run("ping -c 1 -W 2 172.39.0.2");
        for (container, pod) in [("c1", &old), ("c2", &new)] {
            let out = host.plugin("DEL", container, pod);
            assert_eq!(out.status, 0, "{out}");
        }
        let veths = Node.ip("link show type veth");
        assert_eq!(veths.as_array().map(Vec::len), Some(0), "{veths}");
    });
}

#[test]
fn uninstalling_gives_the_node_back_to_it() {
    sandboxed(|| {
        let (host, list) = arms_node();
        let pod = Netns::new("pod");
        // Its first pod makes the bridge, which stays when the pod goes.
        host.plugin_with(&list, "ADD", "c1", &pod);
        host.plugin_with(&list, "DEL", "c1", &pod);
        let (files, network) = (host.snapshot(), kernel());
        host.installed("");
        host.plugin("ADD", "c2", &pod);
        assert_eq!(host.plugin("DEL", "c2", &pod).status, 0);
        let out = host.uninstall("");
        assert_eq!(out.status, 0, "{out}");
        let without_last = |mut files: BTreeMap<String, String>| {
            files.remove("run/cni/networks/smartnet/last_reserved_ip.0").expect("its bookkeeping stays");
            files
        };
        assert_eq!(without_last(host.snapshot()), without_last(files), "but for the address of our pod");
        assert_eq!(kernel(), network);
    });
}

#[test]
fn its_older_configuration_would_win_and_goes_out_of_the_way() {
    sandboxed(|| {
        let host = Host::new();
        let mut bare = arms_list("172.38.0.0/16", "172.38.0.1")["plugins"][0].clone();
        bare["name"] = json!("smartnet");
        bare["cniVersion"] = json!("0.3.1");
        host.write(&format!("{CONF}/0-smarter-bridge.conf"), bare.to_string());
        let before = host.snapshot();
        host.installed("");
        assert!(!host.path(CONF).join("0-smarter-bridge.conf").exists());
        works(&host).expect("a conflist");
        assert_eq!(host.uninstall("").status, 0);
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn an_explicit_range_replaces_its_range_while_its_pods_stay_reachable() {
    sandboxed(|| {
        let (host, list) = arms_node();
        let (old, new) = (Netns::new("old"), Netns::new("new"));
        host.plugin_with(&list, "ADD", "c1", &old);
        host.installed("--subnet 10.38.0.0/16");
        let added = host.plugin("ADD", "c2", &new);
        assert_eq!(added.json["ips"][0]["address"], "10.38.0.2/16", "{added}");
        new.run("ping -c 1 -W 2 172.39.0.2");
        old.run("ping -c 1 -W 2 10.38.0.2");
    });
}
