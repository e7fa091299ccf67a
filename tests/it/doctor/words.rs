//! Words that others chose, on their way to a terminal.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use serde_json::Value;

use super::node::{Kind, Lab, sh, write};
use crate::lab;
use crate::sandbox::sandboxed;

/// Clears the screen, takes a colour back, names the window, turns the order around.
const HOSTILE: &str = "\x1b[2J\x1b[31m\x1b]0;x\x07\u{9b}31m\r\u{202e}evil\u{7f}";

fn obeyed(text: &str) -> Option<char> {
    text.chars().find(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || *c == '\u{202e}')
}

fn replace(path: &str, from: &str, to: &str) {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{path}: {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn nobodys_words_drive_the_terminal() {
    sandboxed(|| {
        let lab = Lab::new(&Kind::default(), 2);
        let hostile = serde_json::to_string(HOSTILE).unwrap();
        // A pod's name in its record, a link's alias, names of networks, files and leases, and what a rule is for.
        for record in lab::files("/run/smarter-cni/attachments") {
            let path = format!("/run/smarter-cni/attachments/{record}");
            let text = fs::read_to_string(&path).unwrap_or_default();
            if text.contains("\"web-0\"") {
                replace(&path, "\"name\":\"web-0\"", &format!("\"name\":{hostile}"));
            }
        }
        let alias = Command::new("ip").args(["link", "set", lab.port(1), "alias", HOSTILE]).status().unwrap();
        assert!(alias.success());
        write(
            "/etc/cni/net.d/00-x.conflist",
            &format!(r#"{{"name":{hostile},"plugins":[{{"type":{hostile}}}]}}"#),
        );
        write(&format!("/etc/cni/net.d/{HOSTILE}.conflist"), "{");
        write(&format!("/opt/cni/bin/{HOSTILE}"), "");
        sh("ip link set smartnet0 down");
        let binary = lab::binary();
        let mut seen = String::new();
        for words in [
            &["doctor"][..],
            &["doctor", "--verbose"],
            &["doctor", "--json"],
            &["doctor", "--only", HOSTILE],
            &["doctor", "--explain", HOSTILE],
            &["doctor", "--root", HOSTILE],
            &["doctor", "--bundle", HOSTILE],
            &["status"],
            &["status", "--json"],
            &["status", "--network", HOSTILE],
            &["reconcile", "--dry-run"],
            &["reconcile", "--dry-run", "--json"],
            &["reconcile", "--network", HOSTILE],
            &["install", "--dry-run", "--subnet", HOSTILE],
            &["uninstall", "--root", "/run/none", HOSTILE],
            &[HOSTILE],
            &["doctor", "--fix"],
        ] {
            let words: Vec<_> = words.iter().map(|word| OsStr::from_bytes(word.as_bytes())).collect();
            let out = Command::new(&binary).args(&words).current_dir("/run").output().unwrap();
            for text in [&out.stdout, &out.stderr] {
                let text = String::from_utf8_lossy(text);
                assert_eq!(obeyed(&text), None, "{words:?}: {text:?}");
                if words.contains(&OsStr::new("--json")) && !text.is_empty() && text.starts_with('{') {
                    let document: Value = serde_json::from_str(&text).unwrap();
                    assert!(document.is_object());
                }
                seen.push_str(&text);
            }
        }
        assert!(seen.contains("\\u001b[2J"), "they were seen: {seen}");
        drop(lab);
    });
}
