//! The resident program: repairs, ends when told, and does nothing in between.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use super::host::{BIN, CONF, CONFLIST, Host, another_build, works};
use crate::lab::{self, Node, Place, eventually, files};
use crate::sandbox::sandboxed;

const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Watch {
    child: Child,
    said: Arc<Mutex<String>>,
    listener: thread::JoinHandle<()>,
}

impl Watch {
    pub(super) fn start(host: &Host) -> Self {
        Self::run(&mut host.command(&lab::binary(), "install"), &host.path(CONFLIST))
    }

    /// `install` with everything but `--watch`; the file is the last that it installs.
    pub(crate) fn run(command: &mut Command, last: &Path) -> Self {
        let command = command.arg("--watch").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("watch");
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let said = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&said);
        let listener = thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                shared.lock().expect("no panic there").extend([line.as_str(), "\n"]);
            }
        });
        eventually("the first installation", PATIENCE, || last.exists());
        let watch = Self { child, said, listener };
        eventually("it waits", PATIENCE, || watch.waits());
        watch
    }

    /// It sleeps, and no look of its runs.
    fn waits(&self) -> bool {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        // poll, after the first installation.
        self.status("State").starts_with('S') && children.is_empty() && self.wakes() > 1
    }

    fn wakes(&self) -> u64 {
        self.status("voluntary_ctxt_switches").parse().unwrap_or(0)
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it said so far on standard error.
    pub(super) fn said(&self) -> String {
        self.said.lock().expect("no panic there").clone()
    }

    /// The n-th number of `/proc/<pid>/stat`, as proc(5) counts them.
    pub(super) fn stat(&self, number: usize) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let behind_name = text.rsplit_once(')').expect("a name").1;
        behind_name.split_whitespace().nth(number - 3).and_then(|n| n.parse().ok()).expect("a number")
    }

    /// A number that grows with every look that has ended: page faults of its children.
    pub(super) fn looks(&self) -> u64 {
        self.stat(11)
    }

    pub(super) fn status(&self, key: &str) -> String {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:"))).unwrap_or_default();
        line.trim().to_owned()
    }

    /// Exit code, and what it said on standard error.
    pub(crate) fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
        let mut status = None;
        eventually("it ends", Duration::from_secs(5), || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        self.listener.join().expect("it listens to the end");
        let said = self.said.lock().expect("no panic there").clone();
        (status.and_then(|status| status.code()), said)
    }
}

#[test]
fn what_gets_lost_comes_back_and_is_said_once() {
    sandboxed(|| {
        let host = Host::new();
        let watch = Watch::start(&host);
        let program = host.path(BIN).join("smarter-cni");
        let whole = fs::read(&program).unwrap();
        fs::write(&program, "").unwrap();
        eventually("the program is whole", PATIENCE, || fs::read(&program).is_ok_and(|bytes| bytes == whole));
        fs::remove_file(host.path(BIN).join("smarter-ipam")).unwrap();
        eventually("the name is back", PATIENCE, || host.path(BIN).join("smarter-ipam").exists());
        host.write(CONFLIST, "");
        eventually("the configuration is back", PATIENCE, || !host.read(CONFLIST).is_empty());
        // Both directories go, and others come in their place.
        for (sub, back) in [(BIN, "opt/cni/bin/portmap"), (CONF, CONFLIST)] {
            fs::remove_dir_all(host.path(sub)).unwrap();
            eventually(sub, PATIENCE, || host.path(back).exists());
            fs::remove_file(host.path(back)).unwrap();
            eventually("the new directory is watched", PATIENCE, || host.path(back).exists());
        }
        eventually("everything is back", PATIENCE, || files(host.path(BIN)).len() == 7);
        let (code, said) = watch.end("-TERM");
        assert_eq!(code, Some(0), "{said}");
        works(&host).expect("everything stays in place");
        let repairs = |what: &str| said.lines().filter(|line| line.starts_with(what)).count();
        assert_eq!(repairs("repaired link /opt/cni/bin/smarter-ipam to"), 2, "{said}");
        assert_eq!(repairs("repaired place /opt/cni/bin/smarter-cni"), 2, "{said}");
    });
}

#[test]
fn it_ends_on_both_signals_and_leaves_everything() {
    sandboxed(|| {
        let host = Host::new();
        for signal in ["-TERM", "-INT"] {
            let watch = Watch::start(&host);
            let before = host.identities();
            let (code, said) = watch.end(signal);
            assert_eq!((code, said.as_str()), (Some(0), ""), "{signal}");
            assert_eq!(host.identities(), before, "{signal}");
        }
    });
}

#[test]
fn a_hangup_is_no_reason_to_end() {
    sandboxed(|| {
        let host = Host::new();
        let watch = Watch::start(&host);
        for _ in 0..3 {
            Node.run(&format!("kill -HUP {}", watch.id()));
            thread::sleep(Duration::from_millis(200));
        }
        fs::remove_file(host.path(BIN).join("portmap")).unwrap();
        eventually("it repairs", PATIENCE, || host.path(BIN).join("portmap").exists());
        assert_eq!(watch.end("-TERM").0, Some(0));
    });
}

/// With so few open files nothing can be looked at: that is said, and it stays.
#[test]
fn who_cannot_repair_says_so() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        let mut command = Command::new("prlimit");
        command.arg("--nofile=8").arg(lab::binary()).args(["install", "--root"]).arg(&host.root);
        let watch = Watch::run(&mut command, &host.path(CONFLIST));
        eventually("it says so", PATIENCE, || watch.said().contains("LimitNOFILE"));
        let (code, said) = watch.end("-TERM");
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("it needs more open files (LimitNOFILE, ulimit -n)"), "{said}");
    });
}

#[test]
fn idle_it_does_nothing_at_all() {
    sandboxed(|| {
        let host = Host::new();
        let watch = Watch::start(&host);
        let pid = watch.child.id().to_string();
        let switches =
            || (watch.status("voluntary_ctxt_switches"), watch.status("nonvoluntary_ctxt_switches"));
        let io = || fs::read_to_string(format!("/proc/{pid}/io")).expect("it runs");
        // What its own first writes wake up.
        thread::sleep(Duration::from_secs(1));
        let before = (switches(), io(), host.identities());
        thread::sleep(Duration::from_secs(4));
        assert_eq!((switches(), io(), host.identities()), before);
        let resident = watch.status("VmRSS");
        eprintln!("resident: {resident}, peak: {}", watch.status("VmHWM"));
        watch.end("-TERM");
    });
}

#[test]
fn another_builds_installation_is_left_to_it() {
    sandboxed(|| {
        let host = Host::new();
        let watch = Watch::start(&host);
        let new = another_build(&lab::binary(), &host.path("tmp"));
        let out = host.install_by(&new, "--subnet 10.38.0.0/16");
        assert_eq!(out.status, 0, "{out}");
        let list = host.read(CONFLIST);
        // Something to look at for the older one.
        fs::remove_file(host.path(BIN).join("portmap")).unwrap();
        thread::sleep(Duration::from_secs(2));
        assert!(fs::read(host.path(BIN).join("smarter-cni")).unwrap() == fs::read(&new).unwrap());
        assert_eq!(host.read(CONFLIST), list);
        assert!(!host.path(BIN).join("portmap").exists(), "it is the other one's to repair");
        let (code, said) = watch.end("-TERM");
        assert_eq!(code, Some(0));
        assert_eq!(said.matches("was installed meanwhile: its plugins are left to it").count(), 1, "{said}");
    });
}

/// The range of the network came into use elsewhere, say by DHCP, and then the container or the node starts again.
#[test]
fn what_comes_into_the_way_of_an_installed_network_is_said_and_no_reason_to_end() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        Node.run("ip link add lan0 type veth peer name lan1");
        Node.run("ip addr add 172.38.4.4/24 dev lan0");
        let watch = Watch::start(&host);
        fs::remove_file(host.path(BIN).join("portmap")).unwrap();
        eventually("it repairs", PATIENCE, || host.path(BIN).join("portmap").exists());
        let (code, said) = watch.end("-TERM");
        assert_eq!(code, Some(0), "{said}");
        let overlap = "trouble  172.38.0.0/16 overlaps with the network 172.38.4.0/24 of interface lan0";
        assert_eq!(said.matches(overlap).count(), 1, "{said}");
    });
}

/// The first installation of an installed node that is refused: somebody else's file came in front while nobody looked.
#[test]
fn an_installed_node_is_watched_whatever_the_first_look_says() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        let foreign = r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}"#;
        host.write("etc/cni/net.d/0-a.conflist", foreign);
        let watch = Watch::start(&host);
        fs::remove_file(host.path("etc/cni/net.d/0-a.conflist")).unwrap();
        host.write(CONFLIST, "");
        eventually("it goes on", PATIENCE, || !host.read(CONFLIST).is_empty());
        let (code, said) = watch.end("-TERM");
        assert_eq!(code, Some(0), "{said}");
    });
}

#[test]
fn trouble_is_said_once_and_is_no_reason_to_end() {
    sandboxed(|| {
        let host = Host::new();
        let watch = Watch::start(&host);
        let foreign = r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}"#;
        host.write("etc/cni/net.d/0-a.conflist", foreign);
        thread::sleep(Duration::from_secs(1));
        host.write("etc/cni/net.d/0-a.conflist", foreign);
        thread::sleep(Duration::from_secs(1));
        fs::remove_file(host.path("etc/cni/net.d/0-a.conflist")).unwrap();
        host.write(CONFLIST, "");
        eventually("it goes on", PATIENCE, || !host.read(CONFLIST).is_empty());
        let (code, said) = watch.end("-TERM");
        assert_eq!(code, Some(0));
        assert_eq!(said.matches("comes before 0-smarter-bridge.conflist").count(), 1, "{said}");
    });
}
