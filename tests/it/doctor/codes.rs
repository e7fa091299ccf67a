//! Exit codes: what is broken, what is fine, and what nobody has seen.

use std::collections::BTreeSet;
use std::fs;
use std::process::Output;

use super::node::{Kind, Lab, sh, write};
use super::{diagnose, doctor};
use crate::lab::{self, Node, Place};
use crate::sandbox::{sandboxed, sandboxed_daemons};

fn command(line: &str) -> (Option<i32>, String) {
    let Output { status, stdout, mut stderr } = Node.command(line).output().unwrap();
    stderr.extend(stdout);
    (status.code(), String::from_utf8(stderr).unwrap())
}

fn ours(words: &str) -> (Option<i32>, String) {
    command(&format!("{} {words}", lab::binary().display()))
}

/// Every ADD fails, and everything that looks at pods is blind because of it.
#[test]
fn a_file_in_place_of_a_directory_is_a_problem() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        for (place, named) in [
            ("/run/smarter-cni", "directory /run/smarter-cni"),
            ("/run/smarter-cni/attachments", "directory /run/smarter-cni/attachments"),
        ] {
            sh(&format!("mv {place} /run/aside; touch {place}"));
            let sick = diagnose("");
            assert_eq!(sick.status, 1, "{}", sick.words());
            let problem = ("directory".to_owned(), named.to_owned());
            assert!(sick.problems().contains(&problem), "{}", sick.words());
            for words in ["status", "status --json", "reconcile", "reconcile --dry-run"] {
                let (code, said) = ours(words);
                assert_eq!(code, Some(1), "{words}: {said}");
                assert!(said.contains("smarter-cni doctor says more"), "{words}: {said}");
            }
            let rows: Vec<_> = sick.rows("problem").filter(|row| row["id"] == "directory").collect();
            let fix = rows[0]["fix"].as_str().unwrap().lines().next().unwrap().to_owned();
            sh(&fix);
            sh(&format!("rm -r {place}.moved; mv /run/aside {place}"));
            assert_eq!(diagnose("--strict").status, 0);
            assert_eq!((ours("status").0, ours("reconcile").0), (Some(0), Some(0)));
        }
        for place in ["/run/cni/networks", "/opt/cni/bin", "/etc/cni/net.d"] {
            sh(&format!("mv {place} /run/aside; mkfifo {place}"));
            let problem = ("directory".to_owned(), format!("directory {place}"));
            let sick = diagnose("");
            assert!(sick.problems().contains(&problem) && sick.status == 1, "{}", sick.words());
            sh(&format!("rm {place}; mv /run/aside {place}"));
        }
        assert_eq!(diagnose("--strict").problems(), BTreeSet::new());
        drop(lab);
    });
}

#[test]
fn what_an_ordinary_user_did_not_see_is_not_fine() {
    sandboxed_daemons(|| {
        let lab = Lab::new(&Kind::default(), 1);
        fs::copy(lab::binary(), "/opt/smarter-cni").unwrap();
        let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups /opt/smarter-cni";
        let (code, said) = command(&format!("{nobody} doctor"));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("checks could not look") && said.contains("sudo smarter-cni doctor"), "{said}");
        let (code, said) = command(&format!("{nobody} doctor --only pods"));
        assert_eq!(code, Some(2), "{said}");
        let (code, said) = command(&format!("{nobody} reconcile"));
        assert_eq!((code, said.contains("sudo")), (Some(2), true), "{said}");
        // Links tell an ordinary user who is there. Where there are none, nothing is known.
        let (code, said) = command(&format!("{nobody} status"));
        assert_eq!(code, Some(0), "{said}");
        sh(&format!(
            "ip link del {}; ip link del smartnet0; chmod 700 /run/cni /run/cni/networks /run/smarter-cni",
            lab.port(0)
        ));
        let (code, said) = command(&format!("{nobody} status"));
        assert_eq!((code, said.contains("sudo smarter-cni status")), (Some(2), true), "{said}");
        drop(lab);
    });
}

#[test]
fn a_root_that_holds_no_host_is_refused() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 1);
        fs::create_dir("/opt/empty").unwrap();
        write("/opt/file", "");
        for root in ["/nonexistent", "/opt/empty", "/opt/file"] {
            for options in ["", "--json", "--bundle /run/x.tar", "--strict"] {
                let out = doctor(&format!("--root {root} {options}"));
                let said = String::from_utf8(out.stderr).unwrap();
                assert_eq!(out.status.code(), Some(2), "{said}");
                assert!(said.contains(&format!("--root {root}: ")) && out.stdout.is_empty(), "{said}");
            }
        }
        assert!(fs::metadata("/run/x.tar").is_err());
        drop(lab);
    });
}
