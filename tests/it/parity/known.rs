//! Where we differ from the Go plugins of Debian 12 (1.1.1) on purpose, and why.
//!
//! A difference is known when case, path and both values match a line of the table.

use serde_json::Value;

/// `*` at an end of `case` or `path` stands for anything; `debian` and `ours` are JSON, `*` for any value.
struct Known {
    case: &'static str,
    path: &'static str,
    debian: &'static str,
    ours: &'static str,
    /// For whoever migrates: what changes for them.
    reason: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        case: "portmap/*",
        path: "/calls/1/status",
        debian: "1",
        ours: "0",
        reason: "CHECK of a pod with IPv4 alone asks Debian's build for IPv6 rules too, and fails; later ones and ours do not.",
    },
    Known {
        case: "portmap/*",
        path: "/calls/1/answer",
        debian: r#"{"code":999}"#,
        ours: "null",
        reason: "The same CHECK.",
    },
    Known {
        case: "*",
        path: "*/answer/dns",
        debian: "{}",
        ours: "null",
        reason: "Since 1.2 an empty `dns` is left out of results of specification 1.x; nobody reads an empty one.",
    },
    Known {
        case: "protocol/version",
        path: "*/answer/supportedVersions",
        debian: "*",
        ours: r#"["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]"#,
        reason: "Specification 1.1.0 is newer than Debian's plugins; ours speak it.",
    },
    Known {
        case: "protocol/version",
        path: "*/answer/cniVersion",
        debian: "*",
        ours: r#""1.1.0""#,
        reason: "The newest version we speak, for the same reason.",
    },
];

/// The reason why this difference is wanted; `None` when it is not known.
pub(super) fn reason(case: &str, path: &str, debian: &Value, ours: &Value) -> Option<&'static str> {
    let value = |pattern: &str, value: &Value| {
        pattern == "*" || serde_json::from_str::<Value>(pattern).expect("JSON in the table") == *value
    };
    let hit = |k: &&Known| {
        matches(k.case, case) && matches(k.path, path) && value(k.debian, debian) && value(k.ours, ours)
    };
    KNOWN.iter().find(hit).map(|k| k.reason)
}

fn matches(pattern: &str, text: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        _ if pattern == "*" => true,
        (Some(middle), Some(_)) => text.contains(middle.trim_end_matches('*')),
        (Some(end), None) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => text == pattern,
    }
}
