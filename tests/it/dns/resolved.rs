//! A program of the node asks its own resolver, which `install --host-dns` has told whom to ask: Debian's newest
//! systemd-resolved, and the dnsmasq of this machine.

use std::fs;
use std::os::unix::fs::symlink;

use super::forward::upstream::{Manner, Uplink};
use super::*;
use crate::install::{BIN, Host};
use crate::lab::{peers, resolved};
use crate::sandbox::sandboxed_daemons;

const STUB: &str = "127.0.0.53";
/// What comes to the uplink has the name in it as it is sent.
const OURS: &[&[u8]] = &[b"\x05local", b"\x04edge"];

/// A host of Debian's newest systemd-resolved: its files, and nothing else of systemd.
fn host(settings: &str) -> Host {
    let host = Host::new();
    let root = resolved().expect("looked for before");
    // It makes no more than its own directory.
    for directory in ["usr", "dev", "etc/systemd", "run/systemd"] {
        fs::create_dir_all(host.path(directory)).unwrap();
    }
    Node.run(&format!("mount --bind {} {}", root.join("usr").display(), host.path("usr").display()));
    Node.run(&format!("mount -o remount,bind,ro {}", host.path("usr").display()));
    Node.run(&format!("mount --rbind /dev {}", host.path("dev").display()));
    for link in ["lib", "lib64"] {
        symlink(format!("usr/{link}"), host.path(link)).unwrap();
    }
    symlink("../run/systemd/resolve/stub-resolv.conf", host.path("etc/resolv.conf")).unwrap();
    host.write("etc/passwd", "root:x:0:0::/:/bin/sh\nsystemd-resolve:x:991:991::/:/usr/sbin/nologin\n");
    host.write("etc/group", "root:x:0:\nsystemd-resolve:x:991:\n");
    host.write(
        "etc/systemd/resolved.conf",
        format!("[Resolve]\nLLMNR=no\nMulticastDNS=no\nFallbackDNS=\n{settings}"),
    );
    host
}

/// systemd-resolved in there, without D-Bus.
struct Resolved(Child);

impl Resolved {
    /// It answers when this returns.
    fn start(host: &Host) -> Self {
        let line = format!("chroot {} /usr/lib/systemd/systemd-resolved", host.root.display());
        let mut command = Node.command(&line);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin").env("SYSTEMD_LOG_TARGET", "console");
        let mut resolved = Self(command.stdout(Stdio::null()).spawn().unwrap());
        eventually("systemd-resolved answers", PATIENCE, || {
            assert!(resolved.0.try_wait().unwrap().is_none(), "systemd-resolved ended, see above");
            answer(&Node, &format!("@{STUB} localhost A")) == "127.0.0.1"
        });
        resolved
    }

    /// What `systemctl reload` sends.
    fn reload(&self) {
        Node.run(&format!("kill -HUP {}", self.0.id()));
    }
}

impl Drop for Resolved {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `web` of the namespace `default`, attached by what was installed.
fn pod(host: &Host) -> (Netns, String) {
    let (netns, list) = (Netns::new("web"), host.conflist());
    let mut config = list["plugins"][0].clone();
    config["name"] = list["name"].clone();
    config["cniVersion"] = list["cniVersion"].clone();
    let plugin = Plugin::new(host.path(BIN), "smarter-bridge").command("ADD").container("web").ifname("eth0");
    let arguments = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web";
    let result = plugin.netns(&netns).env("CNI_ARGS", arguments).json(&config).succeed().json;
    let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap();
    (netns, address.to_owned())
}

/// On a day without it `tests/run` says so in its summary.
fn with_resolved(body: impl FnOnce()) {
    if resolved().is_none() {
        eprintln!("NOT PROVEN    systemd-resolved finds pods: there is none in {}", peers().display());
        return;
    }
    sandboxed_daemons(body);
}

fn asked(words: &str) -> String {
    answer(&Node, &format!("@{STUB} {words}"))
}

fn uplink_heard_of_pods(uplink: &Uplink) -> bool {
    let names = uplink.names.lock().unwrap();
    names.iter().any(|name| OURS.iter().any(|ours| name.windows(ours.len()).any(|part| part == *ours)))
}

/// A program that asks its C library, which reads the node's resolv.conf.
fn by_library(name: &str) -> String {
    let script = format!(
        "mount --bind /run/systemd/resolve/stub-resolv.conf /etc/resolv.conf\ngetent ahostsv4 {name}\n"
    );
    fs::write("/run/by-library", script).unwrap();
    let out = Node.command("unshare --mount sh -e /run/by-library").output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    text.split_whitespace().next().unwrap_or("nothing").to_owned()
}

#[test]
fn a_program_of_the_node_finds_a_pod_and_the_uplink_hears_nothing_of_it() {
    with_resolved(|| {
        let uplink = Uplink::new(1, Manner::World);
        let host = host(&format!("DNS={}\n", uplink.address()));
        let network = "--subnet 10.38.0.0/16 --dns 169.254.0.2";
        host.installed(network);
        let (_netns, address) = pod(&host);
        let resolved = Resolved::start(&host);
        let _role = Role::start(&[]);
        assert_ne!(asked("web.default.svc.cluster.local"), address, "nobody has told it");

        let out = host.installed(&format!("{network} --host-dns"));
        assert!(out.stdout.contains("systemctl reload systemd-resolved"), "{out}");
        resolved.reload();
        eventually("it has read the file", PATIENCE, || asked("web.default.svc.cluster.local") == address);
        assert_eq!(by_library("web.default.svc.cluster.local"), address);
        for (words, expected) in [
            ("web.cluster.local", address.as_str()),
            ("+dnssec WeB.Default.svc.Cluster.Local", address.as_str()),
            ("web.default.svc.cluster.local AAAA", "NOERROR"),
            ("web.default.svc.cluster.local DS", "NOERROR"),
            ("web.default.svc.cluster.local HTTPS", "NOERROR"),
            ("default.svc.cluster.local", "NOERROR"),
            ("nosuch.default.svc.cluster.local", "NXDOMAIN"),
            ("_http._tcp.web.default.svc.cluster.local SRV", "NXDOMAIN"),
            ("www.example.test", "198.51.1.2"),
        ] {
            assert_eq!(asked(words), expected, "{words}");
        }
        assert!(dig(&Node, &format!("@{STUB} cluster.local SOA")).contains("status: NOERROR"));
        assert!(!uplink_heard_of_pods(&uplink));
        let upstreams = fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap();
        assert!(upstreams.contains("nameserver 198.51.1.2") && !upstreams.contains("169.254"), "{upstreams}");
        assert!(
            !upstreams.lines().any(|line| line.starts_with("search") && line.contains("cluster")),
            "{upstreams}"
        );

        host.installed(network);
        resolved.reload();
        eventually("it has forgotten", PATIENCE, || asked("web.default.svc.cluster.local") != address);
        assert!(!uplink_heard_of_pods(&uplink));
    });
}

/// It asks for signatures, and finds out that there are none.
fn found_by_one_that_wants_signatures(manner: &str, domain: &str) {
    with_resolved(|| {
        let uplink = Uplink::new(1, Manner::World);
        let host = host(&format!("DNS={}\nDNSSEC={manner}\n", uplink.address()));
        host.installed(&format!("--subnet 10.38.0.0/16 --dns 169.254.0.2 --host-dns {domain}"));
        let (_netns, address) = pod(&host);
        let _role = Role::start(&[("domain", domain)]);
        let _resolved = Resolved::start(&host);
        for name in ["web.default.svc", "web.default.pod", "web"] {
            assert_eq!(asked(&format!("+dnssec {name}.{domain}")), address, "{name}");
        }
        assert_eq!(asked(&format!("nosuch.default.svc.{domain}")), "NXDOMAIN");
        assert!(!uplink_heard_of_pods(&uplink));
    });
}

#[test]
fn one_that_insists_on_signatures_finds_a_pod() {
    found_by_one_that_wants_signatures("yes", "cluster.local");
}

#[test]
fn one_that_looks_for_signatures_finds_a_pod_of_another_domain() {
    found_by_one_that_wants_signatures("allow-downgrade", "edge.internal");
}

/// As a router has it: it drops answers with private addresses, and takes whatever address it can get.
#[test]
fn dnsmasq_starts_beside_the_name_server_and_finds_the_pod() {
    sandboxed_daemons(|| {
        let uplink = Uplink::new(1, Manner::World);
        let host = Host::new();
        fs::create_dir_all(host.path("etc/dnsmasq.d")).unwrap();
        host.write("etc/resolv.conf", "nameserver 127.0.0.1\n");
        let own = format!(
            "conf-dir={}\nbind-dynamic\nstop-dns-rebind\nno-resolv\nno-hosts\nserver={}\n",
            host.path("etc/dnsmasq.d").display(),
            uplink.address()
        );
        // The host's own path is what the installer reads.
        host.write("etc/dnsmasq.conf", own.replace("conf-dir=/mnt/host", "conf-dir="));
        fs::write("/run/dnsmasq.conf", own).unwrap();
        let out = host.installed("--subnet 10.38.0.0/16 --dns 169.254.0.2 --host-dns");
        assert!(out.stdout.contains("systemctl restart dnsmasq"), "{out}");
        let (_netns, address) = pod(&host);
        let _role = Role::start(&[]);
        let mut command =
            Node.command("dnsmasq --keep-in-foreground --conf-file=/run/dnsmasq.conf --user=root --pid-file");
        let mut dnsmasq = command.stderr(Stdio::piped()).spawn().expect("dnsmasq, from dnsmasq-base");
        let asked = |words: &str| answer(&Node, &format!("@127.0.0.1 {words}"));
        eventually("dnsmasq answers", PATIENCE, || {
            assert!(dnsmasq.try_wait().unwrap().is_none(), "dnsmasq ended");
            asked("web.default.svc.cluster.local") == address
        });
        assert_eq!(asked("nosuch.default.svc.cluster.local"), "NXDOMAIN");
        assert_eq!(asked("www.example.test"), "198.51.1.2");
        assert!(!uplink_heard_of_pods(&uplink));
        dnsmasq.kill().unwrap();
        dnsmasq.wait().unwrap();
    });
}
