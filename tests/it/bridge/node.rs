//! The verbs about a whole network: STATUS, which only looks, and GC, which removes what the runtime does not know.

use std::fs;
use std::path::Path;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::{Attached, LEASES, Network, ping, refused, remains};
use crate::lab::{Netns, Node, Place, files};
use crate::sandbox::sandboxed;

/// Every file below a directory, with its size and time.
fn listing(dir: &Path) -> Vec<(String, u64, SystemTime)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let meta = entry.metadata().expect("its metadata");
        found.push((entry.path().display().to_string(), meta.len(), meta.modified().expect("a time")));
        if meta.is_dir() {
            found.extend(listing(&entry.path()));
        }
    }
    found.sort();
    found
}

fn network() -> Network {
    Network::gateway(&json!({"ipMasq": true, "macspoofchk": true}))
}

#[test]
fn status_of_a_healthy_node_is_silent_and_writes_nothing() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let everything = || ["/run", "/var/lib/cni"].map(|dir| listing(Path::new(dir)));
        // The kernel finds out in its own time whether somebody is at the other end.
        let links = || {
            let mut links = Node.ip("link show");
            for link in links.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                link.retain(|key, _| key != "flags" && key != "operstate");
            }
            links
        };
        let world = || (everything(), links(), Node.run("nft list ruleset"));
        let status = || assert_eq!(network().call_all("STATUS").succeed().stdout, "");
        let before = world();
        status();
        assert_eq!(world(), before, "on a node without pods");
        let attached = network().add(&pod);
        let before = world();
        status();
        assert_eq!(world(), before, "with a pod");
        attached.check();
    });
}

#[test]
fn status_says_50_when_the_network_cannot_work() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let says = |network: &Network, words: &str| {
            let out = refused(&network.call_all("STATUS"), words);
            assert_eq!(out.json["code"], 50, "{out}");
        };
        Node.run("ip link add br0 type veth peer name up0");
        says(&network(), "\"br0\" already exists but is not a bridge");
        Node.run("ip link del br0");

        Node.run("mount -o remount,ro /run");
        says(&network(), "/run");
        Node.run("mount -o remount,rw /run");
        Node.run("mount -o remount,ro /var/lib/cni");
        says(&network(), "/var/lib/cni");
        Node.run("mount -o remount,rw /var/lib/cni");

        // A full range is a matter of the next pod, not of the node.
        let small = network().ipam(&json!({"subnet": "10.1.2.0/30"}));
        let _attached = small.add(&pod);
        refused(&small.call("ADD", &Netns::new("late")), "no IP addresses available in range set");
        small.call_all("STATUS").succeed();
        let wrong = network().with(&json!({"isGateway": "yes"}));
        assert_eq!(wrong.call_all("STATUS").run().status, 0, "ADD will say what is wrong with it");
    });
}

fn gc(network: &Network, valid: &[&str]) -> Network {
    let valid: Vec<Value> = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
    network.clone().with(&json!({"cni.dev/valid-attachments": valid}))
}

fn other() -> Network {
    network().with(&json!({"name": "other", "bridge": "br1"})).ipam(&json!({"subnet": "10.1.9.0/24"}))
}

/// What names the pod, by address or host end.
fn of(pod: &Attached) -> Vec<String> {
    let address = pod.address(0).to_string();
    let is_its = |what: &String| {
        what.contains(pod.port())
            || what.ends_with(&format!("/{address}"))
            || what.ends_with(&format!(" {address}"))
    };
    remains().into_iter().filter(is_its).collect()
}

#[test]
fn gc_keeps_the_valid_attachments_and_other_networks() {
    sandboxed(|| {
        let netns = ["a", "b", "c", "d"].map(Netns::new);
        let [a, b, c, d] = &netns;
        let (first, second, third) = (network().add(a), network().add(b), network().add(c));
        let foreign = other().add(d);
        gc(&network(), &["a"]).call_all("GC").succeed();
        assert_eq!((of(&second), of(&third)), (Vec::new(), Vec::new()));
        assert!(b.link("eth0").is_none() && c.link("eth0").is_none());
        first.check();
        foreign.check();
        assert!(ping(a, "10.1.2.1") && ping(d, "10.1.9.1"));
        assert_eq!(files(super::RECORDS).len(), 2);

        gc(&network(), &[]).call_all("GC").succeed();
        assert_eq!(of(&first), Vec::<String>::new());
        foreign.check();
        // An empty list as the runtimes' library writes it.
        let mut none = other();
        none.config["cni.dev/valid-attachments"] = Value::Null;
        none.call_all("GC").succeed();
        super::assert_nothing_remains();
        network().add(b).check();
    });
}

#[test]
fn gc_without_a_list_frees_nothing() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        let attached = network().add(&pod);
        let before = remains();
        let out = refused(&network().call_all("GC"), "cni.dev/valid-attachments");
        assert_eq!(out.json["code"], 7);
        assert_eq!(remains(), before);
        attached.check();
    });
}

#[test]
fn gc_finds_pods_whose_record_or_namespace_is_lost_and_leases_of_nobody() {
    sandboxed(|| {
        let (a, b, c) = (Netns::new("a"), Netns::new("b"), Netns::new("c"));
        let (unrecorded, orphan, valid) = (network().add(&a), network().add(&b), network().add(&c));
        for name in files(super::RECORDS) {
            let path = Path::new(super::RECORDS).join(&name);
            if fs::read_to_string(&path).expect("a record").contains("\"a\"") {
                fs::remove_file(path).expect("remove");
            }
        }
        assert_eq!(files(super::RECORDS).len(), 2, "one record is lost");
        drop(b);
        fs::write(format!("{LEASES}/net/10.1.2.99"), "nobody\r\neth0").expect("a lease of nobody");
        gc(&network(), &["c"]).call_all("GC").succeed();
        assert_eq!((of(&unrecorded), of(&orphan)), (Vec::new(), Vec::new()));
        assert!(a.link("eth0").is_none());
        assert!(!Path::new(LEASES).join("net/10.1.2.99").exists());
        valid.check();
    });
}
