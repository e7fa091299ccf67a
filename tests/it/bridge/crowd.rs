//! Many pods at once on a node that has nothing yet: what they share is made once, and nobody gets what another has.

use std::collections::BTreeSet;
use std::thread;

use serde_json::json;

use super::{Attached, Network, assert_nothing_remains, ping};
use crate::lab::{Netns, Node, Output, Place};
use crate::sandbox::sandboxed;

const PODS: usize = 50;

/// All at once; the answers in the order of the pods.
fn all(verb: &str, network: &Network, pods: &[Netns]) -> Vec<Output> {
    thread::scope(|scope| {
        let calls = pods.iter().map(|pod| network.call(verb, pod));
        let running: Vec<_> = calls.map(|call| scope.spawn(move || call.succeed())).collect();
        running.into_iter().map(|call| call.join().expect("the call succeeds")).collect()
    })
}

#[test]
fn fifty_pods_come_and_go_at_once_on_a_node_that_has_no_bridge_yet() {
    sandboxed(|| {
        let network = Network::dual(&json!({"ipMasq": true, "macspoofchk": true}));
        let pods: Vec<Netns> = (0..PODS).map(|n| Netns::new(&format!("pod{n}"))).collect();
        let added = all("ADD", &network, &pods);
        let attached: Vec<Attached> =
            pods.iter().zip(added).map(|(pod, added)| network.attached(pod, added)).collect();

        for at in 0..2 {
            let addresses: BTreeSet<_> = attached.iter().map(|pod| pod.address(at)).collect();
            assert_eq!(addresses.len(), PODS, "an address was given twice");
        }
        let bridges: BTreeSet<String> =
            attached.iter().map(|pod| pod.result["interfaces"][0]["mac"].to_string()).collect();
        assert_eq!(bridges.len(), 1, "the bridge changed its MAC: {bridges:?}");
        assert_eq!(Node.addresses("br0"), ["10.1.2.1/24", "fd00:1::1/64"]);
        let rules = Node.run("nft list ruleset");
        assert_eq!(rules.matches("comment \"net\"").count(), 2, "one rule per family: {rules}");
        assert_eq!(rules.matches("@spoof_allowed drop").count(), 1, "{rules}");
        attached.iter().for_each(Attached::check);
        for (pod, netns) in attached.iter().zip(&pods).step_by(10) {
            assert!(ping(netns, "10.1.2.1") && ping(&Node, pod.address(0)));
        }

        all("DEL", &network, &pods);
        assert!(pods.iter().all(|pod| pod.link("eth0").is_none()));
        assert_nothing_remains();
        assert_eq!(Node.addresses("br0"), ["10.1.2.1/24", "fd00:1::1/64"]);
    });
}

#[test]
fn pods_that_come_do_not_disturb_pods_that_go() {
    sandboxed(|| {
        let network = Network::gateway(&json!({"ipMasq": true, "macspoofchk": true}));
        let pods: Vec<Netns> = (0..20).map(|n| Netns::new(&format!("pod{n}"))).collect();
        let (first, second) = pods.split_at(10);
        all("ADD", &network, first);
        let added = thread::scope(|scope| {
            let going = scope.spawn(|| all("DEL", &network, first));
            let added = all("ADD", &network, second);
            going.join().expect("all DELs succeed");
            added
        });
        let attached: Vec<_> =
            second.iter().zip(added).map(|(pod, added)| network.attached(pod, added)).collect();
        attached.iter().for_each(Attached::check);
        all("DEL", &network, second);
        assert_nothing_remains();
    });
}
