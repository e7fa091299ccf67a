//! Pods that no runtime knows any more, and pods that one is just taking down: what is said of them, and what goes.

use std::fs;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::{Value, json};

use super::{LEASES, Pod, RECORDS, assert_idle, command, network, plugin, steps};
use crate::cri::fake;
use crate::lab::{self, Netns, Node, Output, Place, eventually};
use crate::sandbox::{sandboxed, sandboxed_daemons};

/// As CRI-O, which is found by its socket.
const CRIO: &str = "/run/crio/crio.sock";

fn listed(ids: &[&str]) -> Vec<fake::Pod> {
    ids.iter().map(|id| fake::Pod::new(id)).collect()
}

/// `smarter-cni <arguments>` so many seconds from now, by the only clock that it looks at.
fn later(seconds: u32, arguments: &str) -> Output {
    let line = format!("unshare --time --fork --boottime {seconds} {} {arguments}", lab::binary().display());
    let out = Node.command(&line).output().unwrap();
    let stdout = String::from_utf8(out.stdout).unwrap();
    Output {
        status: out.status.code().unwrap_or(-1),
        json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
        stdout,
        stderr: String::from_utf8(out.stderr).unwrap(),
    }
}

/// The pods that a reconcile suspects at that time; it does nothing.
fn suspected(seconds: u32, arguments: &str) -> Vec<String> {
    let out = later(seconds, arguments);
    assert_eq!((out.status, steps(&out)), (0, Vec::new()), "{out}");
    let notes = out.json["notes"].as_array().unwrap().iter();
    let notes =
        notes.filter(|note| note["text"].as_str().unwrap().starts_with("no runtime lists its sandbox"));
    let mut pods: Vec<_> =
        notes.map(|note| note["subject"]["container"].as_str().unwrap().to_owned()).collect();
    pods.dedup();
    pods
}

#[test]
fn a_pod_that_no_runtime_lists_and_in_which_nobody_lives_goes_at_the_second_look() {
    sandboxed_daemons(|| {
        const RECONCILE: &str = "reconcile --json";
        let known = Pod::new("known", &[("tcp", 8080, 80)]);
        let lost = Pod::new("lost", &[("tcp", 8081, 80), ("udp", 8053, 53)]);
        let inhabited = Pod::new("inhabited", &[("tcp", 8082, 80)]);
        let mut lives = inhabited.netns.command("sleep 600").spawn().unwrap();
        let none: Vec<String> = Vec::new();

        // Nobody to ask: the namespaces are there, so the pods are.
        assert_eq!(suspected(700, RECONCILE), none);
        drop(
            UnixListener::bind({
                fs::create_dir_all("/run/crio").unwrap();
                CRIO
            })
            .unwrap(),
        );
        assert_eq!(suspected(700, RECONCILE), none, "a runtime that does not run says nothing");
        let runtime = fake::Runtime::listening(CRIO, listed(&["known"]));
        assert_eq!(suspected(0, RECONCILE), none, "no sandbox is listed before it is complete");
        assert_eq!(suspected(590, RECONCILE), none);

        // Only a look that may remember is a first one.
        assert_eq!(suspected(700, "reconcile --json --dry-run"), ["lost"]);
        assert_eq!(suspected(800, RECONCILE), ["lost"]);
        assert_eq!(suspected(830, RECONCILE), ["lost"], "not yet a minute later");
        runtime.has(listed(&["known", "lost"]));
        assert_eq!(suspected(900, RECONCILE), none, "the runtime has started and found it");
        runtime.has(listed(&["known"]));
        assert_eq!(suspected(1000, RECONCILE), ["lost"]);
        let doctor = later(1010, "doctor --json --only pod-namespace");
        let found = doctor.json["findings"][0].clone();
        assert_eq!(
            (&found["status"], &found["object"]),
            (&json!("problem"), &json!("pod shop/lost")),
            "{doctor}"
        );

        let planned = steps(&later(1100, "reconcile --json --dry-run"));
        let out = later(1100, RECONCILE);
        assert_eq!((out.status, steps(&out)), (0, planned), "{out}");
        assert!(Node.link(lost.port()).is_none() && lost.netns.link("eth0").is_none());
        let left = [Node.run("nft list ruleset"), lab::files(LEASES).join(" ")].concat();
        assert!(!left.contains(&lost.address(0).to_string()) && !left.contains("shop/lost"), "{left}");
        assert_eq!(lab::files(RECORDS).len(), 4);
        assert_eq!(lab::files("/run/smarter-cni/suspects"), none);
        known.check();
        inhabited.check();
        assert_idle();
        lives.kill().unwrap();
        lives.wait().unwrap();
    });
}

/// A plugin that is killed where it makes its n-th call.
fn killed(call: lab::Plugin, nth: u32) {
    let inject = format!("inject=sendto:signal=KILL:when={nth}");
    call.under(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", &inject]).run();
}

/// As CRI-O starts again after it was killed while it started and stopped pods: GC of what it knows, which is nothing, CHECK
/// of what its own files remember, and no DEL. The namespaces stay mounted.
#[test]
fn plugins_that_were_killed_with_their_runtime_leave_nothing() {
    sandboxed(|| {
        let mut list = network(&json!({"cniVersion": "1.1.0"}));
        let pods: Vec<Pod> = (0..4)
            .map(|n| Pod::new(&format!("pod{n}"), &[("tcp", 8080 + n, 80), ("udp", 9080 + n, 53)]))
            .collect();
        let half: Vec<Netns> = (0..4).map(|n| Netns::new(&format!("half{n}"))).collect();
        for (netns, nth) in half.iter().zip([8, 16, 24, 32]) {
            killed(plugin("bridge", "ADD", netns, &list), nth);
        }
        killed(plugin("portmap", "DEL", &pods[0].netns, &pods[0].ports), 3);
        killed(plugin("bridge", "DEL", &pods[1].netns, &pods[1].config), 8);
        assert!(lab::files(RECORDS).len() > 6);

        list["cni.dev/valid-attachments"] = Value::Null;
        let mut ports = json!({"cniVersion": "1.1.0", "name": "house", "type": "portmap"});
        ports["cni.dev/valid-attachments"] = Value::Null;
        let gc = |name: &str, config: &Value| {
            lab::Plugin::new(lab::our_plugins(), name).command("GC").json(config).succeed();
        };
        gc("bridge", &list);
        gc("portmap", &ports);
        for pod in &pods {
            let mut config = pod.config.clone();
            config["prevResult"] = pod.result.clone();
            assert_ne!(plugin("bridge", "CHECK", &pod.netns, &config).run().status, 0, "it has no network");
            pod.del();
        }
        let addresses =
            lab::files(LEASES).into_iter().filter(|name| name.parse::<std::net::IpAddr>().is_ok());
        assert_eq!(addresses.collect::<Vec<_>>(), Vec::<String>::new());
        assert_eq!(lab::files(RECORDS), Vec::<String>::new());
        let rules = Node.run("nft list ruleset");
        assert!(!rules.contains("shop/") && !Node.run("ip -br link").contains("veth"), "{rules}");
        assert_idle();
    });
}

/// A DEL that stands still at its n-th message to the kernel, with whatever locks it has then; `None` when it sends fewer.
fn stopped(call: lab::Plugin, nth: u32) -> Option<Child> {
    let inject = format!("inject=sendto:signal=STOP:when={nth}");
    let mut strace =
        call.under(&["strace", "-f", "-qq", "-o", "/run/trace", "-e", "trace=sendto", "-e", &inject]).start();
    let mut is_stopped = false;
    eventually("the DEL stands still or has ended", Duration::from_secs(30), || {
        is_stopped = fs::read_to_string("/run/trace").is_ok_and(|text| text.contains("stopped by SIGSTOP"));
        is_stopped || strace.try_wait().unwrap().is_some()
    });
    is_stopped.then_some(strace)
}

fn goes_on(mut strace: Child) {
    let children = format!("/proc/{0}/task/{0}/children", strace.id());
    for child in fs::read_to_string(children).unwrap().split_whitespace() {
        Command::new("kill").args(["-CONT", child]).status().unwrap();
    }
    assert!(strace.wait().unwrap().success());
}

#[test]
fn a_dry_run_does_not_name_a_pod_whose_del_is_running() {
    sandboxed(|| {
        let _stays = Pod::new("stays", &[("tcp", 8081, 80)]);
        let mut stood_still = 0;
        for nth in [2, 5, 9, 13, 17] {
            for plugin_name in ["portmap", "bridge"] {
                let pod = Pod::new("goes", &[("tcp", 8080, 80)]);
                let config = if plugin_name == "portmap" { &pod.ports } else { &pod.config };
                let _ = fs::remove_file("/run/trace");
                if let Some(strace) = stopped(plugin(plugin_name, "DEL", &pod.netns, config), nth) {
                    stood_still += 1;
                    let out = command("reconcile --json --dry-run");
                    let named: Vec<_> = steps(&out);
                    assert_eq!(
                        (named, &out.json["failures"]),
                        (Vec::new(), &json!([])),
                        "{plugin_name} at {nth}: {out}"
                    );
                    goes_on(strace);
                }
                pod.del();
            }
        }
        assert!(stood_still >= 5, "a DEL was looked at only {stood_still} times");
    });
}
