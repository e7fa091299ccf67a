//! Locks that somebody else does not let go of: everything that waits ends, and says whom it waited for and what ends that.

use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{network, plugin, pod, reaches, serve};
use crate::lab::{self, Netns, Node, Place, WORLD};
use crate::sandbox::sandboxed;

/// A process that holds a lock until it is ended.
struct Holder(Child);

impl Holder {
    fn of(path: &str) -> Self {
        let mut command = Command::new("flock");
        // In its place, so that there is one process to stop.
        command.args(["--no-fork", path, "sleep", "250"]).stdin(Stdio::null()).stdout(Stdio::null());
        let holder = Self(command.spawn().unwrap());
        lab::eventually("the lock is held", std::time::Duration::from_secs(10), || {
            !Command::new("flock").args(["--nonblock", path, "true"]).status().unwrap().success()
        });
        // It takes the lock under another name than it keeps it.
        let name = format!("/proc/{}/comm", holder.pid());
        lab::eventually("the holder has its name", std::time::Duration::from_secs(10), || {
            std::fs::read_to_string(&name).unwrap() == "sleep\n"
        });
        holder
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    fn stop(&self) {
        kill_process(Pid::from_child(&self.0), Signal::STOP).unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn ours(arguments: &str) -> (String, Option<i32>) {
    let out = Command::new(lab::binary()).args(arguments.split(' ')).output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    (String::from_utf8(text).unwrap(), out.status.code())
}

#[test]
fn whoever_holds_the_lock_of_legacy_iptables_is_named() {
    sandboxed(|| {
        Node.run("iptables-legacy -P FORWARD DROP");
        let world = lab::world();
        serve(&world, WORLD);
        let config = network(&json!({}));
        let waits = Netns::new("waits");
        {
            let holder = Holder::of("/run/xtables.lock");
            let refused = plugin(&waits, "waits", &config).command("ADD").run();
            assert_ne!(refused.status, 0, "{refused}");
            let named = format!("process {} (sleep) holds it; if it hangs: kill -9 {0}", holder.pid());
            assert!(
                refused.stdout.contains("/run/xtables.lock") && refused.stdout.contains(&named),
                "{refused}"
            );
            holder.stop();
            let refused = plugin(&waits, "waits", &config).command("ADD").run();
            let named =
                format!("process {} (sleep), which is stopped, holds it; kill -CONT {0}", holder.pid());
            assert!(refused.stdout.contains(&named), "{refused}");
        }
        // It is over as soon as the lock is free.
        super::add(&waits, "waits", &config);
        assert!(reaches(&waits, WORLD));
    });
}

#[test]
fn a_stopped_holder_of_the_nodes_lock_hangs_nobody() {
    sandboxed(|| {
        let _world = lab::world();
        let config = network(&json!({}));
        let first = pod("first", &config);
        lab::grow_old();
        Node.run("nft flush ruleset");
        for lock in ["/run/smarter-cni/lock", "/run/smarter-cni/reconcile.lock"] {
            let holder = Holder::of(lock);
            holder.stop();
            let named =
                format!("process {} (sleep), which is stopped, holds it; kill -CONT {0}", holder.pid());
            for command in ["reconcile", "doctor --fix"] {
                let (text, status) = ours(command);
                assert_ne!(status, Some(0), "{text}");
                assert!(text.contains(lock) && text.contains(&named), "{lock}: {command}: {text}");
            }
        }
        {
            let holder = Holder::of("/run/smarter-cni/lock");
            holder.stop();
            let second = Netns::new("second");
            let refused = plugin(&second, "second", &config).command("ADD").run();
            assert!(refused.stdout.contains(&format!("kill -CONT {}", holder.pid())), "{refused}");
        }
        let (text, status) = ours("reconcile");
        assert_eq!(status, Some(0), "{text}");
        drop(first);
    });
}

/// Leases are under a lock of their own, which the Go plugin takes too.
#[test]
fn a_stopped_holder_of_the_leases_hangs_nobody() {
    sandboxed(|| {
        let _world = lab::world();
        let config = network(&json!({}));
        let first = pod("first", &config);
        let holder = Holder::of("/var/lib/cni/networks/smartnet/lock");
        holder.stop();
        let named = format!("kill -CONT {} lets it go on, kill -9 {0} ends it", holder.pid());
        let refused = plugin(&Netns::new("second"), "second", &config).command("ADD").run();
        assert!(refused.status != 0 && refused.stdout.contains(&named), "{refused}");
        let refused = plugin(&first, "first", &config).command("DEL").run();
        assert!(refused.status != 0 && refused.stdout.contains(&named), "{refused}");
        drop(holder);
        plugin(&first, "first", &config).command("DEL").succeed();
    });
}

/// Whoever may write where a program stands could have himself executed as root.
#[test]
fn a_program_that_others_could_have_put_there_is_not_executed() {
    sandboxed(|| {
        Node.run("iptables-legacy -P FORWARD DROP");
        Node.run("mkdir -p /run/fake");
        std::fs::write("/run/fake/iptables-legacy", "#!/bin/sh\n: > /run/executed\n").unwrap();
        Node.run("chmod 755 /run/fake/iptables-legacy");
        Node.run("chmod 775 /run/fake");
        // In the first directory that is looked into, and nowhere else.
        let pod = Netns::new("pod");
        let call = plugin(&pod, "pod", &network(&json!({}))).command("ADD");
        Node.run("mount --bind /run/fake /usr/sbin");
        let out = call.run();
        assert!(!std::path::Path::new("/run/executed").exists(), "{out}");
        assert!(
            out.stderr.contains("others than root may write to /usr/sbin; chmod go-w /usr/sbin"),
            "{out}"
        );
    });
}
