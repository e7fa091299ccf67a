//! A real podman, which speaks CNI without a daemon: another caller, with habits of its own.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::image;
use crate::lab::{self, Answer, Foreign, Node, Place, UNDER_TEST};
use crate::labnet::{GATEWAY, assert_nothing_is_left, conflist, ping};
use crate::sandbox::{self, sandboxed_daemons};

/// A podman whose storage, state and networks are in a directory of the test.
#[derive(Debug)]
struct Podman {
    dir: PathBuf,
}

impl Podman {
    fn start() -> Self {
        // Below the sandbox's own /run: in memory, and gone with it.
        let dir = PathBuf::from("/run/lab-podman");
        fs::create_dir_all(dir.join("net.d")).expect("directories of podman");
        fs::write(dir.join("net.d/10-lab.conflist"), conflist().to_string())
            .expect("the network's configuration");
        fs::write(dir.join("containers.conf"), configuration(&dir.display().to_string()))
            .expect("containers.conf");
        let podman = Self { dir };
        let archive = image::archive(&podman.dir).display().to_string();
        podman.run(&["load", "--quiet", "--input", &archive]);
        podman
    }

    /// Runs a subcommand and returns its output; panics when it fails.
    fn run(&self, arguments: &[&str]) -> String {
        let at = |sub: &str| self.dir.join(sub);
        let out = Command::new("podman")
            .env("CONTAINERS_CONF", at("containers.conf"))
            .arg("--root")
            .arg(at("root"))
            .arg("--runroot")
            .arg(at("runroot"))
            .arg("--tmpdir")
            .arg(at("tmp"))
            // Works on every file system, and the image is small.
            .args(["--storage-driver", "vfs"])
            .args(arguments)
            .output()
            .expect("podman, from the package of that name");
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "podman {arguments:?}: {stderr}");
        String::from_utf8(out.stdout).expect("UTF-8").trim().to_owned()
    }

    /// A container that sleeps, its address and its namespace.
    fn container(&self, name: &str, options: &[&str]) -> (String, Foreign) {
        let group = format!("/{}", sandbox::cgroup());
        let run = ["run", "--detach", "--name", name, "--network", "labnet", "--cgroup-parent", &group];
        self.run(&[&run[..], options, &[image::NAME]].concat());
        let settings = self.run(&["inspect", name, "--format", "{{json .NetworkSettings}}"]);
        let settings: Value = serde_json::from_str(&settings).expect("JSON");
        let text = |key: &str| settings[key].as_str().unwrap_or_default().to_owned();
        let mut address = text("IPAddress");
        if address.is_empty() {
            settings["Networks"]["labnet"]["IPAddress"].as_str().unwrap_or_default().clone_into(&mut address);
        }
        (address, Foreign(text("SandboxKey")))
    }

    fn remove(&self, name: &str) {
        self.run(&["rm", "--force", "--time", "0", name]);
    }
}

/// runc: Debian's crun refuses machines with both kinds of cgroups. The limits and the score need no CAP_SYS_RESOURCE.
fn configuration(dir: &str) -> String {
    let plugins = UNDER_TEST.dir().display();
    format!(
        r#"
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
oom_score_adj = 0
[network]
network_backend = "cni"
cni_plugin_dirs = ["{plugins}"]
network_config_dir = "{dir}/net.d"
default_network = "labnet"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
"#
    )
}

#[test]
fn containers_get_addresses_and_leave_nothing() {
    sandboxed_daemons(|| {
        let podman = Podman::start();
        let (one, in_one) = podman.container("one", &[]);
        let (two, in_two) = podman.container("two", &[]);
        assert_eq!((one.as_str(), two.as_str()), ("10.77.0.2", "10.77.0.3"));
        assert_eq!(in_one.addresses("eth0"), ["10.77.0.2/24"]);
        ping(&in_one, GATEWAY);
        ping(&in_two, &one);
        podman.run(&["exec", "two", "ping", "-c", "1", "-W", "2", &one]);

        podman.remove("one");
        ping(&in_two, GATEWAY);
        podman.remove("two");
        assert_nothing_is_left(&[one, two]);
    });
}

#[test]
fn wishes_of_the_command_line_come_true() {
    sandboxed_daemons(|| {
        let world = lab::world();
        let podman = Podman::start();
        let wishes = ["--ip", "10.77.0.77", "--mac-address", "02:11:22:33:44:55", "--publish", "8080:80"];
        let (web, in_web) = podman.container("web", &wishes);
        assert_eq!(web, "10.77.0.77");
        assert_eq!(in_web.link("eth0").expect("eth0")["address"], "02:11:22:33:44:55");

        let inner = SocketAddr::new(web.parse().unwrap(), 80);
        let outer = SocketAddr::new(lab::NODE, 8080);
        lab::serve_tcp(&in_web, inner, "web");
        assert_eq!(lab::ask_tcp(&world, outer).unwrap(), Answer { token: "web".into(), seen_as: lab::WORLD });
        assert_eq!(lab::ask_tcp(&Node, outer).unwrap().token, "web");

        // What an administrator does after a firewall lost its rules: the network is torn down and set up again.
        podman.run(&["network", "reload", "web"]);
        assert_eq!(lab::ask_tcp(&world, outer).unwrap().token, "web");

        podman.remove("web");
        assert!(lab::ask_tcp(&world, outer).is_err(), "the published port outlived its container");
        assert_nothing_is_left(&[web]);
    });
}
