//! Ranges that the node's own networks use already.

use serde_json::json;

use super::host::Host;
use crate::lab::{Node, Place};
use crate::sandbox::sandboxed;

fn lan(link: &str, address: &str) {
    Node.run(&format!("ip link add {link} type veth peer name peer-{link}"));
    Node.run(&format!("ip addr add {address} dev {link}"));
    Node.run(&format!("ip link set {link} up"));
}

#[test]
fn a_network_of_the_node_is_not_taken_away_from_it() {
    sandboxed(|| {
        let host = Host::new();
        lan("lan0", "10.38.7.9/24");
        Node.run("ip route add 10.39.0.0/16 via 10.38.7.1 table 100");
        let before = host.snapshot();
        let out = host.install("--subnet 10.38.0.0/16 --json");
        assert_eq!(out.status, 1, "{out}");
        assert_eq!(out.json["result"], "refused");
        let reason = out.json["errors"][0].as_str().expect("a reason");
        assert_eq!(
            reason,
            "10.38.0.0/16 overlaps with the network 10.38.7.0/24 of interface lan0: whoever is there could not be \
             reached any more; 10.40.0.0/16 is free: use it here and as the cluster's cluster-cidr"
        );
        let routed = host.install("--subnet 10.39.4.0/24");
        assert!(routed.stderr.contains("through interface lan0 (table 100)"), "{routed}");
        assert_eq!(host.snapshot(), before, "it was refused");
        host.installed("--subnet 10.40.0.0/16");
    });
}

/// As the ConfigMap of the manifest arrives when only its `subnet` was changed, as everybody is told to.
#[test]
fn who_changes_only_the_subnet_of_the_manifest_gets_its_first_address_as_gateway() {
    sandboxed(|| {
        let host = Host::new();
        let with = |gateway: &str| {
            let variables = [("subnet", "10.38.0.0/16"), ("gateway", gateway)];
            host.install_with(&variables, "")
        };
        let out = with("172.38.0.9");
        assert_eq!(out.status, 2, "{out}");
        assert!(out.stderr.contains("the gateway 172.38.0.9 is not in 10.38.0.0/16"), "{out}");
        let out = with("172.38.0.1");
        assert_eq!(out.status, 0, "{out}");
        assert!(
            out.stdout.contains("note     the gateway 172.38.0.1 belongs to the default range and is not in"),
            "{out}"
        );
        let range = || host.conflist()["plugins"][0]["ipam"]["ranges"][0][0].clone();
        assert_eq!(range(), json!({"subnet": "10.38.0.0/16", "gateway": "10.38.0.1"}));
        // Who says nothing later has said the same.
        let out = host.installed("");
        assert!(out.stdout.contains("nothing to do"), "{out}");
        assert_eq!(range()["gateway"], "10.38.0.1");
    });
}

/// What VPNs push: a default route in pieces, and everything that a company could have.
#[test]
fn a_way_out_in_pieces_is_nobodys_network() {
    sandboxed(|| {
        let host = Host::new();
        lan("lan0", "192.168.3.9/24");
        for to in ["0.0.0.0/1", "128.0.0.0/1", "0.0.0.0/3", "172.32.0.0/11", "10.0.0.0/8"] {
            Node.run(&format!("ip route add {to} via 192.168.3.1"));
        }
        Node.run("ip addr add fd77::9/64 dev lan0");
        for to in ["::/1", "8000::/1", "2000::/3", "fc00::/7"] {
            Node.run(&format!("ip route add {to} via fd77::1"));
        }
        let out = host.installed("--dry-run");
        assert!(
            out.stdout.contains(
                "note     172.38.0.0/16 is a part of what lies beyond the route to 172.32.0.0/11 through interface \
                 lan0: pods hide the hosts there that have these addresses"
            ),
            "{out}"
        );
        host.installed("--dry-run --subnet 10.38.0.0/16,fd00:38::/64");
        // Rather not where the company is.
        let out = host.installed("--subnet auto");
        assert!(out.stdout.contains("auto: 172.21.0.0/16 is free"), "{out}");
    });
}

#[test]
fn an_installed_network_stays_when_something_comes_into_its_way() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("--subnet 10.38.0.0/16");
        lan("lan0", "10.38.7.9/24");
        for line in ["--subnet 10.38.0.0/16", ""] {
            let out = host.installed(line);
            assert!(
                out.stdout.contains(
                    "warning  10.38.0.0/16 overlaps with the network 10.38.7.0/24 of interface lan0"
                ),
                "{out}"
            );
        }
        assert_eq!(host.install("--subnet 10.38.0.0/20").status, 1, "nobody has that one yet");
        // Also where a power cut took what was written down.
        host.write("var/lib/smarter-cni/install.json", "");
        host.installed("");
        assert_eq!(host.conflist()["plugins"][0]["ipam"]["ranges"][0][0]["subnet"], "10.38.0.0/16");
    });
}

#[test]
fn ipv6_ranges_are_compared_too() {
    sandboxed(|| {
        let host = Host::new();
        lan("lan0", "fd00:38::7/64");
        let out = host.install("--subnet 10.38.0.0/16,fd00:38::/56");
        assert_eq!(out.status, 1, "{out}");
        assert!(
            out.stderr.contains("fd00:38::/56 overlaps with the network fd00:38::/64 of interface lan0"),
            "{out}"
        );
        host.installed("--subnet 10.38.0.0/16,fd00:39::/64");
        assert_eq!(
            host.conflist()["plugins"][0]["ipam"]["ranges"],
            json!([
                [{"subnet": "10.38.0.0/16", "gateway": "10.38.0.1"}],
                [{"subnet": "fd00:39::/64", "gateway": "fd00:39::1"}]
            ])
        );
    });
}

#[test]
fn auto_picks_a_free_range_and_keeps_it() {
    sandboxed(|| {
        let host = Host::new();
        lan("lan0", "10.38.0.1/16");
        let out = host.installed("--subnet auto");
        assert!(out.stdout.contains("it must be the cluster-cidr"), "{out}");
        let subnet = || host.conflist()["plugins"][0]["ipam"]["ranges"][0][0]["subnet"].clone();
        assert_eq!(subnet(), "10.39.0.0/16");
        // DHCP brings the same network later: pods live in it, so it stays, and it is said.
        lan("lan1", "10.39.0.7/24");
        let out = host.installed("--subnet auto");
        assert_eq!(subnet(), "10.39.0.0/16");
        assert!(out.stdout.contains("warning  10.39.0.0/16 overlaps with the network 10.39.0.0/24"), "{out}");
    });
}

#[test]
fn the_default_range_is_refused_where_somebody_uses_it() {
    sandboxed(|| {
        let host = Host::new();
        lan("lan0", "172.38.4.4/24");
        let out = host.install("");
        assert_eq!(out.status, 1);
        assert!(
            out.stderr.contains("interface lan0") && out.stderr.contains("10.38.0.0/16 is free"),
            "{out}"
        );
    });
}
