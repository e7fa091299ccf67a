//! "Tried as a new user": the printed words are typed as they are, and the node is well again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::node::{BIN, Kind, Lab, sh, write};
use super::{Diagnosis, diagnose, doctor};
use crate::flow::Flow;
use crate::lab;
use crate::sandbox::sandboxed;

/// Programs whose line changes something. What shows something, or has to be installed first, is for a person.
const MENDING: [&str; 19] = [
    "smarter-cni",
    "ip",
    "bridge",
    "nsenter",
    "sysctl",
    "echo",
    "printf",
    "mv",
    "rm",
    "chmod",
    "mount",
    "mkdir",
    "setsid",
    "ln",
    "nft",
    "iptables-nft",
    "ip6tables-nft",
    "ebtables-nft",
    "iptables-legacy",
];

/// The first line of a fix, if it can be typed here. An installation would need its options.
fn command(fix: &str) -> Option<&str> {
    let line = fix.lines().next()?;
    let program = line.split(' ').next()?;
    let mends = MENDING.contains(&program)
        && !line.starts_with("smarter-cni install")
        && !["ip route show", "ip -6 route show", "nft -a list", "nft list"]
            .iter()
            .any(|shows| line.starts_with(shows));
    mends.then_some(line)
}

fn commands(diagnosis: &Diagnosis) -> Vec<String> {
    let rows = diagnosis.rows("problem");
    let mut commands: Vec<_> =
        rows.filter_map(|row| command(row["fix"].as_str().unwrap())).map(str::to_owned).collect();
    commands.dedup();
    commands
}

fn type_in(line: &str) {
    let bin = lab::binary();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.parent().unwrap().display());
    let out = Command::new("sh").args(["-c", line]).env("PATH", path).output().unwrap();
    assert!(out.status.success(), "`{line}`: {}", String::from_utf8_lossy(&out.stderr));
}

/// Types whatever can be typed, looks again, and after a few rounds nothing is left of that.
pub(super) fn follow(options: &str) {
    let mut diagnosis = diagnose(options);
    for _ in 0..3 {
        for line in commands(&diagnosis) {
            type_in(&line);
        }
        diagnosis = diagnose(options);
    }
    assert_eq!(commands(&diagnosis), Vec::<String>::new(), "typed in vain:\n{}", diagnosis.words());
}

/// From the text that a person reads, not from JSON.
fn read_and_type() {
    let text = String::from_utf8(doctor("").stdout).unwrap();
    let lines: Vec<_> = text.lines().filter_map(|line| line.trim_start().strip_prefix("fix:   ")).collect();
    assert!(!lines.is_empty(), "nothing is printed to type:\n{text}");
    let mut typed = Vec::new();
    for line in lines {
        // The same command repairs several things.
        if !typed.contains(&line) {
            let line = command(line).unwrap_or_else(|| panic!("nobody can type this: {line}\n{text}"));
            type_in(line);
            typed.push(line);
        }
    }
}

/// Three things at once that reconcile repairs and one that it leaves, with connections that go on.
fn tried(break_it: impl Fn(&Lab)) {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 3);
        let at = format!("{}:7000", lab.pods[1].address).parse().unwrap();
        let flow = Flow::tcp(&lab.pods[0].netns, at, &lab.pods[1].netns, at);
        break_it(&lab);
        assert!(diagnose("").problems().len() > 3);
        read_and_type();
        // Without the spanning tree a port still waits until its time is over: who looks again is told so.
        if diagnose("--strict").status != 0 {
            read_and_type();
        }
        let healthy = diagnose("--strict");
        assert_eq!(healthy.status, 0, "{}", healthy.words());
        flow.assert_alive("after the printed words were typed");
    });
}

#[test]
fn flushed_rules_no_forwarding_a_port_that_was_taken_and_a_network_that_comes_first() {
    tried(|lab| {
        sh("nft flush ruleset; sysctl -qw net.ipv4.ip_forward=0");
        sh(&format!("ip link set {0} nomaster; ip addr add 169.254.7.8/16 dev {0}", lab.port(0)));
        write("/etc/cni/net.d/0-other.conflist", r#"{"name":"other","plugins":[{"type":"loopback"}]}"#);
    });
}

#[test]
fn no_bridge_no_leases_a_pod_without_address_and_a_plugin_that_cannot_be_executed() {
    tried(|lab| {
        sh("ip link del smartnet0; rm -rf /run/cni/networks/smartnet");
        sh(&format!("ip -n {} addr flush dev eth0", lab.pods[2].netns.name()));
        let path = format!("{BIN}/smarter-portmap");
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    });
}

#[test]
fn a_bridge_that_is_down_a_deleted_pair_a_host_port_that_leads_elsewhere_and_a_spanning_tree() {
    tried(|lab| {
        sh(&format!("ip link set smartnet0 type bridge stp_state 1; ip link del {}", lab.port(2)));
        sh("nft delete element ip smarter-cni hostports '{ tcp . 8081 }'
            nft add element ip smarter-cni hostports '{ tcp . 8081 comment \"default/old deadbeef\" : 10.7.0.77 . 80 }'
            nft flush chain ip smarter-cni egress; ip link set smartnet0 down");
    });
}
