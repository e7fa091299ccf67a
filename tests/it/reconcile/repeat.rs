//! Many reconciles, and reconciles beside everything else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{BRIDGE, House, LEASES, Pod, RECORDS, assert_idle, command, network, plugin, reconcile, steps};
use crate::flow::Flow;
use crate::lab::{self, Netns, Node, Place, ask_tcp, eventually, serve_tcp};
use crate::sandbox::{run, sandboxed};

/// Everything that a reconcile could change.
fn state() -> String {
    let files = run(
        "sh",
        &["-c", "find /run/smarter-cni /run/cni -type f ! -name reconcile.lock | sort | xargs sha256sum"],
    );
    let links = Node.run("ip -o link show") + &Node.run("bridge -d link show");
    let addresses = run("sh", &["-c", "ip -o addr show | sed 's/valid_lft.*//'"]);
    let routes = Node.run("ip route show table all");
    format!("{}\n{links}\n{addresses}\n{routes}\n{files}", Node.run("nft list ruleset"))
}

#[test]
fn a_thousand_in_a_row_change_nothing() {
    sandboxed(|| {
        let house = House::new();
        house.flows.iter().for_each(Flow::pause);
        run("nft", &["flush", "ruleset"]);
        reconcile();
        house.flows.iter().for_each(Flow::resume);
        let rules = Node.run("nft -a list ruleset");
        let before = state();
        for round in 0..1000 {
            let out = command("reconcile");
            assert_eq!(out.status, 0, "round {round}: {out}");
            assert_eq!(out.stdout, "reconcile: 2 attachments, nothing to do\n", "round {round}");
        }
        assert_eq!(Node.run("nft -a list ruleset"), rules, "handles included");
        let after = state();
        for (before, after) in before.lines().zip(after.lines()) {
            assert_eq!(before, after);
        }
        assert_eq!(before.lines().count(), after.lines().count());
        house.assert_flows("after a thousand reconciles");
    });
}

#[test]
fn one_that_has_nothing_to_do_writes_nothing() {
    sandboxed(|| {
        let _house = House::new();
        let calls =
            "trace=openat,?open,?creat,?rename,renameat2,?unlink,unlinkat,?mkdir,mkdirat,write,sendto";
        let binary = lab::binary();
        let line = format!("strace -f -y -qq -o /run/trace -e {calls} {} reconcile", binary.display());
        Node.run(&line);
        let trace = std::fs::read_to_string("/run/trace").unwrap();
        assert!(trace.contains("sendto"), "{trace}");
        for line in trace.lines() {
            let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "rename", "unlink", "mkdir"];
            assert!(!writes.iter().any(|word| line.contains(word)), "{line}");
            assert!(!line.contains("write(") || line.contains("write(1<"), "{line}");
        }
    });
}

#[test]
fn a_hundred_pods_are_looked_at_in_a_moment() {
    sandboxed(|| {
        let config = network(&json!({}));
        let pods: Vec<Netns> = (0..100).map(|n| Netns::new(&format!("pod{n}"))).collect();
        thread::scope(|scope| {
            for half in pods.chunks(50) {
                let add = |netns: &Netns| drop(plugin("bridge", "ADD", netns, &config).succeed());
                scope.spawn(move || half.iter().for_each(add));
            }
        });
        let begun = Instant::now();
        assert_eq!(command("reconcile").stdout, "reconcile: 100 attachments, nothing to do\n");
        let idle = begun.elapsed();
        run("sh", &["-c", &format!("nft flush ruleset; ip link del {BRIDGE}; rm -rf {LEASES}")]);
        let begun = Instant::now();
        let made = steps(&reconcile()).len();
        let repaired = begun.elapsed();
        assert_idle();
        eprintln!(
            "100 pods: idle {idle:?}, {made} steps after flush, deletion of bridge and leases {repaired:?}"
        );
    });
}

/// Calls `disturb` again and again until the end of the body.
fn beside<T: Send>(disturb: &[&(dyn Fn() + Sync)], body: impl FnOnce() -> T + Send) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for disturb in disturb {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    disturb();
                }
            });
        }
        let result = scope.spawn(body).join();
        done.store(true, Ordering::SeqCst);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

const PODS: usize = 50;

#[test]
fn fifty_adds_beside_reconciles_and_flushes() {
    sandboxed(|| {
        let flush = || {
            run("nft", &["flush", "ruleset"]);
            thread::sleep(Duration::from_millis(30));
        };
        let repair = || {
            let out = command("reconcile --json");
            // What another one flushes meanwhile may be missed a second time; nothing else may happen.
            assert!(out.status < 2, "{out}");
        };
        let pods = beside(&[&flush, &repair], || {
            thread::scope(|scope| {
                let add = |n: usize| {
                    move || Pod::new(&format!("pod{n}"), &[("tcp", 9000 + u16::try_from(n).unwrap(), 80)])
                };
                let running: Vec<_> = (0..PODS).map(|n| scope.spawn(add(n))).collect();
                running.into_iter().map(|add| add.join().expect("every ADD succeeds")).collect::<Vec<_>>()
            })
        });
        reconcile();
        assert_idle();
        for (n, pod) in pods.iter().enumerate() {
            pod.check();
            serve_tcp(&pod.netns, pod.at(80), &format!("pod{n}"));
        }
        let world = lab::world();
        for (n, pod) in pods.iter().enumerate() {
            let port = 9000 + u16::try_from(n).unwrap();
            let token = || ask_tcp(&world, (lab::NODE, port)).map(|answer| answer.token);
            eventually("the pod answers at its port of the node", Duration::from_secs(10), || {
                token().is_ok_and(|token| token == format!("pod{n}"))
            });
            let neighbour = &pods[(n + 1) % PODS];
            let answer = ask_tcp(&pod.netns, neighbour.at(80)).unwrap();
            assert_eq!(answer.seen_as, pod.address(0));
        }
        let addresses: std::collections::HashSet<_> = pods.iter().map(|pod| pod.address(0)).collect();
        assert_eq!(addresses.len(), PODS, "an address was given twice");
    });
}

#[test]
fn nothing_that_a_del_removes_comes_back() {
    sandboxed(|| {
        let stays = Pod::new("stays", &[("tcp", 8080, 80)]);
        // So that every reconcile has something to do for every pod.
        let disturb = || {
            let _ = Node.command(&format!("ip addr flush dev {BRIDGE} scope global")).output();
            run("nft", &["flush", "ruleset"]);
            run("sh", &["-c", &format!("rm -rf {LEASES}/10.* {LEASES}/fd08*")]);
            thread::sleep(Duration::from_millis(20));
        };
        let repair = || drop(command("reconcile --json"));
        beside(&[&disturb, &repair, &repair], || {
            for round in 0..20 {
                let pods: Vec<_> = (0..3u16)
                    .map(|n| Pod::new(&format!("pod{round}-{n}"), &[("tcp", 9000 + n, 80)]))
                    .collect();
                thread::scope(|scope| {
                    for pod in &pods {
                        scope.spawn(|| pod.del());
                    }
                });
                for pod in &pods {
                    assert!(pod.netns.link("eth0").is_none(), "the interface came back");
                    assert!(Node.link(pod.port()).is_none(), "the host end came back");
                }
            }
        });
        reconcile();
        assert_idle();
        stays.check();
        let records = lab::files(RECORDS);
        assert_eq!(records.len(), 2, "{records:?}");
        assert_eq!(lab::files("/run/smarter-cni/locks").len(), 1, "the one of the bridge's record");
        let leases: Vec<_> =
            lab::files(LEASES).into_iter().filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        assert_eq!(leases.len(), 2, "{leases:?}");
        stays.del();
        let rules = Node.run("nft list ruleset");
        assert!(!rules.contains("\"veth") && !rules.contains("comment \"shop/"), "{rules}");
    });
}
