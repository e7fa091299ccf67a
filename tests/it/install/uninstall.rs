//! Afterwards the node is what it was.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;

use super::host::{BIN, CONFLIST, Host, OWN, kernel};
use crate::lab::{self, Netns, Node, Place, eventually};
use crate::sandbox::sandboxed;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_node_equals_the_snapshot_from_before() {
    sandboxed(|| {
        let host = Host::new();
        let _world = lab::world();
        Node.run("iptables -P FORWARD DROP");
        let before = (host.snapshot(), kernel());
        host.installed(
            "--subnet 10.38.0.0/16,fd00:38::/64 --bin-dir /opt/deep/cni/bin --conf-dir /etc/cni/net.d",
        );
        let bin = host.path("opt/deep/cni/bin");
        let pods = [Netns::new("a"), Netns::new("b")];
        let call = |verb: &str, at: usize| {
            let list = host.conflist();
            let mut config = list["plugins"][0].clone();
            config["name"] = list["name"].clone();
            config["cniVersion"] = list["cniVersion"].clone();
            let plugin = lab::Plugin::new(&bin, "smarter-bridge").command(verb);
            plugin.container(&format!("c{at}")).ifname("eth0").netns(&pods[at]).json(&config).succeed();
        };
        (0..2).for_each(|at| call("ADD", at));
        assert!(Node.run("iptables -S FORWARD").contains("smarter-cni smartnet0"), "the test needs accepts");
        assert_eq!(Node.run("sysctl -n net.ipv4.ip_forward").trim(), "1");
        (0..2).for_each(|at| call("DEL", at));

        let planned = host.uninstall("--dry-run --json");
        assert_eq!(planned.status, 0, "{planned}");
        let out = host.uninstall("--json");
        assert_eq!((out.status, &out.json["result"]), (0, &json!("uninstalled")), "{out}");
        assert!(
            planned.json["steps"].as_array().unwrap().len() >= out.json["steps"].as_array().unwrap().len()
        );
        assert_eq!((host.snapshot(), kernel()), before);
    });
}

#[test]
fn accepts_in_the_legacy_tables_are_given_back_too() {
    sandboxed(|| {
        let host = Host::new();
        Node.run("iptables-legacy -P FORWARD DROP");
        let before = (host.snapshot(), kernel(), Node.run("iptables-legacy -S"));
        host.installed("");
        let pod = Netns::new("pod");
        assert_eq!(host.plugin("ADD", "c1", &pod).status, 0);
        assert!(
            Node.run("iptables-legacy -S FORWARD").contains("smarter-cni smartnet0"),
            "the test needs accepts"
        );
        assert_eq!(host.plugin("DEL", "c1", &pod).status, 0);
        // Its program is the host's: the tree needs one.
        for directory in ["usr", "lib", "lib64", "sbin", "dev"] {
            fs::create_dir_all(host.path(directory)).unwrap();
            Node.run(&format!("mount --rbind /{directory} {}", host.path(directory).display()));
        }
        let out = host.uninstall("");
        assert_eq!(out.status, 0, "{out}");
        assert_eq!((host.snapshot(), kernel(), Node.run("iptables-legacy -S")), before, "{out}");
    });
}

#[test]
fn the_plugins_stay_for_pods_that_are_attached() {
    sandboxed(|| {
        let host = Host::new();
        let before = (host.snapshot(), kernel());
        host.installed("");
        let pod = Netns::new("pod");
        assert_eq!(host.plugin("ADD", "c1", &pod).status, 0);

        let out = host.uninstall("");
        assert_eq!(out.status, 1, "{out}");
        assert!(out.stderr.contains("waiting  c1 is attached"), "{out}");
        assert!(out.stderr.ends_with("run it again when these pods are gone, or with --force\n"), "{out}");
        // The runtime needs a configuration to detach the pod, and a new one must not come.
        assert_eq!(host.conflist()["plugins"][0]["drain"], true);
        let refused = host.plugin("ADD", "c2", &Netns::new("late"));
        assert_eq!(refused.json["code"], 11, "{refused}");
        assert_eq!(refused.json["msg"], "network \"smartnet\" takes no new pods");
        pod.run("ping -c 1 -W 2 172.38.0.1");
        for name in OWN {
            super::host::answers(&host.path(BIN).join(name));
        }
        let again = host.uninstall("");
        assert_eq!(again.status, 1, "{again}");
        let out = host.plugin("DEL", "c1", &pod);
        assert_eq!(out.status, 0, "{out}");
        assert_eq!(host.uninstall("").status, 0);
        assert_eq!((host.snapshot(), kernel()), before);
        // A second time there is nothing to do.
        let again = host.uninstall("");
        assert_eq!(again.status, 0, "{again}");
        assert_eq!((host.snapshot(), kernel()), before);
    });
}

/// As the manifest does it: who comes back later comes back minutes too late.
#[test]
fn it_waits_on_demand_until_the_last_pod_is_gone() {
    sandboxed(|| {
        let host = Host::new();
        let before = (host.snapshot(), kernel());
        host.installed("");
        let pod = Netns::new("pod");
        assert_eq!(host.plugin("ADD", "c1", &pod).status, 0);
        let mut child =
            host.command(&lab::binary(), "uninstall").arg("--wait").stdout(Stdio::null()).spawn().unwrap();
        eventually("no new pods come", PATIENCE, || host.conflist()["plugins"][0]["drain"] == true);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(child.try_wait().unwrap(), None, "it waits");
        assert_eq!(host.plugin("DEL", "c1", &pod).status, 0);
        let mut status = None;
        eventually("it ends", PATIENCE, || {
            status = child.try_wait().expect("wait");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(0));
        assert_eq!((host.snapshot(), kernel()), before);
    });
}

/// Whoever leaves half-way leaves a node that takes no new pods; what comes next undoes it, or goes on.
#[test]
fn an_uninstallation_that_was_left_half_way_is_undone_by_the_next_installation() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        let pod = Netns::new("pod");
        assert_eq!(host.plugin("ADD", "c1", &pod).status, 0);
        for signal in ["TERM", "KILL"] {
            let mut child = host
                .command(&lab::binary(), "uninstall")
                .arg("--wait")
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            eventually("no new pods come", PATIENCE, || host.conflist()["plugins"][0]["drain"] == true);
            Node.run(&format!("kill -{signal} {}", child.id()));
            let status = child.wait().expect("it ends");
            assert_eq!(status.code(), (signal == "TERM").then_some(1));
            assert_eq!(host.conflist()["plugins"][0]["drain"], true);
            host.installed("");
            let late = Netns::new("late");
            assert_eq!(host.plugin("ADD", "c2", &late).status, 0, "pods come again");
            assert_eq!(host.plugin("DEL", "c2", &late).status, 0);
        }
    });
}

#[test]
fn it_stays_on_demand_until_it_is_told_to_end() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        let mut command = host.command(&lab::binary(), "uninstall");
        let mut child = command.arg("--stay").stdout(Stdio::null()).spawn().expect("uninstall");
        eventually("it is gone", PATIENCE, || !host.path("var/lib/smarter-cni").exists());
        assert_eq!(child.try_wait().unwrap(), None, "it did not stay");
        Node.run(&format!("kill -TERM {}", child.id()));
        let mut status = None;
        eventually("it ends", PATIENCE, || {
            status = child.try_wait().expect("wait");
            status.is_some()
        });
        assert_eq!(status.and_then(|status| status.code()), Some(0));
    });
}

#[test]
fn force_takes_the_network_from_pods_that_are_attached() {
    sandboxed(|| {
        let host = Host::new();
        let before = (host.snapshot(), kernel());
        host.installed("");
        let pod = Netns::new("pod");
        assert_eq!(host.plugin("ADD", "c1", &pod).status, 0);
        let out = host.uninstall("--force");
        assert_eq!(out.status, 0, "{out}");
        assert_eq!(pod.link("eth0"), None);
        assert_eq!((host.snapshot(), kernel()), before);
    });
}

#[test]
fn without_the_installations_file_names_and_marks_are_enough() {
    sandboxed(|| {
        let host = Host::new();
        let before = (host.snapshot(), kernel());
        host.installed("");
        let pod = Netns::new("pod");
        host.plugin("ADD", "c1", &pod);
        host.plugin("DEL", "c1", &pod);
        for damage in ["", "half of {"] {
            if damage.is_empty() {
                fs::remove_file(host.path("var/lib/smarter-cni/install.json")).unwrap();
            } else {
                host.write("var/lib/smarter-cni/install.json", damage);
            }
            let out = host.uninstall("");
            assert_eq!(out.status, 0, "{damage:?}: {out}");
            assert_eq!((host.snapshot(), kernel()), before, "{damage:?}");
            host.installed("");
        }
    });
}

#[test]
fn what_others_put_there_meanwhile_stays() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("--bin-dir /opt/ours/bin");
        let foreign = r#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"bridge"}]}"#;
        host.write(CONFLIST, foreign);
        host.write("opt/ours/bin/mine", "somebody's file");
        fs::remove_file(host.path("opt/ours/bin/portmap")).unwrap();
        host.write_program("opt/ours/bin/portmap", fs::read("/usr/lib/cni/portmap").unwrap());
        Node.run("nft add table ip theirs");
        let out = host.uninstall("");
        assert_eq!(out.status, 0, "{out}");
        assert_eq!(host.read(CONFLIST), foreign);
        assert_eq!(lab::files(host.path("opt/ours/bin")), ["mine", "portmap"]);
        assert!(Node.run("nft list tables").contains("theirs"));
    });
}

#[test]
fn a_container_without_the_right_capabilities_is_told() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        let done = std::process::Command::new("setpriv")
            .args(["--bounding-set=-sys_chroot", "--inh-caps=-sys_chroot"])
            .arg(lab::binary())
            .args(["uninstall", "--root"])
            .arg(&host.root)
            .output()
            .expect("setpriv");
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("needs the capability SYS_CHROOT"), "{stderr}");
        assert!(host.path(CONFLIST).exists());
    });
}
