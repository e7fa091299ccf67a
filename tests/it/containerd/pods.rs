//! Pods as kubelet has them made and removed, with traffic, and what is left of them.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::{Containerd, Release, on_each};
use crate::cri::{HostPort, Pod, Sandbox};
use crate::dns::Role;
use crate::image;
use crate::lab::{self, Answer, Node, Place, UNDER_TEST, eventually};
use crate::labnet::{GATEWAY, assert_nothing_is_left, conflist, host_ends, leases, ping};

on_each!(
    a_pod_gets_an_address_and_leaves_nothing,
    pods_talk_to_each_other_and_to_the_world,
    host_ports_lead_to_the_pod_until_it_goes,
    an_annotation_gives_the_pod_names,
    a_label_names_a_pod_of_the_host_s_network,
    twenty_pods_at_once,
    a_crash_of_containerd_loses_nothing,
);

fn a_pod_gets_an_address_and_leaves_nothing(release: Release) {
    let containerd = Containerd::start(release, UNDER_TEST.dir(), &conflist());
    let pod = Pod::new("one");
    let one = containerd.run_pod(&pod);
    assert_eq!(one.addresses, ["10.77.0.2"]);
    assert_eq!(one.network.addresses("eth0"), ["10.77.0.2/24"]);
    assert_eq!(one.network.addresses("lo"), ["127.0.0.1/8", "::1/128"]);
    ping(&one.network, "127.0.0.1");
    ping(&one.network, GATEWAY);
    ping(&Node, "10.77.0.2");

    let main = containerd.cri.start_container(&pod, &one, image::NAME).expect("a container");
    let seen = containerd.cri.exec(&main, "ip -4 addr show dev eth0").expect("ip in the container");
    assert!(seen.contains("inet 10.77.0.2/24"), "{seen}");
    containerd
        .cri
        .exec(&main, &format!("ping -c 1 -W 2 {GATEWAY}"))
        .expect("the gateway answers a container");

    containerd.remove_pod(&one);
    assert_nothing_is_left(&one.addresses);
}

fn pods_talk_to_each_other_and_to_the_world(release: Release) {
    let world = lab::world();
    let containerd = Containerd::start(release, UNDER_TEST.dir(), &conflist());
    let (one, two) = (containerd.run_pod(&Pod::new("one")), containerd.run_pod(&Pod::new("two")));
    let at = |pod: &Sandbox, port| SocketAddr::new(pod.addresses[0].parse().unwrap(), port);
    let seen = |token: &str, from: &str| Answer { token: token.into(), seen_as: from.parse().unwrap() };

    lab::serve_tcp(&one.network, at(&one, 7000), "one");
    lab::serve_udp(&one.network, at(&one, 7000), "one");
    assert_eq!(lab::ask_tcp(&two.network, at(&one, 7000)).unwrap(), seen("one", &two.addresses[0]));
    assert_eq!(lab::ask_udp(&two.network, at(&one, 7000)).unwrap(), seen("one", &two.addresses[0]));
    assert_eq!(lab::ask_tcp(&Node, at(&one, 7000)).unwrap(), seen("one", GATEWAY));

    // The world has no route to pods: without masquerading its answers get lost.
    let server = SocketAddr::new(lab::WORLD, 7000);
    lab::serve_tcp(&world, server, "world");
    lab::serve_udp(&world, server, "world");
    assert_eq!(lab::ask_tcp(&one.network, server).unwrap(), seen("world", &lab::NODE.to_string()));
    assert_eq!(lab::ask_udp(&two.network, server).unwrap(), seen("world", &lab::NODE.to_string()));
}

fn host_ports_lead_to_the_pod_until_it_goes(release: Release) {
    let world = lab::world();
    let containerd = Containerd::start(release, UNDER_TEST.dir(), &conflist());
    let port = |udp| HostPort { udp, host: 8080, container: 80, address: String::new() };
    let pod = Pod { host_ports: vec![port(false), port(true)], ..Pod::new("web") };
    let web = containerd.run_pod(&pod);
    let inner = SocketAddr::new(web.addresses[0].parse().unwrap(), 80);
    lab::serve_tcp(&web.network, inner, "web");
    lab::serve_udp(&web.network, inner, "web");

    let outer = SocketAddr::new(lab::NODE, 8080);
    let seen = Answer { token: "web".into(), seen_as: lab::WORLD };
    assert_eq!(lab::ask_tcp(&world, outer).unwrap(), seen);
    assert_eq!(lab::ask_udp(&world, outer).unwrap(), seen);
    assert_eq!(lab::ask_tcp(&Node, outer).unwrap().token, "web");
    assert_eq!(lab::ask_tcp(&Node, SocketAddr::from(([127, 0, 0, 1], 8080))).unwrap().token, "web");
    assert_eq!(lab::ask_tcp(&web.network, outer).unwrap().token, "web", "hairpin");

    containerd.remove_pod(&web);
    assert!(lab::ask_tcp(&world, outer).is_err(), "the host port outlived its pod");
    assert_nothing_is_left(&web.addresses);
}

/// As the installed configuration asks for it.
fn an_annotation_gives_the_pod_names(release: Release) {
    let mut list = conflist();
    list["plugins"][0]["capabilities"] = serde_json::json!({"io.kubernetes.cri.pod-annotations": true});
    let containerd = Containerd::start(release, UNDER_TEST.dir(), &list);
    let annotations = vec![("smarter-cni/dns-names".to_owned(), "mqtt,broker".to_owned())];
    let pod = containerd.run_pod(&Pod { annotations, ..Pod::new("one") });
    let shown = Node.run(&format!("{} status --names", lab::binary().display()));
    for name in ["one.default.svc.cluster.local", "mqtt.default.svc.cluster.local", "broker.cluster.local"] {
        assert!(shown.split_whitespace().any(|word| word == name), "{name}: {shown}");
    }
    containerd.remove_pod(&pod);
    assert_nothing_is_left(&pod.addresses);
}

fn a_label_names_a_pod_of_the_host_s_network(release: Release) {
    let containerd = Containerd::start(release, UNDER_TEST.dir(), &conflist());
    let labelled = |name: &str, label: &str| {
        let labels = vec![("app".to_owned(), "x".to_owned()), ("name".to_owned(), label.to_owned())];
        Pod { labels, ..Pod::new(name) }
    };
    let one = containerd.run_pod(&labelled("one", "first"));
    let host = containerd.run_pod(&Pod { host_network: true, ..labelled("host-0", "broker") });
    let socket = containerd.socket().display().to_string();
    let _role = Role::start(&[("dns-host-network-names", &socket)]);
    let asked = |name: &str| {
        let line =
            format!("{} dns --query {name}.default.svc.cluster.local. A --json", lab::binary().display());
        let out = Node.command(&line).output().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        answer["answers"][0]["data"].as_str().map(str::to_owned)
    };
    eventually("the pod has the name of its label", Duration::from_secs(20), || {
        asked("broker").as_deref() == Some(GATEWAY)
    });
    assert_eq!(asked("one").as_deref(), Some(one.addresses[0].as_str()));
    // It has a network of its own, and names in its record.
    assert_eq!(asked("first"), None);
    containerd.remove_pod(&host);
    containerd.remove_pod(&one);
    assert_nothing_is_left(&one.addresses);
}

fn twenty_pods_at_once(release: Release) {
    let containerd = Containerd::start(release, UNDER_TEST.dir(), &conflist());
    let pods: Vec<Sandbox> = thread::scope(|scope| {
        let start = |n| containerd.run_pod(&Pod::new(&format!("pod{n}")));
        let starting: Vec<_> = (0..20).map(|n| scope.spawn(move || start(n))).collect();
        starting.into_iter().map(|pod| pod.join().expect("every pod starts")).collect()
    });
    let addresses: BTreeSet<&String> = pods.iter().flat_map(|p| &p.addresses).collect();
    assert_eq!(addresses.len(), 20, "{addresses:?}");
    assert_eq!(leases().len(), 20);
    assert_eq!(host_ends().len(), 20);
    for pod in &pods {
        ping(&pod.network, GATEWAY);
    }
    ping(&pods[0].network, &pods[19].addresses[0]);

    thread::scope(|scope| {
        for pod in &pods {
            scope.spawn(|| containerd.remove_pod(pod));
        }
    });
    let addresses: Vec<String> = addresses.into_iter().cloned().collect();
    assert_nothing_is_left(&addresses);
}

fn a_crash_of_containerd_loses_nothing(release: Release) {
    let mut containerd = Containerd::start(release, UNDER_TEST.dir(), &conflist());
    let (stays, goes) = (containerd.run_pod(&Pod::new("stays")), containerd.run_pod(&Pod::new("goes")));
    containerd.crash_and_restart(|| ping(&stays.network, &goes.addresses[0]));

    assert_eq!(containerd.cri.status(&stays.id).unwrap().addresses, stays.addresses);
    containerd.remove_pod(&goes);
    ping(&stays.network, GATEWAY);
    let next = containerd.run_pod(&Pod::new("next"));
    assert_ne!(next.addresses, stays.addresses);
    ping(&stays.network, &next.addresses[0]);

    // A namespace that is gone when DEL comes, as after a reboot.
    Node.run(&format!("umount {}", next.network.0));
    fs::remove_file(&next.network.0).expect("remove the namespace");
    containerd.remove_pod(&next);
    containerd.remove_pod(&stays);
    let mut all = [stays.addresses, goes.addresses].concat();
    if !UNDER_TEST.forgets_rules() {
        all.extend(next.addresses);
    }
    eventually("the kernel removes the links of a namespace that is gone", Duration::from_secs(5), || {
        host_ends().is_empty()
    });
    assert_nothing_is_left(&all);
}
