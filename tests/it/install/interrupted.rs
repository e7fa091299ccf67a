//! Killed before any one of its effects, an installation or its removal leaves the old or the new, never anything broken,
//! and the next run finishes it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::host::{BIN, CONFLIST, Host, another_build, answers, kernel, works};
use crate::lab::{self, Netns};
use crate::sandbox::sandboxed;

/// What can change a file.
const EFFECTS: &str = "openat,?open,write,fsync,fchmod,?chmod,?mkdir,mkdirat,?rename,?renameat,renameat2,?symlink,symlinkat,\
                       ?link,linkat,?unlink,unlinkat,?rmdir";
const TRACE: &str = "/run/trace";

fn traced(host: &Host, program: &Path, verb: &str, inject: Option<&str>) -> Option<i32> {
    let mut command = Command::new("strace");
    command.args(["-qq", "-o", TRACE, "-e", &format!("trace={EFFECTS}")]);
    command.args(inject.iter().flat_map(|inject| ["-e", *inject]));
    command.arg(program).arg(verb).arg("--root").arg(&host.root);
    command.output().expect("strace").status.code()
}

/// The calls of an undisturbed run that can change a file: name, and the how many-eth call of that name. A kill before one that
/// only reads leaves what the kill before the next effect leaves.
fn effects() -> Vec<(String, usize)> {
    let (mut counts, mut effects) = (BTreeMap::<String, usize>::new(), Vec::new());
    for line in fs::read_to_string(TRACE).expect("strace's file").lines() {
        let Some((name, arguments)) = line.split_once('(') else { continue };
        let name = name.trim().to_owned();
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        let opens = name.starts_with("open");
        if !opens || arguments.contains("O_CREAT") || arguments.contains("O_TRUNC") {
            effects.push((name, *count));
        }
    }
    effects
}

/// What was being written.
fn half_files(host: &Host) -> Vec<String> {
    host.snapshot().into_keys().filter(|path| path.contains(".smarter-cni-new.")).collect()
}

/// Where the rest is in place already, too.
#[test]
fn a_half_written_record_of_an_installation_goes_with_the_next() {
    sandboxed(|| {
        let host = Host::new();
        host.installed("");
        host.write("var/lib/smarter-cni/.smarter-cni-new.install.json.part", "{");
        assert_eq!(half_files(&host).len(), 1);
        let out = host.install("");
        assert_eq!((out.status, half_files(&host)), (0, Vec::new()), "{out}");
        let again = host.install("");
        assert!(again.stdout.contains("nothing to do"), "{again}");
    });
}

/// How many tests take the kills of a verb between them, so that they run beside each other.
const SHARES: usize = 4;

/// Calls `check` after each kill of one share, which is every fourth. `reset` makes the host what it was before an
/// undisturbed run.
fn for_every_kill(
    share: usize,
    host: &Host,
    program: &Path,
    verb: &str,
    least: usize,
    reset: impl Fn(),
    check: impl Fn(&str),
) {
    reset();
    assert_eq!(traced(host, program, verb, None), Some(0));
    let effects = effects();
    assert!(effects.len() > least, "the trace shows no effects: {effects:?}");
    let mut kills = 0;
    for (call, when) in effects.iter().skip(share).step_by(SHARES) {
        reset();
        let inject = format!("inject={call}:signal=SIGKILL:when={when}");
        // A run that needs fewer calls than the one before ends undisturbed.
        let status = traced(host, program, verb, Some(&inject));
        if status != Some(0) {
            kills += 1;
        }
        check(&format!("{verb} killed at {call} number {when}"));
    }
    assert!(kills * SHARES > least / 2, "only {kills} runs were killed");
    eprintln!("{kills} kills of {} effects", effects.len());
}

/// A module for what is interrupted, in it a test for each share of the kills.
macro_rules! for_every_share {
    ($($name:ident: $body:expr;)*) => {$(
        mod $name {
            use super::*;

            fn share(number: usize) {
                let interrupted: fn(usize) = $body;
                sandboxed(|| interrupted(number));
            }

            #[test]
            fn first_quarter() {
                share(0);
            }

            #[test]
            fn second_quarter() {
                share(1);
            }

            #[test]
            fn third_quarter() {
                share(2);
            }

            #[test]
            fn last_quarter() {
                share(3);
            }
        }
    )*};
}

/// Every program in place answers, and a configuration in place is whole and has its plugins.
fn nothing_is_broken(host: &Host) {
    for name in lab::files(host.path(BIN)) {
        let path = host.path(BIN).join(&name);
        // A name may be there before its program, or without it: then a runtime says that the plugin is not found.
        if !name.starts_with('.') && name != "smarter-cni" && path.exists() {
            answers(&path);
        }
    }
    works(host);
}

for_every_share! {
    a_first_installation: |share| {
        let host = Host::new();
        let before = host.snapshot();
        let reset = || {
            for sub in [BIN, "etc/cni/net.d", "var/lib/smarter-cni"] {
                let _ = fs::remove_dir_all(host.path(sub));
            }
            fs::create_dir_all(host.path(BIN)).expect("a directory");
            fs::create_dir_all(host.path("etc/cni/net.d")).expect("a directory");
        };
        for_every_kill(share, &host, &lab::binary(), "install", 60, reset, |killed| {
            nothing_is_broken(&host);
            let out = host.install("");
            assert_eq!(out.status, 0, "after {killed}: {out}");
            assert_eq!(half_files(&host), Vec::<String>::new(), "after {killed}");
            works(&host).unwrap_or_else(|| panic!("after {killed}: no conflist"));
            let out = host.uninstall("");
            assert_eq!(out.status, 0, "after {killed}: {out}");
            assert_eq!(host.snapshot(), before, "after {killed}");
        });
    };

    an_upgrade_leaves_the_old_or_the_new: |share| {
        let host = Host::new();
        let new = another_build(&lab::binary(), &host.path("tmp"));
        let bytes = |program: &Path| fs::read(program).expect("a program");
        let (old_bytes, new_bytes) = (bytes(&lab::binary()), bytes(&new));
        let reset = || {
            host.installed("");
            assert!(bytes(&host.path(BIN).join("smarter-cni")) == old_bytes);
        };
        for_every_kill(share, &host, &new, "install", 20, reset, |killed| {
            let program = bytes(&host.path(BIN).join("smarter-cni"));
            assert!(
                program == old_bytes || program == new_bytes,
                "after {killed}: neither the old nor the new"
            );
            works(&host).unwrap_or_else(|| panic!("after {killed}: the configuration is gone"));
        });
    };

    an_uninstallation: |share| {
        let host = Host::new();
        let foreign = r#"{"cniVersion":"0.3.1","name":"a","plugins":[{"type":"bridge"}]}"#;
        host.write("etc/cni/net.d/0-a.conflist", foreign);
        let before = (host.snapshot(), kernel());
        let pod = Netns::new("pod");
        let reset = || {
            host.installed("--take-over");
            host.plugin("ADD", "c1", &pod);
            assert_eq!(host.plugin("DEL", "c1", &pod).status, 0);
        };
        for_every_kill(share, &host, &lab::binary(), "uninstall", 20, reset, |killed| {
            // The configuration went first: as long as it is there, so are its plugins.
            if host.path(CONFLIST).exists() {
                works(&host);
            }
            let out = host.uninstall("");
            assert_eq!(out.status, 0, "after {killed}: {out}");
            assert_eq!((host.snapshot(), kernel()), before, "after {killed}");
        });
    };
}
