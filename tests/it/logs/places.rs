//! The file: bounded, whole, private, and never a reason to fail.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use rustix::fs::FlockOperation;
use serde_json::{Value, json};

use super::{CAP, DIRECTORY, LEVEL, LOG, bridge, call, lines, with};
use crate::lab::{Netns, Node, Place, Plugin, our_plugins};
use crate::sandbox::sandboxed;

const PREDECESSOR: &str = "/run/smarter-cni/log.1";

#[test]
fn fifty_plugins_at_once_keep_within_the_cap_and_tear_no_line() {
    sandboxed(|| {
        let ipam = bridge();
        fs::create_dir(DIRECTORY).unwrap();
        let old = format!("{{\"old\":\"{}\"}}\n", "x".repeat(1000));
        fs::write(LOG, old.repeat((CAP - 4096) / old.len())).unwrap();
        std::thread::scope(|scope| {
            for pod in 0..50 {
                let ipam = &ipam;
                scope.spawn(move || {
                    let call = |verb: &str| {
                        Plugin::new(our_plugins(), "host-local")
                            .command(verb)
                            .container(&format!("pod{pod}"))
                            .env("CNI_NETNS", "/run/netns/none")
                            .ifname("eth0")
                            .json(ipam)
                            .succeed()
                    };
                    call("ADD");
                    call("DEL");
                });
            }
        });
        let (mut ours, mut size) = (Vec::new(), 0);
        for file in [PREDECESSOR, LOG] {
            let text = fs::read_to_string(file).unwrap();
            assert!(text.len() <= CAP && text.ends_with('\n'), "{file}: {}", text.len());
            size += text.len();
            let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            ours.extend(lines.filter(|line| line["verb"].is_string()));
        }
        assert!(size > CAP, "the file has become the predecessor");
        for pod in 0..50 {
            let of_pod = ours.iter().filter(|line| line["container"] == format!("pod{pod}"));
            let verbs: Vec<_> = of_pod.map(|line| line["verb"].as_str().unwrap()).collect();
            assert_eq!(verbs, ["ADD", "DEL"], "pod{pod}");
        }
        let mode = fs::metadata(LOG).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    });
}

#[test]
fn a_log_that_cannot_be_written_hurts_nobody() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        let works = || {
            let added = call("bridge", "ADD", &pod, &bridge()).succeed();
            call("bridge", "CHECK", &pod, &with(bridge(), "prevResult", added.json.clone())).succeed();
            let removed = call("bridge", "DEL", &pod, &bridge()).succeed();
            assert_eq!((removed.stdout.as_str(), removed.stderr.as_str()), ("", ""));
        };
        // The directory is not there: a DEL of nothing does not make it.
        call("bridge", "DEL", &pod, &bridge()).succeed();
        assert!(!std::path::Path::new(DIRECTORY).exists());

        let precious = "/run/precious";
        fs::create_dir(DIRECTORY).unwrap();
        fs::write(precious, "").unwrap();
        symlink(precious, LOG).unwrap();
        works();
        assert_eq!(fs::metadata(precious).unwrap().size(), 0, "the link was followed");
        fs::remove_file(LOG).unwrap();
        fs::create_dir(LOG).unwrap();
        works();
        fs::remove_dir(LOG).unwrap();
        Node.run(&format!("mkfifo {LOG}"));
        works();
        fs::remove_file(LOG).unwrap();
        // Somebody holds the lock and does not let go.
        let holder = fs::File::open(DIRECTORY).unwrap();
        rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();
        works();
        assert!(!fs::exists(LOG).unwrap());
        drop(holder);

        call("bridge", "ADD", &pod, &bridge()).succeed();
        Node.run(&format!("mount --bind {DIRECTORY} {DIRECTORY}"));
        Node.run(&format!("mount -o remount,bind,ro {DIRECTORY}"));
        let before = fs::read(LOG).unwrap();
        call("bridge", "DEL", &pod, &bridge()).succeed();
        assert_eq!(fs::read(LOG).unwrap(), before);
    });
}

#[test]
fn a_full_disk_gets_no_half_lines() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        call("bridge", "ADD", &pod, &bridge()).succeed();
        fs::write(LEVEL, "debug").unwrap();
        Node.run("mount -o remount,size=256k /run");
        let _ = Node.command("dd if=/dev/zero of=/run/filler bs=4k count=1000").output().unwrap();
        for _ in 0..20 {
            call("bridge", "DEL", &pod, &bridge()).succeed();
        }
        let text = fs::read_to_string(LOG).unwrap();
        assert!(text.ends_with('\n') && text.len() < 8192, "{}", text.len());
        assert!(!lines().is_empty());
        fs::remove_file("/run/filler").unwrap();
        call("bridge", "DEL", &pod, &bridge()).succeed();
        assert_eq!(lines().len(), 1);
    });
}

#[test]
fn no_secret_gets_into_the_log() {
    sandboxed(|| {
        let pod = Netns::new("pod1");
        fs::create_dir(DIRECTORY).unwrap();
        fs::write(LEVEL, "debug").unwrap();
        let secret =
            with(with(bridge(), "password", json!("hunter2")), "args", json!({"cni": {"token": "hunter2"}}));
        let secret = with(secret, "dns", json!({"search": ["hunter2.example"]}));
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;PASSWORD=hunter2";
        let call = |verb: &str, config: &Value| call("bridge", verb, &pod, config).env("CNI_ARGS", args);
        let added = call("ADD", &secret).env("TOKEN", "hunter2").succeed().json;
        call("CHECK", &with(secret.clone(), "prevResult", added)).succeed();
        call("DEL", &secret).succeed();
        for wrong in ["IgnoreUnknown=0;PASSWORD=hunter2", "hunter2", "IgnoreUnknown=hunter2"] {
            assert_eq!(call("ADD", &secret).env("CNI_ARGS", wrong).run().status, 1);
        }
        let broken = secret.to_string();
        for at in (1..broken.len()).step_by(7) {
            call("ADD", &secret).stdin(&broken.as_bytes()[..at]).run();
        }
        for wrong in [json!({"a": "hunter2"}), json!(["hunter2"])] {
            assert_eq!(call("ADD", &with(secret.clone(), "mtu", wrong)).run().status, 1);
        }
        let text = fs::read_to_string(LOG).unwrap();
        assert!(text.lines().count() > 20, "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    });
}
