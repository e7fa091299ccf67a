//! A real containerd, with everything it owns in a directory of the test, and pods on it through the interface of kubelet.

mod status;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::cri::{Cri, HostPort, Pod, Sandbox};
use crate::image;
use crate::lab::{self, Answer, Node, Place, UNDER_TEST, eventually};
use crate::labnet::{GATEWAY, assert_nothing_is_left, conflist, host_ends, leases, ping};
use crate::sandbox::sandboxed_daemons;

/// A containerd of this test alone; ends, with all its pods, when the sandbox does.
#[derive(Debug)]
pub(crate) struct Containerd {
    dir: PathBuf,
    config: PathBuf,
    daemon: Child,
    pub(crate) cri: Cri,
}

impl Containerd {
    /// Starts it as a node has it before any network: its configuration where everybody looks for it, the directories of
    /// CNI by default. The caller keeps the machine's /etc and /opt away.
    pub(crate) fn start_on_bare_node() -> Self {
        let dir = PathBuf::from("/run/containerd");
        for path in [dir.as_path(), Path::new("/etc/containerd")] {
            fs::create_dir_all(path).expect("directories of containerd");
        }
        fs::write("/etc/containerd/config.toml", bare_configuration(&dir)).expect("config.toml");
        let config = PathBuf::from("/etc/containerd/config.toml");
        let cri = Cri::new(dir.join("containerd.sock"));
        let containerd = Self { daemon: spawn(&config, &dir), cri, dir, config };
        containerd.wait(|cri| cri.conditions().is_some());
        containerd.import(&image::archive(&containerd.dir));
        containerd
    }

    /// Makes an image in an archive known.
    pub(crate) fn import(&self, archive: &Path) {
        let (socket, archive) = (self.socket(), archive.display());
        Node.run(&format!("ctr --address {} --namespace k8s.io images import {archive}", socket.display()));
    }

    /// Starts it with one network and imports the image. `plugins` is where the CNI plugins are.
    pub(crate) fn start(plugins: &Path, conflist: &Value) -> Self {
        let dir = Self::directory();
        fs::write(dir.join("net.d/10-lab.conflist"), conflist.to_string())
            .expect("the network's configuration");
        let containerd = Self::with(&configuration(&dir, plugins));
        containerd.wait(Cri::ready);
        containerd.import(&image::archive(&containerd.dir));
        containerd
    }

    /// Starts it with this configuration and waits for nothing.
    fn with(configuration: &str) -> Self {
        let dir = Self::directory();
        let config = dir.join("config.toml");
        fs::write(&config, configuration).expect("config.toml");
        Self { daemon: spawn(&config, &dir), cri: Cri::new(dir.join("containerd.sock")), dir, config }
    }

    /// Below the sandbox's own /run: in memory, and gone with it.
    fn directory() -> PathBuf {
        let dir = PathBuf::from("/run/lab-containerd");
        fs::create_dir_all(dir.join("net.d")).expect("directories of containerd");
        dir
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    fn wait(&self, ready: impl Fn(&Cri) -> bool) {
        let log = || fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        for _ in 0..600 {
            if ready(&self.cri) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("containerd is not ready:\n{}", log());
    }

    /// Kills the daemon as a crash does (its pods go on) and starts it again.
    pub(crate) fn crash_and_restart(&mut self, meanwhile: impl FnOnce()) {
        self.kill();
        meanwhile();
        self.start_again();
        self.wait(Cri::ready);
    }

    /// Waits until it answers, whatever it says.
    pub(crate) fn start_again(&mut self) {
        self.daemon = spawn(&self.config, &self.dir);
        self.wait(|cri| cri.conditions().is_some());
    }

    pub(crate) fn kill(&mut self) {
        self.daemon.kill().expect("kill containerd");
        self.daemon.wait().expect("containerd ends");
    }

    pub(crate) fn run_pod(&self, pod: &Pod) -> Sandbox {
        self.cri.run_pod(pod).unwrap_or_else(|e| panic!("pod {}: {e}", pod.name))
    }

    pub(crate) fn remove_pod(&self, sandbox: &Sandbox) {
        self.cri.stop_pod(&sandbox.id).unwrap_or_else(|e| panic!("stop {}: {e}", sandbox.id));
        self.cri.remove_pod(&sandbox.id).unwrap_or_else(|e| panic!("remove {}: {e}", sandbox.id));
    }
}

fn spawn(config: &Path, dir: &Path) -> Child {
    let log = File::options().create(true).append(true).open(dir.join("log")).expect("a log file");
    Command::new("containerd")
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("one more handle"))
        .stderr(log)
        .spawn()
        .expect("containerd, from the package of that name")
}

/// With directories for plugins and networks that are the test's own.
fn configuration(dir: &Path, plugins: &Path) -> String {
    let (plugins, conf) = (plugins.display(), dir.display());
    let cni = format!("bin_dir = \"{plugins}\"\nconf_dir = \"{conf}/net.d\"\n");
    format!("{}[plugins.\"io.containerd.grpc.v1.cri\".cni]\n{cni}", bare_configuration(dir))
}

/// `restrict_oom_score_adj`: where CAP_SYS_RESOURCE is missing no pod starts without it. `native`: works on every file
/// system, and the image is small. The `opt` plugin would make /opt/containerd on the machine.
fn bare_configuration(dir: &Path) -> String {
    let (dir, image) = (dir.display(), image::NAME);
    format!(
        r#"
version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
address = "{dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{image}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
"#
    )
}

#[test]
fn a_pod_gets_an_address_and_leaves_nothing() {
    sandboxed_daemons(|| {
        let containerd = Containerd::start(UNDER_TEST.dir(), &conflist());
        let pod = Pod::new("one");
        let one = containerd.run_pod(&pod);
        assert_eq!(one.addresses, ["10.77.0.2"]);
        assert_eq!(one.network.addresses("eth0"), ["10.77.0.2/24"]);
        assert_eq!(one.network.addresses("lo"), ["127.0.0.1/8", "::1/128"]);
        ping(&one.network, "127.0.0.1");
        ping(&one.network, GATEWAY);
        ping(&Node, "10.77.0.2");

        let main = containerd.cri.start_container(&pod, &one, image::NAME).expect("a container");
        let seen = containerd.cri.exec(&main, "ip -4 addr show dev eth0").expect("ip in the container");
        assert!(seen.contains("inet 10.77.0.2/24"), "{seen}");
        containerd
            .cri
            .exec(&main, &format!("ping -c 1 -W 2 {GATEWAY}"))
            .expect("the gateway answers a container");

        containerd.remove_pod(&one);
        assert_nothing_is_left(&one.addresses);
    });
}

#[test]
fn pods_talk_to_each_other_and_to_the_world() {
    sandboxed_daemons(|| {
        let world = lab::world();
        let containerd = Containerd::start(UNDER_TEST.dir(), &conflist());
        let (one, two) = (containerd.run_pod(&Pod::new("one")), containerd.run_pod(&Pod::new("two")));
        let at = |pod: &Sandbox, port| SocketAddr::new(pod.addresses[0].parse().unwrap(), port);
        let seen = |token: &str, from: &str| Answer { token: token.into(), seen_as: from.parse().unwrap() };

        lab::serve_tcp(&one.network, at(&one, 7000), "one");
        lab::serve_udp(&one.network, at(&one, 7000), "one");
        assert_eq!(lab::ask_tcp(&two.network, at(&one, 7000)).unwrap(), seen("one", &two.addresses[0]));
        assert_eq!(lab::ask_udp(&two.network, at(&one, 7000)).unwrap(), seen("one", &two.addresses[0]));
        assert_eq!(lab::ask_tcp(&Node, at(&one, 7000)).unwrap(), seen("one", GATEWAY));

        // The world has no route to pods: without masquerading its answers get lost.
        let server = SocketAddr::new(lab::WORLD, 7000);
        lab::serve_tcp(&world, server, "world");
        lab::serve_udp(&world, server, "world");
        assert_eq!(lab::ask_tcp(&one.network, server).unwrap(), seen("world", &lab::NODE.to_string()));
        assert_eq!(lab::ask_udp(&two.network, server).unwrap(), seen("world", &lab::NODE.to_string()));
    });
}

#[test]
fn host_ports_lead_to_the_pod_until_it_goes() {
    sandboxed_daemons(|| {
        let world = lab::world();
        let containerd = Containerd::start(UNDER_TEST.dir(), &conflist());
        let port = |udp| HostPort { udp, host: 8080, container: 80, address: String::new() };
        let pod = Pod { host_ports: vec![port(false), port(true)], ..Pod::new("web") };
        let web = containerd.run_pod(&pod);
        let inner = SocketAddr::new(web.addresses[0].parse().unwrap(), 80);
        lab::serve_tcp(&web.network, inner, "web");
        lab::serve_udp(&web.network, inner, "web");

        let outer = SocketAddr::new(lab::NODE, 8080);
        let seen = Answer { token: "web".into(), seen_as: lab::WORLD };
        assert_eq!(lab::ask_tcp(&world, outer).unwrap(), seen);
        assert_eq!(lab::ask_udp(&world, outer).unwrap(), seen);
        assert_eq!(lab::ask_tcp(&Node, outer).unwrap().token, "web");
        assert_eq!(lab::ask_tcp(&Node, SocketAddr::from(([127, 0, 0, 1], 8080))).unwrap().token, "web");
        assert_eq!(lab::ask_tcp(&web.network, outer).unwrap().token, "web", "hairpin");

        containerd.remove_pod(&web);
        assert!(lab::ask_tcp(&world, outer).is_err(), "the host port outlived its pod");
        assert_nothing_is_left(&web.addresses);
    });
}

#[test]
fn twenty_pods_at_once() {
    sandboxed_daemons(|| {
        let containerd = Containerd::start(UNDER_TEST.dir(), &conflist());
        let pods: Vec<Sandbox> = thread::scope(|scope| {
            let start = |n| containerd.run_pod(&Pod::new(&format!("pod{n}")));
            let starting: Vec<_> = (0..20).map(|n| scope.spawn(move || start(n))).collect();
            starting.into_iter().map(|pod| pod.join().expect("every pod starts")).collect()
        });
        let addresses: BTreeSet<&String> = pods.iter().flat_map(|p| &p.addresses).collect();
        assert_eq!(addresses.len(), 20, "{addresses:?}");
        assert_eq!(leases().len(), 20);
        assert_eq!(host_ends().len(), 20);
        for pod in &pods {
            ping(&pod.network, GATEWAY);
        }
        ping(&pods[0].network, &pods[19].addresses[0]);

        thread::scope(|scope| {
            for pod in &pods {
                scope.spawn(|| containerd.remove_pod(pod));
            }
        });
        let addresses: Vec<String> = addresses.into_iter().cloned().collect();
        assert_nothing_is_left(&addresses);
    });
}

#[test]
fn a_crash_of_containerd_loses_nothing() {
    sandboxed_daemons(|| {
        let mut containerd = Containerd::start(UNDER_TEST.dir(), &conflist());
        let (stays, goes) = (containerd.run_pod(&Pod::new("stays")), containerd.run_pod(&Pod::new("goes")));
        containerd.crash_and_restart(|| ping(&stays.network, &goes.addresses[0]));

        assert_eq!(containerd.cri.status(&stays.id).unwrap().addresses, stays.addresses);
        containerd.remove_pod(&goes);
        ping(&stays.network, GATEWAY);
        let next = containerd.run_pod(&Pod::new("next"));
        assert_ne!(next.addresses, stays.addresses);
        ping(&stays.network, &next.addresses[0]);

        // A namespace that is gone when DEL comes, as after a reboot.
        Node.run(&format!("umount {}", next.network.0));
        fs::remove_file(&next.network.0).expect("remove the namespace");
        containerd.remove_pod(&next);
        containerd.remove_pod(&stays);
        let mut all = [stays.addresses, goes.addresses].concat();
        if !UNDER_TEST.forgets_rules() {
            all.extend(next.addresses);
        }
        eventually(
            "the kernel removes the links of a namespace that is gone",
            Duration::from_secs(5),
            || host_ends().is_empty(),
        );
        assert_nothing_is_left(&all);
    });
}
