//! Old and new on one node: what one build of the plugins began, the other must be able to finish.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::thread;

use serde_json::{Value, json};

use super::state::MARKER;
use crate::lab::{self, Netns, Node, Place, Plugin, Plugins, UNDER_TEST};

const LEASES: &str = "/run/leases";

/// Both directions of a change: from the Go plugins to ours, and back.
fn changes(peer: Plugins) -> [(Plugins, Plugins); 2] {
    [(peer, UNDER_TEST), (UNDER_TEST, peer)]
}

fn config() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "labnet", "type": "bridge", "bridge": "lab0", "isDefaultGateway": true,
        "ipMasq": true, "ipam": {"type": "host-local", "dataDir": LEASES, "subnet": "10.1.2.0/24"}
    })
}

fn host_local(whose: Plugins, verb: &str, container: &str) -> Plugin {
    let plugin = Plugin::new(whose.dir(), "host-local").command(verb).container(container).ifname("eth0");
    plugin.env("CNI_NETNS", "/run/netns/none").json(&config())
}

fn bridge(whose: Plugins, verb: &str, pod: &Netns, prev_result: Option<&Value>) -> Plugin {
    let mut config = config();
    if let Some(result) = prev_result {
        config["prevResult"] = result.clone();
    }
    // The id is the file name of the namespace.
    let path = pod.path();
    let id = path.rsplit('/').next().expect("a name");
    Plugin::new(whose.dir(), "bridge").command(verb).container(id).netns(pod).ifname("eth0").json(&config)
}

fn reserved() -> Vec<String> {
    let files = lab::files(format!("{LEASES}/labnet"));
    files.into_iter().filter(|f| f.parse::<std::net::IpAddr>().is_ok()).collect()
}

fn address(result: &Value) -> String {
    let address = result["ips"][0]["address"].as_str().expect("an address");
    address.split('/').next().expect("without prefix").to_owned()
}

pub(super) fn leases_change_hands(peer: Plugins) {
    for (first, second) in changes(peer) {
        let mine = address(&host_local(first, "ADD", "a").succeed().json);
        host_local(second, "CHECK", "a").succeed();
        let again = host_local(second, "ADD", "a").run();
        assert!(again.stdout.contains("duplicate allocation is not allowed"), "{again}");
        let next = address(&host_local(second, "ADD", "b").succeed().json);
        assert_ne!(mine, next);
        assert_eq!(reserved().len(), 2);
        host_local(second, "DEL", "a").succeed();
        assert_eq!(reserved(), [next]);
        host_local(first, "DEL", "b").succeed();
        assert!(reserved().is_empty());
    }
}

/// Our file in the lease directory is neither a lease nor in the way, and the Go plugin leaves it alone.
pub(super) fn the_marker_does_not_disturb_the_go_plugin(peer: Plugins) {
    let marker = format!("{LEASES}/labnet/{MARKER}");
    host_local(UNDER_TEST, "ADD", "a").succeed();
    host_local(UNDER_TEST, "DEL", "a").succeed();
    let written = fs::read(&marker).expect("our marker");
    // The next address, as if ours had not been there but for the address it gave.
    assert_eq!(address(&host_local(peer, "ADD", "b").succeed().json), "10.1.2.3");
    host_local(peer, "CHECK", "b").succeed();
    assert_ne!(host_local(peer, "CHECK", "a").run().status, 0, "a has no lease");
    host_local(peer, "DEL", "a").succeed();
    assert_eq!(reserved(), ["10.1.2.3"]);
    host_local(peer, "DEL", "b").succeed();
    assert!(reserved().is_empty());
    assert_eq!(fs::read(&marker).expect("the marker is still there"), written);
}

pub(super) fn both_reserve_at_once_without_a_clash(peer: Plugins) {
    const EACH: usize = 20;
    let ids: Vec<String> = (0..EACH).map(|n| format!("c{n}")).collect();
    let everybody = |verb: &str, even: Plugins, odd: Plugins| -> Vec<Value> {
        thread::scope(|scope| {
            let calls: Vec<_> = ids
                .iter()
                .enumerate()
                .map(|(n, id)| host_local(if n % 2 == 0 { even } else { odd }, verb, id))
                .map(|plugin| scope.spawn(move || plugin.succeed().json))
                .collect();
            calls.into_iter().map(|call| call.join().expect("the call succeeds")).collect()
        })
    };
    let given: BTreeSet<String> = everybody("ADD", peer, UNDER_TEST).iter().map(address).collect();
    assert_eq!(given.len(), EACH, "an address was given twice");
    let expected: BTreeSet<String> = (2..2 + EACH).map(|n| format!("10.1.2.{n}")).collect();
    assert_eq!(given, expected, "one sequence, without gaps");
    everybody("DEL", UNDER_TEST, peer);
    assert!(reserved().is_empty());
}

/// DEL by `whose` of what `maker` attached.
///
/// The Go plugin removes interface and lease, and then the iptables chain that it would have made for the pod. There is none
/// for a pod of ours, and it reports that as an error. The runtime repeats the DEL, and that one succeeds.
fn remove(whose: Plugins, maker: Plugins, pod: &Netns, result: &Value) {
    let del = bridge(whose, "DEL", pod, Some(result));
    if whose != UNDER_TEST && maker == UNDER_TEST {
        let first = del.run();
        let complaint = first.json["msg"].as_str().unwrap_or_default();
        let chain = complaint.contains("CNI-") && complaint.contains("does not exist");
        assert!(first.status == 0 || chain, "it may miss its chain, nothing else: {first}");
    }
    del.succeed();
}

pub(super) fn attachments_change_hands(peer: Plugins) {
    for (nth, (first, second)) in changes(peer).into_iter().enumerate() {
        // Container ids do not come back, and the Go plugin's chains, which ours leaves alone, are named after them.
        let (old, new) = (Netns::new(&format!("old-{nth}")), Netns::new(&format!("new-{nth}")));
        let result = bridge(first, "ADD", &old, None).succeed().json;
        bridge(second, "CHECK", &old, Some(&result)).succeed();
        let newer = bridge(second, "ADD", &new, None).succeed().json;

        let server = SocketAddr::new(address(&result).parse().expect("an address"), 7000);
        lab::serve_tcp(&old, server, "old");
        let answer = lab::ask_tcp(&new, server).expect("pods of both builds reach each other");
        assert_eq!((answer.token, answer.seen_as.to_string()), ("old".into(), address(&newer)));
        lab::ask_tcp(&Node, server).expect("the node reaches its pod");

        remove(second, first, &old, &result);
        assert!(old.link("eth0").is_none(), "eth0 is left in the pod");
        assert_eq!(reserved(), [address(&newer)]);
        new.run("ping -c 1 -W 2 10.1.2.1");
        remove(first, second, &new, &newer);
        assert!(new.link("eth0").is_none() && reserved().is_empty());
        assert_eq!(Node.ip("link show type veth"), json!([]));
    }
}

pub(super) fn an_attachment_is_released_after_its_namespace_went(peer: Plugins) {
    for (first, second) in changes(peer) {
        let pod = Netns::new("pod");
        let result = bridge(first, "ADD", &pod, None).succeed().json;
        let del = bridge(second, "DEL", &pod, Some(&result));
        drop(pod);
        del.succeed();
        assert!(reserved().is_empty());
        del.env("CNI_NETNS", "").succeed();
    }
}
