//! Which room of the program may know which other: the picture in `src/lib.rs`, read off the source.
//!
//! Looks at every mention of `crate::<room>` outside comments and tests, and at what pure files take from `std`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Room → the rooms that it may mention. The edge, `main.rs` and `lib.rs`, wires all of them.
const ARROWS: &[(&str, &[&str])] = &[
    ("net", &[]),
    ("spec", &["net"]),
    ("text", &[]),
    ("file", &["text"]),
    ("log", &["text"]),
    ("applet", &["net"]),
    ("conflist", &["net", "applet", "log"]),
    ("cni", &["net", "applet"]),
    ("kernel", &["net", "file"]),
    ("state", &["net", "spec", "file"]),
    ("host", &["net", "file"]),
    ("datapath", &["net", "text", "spec", "state"]),
    ("plugins", &["net", "spec", "file", "applet", "conflist", "log", "cni", "state", "datapath"]),
    (
        "reconcile",
        &[
            "text", "net", "spec", "file", "applet", "conflist", "log", "cni", "state", "host", "datapath",
            "plugins",
        ],
    ),
    (
        "install",
        &[
            "net",
            "text",
            "file",
            "applet",
            "conflist",
            "log",
            "cni",
            "state",
            "host",
            "datapath",
            "plugins",
            "reconcile",
        ],
    ),
    (
        "doctor",
        &[
            "net",
            "text",
            "spec",
            "file",
            "applet",
            "conflist",
            "log",
            "cni",
            "state",
            "host",
            "datapath",
            "plugins",
            "reconcile",
            "install",
            "dns",
            "status",
        ],
    ),
    ("dns", &["net", "text", "spec", "file", "state", "host", "datapath"]),
    (
        "status",
        &["dns", "net", "text", "spec", "applet", "conflist", "cni", "state", "host", "datapath", "plugins"],
    ),
    // Its throw-away world is made of links that no plugin would make.
    (
        "selftest",
        &["net", "file", "applet", "conflist", "log", "cni", "state", "datapath", "plugins", "kernel"],
    ),
];

/// How a file says at the end of its first lines that nothing but arguments goes in and nothing but values comes out. It is held
/// to it; in the datapath whoever does not say so speaks to the kernel.
const PURE: &str = "\n//! Pure.\n";
/// The same of one that knows the kernel's messages, which are values, too.
const PURE_OVER_MESSAGES: &str = "\n//! Pure, over what the kernel says.\n";
const WORLD: &[&str] =
    &["std::fs", "std::env", "std::process", "std::net::Tcp", "std::net::Udp", "Instant", "SystemTime"];

#[test]
fn no_room_knows_one_that_the_picture_keeps_from_it() {
    let mut found = Vec::new();
    let (mut files, mut pure) = (0, 0);
    each_file(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), "", &mut |path, source| {
        files += 1;
        pure += usize::from(is_pure(source));
        found.extend(forbidden(path, source));
    });
    assert!(files > 50, "only {files} files were looked at");
    assert!(pure > 100, "only {pure} of {files} files say that they are pure");
    assert!(found.is_empty(), "arrows that the picture in src/lib.rs forbids:\n{}", found.join("\n"));
}

fn each_file(dir: &Path, below: &str, each: &mut dyn FnMut(&str, &str)) {
    for entry in fs::read_dir(dir).expect("src").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().into_string().expect("UTF-8");
        let path = format!("{below}{name}");
        if entry.file_type().expect("a type").is_dir() {
            each_file(&entry.path(), &format!("{path}/"), each);
        } else if name.strip_suffix(".rs").is_some_and(|stem| !is_test(&path, stem)) {
            each(&path, &fs::read_to_string(entry.path()).expect("source"));
        }
    }
}

fn is_test(path: &str, stem: &str) -> bool {
    stem.ends_with("tests") || path.contains("/tests/")
}

/// What is wrong in one file; `path` is below `src`.
fn forbidden(path: &str, source: &str) -> Vec<String> {
    let code = without_tests_and_comments(path, source);
    let room = path.split('/').next().unwrap_or(path).trim_end_matches(".rs");
    let mut found = Vec::new();
    if !matches!(path, "main.rs" | "lib.rs") {
        let allowed = ARROWS.iter().find(|(name, _)| *name == room).map(|(_, allowed)| *allowed);
        let allowed = allowed.unwrap_or_else(|| panic!("src/{path}: the picture has no room {room:?}"));
        let speaks = room == "datapath" && !source.contains(PURE);
        for other in rooms(&code) {
            if other != room && !allowed.contains(&other.as_str()) && !(speaks && other == "kernel") {
                found.push(format!("src/{path}: {room} -> {other}"));
            }
        }
    }
    if is_pure(source) {
        let outside = WORLD.iter().filter(|word| code.contains(**word));
        found.extend(outside.map(|word| format!("src/{path}: is pure and mentions {word}")));
    }
    found
}

fn is_pure(source: &str) -> bool {
    source.contains(PURE) || source.contains(PURE_OVER_MESSAGES)
}

/// Tests stand at the end of a file or in one of their own; code behind them would escape, so there must be none.
fn without_tests_and_comments(path: &str, source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("\n#[cfg(test)]\n") {
        code.push_str(before);
        let item = after.lines().find(|line| !line.starts_with("#[")).unwrap_or_default();
        if item.ends_with(';') {
            // A module in another file.
            rest = after.split_once(item).map_or("", |(_, behind)| behind);
            continue;
        }
        let items =
            ["fn ", "pub ", "pub(", "use ", "impl", "struct ", "enum ", "trait ", "const ", "static "];
        let behind = after.lines().skip(1).find(|line| items.iter().any(|item| line.starts_with(item)));
        assert_eq!(behind, None, "src/{path}: code behind the tests");
        rest = "";
    }
    code.push_str(rest);
    let lines = code.lines().map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    lines.collect::<Vec<_>>().join("\n")
}

/// Every `x` of `crate::x`, also in groups. Upper case is a type of `lib.rs`.
fn rooms(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => rooms.extend(word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut begins = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => begins = true,
                        c if c.is_whitespace() => {}
                        _ if begins => {
                            rooms.extend(word(&group[at..]));
                            begins = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    rooms
}

fn word(text: &str) -> Option<String> {
    let word: String = text.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
    let whole = !text[word.len()..].starts_with(|c: char| c.is_ascii_uppercase());
    (whole && !word.is_empty()).then_some(word)
}

/// Ways to read a file without asking what it is and how much there is of it.
const PLAIN_READS: &[&str] = &[
    "fs::read(",
    "fs::read_to_string(",
    "File::open(",
    ".read(true)",
    "fs::open(",
    "fs::openat(",
    "rustix::fs::open",
];
/// Who may, beside `file.rs`, and why: everybody else reads with `crate::file`.
const READERS: &[(&str, &str)] = &[
    ("state/directory.rs", "opens by directory and name, and reads with `file::bytes_of`"),
    ("log/ring.rs", "writes; reads one word and the end of its own lines, without waiting"),
    ("log/syslog.rs", "opens the kernel's log to write and reads nothing"),
    ("kernel/netns.rs", "opens namespaces and reads nothing"),
    ("file/lock.rs", "/proc, the kernel's"),
    ("kernel/sysctl.rs", "/proc/sys, the kernel's"),
    ("state/boot.rs", "/proc/sys/kernel/random/boot_id, the kernel's"),
    ("kernel/conntrack.rs", "/proc/sys, the kernel's"),
    ("datapath/withdraw.rs", "/proc/net, the kernel's"),
    ("datapath/firewall/observe.rs", "/proc/net, the kernel's"),
    ("datapath/hostports/listeners.rs", "/proc/net, the kernel's"),
    ("doctor/bundle/system.rs", "/proc and /dev/kmsg, the kernel's"),
];

#[test]
fn what_somebody_else_may_have_written_is_read_by_one_function() {
    let mut found = Vec::new();
    each_file(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), "", &mut |path, source| {
        if path != "file.rs" && !READERS.iter().any(|(reader, _)| *reader == path) {
            found.extend(plain_reads(path, source));
        }
    });
    assert!(found.is_empty(), "read with crate::file, or say in READERS why not:\n{}", found.join("\n"));
}

/// Lines that name a file of the kernel's below /proc are fine.
fn plain_reads(path: &str, source: &str) -> Vec<String> {
    let code = without_tests_and_comments(path, source);
    let plain = |line: &&str| PLAIN_READS.iter().any(|way| line.contains(way)) && !line.contains("\"/proc/");
    code.lines().filter(plain).map(|line| format!("src/{path}: {}", line.trim())).collect()
}

#[test]
fn plain_reads_are_seen_however_they_are_written() {
    for line in [
        "let text = std::fs::read_to_string(path)?;",
        "let bytes = fs::read(path)?;",
        "let file = File::open(path)?;",
        "OpenOptions::new().read(true).custom_flags(flags).open(path)",
        "rustix::fs::openat(dir, name, flags, mode)",
    ] {
        assert_eq!(plain_reads("host/x.rs", &format!("fn f() {{\n    {line}\n}}")).len(), 1, "{line}");
        assert_eq!(plain_reads("host/x.rs", &format!("// {line}")).len(), 0, "{line}");
    }
    assert_eq!(plain_reads("host/x.rs", "let text = fs::read_to_string(\"/proc/modules\")?;").len(), 0);
    assert_eq!(plain_reads("host/x.rs", "let target = fs::read_link(path)?; fs::read_dir(path)?;").len(), 0);
}

#[test]
fn forbidden_arrows_are_seen_however_they_are_drawn() {
    let seen = |path: &str, source: &str| forbidden(path, source);
    let arrow =
        |path: &str, other: &str| vec![format!("src/{path}: {} -> {other}", path.split('/').next().unwrap())];
    for (path, source, other) in [
        ("cni/request.rs", "use crate::kernel::Socket;", "kernel"),
        ("kernel/link.rs", "use crate::{\n    net::{Mac, IfName},\n    cni::Error,\n};", "cni"),
        ("state/lease/file.rs", "fn f() { crate::datapath::apply(); }", "datapath"),
        ("plugins/bridge/add.rs", "pub use crate::kernel::link;", "kernel"),
        ("datapath/plan.rs", "//! Decides.\n//! Pure.\nuse crate::kernel::link;", "kernel"),
        ("datapath/rules.rs", "use crate::cni::Error;", "cni"),
        (
            "cni/wire.rs",
            "#![x]\n#[cfg(test)]\n#[path = \"t.rs\"]\nmod tests;\nuse crate::state::Store;",
            "state",
        ),
    ] {
        assert_eq!(seen(path, source), arrow(path, other));
    }
    for pure in ["//! Pure.", "//! Pure, over what the kernel says."] {
        let says = |code: &str| format!("//! Decides.\n//!\n{pure}\n\n{code}");
        assert_eq!(seen("datapath/plan.rs", &says("use std::fs;")).len(), 1);
        assert_eq!(seen("cni/wire.rs", &says("let now = std::time::Instant::now();")).len(), 1);
        assert_eq!(seen("cni/wire.rs", &says("// std::fs is not for us")).len(), 0);
    }

    for (path, source) in [
        ("cni/request.rs", "// use crate::kernel::Socket;\nuse crate::net::Mac;"),
        (
            "cni/request.rs",
            "fn f() {}\n#[cfg(test)]\nmod tests {\n    use std::fs;\n    use crate::state::Store;\n}",
        ),
        ("datapath/apply.rs", "use crate::kernel::link;"),
        ("datapath/judge.rs", "//! Decides.\n//! Pure, over what the kernel says.\nuse crate::kernel::link;"),
        ("selftest/world.rs", "use crate::kernel::link;"),
        ("main.rs", "use crate::kernel::link; use std::env;"),
        ("plugins/bridge/add.rs", "use crate::Outcome;"),
        ("cni/delegate.rs", "use std::process::Command;"),
    ] {
        assert_eq!(seen(path, source), Vec::<String>::new(), "{path}");
    }
}

#[test]
#[should_panic(expected = "code behind the tests")]
fn code_behind_the_tests_is_not_overlooked() {
    forbidden("cni/x.rs", "fn a() {}\n#[cfg(test)]\nmod tests {}\nfn b() { crate::kernel::c(); }");
}

#[test]
#[should_panic(expected = "the picture has no room")]
fn a_new_room_must_be_drawn_first() {
    forbidden("utils.rs", "");
}
