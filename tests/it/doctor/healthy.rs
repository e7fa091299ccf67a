//! Healthy nodes: no finding, nothing changed, however many pods.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use super::node::{Kind, Lab};
use super::{diagnose, doctor};
use crate::lab::{Node, Place};
use crate::sandbox::sandboxed;

/// Nothing is found, and nothing could not be looked at. Prints how long it took.
fn assert_healthy(pods: usize) {
    let begun = Instant::now();
    let diagnosis = diagnose("--strict");
    let took = begun.elapsed();
    assert!(
        diagnosis.problems().is_empty() && diagnosis.rows("unknown").count() == 0,
        "{}",
        diagnosis.words()
    );
    assert_eq!(diagnosis.status, 0);
    let text = doctor("");
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.starts_with("✓ ") && text.lines().count() == 1, "{text}");
    let begun = Instant::now();
    let probed = diagnose("--strict --probe");
    assert!(probed.problems().is_empty() && probed.rows("unknown").count() == 0, "{}", probed.words());
    eprintln!(
        "doctor with {pods} pods: {} ms, with --probe {} ms",
        took.as_millis(),
        begun.elapsed().as_millis()
    );
}

fn healthy(dual: bool, pods: usize) {
    sandboxed(|| {
        let lab = Lab::new(&Kind { dual, ..Kind::default() }, pods);
        assert_healthy(pods);
        drop(lab);
    });
}

#[test]
fn a_node_without_pods() {
    healthy(false, 0);
}

#[test]
fn a_node_with_one_pod() {
    healthy(false, 1);
}

#[test]
fn a_node_with_one_pod_of_two_families() {
    healthy(true, 1);
}

#[test]
fn a_node_with_a_hundred_pods() {
    healthy(false, 100);
}

#[test]
fn a_node_with_a_hundred_pods_of_two_families() {
    healthy(true, 100);
}

#[test]
fn a_node_whose_network_asks_for_everything() {
    sandboxed(|| {
        let keys = json!({"macspoofchk": true, "portIsolation": true, "mtu": 1400});
        let lab = Lab::new(&Kind { dual: true, keys, ..Kind::default() }, 2);
        assert_healthy(2);
        drop(lab);
    });
}

/// A VPN's default route in pieces, and a company's network around the pods' range: everything flows.
#[test]
fn a_node_with_a_vpn() {
    sandboxed(|| {
        let lab = Lab::new(&Kind { dual: true, ..Kind::default() }, 2);
        for to in ["0.0.0.0/1", "128.0.0.0/1", "10.0.0.0/8", "8.0.0.0/5"] {
            Node.run(&format!("ip route add {to} via 192.0.2.2"));
        }
        assert_healthy(2);
        drop(lab);
    });
}

/// Files below a directory with their contents, links with their targets.
pub(super) fn files(directory: &Path, found: &mut String) {
    let mut entries: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let kind = fs::symlink_metadata(&path).unwrap();
        if kind.is_dir() {
            files(&path, found);
        } else if kind.is_symlink() {
            writeln!(found, "{} -> {}", path.display(), fs::read_link(&path).unwrap().display()).unwrap();
        } else {
            writeln!(found, "{} {:?}", path.display(), fs::read(&path).unwrap_or_default()).unwrap();
        }
    }
}

/// All that could be changed: links, addresses, routes, rules, neighbours, filters, switches, files.
fn snapshot() -> String {
    let mut all = String::new();
    for command in [
        "ip -d link show",
        "ip -4 addr show",
        "ip -4 route show table all",
        "ip -6 route show table all",
        "ip rule show",
        "bridge -d link show",
        "nft -a list ruleset",
        "sysctl -a -r ^net\\.ipv4\\.(ip_forward|conf|neigh)",
        "sysctl -a -r ^net\\.ipv6\\.conf",
        "sysctl -a -r ^net\\.bridge",
    ] {
        let text = Node.run(command);
        for line in text.lines() {
            // Timers run by themselves.
            let mut words = line.split_whitespace();
            while let Some(word) = words.next() {
                write!(all, "{word} ").unwrap();
                if word.ends_with("_timer") || word == "expires" {
                    words.next();
                }
            }
            writeln!(all).unwrap();
        }
    }
    for directory in ["/run", "/etc", "/opt", "/var/lib/cni"] {
        files(Path::new(directory), &mut all);
    }
    all
}

#[test]
fn looking_changes_nothing() {
    sandboxed(|| {
        let lab = Lab::new(&Kind { dual: true, keys: json!({"macspoofchk": true}), ..Kind::default() }, 3);
        let before = snapshot();
        for options in ["", "--verbose", "--json"] {
            assert_eq!(doctor(options).status.code(), Some(0));
        }
        let after = snapshot();
        if before != after {
            let lines = before.lines().zip(after.lines()).find(|(one, other)| one != other);
            panic!("doctor changed something: {lines:?}");
        }
        drop(lab);
    });
}

/// No file is opened for writing, made, renamed or removed. Sockets and namespaces are not files.
#[test]
fn no_file_is_written_to() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 2);
        let binary = crate::lab::binary();
        let calls = "open,openat,creat,mkdir,mkdirat,rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,\
                     symlinkat,truncate,ftruncate,chmod,fchmod,fchmodat,mknod,mknodat,execve,fork,vfork";
        Node.run(&format!("strace -f -qq -o /run/trace -e trace={calls} {} doctor", binary.display()));
        let trace = fs::read_to_string("/run/trace").unwrap();
        let writes = ["O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC"];
        let changes = trace.lines().filter(|line| {
            let opens = line.contains("open");
            let execve = line.contains("execve(") && line.contains(&binary.display().to_string());
            !execve && (!opens || writes.iter().any(|flag| line.contains(flag)))
        });
        assert_eq!(changes.collect::<Vec<_>>(), Vec::<&str>::new());
        assert!(trace.lines().count() > 50, "the trace is a trace: {trace}");
        drop(lab);
    });
}

/// A pod that is just being attached or detached looks half made.
#[test]
fn pods_that_come_and_go_are_no_finding() {
    sandboxed(|| {
        let kind = Kind::default();
        let lab = Lab::new(&kind, 3);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let turnover = scope.spawn(|| {
                let mut rounds = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    super::node::Pod::attach(&kind, 7, &format!("container-{rounds}")).detach(&kind);
                    rounds += 1;
                }
                rounds
            });
            for _ in 0..30 {
                let diagnosis = diagnose("--strict");
                if diagnosis.status != 0 {
                    done.store(true, std::sync::atomic::Ordering::Relaxed);
                    panic!("{}", diagnosis.words());
                }
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            let rounds = turnover.join().expect("pods come and go");
            assert!(rounds > 3, "only {rounds} pods came and went");
        });
        drop(lab);
    });
}

/// Nothing but the binary: no PATH, no environment, no other file system than the node's own.
#[test]
fn an_empty_environment_is_enough() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        let out =
            std::process::Command::new(crate::lab::binary()).arg("doctor").env_clear().output().unwrap();
        assert_eq!(out.status.code(), Some(0), "{out:?}");
        drop(lab);
    });
}

/// Without any privilege it says what it could not look at, and does not call it fine.
#[test]
fn without_privileges_it_says_what_it_could_not_see() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        let binary = crate::lab::binary();
        let bare = format!("setpriv --bounding-set -all --inh-caps -all {} doctor --json", binary.display());
        let out = Node.command(&bare).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let status = |id: &str| {
            let rows = json["findings"].as_array().unwrap();
            rows.iter().find(|row| row["id"] == id).unwrap()["status"].clone()
        };
        for id in ["kernel-veth", "table-missing", "hostport-missing", "pod-address"] {
            assert_eq!(status(id), "unknown", "{id}");
        }
        for id in ["forwarding", "bridge-down", "conflist-missing"] {
            assert_eq!(status(id), "ok", "{id}");
        }
        assert_eq!(out.status.code(), Some(0), "not broken, only unseen");
        let blind = format!(
            "setpriv --bounding-set -all --inh-caps -all {} doctor --only kernel-veth",
            binary.display()
        );
        let out = Node.command(&blind).output().unwrap();
        assert_eq!(out.status.code(), Some(2), "nothing could be looked at");
        drop(lab);
    });
}

/// In a container the host's tree is somewhere else, and its links must be followed there.
#[test]
fn the_hosts_tree_may_be_mounted_elsewhere() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        fs::create_dir("/opt/host").unwrap();
        Node.run("mount --rbind / /opt/host");
        assert_eq!(diagnose("--root /opt/host --strict").status, 0);
        fs::write("/etc/cni/net.d/0-other.conflist", r#"{"name":"o","plugins":[{"type":"loopback"}]}"#)
            .unwrap();
        let sick = diagnose("--root /opt/host");
        let expected = ("conflist-not-first".to_owned(), "file /etc/cni/net.d/0-other.conflist".to_owned());
        assert!(sick.problems().contains(&expected), "{}", sick.words());
        drop(lab);
    });
}
