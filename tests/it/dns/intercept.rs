//! Pods that were told of other name servers, in a network where what they ask comes to the node's.

use super::*;
use crate::sandbox::{run as script, sandboxed};

/// Somebody's resolvers, which nobody reaches from here.
const OTHERS: [&str; 2] = ["192.0.2.53", "fd00:99::53"];

fn network() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "lab", "type": "bridge", "bridge": "lab0", "isDefaultGateway": true,
        "nodeDns": OWN, "nodeDnsIntercept": true,
        "ipam": {"type": "host-local", "dataDir": "/run/cni/networks",
                 "ranges": [[{"subnet": "10.77.0.0/24"}], [{"subnet": "fd00:77::/64"}]]}
    })
}

fn asks_others(pod: &Pod, of: &Pod, name: &str) {
    for other in OTHERS {
        for how in ["", "+tcp "] {
            // A gateway of IPv6 is nobody's before the kernel knows that nobody else has it.
            eventually(&format!("{how}{other} answers"), PATIENCE, || {
                answer(&pod.netns, &format!("{how}@{other} {name}")) == of.address
            });
        }
    }
}

#[test]
fn whom_pods_ask_does_not_matter() {
    sandboxed(|| {
        // That came before its network wanted it.
        let old = Pod::with_name_server("ns1", "old");
        let web = Pod::of_network(&network(), "ns1", "web", "web");
        let role = Role::start(&[]);
        asks_others(&web, &web, "web");
        assert_eq!(answer(&old.netns, &format!("@{} web", OTHERS[0])), web.address);
        // The node's own questions are its own.
        script("ip", &["addr", "add", "192.0.2.53/32", "dev", "lo"]);
        assert_eq!(answer(&Node, "@192.0.2.53 web"), "silence");
        assert_eq!(answer(&web.netns, "@192.0.2.53 web"), web.address, "an address of the node");
        // Damage is seen and repaired.
        for damage in
            ["flush ruleset", "delete table ip6 smarter-cni", "flush map ip smarter-cni dns_intercept"]
        {
            script("nft", &[damage]);
            succeeds("reconcile");
            asks_others(&web, &web, "web");
        }
        assert_eq!(succeeds("reconcile --dry-run --json").json["changes"], json!([]));
        role.end();
    });
}

/// Frames between pods pass chains of IP where br_netfilter says so.
#[test]
fn what_pods_ask_each_other_stays_among_them() {
    sandboxed(|| {
        let web = Pod::of_network(&network(), "ns1", "web", "web");
        let pihole = Pod::of_network(&network(), "ns1", "pihole", "pihole");
        let _role = Role::start(&[]);
        let _ = std::fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "1");
        let heard = pihole.netns.inside(|| std::net::UdpSocket::bind("0.0.0.0:53")).unwrap();
        heard.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(answer(&web.netns, &format!("@{} +tries=1 +time=1 web", pihole.address)), "silence");
        assert!(heard.recv_from(&mut [0; 512]).unwrap().1.ip().to_string() == web.address);
    });
}

#[test]
fn it_ends_with_the_last_pod_that_came_with_it() {
    sandboxed(|| {
        let web = Pod::of_network(&network(), "ns1", "web", "web");
        let other = Pod::with_name_server("ns1", "other");
        let _role = Role::start(&[]);
        assert_eq!(answer(&other.netns, &format!("@{} web", OTHERS[0])), web.address);
        call("DEL", &network(), &web.netns, &web.arguments).succeed();
        let out = succeeds("reconcile");
        assert!(
            out.stdout.contains("nft delete element ip smarter-cni dns_intercept { \"lab0\""),
            "{}",
            out.stdout
        );
        assert_eq!(answer(&other.netns, &format!("@{} +tries=1 +time=1 other", OTHERS[0])), "silence");
        assert_eq!(answer(&other.netns, &format!("@{OWN} other")), other.address);
        for family in ["ip", "ip6"] {
            let rules = script("nft", &["list", "table", family, "smarter-cni"]);
            assert!(
                !rules.contains("\"lab0\" . ") && !rules.contains("elements = { 10.77.0.0/24"),
                "{rules}"
            );
        }
    });
}

/// Port 53 is somebody else's, and the other port serves both.
#[test]
fn it_goes_on_while_somebody_else_has_port_53() {
    sandboxed(|| {
        let web = Pod::of_network(&network(), "ns1", "web", "web");
        let stranger = sockets::Stranger::at_port_53();
        let role = Role::start(&[]);
        succeeds("reconcile");
        asks_others(&web, &web, "web");
        for own in [OWN, GATEWAY] {
            assert_eq!(answer(&web.netns, &format!("@{own} web")), web.address);
        }
        assert_eq!(stranger.questions(), 0);
        let words = role.end();
        assert!(words.contains("10.77.0.1:53: Address "), "{words}");
    });
}
