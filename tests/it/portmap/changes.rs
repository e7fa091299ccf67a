//! Ports that change hands while clients go on.

use std::net::UdpSocket;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Pod, ports};
use crate::lab::{self, NODE, Node, Place, WORLD, ask_udp};
use crate::sandbox::sandboxed;

/// Asks from one source port, every few milliseconds, until told to stop; the last answer is in `latest`.
fn never_stops(place: &impl Place, latest: &Mutex<String>, stop: &AtomicBool) {
    place.inside(|| {
        let socket = UdpSocket::bind((WORLD, 40_000)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        socket.connect((NODE, 8053)).unwrap();
        let mut text = [0; 64];
        while !stop.load(Ordering::Relaxed) {
            let _ = socket.send(b"?");
            if let Ok(length) = socket.recv(&mut text) {
                let answer = String::from_utf8_lossy(&text[..length]).into_owned();
                answer.split(' ').next().unwrap().clone_into(&mut latest.lock().unwrap());
            }
        }
    });
}

#[test]
fn a_udp_client_that_never_stops_follows_the_port() {
    sandboxed(|| {
        let world = lab::world();
        let (latest, stop) = (Mutex::new(String::new()), AtomicBool::new(false));
        let comes_to = |token: &str| {
            let begun = Instant::now();
            while *latest.lock().unwrap() != token {
                if begun.elapsed() > Duration::from_secs(3) {
                    stop.store(true, Ordering::Relaxed);
                    panic!("the client did not come to {token}: {}", Node.run("conntrack -L -p udp"));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        };
        let mapping = || ports(&[("udp", 8053, 5353)]);
        std::thread::scope(|scope| {
            scope.spawn(|| never_stops(&world, &latest, &stop));
            let first = Pod::mapped("first", mapping());
            lab::serve_udp(&first.netns, first.at(false, 5353), "first");
            comes_to("first");
            // The new one is there before the old one's namespace is gone.
            first.portmap("DEL", json!({})).succeed();
            let second = Pod::mapped("second", mapping());
            lab::serve_udp(&second.netns, second.at(false, 5353), "second");
            comes_to("second");
            second.gone(json!({}));
            lab::serve_udp(&Node, (NODE, 8053), "host");
            comes_to("host");
            // And back: the flow to the host's process was never translated.
            let third = Pod::mapped("third", mapping());
            lab::serve_udp(&third.netns, third.at(false, 5353), "third");
            comes_to("third");
            stop.store(true, Ordering::Relaxed);
        });
    });
}

#[test]
fn flows_to_the_same_port_elsewhere_stay() {
    sandboxed(|| {
        let world = lab::world();
        let client = Pod::attached("client");
        let before = Pod::mapped("before", ports(&[("udp", 8054, 5353)]));
        lab::serve_udp(&world, (WORLD, 8053), "resolver");
        lab::serve_udp(&before.netns, before.at(false, 5353), "before");
        assert_eq!(ask_udp(&client.netns, (WORLD, 8053)).unwrap().token, "resolver");
        assert_eq!(ask_udp(&world, (NODE, 8054)).unwrap().token, "before");
        let flows = || Node.run("conntrack -L -p udp");
        let to_resolver = format!("dst={WORLD} sport=");
        let to_pod = "dport=8054";
        let counts = || (flows().contains(&to_resolver), flows().contains(to_pod));
        assert_eq!(counts(), (true, true), "{}", flows());
        let pod = Pod::mapped("dns", ports(&[("udp", 8053, 5353), ("tcp", 8080, 80)]));
        assert_eq!(counts(), (true, true), "ADD: {}", flows());
        pod.portmap("DEL", json!({})).succeed();
        assert_eq!(counts(), (true, true), "DEL: {}", flows());
        before.portmap("DEL", json!({})).succeed();
        assert_eq!(counts(), (true, false), "{}", flows());
    });
}

#[test]
fn a_repeated_add_means_what_it_says_now() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::mapped("web", ports(&[("tcp", 8080, 80), ("tcp", 8081, 80)]));
        lab::serve_tcp(&pod.netns, pod.at(false, 81), "new");
        let now = ports(&[("tcp", 8080, 81)]);
        pod.portmap("ADD", now.clone()).succeed();
        pod.portmap("CHECK", now.clone()).succeed();
        assert_eq!(lab::ask_tcp(&world, (NODE, 8080)).unwrap().token, "new");
        assert!(lab::ask_tcp(&world, (NODE, 8081)).is_err());
        let listed = super::elements();
        assert!(!listed.contains("8081"), "{listed}");
        pod.portmap("DEL", json!({})).succeed();
        assert_eq!(super::elements(), "");
    });
}

/// Not every caller of CHECK has the words that only people need.
#[test]
fn check_knows_its_ports_whatever_the_pod_is_called() {
    sandboxed(|| {
        let pod = Pod::attached("web");
        let mapping = || ports(&[("tcp", 8080, 80), ("udp", 8053, 53)]);
        let named = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0";
        pod.portmap("ADD", mapping()).env("CNI_ARGS", named).succeed();
        for args in [named, "", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=renamed"] {
            let out = pod.portmap("CHECK", mapping()).env("CNI_ARGS", args).succeed();
            assert_eq!(out.stderr, "", "with {args:?}");
        }
        pod.portmap("ADD", mapping()).succeed();
        pod.gone(mapping());
        assert_eq!(super::elements(), "");
    });
}

#[test]
fn an_address_of_no_interface_is_the_pods() {
    sandboxed(|| {
        let mut pod = Pod::attached("web");
        pod.result["ips"][0]["interface"] = (-1).into();
        let mapping = || ports(&[("tcp", 8080, 80)]);
        let added = pod.portmap("ADD", mapping()).succeed();
        assert_eq!(added.json["ips"][0]["interface"], -1, "passed on as it came");
        pod.portmap("CHECK", mapping()).succeed();
        pod.gone(mapping());
    });
}

#[test]
fn a_flushed_rule_set_is_noticed_and_made_anew() {
    sandboxed(|| {
        let world = lab::world();
        let mapping = || ports(&[("tcp", 8080, 80)]);
        let pod = Pod::mapped("web", mapping());
        lab::serve_tcp(&pod.netns, pod.at(false, 80), "web");
        for (disturbance, is_shared) in [
            ("nft flush ruleset", false),
            ("nft flush chain ip smarter-cni to_pods", true),
            ("nft flush chain ip smarter-cni guard", true),
            ("nft delete element ip smarter-cni hostports { tcp . 8080 }", false),
            ("nft delete element ip smarter-cni hairpin { 10.7.0.2 . 10.7.0.2 }", false),
            ("sysctl -q -w net.ipv4.conf.port0.route_localnet=0", true),
        ] {
            assert_eq!(pod.portmap("CHECK", mapping()).succeed().stderr, "", "before {disturbance}");
            Node.run(disturbance);
            if is_shared {
                let told = pod.portmap("CHECK", mapping()).succeed();
                assert!(told.stderr.contains("missing hostport rules"), "{disturbance}: {told}");
            } else {
                super::fails_with(&pod.portmap("CHECK", mapping()).run(), "missing hostport rules");
            }
            let strictly = super::with(mapping(), "strictCheck", true.into());
            super::fails_with(&pod.portmap("CHECK", strictly).run(), "missing hostport rules");
            pod.portmap("ADD", mapping()).succeed();
            assert_eq!(lab::ask_tcp(&world, (NODE, 8080)).unwrap().token, "web");
            assert_eq!(lab::ask_tcp(&Node, ([127, 0, 0, 1], 8080)).unwrap().token, "web");
        }
    });
}
