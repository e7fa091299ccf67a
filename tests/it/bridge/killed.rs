//! Killed before any one of its effects, ADD and DEL leave nothing that the next call cannot finish or undo.
//!
//! strace kills the plugin with SIGKILL at the entry of one system call, which then does not happen; every call that can
//! change anything is taken once. The next call starts with whatever that left: half made links, leases, records.

use std::collections::BTreeMap;
use std::fs;

use serde_json::json;

use super::foreign_ipam::fixed;
use super::{LEASES, Network, ping, remains};
use crate::lab::{Netns, Node, Output, Place, Plugin, files};
use crate::sandbox::{run, sandboxed};

/// What can change links, rules or files. A question mark lets strace know that not every machine has the call.
const EFFECTS: &str =
    "sendto,?sendmsg,write,pwrite64,?mkdir,mkdirat,?rename,?renameat,renameat2,?link,linkat,?unlink,unlinkat";
const TRACE: &str = "/run/trace";

fn network() -> Network {
    Network::dual(&json!({"ipMasq": true, "macspoofchk": true, "hairpinMode": true}))
}

fn traced(call: Plugin, inject: Option<&str>) -> Output {
    let trace = format!("trace={EFFECTS}");
    // Not what it executes: somebody else's plugin for addresses has effects of its own.
    let mut words = vec!["strace", "-qq", "-o", TRACE, "-e", &trace];
    words.extend(inject.iter().flat_map(|inject| ["-e", *inject]));
    call.under(&words).run()
}

/// How often an undisturbed run makes each of the calls.
fn effects(call: Plugin) -> BTreeMap<String, usize> {
    let out = traced(call, None);
    assert_eq!(out.status, 0, "{out}");
    let mut counts = BTreeMap::new();
    let trace = fs::read_to_string(TRACE).expect("strace's file");
    // Writing a setting of the network begins anew while somebody else holds the kernel's lock.
    let counts_not = |line: &&str| line.contains("ERESTARTNOINTR") || is_of_the_log(line);
    for line in trace.lines().filter(|line| !counts_not(line)) {
        if let Some((name, _)) = line.split_once('(') {
            *counts.entry(name.to_owned()).or_default() += 1;
        }
    }
    assert!(counts.get("sendto").is_some_and(|n| *n > 5), "the trace shows no effects: {counts:?}");
    counts
}

/// The line of the log, ours and the system's, comes last, and is about a call that is over.
fn is_of_the_log(line: &str) -> bool {
    line.contains(r#""{\"time\":"#) || line.contains(">smarter-cni[")
}

/// Whether the call that strace wrote down last is one that nothing hangs on any more.
fn was_over() -> bool {
    let trace = fs::read_to_string(TRACE).expect("strace's file");
    trace.lines().rfind(|line| line.contains('(')).is_some_and(is_of_the_log)
}

/// Of several runs, because on a loaded machine one waits longer, and asks again meanwhile.
fn fewest_effects(call: fn(&Netns) -> Plugin, before: fn(&Netns)) -> BTreeMap<String, usize> {
    let run = |n| {
        reset();
        let pod = Netns::new(&format!("pod-{n}"));
        before(&pod);
        let counts = effects(call(&pod));
        call(&pod).command("DEL").succeed();
        counts
    };
    let fewest = |all: BTreeMap<String, usize>, again: BTreeMap<String, usize>| {
        all.into_iter().filter_map(|(name, n)| again.get(&name).map(|m| (name, n.min(*m)))).collect()
    };
    (0..3).map(run).reduce(fewest).unwrap_or_default()
}

/// As the sandbox was at first.
fn reset() {
    let script = "ip link del br0; nft flush ruleset; rm -rf /run/smarter-cni /var/lib/cni/networks; \
                  echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding";
    run("sh", &["-c", script]);
}

/// How many tests take the ways to kill a call between them, so that they run beside each other.
const SHARES: usize = 3;

/// Calls `after` for every way to kill a call that `before` prepares, with the call that was killed in words; for those of
/// one share, which are every third.
fn for_every_kill(
    share: usize,
    call: fn(&Netns) -> Plugin,
    before: fn(&Netns),
    after: impl Fn(&Netns, &str),
) {
    let counts = fewest_effects(call, before);
    let (mut kills, mut survivors) = (0, 0);
    let points = counts.iter().flat_map(|(name, count)| (1..=*count).map(move |n| (name, n, count)));
    for (name, n, count) in points.skip(share).step_by(SHARES) {
        let pod = {
            reset();
            Netns::new(&format!("pod-{name}-{n}"))
        };
        before(&pod);
        let out = traced(call(&pod), Some(&format!("inject={name}:signal=KILL:when={n}")));
        // The kernel may be quicker this time, so that there is less to wait for: then there is no n-th call, or it is the log's.
        if out.status != -1 || was_over() {
            survivors += 1;
            call(&pod).command("DEL").succeed();
            continue;
        }
        kills += 1;
        after(&pod, &format!("killed before {name} {n} of {count}"));
    }
    // The runs that counted may all have waited more often than those that are killed.
    let all = kills + survivors;
    assert!(kills * SHARES > 10 && survivors * 5 < all, "{kills} of {all} runs were killed: {counts:?}");
    eprintln!("{kills} kills, {survivors} survivors of {counts:?}");
}

/// A module for each way to go on, in it a test for each share of the kills.
macro_rules! for_every_share {
    ($($name:ident: $call:expr, $before:expr, $after:expr;)*) => {$(
        mod $name {
            use super::*;

            fn share(number: usize) {
                sandboxed(|| for_every_kill(number, $call, $before, $after));
            }

            #[test]
            fn first_third() {
                share(0);
            }

            #[test]
            fn second_third() {
                share(1);
            }

            #[test]
            fn last_third() {
                share(2);
            }
        }
    )*};
}

fn add(pod: &Netns) -> Plugin {
    network().call("ADD", pod)
}

fn add_fixed(pod: &Netns) -> Plugin {
    fixed().call("ADD", pod)
}

fn del(pod: &Netns) -> Plugin {
    network().call("DEL", pod)
}

fn assert_nothing_remains(pod: &Netns, when: &str) {
    assert_eq!(remains(), Vec::<String>::new(), "{when}");
    assert!(pod.link("eth0").is_none(), "{when}: eth0 is left in the pod");
}

for_every_share! {
    del_removes_what_a_killed_add_left: add, |_| (), |pod, when| {
        let out = del(pod).run();
        assert_eq!(out.status, 0, "{when}: {out}");
        assert_nothing_remains(pod, when);
    };

    del_without_namespace_removes_what_a_killed_add_left: add, |_| (), |pod, when| {
        let out = del(pod).env("CNI_NETNS", "").run();
        assert_eq!(out.status, 0, "{when}: {out}");
        assert_nothing_remains(pod, when);
    };

    gc_removes_what_a_killed_add_left: add, |_| (), |pod, when| {
        let network = network().with(&json!({"cni.dev/valid-attachments": []}));
        let out = network.call_all("GC").run();
        assert_eq!(out.status, 0, "{when}: {out}");
        // A lock names nobody: without a record it waits for the DEL of its pod.
        let left: Vec<_> = remains().into_iter().filter(|what| !what.starts_with("lock ")).collect();
        assert_eq!(left, Vec::<String>::new(), "{when}");
        assert!(pod.link("eth0").is_none(), "{when}: eth0 is left in the pod");
        del(pod).succeed();
        assert_nothing_remains(pod, when);
    };

    a_second_add_finishes_what_a_killed_one_began: add, |_| (), |pod, when| {
        let network = network();
        let out = add(pod).run();
        assert_eq!(out.status, 0, "{when}: {out}");
        let attached = network.attached(pod, out);
        let check = attached.call("CHECK").run();
        assert_eq!(check.status, 0, "{when}: {check}");
        let addresses = [0, 1].map(|at| attached.address(at).to_string());
        let leases = files(format!("{LEASES}/net"));
        let leases: Vec<_> = leases.into_iter().filter(|f| f.parse::<std::net::IpAddr>().is_ok()).collect();
        assert_eq!(leases, addresses, "{when}: more than its addresses is leased");
        assert!(ping(&Node, &addresses[0]), "{when}: the pod is not reachable");
        assert_eq!(Node.run("nft list ruleset").matches("comment \"net\"").count(), 2, "{when}");
        attached.del();
        assert_nothing_remains(pod, when);
    };

    del_removes_what_an_add_with_a_foreign_ipam_plugin_left: add_fixed, |_| (), |pod, when| {
        let out = fixed().call("DEL", pod).run();
        assert_eq!(out.status, 0, "{when}: {out}");
        assert_nothing_remains(pod, when);
    };

    a_second_add_finishes_what_one_with_a_foreign_ipam_plugin_began: add_fixed, |_| (), |pod, when| {
        let out = add_fixed(pod).run();
        assert_eq!(out.status, 0, "{when}: {out}");
        let attached = fixed().attached(pod, out);
        let check = attached.call("CHECK").run();
        assert_eq!(check.status, 0, "{when}: {check}");
        assert_eq!(pod.addresses("eth0"), ["10.1.2.9/24"], "{when}");
        attached.del();
        assert_nothing_remains(pod, when);
    };

    a_second_del_finishes_what_a_killed_one_began: del, |pod| drop(add(pod).succeed()), |pod, when| {
        let out = del(pod).run();
        assert_eq!(out.status, 0, "{when}: {out}");
        assert_nothing_remains(pod, when);
    };

    a_second_del_without_namespace_finishes_what_a_killed_one_began: del, |pod| drop(add(pod).succeed()), |pod, when| {
        let out = del(pod).env("CNI_NETNS", "").run();
        assert_eq!(out.status, 0, "{when}: {out}");
        assert_nothing_remains(pod, when);
    };
}

/// One process, and in it nobody else's program: a node that is short of memory cannot start another.
#[test]
fn add_and_del_run_nothing_and_write_only_leases_records_and_settings() {
    sandboxed(|| {
        let pod = Netns::new("pod");
        for verb in ["ADD", "DEL"] {
            let calls = "trace=%process,open,openat,creat,?openat2";
            let call =
                network().call(verb, &pod).under(&["strace", "-f", "-y", "-qq", "-o", TRACE, "-e", calls]);
            call.succeed();
            let trace = fs::read_to_string(TRACE).expect("strace's file");
            let count = |word: &str| trace.lines().filter(|line| line.contains(word)).count();
            assert_eq!((count("execve("), count("clone"), count("fork(")), (1, 0, 0), "{verb}: {trace}");
            let written: Vec<&str> = trace
                .lines()
                .filter(|line| {
                    line.contains("O_WRONLY") || line.contains("O_RDWR") || line.contains("O_CREAT")
                })
                .collect();
            assert!(!written.is_empty(), "{verb} wrote nothing");
            for line in written {
                let ours = ["</run/smarter-cni", "</var/lib/cni/networks/net>", "\"/proc/sys/net/"];
                assert!(ours.iter().any(|place| line.contains(place)), "{verb} writes elsewhere: {line}");
            }
        }
        assert_eq!(remains(), Vec::<String>::new());
    });
}
