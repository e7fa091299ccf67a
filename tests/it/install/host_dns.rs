//! Files for the node's own resolver, on hosts that have one or another.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use super::host::{CONFLIST, Host};
use super::watch::Watch;
use crate::lab::{self, Node, Output, Place, eventually};
use crate::sandbox::sandboxed;

const ASKED: &str = "--subnet 10.38.0.0/16 --dns 169.254.0.2 --host-dns";
const DELEGATE: &str = "etc/systemd/dns-delegate.d/smarter-cni.dns-delegate";
const DNSMASQ: &str = "etc/dnsmasq.d/smarter-cni.conf";
const NETWORK_MANAGER: &str = "etc/NetworkManager/dnsmasq.d/smarter-cni.conf";
const HEAD: &str = "# Written by smarter-cni install --host-dns, and taken away by smarter-cni uninstall.\n";
const PATIENCE: Duration = Duration::from_secs(20);

/// A host on which systemd-resolved answers.
fn with_resolved(strings: &str) -> Host {
    let host = Host::new();
    for directory in ["usr/lib/systemd", "etc/systemd"] {
        fs::create_dir_all(host.path(directory)).unwrap();
    }
    host.write_program("usr/lib/systemd/systemd-resolved", format!("\u{7f}ELF\0{strings}\0"));
    symlink("../run/systemd/resolve/stub-resolv.conf", host.path("etc/resolv.conf")).unwrap();
    host
}

fn newer() -> Host {
    with_resolved("/etc/systemd/dns-delegate.d\0/run/systemd/dns-delegate.d")
}

/// One on which a dnsmasq answers, which reads the directory.
fn with_dnsmasq() -> Host {
    let host = Host::new();
    for directory in ["etc/dnsmasq.d", "etc/default"] {
        fs::create_dir_all(host.path(directory)).unwrap();
    }
    host.write("etc/resolv.conf", "nameserver 127.0.0.1\n");
    host.write("etc/dnsmasq.d/lan.conf", "bind-dynamic\n");
    host.write("etc/default/dnsmasq", "CONFIG_DIR=/etc/dnsmasq.d,.dpkg-dist,.dpkg-old,.dpkg-new\n");
    host
}

fn notes(out: &Output) -> String {
    assert_eq!(out.status, 0, "{out}");
    out.json["notes"].to_string()
}

fn is_told_and_forgotten(host: &Host, file: &str, text: &str, reload: &str) {
    let before = host.snapshot();
    let said = notes(&host.install(&format!("{ASKED} --json")));
    assert_eq!(host.read(file), format!("{HEAD}{text}"));
    assert!(said.contains(reload), "{said}");
    // Nothing to do, and nothing to say.
    let files = host.identities();
    let again = host.install("--json");
    assert_eq!(again.json["result"], "unchanged", "{again}");
    assert_eq!((host.identities(), notes(&again).contains(reload)), (files, false));
    // Taken back by an installation that does not ask for it, and by the last one.
    let said = notes(&host.install("--subnet 10.38.0.0/16 --dns 169.254.0.2 --json"));
    assert!(!host.path(file).exists() && said.contains(reload), "{said}");
    host.installed(ASKED);
    assert!(host.path(file).exists());
    let out = host.uninstall("--json");
    assert!(notes(&out).contains(reload), "{out}");
    assert_eq!(host.snapshot(), before);
}

#[test]
fn systemd_resolved_is_told_and_forgets() {
    sandboxed(|| {
        let text = "[Delegate]\nDNS=169.254.0.2\nDomains=~cluster.local\n";
        is_told_and_forgotten(&newer(), DELEGATE, text, "systemctl reload systemd-resolved");
    });
}

#[test]
fn dnsmasq_is_told_and_forgets() {
    sandboxed(|| {
        let text = "server=/cluster.local/169.254.0.2\nrebind-domain-ok=/cluster.local/\nexcept-interface=smartnet0\n";
        is_told_and_forgotten(&with_dnsmasq(), DNSMASQ, text, "systemctl restart dnsmasq");
    });
}

#[test]
fn the_dnsmasq_of_networkmanager_is_told_and_forgets() {
    sandboxed(|| {
        let host = with_dnsmasq();
        fs::create_dir_all(host.path("etc/NetworkManager/dnsmasq.d")).unwrap();
        host.write("etc/NetworkManager/NetworkManager.conf", "[main]\ndns=dnsmasq\n");
        let text = "server=/cluster.local/169.254.0.2\nrebind-domain-ok=/cluster.local/\n";
        is_told_and_forgotten(&host, NETWORK_MANAGER, text, "nmcli general reload dns-full");
    });
}

#[test]
fn nobody_is_told_without_being_asked_to() {
    sandboxed(|| {
        let host = newer();
        host.installed("--subnet 10.38.0.0/16 --dns 169.254.0.2");
        assert!(!host.path("etc/systemd/dns-delegate.d").exists());
        // As a ConfigMap says it.
        let settings = [("dns", "169.254.0.53"), ("host_dns", "edge.lan")];
        let out = host.install_with(&settings, "--subnet 10.38.0.0/16");
        assert_eq!(out.status, 0, "{out}");
        assert_eq!(host.read(DELEGATE), format!("{HEAD}[Delegate]\nDNS=169.254.0.53\nDomains=~edge.lan\n"));
    });
}

#[test]
fn a_resolver_without_such_files_is_left_alone() {
    sandboxed(|| {
        let host = with_resolved("/etc/systemd/dnssd");
        for (conf, typed) in [
            (None, "resolvectl dns smartnet0 169.254.0.2 && resolvectl domain smartnet0 '~cluster.local'"),
            (Some("nameserver 192.0.2.1\n"), "nameserver 169.254.0.2"),
            (Some("nameserver 127.0.0.1\n"), "server=/cluster.local/169.254.0.2"),
        ] {
            if let Some(conf) = conf {
                let _ = fs::remove_file(host.path("etc/resolv.conf"));
                host.write("etc/resolv.conf", conf);
            }
            let before = host.snapshot();
            let said = notes(&host.install(&format!("{ASKED} --json")));
            assert!(said.contains(typed), "{said}");
            let written = host.snapshot();
            let others = |snapshot: &std::collections::BTreeMap<String, String>| {
                let of_ours = ["opt", "etc/cni", "var/lib/smarter-cni"];
                let is_other =
                    |(name, _): &(&String, &String)| !of_ours.iter().any(|ours| name.starts_with(ours));
                snapshot
                    .iter()
                    .filter(is_other)
                    .map(|(name, what)| (name.clone(), what.clone()))
                    .collect::<Vec<_>>()
            };
            assert_eq!(others(&written), others(&before));
        }
    });
}

#[test]
fn what_makes_no_sense_together_is_refused() {
    sandboxed(|| {
        let host = newer();
        let before = host.snapshot();
        for line in ["--host-dns", "--host-dns cluster.local --dns off"] {
            let out = host.install(line);
            assert_eq!(out.status, 2, "{out}");
            assert!(
                out.stderr.contains(
                    "--host-dns=cluster.local: the node's resolver needs an address to ask: say --dns 169.254.0.2, too, \
                     or --host-dns off"
                ),
                "{out}"
            );
        }
        assert_eq!(host.snapshot(), before);
    });
}

#[test]
fn a_file_of_somebody_else_is_refused_by_name() {
    sandboxed(|| {
        let host = newer();
        fs::create_dir_all(host.path("etc/systemd/dns-delegate.d")).unwrap();
        let victim = host.path("tmp/precious");
        fs::write(&victim, "precious").unwrap();
        let victim = victim.display();
        for (what, put) in [
            ("somebody else's", format!("cp {victim}")),
            ("somebody else's link", format!("ln -s {victim}")),
            ("no plain file", "mkdir".to_owned()),
        ] {
            Node.run(&format!("{put} {}", host.path(DELEGATE).display()));
            let before = host.snapshot();
            let out = host.install(&format!("{ASKED} --json"));
            assert_eq!((out.status, &out.json["result"]), (1, &"refused".into()), "{out}");
            let expected = format!("/{DELEGATE} is {what}, and stays: move it away, or say --host-dns off");
            assert_eq!(out.json["errors"], serde_json::json!([expected]));
            assert_eq!(host.snapshot(), before, "{what}");
            // Whoever does not ask for it meets nobody.
            host.installed("--subnet 10.38.0.0/16 --dns 169.254.0.2");
            assert_eq!(host.uninstall("").status, 0);
            assert_eq!(host.snapshot(), before, "{what}");
            Node.run(&format!("rm -r {}", host.path(DELEGATE).display()));
        }
        assert_eq!(host.read("tmp/precious"), "precious");
    });
}

#[test]
fn somebody_who_comes_later_keeps_the_place_and_the_rest_goes_on() {
    sandboxed(|| {
        let host = newer();
        host.installed(ASKED);
        host.write(DELEGATE, "[Delegate]\nDNS=192.0.2.1\n");
        fs::remove_file(host.path(CONFLIST)).unwrap();
        let out = host.install("--json");
        assert_eq!(out.json["result"], "installed", "{out}");
        assert!(out.json["warnings"].to_string().contains("is somebody else's, and stays"), "{out}");
        assert!(host.path(CONFLIST).exists());
        let out = host.uninstall("");
        assert_eq!(out.status, 0, "{out}");
        assert_eq!(host.read(DELEGATE), "[Delegate]\nDNS=192.0.2.1\n");
    });
}

#[test]
fn a_directory_that_is_read_only_costs_this_file_alone() {
    sandboxed(|| {
        let host = newer();
        let directory = host.path("etc/systemd");
        Node.run(&format!("mount --bind {0} {0}", directory.display()));
        Node.run(&format!("mount -o remount,bind,ro {}", directory.display()));
        let out = host.install(&format!("{ASKED} --json"));
        assert_eq!((out.status, &out.json["result"]), (1, &"failed".into()), "{out}");
        let error = out.json["errors"][0].as_str().unwrap();
        assert!(error.starts_with(&format!("write /{DELEGATE}: Read-only file system")), "{error}");
        assert!(
            error.ends_with("mount it writable, or say --host-dns off. Everything else is in place"),
            "{error}"
        );
        super::host::works(&host).expect("it is in place");
    });
}

#[test]
fn the_watch_brings_it_back() {
    sandboxed(|| {
        let host = newer();
        let mut command = host.command(&lab::binary(), "install");
        let watch = Watch::run(command.args(ASKED.split_whitespace()), &host.path(DELEGATE));
        let whole = host.read(DELEGATE);
        let is_back = || fs::read_to_string(host.path(DELEGATE)).is_ok_and(|text| text == whole);
        fs::remove_file(host.path(DELEGATE)).unwrap();
        eventually("the file is back", PATIENCE, is_back);
        host.write(DELEGATE, "");
        eventually("it is whole", PATIENCE, is_back);
        fs::remove_dir_all(host.path("etc/systemd/dns-delegate.d")).unwrap();
        eventually("its directory is back", PATIENCE, is_back);
        let (code, said) = watch.end("-TERM");
        assert_eq!(code, Some(0), "{said}");
        let repaired = format!("repaired write /{DELEGATE}");
        assert_eq!(said.lines().filter(|line| **line == repaired).count(), 3, "{said}");
    });
}

/// As an upgrade meets it: what the older program does not know it leaves out of what it writes down.
#[test]
fn it_is_found_by_its_mark_where_the_record_does_not_know_it() {
    sandboxed(|| {
        let host = newer();
        let before = host.snapshot();
        host.installed(ASKED);
        let path = "var/lib/smarter-cni/install.json";
        let mut record: serde_json::Value = serde_json::from_str(&host.read(path)).unwrap();
        assert_eq!(record["resolver_files"], serde_json::json!([format!("/{DELEGATE}")]));
        record.as_object_mut().unwrap().remove("resolver_files");
        host.write(path, record.to_string());
        let out = host.uninstall("");
        assert_eq!(out.status, 0, "{out}");
        assert_eq!(host.snapshot(), before);
    });
}
