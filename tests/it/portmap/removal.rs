//! DEL, GC and what a killed ADD left: no trace, whatever is still known.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{NETWORK, Pod, bridge_config, elements, fails_with, plugin, ports};
use crate::lab::{self, Netns, Node, Place, our_plugins};
use crate::sandbox::sandboxed;

fn two_ports() -> Value {
    ports(&[("tcp", 8080, 80), ("udp", 8053, 53)])
}

fn bare(name: &str) -> Value {
    json!({"cniVersion": "1.0.0", "name": name, "type": "portmap"})
}

fn records() -> usize {
    let files = lab::files("/run/smarter-cni/attachments");
    // What a killed writer left under a temporary name is nobody's record.
    files.iter().filter(|name| name.contains(".portmap.") && !name.starts_with('.')).count()
}

#[test]
fn del_needs_only_the_container() {
    sandboxed(|| {
        let keeper = Pod::mapped("keeper", ports(&[("tcp", 9090, 80)]));
        let kept = elements();
        let path = |pod: &Pod| pod.netns.path();
        let renamed = |pod: &Pod| plugin("portmap", "DEL", &pod.id, &path(pod), &bare("renamed")).succeed();
        let without_netns = |pod: &Pod| plugin("portmap", "DEL", &pod.id, "", &bare(NETWORK)).succeed();
        let wrong_config = |pod: &Pod| {
            let mut config = bare(NETWORK);
            config["backend"] = "foo".into();
            config["prevResult"] = json!({"cniVersion": "1.0.0", "ips": []});
            config["runtimeConfig"] = json!({"portMappings": [{"hostPort": 70000}]});
            plugin("portmap", "DEL", &pod.id, &path(pod), &config).succeed()
        };
        let by_bridge = |pod: &Pod| plugin("bridge", "DEL", &pod.id, "", &bridge_config()).succeed();
        let by_request = |pod: &Pod| {
            let all = lab::files("/run/smarter-cni/attachments");
            let own = all.iter().find(|name| {
                let text = std::fs::read_to_string(format!("/run/smarter-cni/attachments/{name}")).unwrap();
                name.contains(".portmap.") && text.contains("\"container\":\"web\"")
            });
            std::fs::remove_file(format!("/run/smarter-cni/attachments/{}", own.unwrap())).unwrap();
            let mut config = bare(NETWORK);
            config["runtimeConfig"] = two_ports()["runtimeConfig"].clone();
            plugin("portmap", "DEL", &pod.id, "", &config).succeed()
        };
        let ways: [&dyn Fn(&Pod) -> lab::Output; 5] =
            [&renamed, &without_netns, &wrong_config, &by_bridge, &by_request];
        for (at, way) in ways.iter().enumerate() {
            let pod = Pod::mapped("web", two_ports());
            assert_ne!(elements(), kept);
            way(&pod);
            assert_eq!(elements(), kept, "way {at}");
            assert_eq!(records(), 1, "way {at}");
            // Again, and as a runtime ends it.
            pod.gone(two_ports());
            assert_eq!(elements(), kept, "way {at}");
        }
        keeper.portmap("CHECK", ports(&[("tcp", 9090, 80)])).succeed();
        Node.run("nft flush ruleset");
        keeper.gone(json!({}));
        assert_eq!(records(), 0);
    });
}

/// Where the container's record of its ports is.
fn record_of(container: &str) -> String {
    let all = lab::files("/run/smarter-cni/attachments").into_iter();
    let mut paths = all.map(|name| format!("/run/smarter-cni/attachments/{name}"));
    let own = |path: &String| {
        let text = std::fs::read_to_string(path).unwrap();
        path.contains(".portmap.") && text.contains(&format!("\"container\":\"{container}\""))
    };
    paths.find(own).expect("a record")
}

#[test]
fn what_a_record_no_longer_tells_the_tables_do() {
    sandboxed(|| {
        let keeper = Pod::mapped("keeper", ports(&[("tcp", 9090, 80)]));
        let kept = elements();
        let at = json!({"runtimeConfig": {"portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"},
            {"hostPort": 8053, "containerPort": 53, "protocol": "udp"}]},
            "denyHostPortInterfaces": ["wwan*"]});
        for damage in ["{", "", "\0\0", r#"{"version":99}"#] {
            for verb in ["portmap", "bridge"] {
                let pod = Pod::mapped("web", at.clone());
                let record = record_of("web");
                std::fs::write(&record, damage).unwrap();
                let config = if verb == "bridge" { bridge_config() } else { bare(NETWORK) };
                let out = plugin(verb, "DEL", &pod.id, &pod.netns.path(), &config).succeed();
                assert!(out.stderr.contains(&record), "the record is not named: {out}");
                assert_eq!(elements(), kept, "{verb} after {damage:?}");
                assert_eq!(records(), 1, "{verb} after {damage:?}");
                pod.gone(json!({}));
            }
        }
        // Nothing at all is remembered: what leads to the pod goes with it.
        let pod = Pod::mapped("web", two_ports());
        std::fs::remove_dir_all("/run/smarter-cni/attachments").unwrap();
        plugin("bridge", "DEL", &pod.id, &pod.netns.path(), &bridge_config()).succeed();
        assert_eq!(elements(), kept);
        let _ = keeper;
    });
}

#[test]
fn as_many_ports_as_are_written_can_be_read() {
    sandboxed(|| {
        let list: Vec<_> = (10_000..13_800).map(|port| ("tcp", port, 80)).collect();
        let pod = Pod::mapped("web", ports(&list));
        let record = record_of("web");
        assert!(std::fs::metadata(&record).unwrap().len() > 256 * 1024, "the premise");
        plugin("portmap", "DEL", &pod.id, "", &bare(NETWORK)).succeed();
        assert_eq!((elements().as_str(), records()), ("", 0));
    });
}

#[test]
fn a_record_of_a_newer_version_is_no_reason_to_guess() {
    sandboxed(|| {
        let pod = Pod::mapped("web", two_ports());
        let record = record_of("web");
        let text = std::fs::read_to_string(&record).unwrap();
        std::fs::write(&record, text.replacen("\"version\":2", "\"version\":99", 1)).unwrap();
        fails_with(&pod.portmap("ADD", two_ports()).run(), "it is of version 99");
        pod.gone(json!({}));
        assert_eq!((elements().as_str(), records()), ("", 0));
    });
}

#[test]
fn without_ports_netfilter_is_not_spoken_to() {
    sandboxed(|| {
        let pod = Pod::attached("plain");
        for verb in ["ADD", "CHECK", "DEL", "DEL"] {
            let trace = tempfile::NamedTempFile::new().unwrap();
            let mut child = Command::new("strace")
                .args(["-f", "-e", "trace=socket,execve,clone,clone3", "-o", trace.path().to_str().unwrap()])
                .arg(our_plugins().join("portmap"))
                .env_clear()
                .env("CNI_COMMAND", verb)
                .env("CNI_CONTAINERID", "plain")
                .env("CNI_NETNS", pod.netns.path())
                .env("CNI_IFNAME", "eth0")
                .env("CNI_PATH", our_plugins())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("strace");
            std::io::Write::write_all(
                &mut child.stdin.take().unwrap(),
                pod.config(json!({})).to_string().as_bytes(),
            )
            .unwrap();
            assert!(child.wait().unwrap().success(), "{verb}");
            let calls = std::fs::read_to_string(trace.path()).unwrap();
            assert!(!calls.contains("NETFILTER"), "{verb}: {calls}");
            assert_eq!(calls.matches("execve(").count(), 1, "{verb}: {calls}");
        }
        assert_eq!(records(), 0);
        let tables = Node.run("nft list tables");
        assert!(!Node.run("nft list ruleset").contains("to_pods"), "{tables}");
    });
}

#[test]
fn gc_removes_what_is_not_listed() {
    sandboxed(|| {
        let stays = Pod::mapped("stays", ports(&[("tcp", 8081, 80)]));
        let kept = elements();
        let _goes = Pod::mapped("goes", two_ports());
        let mut config = bare(NETWORK);
        config["cniVersion"] = "1.1.0".into();
        let gc = |config: &Value| plugin("portmap", "GC", "", "", config).env("CNI_IFNAME", "");
        fails_with(&gc(&config).run(), "cni.dev/valid-attachments");
        config["cni.dev/valid-attachments"] = json!([{"containerID": "stays", "ifname": "eth0"}]);
        gc(&config).succeed();
        assert_eq!(elements(), kept);
        config["name"] = "another".into();
        config["cni.dev/valid-attachments"] = json!([]);
        gc(&config).succeed();
        assert_eq!(elements(), kept, "attachments of other networks are none of its business");
        stays.portmap("CHECK", ports(&[("tcp", 8081, 80)])).succeed();
        let status = |config: &Value| plugin("portmap", "STATUS", "", "", config).env("CNI_IFNAME", "");
        status(&config).succeed();
        config["name"] = NETWORK.into();
        config["cni.dev/valid-attachments"] = Value::Null;
        gc(&config).succeed();
        assert_eq!(elements(), "");
        config["backend"] = "foo".into();
        fails_with(&status(&config).run(), "unrecognized backend");
    });
}

fn record_in(network: &str, container: &str) -> String {
    let directory = "/run/smarter-cni/attachments";
    let its = |name: &String| {
        let text = std::fs::read_to_string(format!("{directory}/{name}")).unwrap();
        let record: Value = serde_json::from_str(&text).unwrap_or_default();
        name.contains(".portmap.")
            && record["id"]["network"] == network
            && record["id"]["container"] == container
    };
    let name = lab::files(directory).into_iter().find(its).expect("a record");
    format!("{directory}/{name}")
}

#[test]
fn gc_does_not_pass_over_records_that_cannot_be_read() {
    sandboxed(|| {
        let _stays = Pod::mapped("stays", ports(&[("tcp", 8081, 80)]));
        // The same plugin in another network, of which this list says nothing.
        let other = Pod::attached("other");
        let mut config = other.config(ports(&[("tcp", 8082, 80)]));
        config["name"] = "another".into();
        plugin("portmap", "ADD", "other", &other.netns.path(), &config).succeed();
        let kept = elements();
        let _goes = Pod::mapped("goes", two_ports());
        let (stays, goes) = (record_in(NETWORK, "stays"), record_in(NETWORK, "goes"));
        let another = record_in("another", "other");
        for damaged in [&stays, &goes, &another] {
            std::fs::write(damaged, "{").unwrap();
        }
        let mut config = bare(NETWORK);
        config["cniVersion"] = "1.1.0".into();
        config["cni.dev/valid-attachments"] = json!([{"containerID": "stays", "ifname": "eth0"}]);
        plugin("portmap", "GC", "", "", &config).env("CNI_IFNAME", "").succeed();
        assert_eq!(elements(), kept, "what no list names goes, and nothing else");
        let there = |path: &String| std::path::Path::new(path).exists();
        assert_eq!((there(&stays), there(&goes), there(&another)), (true, false, true));
    });
}

/// Kills the plugin when it makes its n-th call of that kind; whether it got that far.
fn killed_at(pod: &Pod, verb: &str, syscall: &str, nth: usize, config: &Value) -> bool {
    let mut child = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-e", &format!("trace={syscall}")])
        .args(["-e", &format!("inject={syscall}:signal=SIGKILL:when={nth}")])
        .arg(our_plugins().join("portmap"))
        .env_clear()
        .env("CNI_COMMAND", verb)
        .env("CNI_CONTAINERID", &pod.id)
        .env("CNI_NETNS", pod.netns.path())
        .env("CNI_IFNAME", "eth0")
        .env("CNI_PATH", our_plugins())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace");
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), config.to_string().as_bytes());
    !child.wait().unwrap().success()
}

#[test]
fn whatever_a_killed_run_leaves_is_finished_or_removed() {
    sandboxed(|| {
        let pod = Pod::attached("web");
        let sweep = |verb: &str| {
            let mut points = 0;
            for syscall in ["sendto", "renameat", "unlinkat", "flock", "write"] {
                for nth in 1.. {
                    if verb == "DEL" {
                        pod.portmap("ADD", two_ports()).succeed();
                    }
                    let killed = killed_at(&pod, verb, syscall, nth, &pod.config(two_ports()));
                    if killed && nth % 2 == 0 {
                        // Carry on.
                        pod.portmap("ADD", two_ports()).succeed();
                        pod.portmap("CHECK", two_ports()).succeed();
                    }
                    plugin("portmap", "DEL", &pod.id, "", &bare("renamed")).succeed();
                    assert_eq!(elements(), "", "{verb} killed at {syscall} {nth}");
                    assert_eq!(records(), 0, "{verb} killed at {syscall} {nth}");
                    if !killed {
                        break;
                    }
                    points += 1;
                }
            }
            points
        };
        Node.run("nft flush ruleset");
        let add = sweep("ADD");
        assert!(add > 15, "only {add} points");
        let del = sweep("DEL");
        assert!(del > 10, "only {del} points");
        assert_eq!(Node.run("nft list chain ip smarter-cni guard").matches("drop").count(), 2);
        let _: &Netns = &pod.netns;
    });
}
