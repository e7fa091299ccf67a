//! What belongs to others stays, or is moved only when somebody says so, and comes back.

use std::fs;

use super::host::{BIN, CONF, Host, answers, works};
use crate::lab::{DEBIAN_PLUGINS, Netns, files};
use crate::sandbox::sandboxed;

const CILIUM: &str = r#"{"cniVersion":"0.3.1","name":"cilium","plugins":[{"type":"cilium-cni"}]}"#;

#[test]
fn standard_plugins_of_others_keep_their_bytes() {
    sandboxed(|| {
        let host = Host::new();
        let sound = fs::read(format!("{DEBIAN_PLUGINS}/loopback")).expect("containernetworking-plugins");
        for name in ["bridge", "loopback", "host-local"] {
            host.write_program(&format!("{BIN}/{name}"), &sound);
        }
        host.write_program(&format!("{BIN}/portmap"), &sound[..sound.len() / 3]);
        let out = host.installed("");
        for name in ["bridge", "loopback", "host-local"] {
            assert!(fs::read(host.path(BIN).join(name)).unwrap() == sound, "{name} was touched");
        }
        assert!(out.stdout.contains("/opt/cni/bin/loopback is somebody else's and stays"), "{out}");
        assert!(out.stdout.contains("/opt/cni/bin/portmap is cut short"), "{out}");
        answers(&host.path(BIN).join("portmap"));
    });
}

#[test]
fn a_configuration_in_front_is_refused_and_taken_over_on_demand() {
    sandboxed(|| {
        let host = Host::new();
        host.write(&format!("{CONF}/0-a.conflist"), CILIUM);
        host.write(&format!("{CONF}/10-flannel.conflist"), CILIUM.replace("cilium", "flannel"));
        host.write(&format!("{CONF}/README"), "no configuration");
        let before = host.snapshot();
        let out = host.install("");
        assert_eq!(out.status, 1, "{out}");
        assert!(out.stderr.contains("/etc/cni/net.d/0-a.conflist (network cilium) comes before"), "{out}");
        assert!(out.stderr.contains("--take-over"), "{out}");
        assert_eq!(host.snapshot(), before);

        let out = host.installed("--take-over");
        assert!(
            out.stdout.contains("10-flannel.conflist (network flannel) comes after ours and is not used"),
            "{out}"
        );
        assert_eq!(
            files(host.path(CONF)),
            [
                "0-a.conflist.kept-by-smarter-cni",
                "0-smarter-bridge.conflist",
                "10-flannel.conflist",
                "README"
            ]
        );
        works(&host).expect("a conflist");
        let again = host.installed("");
        assert!(again.stdout.contains("nothing to do"), "{again}");

        assert_eq!(host.uninstall("").status, 0);
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn a_foreign_program_under_our_name_is_refused_and_kept_on_demand() {
    sandboxed(|| {
        let host = Host::new();
        let foreign = fs::read(format!("{DEBIAN_PLUGINS}/loopback")).unwrap();
        host.write_program(&format!("{BIN}/smarter-bridge"), &foreign);
        let before = host.snapshot();
        let out = host.install("");
        assert_eq!(out.status, 1, "{out}");
        assert!(out.stderr.contains("/opt/cni/bin/smarter-bridge is somebody else's program"), "{out}");
        assert_eq!(host.snapshot(), before);
        host.installed("--take-over");
        works(&host).expect("a conflist");
        assert_eq!(host.uninstall("").status, 0);
        assert_eq!(host.snapshot(), before);
    });
}

/// As CRI-O does it that was killed in a burst and starts again: namespaces stay mounted, and ocicni, which knows no pod any
/// more, sends its GC with `null`. Pods that come later are checked one by one.
#[test]
fn a_runtime_that_was_killed_in_a_burst_leaves_nothing() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        let keep = Netns::new("keep");
        let newer = |extra: &str, value: serde_json::Value| {
            let mut list = host.conflist();
            list["cniVersion"] = list["cniVersions"][1].clone();
            list["plugins"][0][extra] = value;
            list
        };
        let plain = newer("cni.dev/attachments", serde_json::Value::Null);
        let burst: Vec<Netns> = (0..5).map(|number| Netns::new(&format!("p{number}"))).collect();
        for (number, pod) in burst.iter().enumerate() {
            assert_eq!(host.plugin_with(&plain, "ADD", &format!("c{number}"), pod).status, 0);
        }
        let gone = newer("cni.dev/valid-attachments", serde_json::Value::Null);
        let out = host.plugin_with(&gone, "GC", "", &keep);
        assert_eq!(out.status, 0, "{out}");
        assert_eq!(files("/run/smarter-cni").iter().filter(|name| name.ends_with(".bridge.json")).count(), 0);
        let leases = files("/run/cni/networks/smartnet");
        assert!(!leases.iter().any(|name| name.parse::<std::net::IpAddr>().is_ok()), "{leases:?}");
        let added = host.plugin_with(&plain, "ADD", "c9", &keep);
        assert_eq!(added.status, 0, "{added}");
        let mut checked = plain.clone();
        checked["plugins"][0]["prevResult"] = added.json.clone();
        let out = host.plugin_with(&checked, "CHECK", "c9", &keep);
        assert_eq!(out.status, 0, "{out}");
        assert_eq!(host.plugin_with(&plain, "DEL", "c9", &keep).status, 0);
        assert_eq!(host.uninstall("").status, 0);
    });
}

#[test]
fn several_runtimes_share_a_directory_without_garbage_collection() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        let list = host.conflist();
        assert_eq!(list["cniVersion"], "1.0.0");
        assert_eq!(list["cniVersions"], serde_json::json!(["1.0.0", "1.1.0"]));
        assert_eq!(list.get("disableGC"), None);
        for name in ["containerd/config.toml", "crio/crio.conf"] {
            let path = host.path("etc").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let out = host.installed("");
        assert_eq!(host.conflist()["disableGC"], true);
        assert!(out.stdout.contains("note     cri-o makes host ports itself"), "{out}");
        assert!(!host.installed("--host-ports false").stdout.contains("makes host ports itself"));
    });
}

/// A meta-plugin that comes first stays first: it hands pods on to the next file, which is ours.
#[test]
fn a_meta_plugin_in_front_stays_there() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        let multus = r#"{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus","delegates":[]}"#;
        host.write(&format!("{CONF}/00-multus.conf"), multus);
        let out = host.installed("");
        assert!(out.stdout.contains("00-multus.conf hands pods on to ours, which comes behind it"), "{out}");
        assert_eq!(files(host.path(CONF)), ["00-multus.conf", "01-smarter-bridge.conflist"]);
        assert!(host.installed("").stdout.contains("nothing to do"), "once is enough");
        fs::remove_file(host.path(CONF).join("00-multus.conf")).unwrap();
        host.installed("");
        assert_eq!(files(host.path(CONF)), ["0-smarter-bridge.conflist"]);
        host.write(&format!("{CONF}/00-multus.conf"), multus);
        host.installed("");
        assert_eq!(host.uninstall("").status, 0);
        assert_eq!(files(host.path(CONF)), ["00-multus.conf"]);
    });
}

#[test]
fn what_another_configuration_has_already_is_refused_at_first_and_said_later() {
    sandboxed(|| {
        let host = Host::new();
        let other = r#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"bridge","bridge":"other0","ipam":
            {"type":"host-local","ranges":[[{"subnet":"10.38.4.0/24"}]]}}]}"#;
        host.write(&format!("{CONF}/87-other.conflist"), other);
        for (line, words) in [
            (
                "--subnet 10.38.0.0/16",
                "gives away addresses of 10.38.4.0/24, which overlaps with 10.38.0.0/16",
            ),
            ("--network other", "has the name other, too"),
            ("--bridge other0", "has the bridge other0, too"),
        ] {
            let out = host.install(line);
            assert_eq!(out.status, 1, "{out}");
            assert!(out.stderr.contains(&format!("87-other.conflist (network other) {words}")), "{out}");
        }
        fs::remove_file(host.path(CONF).join("87-other.conflist")).unwrap();
        host.installed("--subnet 10.38.0.0/16");
        host.write(&format!("{CONF}/87-other.conflist"), other);
        let out = host.installed("");
        assert!(out.stdout.contains("warning  /etc/cni/net.d/87-other.conflist"), "{out}");
    });
}

#[test]
fn whatever_the_umask_everybody_can_read_networks_and_execute_plugins() {
    use std::os::unix::fs::PermissionsExt;
    sandboxed(|| {
        let host = Host::new();
        for directory in ["etc/cni", "opt/cni"] {
            fs::remove_dir_all(host.path(directory)).unwrap();
        }
        let install =
            format!("umask 077; {} install --root {}", crate::lab::binary().display(), host.root.display());
        crate::sandbox::run("sh", &["-ec", &install]);
        for directory in ["etc/cni", CONF, "opt/cni", BIN] {
            let mode = fs::metadata(host.path(directory)).unwrap().permissions().mode() & 0o7777;
            assert_eq!(mode, 0o755, "{directory}");
        }
    });
}

/// Whoever waits for the lock of a directory that is removed and made anew meanwhile must not take the old one for it.
#[test]
fn installations_and_uninstallations_at_once_leave_all_or_nothing() {
    sandboxed(|| {
        let host = Host::new();
        let before = host.snapshot();
        for round in 0..3 {
            let mut children: Vec<_> = (0..6)
                .map(|number| {
                    let verb = if (round + number) % 2 == 0 { "install" } else { "uninstall" };
                    let mut command = host.command(&crate::lab::binary(), verb);
                    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
                    command.spawn().expect("it starts")
                })
                .collect();
            for child in &mut children {
                child.wait().expect("it ends");
            }
            host.installed("");
            works(&host).expect("whole");
            assert_eq!(host.uninstall("").status, 0);
            assert_eq!(host.snapshot(), before, "round {round}");
        }
    });
}
