//! Leases where disks are full or read-only, and beside the Go plugin's own binary.

use std::collections::HashSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread;

use rustix::mount::{MountFlags, mount, mount_remount};
use serde_json::{Value, json};

use crate::lab::{DEBIAN_PLUGINS, Netns, Output, Plugin, files, our_plugins};
use crate::sandbox::sandboxed;

/// One call of host-local for the pod, with leases in `dir`.
fn call(plugins: &Path, dir: &str, verb: &str, pod: &str) -> Output {
    let config: Value = json!({
        "cniVersion": if verb == "STATUS" { "1.1.0" } else { "1.0.0" }, "name": "net", "type": "host-local",
        "ipam": {"type": "host-local", "dataDir": dir, "subnet": "10.1.0.0/24"},
    });
    let plugin = Plugin::new(plugins, "host-local").command(verb).json(&config);
    plugin.container(pod).env("CNI_NETNS", "/run/netns/pod").ifname("eth0").run()
}

fn ours(dir: &str, verb: &str, pod: &str) -> Output {
    call(our_plugins(), dir, verb, pod)
}

/// The address files, whatever else there is.
fn leases(dir: &str) -> Vec<String> {
    let mut names = files(format!("{dir}/net"));
    names.retain(|name| name.starts_with("10."));
    names
}

fn disk(at: &str) {
    fs::create_dir_all(at).expect("a mount point");
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), c"size=64k").expect("a small disk");
}

#[test]
fn on_a_full_disk_del_works_and_add_says_why_it_does_not() {
    sandboxed(|| {
        let _pod = Netns::new("pod");
        let dir = "/run/small";
        disk(dir);
        assert_eq!(ours(dir, "ADD", "a").status, 0);
        let mut filler = fs::File::create("/run/small/filler").expect("a file");
        while filler.write_all(&[0; 4096]).is_ok() {}
        let before = files("/run/small/net");

        let refused = ours(dir, "ADD", "b");
        let msg = refused.json["msg"].as_str().unwrap_or_default();
        assert!(msg.contains("no space left on device") && msg.contains("/run/small/net"), "{refused}");
        assert_eq!(files("/run/small/net"), before, "nothing half done stays");
        assert_eq!(ours(dir, "STATUS", "").json["code"], 50);

        assert_eq!(ours(dir, "CHECK", "a").status, 0);
        assert_eq!(ours(dir, "DEL", "a").status, 0);
        assert_eq!(leases(dir), Vec::<String>::new());
        assert_eq!(ours(dir, "DEL", "a").status, 0);
        fs::remove_file("/run/small/filler").expect("there");
        assert_eq!(ours(dir, "STATUS", "").status, 0);
        assert_eq!(ours(dir, "ADD", "b").status, 0);
    });
}

#[test]
fn on_a_read_only_disk_del_works_and_add_says_why_it_does_not() {
    sandboxed(|| {
        let _pod = Netns::new("pod");
        let dir = "/run/small";
        disk(dir);
        assert_eq!(ours(dir, "ADD", "a").status, 0);
        mount_remount(dir, MountFlags::RDONLY, c"").expect("made read-only");
        let refused = ours(dir, "ADD", "b");
        assert!(
            refused.json["msg"].as_str().unwrap_or_default().contains("read-only file system"),
            "{refused}"
        );
        assert_eq!(ours(dir, "STATUS", "").json["code"], 50);
        assert_eq!(ours(dir, "CHECK", "a").status, 0);
        let deleted = ours(dir, "DEL", "a");
        assert_eq!(deleted.status, 0, "{deleted}");
        // Never used before the disk became so: not even a directory can be made.
        assert_eq!(ours("/run/small/deeper", "DEL", "a").status, 0);
        assert_eq!(ours("/run/small/deeper", "STATUS", "").json["code"], 50);
    });
}

#[test]
fn the_go_plugin_works_in_the_same_directory_at_the_same_time() {
    sandboxed(|| {
        let _pod = Netns::new("pod");
        let dir = "/run/shared";
        let plugins = [our_plugins(), Path::new(DEBIAN_PLUGINS)];
        let work = |worker: usize| {
            let mut addresses = Vec::new();
            for turn in 0..12 {
                let (one, other) = (plugins[(worker + turn) % 2], plugins[(worker + turn + 1) % 2]);
                let pod = format!("pod-{worker}-{turn}");
                let added = call(one, dir, "ADD", &pod);
                assert_eq!(added.status, 0, "{added}");
                addresses.push(added.json["ips"][0]["address"].to_string());
                // Each knows the other's leases, and gives them back.
                assert_eq!(call(other, dir, "CHECK", &pod).status, 0);
                assert_ne!(call(other, dir, "ADD", &pod).status, 0);
                if turn % 3 == 0 {
                    assert_eq!(call(other, dir, "DEL", &pod).status, 0);
                }
            }
            addresses
        };
        let addresses: Vec<String> = thread::scope(|scope| {
            let workers: Vec<_> = (0..8).map(|worker| scope.spawn(move || work(worker))).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
        });
        // The range has room for all, so nothing came twice although a third went back.
        assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), 96);
        assert_eq!(leases(dir).len(), 64);
    });
}
