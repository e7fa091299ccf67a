//! A node with a real containerd, from before the installation through everything that can go wrong between the runtime and
//! us: each fault is named by one id, and the fix that is printed heals it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::healthy::files;
use super::{diagnose, doctor};
use crate::containerd::{Containerd, Release, on_each};
use crate::cri::{Pod, Sandbox};
use crate::deployment::{as_a_node, stripped};
use crate::lab::{self, Node, Place, eventually};

on_each!(every_fault_between_the_runtime_and_us_has_one_name_and_a_fix_that_heals_it);

const PATIENCE: Duration = Duration::from_secs(20);
const NETWORKS: &str = "/etc/cni/net.d";
const CONFLIST: &str = "/etc/cni/net.d/0-smarter-bridge.conflist";
const PROGRAM: &str = "/opt/cni/bin/smarter-cni";
const CONFIG: &str = "/etc/containerd/config.toml";
/// As the fixes have them.
const INSTALL: &str = "smarter-cni install";
const RESTART: &str = "systemctl restart containerd";
/// Where a shell finds the program.
const TYPED: &str = "/mnt/typed";

struct RuntimeNode {
    containerd: Containerd,
    program: PathBuf,
    _world: lab::Netns,
}

/// The line of a fix that is typed: the first.
fn typed(fix: &str) -> &str {
    fix.lines().next().unwrap_or_default()
}

impl RuntimeNode {
    fn new(release: Release) -> Self {
        as_a_node();
        let world = lab::world();
        let containerd = Containerd::start_on_bare_node(release);
        let program = stripped(&lab::binary());
        fs::create_dir(TYPED).unwrap();
        symlink(&program, Path::new(TYPED).join("smarter-cni")).unwrap();
        Self { containerd, program, _world: world }
    }

    /// The first installation has a setting: the default range is public.
    fn install(&self) {
        let said = Node.run(&format!("{} install --subnet 10.38.0.0/16", self.program.display()));
        assert!(said.contains("installed: network smartnet"), "{said}");
    }

    /// Types what is printed. There is no systemd here, so its part is done for it.
    fn heal(&mut self, fix: &str) {
        let line = typed(fix);
        if line == RESTART {
            self.containerd.kill();
            return self.containerd.start_again();
        }
        let path = format!("{TYPED}:/usr/sbin:/usr/bin:/sbin:/bin");
        let out = Command::new("sh").args(["-c", line]).env("PATH", path).output().unwrap();
        assert!(out.status.success(), "`{line}`: {out:?}");
    }

    fn run_pod(&self, name: &str) -> Sandbox {
        eventually("containerd has the network", PATIENCE, || self.containerd.cri.ready());
        self.containerd.run_pod(&Pod::new(name))
    }
}

/// Exactly this is found. Returns the fix.
#[track_caller]
fn names(id: &str, object: &str) -> String {
    let sick = diagnose("");
    assert_eq!(sick.problems(), [(id.to_owned(), object.to_owned())].into(), "\n{}", sick.words());
    assert_eq!(sick.rows("unknown").count(), 0, "\n{}", sick.words());
    let row = sick.rows("problem").next().unwrap();
    let fix = row["fix"].as_str().unwrap().to_owned();
    eprintln!("{id}: {}\n  fix: {fix}", row["found"].as_str().unwrap());
    fix
}

/// Nothing is found, by person or machine, and everything stays as it is.
#[track_caller]
fn is_healthy() {
    let before = snapshot();
    let healthy = diagnose("--strict");
    let strange = healthy.problems().len() + healthy.rows("unknown").count();
    assert_eq!((strange, healthy.status), (0, 0), "\n{}", healthy.words());
    let text = String::from_utf8(doctor("--strict").stdout).unwrap();
    assert!(text.starts_with("✓ ") && text.lines().count() == 1, "{text}");
    assert_eq!(snapshot(), before);
}

fn snapshot() -> String {
    let mut all = String::new();
    for directory in
        ["/etc/cni", "/etc/containerd", "/var/lib/cni", "/var/lib/smarter-cni", "/run/smarter-cni"]
    {
        if Path::new(directory).exists() {
            files(Path::new(directory), &mut all);
        }
    }
    all
}

fn every_fault_between_the_runtime_and_us_has_one_name_and_a_fix_that_heals_it(release: Release) {
    let mut node = RuntimeNode::new(release);
    let fix = names("conflist-missing", &format!("directory {NETWORKS}"));
    assert!(fix.starts_with("smarter-cni install\nwith --subnet"), "{fix}");
    node.install();
    let pods = ["one", "two"].map(|name| node.run_pod(name));
    is_healthy();

    directory_made_anew(&mut node);
    containerd_stopped(&mut node);
    configuration_at_fault(&mut node);
    other_directories(&mut node);
    damaged_result(&mut node, &pods[0]);
    program_cut_short(&mut node);
    unseen_without_rights(&node);

    for pod in &pods {
        node.containerd.remove_pod(pod);
    }
    is_healthy();
}

/// containerd 1.6 watches the directory that was there before; containerd 2 ends, and systemd starts it again.
fn directory_made_anew(node: &mut RuntimeNode) {
    let list = fs::read(CONFLIST).unwrap();
    fs::remove_dir_all(NETWORKS).unwrap();
    if node.containerd.release.is_2() {
        eventually("containerd ends", PATIENCE, || node.containerd.has_ended());
        let sick = diagnose("").problems();
        let ids: Vec<_> = sick.iter().map(|(id, _)| id.as_str()).collect();
        assert_eq!(ids, ["conflist-missing", "runtime-socket"]);
        node.heal(RESTART);
        names("conflist-missing", &format!("directory {NETWORKS}"));
        node.heal(INSTALL);
    } else {
        eventually("containerd has lost the network", PATIENCE, || !node.containerd.cri.ready());
        names("conflist-missing", &format!("directory {NETWORKS}"));
        fs::create_dir(NETWORKS).unwrap();
        fs::write(CONFLIST, list).unwrap();
        let fix = names("runtime-network", "runtime containerd");
        assert_eq!(fix, RESTART);
        node.heal(&fix);
    }
    is_healthy();
}

fn containerd_stopped(node: &mut RuntimeNode) {
    node.containerd.kill();
    let fix = names("runtime-socket", "runtime containerd");
    assert_eq!(typed(&fix), RESTART);
    node.heal(&fix);
    is_healthy();
}

/// Then containerd has not loaded our network either, which is nothing to say once more.
fn configuration_at_fault(node: &mut RuntimeNode) {
    let list = fs::read(CONFLIST).unwrap();
    fs::write(CONFLIST, &list[..list.len() / 2]).unwrap();
    eventually("containerd has lost the network", PATIENCE, || !node.containerd.cri.ready());
    let fix = names("conflist-invalid", &format!("file {CONFLIST}"));
    assert_eq!(fix, INSTALL);
    node.heal(&fix);
    eventually("containerd has the network", PATIENCE, || node.containerd.cri.ready());
    is_healthy();

    let other = "/etc/cni/net.d/0-other.conflist";
    fs::write(other, r#"{"cniVersion":"1.0.0","name":"other","plugins":[{"type":"loopback"}]}"#).unwrap();
    let fix = names("conflist-not-first", &format!("file {other}"));
    assert_eq!(typed(&fix), format!("mv {other} {other}.disabled"));
    node.heal(&fix);
    is_healthy();
}

/// The configuration is changed first, and containerd is restarted later.
fn other_directories(node: &mut RuntimeNode) {
    let config = fs::read_to_string(CONFIG).unwrap();
    let format = node.containerd.release.format();
    let (table, bin_dir) = (format.cni(), format.bin_dir(Path::new("/opt/elsewhere/bin")));
    fs::write(CONFIG, format!("{config}{table}{bin_dir}conf_dir = \"/etc/elsewhere/net.d\"\n")).unwrap();
    assert_eq!(names("runtime-directories", "runtime containerd"), INSTALL);
    node.heal(RESTART);
    assert_eq!(names("runtime-directories", "runtime containerd"), INSTALL);
    node.heal(INSTALL);
    let pod = node.run_pod("elsewhere");
    is_healthy();
    node.containerd.remove_pod(&pod);

    // Back again, and containerd is not told.
    fs::remove_dir_all("/etc/cni").unwrap();
    let known = fs::read_to_string("/var/lib/smarter-cni/install.json").unwrap();
    let forgotten =
        known.replace("/etc/cni/net.d/", "/etc/nowhere/").replace("/opt/cni/bin/", "/opt/nowhere/");
    fs::write("/var/lib/smarter-cni/install.json", forgotten).unwrap();
    fs::write(CONFIG, &config).unwrap();
    assert_eq!(names("runtime-directories", "runtime containerd"), INSTALL);
    node.heal(INSTALL);
    node.heal(RESTART);
    is_healthy();
}

fn damaged_result(node: &mut RuntimeNode, pod: &Sandbox) {
    let path = format!("/var/lib/cni/results/smartnet-{}-eth0", pod.id);
    assert!(fs::metadata(&path).unwrap().len() > 0, "libcni has written it");
    fs::write(&path, "").unwrap();
    let fix = names("cache-damaged", &format!("file {path}"));
    node.heal(&fix);
    is_healthy();
}

fn program_cut_short(node: &mut RuntimeNode) {
    Node.run(&format!("truncate -s 5000 {PROGRAM}"));
    assert_eq!(names("plugin-damaged", &format!("file {PROGRAM}")), INSTALL);
    node.heal(INSTALL);
    is_healthy();
}

/// A socket that may not be opened tells nothing of whoever listens there.
fn unseen_without_rights(node: &RuntimeNode) {
    let program = node.program.display();
    let out = Node
        .command(&format!(
            "setpriv --reuid 65534 --regid 65534 --clear-groups {program} doctor --json --only runtime"
        ))
        .output()
        .unwrap();
    let json: serde_json::Value =
        serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"));
    let rows = json["findings"].as_array().unwrap();
    let status = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap()["status"].clone();
    for id in ["runtime-socket", "runtime-ready", "runtime-network"] {
        assert_eq!(status(id), "unknown", "{json:#}");
    }
    assert!(rows.iter().all(|row| row["status"] != "problem"), "{json:#}");
}
