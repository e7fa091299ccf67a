//! Addresses and subnets that change hands: neighbours must not remember who had them before.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Attached, Network, ping, refused, settle};
use crate::lab::{Netns, Node, Place, ask_tcp, serve_tcp};
use crate::sandbox::sandboxed;

/// What a place believes to be the MAC behind an address; `None` without belief.
fn believed(place: &impl Place, address: IpAddr) -> Option<String> {
    let entries = place.ip("neigh show");
    let entry = entries.as_array()?.iter().find(|entry| entry["dst"] == address.to_string().as_str())?;
    Some(entry["lladdr"].as_str()?.to_owned())
}

/// Far more than it takes, and far less than the 10 s and more that a wrong entry costs.
const LIMIT: Duration = Duration::from_secs(1);

fn answers_at_once(from: &impl Place, who: &str, server: SocketAddr, token: &str) {
    let begun = Instant::now();
    let answer = ask_tcp(from, server).unwrap_or_else(|e| panic!("{who} does not reach {server}: {e}"));
    let took = begun.elapsed();
    eprintln!("{who} reached the new pod at {} within {took:?}", server.ip());
    assert_eq!(answer.token, token);
    assert!(took < LIMIT, "{who} took {took:?}");
}

#[test]
fn a_pod_that_inherits_an_address_is_reached_at_once_by_those_who_knew_the_old_one() {
    sandboxed(|| {
        let network = Network::dual(&json!({}));
        let (old, new, peer) = (Netns::new("old"), Netns::new("new"), Netns::new("peer"));
        let _bridge_stays_up: Attached = network.add(&peer);
        let before = network.add(&old);
        settle();
        let addresses = [before.address(0), before.address(1)];
        for address in addresses {
            let server = serve_tcp(&old, (address, 7000), "old");
            assert_eq!(ask_tcp(&Node, server).expect("the node").token, "old");
            assert_eq!(ask_tcp(&peer, server).expect("the peer").token, "old");
            assert_eq!(believed(&peer, address).as_deref(), Some(before.mac()));
        }
        before.del();
        assert_eq!(
            addresses.map(|address| believed(&Node, address)),
            [None, None],
            "the node remembers the old pod"
        );

        let asked = json!({"runtimeConfig": {"ips": addresses.map(|address| address.to_string())}});
        let after = network.with(&asked).add(&new);
        let table =
            [believed(&peer, addresses[0]), believed(&Node, addresses[0]), believed(&Node, addresses[1])];
        assert_eq!([after.address(0), after.address(1)], addresses);
        assert_ne!(after.mac(), before.mac());
        for belief in table.into_iter().flatten() {
            assert_eq!(belief, after.mac(), "somebody believes in the old pod's MAC after ADD has returned");
        }
        for address in addresses {
            let server = serve_tcp(&new, (address, 7000), "new");
            answers_at_once(&Node, "the node", server, "new");
            answers_at_once(&peer, "another pod", server, "new");
        }
    });
}

/// As in a crash: nobody said goodbye, and the node still has an entry for the old MAC.
#[test]
fn a_wrong_entry_for_a_new_pods_address_is_gone_when_add_returns() {
    sandboxed(|| {
        let network = Network::gateway(&json!({}));
        let (first, pod) = (Netns::new("first"), Netns::new("pod"));
        network.add(&first);
        Node.run("ip neigh add 10.1.2.3 lladdr 02:00:00:00:00:33 dev br0 nud reachable");
        first.run("ip neigh add 10.1.2.3 lladdr 02:00:00:00:00:33 dev eth0 nud reachable");
        let attached = network.add(&pod);
        assert_eq!(attached.address(0).to_string(), "10.1.2.3");
        for belief in [believed(&Node, attached.address(0)), believed(&first, attached.address(0))] {
            assert!(belief.as_deref().is_none_or(|mac| mac == attached.mac()), "{belief:?}");
        }
        assert!(ping(&Node, "10.1.2.3") && ping(&first, "10.1.2.3"));
    });
}

fn subnet(text: &str) -> Value {
    json!({"type": "host-local", "subnet": text})
}

#[test]
fn after_a_change_of_subnet_the_old_gateway_goes_when_no_pod_needs_it() {
    sandboxed(|| {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        let network = Network::gateway(&json!({}));
        network.add(&a).del();
        assert_eq!(Node.addresses("br0"), ["10.1.2.1/24"]);
        let changed = network.with(&json!({"ipam": subnet("10.5.0.0/16")})).add(&b);
        changed.check();
        assert_eq!(Node.addresses("br0"), ["10.5.0.1/16"]);
        assert!(ping(&b, "10.5.0.1"));
    });
}

#[test]
fn after_a_change_of_subnet_both_gateways_stay_while_a_pod_needs_the_old_one() {
    sandboxed(|| {
        let (a, b, c) = (Netns::new("a"), Netns::new("b"), Netns::new("c"));
        let network = Network::gateway(&json!({}));
        let old = network.add(&a);
        let changed = network.with(&json!({"ipam": subnet("10.5.0.0/16")}));
        let new = changed.add(&b);
        old.check();
        new.check();
        assert_eq!(Node.addresses("br0"), ["10.1.2.1/24", "10.5.0.1/16"]);
        assert!(ping(&a, "10.1.2.1") && ping(&b, "10.5.0.1"));
        old.del();
        changed.add(&c).check();
        assert_eq!(Node.addresses("br0"), ["10.5.0.1/16"], "the last pod of the old subnet is gone");
        new.check();
    });
}

/// The same with IPv6, and one subnet within the other, where the kernel would let both live.
#[test]
fn a_change_of_the_ipv6_prefix_length_replaces_the_gateway() {
    sandboxed(|| {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        let network = Network::gateway(&json!({"ipam": subnet("fd00:1::/64")}));
        network.add(&a).del();
        let changed = network.with(&json!({"ipam": subnet("fd00:1::/48")})).add(&b);
        changed.check();
        assert_eq!(Node.addresses("br0"), ["fd00:1::1/48"]);
        settle();
        assert!(ping(&b, "fd00:1::1"));
    });
}

#[test]
fn a_requested_address_that_a_living_pod_has_is_refused() {
    sandboxed(|| {
        let (a, b) = (Netns::new("a"), Netns::new("b"));
        let network = Network::gateway(&json!({}));
        let first = network.add(&a);
        let asked = network.with(&json!({"runtimeConfig": {"ips": ["10.1.2.2"]}}));
        refused(&asked.call("ADD", &b), "requested IP address 10.1.2.2 is not available");
        first.check();
        assert!(ping(&Node, "10.1.2.2"));
    });
}
