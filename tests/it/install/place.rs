//! What an installation puts on a node, how, and what it says.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use super::host::{BIN, CONF, CONFLIST, Host, OWN, another_build, answers, works};
use crate::lab::{self, Netns, Node, Place, Plugin, files};
use crate::sandbox::sandboxed;

#[test]
fn a_bare_node_gets_everything_and_a_pod_works() {
    sandboxed(|| {
        let host = Host::new();
        let out = host.installed("");
        assert!(out.stdout.contains("warning  172.38.0.0/16 is public address space"), "{out}");
        assert!(
            out.stdout.ends_with(
                "installed: network smartnet on bridge smartnet0, 172.38.0.0/16 (gateway 172.38.0.1)\n"
            ),
            "{out}"
        );
        let mut names = vec!["loopback", "portmap", "smarter-cni"];
        names.extend(OWN);
        names.sort_unstable();
        assert_eq!(files(host.path(BIN)), names);
        let mode = fs::metadata(host.path(BIN).join("smarter-cni")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o755);
        assert_eq!(fs::read(host.path(BIN).join("smarter-cni")).unwrap(), fs::read(lab::binary()).unwrap());
        assert_eq!(files(host.path(CONF)), ["0-smarter-bridge.conflist"]);
        works(&host).expect("a conflist");

        let pod = Netns::new("pod");
        let added = host.plugin("ADD", "c1", &pod);
        assert_eq!(added.json["ips"][0]["address"], "172.38.0.2/16", "{added}");
        assert_eq!(host.plugin("DEL", "c1", &pod).status, 0);
    });
}

/// SECURITY.md promises it, also for a runtime that was started without a umask.
#[test]
fn nobody_but_root_can_write_what_we_leave() {
    sandboxed(|| {
        let host = Host::new();
        rustix::process::umask(rustix::fs::Mode::empty());
        host.installed("");
        let pod = Netns::new("pod");
        assert_eq!(host.plugin("ADD", "c1", &pod).status, 0);
        let root = host.root.display();
        let places = format!(
            "{root}/opt/cni {root}/etc/cni {root}/var/lib/smarter-cni /run/smarter-cni /run/cni/networks"
        );
        let ours = Node.run(&format!("find {places} ! -type l -newer {root}/tmp"));
        for file in
            ["0-smarter-bridge.conflist", "smarter-cni", "install.json", "log", ".bridge.json", "172.38.0.2"]
        {
            assert!(ours.lines().any(|line| line.ends_with(file)), "{file} was not looked at:\n{ours}");
        }
        assert_eq!(Node.run(&format!("find {places} ! -type l -perm /022")), "");
        // What pods were promised is nobody's business either.
        assert_eq!(Node.run("find /run/smarter-cni -perm /077"), "");
    });
}

#[test]
fn a_second_installation_writes_nothing() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("--subnet 10.38.0.0/16");
        let before = host.identities();
        let out = host.installed("--subnet 10.38.0.0/16");
        assert!(out.stdout.starts_with("nothing to do: network smartnet"), "{out}");
        assert_eq!(host.identities(), before);
    });
}

/// Whoever repairs a node does not know with which settings it was installed.
#[test]
fn without_settings_those_of_the_last_installation_count() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("--subnet 10.38.0.0/16 --bridge edge0 --mtu 1400");
        let list = host.read(CONFLIST);
        host.write(CONFLIST, "");
        fs::remove_file(host.path(BIN).join("smarter-ipam")).unwrap();
        let out = host.installed("");
        assert!(out.stdout.contains("network smartnet on bridge edge0, 10.38.0.0/16"), "{out}");
        assert_eq!(host.read(CONFLIST), list);
        works(&host).expect("all of it is back");
        // One setting is an installation of its own.
        let out = host.installed("--subnet 10.39.0.0/16");
        assert!(out.stdout.contains("network smartnet on bridge smartnet0, 10.39.0.0/16"), "{out}");
        assert!(host.installed("").stdout.starts_with("nothing to do: network smartnet on bridge smartnet0"));
    });
}

#[test]
fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    sandboxed(|| {
        let host = Host::new();
        let before = host.snapshot();
        let out = host.installed("--dry-run --json");
        assert_eq!(host.snapshot(), before);
        let steps = out.json["steps"].as_array().expect("steps").clone();
        let done = host.installed("--json");
        assert_eq!(done.json["steps"].as_array(), Some(&steps), "it does what it said");
        assert_eq!((&out.json["result"], &done.json["result"]), (&json!("planned"), &json!("installed")));
        assert_eq!(host.installed("--json").json["result"], "unchanged");
        assert_eq!(host.installed("--dry-run").stdout.lines().last(), Some("nothing to do"));
    });
}

#[test]
fn settings_come_by_flags_and_by_the_environment() {
    sandboxed(|| {
        let host = Host::new();
        let mut command = host.command(&lab::binary(), "install");
        command.envs([("CIDR", "10.9.0.0/16"), ("GW", "10.9.0.254"), ("mtu", "1400"), ("hairpin", "false")]);
        let done = command.args(["--network", "edge", "--bridge", "edge0"]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let list = host.conflist();
        let bridge = &list["plugins"][0];
        assert_eq!((&list["name"], &bridge["bridge"]), (&json!("edge"), &json!("edge0")));
        assert_eq!((&bridge["mtu"], &bridge["hairpinMode"]), (&json!(1400), &json!(false)));
        assert_eq!(bridge["ipam"]["ranges"], json!([[{"subnet": "10.9.0.0/16", "gateway": "10.9.0.254"}]]));
    });
}

#[test]
fn wrong_words_are_refused_by_name_before_anything_is_written() {
    sandboxed(|| {
        let host = Host::new();
        let before = host.snapshot();
        for (line, status, text) in [
            (
                "--subnet 10.1.2.3/16",
                2,
                "--subnet=10.1.2.3/16: 10.1.2.3/16 has host bits set: the network is 10.1.0.0/16",
            ),
            ("--subnet 10.1.0.0/31", 2, "has no room for pods"),
            ("--subnet 10.1.0.0/16 --gateway 10.2.0.1", 2, "the gateway 10.2.0.1 is not in 10.1.0.0/16"),
            ("--subnet fd00::/64,fd01::/64", 2, "are of one family"),
            ("--mtu 7", 2, "--mtu=7: say a number of bytes"),
            ("--bin-dir opt", 2, "does not begin with /"),
            ("--frobnicate", 2, "unexpected argument '--frobnicate'"),
            ("--watch --dry-run", 2, "cannot be used with"),
            ("--root /no/such/tree", 2, "cannot be used multiple times"),
        ] {
            let out = host.install(line);
            assert_eq!(out.status, status, "{line}: {out}");
            assert!(out.stderr.contains(text), "{line}: {out}");
            assert_eq!(host.snapshot(), before, "{line}");
        }
        let help = host.install("--help");
        assert_eq!(help.status, 0);
        for word in ["--subnet", "--gateway", "--take-over", "--watch", "CIDR", "DEST_DIR", "Exit code"] {
            assert!(help.stdout.contains(word), "{word}: {help}");
        }
    });
}

#[test]
fn directories_are_taken_as_the_host_sees_them() {
    sandboxed(|| {
        let host = Host::new();
        fs::create_dir_all(host.path("data/v2/bin")).unwrap();
        symlink("/data/v2", host.path("data/current")).unwrap();
        host.installed("--bin-dir /data/current/bin --conf-dir /made/for/us,/etc/cni/net.d");
        answers(&host.path("data/v2/bin/smarter-bridge"));
        assert!(files(host.path(BIN)).is_empty());
        assert_eq!(host.read("made/for/us/0-smarter-bridge.conflist"), host.read(CONFLIST));

        // The runtime's update moved the link.
        fs::create_dir_all(host.path("data/v3/bin")).unwrap();
        fs::remove_file(host.path("data/current")).unwrap();
        symlink("v3", host.path("data/current")).unwrap();
        host.installed("--bin-dir /data/current/bin --conf-dir /made/for/us,/etc/cni/net.d");
        answers(&host.path("data/v3/bin/smarter-bridge"));
    });
}

/// A node with k3s, which moved its directories, and a CRI-O beside it: real configurations of both.
#[test]
fn every_runtime_of_the_node_gets_everything() {
    sandboxed(|| {
        let host = Host::new();
        let fixture = |name: &str| {
            fs::read_to_string(format!("{}/tests/fixtures/runtimes/{name}", env!("CARGO_MANIFEST_DIR")))
                .expect(name)
        };
        let (k3s, crio) = ("var/lib/rancher/k3s/agent/etc/containerd", "etc/crio");
        for directory in [k3s, crio, "var/lib/rancher/k3s/data/cni"] {
            fs::create_dir_all(host.path(directory)).unwrap();
        }
        host.write(&format!("{k3s}/config.toml"), fixture("k3s-1.34/config.toml"));
        host.write(&format!("{crio}/crio.conf"), fixture("crio-1.24/crio.conf"));
        let out = host.installed("--json");
        let runtimes = out.json["runtimes"].as_array().expect("runtimes");
        let names: Vec<_> = runtimes.iter().map(|runtime| runtime["name"].clone()).collect();
        assert_eq!(names, ["k3s", "cri-o"], "{out}");
        assert!(runtimes.iter().all(|runtime| runtime["loaded"].is_null()), "nobody runs here: {out}");
        for runtime in runtimes {
            let (bin, conf) =
                (runtime["bin_dirs"][0].as_str().unwrap(), runtime["conf_dir"].as_str().unwrap());
            answers(&host.path(&bin[1..]).join("smarter-bridge"));
            assert_eq!(host.read(&format!("{}/0-smarter-bridge.conflist", &conf[1..])), host.read(CONFLIST));
        }
        // Flags win.
        host.installed("--bin-dir /opt/mine --conf-dir /etc/mine");
        answers(&host.path("opt/mine/smarter-bridge"));
    });
}

#[test]
fn what_is_damaged_is_repaired() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        let program = host.path(BIN).join("smarter-cni");
        let whole = fs::read(&program).unwrap();
        let damages: [(&str, &dyn Fn()); 7] = [
            ("empty program", &|| fs::write(&program, "").unwrap()),
            ("truncated program", &|| fs::write(&program, &whole[..whole.len() / 2]).unwrap()),
            ("a flipped byte", &|| {
                let mut bytes = whole.clone();
                bytes[whole.len() / 2] ^= 1;
                fs::write(&program, bytes).unwrap();
            }),
            ("not executable", &|| fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap()),
            ("empty configuration", &|| host.write(CONFLIST, "")),
            ("half a configuration", &|| host.write(CONFLIST, &host.read(CONFLIST)[..100])),
            ("missing name", &|| fs::remove_file(host.path(BIN).join("smarter-ipam")).unwrap()),
        ];
        for (damage, inflict) in damages {
            inflict();
            let out = host.installed("");
            assert!(out.stdout.contains("installed: "), "{damage}: {out}");
            assert_eq!(fs::read(&program).unwrap(), whole, "{damage}");
            works(&host).unwrap_or_else(|| panic!("{damage}: no conflist"));
        }
        // What a killed installation leaves.
        host.write("opt/cni/bin/.smarter-cni-new.smarter-cni.part", "half");
        host.installed("");
        assert!(!host.path("opt/cni/bin/.smarter-cni-new.smarter-cni.part").exists());
    });
}

/// Nobody must ever meet half a program, or one that is written to ("text file busy").
#[test]
fn five_hundred_installations_while_plugins_run() {
    const INSTALLATIONS: usize = 500;
    const CALLERS: usize = 20;
    /// Without it the callers leave no processor to the installer, whose runs are what they are to meet.
    const PAUSE: Duration = Duration::from_millis(100);
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        let builds = [lab::binary(), another_build(&lab::binary(), &host.path("tmp"))];
        let (done, calls) = (AtomicBool::new(false), AtomicUsize::new(0));
        thread::scope(|scope| {
            for caller in 0..CALLERS {
                let plugin = Plugin::new(host.path(BIN), OWN[caller % OWN.len()]).command("VERSION");
                let (done, calls) = (&done, &calls);
                scope.spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        plugin.succeed();
                        calls.fetch_add(1, Ordering::Relaxed);
                        thread::sleep(PAUSE);
                    }
                });
            }
            let installing = scope.spawn(|| {
                for round in 0..INSTALLATIONS {
                    let out = host.install_by(&builds[round % 2], "");
                    assert_eq!(out.status, 0, "{round}: {out}");
                    assert!(round == 0 || out.stdout.contains("done     place"), "{round}: {out}");
                }
            });
            let outcome = installing.join();
            done.store(true, Ordering::Relaxed);
            outcome.expect("every installation succeeds");
        });
        let calls = calls.load(Ordering::Relaxed);
        eprintln!("{calls} calls met {INSTALLATIONS} installations");
        assert!(calls > INSTALLATIONS, "only {calls} calls met {INSTALLATIONS} installations");
        works(&host).expect("a conflist");
    });
}

#[test]
fn plugins_are_in_place_before_the_configuration_appears() {
    sandboxed(|| {
        let host = Host::new();
        let mut strace = std::process::Command::new("strace");
        strace.args([
            "-f",
            "-qq",
            "-o",
            "/run/trace",
            "-e",
            "trace=?rename,?renameat,renameat2,fsync,execve",
        ]);
        let status = strace.arg(lab::binary()).args(["install", "--root"]).arg(&host.root).output().unwrap();
        assert!(status.status.success(), "{status:?}");
        let trace = fs::read_to_string("/run/trace").unwrap();
        let lines: Vec<&str> = trace.lines().collect();
        let last = |what: &dyn Fn(&str) -> bool| lines.iter().rposition(|line| what(line));
        let conflist =
            last(&|line| line.contains("rename") && line.contains("bridge.conflist\"")).expect("renamed");
        let program =
            last(&|line| line.contains("rename") && line.contains("/smarter-cni\"")).expect("renamed");
        let name = last(&|line| line.contains("rename") && line.contains("/portmap\"")).expect("renamed");
        let tried =
            last(&|line| line.contains("execve") && line.contains("/smarter-loopback\"")).expect("tried");
        assert!(program < name && name < tried && tried < conflist, "{trace}");
        // The bytes are on the disk before they have a name, and the name before anything that relies on it.
        for at in [program, conflist] {
            assert!(
                lines[at - 1].contains("fsync")
                    || lines[at - 2].contains("fsync")
                    || tried_between(&lines, at),
                "{trace}"
            );
            assert!(lines[at + 1].contains("fsync"), "{trace}");
        }
    });
}

/// The program is executed once between its sync and its new name.
fn tried_between(lines: &[&str], renamed: usize) -> bool {
    let before = &lines[..renamed];
    let sync = before.iter().rposition(|line| line.contains("fsync"));
    let exec = before.iter().rposition(|line| line.contains("execve"));
    matches!((sync, exec), (Some(sync), Some(exec)) if sync < exec)
}

#[test]
fn what_cannot_be_executed_is_not_put_in_place() {
    sandboxed(|| {
        let host = Host::new();
        Node.run(&format!("mount -t tmpfs -o noexec tmpfs {}", host.path(BIN).display()));
        let out = host.install("");
        assert_eq!(out.status, 1, "{out}");
        assert!(out.stderr.contains("mounted noexec"), "{out}");
        assert_eq!(files(host.path(BIN)), [""; 0]);
        assert!(!host.path(CONFLIST).exists(), "a configuration without plugins");
    });
}

#[test]
fn a_read_only_node_is_fine_when_everything_is_there() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        for sub in ["opt", "etc", "var/lib"] {
            let at = host.path(sub);
            Node.run(&format!("mount --bind {0} {0}", at.display()));
            Node.run(&format!("mount -o remount,bind,ro {}", at.display()));
        }
        let out = host.installed("");
        assert!(out.stdout.starts_with("warning  172.38") && out.stdout.contains("nothing to do"), "{out}");
        let out = host.install("--subnet 10.38.0.0/16");
        assert_eq!(out.status, 1, "{out}");
        assert!(out.stderr.contains("Read-only file system") && out.stderr.contains("--conf-dir"), "{out}");
    });
}

#[test]
fn a_full_disk_is_named_and_leaves_what_was_there() {
    sandboxed(|| {
        let host = Host::new();
        Node.run(&format!("mount -t tmpfs -o size=64k tmpfs {}", host.path(BIN).display()));
        let out = host.install("");
        assert_eq!(out.status, 1, "{out}");
        assert!(out.stderr.contains("No space left on device") && out.stderr.contains("make room"), "{out}");
        assert_eq!(files(host.path(BIN)), [""; 0]);
        assert!(!host.path(CONFLIST).exists());
    });
}

#[test]
fn damaged_results_of_our_network_are_removed_and_no_others() {
    sandboxed(|| {
        let host = Host::new();
        let results = "var/lib/cni/results";
        fs::create_dir_all(host.path(results)).unwrap();
        let whole = r#"{"kind":"cniCacheV1","containerId":"c3"}"#;
        for (name, content) in [
            ("smartnet-c1-eth0", ""),
            ("smartnet-c2-eth0", r#"{"kind":"cniCa"#),
            ("smartnet-c3-eth0", whole),
            ("cbr0-c4-eth0", ""),
            ("smartnet-edge-c5-eth0", ""),
        ] {
            host.write(&format!("{results}/{name}"), content);
        }
        host.installed("");
        assert_eq!(files(host.path(results)), ["cbr0-c4-eth0", "smartnet-c3-eth0", "smartnet-edge-c5-eth0"]);
    });
}
