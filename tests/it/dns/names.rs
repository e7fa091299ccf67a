//! Which names there are, from the record to its end, and who is answered.

use std::fs;

use super::*;
use crate::lab::world;
use crate::sandbox::sandboxed;

/// A short one of the other namespace, as kubelet's search list asks for it.
fn searched(name: &str, namespace: &str) -> Vec<String> {
    let domains = [&format!("{namespace}.svc.cluster.local"), "svc.cluster.local", "cluster.local"];
    domains.iter().map(|domain| format!("{name}.{domain}")).chain([name.to_owned()]).collect()
}

#[test]
fn pods_find_each_other_without_any_uplink() {
    sandboxed(|| {
        let (web, db) = (Pod::new("ns1", "web"), Pod::new("ns2", "db"));
        let _role = Role::start(&[]);
        assert_eq!(answer(&web.netns, "web.ns1.svc.cluster.local A"), web.address);
        assert_eq!(answer(&web.netns, "WeB.Ns1.sVc.ClusteR.LocaL A"), web.address);
        // The first question of the list that has an answer ends it, and each before it is answered here.
        let found: Vec<_> = searched("db", "ns1").iter().map(|name| answer(&web.netns, name)).collect();
        assert_eq!(found, ["NXDOMAIN", &db.address, &db.address, &db.address]);
        let found: Vec<_> =
            searched("db.ns2", "ns1").iter().take(2).map(|name| answer(&web.netns, name)).collect();
        assert_eq!(found, ["NXDOMAIN", &db.address]);
        // Programs of the node, over both transports.
        assert_eq!(answer(&Node, "+tcp db.ns2.svc.cluster.local"), db.address);
        let reverse = answer(&web.netns, &format!("-x {}", db.address));
        assert_eq!(reverse, "db.ns2.pod.cluster.local. db.ns2.svc.cluster.local.");
        for kind in ["AAAA", "TXT", "MX", "SRV", "TYPE65", "TYPE1000"] {
            let text = dig(&web.netns, &format!("db.ns2.svc.cluster.local {kind}"));
            assert!(
                text.contains("status: NOERROR") && text.contains("ANSWER: 0, AUTHORITY: 1"),
                "{kind}: {text}"
            );
        }
        let text = dig(&web.netns, "nosuch.ns1.svc.cluster.local");
        assert!(text.contains("status: NXDOMAIN") && text.contains("flags: qr aa rd ra;"), "{text}");
        assert!(text.contains("SOA\tns.dns.cluster.local. hostmaster.cluster.local."), "{text}");
        assert_eq!(answer(&web.netns, "ns1.svc.cluster.local"), "NOERROR");
        assert_eq!(answer(&web.netns, "nosuch"), "NXDOMAIN");
        assert_eq!(answer(&web.netns, "-x 10.77.0.99"), "NXDOMAIN");
        assert_eq!(counted("forwarded"), Some(0));
    });
}

#[test]
fn names_come_with_the_record_and_go_with_it() {
    sandboxed(|| {
        // Before there is anything: no directory, no bridge.
        let role = Role::start(&[]);
        let web = Pod::new("ns1", "web");
        let wait = |what: &str, name: &str, expected: &str| {
            eventually(what, PATIENCE, || answer(&Node, name) == expected);
        };
        wait("the first pod has a name", "web", &web.address);
        let second = Pod::in_container("ns1", "web", "other");
        let both = format!("{} {}", web.address, second.address);
        wait("two pods of one name are two addresses", "web", &both);
        second.detach();
        wait("a pod that is detached has none", "web", &web.address);
        // It dies, and nobody says so.
        Node.run(&format!("ip link del {}", web.host_if));
        wait("a pod whose link is gone has none", "web", "NXDOMAIN");
        // Reconcile brings it back.
        run("reconcile");
        wait("a pod that is repaired has its name again", "web", &web.address);
        role.end();
        assert!(!fs::exists(SOCKET).unwrap());
    });
}

#[test]
fn the_runtime_s_hostname_counts_and_strangers_files_do_not() {
    sandboxed(|| {
        let role = Role::start(&[]);
        let put = |container: &str, text: &str| {
            let directory = format!("/run/containers/storage/overlay-containers/{container}/userdata");
            fs::create_dir_all(&directory).unwrap();
            fs::write(format!("{directory}/hostname"), text).unwrap();
        };
        put("before", "Known\n");
        let before = Pod::in_container("ns1", "web-0", "before");
        let after = Pod::in_container("ns1", "web-1", "after");
        put("after", "later\n");
        let hostile = Pod::in_container("ns1", "web-2", "hostile");
        put("hostile", "../../etc/passwd\n");
        let wait =
            |name: &str, expected: &str| eventually(name, PATIENCE, || answer(&Node, name) == expected);
        wait("known.ns1.svc.cluster.local", &before.address);
        wait("web-0.ns1.svc.cluster.local", &before.address);
        wait("later.ns1.svc.cluster.local", &after.address);
        wait("web-2.ns1.svc.cluster.local", &hostile.address);
        let reverse = dig(&Node, &format!("+short -x {}", before.address));
        assert_eq!(reverse.lines().next(), Some("known.ns1.svc.cluster.local."), "{reverse}");
        role.end();
    });
}

#[test]
fn whoever_is_neither_pod_nor_node_gets_no_answer() {
    sandboxed(|| {
        let world = world();
        let web = Pod::new("ns1", "web");
        let _role = Role::start(&[]);
        world.run(&format!("ip route add 10.77.0.0/24 via {}", lab::NODE));
        // The way is there: the pod itself can be reached.
        world.run(&format!("ping -c 1 -W 2 {}", web.address));
        assert_eq!(answer(&world, "web"), "silence");
        assert_eq!(answer(&world, "+tcp web"), "silence");
        assert!(counted("dropped").unwrap() >= 2);
        // With each of its addresses the node may.
        assert_eq!(answer(&Node, &format!("-b {} @{GATEWAY} web", lab::NODE)), web.address);
    });
}

#[test]
fn a_record_of_another_boot_or_of_nobody_makes_no_name() {
    sandboxed(|| {
        let web = Pod::new("ns1", "web");
        let file = lab::files("/run/smarter-cni/attachments").remove(0);
        let path = format!("/run/smarter-cni/attachments/{file}");
        let record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let _role = Role::start(&[]);
        assert_eq!(answer(&Node, "web"), web.address);
        let mut old = record.clone();
        old["boot_id"] = json!("00000000-0000-0000-0000-000000000000");
        fs::write(&path, old.to_string()).unwrap();
        eventually("a record of another boot is void", PATIENCE, || answer(&Node, "web") == "NXDOMAIN");
        fs::write(&path, record.to_string()).unwrap();
        eventually("a whole one counts", PATIENCE, || answer(&Node, "web") == web.address);
        fs::write(&path, "{").unwrap();
        eventually("a damaged one does not", PATIENCE, || answer(&Node, "web") == "NXDOMAIN");
    });
}

#[test]
fn a_hundred_replicas_are_found_by_old_and_new_resolvers() {
    sandboxed(|| {
        let _pods = Pod::new("ns1", "one");
        let hosts: Vec<String> = (1..=100).map(|at| format!("10.77.0.{at} many")).collect();
        let _role = Role::start(&[("dns-hosts", &hosts.join(";"))]);
        // Without EDNS: as many whole ones as fit, and the first one changes.
        let text = dig(&Node, "+noedns +ignore many");
        assert!(text.contains("flags: qr aa tc rd ra;"), "{text}");
        let count = |text: &str| text.lines().filter(|line| line.starts_with("many.")).count();
        assert!((28..40).contains(&count(&text)), "{text}");
        let firsts: std::collections::BTreeSet<String> = (0..4)
            .map(|_| dig(&Node, "+noedns +ignore +short many").lines().next().unwrap().to_owned())
            .collect();
        assert_eq!(firsts.len(), 4, "{firsts:?}");
        // dig asks over TCP by itself.
        assert_eq!(count(&dig(&Node, "+noedns many")), 100);
    });
}

#[test]
fn an_annotation_gives_names_besides() {
    sandboxed(|| {
        let _role = Role::start(&[]);
        let netns = Netns::new("broker-7c9");
        let arguments = "K8S_POD_NAMESPACE=ns1;K8S_POD_NAME=broker-7c9";
        let mut config = network();
        config["runtimeConfig"] = json!({"io.kubernetes.cri.pod-annotations": {
            "kubernetes.io/config.source": "api", "smarter-cni/dns-names": "mqtt, Broker,not a name,localhost"
        }});
        let result = call("ADD", &config, &netns, arguments).succeed().json;
        let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        for name in ["mqtt.ns1.svc.cluster.local", "broker.cluster.local", "mqtt", "broker-7c9"] {
            eventually(name, PATIENCE, || answer(&Node, name) == address);
        }
        let reverse = dig(&Node, &format!("+short -x {address}"));
        assert_eq!(reverse.lines().next(), Some("broker-7c9.ns1.svc.cluster.local."), "{reverse}");
        assert_eq!(answer(&Node, "localhost"), "127.0.0.1");
        // What else is in the annotations is nobody's business.
        let file = lab::files("/run/smarter-cni/attachments").remove(0);
        let record = fs::read_to_string(format!("/run/smarter-cni/attachments/{file}")).unwrap();
        assert!(
            record.contains(r#""names":["mqtt","broker","localhost"]"#) && !record.contains("source"),
            "{record}"
        );
        call("DEL", &config, &netns, arguments).succeed();
        eventually("they go with it", PATIENCE, || answer(&Node, "mqtt") == "NXDOMAIN");
    });
}
