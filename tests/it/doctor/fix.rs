//! `doctor --fix`: the plan first, then the repair, then another look; and nothing beside it.

use std::fmt::Write as _;

use serde_json::json;

use super::node::{Kind, Lab, sh, write};
use super::{diagnose, doctor};
use crate::flow::Flow;
use crate::lab::{self, Node, Place};
use crate::sandbox::sandboxed;

fn text(options: &str) -> (String, String, Option<i32>) {
    let out = doctor(options);
    (String::from_utf8(out.stdout).unwrap(), String::from_utf8(out.stderr).unwrap(), out.status.code())
}

/// Where each of the words stands, one behind the other.
fn assert_in_order(text: &str, words: &[&str]) {
    let mut from = 0;
    for word in words {
        let at =
            text[from..].find(word).unwrap_or_else(|| panic!("{word:?} is not where it should be:\n{text}"));
        from += at + word.len();
    }
}

#[test]
fn a_person_sees_the_plan_what_was_made_of_it_and_what_is_left() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 2);
        let outside = std::net::SocketAddr::new(lab.pods[1].address.parse().unwrap(), 7000);
        let flow = Flow::tcp(&lab.pods[0].netns, outside, &lab.pods[1].netns, outside);
        sh(&format!("nft delete table ip smarter-cni; ip link set {} nomaster", lab.port(0)));
        write("/etc/cni/net.d/0-other.conflist", r#"{"name":"other","plugins":[{"type":"loopback"}]}"#);
        let (said, errors, status) = text("--fix");
        assert_eq!((status, errors.as_str()), (Some(1), ""), "{said}");
        assert_in_order(
            &said,
            &[
                "table-missing",
                "pod-port-detached",
                "fix:   smarter-cni reconcile\n",
                "conflist-not-first",
                "3 things are broken",
                "\nplan\n",
                &format!("node: ip link set {} master smartnet0", lab.port(0)),
                "steps to make; nothing was changed\n",
                "steps made\n",
                "\nafterwards\n",
                "conflist-not-first",
                "1 thing is broken",
                "repaired: 2 of 3\n",
                "left to you: conflist-not-first (file /etc/cni/net.d/0-other.conflist); ",
            ],
        );
        assert_eq!(
            said.matches("ip link set").count(),
            1,
            "a step that was planned is not listed again: {said}"
        );
        flow.assert_alive("after --fix");
        let (said, _, status) = text("--fix");
        assert_eq!(status, Some(1));
        assert_in_order(
            &said,
            &["\nplan\nreconcile: 2 attachments, nothing to do\n", "repaired: 0 of 1\n", "left to you"],
        );
        assert!(!said.contains("afterwards"), "nothing was done: {said}");
        sh("rm /etc/cni/net.d/0-other.conflist");
        assert_eq!(diagnose("--strict").status, 0);
        let (said, _, status) = text("--fix --strict");
        assert_eq!(status, Some(0));
        assert!(said.ends_with("nothing to do\n\nnothing was wrong\n"), "{said}");
    });
}

#[test]
fn a_machine_gets_what_was_what_was_done_and_what_is() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        sh("sysctl -qw net.ipv4.ip_forward=0");
        let fixed = diagnose("--fix --strict");
        assert_eq!((fixed.status, fixed.problems().len()), (0, 0), "{}", fixed.words());
        assert_eq!(fixed.json["before"][0]["id"], "forwarding");
        assert_eq!(fixed.json["repair"]["dry_run"], false);
        assert_eq!(
            fixed.json["repair"]["changes"][0]["steps"],
            json!(["node: sysctl -w net.ipv4.ip_forward=1"])
        );
        let log = std::fs::read_to_string("/run/smarter-cni/log").unwrap();
        let line: serde_json::Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
        assert_eq!((&line["verb"], &line["result"]), (&json!("doctor --fix"), &json!("ok")));
        let made = line["changes"].as_array().unwrap();
        assert!(made.iter().all(|step| step.as_str().unwrap().ends_with("net.ipv4.ip_forward=1")), "{line}");
        let idle = diagnose("--fix");
        assert_eq!((&idle.json["before"], &idle.json["repair"]["changes"]), (&json!([]), &json!([])));
        drop(lab);
    });
}

/// Links, rules, switches and files that are not ours.
fn others() -> String {
    let mut all = String::new();
    for command in [
        "ip -o link show up0",
        "ip -o addr show dev up0",
        "ip -o link show other0",
        "ip route show",
        "ip rule show",
        "nft list table inet other",
        "sysctl -a -r ^net\\.(ipv4|ipv6|bridge)",
        "find /etc /opt /var/lib -printf %p:%m:%s:%T@:%l\\n",
    ] {
        for line in Node.run(command).lines().filter(|line| !line.contains("expires")) {
            writeln!(all, "{line}").unwrap();
        }
    }
    all
}

#[test]
fn nothing_else_of_the_host_is_changed() {
    sandboxed(|| {
        let lab = Lab::new(&Kind { dual: true, ..Kind::default() }, 2);
        sh("ip link add other0 type bridge; ip addr add 10.99.0.1/24 dev other0; ip link set other0 up
            nft 'table inet other { chain input { type filter hook input priority 0; tcp dport 23 drop; }; }'");
        write("/etc/sysctl.d/99-hardening.conf", "net.ipv4.ip_forward = 0\n");
        let before = others();
        sh(&format!(
            "nft delete table ip smarter-cni; sysctl -qw net.ipv4.ip_forward=0; ip link set {} down",
            lab.port(0)
        ));
        let fixed = diagnose("--fix");
        // A file that will switch it off again is a person's.
        assert_eq!(
            fixed.problems(),
            [("forwarding-reset".to_owned(), "file /etc/sysctl.d/99-hardening.conf".to_owned())].into()
        );
        let after = others();
        let differs = before.lines().zip(after.lines()).find(|(one, other)| one != other);
        assert_eq!((differs, before.lines().count()), (None, after.lines().count()));
    });
}

#[test]
fn where_it_cannot_repair_it_says_why_and_changes_nothing() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        sh("sysctl -qw net.ipv4.ip_forward=0; mkdir /opt/host; mount --rbind / /opt/host");
        let (_, errors, status) = text("--fix --root /opt/host");
        assert_eq!(status, Some(2));
        assert!(
            errors.contains("cannot do that below /opt/host. On the node, as root: smarter-cni doctor --fix"),
            "{errors}"
        );
        for wrong in ["--fix --only forwarding", "--fix --bundle /run/x.tar", "--fix --list"] {
            assert_eq!(text(wrong).2, Some(2), "{wrong}");
        }
        // Nobody has seen the plan.
        let line = format!("{} doctor --fix > /dev/full", lab::binary().display());
        let out = std::process::Command::new("sh").args(["-c", &line]).output().unwrap();
        let errors = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2));
        assert!(
            errors.contains("nothing was repaired, because the plan could not be shown: No space left"),
            "{errors}"
        );
        assert_eq!(Node.run("sysctl -n net.ipv4.ip_forward").trim(), "0", "nothing was changed");
        // Checks that are left out do not count, and are repaired all the same.
        let fixed = diagnose("--fix --skip forwarding");
        assert_eq!((fixed.status, &fixed.json["before"]), (0, &json!([])));
        assert_eq!(Node.run("sysctl -n net.ipv4.ip_forward").trim(), "1");
        drop(lab);
    });
}

#[test]
fn what_could_not_be_made_is_named_and_the_rest_is_made() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 2);
        sh("nft delete table ip smarter-cni; sysctl -qw net.ipv4.ip_forward=0
            mount --bind /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_forward
            mount -o remount,bind,ro /proc/sys/net/ipv4/ip_forward");
        let (said, _, status) = text("--fix");
        assert_eq!(status, Some(1), "{said}");
        assert_in_order(
            &said,
            &[
                "\nplan\n",
                "FAILED ",
                "sysctl",
                "ead-only file system",
                "afterwards",
                "left to you: forwarding (",
            ],
        );
        drop(lab);
    });
}
