//! What an admin does with the manifests, on a real containerd: the real image with exactly the mounts, user, capabilities
//! and read-only root of the manifest; pods with traffic; upgrade, rollback and uninstallation.

mod repair;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::containerd::{Containerd, Release, on_each};
use crate::cri::{Pod, Sandbox};
use crate::install::{another_build, kernel};
use crate::kubelet::{DaemonSet, NotReady, objects};
use crate::lab::{self, Foreign, Node, Place, eventually};
use crate::pages;
use crate::sandbox::run;

on_each!(
    from_kubectl_apply_to_uninstall,
    the_readme_word_by_word,
    the_pages_word_by_word,
    a_runtime_that_does_not_load_the_network_says_why_and_what_to_do,
    a_variant_that_does_not_fit_the_node_is_not_ready,
    a_range_that_the_node_uses_keeps_the_pod_from_being_ready_and_says_why,
);

const PATIENCE: Duration = Duration::from_mins(1);
const IMAGE: &str = "ghcr.io/smarter-project/smarter-cni:0.2.0";
const NEXT: &str = "ghcr.io/smarter-project/smarter-cni:next";

/// This machine's /etc, /opt, /var/lib and what else may get plugins under a layer of the test's own, and a mount tree that containers may follow.
pub(crate) fn as_a_node() {
    Node.run("mount -t tmpfs tmpfs /mnt");
    for (directory, name) in [
        ("/etc", "etc"),
        ("/opt", "opt"),
        ("/var/lib", "var-lib"),
        ("/usr/lib/cni", "usr-lib-cni"),
        ("/usr/libexec", "usr-libexec"),
    ] {
        let (upper, work) = (format!("/mnt/{name}/upper"), format!("/mnt/{name}/work"));
        fs::create_dir_all(&upper).expect("a layer");
        fs::create_dir_all(&work).expect("a layer");
        let options = format!("lowerdir={directory},upperdir={upper},workdir={work}");
        Node.run(&format!("mount -t overlay -o {options} overlay {directory}"));
    }
    // What is installed on this machine is none of the test's business.
    for directory in ["/opt/cni", "/etc/cni", "/etc/containerd", "/var/lib/cni", "/var/lib/smarter-cni"] {
        let _ = fs::remove_dir_all(directory);
    }
    Node.run("mount --make-rshared /");
}

fn manifest(name: &str) -> Vec<Value> {
    objects(&Path::new(env!("CARGO_MANIFEST_DIR")).join("k8s").join(name))
}

/// The program without what a debugger needs: a debug build that is installed would fill the memory that the manifest
/// allows its container, because the test's disk is memory too.
pub(crate) fn stripped(binary: &Path) -> PathBuf {
    let out = Path::new("/mnt").join(binary.file_name().expect("a name")).with_extension("stripped");
    run("strip", &["-o", &out.display().to_string(), &binary.display().to_string()]);
    out
}

/// The image as it is released, but for the architectures.
fn archive(binary: &Path, name: &str) -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/image/archive");
    let out = PathBuf::from(format!("/mnt/{}.tar", name.replace(['/', ':'], "-")));
    run(script, &[&binary.display().to_string(), &out.display().to_string(), name]);
    out
}

/// A node on which kubelet runs, and no network yet.
fn bare_node(release: Release) -> Containerd {
    as_a_node();
    let containerd = Containerd::start_on_bare_node(release);
    containerd.import(&archive(&stripped(&lab::binary()), IMAGE));
    let conditions = containerd.cri.conditions().expect("containerd answers");
    assert!(
        conditions.contains(&("NetworkReady".to_owned(), false)),
        "there is a network already: {conditions:?}"
    );
    containerd
}

/// Files that belong to networks, and what the kernel has.
fn snapshot() -> (BTreeMap<String, String>, Value) {
    let mut files = BTreeMap::new();
    for directory in ["/opt", "/etc/cni", "/var/lib/smarter-cni", "/run/smarter-cni", "/run/cni"] {
        if Path::new(directory).exists() {
            for line in Node.run(&format!("find {directory} -printf %p:%y:%m:%l:%s\\n")).lines() {
                let (path, rest) = line.split_once(':').expect("a path");
                files.insert(path.to_owned(), rest.to_owned());
            }
        }
    }
    (files, kernel())
}

/// A connection between two pods over which something is said all the time.
struct Conversation {
    ends: std::sync::Arc<(AtomicBool, AtomicUsize)>,
    talk: thread::JoinHandle<()>,
}

impl Conversation {
    fn between(server: &Sandbox, client: &Sandbox) -> Self {
        let at = SocketAddr::new(server.addresses[0].parse().expect("an address"), 7000);
        let listener = server.network.inside(|| TcpListener::bind(at)).expect("listen in the pod");
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut buffer = [0; 64];
            while let Ok(length) = stream.read(&mut buffer) {
                if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        });
        let mut stream = client.network.inside(|| TcpStream::connect(at)).expect("connect from pod to pod");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a patience");
        let ends = std::sync::Arc::new((AtomicBool::new(false), AtomicUsize::new(0)));
        let shared = ends.clone();
        let talk = thread::spawn(move || {
            while !shared.0.load(Ordering::Relaxed) {
                let said = shared.1.fetch_add(1, Ordering::Relaxed).to_be_bytes();
                stream.write_all(&said).expect("the connection lives");
                let mut heard = [0; 8];
                stream.read_exact(&mut heard).expect("the connection lives");
                assert_eq!(heard, said);
                thread::sleep(Duration::from_millis(5));
            }
        });
        Self { ends, talk }
    }

    fn said(&self) -> usize {
        self.ends.1.load(Ordering::Relaxed)
    }

    fn end(self) {
        self.ends.0.store(true, Ordering::Relaxed);
        self.talk.join().expect("nothing was lost and nothing was reset");
    }
}

fn ping(from: &Foreign, to: &str) {
    from.run(&format!("ping -c 1 -W 5 {to}"));
}

fn from_kubectl_apply_to_uninstall(release: Release) {
    let containerd = bare_node(release);
    let before = snapshot();
    let set = DaemonSet::of(&manifest("smartercni_ds.yaml"));

    // kubectl apply
    let deployed = containerd.deploy(&set, "smarter-cni").unwrap_or_else(|NotReady(why)| panic!("{why}"));
    let said = &deployed.logs["install"];
    assert!(said.contains("installed: network smartnet on bridge smartnet0, 172.38.0.0/16"), "{said}");
    assert!(said.contains("runtime  containerd: has loaded the network smartnet"), "{said}");
    eventually("containerd has the network", PATIENCE, || containerd.cri.ready());
    let (one, two) = (containerd.run_pod(&Pod::new("one")), containerd.run_pod(&Pod::new("two")));
    assert_eq!((one.addresses[0].as_str(), two.addresses[0].as_str()), ("172.38.0.2", "172.38.0.3"));
    ping(&one.network, "172.38.0.3");

    // What gets lost comes back while it watches.
    fs::write("/opt/cni/bin/smarter-cni", "").expect("a power cut");
    eventually("the plugin is repaired", PATIENCE, || {
        fs::metadata("/opt/cni/bin/smarter-cni").is_ok_and(|file| file.len() > 1_000_000)
    });
    eventually("it says so", PATIENCE, || {
        deployed.main_log("smarter-cni").contains("repaired place /opt/cni/bin/smarter-cni")
    });

    // Upgrade and rollback under traffic.
    let conversation = Conversation::between(&one, &two);
    let next = another_build(&stripped(&lab::binary()), Path::new("/mnt"));
    containerd.import(&archive(&next, NEXT));
    let mut current = deployed;
    for (image, name) in [(NEXT, "upgraded"), (IMAGE, "rolled-back")] {
        let started = conversation.said();
        assert_eq!(containerd.undeploy(&current), 0, "the watch ends as it should");
        let set = set.with_image(image);
        current = containerd.deploy(&set, name).unwrap_or_else(|NotReady(why)| panic!("{why}"));
        assert!(current.logs["install"].contains("done     place /opt/cni/bin/smarter-cni"), "{current:?}");
        eventually("they go on talking", PATIENCE, || conversation.said() > started + 20);
        let new = containerd.run_pod(&Pod::new(&format!("new-{name}")));
        ping(&new.network, &one.addresses[0]);
        containerd.remove_pod(&new);
    }
    conversation.end();

    // kubectl delete of the DaemonSet takes nothing from the node.
    assert_eq!(containerd.undeploy(&current), 0);
    ping(&one.network, "172.38.0.3");

    // kubectl apply of the uninstallation: not while pods are attached, and they can still be removed.
    let uninstall = DaemonSet::of(&manifest("uninstall.yaml"));
    let log = "/run/logs/uninstall/uninstall.log";
    let (gone, last) = thread::scope(|scope| {
        let kubelet = scope.spawn(|| containerd.deploy(&uninstall, "uninstall"));
        eventually("it says whom it waits for", PATIENCE, || {
            fs::read_to_string(log).is_ok_and(|said| said.contains("waiting  default/one is attached"))
        });
        containerd.cri.run_pod(&Pod::new("late")).expect_err("no new pod comes");
        ping(&one.network, "172.38.0.3");
        containerd.remove_pod(&one);
        ping(&two.network, "172.38.0.1");
        containerd.end_pod(&two);
        let last = Instant::now();
        (kubelet.join().expect("kubelet"), last.elapsed())
    });
    let gone = gone.unwrap_or_else(|NotReady(why)| panic!("{why}"));
    assert!(last < AT_ONCE, "it took {last:?} after the last pod");
    assert!(gone.logs["uninstall"].contains("smarter-cni is gone from this node"), "{gone:?}");
    assert_eq!(containerd.undeploy(&gone), 0);
    assert_eq!(snapshot(), before);
    eventually("containerd knows", PATIENCE, || !containerd.cri.ready());
}

/// The lines of a block, without what stands behind `#`.
fn lines(block: &str) -> Vec<String> {
    let words = block.lines().map(|line| line.split(" #").next().unwrap_or_default().trim().to_owned());
    words.filter(|line| !line.is_empty()).collect()
}

/// The first block to be pasted of a section of a page.
fn block(page: &str, section: &str) -> Vec<String> {
    lines(&pages::block(page, section))
}

/// What is left of a line behind some words.
fn behind<'a>(line: &'a str, words: &str) -> Option<&'a str> {
    line.strip_prefix(words).map(str::trim)
}

/// How long the rest of an uninstallation may take once the last pod is gone: a kubelet that comes back takes minutes.
const AT_ONCE: Duration = Duration::from_secs(15);

/// Pastes a block. Whoever waits for pods to go waits for a person, who deletes them as soon as he is told.
fn paste<'scope>(
    lines: &[String],
    cluster: &mut Cluster<'scope, '_>,
    (scope, node, pods): (&'scope Scope<'scope, '_>, &'scope Containerd, &mut Vec<Sandbox>),
    other: &dyn Fn(&str),
) {
    assert!(!lines.is_empty());
    for line in lines {
        let person = line.contains("rollout status daemonset smarter-cni-uninstall").then(|| {
            let pods = std::mem::take(pods);
            scope.spawn(move || {
                let log = "/run/logs/smarter-cni-uninstall/uninstall.log";
                let said = || fs::read_to_string(log).unwrap_or_default();
                if !pods.is_empty() {
                    eventually("it names the pods", PATIENCE, || said().contains("is attached"));
                }
                for pod in &pods {
                    node.end_pod(pod);
                }
                Instant::now()
            })
        });
        if !cluster.kubectl(line) {
            other(line);
        }
        if let Some(person) = person {
            let last = person.join().expect("a person").elapsed();
            assert!(last < AT_ONCE, "it took {last:?} after the last pod");
        }
    }
}

fn two_pods(node: &Containerd) -> Vec<Sandbox> {
    eventually("containerd has the network", PATIENCE, || node.cri.ready());
    let pods: Vec<Sandbox> = ["one", "two"].map(|name| node.run_pod(&Pod::new(name))).into();
    ping(&pods[0].network, &pods[1].addresses[0]);
    pods
}

fn the_readme_word_by_word(release: Release) {
    as_a_node();
    let containerd = Containerd::start_on_bare_node(release);
    let before = snapshot();
    // A checkout in which the image can be made without leaving a trace in the real one.
    let checkout = Path::new("/mnt/checkout");
    fs::create_dir_all(checkout.join("out")).expect("a directory");
    for name in ["image", "k8s", "Cargo.toml"] {
        std::os::unix::fs::symlink(Path::new(env!("CARGO_MANIFEST_DIR")).join(name), checkout.join(name))
            .expect("a link");
    }
    let other = |line: &str| {
        if let Some(words) = behind(line, "image/build-binary amd64 ") {
            // It has made the program under test.
            let out = words.split_whitespace().next().expect("a place for it");
            fs::copy(stripped(&lab::binary()), checkout.join(out)).expect("the binary that ships");
        } else {
            run("sh", &["-c", &format!("cd {} && {line}", checkout.display())]);
        }
    };
    thread::scope(|scope| {
        let mut cluster = Cluster::new(scope, &containerd);
        let mut pods = Vec::new();
        let install = block("README.md", "<!-- deployment -->");
        paste(&install, &mut cluster, (scope, &containerd, &mut pods), &other);
        pods = two_pods(&containerd);
        let uninstall = block("README.md", "<!-- undeployment -->");
        paste(&uninstall, &mut cluster, (scope, &containerd, &mut pods), &other);
        assert!(cluster.is_empty() && pods.is_empty());
    });
    assert_eq!(snapshot(), before);
}

/// What only another machine can do. How the rest of it is proven stands behind.
const ELSEWHERE: [&str; 5] = [
    // tests/k8s/run has kubectl itself make these; nodes of other kinds are played by `found` and by the tests below.
    "kubectl apply -k k8s/k3s",
    "k3s server",
    "microk8s kubectl delete",
    // tests/k8s/run has Helm's engine make what it installs.
    "helm install",
    // A program of others that is not packaged. `loaded` in what install prints comes from the same answer.
    "crictl info",
];

/// The pages for clusters, for installations and for upgrades, every block in the order of the page.
fn the_pages_word_by_word(release: Release) {
    let containerd = bare_node(release);
    let before = snapshot();
    let bin = Path::new("/run/lab-smarter");
    fs::create_dir_all(bin).expect("a directory");
    fs::copy(stripped(&lab::binary()), bin.join("smarter-cni")).expect("the binary");
    fs::copy(bin.join("smarter-cni"), bin.join("smarter-cni-new")).expect("the binary");
    let other =
        |line: &str| drop(run("sh", &["-c", &format!("cd {0}; PATH={0}:$PATH; {line}", bin.display())]));
    let deployed = ["kubectl apply -f k8s/smartercni_ds.yaml", "kubectl apply -f k8s/smartercni_ds.yaml"];
    let deployed = deployed.map(str::to_owned).to_vec();
    let mut left_out = Vec::new();
    thread::scope(|scope| {
        let mut cluster = Cluster::new(scope, &containerd);
        let mut pods = Vec::new();
        let from_arms = lines(&pages::blocks("docs/migration.md")[0]);
        paste(&from_arms, &mut cluster, (scope, &containerd, &mut pods), &other);
        for page in ["docs/kubernetes.md", "docs/install.md", "docs/upgrade.md"] {
            if page == "docs/upgrade.md" {
                paste(&deployed, &mut cluster, (scope, &containerd, &mut pods), &other);
            }
            for block in pages::blocks(page) {
                let lines = lines(&block);
                if let Some(why) = ELSEWHERE.iter().find(|words| lines[0].starts_with(**words)) {
                    left_out.push(*why);
                    continue;
                }
                paste(&lines, &mut cluster, (scope, &containerd, &mut pods), &other);
                if block.contains("# of the newer version") {
                    pods = two_pods(&containerd);
                }
            }
        }
        paste(
            &block("docs/kubernetes.md", "\n## Uninstall\n"),
            &mut cluster,
            (scope, &containerd, &mut pods),
            &other,
        );
        assert!(cluster.is_empty() && pods.is_empty());
    });
    assert_eq!(left_out, ELSEWHERE, "each is still on a page");
    assert_eq!(snapshot(), before);
}

/// On the node itself, with directories that the runtime does not look at.
fn a_runtime_that_does_not_load_the_network_says_why_and_what_to_do(release: Release) {
    let containerd = bare_node(release);
    let install = |line: &str, status: i32| {
        let mut command = Command::new(lab::binary());
        command.args(["install", "--subnet", "10.38.0.0/16"]).args(line.split_whitespace());
        let out = command.output().expect("it runs");
        let said = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert_eq!(out.status.code(), Some(status), "{said}");
        said
    };
    let said = install("--conf-dir /etc/elsewhere", 3);
    assert!(
        said.contains(
            "runtime  containerd: has NOT loaded the network smartnet: containerd reads networks from \
             /etc/cni/net.d, not from /etc/elsewhere; install with --conf-dir /etc/cni/net.d"
        ),
        "{said}"
    );
    assert!(said.ends_with("no pod starts until the runtime has loaded it\n"), "{said}");
    let said = install("--bin-dir /opt/elsewhere", 3);
    // Debian's build of today looks in a directory of Debian's, too.
    assert!(said.contains("containerd looks for plugins in "), "{said}");
    assert!(said.contains("/opt/cni/bin, not in /opt/elsewhere"), "{said}");
    let said = install("", 0);
    assert!(said.contains("containerd: has loaded the network smartnet"), "{said}");
    assert!(containerd.cri.ready());
}

/// Yocto's mounts and directories where the runtime looks elsewhere: `kubectl get pods` shows it, and the log says why.
fn a_variant_that_does_not_fit_the_node_is_not_ready(release: Release) {
    let containerd = bare_node(release);
    let set = DaemonSet::of(&manifest("smartercni_ds.yaml")).patched(&manifest("yocto/mounts.yaml"));
    let set = set.with_setting("bin_dir", "/usr/libexec/cni").with_setting("conf_dir", "/etc/cni/net.d");
    let NotReady(why) = containerd.deploy(&set, "yocto").expect_err("no pod would start");
    assert!(why.contains("ended with Some(3)") && why.contains("not in /usr/libexec/cni"), "{why}");
    // As that recipe has it the same is right.
    fs::create_dir_all("/opt/cni").expect("a directory");
    std::os::unix::fs::symlink("/usr/libexec/cni", "/opt/cni/bin").expect("a link");
    let deployed = containerd.deploy(&set, "yocto-2").unwrap_or_else(|NotReady(why)| panic!("{why}"));
    assert_eq!(containerd.undeploy(&deployed), 0);
}

fn a_range_that_the_node_uses_keeps_the_pod_from_being_ready_and_says_why(release: Release) {
    let containerd = bare_node(release);
    Node.run("ip link add lan0 type veth peer name lan1");
    Node.run("ip addr add 10.38.4.1/24 dev lan0");
    let before = snapshot();
    let set = DaemonSet::of(&manifest("smartercni_ds.yaml"));
    // All that the README says to change.
    let set = set.with_setting("subnet", "10.38.0.0/16");
    let NotReady(why) = containerd.deploy(&set, "refused").expect_err("the node uses this range");
    assert!(why.contains("ended with Some(1)") && why.contains("interface lan0"), "{why}");
    assert_eq!(snapshot(), before);
}
