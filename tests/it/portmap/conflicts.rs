//! Two who want one port.

use serde_json::{Value, json};

use super::{NETWORK, Pod, fails_with, plugin, ports, with};
use crate::lab::{self, NODE, Netns, Node, Place, ask_tcp};
use crate::sandbox::sandboxed;

fn at(ip: &str, protocol: &str) -> Value {
    json!({"runtimeConfig": {"portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": protocol, "hostIP": ip}]}})
}

#[test]
fn overlapping_ports_are_refused_and_others_are_not() {
    sandboxed(|| {
        let first = Pod::attached("first");
        let second = Pod::attached("second");
        let refused = true;
        for (one, other, expected) in [
            (at("", "tcp"), at("", "tcp"), refused),
            (at("", "tcp"), at("192.0.2.1", "TCP"), refused),
            (at("192.0.2.1", "tcp"), at("", "tcp"), refused),
            (at("192.0.2.1", "tcp"), at("0.0.0.0", "tcp"), refused),
            (at("192.0.2.1", "tcp"), at("192.0.2.1", "tcp"), refused),
            (at("::", "tcp"), at("", "tcp"), refused),
            (at("2001:db8::1", "udp"), at("::", "udp"), refused),
            (at("192.0.2.1", "tcp"), at("192.0.2.2", "tcp"), !refused),
            (at("", "tcp"), at("", "udp"), !refused),
            (at("", "tcp"), at("", "sctp"), !refused),
            (at("0.0.0.0", "tcp"), at("::", "tcp"), !refused),
            (at("192.0.2.1", "tcp"), at("2001:db8::1", "tcp"), !refused),
        ] {
            first.portmap("ADD", one.clone()).succeed();
            let before = super::elements();
            let out = second.portmap("ADD", other.clone()).run();
            if expected == refused {
                fails_with(&out, "8080/");
                fails_with(&out, "already used by pod shop/first");
                assert_eq!(super::elements(), before, "a refused ADD leaves nothing");
                assert_eq!(
                    lab::files("/run/smarter-cni/attachments").len(),
                    3,
                    "two bridges', one portmap's"
                );
            } else {
                assert_eq!(out.status, 0, "{one} {other}: {out}");
                first.portmap("CHECK", one).succeed();
                second.portmap("CHECK", other).succeed();
            }
            first.portmap("DEL", json!({})).succeed();
            second.portmap("DEL", json!({})).succeed();
            assert_eq!(super::elements(), "");
        }
    });
}

#[test]
fn a_pod_that_died_without_del_does_not_hold_its_port() {
    sandboxed(|| {
        let world = lab::world();
        let dead = Pod::mapped("dead", at("", "tcp"));
        let at_one = Pod::mapped("at-one", with(at("192.0.2.1", "udp"), "x", json!(1)));
        drop((dead, at_one));
        let mut both = at("", "tcp");
        let list = both["runtimeConfig"]["portMappings"].as_array_mut().unwrap();
        list.push(json!({"hostPort": 8080, "containerPort": 80, "protocol": "udp"}));
        let next = Pod::mapped("next", both.clone());
        lab::serve_tcp(&next.netns, next.at(false, 80), "next");
        assert_eq!(ask_tcp(&world, (NODE, 8080)).unwrap().token, "next");
        next.portmap("CHECK", both.clone()).succeed();
        // The DEL of the dead comes late, and takes nothing of the living.
        let config = json!({"cniVersion": "1.0.0", "name": NETWORK, "type": "portmap"});
        for id in ["dead", "at-one"] {
            plugin("portmap", "DEL", id, "/run/netns/none", &config).succeed();
        }
        next.portmap("CHECK", both).succeed();
        assert_eq!(ask_tcp(&world, (NODE, 8080)).unwrap().token, "next");
        // A record that was lost proves nothing but that nobody holds the port.
        Node.run("rm -rf /run/smarter-cni/attachments");
        let heir = Pod::mapped("heir", at("", "tcp"));
        heir.portmap("CHECK", at("", "tcp")).succeed();
    });
}

#[test]
fn a_process_of_the_node_is_worth_a_warning_or_an_error() {
    sandboxed(|| {
        let pod = Pod::attached("web");
        let _host = lab::serve_tcp(&Node, ([127, 0, 0, 1], 8080), "host");
        let out = pod.portmap("ADD", at("", "tcp")).succeed();
        assert!(out.stderr.contains("hostPort 8080/tcp is in use"), "{out}");
        pod.portmap("DEL", json!({})).succeed();
        let strict = with(at("", "tcp"), "strictHostPorts", json!(true));
        fails_with(&pod.portmap("ADD", strict.clone()).run(), "a process of this node listens on 127.0.0.1");
        assert_eq!(super::elements(), "");
        let elsewhere = with(at("192.0.2.1", "tcp"), "strictHostPorts", json!(true));
        pod.portmap("ADD", elsewhere).succeed();
    });
}

#[test]
fn of_two_at_once_one_gets_the_port() {
    sandboxed(|| {
        let pods: Vec<_> = (0..4).map(|n| Pod::attached(&format!("pod{n}"))).collect();
        let won = std::thread::scope(|scope| {
            let calls: Vec<_> = pods
                .iter()
                .map(|pod| pod.portmap("ADD", ports(&[("tcp", 8080, 80)])))
                .map(|call| scope.spawn(move || call.run().status == 0))
                .collect();
            calls.into_iter().map(|call| call.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(won, 1);
        let chain = Node.run("nft list chain ip smarter-cni to_pods");
        assert_eq!(chain.matches("dnat").count(), 2, "{chain}");
        assert_eq!(Node.run("nft list chain ip smarter-cni guard").matches("drop").count(), 2);
    });
}

/// Pods of which nobody looks at the links: an address each.
#[test]
fn of_fifty_at_once_one_gets_the_port_and_the_others_are_told_who() {
    sandboxed(|| {
        let netns = Netns::new("all");
        let call = |verb: &str, n: u8| {
            let mut config = json!({"cniVersion": "1.0.0", "name": NETWORK, "type": "portmap"});
            config["prevResult"] =
                json!({"cniVersion": "1.0.0", "ips": [{"address": format!("10.7.9.{n}/20")}]});
            config["runtimeConfig"] = ports(&[("tcp", 8080, 80), ("udp", 8080, 80)])["runtimeConfig"].clone();
            plugin("portmap", verb, &format!("c{n}"), &netns.path(), &config)
        };
        let all = |round: u8| {
            let answers: Vec<_> = std::thread::scope(|scope| {
                let calls = (1..=50).map(|n| call("ADD", n));
                let running: Vec<_> = calls.map(|call| scope.spawn(move || call.run())).collect();
                running.into_iter().map(|running| running.join().unwrap()).collect()
            });
            let won: Vec<_> = (1_u8..).zip(&answers).filter(|(_, answer)| answer.status == 0).collect();
            assert_eq!(won.len(), 1, "round {round}");
            let winner = won[0].0;
            for refused in answers.iter().filter(|answer| answer.status != 0) {
                fails_with(refused, &format!("already used by pod shop/c{winner}"));
            }
            let elements = super::elements();
            assert!(elements.lines().all(|line| line.contains(&format!("10.7.9.{winner}"))), "{elements}");
            winner
        };
        for round in 0..2 {
            let winner = all(round);
            call("DEL", winner).succeed();
            assert_eq!(super::elements(), "");
            assert!(lab::files("/run/smarter-cni/attachments").is_empty());
        }
    });
}

/// Runtimes give every network of a container the same ports.
#[test]
fn a_container_in_two_networks_has_its_ports_once() {
    sandboxed(|| {
        let world = lab::world();
        let pod = Pod::mapped("web", ports(&[("tcp", 8080, 80)]));
        lab::serve_tcp(&pod.netns, pod.at(false, 80), "web");
        let mut config = pod.config(ports(&[("tcp", 8080, 80)]));
        config["name"] = "second".into();
        config["prevResult"] = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.8.0.5/24"}]});
        let second =
            |verb| plugin("portmap", verb, "web", &pod.netns.path(), &config).env("CNI_IFNAME", "eth1");
        second("ADD").succeed();
        second("CHECK").succeed();
        assert_eq!(ask_tcp(&world, (NODE, 8080)).unwrap().token, "web");
        second("DEL").succeed();
        assert_eq!(ask_tcp(&world, (NODE, 8080)).unwrap().token, "web");
        pod.portmap("CHECK", ports(&[("tcp", 8080, 80)])).succeed();
        let _: &Netns = &pod.netns;
    });
}
